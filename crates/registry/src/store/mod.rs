//! All SQL. Each statement is written once, in the text that SQLite and PostgreSQL share:
//! `$1` placeholders, `RETURNING`, `ON CONFLICT`, integer milliseconds. Row types stay in here.

pub(crate) mod accounts;
pub(crate) mod alerts;
pub(crate) mod api_keys;
pub(crate) mod audit;
pub(crate) mod board;
pub(crate) mod bulk;
pub(crate) mod campaigns;
pub(crate) mod checkpoints;
pub(crate) mod credits;
pub(crate) mod deliveries;
pub(crate) mod file;
pub(crate) mod filters;
pub(crate) mod heads;
pub(crate) mod hygiene;
pub(crate) mod idempotency;
pub(crate) mod images;
pub(crate) mod listing;
pub(crate) mod many;
pub(crate) mod moments;
pub(crate) mod nodes;
pub(crate) mod notices;
pub(crate) mod outbox;
pub(crate) mod outbox_dropped;
pub(crate) mod people;
pub(crate) mod peppers;
pub(crate) mod policies;
pub(crate) mod portable;
pub(crate) mod postgres;
pub(crate) mod preview;
pub(crate) mod principals;
pub(crate) mod retention;
pub(crate) mod rotations;
pub(crate) mod schedules;
pub(crate) mod scopes;
pub(crate) mod search;
pub(crate) mod secrets;
pub(crate) mod stragglers;
pub(crate) mod uses;
pub(crate) mod webhooks;

use sqlx::{Any, AnyConnection, Transaction};

use crate::RegistryError;
use crate::pool::Pool;

/// Which database is behind the pool. Only `file`, `postgres`, [`search::Common`], [`begin`],
/// [`begin_snapshot`] and the search of a list may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// Whether nothing can have this id: PostgreSQL fails where a text holds U+0000, and need not be asked.
pub(crate) fn is_no_id(id: &str) -> bool {
    id.contains('\0')
}

/// Begins a transaction that writes. SQLite: `IMMEDIATE`, because a deferred one that upgrades to
/// a write fails at once when another process writes. PostgreSQL: the lock on `heads` does it.
pub(crate) async fn begin(connection: &mut AnyConnection, kind: Kind) -> Result<(), RegistryError> {
    let statement = match kind {
        Kind::Sqlite => "BEGIN IMMEDIATE",
        Kind::Postgres => "BEGIN",
    };
    sqlx::query(statement).execute(connection).await?;
    Ok(())
}

/// Ends a transaction of [`begin`] with everything in it.
pub(crate) async fn commit(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(())
}

/// Ends a transaction of [`begin`] with nothing of it.
pub(crate) async fn roll_back(connection: &mut AnyConnection) -> Result<(), RegistryError> {
    sqlx::query("ROLLBACK").execute(connection).await?;
    Ok(())
}

/// Begins a transaction that only reads and sees one moment, however long it takes.
pub(crate) async fn begin_snapshot(
    pool: &Pool,
    kind: Kind,
) -> Result<Transaction<'static, Any>, RegistryError> {
    let statement = match kind {
        Kind::Sqlite => file::SNAPSHOT,
        Kind::Postgres => postgres::SNAPSHOT,
    };
    Ok(pool.begin_with(statement).await?)
}
