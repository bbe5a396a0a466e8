//! What a verification reads.

use keywright_domain::api_keys::{ApiKey, KeyMac, Kid, Secret};
use sqlx::AnyConnection;

use super::api_keys::ApiKeyRow;
use super::secrets::{damaged, state_from_text};
use crate::RegistryError;

/// What a verification needs, by one read: the secret with its mac, and its key without others.
#[derive(sqlx::FromRow)]
struct VerificationRow {
    kid: String,
    mac: Vec<u8>,
    pepper_id: String,
    last_four: String,
    stored: String,
    secret_created_at: i64,
    expires_at: Option<i64>,
    retires_at: Option<i64>,
    first_used_at: Option<i64>,
    last_used_at: Option<i64>,
    use_count: i64,
    id: String,
    name: String,
    prefix: String,
    scopes: String,
    epoch: i64,
    created_at: i64,
    revoked_at: Option<i64>,
    revoked_reason: Option<String>,
}

/// A key with the one secret that was presented.
pub(crate) struct Candidate {
    pub(crate) key: ApiKey,
    pub(crate) secret: Secret,
    pub(crate) mac: KeyMac,
    pub(crate) pepper_id: String,
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    kid: &Kid,
) -> Result<Option<Candidate>, RegistryError> {
    let row: Option<VerificationRow> = sqlx::query_as(
        "SELECT s.kid, s.mac, s.pepper_id, s.last_four, s.stored, s.created_at AS secret_created_at, s.expires_at, \
         s.retires_at, s.first_used_at, s.last_used_at, s.use_count, k.id, k.name, k.prefix, k.scopes, k.epoch, \
         k.created_at, k.revoked_at, k.revoked_reason FROM secrets s JOIN api_keys k ON k.id = s.key_id \
         WHERE s.kid = $1",
    )
    .bind(kid.as_str().to_owned())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let mac: [u8; 32] = row.mac.try_into().map_err(|_| damaged("mac"))?;
    let secret = Secret {
        kid: Kid::new(&row.kid).map_err(|_| damaged("kid"))?,
        last_four: row.last_four,
        stored: state_from_text(&row.stored)?,
        created_at: row.secret_created_at,
        expires_at: row.expires_at,
        retires_at: row.retires_at,
        first_used_at: row.first_used_at,
        last_used_at: row.last_used_at,
        use_count: row.use_count,
    };
    let key = ApiKeyRow {
        id: row.id,
        name: row.name,
        prefix: row.prefix,
        scopes: row.scopes,
        epoch: row.epoch,
        created_at: row.created_at,
        revoked_at: row.revoked_at,
        revoked_reason: row.revoked_reason,
    }
    .into_key(Vec::new())?;
    Ok(Some(Candidate {
        key,
        secret,
        mac: KeyMac::from_bytes(mac),
        pepper_id: row.pepper_id,
    }))
}
