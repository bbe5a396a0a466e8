//! Rows of keys, their rotations and the pepper they were made with.

use std::collections::HashMap;

use keywright_domain::api_keys::{ApiKey, Kid, Prefix, Secret};
use keywright_domain::scopes::ScopeSet;
use sqlx::AnyConnection;

use super::secrets::{SecretRow, damaged};
use crate::RegistryError;

const NEVER: i64 = i64::MAX;

#[derive(sqlx::FromRow)]
pub(super) struct ApiKeyRow {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) prefix: String,
    pub(super) scopes: String,
    pub(super) epoch: i64,
    pub(super) created_at: i64,
    pub(super) revoked_at: Option<i64>,
    pub(super) revoked_reason: Option<String>,
}

impl ApiKeyRow {
    pub(super) fn into_key(self, secrets: Vec<Secret>) -> Result<ApiKey, RegistryError> {
        Ok(ApiKey {
            id: self.id,
            name: self.name,
            prefix: Prefix::new(&self.prefix).map_err(|_| damaged("prefix"))?,
            scopes: ScopeSet::parse(&self.scopes)?,
            epoch: self.epoch,
            created_at: self.created_at,
            revoked_at: self.revoked_at,
            revoked_reason: self.revoked_reason,
            secrets,
        })
    }
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<ApiKey>, RegistryError> {
    let row: Option<ApiKeyRow> = sqlx::query_as(
        "SELECT id, name, prefix, scopes, epoch, created_at, revoked_at, revoked_reason \
         FROM api_keys WHERE id = $1",
    )
    .bind(id.to_owned())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let secrets: Vec<SecretRow> = sqlx::query_as(
        "SELECT kid, last_four, stored, created_at, expires_at, retires_at, first_used_at, last_used_at, use_count \
         FROM secrets WHERE key_id = $1 ORDER BY position",
    )
    .bind(id.to_owned())
    .fetch_all(connection)
    .await?;
    let secrets: Result<_, _> = secrets.into_iter().map(SecretRow::into_secret).collect();
    Ok(Some(row.into_key(secrets?)?))
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    key: &ApiKey,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO api_keys (id, name, prefix, scopes, epoch, created_at, name_order, search_text, kid, last_four, \
         expires_order, old_works_until, last_used_order) \
         VALUES ($1, $2, $3, $4, $5, $6, '', '', '', '', 0, 0, 0)",
    )
    .bind(key.id.clone())
    .bind(key.name.clone())
    .bind(key.prefix.as_str().to_owned())
    .bind(key.scopes.to_string())
    .bind(key.epoch)
    .bind(key.created_at)
    .execute(&mut *connection)
    .await?;
    update(connection, key, now).await
}

/// Writes what can change of a key, and what lists read of it.
pub(crate) async fn update(
    connection: &mut AnyConnection,
    key: &ApiKey,
    now: i64,
) -> Result<(), RegistryError> {
    let current = key
        .current_secret(now)
        .ok_or_else(|| damaged("key without a secret"))?;
    let mut search_text = format!("{} {} {}", key.name, key.prefix, key.scopes).to_lowercase();
    for secret in &key.secrets {
        search_text.push(' ');
        search_text.push_str(&secret.kid.as_str().to_lowercase());
    }
    sqlx::query(
        "UPDATE api_keys SET epoch = $1, revoked_at = $2, revoked_reason = $3, name_order = $4, search_text = $5, \
         kid = $6, last_four = $7, expires_order = $8, old_works_until = $9 WHERE id = $10",
    )
    .bind(key.epoch)
    .bind(key.revoked_at)
    .bind(key.revoked_reason.clone())
    .bind(key.name.to_lowercase())
    .bind(search_text)
    .bind(current.kid.as_str().to_owned())
    .bind(current.last_four.clone())
    .bind(current.expires_at.unwrap_or(NEVER))
    .bind(key.old_secret_works_until(now).unwrap_or(0))
    .bind(key.id.clone())
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn find_rotation(
    connection: &mut AnyConnection,
    idempotency_key: &str,
) -> Result<Option<String>, RegistryError> {
    Ok(
        sqlx::query_scalar("SELECT kid FROM rotations WHERE idempotency_key = $1")
            .bind(idempotency_key.to_owned())
            .fetch_optional(connection)
            .await?,
    )
}

pub(crate) async fn insert_rotation(
    connection: &mut AnyConnection,
    idempotency_key: &str,
    key_id: &str,
    kid: &Kid,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO rotations (idempotency_key, key_id, kid, created_at) VALUES ($1, $2, $3, $4)",
    )
    .bind(idempotency_key.to_owned())
    .bind(key_id.to_owned())
    .bind(kid.as_str().to_owned())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// The pepper in use; none before the first key.
pub(crate) async fn pepper_id(
    connection: &mut AnyConnection,
) -> Result<Option<String>, RegistryError> {
    Ok(
        sqlx::query_scalar("SELECT id FROM peppers ORDER BY created_at DESC, id LIMIT 1")
            .fetch_optional(connection)
            .await?,
    )
}

pub(crate) async fn insert_pepper(
    connection: &mut AnyConnection,
    id: &str,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query("INSERT INTO peppers (id, created_at) VALUES ($1, $2)")
        .bind(id.to_owned())
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

/// Uses wait in memory; this adds those of several secrets in one transaction.
pub(crate) async fn add_uses(
    connection: &mut AnyConnection,
    uses: &HashMap<String, crate::uses::Uses>,
) -> Result<(), RegistryError> {
    for (kid, uses) in uses {
        super::secrets::add_uses(connection, kid, uses.count, uses.last_at).await?;
    }
    Ok(())
}
