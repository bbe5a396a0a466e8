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
    let alert = |row: AlertRow| {
        Ok(Alert {
            kind: AlertKind::parse(&row.kind).ok_or_else(|| damaged("alert"))?,
            id: row.id,
            key_id: row.key_id,
            kid: row.kid,
            caller: row.caller,
            count: row.count,
            first_at: row.first_at,
            last_at: row.last_at,
            seen_at: row.seen_at,
        })
    };
    rows.into_iter().map(alert).collect()
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
