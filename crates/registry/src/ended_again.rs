//! After a backup was put back: what was ended after it was made is ended again.

use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::EndReason;

use crate::audit_export::{EndedSince, KeyEnd, OwnerEnd, PutBackPoint};
use crate::principals::PrincipalChange;
use crate::store;
use crate::{AuditQuery, LocalRegistry, RegistryError};

/// Written down with everything.
const REASON: &str = "ended after the backup that was put back";
/// How often a registry may have been put back and the newest file still be found: more than anybody does.
const POINTS: u32 = 100;

/// What could not be ended again.
#[derive(Clone, Debug)]
pub struct NotEnded {
    /// `api_key`, `owner`, `user`, `session` or `client`.
    pub kind: &'static str,
    /// Its id.
    pub id: String,
    /// Why not.
    pub error: RegistryError,
}

/// How much was ended again, or was ended already.
#[derive(Clone, Debug, Default)]
pub struct EndedAgain {
    /// Keys that were revoked, suspended, or lost a secret.
    pub keys: usize,
    /// People, services and teams whose keys were all revoked, or who were suspended or deleted.
    pub owners: usize,
    /// Sessions, and people who were signed out of all of theirs.
    pub sessions: usize,
    /// Applications, suspended also where they were removed.
    pub clients: usize,
    /// Things that were made after the backup: there is nothing here to end.
    pub unknown: usize,
    /// What stands as the backup has it.
    pub failed: Vec<NotEnded>,
}

impl EndedAgain {
    /// Notes how it went: true if it was done.
    ///
    /// # Errors
    /// What says nothing of this one thing: the registry fails.
    fn note(
        &mut self,
        kind: &'static str,
        id: &str,
        done: Result<(), RegistryError>,
    ) -> Result<bool, RegistryError> {
        match done {
            Ok(()) => return Ok(true),
            Err(error) if is_unknown(&error) => self.unknown += 1,
            Err(error @ (RegistryError::Key(_) | RegistryError::People(_))) => {
                let id = id.to_owned();
                self.failed.push(NotEnded { kind, id, error });
            }
            Err(error) => return Err(error),
        }
        Ok(false)
    }
}

fn is_unknown(error: &RegistryError) -> bool {
    matches!(
        error.code(),
        "key_not_found"
            | "owner_not_found"
            | "user_not_found"
            | "session_not_found"
            | "client_not_found"
    )
}

impl LocalRegistry {
    /// Where this registry's trail was when backups were put back, the oldest first; for [`EndedSince::read`].
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn put_back_points(&self) -> Result<Vec<PutBackPoint>, RegistryError> {
        let mut query = AuditQuery {
            action: Some(AuditAction::RegistryRestored.as_str().to_owned()),
            limit: POINTS,
            ..AuditQuery::default()
        };
        // A page looks at so many events, and a server writes more than that in a day.
        let mut events = Vec::new();
        loop {
            let page = self.list_audit_events(query.clone()).await?;
            events.extend(page.items);
            query.before = page.next_before;
            if query.before.is_none() || events.len() >= POINTS as usize {
                break;
            }
        }
        let connection = &mut *self.shared.pool.acquire().await?;
        let mut points = Vec::new();
        for event in events.iter().rev() {
            let before = event.sequence.saturating_sub(2);
            let pair = store::audit::chained_after(connection, before, 2).await?;
            // What retention removed is no point to go on from.
            if let [last, own] = pair.as_slice()
                && own.sequence == event.sequence
            {
                points.push(PutBackPoint {
                    last: last.sequence,
                    hash: last.hash,
                    next: own.hash,
                    at: event.at,
                });
            }
        }
        Ok(points)
    }

    /// Ends again what was ended after the backup. Each thing is a change of its own: after an error the
    /// rest is done by the next try, and what was done stays so.
    ///
    /// # Errors
    /// [`RegistryError`] if the registry fails.
    pub async fn end_again(
        &self,
        actor: &Actor,
        since: &EndedSince,
    ) -> Result<EndedAgain, RegistryError> {
        let mut told = EndedAgain::default();
        // First what ends most.
        for (id, end) in &since.owners {
            let done = self.end_owner(actor, id, end, since.put_back_at).await;
            told.owners += usize::from(told.note("owner", id, done)?);
        }
        for id in &since.disabled_users {
            let done = self.disable_user(actor, id, REASON).await.map(drop);
            told.owners += usize::from(told.note("user", id, done)?);
        }
        for id in &since.deleted_users {
            let done = self.delete_user(actor, id).await;
            told.owners += usize::from(told.note("user", id, done)?);
        }
        for (id, end) in &since.keys {
            match self.end_key(actor, id, end, since.put_back_at).await {
                Ok(false) => {}
                done => told.keys += usize::from(told.note("api_key", id, done.map(drop))?),
            }
        }
        let reason = EndReason::EndedByAdmin;
        for id in &since.signed_out {
            let done = self.end_all_sessions(actor, id, reason).await.map(drop);
            told.sessions += usize::from(told.note("user", id, done)?);
        }
        for (id, user) in &since.sessions {
            let done = self.end_session(actor, user, id, reason).await.map(drop);
            told.sessions += usize::from(told.note("session", id, done)?);
        }
        for id in &since.clients {
            let done = self.disable_client(actor, id).await.map(drop);
            told.clients += usize::from(told.note("client", id, done)?);
        }
        Ok(told)
    }

    async fn end_owner(
        &self,
        actor: &Actor,
        id: &str,
        end: &OwnerEnd,
        put_back_at: i64,
    ) -> Result<(), RegistryError> {
        let reason = REASON.to_owned();
        if end.is_without_keys {
            let change = PrincipalChange::RevokeKeysUntil(put_back_at, reason.clone());
            self.change_principal(actor, id, &change).await?;
        }
        if end.is_disabled {
            let change = PrincipalChange::Disable(reason);
            self.change_principal(actor, id, &change).await?;
        }
        Ok(())
    }

    /// False where nothing of it was ended.
    async fn end_key(
        &self,
        actor: &Actor,
        id: &str,
        end: &KeyEnd,
        put_back_at: i64,
    ) -> Result<bool, RegistryError> {
        if *end == KeyEnd::default() {
            return Ok(false);
        }
        let (key, _) = self.find_api_key(id).await?;
        if end.is_revoked || end.is_used && key.settings.one_time {
            self.revoke_api_key(actor, id, REASON).await?;
            return Ok(true);
        }
        let mut has_ended = false;
        let now = self.now();
        for secret in &key.secrets {
            // What was made since then is not what the trail speaks of.
            if secret.created_at > put_back_at {
                continue;
            }
            let text = secret.kid.as_str();
            let is_replaced = end.only.as_deref().is_some_and(|only| only != text);
            if secret.state(now).verifies() && (is_replaced || end.kids.contains(text)) {
                self.revoke_secret(actor, id, &secret.kid, REASON).await?;
                has_ended = true;
            }
        }
        // Revoked since, by itself or with all keys of its owner: it has ended.
        let is_disabled = end.is_disabled && key.revoked_at.is_none();
        if is_disabled {
            self.disable_api_key(actor, id, REASON).await?;
        }
        Ok(has_ended || is_disabled)
    }
}
