//! What people allowed clients, so that they are asked once.

use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::{ACCESS_KEPT_MS, EndReason, OAuthScopes};

use super::page::{self, Page, Position};
use super::sessions::{self, EndedSessions};
use super::{about, clients, logouts, users};
use crate::store::audit::NewEvent;
use crate::store::people::grants::Revoked;
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

/// What a person allowed a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// Who.
    pub user_id: String,
    /// Whom.
    pub client_id: String,
    /// What, for all resources together: see [`LocalRegistry::find_consented_scopes`].
    pub scopes: OAuthScopes,
    /// When first (Unix ms).
    pub created_at: i64,
    /// When last.
    pub changed_at: i64,
    /// When it was taken back.
    pub revoked_at: Option<i64>,
}

impl LocalRegistry {
    /// Adds scopes to what a person allows a client at a resource (RFC 8707); none for the server's own API.
    ///
    /// # Errors
    /// [`keywright_domain::people::PeopleError::UserNotFound`] or `ClientNotFound`.
    pub async fn give_consent(
        &self,
        actor: &Actor,
        user_id: &str,
        client_id: &str,
        resource: Option<&str>,
        scopes: &OAuthScopes,
    ) -> Result<Consent, RegistryError> {
        let input = (
            actor.clone(),
            user_id.to_owned(),
            client_id.to_owned(),
            resource.unwrap_or_default().to_owned(),
            scopes.clone(),
        );
        self.write(
            input,
            |unit, (actor, user_id, client_id, resource, scopes)| {
                Box::pin(async move {
                    let now = unit.now();
                    users::find_enabled(unit, user_id).await?;
                    clients::find(unit, client_id).await?;
                    let before =
                        store::people::clients::find_consent(unit.read(), user_id, client_id)
                            .await?;
                    let live = before.filter(|consent| consent.revoked_at.is_none());
                    let consent = Consent {
                        user_id: user_id.clone(),
                        client_id: client_id.clone(),
                        scopes: live
                            .as_ref()
                            .map_or(scopes.clone(), |one| one.scopes.union(scopes)),
                        created_at: live.map_or(now, |one| one.created_at),
                        changed_at: now,
                        revoked_at: None,
                    };
                    store::people::clients::put_consent(unit.write(), &consent).await?;
                    let whose = (user_id.as_str(), client_id.as_str(), resource.as_str());
                    let here = store::people::clients::find_consented(unit.read(), whose).await?;
                    let here = here.map_or(scopes.clone(), |one| one.union(scopes));
                    store::people::clients::put_consented(unit.write(), whose, &here).await?;
                    let summary = "A client was allowed its scopes".to_owned();
                    let mut event = about_consent(AuditAction::ConsentGiven, &consent, summary);
                    if !resource.is_empty() {
                        event.details.push(("resource", resource.clone()));
                    }
                    unit.audit(actor, event);
                    Ok(consent)
                })
            },
        )
        .await
    }

    /// The scopes that a person allows a client now at a resource (RFC 8707): what was allowed for one
    /// counts for no other. None for the server's own API.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn find_consented_scopes(
        &self,
        user_id: &str,
        client_id: &str,
        resource: Option<&str>,
    ) -> Result<Option<OAuthScopes>, RegistryError> {
        let connection = &mut *self.shared.pool.acquire().await?;
        let whose = (user_id, client_id, resource.unwrap_or_default());
        store::people::clients::find_consented(connection, whose).await
    }

    /// What a person allows a client now, at whatever resource.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn find_consent(
        &self,
        user_id: &str,
        client_id: &str,
    ) -> Result<Option<Consent>, RegistryError> {
        let connection = &mut *self.shared.pool.acquire().await?;
        let found = store::people::clients::find_consent(connection, user_id, client_id).await?;
        Ok(found.filter(|consent| consent.revoked_at.is_none()))
    }

    /// One page of what a person allows, by client.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`].
    pub async fn list_consents(
        &self,
        user_id: &str,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<Consent>, RegistryError> {
        let (after, limit) = (Position::read(cursor, false)?, page::limit(limit));
        let connection = &mut *self.shared.pool.acquire().await?;
        let rows = store::people::clients::list_consents(connection, user_id, &after.id, limit + 1)
            .await?;
        Ok(page::cut(rows, limit, |one| {
            Position::of(0, &one.client_id)
        }))
    }

    /// Takes away all that a client has of a person: what they allowed it, its grants, also those that
    /// nobody was asked about, and the sessions that are its own. Codes that it did not redeem are
    /// forgotten, and so are devices that were let in and did not come yet. It is told of the sessions
    /// that it was in. Doing it again ends nothing; none for a client that never had anything.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn revoke_consent(
        &self,
        actor: &Actor,
        user_id: &str,
        client_id: &str,
    ) -> Result<Option<EndedSessions>, RegistryError> {
        let input = (actor.clone(), user_id.to_owned(), client_id.to_owned());
        self.write(input, |unit, (actor, user_id, client_id)| {
            Box::pin(take_away(unit, actor, user_id, client_id))
        })
        .await
    }
}

async fn take_away(
    unit: &mut Unit,
    actor: &Actor,
    user_id: &str,
    client_id: &str,
) -> Result<Option<EndedSessions>, RegistryError> {
    let now = unit.now();
    let consent = store::people::clients::find_consent(unit.read(), user_id, client_id).await?;
    let (any, live) =
        store::people::grants::has_of_consent(unit.read(), user_id, client_id).await?;
    // Devices are let in without a consent that is remembered.
    let codes = store::people::codes::remove_of(unit.write(), user_id, client_id).await?;
    if consent.is_none() && !any && codes == 0 {
        return Ok(None);
    }
    let mut removed = EndedSessions::default();
    let allowed = consent.filter(|one| one.revoked_at.is_none());
    if allowed.is_none() && !live && codes == 0 {
        return Ok(Some(removed));
    }
    let reason = EndReason::EndedByUser;
    removed.told = logouts::of_client(unit, user_id, client_id).await?;
    // A sign-in of a browser client is a session with nothing else in it.
    for id in store::people::grants::own_sessions(unit.read(), user_id, client_id).await? {
        let ended = sessions::end(unit, actor, user_id, (&id, ""), reason).await?;
        removed.grants += ended.grants;
        removed.told += ended.told;
        removed.sessions.extend(ended.sessions);
    }
    let how = (now, actor.as_str(), reason);
    let until = now.saturating_add(ACCESS_KEPT_MS);
    let these = Revoked::OfConsent(user_id, client_id);
    removed.grants += store::people::grants::revoke(unit.write(), these, how, until).await?;
    let scopes = match allowed {
        Some(mut consent) => {
            (consent.revoked_at, consent.changed_at) = (Some(now), now);
            store::people::clients::put_consent(unit.write(), &consent).await?;
            store::people::clients::remove_consented(unit.write(), user_id, client_id).await?;
            consent.scopes.to_string()
        }
        None => String::new(),
    };
    let details = vec![
        ("user", user_id.to_owned()),
        ("scopes", scopes),
        ("grants", removed.grants.to_string()),
        ("sessions", removed.sessions.len().to_string()),
        ("codes", codes.to_string()),
    ];
    let summary = "A client is not allowed its scopes any more".to_owned();
    let target = ("client", client_id, client_id);
    unit.audit(
        actor,
        about(AuditAction::ConsentRevoked, target, summary, details),
    );
    Ok(Some(removed))
}

fn about_consent(action: AuditAction, consent: &Consent, summary: String) -> NewEvent {
    let details = vec![
        ("user", consent.user_id.clone()),
        ("scopes", consent.scopes.to_string()),
    ];
    let target = (
        "client",
        consent.client_id.as_str(),
        consent.client_id.as_str(),
    );
    about(action, target, summary, details)
}
