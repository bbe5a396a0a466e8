//! Initial access tokens (RFC 7591 §3): with one of them programs register themselves, so many times,
//! until it ends.

use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::{Client, NewClient, PeopleError, TokenDigest};
use sqlx::AnyConnection;

use super::clients::{NewClientSecret, about_client, insert, new_client};
use super::page::{self, Page, Position};
use super::{about, foreign, makers, new_id};
use crate::store::audit::NewEvent;
use crate::{LocalRegistry, RegistryError, store};

/// A registration token, without the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationToken {
    /// Stable id, which clients made with it name.
    pub id: String,
    /// What it is for, in the words of whoever made it.
    pub note: String,
    /// Who made it.
    pub made_by: String,
    /// Unix ms.
    pub created_at: i64,
    /// Until when it is good.
    pub expires_at: i64,
    /// How many clients it may make in all.
    pub max_uses: i64,
    /// How many it made.
    pub uses: i64,
    /// When it was ended before its time.
    pub ended_at: Option<i64>,
}

/// A registration token that is to be made.
#[derive(Clone, Debug)]
pub struct NewRegistrationToken {
    /// Of the token: 128 random bits at least.
    pub digest: TokenDigest,
    /// What it is for.
    pub note: String,
    /// How long it is good (ms).
    pub lifetime_ms: i64,
    /// How many clients it may make: 1 or more.
    pub max_uses: i64,
}

impl LocalRegistry {
    /// Makes a registration token.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn add_registration_token(
        &self,
        actor: &Actor,
        new: &NewRegistrationToken,
    ) -> Result<RegistrationToken, RegistryError> {
        let input = (actor.clone(), new_id(), new.clone());
        self.write(input, |unit, (actor, id, new)| {
            Box::pin(async move {
                let now = unit.now();
                let token = RegistrationToken {
                    id: id.clone(),
                    note: foreign(&new.note),
                    made_by: actor.as_str().to_owned(),
                    created_at: now,
                    expires_at: now.saturating_add(new.lifetime_ms),
                    max_uses: new.max_uses.max(1),
                    uses: 0,
                    ended_at: None,
                };
                let connection = unit.write();
                store::people::registration_tokens::insert(connection, &token, &new.digest).await?;
                let mut event = about_token(AuditAction::RegistrationTokenMade, &token, "made");
                let uses = token.max_uses.to_string();
                event.details.push(("max_uses", uses));
                event.details.push(("until", token.expires_at.to_string()));
                unit.audit(actor, event);
                unit.made(id);
                Ok(token)
            })
        })
        .await
    }

    /// The registration token with this id, however it stands.
    ///
    /// # Errors
    /// [`PeopleError::RegistrationTokenNotFound`].
    pub async fn read_registration_token(
        &self,
        id: &str,
    ) -> Result<RegistrationToken, RegistryError> {
        let connection = &mut *self.shared.pool.acquire().await?;
        store::people::registration_tokens::find(connection, id)
            .await?
            .ok_or_else(|| PeopleError::RegistrationTokenNotFound.into())
    }

    /// The registration token with this digest, as long as it can make a client.
    ///
    /// # Errors
    /// [`PeopleError::RegistrationTokenNotFound`].
    pub async fn find_registration_token(
        &self,
        digest: &TokenDigest,
    ) -> Result<RegistrationToken, RegistryError> {
        let now = self.now();
        let connection = &mut *self.shared.pool.acquire().await?;
        find_good(connection, digest, now).await
    }

    /// Registers a client with a registration token, of which it is one use. The event names the token
    /// as the one who acts, from the address `at`.
    ///
    /// # Errors
    /// As [`Self::add_client`]; [`PeopleError::RegistrationTokenNotFound`] for one that is not good
    /// now. Then nothing was used up.
    pub async fn register_client(
        &self,
        at: std::net::IpAddr,
        token: &TokenDigest,
        (id, new): (&str, &NewClient),
        secret: Option<&TokenDigest>,
    ) -> Result<Client, RegistryError> {
        let client = new_client(id, new, secret.is_some(), self.now())?;
        let secret = secret.map(|digest| NewClientSecret::Random(*digest));
        let input = (at, *token, client, secret, new_id());
        self.write(input, |unit, (at, token, client, secret, secret_id)| {
            Box::pin(async move {
                let now = unit.now();
                find_good(unit.read(), token, now).await?;
                let used = store::people::registration_tokens::take(unit.write(), token, now);
                let used = used.await?.ok_or(PeopleError::RegistrationTokenNotFound)?;
                let mut client = client.clone();
                client.registered_by = Some(used.clone());
                insert(unit, &client, secret.as_ref(), secret_id).await?;
                let mut event = about_client(AuditAction::ClientAdded, &client, "registered");
                event.details.push(("registration_token", used.clone()));
                let actor = Actor::person(&format!("registration-token:{used}")).at(*at);
                unit.audit(&actor, event);
                Ok(client)
            })
        })
        .await
    }

    /// Ends a registration token. Clients that were made with it stay.
    ///
    /// # Errors
    /// [`PeopleError::RegistrationTokenNotFound`].
    pub async fn end_registration_token(
        &self,
        actor: &Actor,
        id: &str,
    ) -> Result<RegistrationToken, RegistryError> {
        self.write((actor.clone(), id.to_owned()), |unit, (actor, id)| {
            Box::pin(async move {
                let now = unit.now();
                let mut token = store::people::registration_tokens::find(unit.read(), id)
                    .await?
                    .ok_or(PeopleError::RegistrationTokenNotFound)?;
                if token.ended_at.is_none() {
                    store::people::registration_tokens::end(unit.write(), id, now).await?;
                    token.ended_at = Some(now);
                    let action = AuditAction::RegistrationTokenEnded;
                    let mut event = about_token(action, &token, "ended");
                    event.details.push(("uses", token.uses.to_string()));
                    unit.audit(actor, event);
                }
                Ok(token)
            })
        })
        .await
    }

    /// One page of registration tokens, newest first.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`].
    pub async fn list_registration_tokens(
        &self,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<RegistrationToken>, RegistryError> {
        let (after, limit) = (Position::read(cursor, true)?, page::limit(limit));
        let connection = &mut *self.shared.pool.acquire().await?;
        let rows = store::people::registration_tokens::list(connection, &after, limit + 1).await?;
        Ok(page::cut(rows, limit, |one| {
            Position::of(one.created_at, &one.id)
        }))
    }
}

/// One that can make a client now, of somebody who is let in and may still make one.
async fn find_good(
    connection: &mut AnyConnection,
    digest: &TokenDigest,
    now: i64,
) -> Result<RegistrationToken, RegistryError> {
    let open = store::people::registration_tokens::find_open(connection, digest, now).await?;
    let token = open.ok_or(PeopleError::RegistrationTokenNotFound)?;
    let needed = makers::needed_for(connection, makers::MANAGES_CLIENTS, &[]).await?;
    let needed = needed.unwrap_or_default();
    if makers::stands(connection, &token.made_by, &needed, now).await? {
        Ok(token)
    } else {
        Err(PeopleError::RegistrationTokenNotFound.into())
    }
}

pub(super) fn about_token(action: AuditAction, token: &RegistrationToken, verb: &str) -> NewEvent {
    let summary = format!("A registration token was {verb}");
    let target = ("registration_token", token.id.as_str(), token.note.as_str());
    about(action, target, summary, Vec::new())
}
