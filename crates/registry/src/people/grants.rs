//! Grants: what one authorization gave one client. Revoking one ends its refresh tokens and puts
//! its access tokens on the deny list.

use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::{
    ACCESS_KEPT_MS, ACCESS_LEEWAY_MS, Client, ClientType, EndReason, OAuthScopes, PeopleError,
    RefreshLives, Session, TokenDigest,
};

use super::page::{self, Page, Position};
use super::sessions::{self, NewSession};
use super::{about, clients, foreign};
use crate::store::audit::NewEvent;
use crate::store::people::grants::Revoked;
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

/// Unusual use of a grant is written down this often at most.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A grant, without its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Stable id: access tokens carry it.
    pub id: String,
    /// Who gave it.
    pub user_id: String,
    /// Who has it.
    pub client_id: String,
    /// The session it was given in; none where it is in none, or outlived it.
    pub session_id: Option<String>,
    /// How it came about.
    pub origin: GrantOrigin,
    /// What it allows: never more.
    pub scopes: OAuthScopes,
    /// For which resource (RFC 8707).
    pub resource: Option<String>,
    /// Thumbprint of the key that its refresh tokens are bound to; of public clients only (RFC 9449 §5).
    pub dpop_jkt: Option<String>,
    /// What the program that has it says it is.
    pub user_agent: String,
    /// Where it was last used from.
    pub network: String,
    /// The sign-in that it came from; none where that is not known.
    pub sign_in: Option<GrantSignIn>,
    /// Unix ms.
    pub created_at: i64,
    /// Latest refresh.
    pub last_used_at: i64,
    /// When it ends in any case.
    pub expires_at: i64,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
    /// By whom.
    pub revoked_by: Option<String>,
    /// Why.
    pub revoke_reason: Option<EndReason>,
}

/// The sign-in that a grant came from: what tokens say of it, at each refresh too (OpenID Connect Core
/// §12.2, RFC 9068 §2.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantSignIn {
    /// When (Unix ms).
    pub authenticated_at: i64,
    /// At which level.
    pub acr: String,
    /// In which ways (RFC 8176), separated by single spaces.
    pub amr: String,
}

impl GrantSignIn {
    /// Of a session as it is now.
    pub(super) fn of(session: &Session) -> Self {
        Self {
            authenticated_at: session.authenticated_at,
            acr: session.acr.clone(),
            amr: session.amr.clone(),
        }
    }
}

/// How a grant came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantOrigin {
    /// By an authorization code.
    Code,
    /// By a device code.
    Device,
    /// By a sign-in of a browser client, without a page of ours.
    SignIn,
}

impl GrantOrigin {
    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Device => "device",
            Self::SignIn => "sign_in",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Code, Self::Device, Self::SignIn]
            .into_iter()
            .find(|origin| origin.as_str() == text)
    }
}

/// A grant that a person begins by a sign-in of a browser client, in a session of its own: by that it is
/// seen and ended.
#[derive(Clone, Debug)]
pub struct NewGrant {
    /// The session: who, how, with what, from where.
    pub session: NewSession,
    /// Who has it.
    pub client_id: String,
    /// What it allows: no more than the client may ask for.
    pub scopes: OAuthScopes,
    /// Of the refresh token.
    pub refresh_token: TokenDigest,
    /// How long refresh tokens live.
    pub lives: RefreshLives,
}

/// What a denial is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenialKind {
    /// One access token, by its `jti`.
    Token,
    /// All of a session, by its `sid`.
    Session,
    /// All of a grant.
    Grant,
}

impl DenialKind {
    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Session => "session",
            Self::Grant => "grant",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Token, Self::Session, Self::Grant]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// Access tokens that end before their time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What `value` is.
    pub kind: DenialKind,
    /// The `jti`, the `sid` or the grant's id.
    pub value: String,
    /// Unix ms.
    pub denied_at: i64,
    /// None of them is left after this moment.
    pub expires_at: i64,
}

/// A place in the deny list in the order of commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenialPlace {
    pub(crate) written: i64,
    pub(crate) kind: &'static str,
    pub(crate) value: String,
}

/// One that was denied since somebody looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDenial {
    /// What `value` is.
    pub kind: DenialKind,
    /// The `jti`, the `sid` or the grant's id.
    pub value: String,
    /// Where to go on.
    pub place: DenialPlace,
}

impl LocalRegistry {
    /// Begins a grant, and its session, after a person proved who they are to a browser client.
    ///
    /// # Errors
    /// [`PeopleError::UserNotFound`], [`PeopleError::UserDisabled`], [`PeopleError::ClientNotFound`];
    /// [`PeopleError::Client`] for a client that may not have it.
    pub async fn begin_grant(
        &self,
        actor: &Actor,
        new: &NewGrant,
    ) -> Result<(Session, Grant), RegistryError> {
        let ids = (super::new_id(), super::new_id());
        let input = (actor.clone(), ids, new.clone());
        self.write(input, |unit, (actor, (session_id, id), new)| {
            Box::pin(async move {
                let now = unit.now();
                let client = clients::find(unit, &new.client_id).await?;
                if !client.may_use("refresh_token") {
                    return Err(PeopleError::Client("it may not use refresh tokens").into());
                }
                if !client.settings.scopes.contains_all(&new.scopes) {
                    return Err(PeopleError::Client("it may not ask for these scopes").into());
                }
                let session = sessions::begin(unit, actor, session_id, &new.session).await?;
                let grant = Grant {
                    id: id.clone(),
                    user_id: session.user_id.clone(),
                    client_id: client.id,
                    session_id: Some(session.id.clone()),
                    origin: GrantOrigin::SignIn,
                    scopes: new.scopes.clone(),
                    resource: None,
                    dpop_jkt: None,
                    user_agent: session.user_agent.clone(),
                    network: session.network.clone(),
                    sign_in: Some(GrantSignIn::of(&session)),
                    created_at: now,
                    last_used_at: now,
                    expires_at: now.saturating_add(new.lives.absolute_ms),
                    revoked_at: None,
                    revoked_by: None,
                    revoke_reason: None,
                };
                begin(unit, &grant, Some(&new.refresh_token), new.lives).await?;
                let action = AuditAction::GrantBegun;
                unit.audit(actor, about_grant(action, &grant, "given by a sign-in"));
                Ok((session, grant))
            })
        })
        .await
    }

    /// A grant.
    ///
    /// # Errors
    /// [`PeopleError::GrantNotFound`].
    pub async fn find_grant(&self, id: &str) -> Result<Grant, RegistryError> {
        store::people::grants::find(&mut *self.shared.pool.acquire().await?, id)
            .await?
            .ok_or_else(|| PeopleError::GrantNotFound.into())
    }

    /// The grant of a refresh token, for introspection and revocation; none for a stranger's.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn find_grant_of_token(
        &self,
        token: &TokenDigest,
    ) -> Result<Option<Grant>, RegistryError> {
        let connection = &mut *self.shared.pool.acquire().await?;
        match store::people::grants::find_token(connection, token).await? {
            Some(row) => store::people::grants::find(connection, &row.grant_id).await,
            None => Ok(None),
        }
    }

    /// The grant of a refresh token that would be taken now, for introspection (RFC 7662); none for
    /// one that was rotated, is idle for too long, or whose grant is over.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn find_grant_of_live_token(
        &self,
        token: &TokenDigest,
    ) -> Result<Option<Grant>, RegistryError> {
        let now = self.now();
        let connection = &mut *self.shared.pool.acquire().await?;
        let row = store::people::grants::find_token(connection, token).await?;
        let live = row.filter(|row| row.rotated_at.is_none() && row.idle_expires_at > now);
        let Some(row) = live else {
            return Ok(None);
        };
        let grant = store::people::grants::find(connection, &row.grant_id).await?;
        Ok(grant.filter(|grant| grant.revoked_at.is_none() && grant.expires_at > now))
    }

    /// One page of a user's grants that still give something, newest first.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`].
    pub async fn list_grants(
        &self,
        user_id: &str,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<Grant>, RegistryError> {
        let (after, limit) = (Position::read(cursor, true)?, page::limit(limit));
        let now = self.now();
        let connection = &mut *self.shared.pool.acquire().await?;
        let rows = store::people::grants::list_of_user(connection, user_id, now, &after, limit + 1)
            .await?;
        Ok(page::cut(rows, limit, |one| {
            Position::of(one.created_at, &one.id)
        }))
    }

    /// Revokes a grant with all its tokens. False if it was revoked before.
    ///
    /// # Errors
    /// [`PeopleError::GrantNotFound`].
    pub async fn revoke_grant(
        &self,
        actor: &Actor,
        id: &str,
        reason: EndReason,
    ) -> Result<bool, RegistryError> {
        self.write(
            (actor.clone(), id.to_owned(), reason),
            |unit, (actor, id, reason)| {
                Box::pin(async move {
                    let grant = find(unit, id).await?;
                    revoke(unit, actor, &grant, *reason, AuditAction::GrantRevoked).await
                })
            },
        )
        .await
    }

    /// Writes down that a grant is used in an unusual way, once a day. Returns whether it was written. The
    /// grant goes on.
    ///
    /// # Errors
    /// [`PeopleError::GrantNotFound`].
    pub async fn note_unusual_use(
        &self,
        actor: &Actor,
        id: &str,
        reasons: &str,
        user_agent: &str,
    ) -> Result<bool, RegistryError> {
        let said = (id.to_owned(), reasons.to_owned(), foreign(user_agent));
        let input = (actor.clone(), said);
        self.write_anyway(input, |unit, (actor, (id, reasons, user_agent))| {
            Box::pin(async move {
                let now = unit.now();
                let grant = find(unit, id).await?;
                let since = now.saturating_sub(DAY_MS);
                let connection = unit.write_beside();
                if !store::people::grants::mark_unusual(connection, id, now, since).await? {
                    return Ok(false);
                }
                let action = AuditAction::GrantUnusual;
                let mut event = about_grant(action, &grant, "used in an unusual way");
                event.details.push(("reasons", reasons.clone()));
                event.details.push(("user_agent", user_agent.clone()));
                event.details.push(("last_network", grant.network.clone()));
                event
                    .details
                    .push(("first_user_agent", grant.user_agent.clone()));
                unit.audit(actor, event);
                Ok(true)
            })
        })
        .await
    }

    /// Ends every refresh family, with the access tokens of it, and forgets codes that nobody redeemed:
    /// for a database that was put back from a backup. A refresh token that was used after the backup is
    /// unused in it, so whoever kept one could go on with the family beside the one who has its
    /// successor. Returns how many ended.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn end_refresh_families(&self, actor: &Actor) -> Result<usize, RegistryError> {
        self.write(actor.clone(), |unit, actor| {
            Box::pin(async move {
                let now = unit.now();
                let how = (now, actor.as_str(), EndReason::Revoked);
                let until = now.saturating_add(ACCESS_KEPT_MS);
                let ended =
                    store::people::grants::revoke(unit.write(), Revoked::All, how, until).await?;
                store::people::grants::remove_codes(unit.write()).await?;
                let mut event = NewEvent::about_registry(
                    AuditAction::GrantRevoked,
                    "All refresh families ended: the database was put back from a backup"
                        .to_owned(),
                );
                event.details.push(("families", ended.to_string()));
                unit.audit(actor, event);
                Ok(ended)
            })
        })
        .await
    }

    /// A client gives a refresh token back (RFC 7009 §2.1): the whole grant ends, and its access
    /// tokens with it (AC-095). False for a token that is unknown or another client's.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn revoke_refresh_token(
        &self,
        actor: &Actor,
        token: &TokenDigest,
        client_id: &str,
    ) -> Result<bool, RegistryError> {
        self.write(
            (actor.clone(), *token, client_id.to_owned()),
            |unit, (actor, token, client_id)| {
                Box::pin(async move {
                    let Some(row) = store::people::grants::find_token(unit.read(), token).await?
                    else {
                        return Ok(false);
                    };
                    let grant = find(unit, &row.grant_id).await?;
                    if grant.client_id != *client_id {
                        return Ok(false);
                    }
                    revoke(
                        unit,
                        actor,
                        &grant,
                        EndReason::Revoked,
                        AuditAction::GrantRevoked,
                    )
                    .await?;
                    Ok(true)
                })
            },
        )
        .await
    }

    /// Puts one access token on the deny list until it would have expired, and for the leeway of clocks.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn deny_access_token(
        &self,
        actor: &Actor,
        jti: &str,
        expires_at: i64,
    ) -> Result<(), RegistryError> {
        let input = (actor.clone(), foreign(jti), expires_at);
        self.write(input, |unit, (actor, jti, expires_at)| {
            Box::pin(async move {
                let now = unit.now();
                if expires_at.saturating_add(ACCESS_LEEWAY_MS) <= now {
                    return Ok(());
                }
                deny_token(unit, jti, *expires_at).await?;
                let target = ("access_token", jti.as_str(), jti.as_str());
                let summary = "An access token was put on the deny list".to_owned();
                let action = AuditAction::AccessTokenDenied;
                unit.audit(actor, about(action, target, summary, Vec::new()));
                Ok(())
            })
        })
        .await
    }

    /// Whether an access token is denied, by any of its ids; empty for one it does not have.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn is_access_denied(
        &self,
        jti: &str,
        sid: &str,
        grant_id: &str,
    ) -> Result<bool, RegistryError> {
        let now = self.now();
        let connection = &mut *self.shared.pool.acquire().await?;
        store::people::grants::is_denied(connection, jti, sid, grant_id, now).await
    }

    /// One page of the deny list, in the order in which it ends: what a verifier keeps in memory. One that
    /// is made longer while pages are read may come twice.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`].
    pub async fn list_denials(
        &self,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<Denial>, RegistryError> {
        let (after, limit) = (Position::read(cursor, false)?, page::limit(limit));
        let now = self.now();
        let connection = &mut *self.shared.pool.acquire().await?;
        let rows = store::people::grants::list_denials(connection, now, &after, limit + 1).await?;
        Ok(page::cut(rows, limit, |one| Position {
            number: one.expires_at,
            text: one.kind.as_str().to_owned(),
            id: one.value.clone(),
        }))
    }

    /// The end of the deny list in the order of commits: whoever reads all of it after this call, and then what
    /// is behind this place, misses nothing.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn end_of_denials(&self) -> Result<DenialPlace, RegistryError> {
        let connection = &mut *self.shared.pool.acquire().await?;
        let writes = store::heads::writes(connection).await?;
        Ok(DenialPlace {
            // Behind all rows of that write, and before any of the next: kinds are never empty.
            written: writes.saturating_add(1),
            kind: "",
            value: String::new(),
        })
    }

    /// What was denied behind a place, over or not, at most `limit` of it. None if the database is older than the
    /// place, as one that was put back from a backup is: everything has to be read anew then.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn new_denials(
        &self,
        after: &DenialPlace,
        limit: u32,
    ) -> Result<Option<Vec<NewDenial>>, RegistryError> {
        let connection = &mut *self.shared.pool.acquire().await?;
        if store::heads::writes(connection).await?.saturating_add(1) < after.written {
            return Ok(None);
        }
        let limit = page::limit(limit);
        store::people::grants::new_denials(connection, after, limit)
            .await
            .map(Some)
    }

    /// How many denials are in force.
    ///
    /// # Errors
    /// [`RegistryError`] if it cannot be read.
    pub async fn count_denials(&self) -> Result<i64, RegistryError> {
        let now = self.now();
        let connection = &mut *self.shared.pool.acquire().await?;
        store::people::grants::count_denials(connection, now).await
    }
}

pub(super) async fn find(unit: &mut Unit, id: &str) -> Result<Grant, RegistryError> {
    store::people::grants::find(unit.read(), id)
        .await?
        .ok_or_else(|| PeopleError::GrantNotFound.into())
}

pub(super) async fn deny_token(
    unit: &mut Unit,
    jti: &str,
    expires_at: i64,
) -> Result<(), RegistryError> {
    let now = unit.now();
    let jti = [jti.to_owned()];
    // It is taken for a little longer than it says.
    let until = expires_at.saturating_add(ACCESS_LEEWAY_MS);
    store::people::grants::deny_all(unit.write(), DenialKind::Token, &jti, now, until).await
}

/// Revokes one grant; an event tells of it if it was not revoked before.
pub(super) async fn revoke(
    unit: &mut Unit,
    actor: &Actor,
    grant: &Grant,
    reason: EndReason,
    action: AuditAction,
) -> Result<bool, RegistryError> {
    let now = unit.now();
    if grant.revoked_at.is_some() {
        return Ok(false);
    }
    let how = (now, actor.as_str(), reason);
    let until = now.saturating_add(ACCESS_KEPT_MS);
    let one = Revoked::One(&grant.id);
    store::people::grants::revoke(unit.write(), one, how, until).await?;
    let mut event = about_grant(action, grant, "revoked");
    event.details.push(("reason", reason.as_str().to_owned()));
    unit.audit(actor, event);
    Ok(true)
}

/// The key that a grant's refresh tokens are bound to. Those of a confidential client are not: it proves
/// itself at each refresh, and may come with a new key (RFC 9449 §5). Access tokens are bound to the
/// key of their own request in any case.
pub(super) fn bound_to(client: Option<&Client>, dpop_jkt: Option<&str>) -> Option<String> {
    let proves_itself =
        client.is_some_and(|client| client.settings.client_type == ClientType::Confidential);
    dpop_jkt.filter(|_| !proves_itself).map(str::to_owned)
}

/// Begins a grant, with its first refresh token if there is one.
pub(super) async fn begin(
    unit: &mut Unit,
    grant: &Grant,
    refresh_token: Option<&TokenDigest>,
    lives: RefreshLives,
) -> Result<(), RegistryError> {
    let now = unit.now();
    store::people::grants::insert(unit.write(), grant).await?;
    if let Some(token) = refresh_token {
        let idle = now.saturating_add(lives.idle_ms);
        store::people::grants::insert_token(unit.write(), token, &grant.id, None, now, idle)
            .await?;
    }
    if let Some(session_id) = &grant.session_id {
        let client = &grant.client_id;
        store::people::sessions::put_client(unit.write(), session_id, client, now).await?;
    }
    Ok(())
}

pub(super) fn about_grant(action: AuditAction, grant: &Grant, verb: &str) -> NewEvent {
    let details = vec![
        ("user", grant.user_id.clone()),
        ("client", grant.client_id.clone()),
        ("scopes", grant.scopes.to_string()),
    ];
    let summary = format!("A grant of client {} was {verb}", grant.client_id);
    about(
        action,
        ("grant", &grant.id, &grant.client_id),
        summary,
        details,
    )
}
