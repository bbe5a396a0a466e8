//! Rows of requests that may come again.

use sqlx::AnyConnection;

use crate::RegistryError;
use crate::idempotency::IdempotencyKey;

/// What was asked for under a name, and what came of it: a key or a rotation.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    actor: &str,
    name: &str,
) -> Result<Option<(Vec<u8>, String)>, RegistryError> {
    Ok(sqlx::query_as(
        "SELECT request, key_id FROM idempotency_keys WHERE actor = $1 AND name = $2",
    )
    .bind(actor.to_owned())
    .bind(name.to_owned())
    .fetch_optional(connection)
    .await?)
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    actor: &str,
    once: &IdempotencyKey,
    outcome: &str,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO idempotency_keys (actor, name, request, key_id, at) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(actor.to_owned())
    .bind(once.name.clone())
    .bind(once.request.to_vec())
    .bind(outcome.to_owned())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets what is older.
pub(crate) async fn prune(
    connection: &mut AnyConnection,
    before: i64,
) -> Result<(), RegistryError> {
    sqlx::query("DELETE FROM idempotency_keys WHERE at < $1")
        .bind(before)
        .execute(connection)
        .await?;
    Ok(())
}
