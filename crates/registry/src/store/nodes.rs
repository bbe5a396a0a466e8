//! Nodes over one PostgreSQL database, in its own dialect: times are the database's, so that no
//! node's clock decides who is there. Jobs and what is used once are in the shared text.

use sqlx::{AnyConnection, PgConnection};

use crate::RegistryError;

/// The channel on which nodes hear of changes that must not wait.
pub(crate) const CHANNEL: &str = "keywright_changes";

/// Rows of nodes that were not heard of for longer are removed.
const FORGOTTEN_AFTER_MS: i64 = 60_000;

/// Says that a node is there and what it has read. The commit need not survive a crash of the
/// database, and does not wait for the disk.
const BEAT: &str = "INSERT INTO nodes (id, name, started_at, heartbeat_at, applied) \
    SELECT $1::TEXT, $2::TEXT, now.ms, now.ms, $3::BIGINT FROM \
    (SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT AS ms, \
            set_config('synchronous_commit', 'off', true)) AS now \
    ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at, \
        applied = GREATEST(nodes.applied, excluded.applied) \
    RETURNING heartbeat_at";

/// A node, as the others see it.
#[derive(Clone, Debug)]
pub(crate) struct NodeRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) applied: i64,
}

/// The same with its times (Unix ms, by the database's clock).
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct NodeTimes {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) started_at: i64,
    pub(crate) heartbeat_at: i64,
    pub(crate) applied: i64,
    pub(crate) now: i64,
}

/// Tells the nodes of what is being committed; they hear it after the commit, or never.
pub(crate) async fn notify(
    connection: &mut AnyConnection,
    payload: &str,
) -> Result<(), RegistryError> {
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(payload)
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes the heartbeat. Returns the database's time (Unix ms).
pub(crate) async fn beat(
    connection: &mut AnyConnection,
    id: &str,
    name: &str,
    applied: i64,
) -> Result<i64, RegistryError> {
    Ok(sqlx::query_scalar(BEAT)
        .bind(id)
        .bind(name)
        .bind(applied)
        .fetch_one(connection)
        .await?)
}

/// The same on the connection that listens.
pub(crate) async fn acknowledge(
    connection: &mut PgConnection,
    id: &str,
    name: &str,
    applied: i64,
) -> Result<(), RegistryError> {
    sqlx::query(BEAT)
        .bind(id)
        .bind(name)
        .bind(applied)
        .execute(connection)
        .await?;
    Ok(())
}

/// Removes the rows of nodes that are long gone.
pub(crate) async fn forget_gone(connection: &mut AnyConnection) -> Result<(), RegistryError> {
    sqlx::query(
        "DELETE FROM nodes WHERE heartbeat_at < \
         (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT - $1",
    )
    .bind(FORGOTTEN_AFTER_MS)
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes the row of a node that ends.
pub(crate) async fn leave(connection: &mut AnyConnection, id: &str) -> Result<(), RegistryError> {
    sqlx::query("DELETE FROM nodes WHERE id = $1")
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

/// The nodes that were heard of within `within_ms`, by name.
pub(crate) async fn live(
    connection: &mut AnyConnection,
    within_ms: i64,
) -> Result<Vec<NodeRow>, RegistryError> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT id, name, applied FROM nodes WHERE heartbeat_at > \
         (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT - $1 ORDER BY name, id",
    )
    .bind(within_ms)
    .fetch_all(connection)
    .await?;
    let row = |(id, name, applied)| NodeRow { id, name, applied };
    Ok(rows.into_iter().map(row).collect())
}

/// All rows of nodes with their times, by name, and the database's time; a node that is gone has its row for a minute.
pub(crate) async fn all(
    connection: &mut AnyConnection,
    limit: i64,
) -> Result<Vec<NodeTimes>, RegistryError> {
    Ok(sqlx::query_as(
        "SELECT id, name, started_at, heartbeat_at, applied, \
         (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT AS now FROM nodes ORDER BY name, id LIMIT $1",
    )
    .bind(limit)
    .fetch_all(connection)
    .await?)
}

/// When a change was committed, by the clock of the node that wrote it; none if the log does not
/// hold it.
pub(crate) async fn changed_at(
    connection: &mut AnyConnection,
    version: i64,
) -> Result<Option<i64>, RegistryError> {
    Ok(
        sqlx::query_scalar("SELECT at FROM changes WHERE version = $1")
            .bind(version)
            .fetch_optional(connection)
            .await?,
    )
}

/// When a job is due next; none if nobody ever did it.
pub(crate) async fn job_due(
    connection: &mut AnyConnection,
    name: &str,
) -> Result<Option<i64>, RegistryError> {
    Ok(
        sqlx::query_scalar("SELECT next_at FROM jobs WHERE name = $1")
            .bind(name)
            .fetch_optional(connection)
            .await?,
    )
}

/// Writes down who does a job now.
pub(crate) async fn take_job(
    connection: &mut AnyConnection,
    name: &str,
    node: &str,
    now: i64,
    next_at: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO jobs (name, node, took_at, next_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (name) DO UPDATE SET node = excluded.node, took_at = excluded.took_at, \
         next_at = excluded.next_at",
    )
    .bind(name)
    .bind(node)
    .bind(now)
    .bind(next_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// The row among those of what was used that says how far they were removed. All but this and the next are named by
/// a digest.
const FORGOTTEN: &str = "forgotten";
/// The row that says up to which moment proofs belong to some process.
const CLAIMED: &str = "claimed";

/// Times of a use, in Unix ms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UseTimes {
    pub(crate) expires_at: i64,
    pub(crate) now: i64,
    /// How far rows were removed counts if that is not after this moment; 0: it does not count.
    pub(crate) counts_to: i64,
}

/// Writes down that something was used. False if it was used before and that still counts, or if it ended before
/// what was removed. The same that is shown again has the same end: it is never new, though it may be over by now.
pub(crate) async fn use_once(
    connection: &mut AnyConnection,
    name: &str,
    times: UseTimes,
) -> Result<bool, RegistryError> {
    let written = sqlx::query(
        "INSERT INTO used_once (name, expires_at) SELECT $1, $2 WHERE NOT EXISTS (SELECT 1 FROM used_once f \
         WHERE f.name = $3 AND f.expires_at >= $2 AND f.expires_at <= $4) ON CONFLICT (name) \
         DO UPDATE SET expires_at = excluded.expires_at \
         WHERE used_once.expires_at < $5 AND used_once.expires_at < excluded.expires_at",
    )
    .bind(name)
    .bind(times.expires_at)
    .bind(FORGOTTEN)
    .bind(times.counts_to)
    .bind(times.now)
    .execute(connection)
    .await?;
    Ok(written.rows_affected() == 1)
}

pub(crate) async fn was_used(
    connection: &mut AnyConnection,
    name: &str,
    now: i64,
) -> Result<bool, RegistryError> {
    let found: Option<(i64,)> =
        sqlx::query_as("SELECT expires_at FROM used_once WHERE name = $1 AND expires_at >= $2")
            .bind(name.to_owned())
            .bind(now)
            .fetch_optional(connection)
            .await?;
    Ok(found.is_some())
}

/// Writes down how far rows will have been removed when all that ended before a moment is; what was written down
/// and is after `counts_to` is dropped. Returns how far that is by now.
pub(crate) async fn note_forgotten(
    connection: &mut AnyConnection,
    before: i64,
    counts_to: i64,
) -> Result<Option<i64>, RegistryError> {
    sqlx::query("DELETE FROM used_once WHERE name = $1 AND expires_at > $2")
        .bind(FORGOTTEN)
        .bind(counts_to)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO used_once (name, expires_at) SELECT $1, u.expires_at FROM used_once u \
         WHERE u.expires_at < $2 AND u.name NOT IN ($1, $3) ORDER BY u.expires_at DESC LIMIT 1 ON CONFLICT (name) \
         DO UPDATE SET expires_at = excluded.expires_at WHERE used_once.expires_at < excluded.expires_at",
    )
    .bind(FORGOTTEN)
    .bind(before)
    .bind(CLAIMED)
    .execute(&mut *connection)
    .await?;
    let to: Option<(i64,)> = sqlx::query_as("SELECT expires_at FROM used_once WHERE name = $1")
        .bind(FORGOTTEN)
        .fetch_optional(connection)
        .await?;
    Ok(to.map(|(to,)| to))
}

/// Removes a batch of what was over before a moment. Returns how many rows went.
pub(crate) async fn prune_used(
    connection: &mut AnyConnection,
    before: i64,
    limit: i64,
) -> Result<u64, RegistryError> {
    let gone = sqlx::query(
        "DELETE FROM used_once WHERE name IN (SELECT name FROM used_once \
         WHERE expires_at < $1 AND name NOT IN ($3, $4) ORDER BY expires_at LIMIT $2)",
    )
    .bind(before)
    .bind(limit)
    .bind(FORGOTTEN)
    .bind(CLAIMED)
    .execute(connection)
    .await?;
    Ok(gone.rows_affected())
}

/// Up to which moment proofs belong to some process; none where none ever claimed any.
pub(crate) async fn claimed_to(
    connection: &mut AnyConnection,
) -> Result<Option<i64>, RegistryError> {
    Ok(
        sqlx::query_scalar("SELECT expires_at FROM used_once WHERE name = $1")
            .bind(CLAIMED)
            .fetch_optional(connection)
            .await?,
    )
}

/// Writes down up to which moment they do.
pub(crate) async fn claim_to(connection: &mut AnyConnection, to: i64) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO used_once (name, expires_at) VALUES ($1, $2) \
         ON CONFLICT (name) DO UPDATE SET expires_at = excluded.expires_at",
    )
    .bind(CLAIMED)
    .bind(to)
    .execute(connection)
    .await?;
    Ok(())
}
