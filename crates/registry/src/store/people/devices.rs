//! Rows of device codes.

use keywright_domain::people::{DeviceStatus, TokenDigest, UserCode};
use sqlx::AnyConnection;

use super::super::secrets::damaged;
use super::{blob, scopes};
use crate::RegistryError;
use crate::people::devices::DeviceRequest;

macro_rules! columns {
    () => {
        "SELECT user_code, client_id, scopes, resource, user_agent, network, interval_ms, created_at, \
         expires_at, last_polled_at, status, user_id, session_id, decided_at FROM device_codes WHERE "
    };
}

#[derive(sqlx::FromRow)]
struct DeviceRow {
    user_code: String,
    client_id: String,
    scopes: String,
    resource: Option<String>,
    user_agent: String,
    network: String,
    interval_ms: i64,
    created_at: i64,
    expires_at: i64,
    last_polled_at: Option<i64>,
    status: String,
    user_id: Option<String>,
    session_id: Option<String>,
    decided_at: Option<i64>,
}

impl DeviceRow {
    fn into_request(self) -> Result<DeviceRequest, RegistryError> {
        Ok(DeviceRequest {
            user_code: UserCode::parse(&self.user_code).ok_or_else(|| damaged("user code"))?,
            client_id: self.client_id,
            scopes: scopes(&self.scopes)?,
            resource: self.resource,
            user_agent: self.user_agent,
            network: self.network,
            interval_ms: self.interval_ms,
            created_at: self.created_at,
            expires_at: self.expires_at,
            last_polled_at: self.last_polled_at,
            status: DeviceStatus::parse(&self.status).ok_or_else(|| damaged("device's status"))?,
            user_id: self.user_id,
            session_id: self.session_id,
            decided_at: self.decided_at,
        })
    }
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    digest: &TokenDigest,
    request: &DeviceRequest,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO device_codes (digest, user_code, client_id, scopes, resource, user_agent, \
         network, interval_ms, created_at, expires_at, status) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(blob(digest))
    .bind(request.user_code.as_str().to_owned())
    .bind(request.client_id.clone())
    .bind(request.scopes.to_string())
    .bind(request.resource.clone())
    .bind(request.user_agent.clone())
    .bind(request.network.clone())
    .bind(request.interval_ms)
    .bind(request.created_at)
    .bind(request.expires_at)
    .bind(request.status.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    digest: &TokenDigest,
) -> Result<Option<DeviceRequest>, RegistryError> {
    let row: Option<DeviceRow> = sqlx::query_as(concat!(columns!(), "digest = $1"))
        .bind(blob(digest))
        .fetch_optional(connection)
        .await?;
    row.map(DeviceRow::into_request).transpose()
}

pub(crate) async fn find_by_user_code(
    connection: &mut AnyConnection,
    code: &UserCode,
) -> Result<Option<DeviceRequest>, RegistryError> {
    let row: Option<DeviceRow> = sqlx::query_as(concat!(columns!(), "user_code = $1"))
        .bind(code.as_str().to_owned())
        .fetch_optional(connection)
        .await?;
    row.map(DeviceRow::into_request).transpose()
}

/// Decides a request. False if somebody was first, or it is too late.
pub(crate) async fn decide(
    connection: &mut AnyConnection,
    code: &UserCode,
    status: DeviceStatus,
    user_id: &str,
    session_id: Option<&str>,
    now: i64,
) -> Result<bool, RegistryError> {
    let done: Option<String> = sqlx::query_scalar(
        "UPDATE device_codes SET status = $1, user_id = $2, session_id = $3, decided_at = $4 \
         WHERE user_code = $5 AND status = 'pending' AND expires_at > $4 RETURNING user_code",
    )
    .bind(status.as_str())
    .bind(user_id.to_owned())
    .bind(session_id.map(str::to_owned))
    .bind(now)
    .bind(code.as_str().to_owned())
    .fetch_optional(connection)
    .await?;
    Ok(done.is_some())
}

pub(crate) async fn update_poll(
    connection: &mut AnyConnection,
    digest: &TokenDigest,
    interval_ms: i64,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query("UPDATE device_codes SET interval_ms = $1, last_polled_at = $2 WHERE digest = $3")
        .bind(interval_ms)
        .bind(now)
        .bind(blob(digest))
        .execute(connection)
        .await?;
    Ok(())
}

/// Uses an approved request up: one caller does.
pub(crate) async fn consume(
    connection: &mut AnyConnection,
    digest: &TokenDigest,
) -> Result<bool, RegistryError> {
    let done: Option<String> = sqlx::query_scalar(
        "UPDATE device_codes SET status = 'used' WHERE digest = $1 AND status = 'approved' \
         RETURNING user_code",
    )
    .bind(blob(digest))
    .fetch_optional(connection)
    .await?;
    Ok(done.is_some())
}

/// Whether a user let a device in that did not fetch its tokens yet.
pub(crate) async fn has_approved(
    connection: &mut AnyConnection,
    user_id: &str,
) -> Result<bool, RegistryError> {
    let found: Option<String> = sqlx::query_scalar(
        "SELECT user_code FROM device_codes WHERE user_id = $1 AND status = 'approved' LIMIT 1",
    )
    .bind(user_id.to_owned())
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// Turns devices away that a user let in and that did not fetch their tokens yet.
pub(crate) async fn take_back(
    connection: &mut AnyConnection,
    user_id: &str,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE device_codes SET status = 'used' WHERE user_id = $1 AND status = 'approved'",
    )
    .bind(user_id.to_owned())
    .execute(connection)
    .await?;
    Ok(())
}
