//! What exports, backups and promotions read and write: whole keys by pages, values of live
//! secrets, and the marks of a registry that was put back from a copy.

use std::collections::HashMap;

use keywright_domain::api_keys::{ApiKey, KeyMac, Secret};
use sqlx::AnyConnection;

use super::api_keys::{ApiKeyRow, key_columns};
use super::secrets::{SecretRow, damaged, secret_columns};
use crate::RegistryError;

/// What a registry says of itself.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct HeadRow {
    pub(crate) registry_id: String,
    pub(crate) audit_sequence: i64,
    pub(crate) audit_hash: Option<Vec<u8>>,
    pub(crate) change_version: i64,
}

pub(crate) async fn head(connection: &mut AnyConnection) -> Result<HeadRow, RegistryError> {
    Ok(sqlx::query_as(
        "SELECT registry_id, audit_sequence, audit_hash, change_version FROM heads WHERE id = 1",
    )
    .fetch_one(connection)
    .await?)
}

/// A key with how each of its secrets is stored, and its credits.
pub(crate) struct StoredKey {
    pub(crate) key: ApiKey,
    pub(crate) stored: Vec<StoredAs>,
    pub(crate) credits: Option<i64>,
}

/// How a secret is stored; never its value.
pub(crate) struct StoredAs {
    pub(crate) algorithm: String,
    pub(crate) pepper_id: String,
}

#[derive(sqlx::FromRow)]
struct StoredSecretRow {
    key_id: String,
    algorithm: String,
    pepper_id: String,
    #[sqlx(flatten)]
    secret: SecretRow,
}

/// Keys after an id, in the order of ids.
pub(crate) async fn key_page(
    connection: &mut AnyConnection,
    after: &str,
    limit: i64,
) -> Result<Vec<StoredKey>, RegistryError> {
    let rows: Vec<ApiKeyRow> = sqlx::query_as(concat!(
        "SELECT ",
        key_columns!(),
        " FROM api_keys k WHERE k.id > $1 ORDER BY k.id LIMIT $2"
    ))
    .bind(after.to_owned())
    .bind(limit)
    .fetch_all(&mut *connection)
    .await?;
    let Some(last) = rows.last().map(|row| row.id.clone()) else {
        return Ok(Vec::new());
    };
    let secrets: Vec<StoredSecretRow> = sqlx::query_as(concat!(
        "SELECT s.key_id, s.algorithm, s.pepper_id, ",
        secret_columns!(),
        " FROM secrets s WHERE s.key_id > $1 AND s.key_id <= $2 ORDER BY s.key_id, s.position"
    ))
    .bind(after.to_owned())
    .bind(last.clone())
    .fetch_all(&mut *connection)
    .await?;
    let credits: Vec<(String, i64)> =
        sqlx::query_as("SELECT key_id, remaining FROM credits WHERE key_id > $1 AND key_id <= $2")
            .bind(after.to_owned())
            .bind(last)
            .fetch_all(connection)
            .await?;
    let mut credits: HashMap<String, i64> = credits.into_iter().collect();
    let mut of_key: HashMap<String, (Vec<Secret>, Vec<StoredAs>)> = HashMap::new();
    for row in secrets {
        let (secrets, stored) = of_key.entry(row.key_id).or_default();
        secrets.push(row.secret.into_secret()?);
        stored.push(StoredAs {
            algorithm: row.algorithm,
            pepper_id: row.pepper_id,
        });
    }
    rows.into_iter()
        .map(|row| {
            let (secrets, stored) = of_key.remove(&row.id).unwrap_or_default();
            let credits = credits.remove(&row.id);
            Ok(StoredKey {
                key: row.into_key(secrets)?,
                stored,
                credits,
            })
        })
        .collect()
}

/// Environment and stored text of every policy.
pub(crate) async fn policies(
    connection: &mut AnyConnection,
) -> Result<Vec<(String, String)>, RegistryError> {
    Ok(
        sqlx::query_as("SELECT environment, text FROM policies ORDER BY environment")
            .fetch_all(connection)
            .await?,
    )
}

/// The stored values of a key's secrets: kid, value, algorithm, pepper.
pub(crate) async fn values_of_key(
    connection: &mut AnyConnection,
    key_id: &str,
) -> Result<Vec<(String, KeyMac, StoredAs)>, RegistryError> {
    let rows: Vec<(String, Vec<u8>, String, String)> = sqlx::query_as(
        "SELECT kid, mac, algorithm, pepper_id FROM secrets WHERE key_id = $1 ORDER BY position",
    )
    .bind(key_id.to_owned())
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|(kid, mac, algorithm, pepper_id)| {
            let mac: [u8; 32] = mac.try_into().map_err(|_| damaged("mac"))?;
            let stored = StoredAs {
                algorithm,
                pepper_id,
            };
            Ok((kid, KeyMac::from_bytes(mac), stored))
        })
        .collect()
}

/// Writes down a pepper that came from another registry, older than every other one: new secrets
/// are never stored under it.
pub(crate) async fn insert_oldest_pepper(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO peppers (id, created_at) \
         VALUES ($1, (SELECT COALESCE(MIN(p.created_at), 0) - 1 FROM peppers p)) ON CONFLICT (id) DO NOTHING",
    )
    .bind(id.to_owned())
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives every key and principal a newer number: whatever a cache knows of it is older. What the
/// log said before tells nobody anything any more.
pub(crate) async fn renumber(
    connection: &mut AnyConnection,
    version: i64,
) -> Result<(), RegistryError> {
    for statement in [
        "UPDATE api_keys SET epoch = $1",
        "UPDATE principals SET epoch = $1",
        "UPDATE heads SET oldest_change = $1",
        "DELETE FROM changes WHERE version < $1",
    ] {
        sqlx::query(statement)
            .bind(version)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Live secrets and keys, for a report.
pub(crate) async fn count_live(connection: &mut AnyConnection) -> Result<i64, RegistryError> {
    Ok(sqlx::query_scalar(
        "SELECT COUNT(*) FROM secrets WHERE stored IN ('pending', 'active', 'retiring')",
    )
    .fetch_one(connection)
    .await?)
}
