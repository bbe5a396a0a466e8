//! Rows of schedules: when a key is rotated next, and how.

use keywright_domain::schedules::Schedule;
use sqlx::AnyConnection;

use super::many;
use super::secrets::damaged;
use crate::RegistryError;
use crate::schedules::KeySchedule;

#[derive(sqlx::FromRow)]
struct ScheduleRow {
    id: String,
    key_id: String,
    text: String,
    anchor_at: i64,
    next_due_at: i64,
    delivery: String,
    paused_at: Option<i64>,
    changed_at: i64,
    retry_at: Option<i64>,
    last_error: Option<String>,
}

impl ScheduleRow {
    fn into_schedule(self) -> Result<KeySchedule, RegistryError> {
        Ok(KeySchedule {
            id: self.id,
            key_id: self.key_id,
            schedule: Schedule::parse(&self.text).map_err(|_| damaged("schedule"))?,
            anchor_at: self.anchor_at,
            next_due_at: self.next_due_at,
            delivery: self.delivery,
            paused_at: self.paused_at,
            changed_at: self.changed_at,
            retry_at: self.retry_at,
            last_error: self.last_error,
        })
    }
}

/// Keys that work here, as far as their owners are concerned, and are changed here. `p` is the owner.
macro_rules! kept_and_let {
    () => {
        " AND k.promoted_to IS NULL AND p.disabled_at IS NULL \
         AND (p.keys_revoked_at IS NULL OR k.created_at > p.keys_revoked_at) "
    };
}

pub(super) use kept_and_let;

macro_rules! select {
    ($($rest:expr),+) => {
        concat!(
            "SELECT s.id, s.key_id, s.text, s.anchor_at, s.next_due_at, s.delivery, s.paused_at, s.changed_at, \
             s.retry_at, s.last_error FROM schedules s ",
            $($rest),+
        )
    };
}

/// The schedule of a key.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    key_id: &str,
) -> Result<Option<KeySchedule>, RegistryError> {
    if crate::store::is_no_id(key_id) {
        return Ok(None);
    }
    let row: Option<ScheduleRow> = sqlx::query_as(select!("WHERE s.key_id = $1"))
        .bind(key_id.to_owned())
        .fetch_optional(connection)
        .await?;
    row.map(ScheduleRow::into_schedule).transpose()
}

/// Schedules that are due until `until`, soonest first, after the one a page ended with. Keys that
/// are revoked or suspended, by themselves or with their owner, have none, nor have those that were
/// left to another registry.
pub(crate) async fn due(
    connection: &mut AnyConnection,
    until: i64,
    after: (i64, &str),
    limit: i64,
) -> Result<Vec<KeySchedule>, RegistryError> {
    due_by(connection, (until, i64::MAX), after, limit).await
}

/// Those that are to be carried out now: what is due, without what was refused and is tried later.
pub(crate) async fn due_now(
    connection: &mut AnyConnection,
    now: i64,
    after: (i64, &str),
    limit: i64,
) -> Result<Vec<KeySchedule>, RegistryError> {
    due_by(connection, (now, now), after, limit).await
}

async fn due_by(
    connection: &mut AnyConnection,
    (until, retry_until): (i64, i64),
    after: (i64, &str),
    limit: i64,
) -> Result<Vec<KeySchedule>, RegistryError> {
    let rows: Vec<ScheduleRow> = sqlx::query_as(select!(
        "JOIN api_keys k ON k.id = s.key_id LEFT JOIN principals p ON p.id = k.owner_id \
         WHERE (s.next_due_at, s.id) > ($1, $2) AND s.next_due_at <= $3 \
         AND s.paused_at IS NULL AND k.revoked_at IS NULL AND k.disabled_at IS NULL \
         AND (s.retry_at IS NULL OR s.retry_at <= $4)",
        kept_and_let!(),
        "ORDER BY s.next_due_at, s.id LIMIT $5"
    ))
    .bind(after.0)
    .bind(after.1.to_owned())
    .bind(until)
    .bind(retry_until)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(ScheduleRow::into_schedule).collect()
}

/// How many were due before a moment, refused ones among them; up to a limit. Schedules of keys that ended stay due for
/// as long as the keys are kept, so only the newest ten thousand are looked at: the others are the oldest of something
/// that is told already, or of what ended.
pub(crate) async fn count_due(
    connection: &mut AnyConnection,
    before: i64,
    limit: i64,
) -> Result<i64, RegistryError> {
    Ok(sqlx::query_scalar(concat!(
        "SELECT COUNT(*) FROM (SELECT s.id FROM \
         (SELECT * FROM schedules WHERE next_due_at < $1 AND paused_at IS NULL ORDER BY next_due_at DESC LIMIT 10000) s \
         JOIN api_keys k ON k.id = s.key_id LEFT JOIN principals p ON p.id = k.owner_id \
         WHERE k.revoked_at IS NULL AND k.disabled_at IS NULL",
        kept_and_let!(),
        "LIMIT $2) AS found"
    ))
    .bind(before)
    .bind(limit)
    .fetch_one(connection)
    .await?)
}

/// Schedules of an owner's keys, or of all, by due moment, after the one a page ended with.
pub(crate) async fn page(
    connection: &mut AnyConnection,
    owner: &str,
    after: (i64, &str),
    limit: i64,
) -> Result<Vec<KeySchedule>, RegistryError> {
    let rows: Vec<ScheduleRow> = sqlx::query_as(select!(
        "JOIN api_keys k ON k.id = s.key_id WHERE (s.next_due_at, s.id) > ($1, $2) \
         AND ($3 = '' OR k.owner_id = $3) ORDER BY s.next_due_at, s.id LIMIT $4"
    ))
    .bind(after.0)
    .bind(after.1.to_owned())
    .bind(owner.to_owned())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(ScheduleRow::into_schedule).collect()
}

/// Inserts or replaces the schedule of a key; the id stays.
pub(crate) async fn put(
    connection: &mut AnyConnection,
    schedule: &KeySchedule,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO schedules (id, key_id, text, anchor_at, next_due_at, delivery, paused_at, changed_at, retry_at, \
         last_error) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (key_id) DO UPDATE SET text = excluded.text, \
         anchor_at = excluded.anchor_at, next_due_at = excluded.next_due_at, delivery = excluded.delivery, \
         paused_at = excluded.paused_at, changed_at = excluded.changed_at, retry_at = excluded.retry_at, \
         last_error = excluded.last_error",
    )
    .bind(schedule.id.clone())
    .bind(schedule.key_id.clone())
    .bind(schedule.schedule.to_text())
    .bind(schedule.anchor_at)
    .bind(schedule.next_due_at)
    .bind(schedule.delivery.clone())
    .bind(schedule.paused_at)
    .bind(schedule.changed_at)
    .bind(schedule.retry_at)
    .bind(schedule.last_error.clone())
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn remove(
    connection: &mut AnyConnection,
    key_id: &str,
) -> Result<(), RegistryError> {
    sqlx::query("DELETE FROM schedules WHERE key_id = $1")
        .bind(key_id.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

/// Moves a due moment on, if nobody else did: what was refused before is forgotten. Returns whether it was
/// this call.
pub(crate) async fn claim(
    connection: &mut AnyConnection,
    id: &str,
    due_at: i64,
    next_due_at: i64,
) -> Result<bool, RegistryError> {
    let result = sqlx::query(
        "UPDATE schedules SET next_due_at = $1, retry_at = NULL, last_error = NULL \
         WHERE id = $2 AND next_due_at = $3 AND paused_at IS NULL",
    )
    .bind(next_due_at)
    .bind(id.to_owned())
    .bind(due_at)
    .execute(connection)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Writes down why a schedule's rotation was refused, and when it is tried again. It stays due.
pub(crate) async fn refuse(
    connection: &mut AnyConnection,
    id: &str,
    error: &str,
    retry_at: i64,
) -> Result<(), RegistryError> {
    sqlx::query("UPDATE schedules SET retry_at = $1, last_error = $2 WHERE id = $3")
        .bind(retry_at)
        .bind(error.to_owned())
        .bind(id.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

/// The newest secret of some keys: key id, kid.
pub(crate) async fn current_kids(
    connection: &mut AnyConnection,
    key_ids: &[String],
) -> Result<Vec<(String, String)>, RegistryError> {
    let mut found = Vec::with_capacity(key_ids.len());
    for part in key_ids.chunks(many::MOST) {
        let count = many::padded(part.len());
        let sql = many::list("SELECT id, kid FROM api_keys WHERE id IN ", count, "");
        let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
        for id in many::padding(part, count) {
            query = query.bind(id.clone());
        }
        let rows: Vec<(String, String)> = query.fetch_all(&mut *connection).await?;
        found.extend(rows);
    }
    Ok(found)
}
