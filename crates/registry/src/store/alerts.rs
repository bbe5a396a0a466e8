//! Rows of alerts, for whoever looks at them. They are written by the flush and by deliveries.

use sqlx::AnyConnection;

use super::secrets::damaged;
use crate::RegistryError;
use crate::alerts::Alert;
use crate::uses::AlertKind;

#[derive(sqlx::FromRow)]
struct AlertRow {
    id: String,
    kind: String,
    key_id: String,
    kid: String,
    caller: String,
    count: i64,
    first_at: i64,
    last_at: i64,
    seen_at: Option<i64>,
}

impl AlertRow {
    fn into_alert(self) -> Result<Alert, RegistryError> {
        Ok(Alert {
            kind: AlertKind::parse(&self.kind).ok_or_else(|| damaged("alert"))?,
            id: self.id,
            key_id: self.key_id,
            kid: self.kid,
            caller: self.caller,
            count: self.count,
            first_at: self.first_at,
            last_at: self.last_at,
            seen_at: self.seen_at,
        })
    }
}

macro_rules! select {
    ($also:literal) => {
        concat!(
            "SELECT id, kind, key_id, kid, caller, count, first_at, last_at, seen_at FROM alerts \
             WHERE (last_at, id) < ($1, $2)",
            $also,
            " ORDER BY last_at DESC, id DESC LIMIT $3"
        )
    };
}

/// Alerts before the one a page ended with, latest first.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    before: (i64, &str),
    unseen_only: bool,
    limit: i64,
) -> Result<Vec<Alert>, RegistryError> {
    let sql = if unseen_only {
        select!(" AND seen_at IS NULL")
    } else {
        select!("")
    };
    let rows: Vec<AlertRow> = sqlx::query_as(sql)
        .bind(before.0)
        .bind(before.1.to_owned())
        .bind(limit)
        .fetch_all(connection)
        .await?;
    rows.into_iter().map(AlertRow::into_alert).collect()
}

/// How many nobody has seen, up to a limit.
pub(crate) async fn count_unseen_to(
    connection: &mut AnyConnection,
    limit: i64,
) -> Result<i64, RegistryError> {
    Ok(sqlx::query_scalar(
        "SELECT COUNT(*) FROM (SELECT id FROM alerts WHERE seen_at IS NULL LIMIT $1) AS found",
    )
    .bind(limit)
    .fetch_one(connection)
    .await?)
}

/// Who caused alerts of a kind by a secret.
pub(crate) async fn callers(
    connection: &mut AnyConnection,
    kind: &str,
    kid: &str,
    limit: i64,
) -> Result<Vec<String>, RegistryError> {
    Ok(
        sqlx::query_scalar("SELECT caller FROM alerts WHERE kind = $1 AND kid = $2 LIMIT $3")
            .bind(kind.to_owned())
            .bind(kid.to_owned())
            .bind(limit)
            .fetch_all(connection)
            .await?,
    )
}

/// Alerts that went on happening since they were told, if that was before a moment; oldest first. What was told after
/// the other moment was told by a clock that was ahead: nobody waits until then.
pub(crate) async fn untold(
    connection: &mut AnyConnection,
    (told_before, believed_until): (i64, i64),
    limit: i64,
) -> Result<Vec<Alert>, RegistryError> {
    let rows: Vec<AlertRow> = sqlx::query_as(
        "SELECT id, kind, key_id, kid, caller, count, first_at, last_at, seen_at FROM alerts \
         WHERE told_count < count AND (told_at <= $1 OR told_at > $2) ORDER BY told_at, id LIMIT $3",
    )
    .bind(told_before)
    .bind(believed_until)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(AlertRow::into_alert).collect()
}

/// Whether an alert was told for fewer times than this.
pub(crate) async fn is_untold(
    connection: &mut AnyConnection,
    id: &str,
    count: i64,
) -> Result<bool, RegistryError> {
    let found: Option<(String,)> =
        sqlx::query_as("SELECT id FROM alerts WHERE id = $1 AND told_count < $2")
            .bind(id.to_owned())
            .bind(count)
            .fetch_optional(connection)
            .await?;
    Ok(found.is_some())
}

pub(crate) async fn mark_told(
    connection: &mut AnyConnection,
    id: &str,
    count: i64,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query("UPDATE alerts SET told_count = $1, told_at = $2 WHERE id = $3")
        .bind(count)
        .bind(now)
        .bind(id.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

/// Marks one as seen, unless it happened again after `seen_until`. Returns whether it was.
pub(crate) async fn mark_seen(
    connection: &mut AnyConnection,
    id: &str,
    seen_until: i64,
    now: i64,
) -> Result<bool, RegistryError> {
    let result = sqlx::query(
        "UPDATE alerts SET seen_at = $1 WHERE id = $2 AND seen_at IS NULL AND last_at <= $3",
    )
    .bind(now)
    .bind(id.to_owned())
    .bind(seen_until)
    .execute(connection)
    .await?;
    Ok(result.rows_affected() == 1)
}

pub(crate) async fn count_unseen(connection: &mut AnyConnection) -> Result<i64, RegistryError> {
    Ok(
        sqlx::query_scalar("SELECT COUNT(*) FROM alerts WHERE seen_at IS NULL")
            .fetch_one(connection)
            .await?,
    )
}
