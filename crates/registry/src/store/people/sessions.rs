//! Rows of sessions, and of the clients signed in through them.

use keywright_domain::people::{EndReason, Session, TokenDigest};
use sqlx::AnyConnection;

use super::super::many;
use super::super::secrets::damaged;
use super::blob;
use crate::RegistryError;
use crate::people::page::Position;

macro_rules! columns {
    () => {
        "SELECT id, user_id, created_at, authenticated_at, proven_at, last_seen_at, idle_ms, expires_at, acr, amr, \
         user_agent, network, ended_at, ended_by, end_reason FROM sessions WHERE "
    };
}

#[derive(sqlx::FromRow)]
struct SessionRow {
    id: String,
    user_id: String,
    created_at: i64,
    authenticated_at: i64,
    proven_at: i64,
    last_seen_at: i64,
    idle_ms: i64,
    expires_at: i64,
    acr: String,
    amr: String,
    user_agent: String,
    network: String,
    ended_at: Option<i64>,
    ended_by: Option<String>,
    end_reason: Option<String>,
}

impl SessionRow {
    fn into_session(self) -> Result<Session, RegistryError> {
        let reason = |text: &str| EndReason::parse(text).ok_or_else(|| damaged("session's end"));
        Ok(Session {
            id: self.id,
            user_id: self.user_id,
            created_at: self.created_at,
            authenticated_at: self.authenticated_at,
            proven_at: self.proven_at,
            last_seen_at: self.last_seen_at,
            idle_ms: self.idle_ms,
            expires_at: self.expires_at,
            acr: self.acr,
            amr: self.amr,
            user_agent: self.user_agent,
            network: self.network,
            ended_at: self.ended_at,
            ended_by: self.ended_by,
            end_reason: self.end_reason.as_deref().map(reason).transpose()?,
        })
    }
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    session: &Session,
    digest: &TokenDigest,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO sessions (id, digest, user_id, created_at, authenticated_at, last_seen_at, \
         idle_ms, expires_at, gone_at, acr, amr, user_agent, network, proven_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(session.id.clone())
    .bind(blob(digest))
    .bind(session.user_id.clone())
    .bind(session.created_at)
    .bind(session.authenticated_at)
    .bind(session.last_seen_at)
    .bind(session.idle_ms)
    .bind(session.expires_at)
    .bind(session.runs_out_at())
    .bind(session.acr.clone())
    .bind(session.amr.clone())
    .bind(session.user_agent.clone())
    .bind(session.network.clone())
    .bind(session.proven_at)
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<Session>, RegistryError> {
    if crate::store::is_no_id(id) {
        return Ok(None);
    }
    let row: Option<SessionRow> = sqlx::query_as(concat!(columns!(), "id = $1"))
        .bind(id.to_owned())
        .fetch_optional(connection)
        .await?;
    row.map(SessionRow::into_session).transpose()
}

pub(crate) async fn find_by_digest(
    connection: &mut AnyConnection,
    digest: &TokenDigest,
) -> Result<Option<Session>, RegistryError> {
    let row: Option<SessionRow> = sqlx::query_as(concat!(columns!(), "digest = $1"))
        .bind(blob(digest))
        .fetch_optional(connection)
        .await?;
    row.map(SessionRow::into_session).transpose()
}

/// Writes a session as seen. False if it is over, or another request was first.
pub(crate) async fn touch(
    connection: &mut AnyConnection,
    id: &str,
    now: i64,
    seen_before: i64,
    network: &str,
) -> Result<bool, RegistryError> {
    let done: Option<String> = sqlx::query_scalar(
        "UPDATE sessions SET last_seen_at = $1, network = $2, \
         gone_at = CASE WHEN $1 + idle_ms < expires_at THEN $1 + idle_ms ELSE expires_at END \
         WHERE id = $3 AND last_seen_at = $4 AND ended_at IS NULL AND gone_at > $1 RETURNING id",
    )
    .bind(now)
    .bind(network.to_owned())
    .bind(id.to_owned())
    .bind(seen_before)
    .fetch_optional(connection)
    .await?;
    Ok(done.is_some())
}

/// Gives a session another token. False if it is over or has another one by now.
pub(crate) async fn renew(
    connection: &mut AnyConnection,
    old: &TokenDigest,
    new: &TokenDigest,
    session: &Session,
    now: i64,
) -> Result<bool, RegistryError> {
    let done: Option<String> = sqlx::query_scalar(
        "UPDATE sessions SET digest = $1, acr = $2, amr = $3, authenticated_at = $4, \
         last_seen_at = $5, gone_at = $6, proven_at = $8 WHERE digest = $7 AND ended_at IS NULL AND gone_at > $5 \
         RETURNING id",
    )
    .bind(blob(new))
    .bind(session.acr.clone())
    .bind(session.amr.clone())
    .bind(session.authenticated_at)
    .bind(now)
    .bind(session.runs_out_at())
    .bind(blob(old))
    .bind(session.proven_at)
    .fetch_optional(connection)
    .await?;
    Ok(done.is_some())
}

/// Ends live sessions of a user: one, or all but one. Returns their ids.
pub(crate) async fn end(
    connection: &mut AnyConnection,
    user_id: &str,
    (only, but): (&str, &str),
    (now, by, reason): (i64, &str, EndReason),
) -> Result<Vec<String>, RegistryError> {
    Ok(sqlx::query_scalar(
        "UPDATE sessions SET ended_at = $1, gone_at = $1, ended_by = $2, end_reason = $3 \
         WHERE user_id = $4 AND ($5 = '' OR id = $5) AND id <> $6 AND ended_at IS NULL \
         AND gone_at > $1 RETURNING id",
    )
    .bind(now)
    .bind(by.to_owned())
    .bind(reason.as_str())
    .bind(user_id.to_owned())
    .bind(only.to_owned())
    .bind(but.to_owned())
    .fetch_all(connection)
    .await?)
}

/// Whether a user has a live session: one, or any but one.
pub(crate) async fn has_live(
    connection: &mut AnyConnection,
    user_id: &str,
    (only, but): (&str, &str),
    now: i64,
) -> Result<bool, RegistryError> {
    let found: Option<String> = sqlx::query_scalar(
        "SELECT id FROM sessions WHERE user_id = $1 AND ($2 = '' OR id = $2) AND id <> $3 \
         AND ended_at IS NULL AND gone_at > $4 LIMIT 1",
    )
    .bind(user_id.to_owned())
    .bind(only.to_owned())
    .bind(but.to_owned())
    .bind(now)
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// Writes down that sessions ran out, oldest first. Returns how many.
pub(crate) async fn settle(
    connection: &mut AnyConnection,
    now: i64,
    limit: i64,
) -> Result<u64, RegistryError> {
    let done = sqlx::query(
        "UPDATE sessions SET ended_at = gone_at, ended_by = 'keywright', end_reason = 'expired' \
         WHERE id IN (SELECT id FROM sessions WHERE ended_at IS NULL AND gone_at <= $1 \
         ORDER BY gone_at LIMIT $2)",
    )
    .bind(now)
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Sessions of a user, newest first; `live_at` 0 for all of them.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    user_id: &str,
    live_at: i64,
    after: &Position,
    limit: i64,
) -> Result<Vec<Session>, RegistryError> {
    let rows: Vec<SessionRow> = sqlx::query_as(concat!(
        columns!(),
        "user_id = $1 AND (created_at, id) < ($2, $3) \
         AND ($4 = 0 OR (ended_at IS NULL AND gone_at > $4)) \
         ORDER BY created_at DESC, id DESC LIMIT $5"
    ))
    .bind(user_id.to_owned())
    .bind(after.number)
    .bind(after.id.clone())
    .bind(live_at)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(SessionRow::into_session).collect()
}

pub(crate) async fn put_client(
    connection: &mut AnyConnection,
    session_id: &str,
    client_id: &str,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO session_clients (session_id, client_id, first_at, last_at) \
         VALUES ($1, $2, $3, $3) ON CONFLICT (session_id, client_id) DO UPDATE SET \
         last_at = excluded.last_at",
    )
    .bind(session_id.to_owned())
    .bind(client_id.to_owned())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn list_clients(
    connection: &mut AnyConnection,
    session_id: &str,
) -> Result<Vec<String>, RegistryError> {
    Ok(sqlx::query_scalar(
        "SELECT client_id FROM session_clients WHERE session_id = $1 ORDER BY client_id",
    )
    .bind(session_id.to_owned())
    .fetch_all(connection)
    .await?)
}

/// Of some sessions, the clients that are told of their end: session and client.
pub(crate) async fn list_logouts(
    connection: &mut AnyConnection,
    sessions: &[String],
) -> Result<Vec<(String, String)>, RegistryError> {
    let mut found = Vec::new();
    for part in many::parts(sessions) {
        let head = "SELECT s.session_id, s.client_id FROM session_clients s \
                    JOIN clients c ON c.id = s.client_id \
                    WHERE c.backchannel_logout_uri IS NOT NULL AND s.session_id IN ";
        let sql = many::rows(connection, head, 1, part.len());
        let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
        for id in part {
            query = query.bind(id.clone());
        }
        let rows: Vec<(String, String)> = query.fetch_all(&mut *connection).await?;
        found.extend(rows);
    }
    Ok(found)
}

/// Sessions of a user that a client is in and that nobody ended, and whether it is told of such things.
pub(crate) async fn list_of_client(
    connection: &mut AnyConnection,
    user_id: &str,
    client_id: &str,
) -> Result<Vec<(String, bool)>, RegistryError> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT s.id, CASE WHEN c.backchannel_logout_uri IS NULL THEN 0 ELSE 1 END \
         FROM sessions s JOIN session_clients i ON i.session_id = s.id \
         JOIN clients c ON c.id = i.client_id \
         WHERE s.user_id = $1 AND i.client_id = $2 AND s.ended_at IS NULL",
    )
    .bind(user_id.to_owned())
    .bind(client_id.to_owned())
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|(id, told)| (id, told != 0)).collect())
}

/// Takes a client out of the sessions of a user.
pub(crate) async fn remove_client(
    connection: &mut AnyConnection,
    user_id: &str,
    client_id: &str,
) -> Result<(), RegistryError> {
    sqlx::query(
        "DELETE FROM session_clients WHERE client_id = $1 \
         AND session_id IN (SELECT id FROM sessions WHERE user_id = $2)",
    )
    .bind(client_id.to_owned())
    .bind(user_id.to_owned())
    .execute(connection)
    .await?;
    Ok(())
}
