//! Rows that wait for a moment which cannot be right.

use sqlx::AnyConnection;

use crate::RegistryError;
use crate::outbox::{Believed, Channel};

/// Whether anything waits for a moment that is not believed. Each of these is a look at the end of an index, or at few
/// rows.
pub(crate) async fn is_any_beyond(
    connection: &mut AnyConnection,
    believed: &Believed,
) -> Result<bool, RegistryError> {
    for channel in Channel::ALL {
        let found: Option<(String,)> = sqlx::query_as(
            "SELECT id FROM outbox WHERE state = 'waiting' AND channel = $1 AND due_at > $2 LIMIT 1",
        )
        .bind(channel.as_str())
        .bind(believed.due_at)
        .fetch_optional(&mut *connection)
        .await?;
        if found.is_some() {
            return Ok(true);
        }
    }
    for (sql, beyond) in [
        (
            "SELECT id FROM outbox WHERE state = 'waiting' AND claimed_until > 0 AND claimed_until > $1 LIMIT 1",
            believed.claimed_until,
        ),
        (
            "SELECT id FROM notices WHERE sent_at IS NULL AND passed = 0 AND claimed_until > $1 LIMIT 1",
            believed.notices,
        ),
        (
            "SELECT id FROM schedules WHERE retry_at > $1 LIMIT 1",
            believed.schedules,
        ),
    ] {
        let found: Option<(String,)> = sqlx::query_as(sql)
            .bind(beyond)
            .fetch_optional(&mut *connection)
            .await?;
        if found.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes it due now. Returns how many rows that changed.
pub(crate) async fn mend(
    connection: &mut AnyConnection,
    believed: &Believed,
) -> Result<u64, RegistryError> {
    let mut rows = 0;
    for (sql, to, beyond) in [
        (
            "UPDATE outbox SET due_at = $1 WHERE state = 'waiting' AND due_at > $2",
            believed.now,
            believed.due_at,
        ),
        (
            "UPDATE outbox SET claimed_until = $1 WHERE state = 'waiting' AND claimed_until > $2",
            0,
            believed.claimed_until,
        ),
        (
            "UPDATE notices SET claimed_until = $1 WHERE sent_at IS NULL AND passed = 0 AND claimed_until > $2",
            0,
            believed.notices,
        ),
        (
            "UPDATE schedules SET retry_at = $1 WHERE retry_at > $2",
            believed.now,
            believed.schedules,
        ),
    ] {
        let done = sqlx::query(sql)
            .bind(to)
            .bind(beyond)
            .execute(&mut *connection)
            .await?;
        rows += done.rows_affected();
    }
    Ok(rows)
}
