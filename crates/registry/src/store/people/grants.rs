//! Rows of grants, their refresh tokens, and denied access tokens.

use keywright_domain::people::{EndReason, Sealed, TokenDigest};
use sqlx::AnyConnection;

use super::super::secrets::damaged;
use super::super::{heads, many};
use super::{blob, digest, scopes};
use crate::RegistryError;
use crate::people::grants::{
    Denial, DenialKind, DenialPlace, Grant, GrantOrigin, GrantSignIn, NewDenial,
};
use crate::people::page::Position;
use crate::writer::Rotated;

macro_rules! columns {
    () => {
        "SELECT id, user_id, client_id, session_id, origin, scopes, resource, dpop_jkt, user_agent, \
         network, created_at, last_used_at, expires_at, revoked_at, revoked_by, revoke_reason, \
         authenticated_at, acr, amr FROM grants WHERE "
    };
}

#[derive(sqlx::FromRow)]
struct GrantRow {
    id: String,
    user_id: String,
    client_id: String,
    session_id: Option<String>,
    origin: String,
    scopes: String,
    resource: Option<String>,
    dpop_jkt: Option<String>,
    user_agent: String,
    network: String,
    created_at: i64,
    last_used_at: i64,
    expires_at: i64,
    revoked_at: Option<i64>,
    revoked_by: Option<String>,
    revoke_reason: Option<String>,
    authenticated_at: Option<i64>,
    acr: Option<String>,
    amr: Option<String>,
}

impl GrantRow {
    fn into_grant(self) -> Result<Grant, RegistryError> {
        let reason = |text: &str| EndReason::parse(text).ok_or_else(|| damaged("grant's end"));
        Ok(Grant {
            id: self.id,
            user_id: self.user_id,
            client_id: self.client_id,
            session_id: self.session_id,
            origin: GrantOrigin::parse(&self.origin).ok_or_else(|| damaged("grant's origin"))?,
            scopes: scopes(&self.scopes)?,
            resource: self.resource,
            dpop_jkt: self.dpop_jkt,
            user_agent: self.user_agent,
            network: self.network,
            sign_in: self.authenticated_at.map(|authenticated_at| GrantSignIn {
                authenticated_at,
                acr: self.acr.unwrap_or_default(),
                amr: self.amr.unwrap_or_default(),
            }),
            created_at: self.created_at,
            last_used_at: self.last_used_at,
            expires_at: self.expires_at,
            revoked_at: self.revoked_at,
            revoked_by: self.revoked_by,
            revoke_reason: self.revoke_reason.as_deref().map(reason).transpose()?,
        })
    }
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    grant: &Grant,
) -> Result<(), RegistryError> {
    let sign_in = grant.sign_in.as_ref();
    sqlx::query(
        "INSERT INTO grants (id, user_id, client_id, session_id, origin, scopes, resource, dpop_jkt, \
         user_agent, network, created_at, last_used_at, expires_at, authenticated_at, acr, amr) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
    )
    .bind(grant.id.clone())
    .bind(grant.user_id.clone())
    .bind(grant.client_id.clone())
    .bind(grant.session_id.clone())
    .bind(grant.origin.as_str())
    .bind(grant.scopes.to_string())
    .bind(grant.resource.clone())
    .bind(grant.dpop_jkt.clone())
    .bind(grant.user_agent.clone())
    .bind(grant.network.clone())
    .bind(grant.created_at)
    .bind(grant.last_used_at)
    .bind(grant.expires_at)
    .bind(sign_in.map(|one| one.authenticated_at))
    .bind(sign_in.map(|one| one.acr.clone()))
    .bind(sign_in.map(|one| one.amr.clone()))
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<Grant>, RegistryError> {
    if crate::store::is_no_id(id) {
        return Ok(None);
    }
    let row: Option<GrantRow> = sqlx::query_as(concat!(columns!(), "id = $1"))
        .bind(id.to_owned())
        .fetch_optional(connection)
        .await?;
    row.map(GrantRow::into_grant).transpose()
}

/// Grants of a user that still give something, newest first.
pub(crate) async fn list_of_user(
    connection: &mut AnyConnection,
    user_id: &str,
    now: i64,
    after: &Position,
    limit: i64,
) -> Result<Vec<Grant>, RegistryError> {
    let rows: Vec<GrantRow> = sqlx::query_as(concat!(
        columns!(),
        "user_id = $1 AND (created_at, id) < ($2, $3) AND revoked_at IS NULL AND expires_at > $4 \
         ORDER BY created_at DESC, id DESC LIMIT $5"
    ))
    .bind(user_id.to_owned())
    .bind(after.number)
    .bind(after.id.clone())
    .bind(now)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(GrantRow::into_grant).collect()
}

/// Whether a client has or had a grant of a user, and whether one of them still gives something.
pub(crate) async fn has_of_consent(
    connection: &mut AnyConnection,
    user_id: &str,
    client_id: &str,
) -> Result<(bool, bool), RegistryError> {
    let (any, live): (i64, i64) = sqlx::query_as(
        "SELECT COUNT(*), COUNT(CASE WHEN revoked_at IS NULL THEN 1 END) FROM grants \
         WHERE user_id = $1 AND client_id = $2",
    )
    .bind(user_id.to_owned())
    .bind(client_id.to_owned())
    .fetch_one(connection)
    .await?;
    Ok((any != 0, live != 0))
}

/// Sessions that are one sign-in of a user by a client's own pages.
pub(crate) async fn own_sessions(
    connection: &mut AnyConnection,
    user_id: &str,
    client_id: &str,
) -> Result<Vec<String>, RegistryError> {
    Ok(sqlx::query_scalar(
        "SELECT session_id FROM grants WHERE user_id = $1 AND client_id = $2 AND origin = $3 \
         AND session_id IS NOT NULL AND revoked_at IS NULL",
    )
    .bind(user_id.to_owned())
    .bind(client_id.to_owned())
    .bind(GrantOrigin::SignIn.as_str())
    .fetch_all(connection)
    .await?)
}

/// Which grants are revoked together.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Revoked<'a> {
    One(&'a str),
    OfUser(&'a str),
    /// Of a user, but not those of this session.
    OfUserBut(&'a str, &'a str),
    /// Of sessions of a user that ended at this very moment.
    OfEndedSessions(&'a str),
    /// The same without those that applications have for the time when the person is away.
    OnlineOfEndedSessions(&'a str),
    OfClient(&'a str),
    OfConsent(&'a str, &'a str),
    All,
}

/// Revokes grants and puts them on the deny list until no access token of theirs can be left.
/// Returns how many.
pub(crate) async fn revoke(
    connection: &mut AnyConnection,
    which: Revoked<'_>,
    (now, by, reason): (i64, &str, EndReason),
    denied_until: i64,
) -> Result<usize, RegistryError> {
    macro_rules! revoke_sql {
        ($which:literal) => {
            concat!(
                "UPDATE grants SET revoked_at = $1, revoked_by = $2, revoke_reason = $3 \
                 WHERE revoked_at IS NULL AND ",
                $which,
                " RETURNING id"
            )
        };
    }
    let (sql, first, second) = match which {
        Revoked::One(id) => (revoke_sql!("id = $4"), id, None),
        Revoked::OfUser(user) => (revoke_sql!("user_id = $4"), user, None),
        Revoked::OfUserBut(user, session) => (
            revoke_sql!("user_id = $4 AND (session_id IS NULL OR session_id <> $5)"),
            user,
            Some(session),
        ),
        Revoked::OfClient(client) => (revoke_sql!("client_id = $4"), client, None),
        Revoked::OfEndedSessions(user) => (
            revoke_sql!(
                "session_id IN (SELECT id FROM sessions WHERE user_id = $4 AND ended_at = $1)"
            ),
            user,
            None,
        ),
        Revoked::OnlineOfEndedSessions(user) => (
            revoke_sql!(
                "session_id IN (SELECT id FROM sessions WHERE user_id = $4 AND ended_at = $1) \
                 AND (origin = 'sign_in' \
                 OR ' ' || scopes || ' ' NOT LIKE '% offline!_access %' ESCAPE '!')"
            ),
            user,
            None,
        ),
        // No id is longer than nothing: the parameter has its place.
        Revoked::All => (revoke_sql!("id > $4"), "", None),
        Revoked::OfConsent(user, client) => (
            revoke_sql!("user_id = $4 AND client_id = $5"),
            user,
            Some(client),
        ),
    };
    let mut query = sqlx::query_scalar(sql)
        .bind(now)
        .bind(by.to_owned())
        .bind(reason.as_str())
        .bind(first.to_owned());
    if let Some(second) = second {
        query = query.bind(second.to_owned());
    }
    let ids: Vec<String> = query.fetch_all(&mut *connection).await?;
    deny_all(connection, DenialKind::Grant, &ids, now, denied_until).await?;
    Ok(ids.len())
}

/// Takes what is left of sessions of a user that ended at this very moment out of them.
pub(crate) async fn leave_ended_sessions(
    connection: &mut AnyConnection,
    user_id: &str,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE grants SET session_id = NULL WHERE revoked_at IS NULL AND session_id IN \
         (SELECT id FROM sessions WHERE user_id = $1 AND ended_at = $2)",
    )
    .bind(user_id.to_owned())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

#[derive(Clone, Debug)]
pub(crate) struct TokenRow {
    pub(crate) grant_id: String,
    pub(crate) parent: Option<TokenDigest>,
    pub(crate) idle_expires_at: i64,
    pub(crate) rotated_at: Option<i64>,
    pub(crate) sealed_successor: Option<Sealed>,
    /// Whether the successor was not rotated itself.
    pub(crate) successor_is_current: bool,
}

macro_rules! token_columns {
    () => {
        "SELECT t.digest, t.grant_id, t.parent, t.idle_expires_at, t.rotated_at, t.sealed_successor, \
         (SELECT COUNT(*) FROM refresh_tokens s WHERE s.digest = t.successor AND s.rotated_at IS NULL) \
         FROM refresh_tokens t WHERE t.digest "
    };
}

type StoredToken = (
    Vec<u8>,
    String,
    Option<Vec<u8>>,
    i64,
    Option<i64>,
    Option<Vec<u8>>,
    i64,
);

fn token_row(row: StoredToken) -> Result<(TokenDigest, TokenRow), RegistryError> {
    let (own, grant_id, parent, idle_expires_at, rotated_at, sealed, current) = row;
    let token = TokenRow {
        grant_id,
        parent: parent.as_deref().map(digest).transpose()?,
        idle_expires_at,
        rotated_at,
        sealed_successor: sealed.map(Sealed::new),
        successor_is_current: current != 0,
    };
    Ok((digest(&own)?, token))
}

pub(crate) async fn find_token(
    connection: &mut AnyConnection,
    token: &TokenDigest,
) -> Result<Option<TokenRow>, RegistryError> {
    let row: Option<StoredToken> = sqlx::query_as(concat!(token_columns!(), "= $1"))
        .bind(blob(token))
        .fetch_optional(connection)
        .await?;
    Ok(row.map(token_row).transpose()?.map(|(_, token)| token))
}

/// Those of some tokens that exist.
pub(crate) async fn find_tokens(
    connection: &mut AnyConnection,
    tokens: &[TokenDigest],
) -> Result<Vec<(TokenDigest, TokenRow)>, RegistryError> {
    let mut found = Vec::with_capacity(tokens.len());
    for part in many::parts(tokens) {
        let sql = many::rows(connection, concat!(token_columns!(), "IN "), 1, part.len());
        let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
        for token in part {
            query = query.bind(blob(token));
        }
        let rows: Vec<StoredToken> = query.fetch_all(&mut *connection).await?;
        for row in rows {
            found.push(token_row(row)?);
        }
    }
    Ok(found)
}

/// Those of some grants that exist.
pub(crate) async fn find_all(
    connection: &mut AnyConnection,
    ids: &[String],
) -> Result<Vec<Grant>, RegistryError> {
    let mut found = Vec::with_capacity(ids.len());
    for part in many::parts(ids) {
        let sql = many::rows(connection, concat!(columns!(), "id IN "), 1, part.len());
        let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
        for id in part {
            query = query.bind(id.clone());
        }
        let rows: Vec<GrantRow> = query.fetch_all(&mut *connection).await?;
        for row in rows {
            found.push(row.into_grant()?);
        }
    }
    Ok(found)
}

pub(crate) async fn insert_token(
    connection: &mut AnyConnection,
    token: &TokenDigest,
    grant_id: &str,
    parent: Option<&TokenDigest>,
    now: i64,
    idle_expires_at: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO refresh_tokens (digest, grant_id, parent, created_at, idle_expires_at) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(blob(token))
    .bind(grant_id.to_owned())
    .bind(parent.map(blob))
    .bind(now)
    .bind(idle_expires_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Marks a grant, if it was not since a moment. True for who was first.
pub(crate) async fn mark_unusual(
    connection: &mut AnyConnection,
    id: &str,
    now: i64,
    since: i64,
) -> Result<bool, RegistryError> {
    let done: Option<String> = sqlx::query_scalar(
        "UPDATE grants SET unusual_at = $1 WHERE id = $2 \
         AND (unusual_at IS NULL OR unusual_at <= $3) RETURNING id",
    )
    .bind(now)
    .bind(id.to_owned())
    .bind(since)
    .fetch_optional(connection)
    .await?;
    Ok(done.is_some())
}

/// Uses a token that stays: it, and when it is too idle; its grant, when it was used and where from.
pub(crate) async fn keep_token(
    connection: &mut AnyConnection,
    (token, idle_expires_at): (&TokenDigest, i64),
    (grant_id, now, network): (&str, i64, String),
) -> Result<(), RegistryError> {
    let sql =
        "UPDATE refresh_tokens SET idle_expires_at = $1 WHERE digest = $2 AND rotated_at IS NULL";
    sqlx::query(sql)
        .bind(idle_expires_at)
        .bind(blob(token))
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE grants SET last_used_at = $1, network = $2 WHERE id = $3")
        .bind(now)
        .bind(network)
        .bind(grant_id.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

/// Puts tokens behind others, the first time only: a token that was rotated before is an error, and
/// whoever holds the writer's lock has looked before.
pub(crate) async fn rotate_tokens(
    connection: &mut AnyConnection,
    rotated: &[Rotated],
    now: i64,
) -> Result<(), RegistryError> {
    for part in many::parts(rotated) {
        rotate_part(connection, part, now).await?;
    }
    Ok(())
}

async fn rotate_part(
    connection: &mut AnyConnection,
    part: &[Rotated],
    now: i64,
) -> Result<(), RegistryError> {
    let head = "UPDATE refresh_tokens SET successor = v.column2, sealed_successor = v.column3, \
                rotated_at = v.column4 FROM (VALUES ";
    let sql = many::rows(connection, head, part.len(), 4)
        + ") AS v WHERE refresh_tokens.digest = v.column1 AND refresh_tokens.rotated_at IS NULL";
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
    for one in part {
        query = query
            .bind(blob(&one.presented))
            .bind(blob(&one.successor))
            .bind(one.sealed_successor.as_bytes().to_vec())
            .bind(now);
    }
    // The one statement that decides who is first.
    let done = query.execute(&mut *connection).await?.rows_affected();
    if usize::try_from(done) != Ok(part.len()) {
        return Err(RegistryError::Store(
            "a refresh token was rotated by somebody else meanwhile".into(),
        ));
    }
    let head = "INSERT INTO refresh_tokens (digest, grant_id, parent, created_at, idle_expires_at) VALUES ";
    let sql = many::rows(connection, head, part.len(), 5);
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
    for one in part {
        query = query
            .bind(blob(&one.successor))
            .bind(one.grant_id.clone())
            .bind(blob(&one.presented))
            .bind(now)
            .bind(one.idle_expires_at);
    }
    query.execute(&mut *connection).await?;
    let parents: Vec<&TokenDigest> = part.iter().filter_map(|one| one.parent.as_ref()).collect();
    for part in many::parts(&parents) {
        // Their successors were used, so nobody needs those from here again.
        let head = "UPDATE refresh_tokens SET sealed_successor = NULL WHERE digest IN ";
        let sql = many::rows(connection, head, 1, part.len());
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for parent in part {
            query = query.bind(blob(parent));
        }
        query.execute(&mut *connection).await?;
    }
    let head = "UPDATE grants SET last_used_at = v.column2, network = v.column3 FROM (VALUES ";
    let sql = many::rows(connection, head, part.len(), 3) + ") AS v WHERE grants.id = v.column1";
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
    for one in part {
        query = query
            .bind(one.grant_id.clone())
            .bind(now)
            .bind(one.network.clone());
    }
    query.execute(connection).await?;
    Ok(())
}

/// Removes what may be redeemed once: codes, and what devices wait for.
pub(crate) async fn remove_codes(connection: &mut AnyConnection) -> Result<(), RegistryError> {
    for statement in [
        "DELETE FROM authorization_codes WHERE used_at IS NULL",
        "DELETE FROM device_codes",
    ] {
        sqlx::query(statement).execute(&mut *connection).await?;
    }
    Ok(())
}

pub(crate) async fn deny_all(
    connection: &mut AnyConnection,
    kind: DenialKind,
    values: &[String],
    now: i64,
    until: i64,
) -> Result<(), RegistryError> {
    const COLUMNS: usize = 5;
    if values.is_empty() {
        return Ok(());
    }
    let written = heads::writes(connection).await?;
    for part in values.chunks(many::MOST) {
        let head = "INSERT INTO denials (kind, value, denied_at, expires_at, written) VALUES ";
        let tail = " ON CONFLICT (kind, value) DO UPDATE SET written = excluded.written, expires_at = \
                    CASE WHEN excluded.expires_at > denials.expires_at THEN excluded.expires_at \
                    ELSE denials.expires_at END";
        let sql = many::values(head, part.len(), COLUMNS) + tail;
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for value in part {
            query = query
                .bind(kind.as_str())
                .bind(value.clone())
                .bind(now)
                .bind(until)
                .bind(written);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

pub(crate) async fn is_denied(
    connection: &mut AnyConnection,
    jti: &str,
    sid: &str,
    grant_id: &str,
    now: i64,
) -> Result<bool, RegistryError> {
    let found: Option<String> = sqlx::query_scalar(
        "SELECT value FROM denials WHERE expires_at > $4 AND ((kind = 'token' AND value = $1) \
         OR (kind = 'session' AND value = $2) OR (kind = 'grant' AND value = $3)) LIMIT 1",
    )
    .bind(jti.to_owned())
    .bind(sid.to_owned())
    .bind(grant_id.to_owned())
    .bind(now)
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// How much is denied at `now`.
pub(crate) async fn count_denials(
    connection: &mut AnyConnection,
    now: i64,
) -> Result<i64, RegistryError> {
    let count = sqlx::query_scalar("SELECT COUNT(*) FROM denials WHERE expires_at > $1")
        .bind(now)
        .fetch_one(connection)
        .await?;
    Ok(count)
}

const LIST_DENIALS: &str = "SELECT kind, value, denied_at, expires_at FROM denials \
     WHERE (expires_at, kind, value) > ($1, $2, $3) ORDER BY expires_at, kind, value LIMIT $4";

/// What is denied at `now`, behind a place, in the order in which it ends. An end only moves away, so what
/// moves while pages are read is found once more, and nothing that was there is missed.
pub(crate) async fn list_denials(
    connection: &mut AnyConnection,
    now: i64,
    after: &Position,
    limit: i64,
) -> Result<Vec<Denial>, RegistryError> {
    // Kinds are never empty: the first of a moment is behind it.
    let (from, kind, value) = if after.number > now {
        (after.number, after.text.as_str(), after.id.as_str())
    } else {
        (now.saturating_add(1), "", "")
    };
    let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(LIST_DENIALS)
        .bind(from)
        .bind(kind.to_owned())
        .bind(value.to_owned())
        .bind(limit)
        .fetch_all(connection)
        .await?;
    rows.into_iter()
        .map(|(kind, value, denied_at, expires_at)| {
            Ok(Denial {
                kind: DenialKind::parse(&kind).ok_or_else(|| damaged("denial's kind"))?,
                value,
                denied_at,
                expires_at,
            })
        })
        .collect()
}

const NEW_DENIALS: &str = "SELECT kind, value, written FROM denials \
     WHERE (written, kind, value) > ($1, $2, $3) ORDER BY written, kind, value LIMIT $4";

/// What was denied behind a place, in the order of commits.
pub(crate) async fn new_denials(
    connection: &mut AnyConnection,
    after: &DenialPlace,
    limit: i64,
) -> Result<Vec<NewDenial>, RegistryError> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(NEW_DENIALS)
        .bind(after.written)
        .bind(after.kind.to_owned())
        .bind(after.value.clone())
        .bind(limit)
        .fetch_all(connection)
        .await?;
    rows.into_iter()
        .map(|(kind, value, written)| {
            let kind = DenialKind::parse(&kind).ok_or_else(|| damaged("denial's kind"))?;
            let place = DenialPlace {
                written,
                kind: kind.as_str(),
                value: value.clone(),
            };
            Ok(NewDenial { kind, value, place })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use sqlx::{AnyConnection, Connection as _};

    use super::{LIST_DENIALS, NEW_DENIALS};
    use crate::{Clock, LocalRegistry};

    /// Read each second: no row that is over, and none twice to put them in order.
    #[tokio::test]
    async fn denials_are_read_along_their_index() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("registry.db");
        let registry = LocalRegistry::open(&file, Clock::from_fn(|| 0)).await?;
        let mut stranger = AnyConnection::connect(&format!("sqlite://{}", file.display())).await?;
        for (sql, wanted) in [
            (LIST_DENIALS, "INDEX denials_by_expiry ("),
            (NEW_DENIALS, "COVERING INDEX denials_by_writing ("),
        ] {
            let sql = format!("EXPLAIN QUERY PLAN {sql}");
            let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
                .bind(1_i64)
                .bind("")
                .bind("")
                .bind(501_i64)
                .fetch_all(&mut stranger)
                .await?;
            let [(.., step)] = &*plan else {
                anyhow::bail!("{plan:?}");
            };
            let wanted = format!("SEARCH denials USING {wanted}");
            anyhow::ensure!(step.starts_with(&wanted), "{step}");
        }
        registry.close().await;
        Ok(())
    }
}
