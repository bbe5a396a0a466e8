//! Browser sessions. What ends one ends the grants that were given in it, and denies the access
//! tokens of both until none can be left.

use std::sync::Arc;

use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::{
    ACCESS_KEPT_MS, EndReason, PeopleError, Session, SessionLives, SessionState, TokenDigest,
};

use super::grants::DenialKind;
use super::page::{self, Page, Position};
use super::{about, foreign, logouts, new_id, users};
use crate::store::audit::NewEvent;
use crate::store::people::grants::Revoked;
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

/// A session that is to begin.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Of the cookie's token.
    pub digest: TokenDigest,
    /// Whose.
    pub user_id: String,
    /// Level of the proof.
    pub acr: String,
    /// Ways of the proof (RFC 8176), separated by single spaces.
    pub amr: String,
    /// When it was given (Unix ms), where that is known; no later than now.
    pub proven_at: Option<i64>,
    /// What the browser says it is.
    pub user_agent: String,
    /// Where from.
    pub network: String,
    /// How long it lives.
    pub lives: SessionLives,
}

/// What was ended together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndedSessions {
    /// Ids of the sessions.
    pub sessions: Vec<String>,
    /// How many grants were revoked with them.
    pub grants: usize,
    /// How many messages to clients wait in the outbox since (back-channel logout).
    pub told: usize,
}

impl EndedSessions {
    pub(super) fn details(&self) -> Vec<(&'static str, String)> {
        vec![
            ("sessions", self.sessions.len().to_string()),
            ("grants", self.grants.to_string()),
        ]
    }
}

impl LocalRegistry {
    /// Begins a session.
    ///
    /// # Errors
    /// [`PeopleError::UserNotFound`], [`PeopleError::UserDisabled`].
    pub async fn start_session(
        &self,
        actor: &Actor,
        new: &NewSession,
    ) -> Result<Session, RegistryError> {
        self.write(
            (actor.clone(), new_id(), new.clone()),
            |unit, (actor, id, new)| Box::pin(begin(unit, actor, id, new)),
        )
        .await
    }

    /// The session of a cookie and whether it is good now; none for a token that we never gave or
    /// have replaced.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn find_session(
        &self,
        digest: &TokenDigest,
    ) -> Result<Option<(Arc<Session>, SessionState)>, RegistryError> {
        let (shared, memory) = (&*self.shared, &self.shared.remembered);
        let known = memory
            .get(shared, |rows| rows.sessions.get(digest).cloned())
            .await;
        let session = match known {
            Some(known) => known,
            None => {
                let generation = memory.before_reading(shared);
                let connection = &mut *shared.pool.acquire().await?;
                let found = store::people::sessions::find_by_digest(connection, digest).await?;
                let Some(session) = found.map(Arc::new) else {
                    return Ok(None);
                };
                let row = Arc::clone(&session);
                memory.put(generation, |rows| &mut rows.sessions, *digest, row);
                session
            }
        };
        let state = session.state(self.now());
        Ok(Some((session, state)))
    }

    /// A session by its public id, whether it is good or not.
    ///
    /// # Errors
    /// [`PeopleError::SessionNotFound`].
    pub async fn find_session_by_id(&self, id: &str) -> Result<Arc<Session>, RegistryError> {
        let (shared, memory) = (&*self.shared, &self.shared.remembered);
        if let Some(session) = memory
            .get(shared, |rows| rows.sessions_by_id.get(id).cloned())
            .await
        {
            return Ok(session);
        }
        let generation = memory.before_reading(shared);
        let found = store::people::sessions::find(&mut *shared.pool.acquire().await?, id).await?;
        let session = Arc::new(found.ok_or(PeopleError::SessionNotFound)?);
        let (id, row) = (id.to_owned(), Arc::clone(&session));
        memory.put(generation, |rows| &mut rows.sessions_by_id, id, row);
        Ok(session)
    }

    /// Writes a session as seen, every few minutes at most; less often costs no write at all. Nothing
    /// of it is a change that somebody makes, so there is no event. Returns whether it was written.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn touch_session(
        &self,
        session: &Session,
        network: &str,
    ) -> Result<bool, RegistryError> {
        if !session.touch_is_due(self.now()) {
            return Ok(false);
        }
        let input = (session.id.clone(), session.last_seen_at, foreign(network));
        self.write(input, |unit, (id, seen, network)| {
            Box::pin(async move {
                let now = unit.now();
                store::people::sessions::touch(unit.write(), id, now, *seen, network).await
            })
        })
        .await
    }

    /// Gives a session another token, at a sign-in or when it is to be trusted more (AC-107). The
    /// old token is worth nothing at once. `proven_at`: when the proof was given (Unix ms); none leaves what
    /// is known of an earlier one.
    ///
    /// # Errors
    /// [`PeopleError::SessionNotFound`] unless the session is good.
    pub async fn renew_session(
        &self,
        actor: &Actor,
        old: &TokenDigest,
        new: &TokenDigest,
        (acr, amr): (&str, &str),
        proven_at: Option<i64>,
    ) -> Result<Session, RegistryError> {
        let how = (acr.to_owned(), amr.to_owned(), proven_at);
        let input = (actor.clone(), *old, *new, how);
        self.write(input, |unit, (actor, old, new, (acr, amr, proven_at))| {
            Box::pin(async move {
                let now = unit.now();
                let mut session = store::people::sessions::find_by_digest(unit.read(), old)
                    .await?
                    .filter(|session| session.state(now) == SessionState::Active)
                    .ok_or(PeopleError::SessionNotFound)?;
                (session.authenticated_at, session.last_seen_at) = (now, now);
                (session.acr, session.amr) = (acr.clone(), amr.clone());
                let proven_at = proven_at.unwrap_or(0).min(now);
                session.proven_at = session.proven_at.max(proven_at);
                if !store::people::sessions::renew(unit.write(), old, new, &session, now).await? {
                    return Err(PeopleError::SessionNotFound.into());
                }
                let summary = "A session was given a new token".to_owned();
                unit.audit(
                    actor,
                    about_session(AuditAction::SessionRenewed, &session, summary),
                );
                Ok(session)
            })
        })
        .await
    }

    /// Ends one session of a user. Ending it again does nothing.
    ///
    /// # Errors
    /// [`PeopleError::SessionNotFound`] for a session of somebody else.
    pub async fn end_session(
        &self,
        actor: &Actor,
        user_id: &str,
        session_id: &str,
        reason: EndReason,
    ) -> Result<EndedSessions, RegistryError> {
        let input = (
            actor.clone(),
            user_id.to_owned(),
            session_id.to_owned(),
            reason,
        );
        self.write(input, |unit, (actor, user_id, id, reason)| {
            Box::pin(async move {
                let session = store::people::sessions::find(unit.read(), id)
                    .await?
                    .filter(|session| session.user_id == *user_id)
                    .ok_or(PeopleError::SessionNotFound)?;
                let ended = end(unit, actor, user_id, (id, ""), *reason).await?;
                if !ended.sessions.is_empty() {
                    let summary = format!("A session was ended: {}", reason.as_str());
                    let mut event = about_session(AuditAction::SessionEnded, &session, summary);
                    event.details.extend(ended.details());
                    unit.audit(actor, event);
                }
                Ok(ended)
            })
        })
        .await
    }

    /// Ends all sessions of a user but one, and all that was given outside that one: to devices too,
    /// also what they were promised and did not fetch yet.
    ///
    /// # Errors
    /// [`PeopleError::UserNotFound`].
    pub async fn end_other_sessions(
        &self,
        actor: &Actor,
        user_id: &str,
        keep: &str,
    ) -> Result<EndedSessions, RegistryError> {
        self.end_many(actor, user_id, keep, EndReason::EndedByUser)
            .await
    }

    /// Ends all sessions of a user, and every grant, those of devices too.
    ///
    /// # Errors
    /// [`PeopleError::UserNotFound`].
    pub async fn end_all_sessions(
        &self,
        actor: &Actor,
        user_id: &str,
        reason: EndReason,
    ) -> Result<EndedSessions, RegistryError> {
        self.end_many(actor, user_id, "", reason).await
    }

    async fn end_many(
        &self,
        actor: &Actor,
        user_id: &str,
        keep: &str,
        reason: EndReason,
    ) -> Result<EndedSessions, RegistryError> {
        let input = (actor.clone(), user_id.to_owned(), keep.to_owned(), reason);
        self.write(input, |unit, (actor, user_id, keep, reason)| {
            Box::pin(async move {
                let user = users::find(unit, user_id).await?;
                let ended = end_everything_but(unit, actor, user_id, keep, *reason).await?;
                // What this session let in would be there a moment later.
                if store::people::devices::has_approved(unit.read(), user_id).await? {
                    store::people::devices::take_back(unit.write(), user_id).await?;
                }
                if ended != EndedSessions::default() {
                    let verb = "signed out of several sessions";
                    let action = AuditAction::SessionsEnded;
                    unit.audit(
                        actor,
                        users::about_user(action, &user, verb, ended.details()),
                    );
                }
                Ok(ended)
            })
        })
        .await
    }

    /// One page of a user's sessions, newest first: those that are good, or all that are kept.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`].
    pub async fn list_sessions(
        &self,
        user_id: &str,
        only_active: bool,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<Session>, RegistryError> {
        let (after, limit) = (Position::read(cursor, true)?, page::limit(limit));
        let now = self.now();
        let live_at = if only_active { now } else { 0 };
        let cut = |rows: Vec<Session>| {
            page::cut(rows, limit, |one| Position::of(one.created_at, &one.id))
        };
        let (shared, memory) = (&*self.shared, &self.shared.remembered);
        let is_first = only_active && cursor.is_none();
        let key = (user_id.to_owned(), limit);
        if is_first
            && let Some(rows) = memory
                .get(shared, |rows| rows.session_lists.get(&key).cloned())
                .await
            // One that ran out since may have hidden another behind it.
            && rows.iter().all(|one| one.state(now) == SessionState::Active)
        {
            return Ok(cut(rows.to_vec()));
        }
        let generation = memory.before_reading(shared);
        let connection = &mut *shared.pool.acquire().await?;
        let rows =
            store::people::sessions::list(connection, user_id, live_at, &after, limit + 1).await?;
        if is_first {
            let row = rows.clone().into();
            memory.put(generation, |rows| &mut rows.session_lists, key, row);
        }
        Ok(cut(rows))
    }

    /// Ids of the clients that were signed in through a session.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn list_session_clients(
        &self,
        session_id: &str,
    ) -> Result<Arc<[String]>, RegistryError> {
        let (shared, memory) = (&*self.shared, &self.shared.remembered);
        if let Some(clients) = memory
            .get(shared, |rows| rows.session_clients.get(session_id).cloned())
            .await
        {
            return Ok(clients);
        }
        let generation = memory.before_reading(shared);
        let connection = &mut *shared.pool.acquire().await?;
        let clients: Arc<[String]> = store::people::sessions::list_clients(connection, session_id)
            .await?
            .into();
        let (id, row) = (session_id.to_owned(), Arc::clone(&clients));
        memory.put(generation, |rows| &mut rows.session_clients, id, row);
        Ok(clients)
    }
}

/// Begins a session.
pub(super) async fn begin(
    unit: &mut Unit,
    actor: &Actor,
    id: &str,
    new: &NewSession,
) -> Result<Session, RegistryError> {
    let now = unit.now();
    let user = users::find_enabled(unit, &new.user_id).await?;
    let session = Session {
        id: id.to_owned(),
        user_id: user.id,
        created_at: now,
        authenticated_at: now,
        proven_at: new.proven_at.unwrap_or(0).min(now),
        last_seen_at: now,
        idle_ms: new.lives.idle_ms,
        expires_at: now.saturating_add(new.lives.absolute_ms),
        acr: new.acr.clone(),
        amr: new.amr.clone(),
        user_agent: foreign(&new.user_agent),
        network: foreign(&new.network),
        ended_at: None,
        ended_by: None,
        end_reason: None,
    };
    store::people::sessions::insert(unit.write(), &session, &new.digest).await?;
    let summary = format!("“{}” began a session", user.name);
    unit.audit(
        actor,
        about_session(AuditAction::SessionStarted, &session, summary),
    );
    Ok(session)
}

/// Ends sessions of a user, (only this one, all but that one), with their grants; those for the time when the
/// person is away by some reasons only ([`EndReason::leaves_offline_access`]). Clients that are to be
/// told of it have their messages in the same write.
pub(super) async fn end(
    unit: &mut Unit,
    actor: &Actor,
    user_id: &str,
    which: (&str, &str),
    reason: EndReason,
) -> Result<EndedSessions, RegistryError> {
    let now = unit.now();
    if !store::people::sessions::has_live(unit.read(), user_id, which, now).await? {
        return Ok(EndedSessions::default());
    }
    let how = (now, actor.as_str(), reason);
    let until = now.saturating_add(ACCESS_KEPT_MS);
    let connection = unit.write();
    let sessions = store::people::sessions::end(connection, user_id, which, how).await?;
    let some_stay = reason.leaves_offline_access();
    let of_these = if some_stay {
        Revoked::OnlineOfEndedSessions(user_id)
    } else {
        Revoked::OfEndedSessions(user_id)
    };
    let grants = store::people::grants::revoke(connection, of_these, how, until).await?;
    if some_stay {
        // They are in no session from now on: tokens of this one are denied, those of the next refresh are not.
        store::people::grants::leave_ended_sessions(connection, user_id, now).await?;
    }
    let kind = DenialKind::Session;
    store::people::grants::deny_all(connection, kind, &sessions, now, until).await?;
    let told = logouts::of_sessions(unit, user_id, &sessions).await?;
    Ok(EndedSessions {
        sessions,
        grants,
        told,
    })
}

/// Ends all sessions and all grants of a user.
pub(super) async fn end_everything(
    unit: &mut Unit,
    actor: &Actor,
    user_id: &str,
    reason: EndReason,
) -> Result<EndedSessions, RegistryError> {
    end_everything_but(unit, actor, user_id, "", reason).await
}

/// Ends all sessions of a user but one, and all grants that were not given in that one: those of
/// devices and of sign-ins without a session too.
pub(super) async fn end_everything_but(
    unit: &mut Unit,
    actor: &Actor,
    user_id: &str,
    keep: &str,
    reason: EndReason,
) -> Result<EndedSessions, RegistryError> {
    let mut ended = end(unit, actor, user_id, ("", keep), reason).await?;
    let now = unit.now();
    let how = (now, actor.as_str(), reason);
    let until = now.saturating_add(ACCESS_KEPT_MS);
    let all = if keep.is_empty() {
        Revoked::OfUser(user_id)
    } else {
        Revoked::OfUserBut(user_id, keep)
    };
    ended.grants += store::people::grants::revoke(unit.write(), all, how, until).await?;
    Ok(ended)
}

fn about_session(action: AuditAction, session: &Session, summary: String) -> NewEvent {
    let details = vec![
        ("user", session.user_id.clone()),
        ("amr", session.amr.clone()),
        ("network", session.network.clone()),
    ];
    about(
        action,
        ("session", &session.id, &session.user_id),
        summary,
        details,
    )
}
