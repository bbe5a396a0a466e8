//! Removal of what is kept no longer, so many rows at a time.

use sqlx::AnyConnection;

use crate::RegistryError;

/// Rows of one key that go before its own row does, each by key ($1) and number ($2), in an order
/// in which nothing refers to what is gone.
pub(crate) const OF_KEY: [&str; 7] = [
    "DELETE FROM use_rollups WHERE (kid, hour, client_label, network, agent, route, scope, origin) IN \
     (SELECT r.kid, r.hour, r.client_label, r.network, r.agent, r.route, r.scope, r.origin FROM use_rollups r \
     JOIN secrets s ON s.kid = r.kid WHERE s.key_id = $1 LIMIT $2)",
    "DELETE FROM notices WHERE id IN (SELECT id FROM notices WHERE key_id = $1 LIMIT $2)",
    "DELETE FROM board WHERE matter IN (SELECT matter FROM board WHERE key_id = $1 LIMIT $2)",
    "DELETE FROM hygiene_questions WHERE (campaign_id, key_id) IN \
     (SELECT campaign_id, key_id FROM hygiene_questions WHERE key_id = $1 LIMIT $2)",
    "DELETE FROM deliveries WHERE id IN (SELECT d.id FROM deliveries d \
     JOIN rotations r ON r.idempotency_key = d.rotation_id WHERE r.key_id = $1 LIMIT $2)",
    "DELETE FROM rotations WHERE idempotency_key IN \
     (SELECT idempotency_key FROM rotations WHERE key_id = $1 LIMIT $2)",
    "DELETE FROM secrets WHERE kid IN (SELECT s.kid FROM secrets s JOIN api_keys k ON k.id = s.key_id \
     WHERE s.key_id = $1 AND s.kid <> k.kid LIMIT $2)",
];

/// The rest of a key: at most [`REST`] rows.
const REST_OF_KEY: [&str; 4] = [
    "DELETE FROM schedules WHERE key_id = $1",
    "DELETE FROM credits WHERE key_id = $1",
    "DELETE FROM secrets WHERE key_id = $1",
    "DELETE FROM api_keys WHERE id = $1",
];
pub(crate) const REST: i64 = 4;

fn count(rows: u64) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// Runs one of [`OF_KEY`]. Returns how many rows went.
pub(crate) async fn delete_of_key(
    connection: &mut AnyConnection,
    sql: &'static str,
    key_id: &str,
    limit: i64,
) -> Result<i64, RegistryError> {
    let result = sqlx::query(sql)
        .bind(key_id.to_owned())
        .bind(limit)
        .execute(connection)
        .await?;
    Ok(count(result.rows_affected()))
}

/// Removes what is left of a key. Returns how many rows went.
pub(crate) async fn delete_key(
    connection: &mut AnyConnection,
    key_id: &str,
) -> Result<i64, RegistryError> {
    let mut rows = 0;
    for sql in REST_OF_KEY {
        let result = sqlx::query(sql)
            .bind(key_id.to_owned())
            .execute(&mut *connection)
            .await?;
        rows += count(result.rows_affected());
    }
    Ok(rows)
}

/// The kid that so many secrets after one end with; none where none comes after it.
pub(crate) async fn stretch_of_secrets(
    connection: &mut AnyConnection,
    after: &str,
    length: i64,
) -> Result<Option<String>, RegistryError> {
    Ok(sqlx::query_scalar(
        "SELECT MAX(kid) FROM (SELECT kid FROM secrets WHERE kid > $1 ORDER BY kid LIMIT $2) AS part",
    )
    .bind(after.to_owned())
    .bind(length)
    .fetch_one(connection)
    .await?)
}

/// The id that so many keys after one end with; none where none comes after it.
pub(crate) async fn stretch_of_keys(
    connection: &mut AnyConnection,
    after: &str,
    length: i64,
) -> Result<Option<String>, RegistryError> {
    Ok(sqlx::query_scalar(
        "SELECT MAX(id) FROM (SELECT id FROM api_keys WHERE id > $1 ORDER BY id LIMIT $2) AS part",
    )
    .bind(after.to_owned())
    .bind(length)
    .fetch_one(connection)
    .await?)
}

/// Keys after an id and until another that may have ended before a moment: revoked, expired, or without a secret that
/// could verify. The domain decides.
pub(crate) async fn ended_keys(
    connection: &mut AnyConnection,
    (after, through): (&str, &str),
    ended_before: i64,
    limit: i64,
) -> Result<Vec<String>, RegistryError> {
    Ok(sqlx::query_scalar(
        "SELECT k.id FROM api_keys k WHERE k.id > $1 AND k.id <= $4 AND (k.revoked_at <= $2 OR k.expires_order <= $2 \
         OR NOT EXISTS (SELECT 1 FROM secrets s WHERE s.key_id = k.id AND s.stored IN ('pending', 'active', 'retiring'))) \
         ORDER BY k.id LIMIT $3",
    )
    .bind(after.to_owned())
    .bind(ended_before)
    .bind(limit)
    .bind(through.to_owned())
    .fetch_all(connection)
    .await?)
}

/// Secrets after a kid and until another that may have ended before a moment, are not the newest of their key, and
/// are not part of an open rotation: kid, key id. The domain decides.
pub(crate) async fn ended_secrets(
    connection: &mut AnyConnection,
    (after, through): (&str, &str),
    ended_before: i64,
    limit: i64,
) -> Result<Vec<(String, String)>, RegistryError> {
    Ok(sqlx::query_as(
        "SELECT s.kid, s.key_id FROM secrets s JOIN api_keys k ON k.id = s.key_id \
         WHERE s.kid > $1 AND s.kid <= $4 AND s.kid <> k.kid AND s.created_at <= $2 \
         AND (s.stored IN ('retired', 'revoked', 'aborted', 'expired') OR s.expires_at <= $2 \
         OR s.retires_at <= $2 OR s.pending_until <= $2) \
         AND COALESCE(s.ended_at, 0) <= $2 \
         AND NOT EXISTS (SELECT 1 FROM rotations r WHERE r.key_id = s.key_id AND r.ended_at IS NULL \
         AND (r.kid = s.kid OR r.old_kid = s.kid)) ORDER BY s.kid LIMIT $3",
    )
    .bind(after.to_owned())
    .bind(ended_before)
    .bind(limit)
    .bind(through.to_owned())
    .fetch_all(connection)
    .await?)
}

/// Removes rollups of a secret. Returns how many rows went.
pub(crate) async fn delete_rollups_of(
    connection: &mut AnyConnection,
    kid: &str,
    limit: i64,
) -> Result<i64, RegistryError> {
    let result = sqlx::query(
        "DELETE FROM use_rollups WHERE (kid, hour, client_label, network, agent, route, scope, origin) IN \
         (SELECT kid, hour, client_label, network, agent, route, scope, origin FROM use_rollups \
         WHERE kid = $1 LIMIT $2)",
    )
    .bind(kid.to_owned())
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(count(result.rows_affected()))
}

/// Removes one secret with the rotation that made it and its deliveries. Returns how many rows went.
pub(crate) async fn delete_secret(
    connection: &mut AnyConnection,
    kid: &str,
) -> Result<i64, RegistryError> {
    let mut rows = 0;
    for sql in [
        "DELETE FROM deliveries WHERE rotation_id IN (SELECT idempotency_key FROM rotations WHERE kid = $1)",
        "DELETE FROM rotations WHERE kid = $1",
        "DELETE FROM secrets WHERE kid = $1",
    ] {
        let result = sqlx::query(sql)
            .bind(kid.to_owned())
            .execute(&mut *connection)
            .await?;
        rows += count(result.rows_affected());
    }
    Ok(rows)
}

/// Writes the place of a secret among those of its key. In ascending order none meets another.
pub(crate) async fn update_position(
    connection: &mut AnyConnection,
    kid: &str,
    position: i64,
) -> Result<(), RegistryError> {
    sqlx::query("UPDATE secrets SET position = $1 WHERE kid = $2 AND position <> $1")
        .bind(position)
        .bind(kid.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

/// What goes by its age alone, by a moment ($1) and number ($2).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aged {
    Rollups,
    Alerts,
    /// Except those about a secret that is still the newest: without them they would be sent again.
    Notices,
    /// What is on the notice board.
    Board,
}

/// Removes the marks of readers at what is on the board no more. Returns how many rows went.
pub(crate) async fn delete_stale_reads(
    connection: &mut AnyConnection,
    limit: i64,
) -> Result<i64, RegistryError> {
    let result = sqlx::query(
        "DELETE FROM board_reads WHERE (reader, sequence) IN (SELECT r.reader, r.sequence FROM board_reads r \
         WHERE NOT EXISTS (SELECT 1 FROM board b WHERE b.sequence = r.sequence) LIMIT $1)",
    )
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(count(result.rows_affected()))
}

/// Removes what is older than a moment. Returns how many rows went.
pub(crate) async fn delete_aged(
    connection: &mut AnyConnection,
    what: Aged,
    before: i64,
    limit: i64,
) -> Result<i64, RegistryError> {
    let sql = match what {
        Aged::Rollups => {
            "DELETE FROM use_rollups WHERE (kid, hour, client_label, network, agent, route, scope, origin) IN \
             (SELECT kid, hour, client_label, network, agent, route, scope, origin FROM use_rollups \
             WHERE hour < $1 LIMIT $2)"
        }
        Aged::Alerts => {
            "DELETE FROM alerts WHERE id IN (SELECT id FROM alerts WHERE last_at < $1 LIMIT $2)"
        }
        Aged::Board => {
            "DELETE FROM board WHERE matter IN (SELECT matter FROM board WHERE at < $1 LIMIT $2)"
        }
        Aged::Notices => {
            "DELETE FROM notices WHERE id IN (SELECT n.id FROM notices n WHERE n.made_at < $1 \
             AND NOT EXISTS (SELECT 1 FROM api_keys k WHERE k.id = n.key_id AND k.kid = n.kid \
             AND k.revoked_at IS NULL) LIMIT $2)"
        }
    };
    let result = sqlx::query(sql)
        .bind(before)
        .bind(limit)
        .execute(connection)
        .await?;
    Ok(count(result.rows_affected()))
}

/// Removes the changes before a version, which is the oldest one from then on. Returns how many
/// rows went.
pub(crate) async fn delete_changes(
    connection: &mut AnyConnection,
    oldest: i64,
) -> Result<i64, RegistryError> {
    let result = sqlx::query("DELETE FROM changes WHERE version < $1")
        .bind(oldest)
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE heads SET oldest_change = $1 WHERE id = 1")
        .bind(oldest)
        .execute(connection)
        .await?;
    Ok(count(result.rows_affected()))
}

/// The first event that was not made before a moment; none if all were.
pub(crate) async fn first_event_since(
    connection: &mut AnyConnection,
    at: i64,
) -> Result<Option<i64>, RegistryError> {
    Ok(
        sqlx::query_scalar("SELECT MIN(sequence) FROM audit_events WHERE at >= $1")
            .bind(at)
            .fetch_one(connection)
            .await?,
    )
}

/// Removes the events up to a sequence, and the checkpoints before it. Returns how many events went.
pub(crate) async fn delete_events(
    connection: &mut AnyConnection,
    through: i64,
) -> Result<i64, RegistryError> {
    let result = sqlx::query("DELETE FROM audit_events WHERE sequence <= $1")
        .bind(through)
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM audit_checkpoints WHERE sequence < $1")
        .bind(through)
        .execute(connection)
        .await?;
    Ok(count(result.rows_affected()))
}
