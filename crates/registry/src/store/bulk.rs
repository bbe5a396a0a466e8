//! Rows of operations over many keys.

use sqlx::AnyConnection;

use super::many;
use super::secrets::damaged;
use crate::RegistryError;
use crate::bulk::{BulkFailure, BulkOperation, BulkProgress, BulkState};
use crate::later::{LaterAnswer, LaterRequest};

#[derive(sqlx::FromRow)]
struct BulkRow {
    id: String,
    actor: String,
    operation: String,
    total: i64,
    done: i64,
    changed: i64,
    failed: i64,
    failures: String,
    last_change: i64,
    state: String,
    cancel_asked: i64,
    created_at: i64,
    seen_at: i64,
    finished_at: Option<i64>,
    later: i64,
    problem: Option<String>,
}

impl BulkRow {
    fn into_operation(self) -> Result<BulkOperation, RegistryError> {
        let problem = self.problem.as_deref().map(serde_json::from_str);
        Ok(BulkOperation {
            problem: problem.transpose().map_err(|_| damaged("operation"))?,
            state: BulkState::parse(&self.state).ok_or_else(|| damaged("operation"))?,
            progress: BulkProgress {
                done: self.done,
                changed: self.changed,
                failed: self.failed,
                failures: serde_json::from_str(&self.failures).map_err(|_| damaged("operation"))?,
                untold: Vec::new(),
                last_change: self.last_change,
            },
            id: self.id,
            actor: self.actor,
            operation: self.operation,
            total: self.total,
            cancel_asked: self.cancel_asked != 0,
            created_at: self.created_at,
            seen_at: self.seen_at,
            finished_at: self.finished_at,
            later: self.later != 0,
        })
    }
}

fn shown(progress: &BulkProgress) -> Result<String, RegistryError> {
    serde_json::to_string(&progress.failures)
        .map_err(|error| RegistryError::Store(error.to_string()))
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    operation: &BulkOperation,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO bulk_operations (id, actor, operation, total, done, changed, failed, failures, state, \
         cancel_asked, created_at, seen_at, later) VALUES ($1, $2, $3, $4, 0, 0, 0, '[]', $5, 0, $6, $6, $7)",
    )
    .bind(operation.id.clone())
    .bind(operation.actor.clone())
    .bind(operation.operation.clone())
    .bind(operation.total)
    .bind(operation.state.as_str())
    .bind(operation.created_at)
    .bind(i64::from(operation.later))
    .execute(connection)
    .await?;
    Ok(())
}

/// How far it came, and its state where it has ended.
pub(crate) async fn report(
    connection: &mut AnyConnection,
    id: &str,
    progress: &BulkProgress,
    ended: Option<BulkState>,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE bulk_operations SET done = $1, changed = $2, failed = $3, failures = $4, seen_at = $5, \
         state = $6, finished_at = $7, last_change = $8 WHERE id = $9",
    )
    .bind(progress.done)
    .bind(progress.changed)
    .bind(progress.failed)
    .bind(shown(progress)?)
    .bind(now)
    .bind(ended.unwrap_or(BulkState::Running).as_str())
    .bind(ended.map(|_| now))
    .bind(progress.last_change)
    .bind(id.to_owned())
    .execute(&mut *connection)
    .await?;
    insert_failures(connection, id, progress).await
}

/// Those that were not told yet. One that was, after all, by a commit of which nothing was heard, stays as it is.
async fn insert_failures(
    connection: &mut AnyConnection,
    id: &str,
    progress: &BulkProgress,
) -> Result<(), RegistryError> {
    const COLUMNS: usize = 5;
    let numbered: Vec<(i64, &BulkFailure)> =
        (progress.first_untold()..).zip(&progress.untold).collect();
    for part in many::parts(&numbered) {
        let mut sql = many::rows(
            connection,
            "INSERT INTO bulk_failures (operation_id, number, key_id, code, message) VALUES ",
            part.len(),
            COLUMNS,
        );
        sql.push_str(" ON CONFLICT (operation_id, number) DO NOTHING");
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for (number, failure) in part {
            query = query
                .bind(id.to_owned())
                .bind(*number)
                // Whatever a client took for an id: PostgreSQL holds no text with a zero in it.
                .bind(failure.key_id.replace('\0', ""))
                .bind(failure.code.clone())
                .bind(failure.message.replace('\0', ""));
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Keys that an operation could not change, with their places, behind the one a page ended with.
pub(crate) async fn failures(
    connection: &mut AnyConnection,
    id: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, BulkFailure)>, RegistryError> {
    if crate::store::is_no_id(id) {
        return Ok(Vec::new());
    }
    let rows: Vec<(i64, String, String, String)> = sqlx::query_as(
        "SELECT number, key_id, code, message FROM bulk_failures WHERE operation_id = $1 AND number > $2 \
         ORDER BY number LIMIT $3",
    )
    .bind(id.to_owned())
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    let read = |(number, key_id, code, message)| {
        let failure = BulkFailure {
            key_id,
            code,
            message,
        };
        (number, failure)
    };
    Ok(rows.into_iter().map(read).collect())
}

pub(crate) async fn ask_cancel(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<(), RegistryError> {
    sqlx::query("UPDATE bulk_operations SET cancel_asked = 1 WHERE id = $1")
        .bind(id.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, actor, operation, total, done, changed, failed, failures, last_change, state, cancel_asked, \
             created_at, seen_at, finished_at, later, problem FROM bulk_operations ",
            $rest
        )
    };
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<BulkOperation>, RegistryError> {
    if crate::store::is_no_id(id) {
        return Ok(None);
    }
    let row: Option<BulkRow> = sqlx::query_as(select!("WHERE id = $1"))
        .bind(id.to_owned())
        .fetch_optional(connection)
        .await?;
    row.map(BulkRow::into_operation).transpose()
}

/// What a request that is answered later came to: its answer, and why it ended before its end.
pub(crate) async fn put_answer(
    connection: &mut AnyConnection,
    id: &str,
    came: &LaterAnswer,
) -> Result<(), RegistryError> {
    sqlx::query("UPDATE bulk_operations SET answer = $1, problem = $2 WHERE id = $3")
        .bind(came.answer.clone())
        .bind(came.problem.clone())
        .bind(id.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

/// The same, read. Answers may be long: no list reads them.
pub(crate) async fn answer(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<LaterAnswer, RegistryError> {
    let row: Option<(Option<String>, Option<String>)> =
        sqlx::query_as("SELECT answer, problem FROM bulk_operations WHERE id = $1")
            .bind(id.to_owned())
            .fetch_optional(connection)
            .await?;
    let (answer, problem) = row.unwrap_or_default();
    Ok(LaterAnswer { answer, problem })
}

/// Requests of these three kinds that are answered later, newest first, behind the one a page ended with.
pub(crate) async fn list_later(
    connection: &mut AnyConnection,
    kinds: [&'static str; 3],
    after: (i64, &str),
    limit: i64,
) -> Result<Vec<BulkOperation>, RegistryError> {
    let rows: Vec<BulkRow> = sqlx::query_as(select!(
        "WHERE later = 1 AND operation IN ($1, $2, $3) AND (created_at, id) < ($4, $5) \
         ORDER BY created_at DESC, id DESC LIMIT $6"
    ))
    .bind(kinds[0])
    .bind(kinds[1])
    .bind(kinds[2])
    .bind(after.0)
    .bind(after.1.to_owned())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(BulkRow::into_operation).collect()
}

/// Newest first, behind the one a page ended with.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    actor: &str,
    after: (i64, &str),
    limit: i64,
) -> Result<Vec<BulkOperation>, RegistryError> {
    let rows: Vec<BulkRow> = sqlx::query_as(select!(
        "WHERE later = 0 AND ($1 = '' OR actor = $1) AND (created_at, id) < ($2, $3) \
         ORDER BY created_at DESC, id DESC LIMIT $4"
    ))
    .bind(actor.to_owned())
    .bind(after.0)
    .bind(after.1.to_owned())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(BulkRow::into_operation).collect()
}

/// Forgets what only read and has ended of an actor, but for so many of the newest.
pub(crate) async fn prune_reads(
    connection: &mut AnyConnection,
    actor: &str,
    kept: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "DELETE FROM bulk_operations WHERE later = 1 AND actor = $1 AND operation <> $2 \
         AND finished_at IS NOT NULL AND created_at < (SELECT newer.created_at FROM bulk_operations newer \
         WHERE newer.later = 1 AND newer.actor = $1 AND newer.operation <> $2 \
         ORDER BY newer.created_at DESC, newer.id DESC LIMIT 1 OFFSET $3)",
    )
    .bind(actor.to_owned())
    .bind(LaterRequest::Import.as_str())
    .bind(kept.saturating_sub(1).max(0))
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets older ones; those with answers sooner.
pub(crate) async fn prune(
    connection: &mut AnyConnection,
    before: i64,
    answers_before: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "DELETE FROM bulk_failures WHERE operation_id IN \
         (SELECT id FROM bulk_operations WHERE created_at < $1)",
    )
    .bind(before)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "DELETE FROM bulk_operations WHERE created_at < $1 OR (created_at < $2 AND later = 1)",
    )
    .bind(before)
    .bind(answers_before)
    .execute(connection)
    .await?;
    Ok(())
}
