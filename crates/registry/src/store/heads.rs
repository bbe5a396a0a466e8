//! The row that every writer locks first, and the ordered log of changes.

use sqlx::AnyConnection;

use super::many;
use crate::RegistryError;
use crate::writer::Subject;

/// What the row says.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) audit_sequence: i64,
    pub(crate) audit_hash: Vec<u8>,
    pub(crate) change_version: i64,
}

/// Locks the row until the end of the transaction.
pub(crate) async fn lock(connection: &mut AnyConnection) -> Result<Head, RegistryError> {
    let (audit_sequence, audit_hash, change_version): (i64, Option<Vec<u8>>, i64) = sqlx::query_as(
        "UPDATE heads SET writes = writes + 1 WHERE id = 1 \
         RETURNING audit_sequence, audit_hash, change_version",
    )
    .fetch_one(connection)
    .await?;
    Ok(Head {
        audit_sequence,
        audit_hash: audit_hash.unwrap_or_default(),
        change_version,
    })
}

pub(crate) async fn update(
    connection: &mut AnyConnection,
    head: &Head,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE heads SET audit_sequence = $1, audit_hash = $2, change_version = $3 WHERE id = 1",
    )
    .bind(head.audit_sequence)
    .bind(head.audit_hash.clone())
    .bind(head.change_version)
    .execute(connection)
    .await?;
    Ok(())
}

/// The number of the newest write: of the transaction's own in one that [`lock`] began.
pub(crate) async fn writes(connection: &mut AnyConnection) -> Result<i64, RegistryError> {
    Ok(sqlx::query_scalar("SELECT writes FROM heads WHERE id = 1")
        .fetch_one(connection)
        .await?)
}

/// Gives the registry its id when it is opened for the first time.
pub(crate) async fn ensure_registry_id(
    connection: &mut AnyConnection,
) -> Result<(), RegistryError> {
    let fresh = keywright_domain::base62::random_id(&mut rand::rng());
    sqlx::query("UPDATE heads SET registry_id = $1 WHERE id = 1 AND registry_id = ''")
        .bind(fresh)
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) async fn registry_id(connection: &mut AnyConnection) -> Result<String, RegistryError> {
    Ok(
        sqlx::query_scalar("SELECT registry_id FROM heads WHERE id = 1")
            .fetch_one(connection)
            .await?,
    )
}

pub(crate) async fn insert_changes(
    connection: &mut AnyConnection,
    now: i64,
    changes: &[(i64, Subject)],
) -> Result<(), RegistryError> {
    const COLUMNS: usize = 4;
    for part in many::parts(changes) {
        let sql = many::rows(
            connection,
            "INSERT INTO changes (version, at, kind, subject) VALUES ",
            part.len(),
            COLUMNS,
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for (version, subject) in part {
            let (kind, subject) = match subject {
                Subject::ApiKey(id) => ("api_key", id),
                Subject::Principal(id) => ("principal", id),
            };
            query = query
                .bind(*version)
                .bind(now)
                .bind(kind)
                .bind(subject.clone());
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// A row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoggedChange {
    pub(crate) version: i64,
    /// When the transaction began that made it (Unix ms, by its node's clock).
    pub(crate) at: i64,
    pub(crate) subject: Subject,
}

/// Changes after `version`, oldest first.
pub(crate) async fn changes_after(
    connection: &mut AnyConnection,
    version: i64,
    limit: i64,
) -> Result<Vec<(i64, Subject)>, RegistryError> {
    let rows = changes_from(connection, version.saturating_add(1), limit).await?;
    let pair = |row: LoggedChange| (row.version, row.subject);
    Ok(rows.into_iter().map(pair).collect())
}

/// The change `version` and those after it, oldest first.
pub(crate) async fn changes_from(
    connection: &mut AnyConnection,
    version: i64,
    limit: i64,
) -> Result<Vec<LoggedChange>, RegistryError> {
    let rows: Vec<(i64, i64, String, String)> = sqlx::query_as(
        "SELECT version, at, kind, subject FROM changes WHERE version >= $1 ORDER BY version LIMIT $2",
    )
    .bind(version)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(version, at, kind, subject)| LoggedChange {
            version,
            at,
            subject: if kind == "principal" {
                Subject::Principal(subject)
            } else {
                Subject::ApiKey(subject)
            },
        })
        .collect())
}

/// Newest change, and the oldest that is still in the log.
pub(crate) async fn change_bounds(
    connection: &mut AnyConnection,
) -> Result<(i64, i64), RegistryError> {
    Ok(
        sqlx::query_as("SELECT change_version, oldest_change FROM heads WHERE id = 1")
            .fetch_one(connection)
            .await?,
    )
}
