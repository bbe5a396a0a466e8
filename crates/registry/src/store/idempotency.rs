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

/// A request under a name.
#[derive(sqlx::FromRow)]
pub(crate) struct Row {
    /// Digest of what was asked for.
    pub(crate) request: Vec<u8>,
    /// Id of what was made, or who carries the request out.
    pub(crate) made: String,
    /// Until when nobody else carries it out; none where it is done.
    pub(crate) under_way_until: Option<i64>,
    /// What was answered, for what is not one transaction.
    pub(crate) answer: Option<String>,
}

pub(crate) async fn find_row(
    connection: &mut AnyConnection,
    actor: &str,
    name: &str,
) -> Result<Option<Row>, RegistryError> {
    Ok(sqlx::query_as(
        "SELECT request, key_id AS made, under_way_until, answer FROM idempotency_keys \
         WHERE actor = $1 AND name = $2",
    )
    .bind(actor.to_owned())
    .bind(name.to_owned())
    .fetch_optional(connection)
    .await?)
}

/// Writes a request, or how it stands now.
pub(crate) async fn put(
    connection: &mut AnyConnection,
    actor: &str,
    name: &str,
    row: &Row,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO idempotency_keys (actor, name, request, key_id, at, under_way_until, answer) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (actor, name) DO UPDATE SET \
         request = excluded.request, key_id = excluded.key_id, at = excluded.at, \
         under_way_until = excluded.under_way_until, answer = excluded.answer",
    )
    .bind(actor.to_owned())
    .bind(name.to_owned())
    .bind(row.request.clone())
    .bind(row.made.clone())
    .bind(now)
    .bind(row.under_way_until)
    .bind(row.answer.clone())
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets one.
pub(crate) async fn remove(
    connection: &mut AnyConnection,
    actor: &str,
    name: &str,
) -> Result<(), RegistryError> {
    sqlx::query("DELETE FROM idempotency_keys WHERE actor = $1 AND name = $2")
        .bind(actor.to_owned())
        .bind(name.to_owned())
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
