//! Clients, and their secrets: two work at a time while one is replaced.

use std::sync::Arc;

use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::{
    Client, EndReason, LONGEST_ACCESS_MS, NewClient, PeopleError, TokenDigest,
};

use super::page::{self, Page, Position};
use super::{about, new_id};
use crate::remembered::KnownClient;
use crate::store::audit::NewEvent;
use crate::store::people::grants::Revoked;
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

/// A secret of a client, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSecretRecord {
    /// Stable id.
    pub id: String,
    /// Of a random secret of at least 128 bits.
    pub digest: TokenDigest,
    /// Unix ms.
    pub created_at: i64,
    /// Until when it works; `i64::MAX` for no end.
    pub expires_at: i64,
}

impl LocalRegistry {
    /// Adds a client, with the digest of its secret if its method needs one.
    ///
    /// # Errors
    /// [`PeopleError::ClientIdTaken`], [`PeopleError::Client`], [`PeopleError::RedirectUri`].
    pub async fn add_client(
        &self,
        actor: &Actor,
        id: &str,
        new: &NewClient,
        secret: Option<&TokenDigest>,
    ) -> Result<Client, RegistryError> {
        let settings = new.clone().check()?;
        if settings.auth_method.needs_secret() != secret.is_some() {
            return Err(PeopleError::Client("its method and its secret do not fit").into());
        }
        let id_is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if id.is_empty() || id.len() > 100 || !id.bytes().all(id_is_plain) {
            return Err(
                PeopleError::Client("its id has characters that an address escapes").into(),
            );
        }
        let client = Client {
            id: id.to_owned(),
            settings,
            created_at: self.now(),
            changed_at: self.now(),
            disabled_at: None,
        };
        let input = (actor.clone(), client, secret.copied(), new_id());
        self.write(input, |unit, (actor, client, secret, secret_id)| {
            Box::pin(async move {
                if store::people::clients::find(unit.read(), &client.id)
                    .await?
                    .is_some()
                {
                    return Err(PeopleError::ClientIdTaken.into());
                }
                store::people::clients::put(unit.write(), client).await?;
                if let Some(digest) = secret {
                    insert_secret(unit, &client.id, secret_id, digest).await?;
                }
                unit.audit(
                    actor,
                    about_client(AuditAction::ClientAdded, client, "added"),
                );
                Ok(client.clone())
            })
        })
        .await
    }

    /// A client.
    ///
    /// # Errors
    /// [`PeopleError::ClientNotFound`].
    pub async fn find_client(&self, id: &str) -> Result<Arc<Client>, RegistryError> {
        Ok(Arc::clone(&self.known_client(id).await?.client))
    }

    async fn known_client(&self, id: &str) -> Result<Arc<KnownClient>, RegistryError> {
        let (shared, memory) = (&*self.shared, &self.shared.remembered);
        if let Some(known) = memory
            .get(shared, |rows| rows.clients.get(id).cloned())
            .await
        {
            return Ok(known);
        }
        let generation = memory.before_reading(shared);
        let connection = &mut *shared.pool.acquire().await?;
        let client = store::people::clients::find(connection, id)
            .await?
            .ok_or(PeopleError::ClientNotFound)?;
        let secrets = store::people::clients::list_secrets(connection, id, self.now()).await?;
        let known = Arc::new(KnownClient {
            client: Arc::new(client),
            secrets: secrets.into(),
        });
        let row = Arc::clone(&known);
        memory.put(generation, |rows| &mut rows.clients, id.to_owned(), row);
        Ok(known)
    }

    /// The secrets of a client that work now, newest first.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn list_client_secrets(
        &self,
        client_id: &str,
    ) -> Result<Vec<ClientSecretRecord>, RegistryError> {
        let now = self.now();
        let known = match self.known_client(client_id).await {
            Err(RegistryError::People(PeopleError::ClientNotFound)) => return Ok(Vec::new()),
            known => known?,
        };
        let live = known
            .secrets
            .iter()
            .filter(|secret| secret.expires_at > now);
        Ok(live.cloned().collect())
    }

    /// Whether a text is a secret of a client that works now.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn is_client_secret(
        &self,
        client_id: &str,
        given: &TokenDigest,
    ) -> Result<bool, RegistryError> {
        let now = self.now();
        let known = match self.known_client(client_id).await {
            Err(RegistryError::People(PeopleError::ClientNotFound)) => return Ok(false),
            known => known?,
        };
        // Digests of secrets with 128 random bits: comparing them tells nothing that helps to guess one.
        let mut secrets = known.secrets.iter();
        Ok(secrets.any(|secret| secret.expires_at > now && secret.digest == *given))
    }

    /// One page of clients, A to Z, with part of a name or an id.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`].
    pub async fn list_clients(
        &self,
        text: &str,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<Client>, RegistryError> {
        let (after, limit) = (Position::read(cursor, false)?, page::limit(limit));
        let connection = &mut *self.shared.pool.acquire().await?;
        let rows = store::people::clients::list(connection, text, &after, limit + 1).await?;
        Ok(page::cut(rows, limit, |one| Position {
            number: 0,
            text: store::search::fold(&one.settings.name),
            id: one.id.clone(),
        }))
    }

    /// Says everything of a client anew. Its id, its secrets and its grants stay.
    ///
    /// # Errors
    /// As [`Self::add_client`]; [`PeopleError::ClientNotFound`]. A client does not become public or
    /// confidential: its grants were given to the other kind.
    pub async fn change_client(
        &self,
        actor: &Actor,
        id: &str,
        new: &NewClient,
    ) -> Result<Client, RegistryError> {
        let input = (actor.clone(), id.to_owned(), new.clone().check()?);
        self.write(input, |unit, (actor, id, settings)| {
            Box::pin(async move {
                let mut client = find(unit, id).await?;
                if client.settings.client_type != settings.client_type {
                    return Err(PeopleError::Client("it stays public or confidential").into());
                }
                if client.settings == *settings {
                    return Ok(client);
                }
                client.settings = settings.clone();
                client.changed_at = unit.now();
                store::people::clients::put(unit.write(), &client).await?;
                unit.audit(
                    actor,
                    about_client(AuditAction::ClientChanged, &client, "changed"),
                );
                Ok(client)
            })
        })
        .await
    }

    /// Gives a client another secret; the one before works `overlap_ms` longer, older ones end.
    ///
    /// # Errors
    /// [`PeopleError::ClientNotFound`]; [`PeopleError::Client`] for one without secrets.
    pub async fn rotate_client_secret(
        &self,
        actor: &Actor,
        id: &str,
        secret: &TokenDigest,
        overlap_ms: i64,
    ) -> Result<(), RegistryError> {
        let input = (
            actor.clone(),
            id.to_owned(),
            *secret,
            new_id(),
            overlap_ms.max(0),
        );
        self.write(input, |unit, (actor, id, digest, secret_id, overlap)| {
            Box::pin(async move {
                let now = unit.now();
                let client = find(unit, id).await?;
                if !client.settings.auth_method.needs_secret() {
                    return Err(PeopleError::Client("it has no secrets").into());
                }
                let secrets = store::people::clients::list_secrets(unit.read(), id, now).await?;
                if let Some(newest) = secrets.first() {
                    let until = now.saturating_add(*overlap);
                    let connection = unit.write();
                    store::people::clients::retire_secrets(connection, id, &newest.id, until, now)
                        .await?;
                }
                insert_secret(unit, id, secret_id, digest).await?;
                let action = AuditAction::ClientSecretRotated;
                let mut event = about_client(action, &client, "given another secret");
                event.details.push(("overlap_ms", overlap.to_string()));
                unit.audit(actor, event);
                Ok(())
            })
        })
        .await
    }

    /// Disables a client and revokes every grant of it. Returns how many.
    ///
    /// # Errors
    /// [`PeopleError::ClientNotFound`].
    pub async fn disable_client(&self, actor: &Actor, id: &str) -> Result<usize, RegistryError> {
        self.write((actor.clone(), id.to_owned()), |unit, (actor, id)| {
            Box::pin(async move {
                let now = unit.now();
                let mut client = find(unit, id).await?;
                if client.disabled_at.is_some() {
                    return Ok(0);
                }
                (client.disabled_at, client.changed_at) = (Some(now), now);
                store::people::clients::put(unit.write(), &client).await?;
                let how = (now, actor.as_str(), EndReason::ClientDisabled);
                let until = now.saturating_add(LONGEST_ACCESS_MS);
                let all = Revoked::OfClient(id);
                let grants = store::people::grants::revoke(unit.write(), all, how, until).await?;
                let mut event = about_client(AuditAction::ClientDisabled, &client, "disabled");
                event.details.push(("grants", grants.to_string()));
                unit.audit(actor, event);
                Ok(grants)
            })
        })
        .await
    }

    /// Enables a client again. Its grants stay revoked.
    ///
    /// # Errors
    /// [`PeopleError::ClientNotFound`].
    pub async fn enable_client(&self, actor: &Actor, id: &str) -> Result<(), RegistryError> {
        self.write((actor.clone(), id.to_owned()), |unit, (actor, id)| {
            Box::pin(async move {
                let mut client = find(unit, id).await?;
                if client.disabled_at.take().is_some() {
                    client.changed_at = unit.now();
                    store::people::clients::put(unit.write(), &client).await?;
                    unit.audit(
                        actor,
                        about_client(AuditAction::ClientEnabled, &client, "enabled"),
                    );
                }
                Ok(())
            })
        })
        .await
    }
}

pub(super) async fn find(unit: &mut Unit, id: &str) -> Result<Client, RegistryError> {
    store::people::clients::find(unit.read(), id)
        .await?
        .ok_or_else(|| PeopleError::ClientNotFound.into())
}

async fn insert_secret(
    unit: &mut Unit,
    client_id: &str,
    id: &str,
    digest: &TokenDigest,
) -> Result<(), RegistryError> {
    let secret = ClientSecretRecord {
        id: id.to_owned(),
        digest: *digest,
        created_at: unit.now(),
        expires_at: i64::MAX,
    };
    store::people::clients::insert_secret(unit.write(), client_id, &secret).await
}

pub(super) fn about_client(action: AuditAction, client: &Client, verb: &str) -> NewEvent {
    let name = &client.settings.name;
    let summary = format!("Client “{name}” was {verb}");
    about(action, ("client", &client.id, name), summary, Vec::new())
}
