//! Rows of secrets: kid, mac, state. Never the secret.

use keywright_domain::api_keys::{KeyMac, Kid, Secret, SecretState};
use sqlx::AnyConnection;

use crate::RegistryError;

/// Names how `mac` was made, for the day there is a second way.
const ALGORITHM: &str = "hmac-sha256-of-sha256";

#[derive(sqlx::FromRow)]
pub(super) struct SecretRow {
    pub(super) kid: String,
    last_four: String,
    stored: String,
    created_at: i64,
    expires_at: Option<i64>,
    retires_at: Option<i64>,
    first_used_at: Option<i64>,
    last_used_at: Option<i64>,
    use_count: i64,
}

impl SecretRow {
    pub(super) fn into_secret(self) -> Result<Secret, RegistryError> {
        Ok(Secret {
            kid: Kid::new(&self.kid).map_err(|_| damaged("kid"))?,
            last_four: self.last_four,
            stored: state_from_text(&self.stored)?,
            created_at: self.created_at,
            expires_at: self.expires_at,
            retires_at: self.retires_at,
            first_used_at: self.first_used_at,
            last_used_at: self.last_used_at,
            use_count: self.use_count,
        })
    }
}

pub(super) fn damaged(what: &str) -> RegistryError {
    RegistryError::Damaged(format!(
        "a {what} in it has a value that this program never writes"
    ))
}

fn state_text(state: SecretState) -> &'static str {
    match state {
        SecretState::Pending => "pending",
        SecretState::Active => "active",
        SecretState::Retiring => "retiring",
        SecretState::Retired => "retired",
        SecretState::Expired => "expired",
        SecretState::Revoked => "revoked",
        SecretState::Aborted => "aborted",
    }
}

pub(super) fn state_from_text(text: &str) -> Result<SecretState, RegistryError> {
    Ok(match text {
        "pending" => SecretState::Pending,
        "active" => SecretState::Active,
        "retiring" => SecretState::Retiring,
        "retired" => SecretState::Retired,
        "expired" => SecretState::Expired,
        "revoked" => SecretState::Revoked,
        "aborted" => SecretState::Aborted,
        _ => return Err(damaged("secret's state")),
    })
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    key_id: &str,
    position: i64,
    secret: &Secret,
    mac: &KeyMac,
    pepper_id: &str,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO secrets (kid, key_id, position, mac, algorithm, pepper_id, last_four, stored, created_at, \
         expires_at, retires_at, first_used_at, last_used_at, use_count) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(secret.kid.as_str().to_owned())
    .bind(key_id.to_owned())
    .bind(position)
    .bind(mac.as_bytes().to_vec())
    .bind(ALGORITHM)
    .bind(pepper_id.to_owned())
    .bind(secret.last_four.clone())
    .bind(state_text(secret.stored))
    .bind(secret.created_at)
    .bind(secret.expires_at)
    .bind(secret.retires_at)
    .bind(secret.first_used_at)
    .bind(secret.last_used_at)
    .bind(secret.use_count)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes what a rotation or revocation changes. Use counts are not touched: they are added to
/// by [`add_uses`] alone, so that a flush and a rotation never lose each other's work.
pub(crate) async fn update_state(
    connection: &mut AnyConnection,
    secret: &Secret,
) -> Result<(), RegistryError> {
    sqlx::query("UPDATE secrets SET stored = $1, retires_at = $2 WHERE kid = $3")
        .bind(state_text(secret.stored))
        .bind(secret.retires_at)
        .bind(secret.kid.as_str().to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

/// Marks the first use of a secret; a pending one becomes active. Returns false if another
/// verification was first.
pub(crate) async fn mark_first_use(
    connection: &mut AnyConnection,
    kid: &str,
    at: i64,
) -> Result<bool, RegistryError> {
    let result = sqlx::query(
        "UPDATE secrets SET first_used_at = $1, last_used_at = $1, use_count = use_count + 1, \
         stored = CASE WHEN stored = 'pending' THEN 'active' ELSE stored END \
         WHERE kid = $2 AND first_used_at IS NULL",
    )
    .bind(at)
    .bind(kid.to_owned())
    .execute(connection)
    .await?;
    Ok(result.rows_affected() == 1)
}

pub(crate) async fn add_uses(
    connection: &mut AnyConnection,
    kid: &str,
    count: i64,
    last_at: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE secrets SET use_count = use_count + $1, \
         last_used_at = CASE WHEN last_used_at IS NULL OR last_used_at < $2 THEN $2 ELSE last_used_at END \
         WHERE kid = $3",
    )
    .bind(count)
    .bind(last_at)
    .bind(kid.to_owned())
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE api_keys SET last_used_order = $1 \
         WHERE id = (SELECT key_id FROM secrets WHERE kid = $2) AND last_used_order < $1",
    )
    .bind(last_at)
    .bind(kid.to_owned())
    .execute(connection)
    .await?;
    Ok(())
}
