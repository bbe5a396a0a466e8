//! Clients, and their secrets: two work at a time while one is replaced.

use std::sync::Arc;

use keywright_domain::SecretText;
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::{
    ACCESS_KEPT_MS, Client, EndReason, NewClient, PeopleError, TokenDigest,
};
use keywright_domain::pkce::random_token;

use super::grants::DenialKind;
use super::page::{self, Page, Position};
use super::{about, new_id};
use crate::remembered::KnownClient;
use crate::store::audit::NewEvent;
use crate::store::people::grants::Revoked;
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

/// A secret of a client, as it is stored.
#[derive(Clone, Debug)]
pub struct ClientSecretRecord {
    /// Stable id.
    pub id: String,
    /// Of a random secret of at least 128 bits; of nothing that anybody has where there is a hash.
    pub digest: TokenDigest,
    /// argon2id (PHC text) of a secret that a person chose.
    pub hash: Option<SecretText>,
    /// Unix ms.
    pub created_at: i64,
    /// Until when it works; `i64::MAX` for no end.
    pub expires_at: i64,
}

/// A secret as it is to be stored.
#[derive(Clone, Debug)]
pub enum NewClientSecret {
    /// The digest of a random one of at least 128 bits: nobody finds it by trying.
    Random(TokenDigest),
    /// argon2id (PHC text) of one that a person chose.
    Chosen(SecretText),
}

/// A client that was changed.
#[derive(Clone, Debug)]
pub struct ChangedClient {
    /// The client.
    pub client: Client,
    /// The secrets that work at that moment, newest first.
    pub secrets: Vec<ClientSecretRecord>,
    /// Whether the secret that came with the change is its one.
    pub took_secret: bool,
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
        let secret = secret.map(|digest| NewClientSecret::Random(*digest));
        self.add_client_with(actor, id, new, secret).await
    }

    /// The same with a secret of either kind.
    ///
    /// # Errors
    /// As [`Self::add_client`].
    pub async fn add_client_with(
        &self,
        actor: &Actor,
        id: &str,
        new: &NewClient,
        secret: Option<NewClientSecret>,
    ) -> Result<Client, RegistryError> {
        let client = new_client(id, new, secret.is_some(), self.now())?;
        let input = (actor.clone(), client, secret, new_id());
        self.write(input, |unit, (actor, client, secret, secret_id)| {
            Box::pin(async move {
                insert(unit, client, secret.as_ref(), secret_id).await?;
                let event = about_client(AuditAction::ClientAdded, client, "added");
                unit.audit(actor, event);
                unit.made(&client.id);
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
        Ok(secrets.any(|secret| {
            secret.hash.is_none() && secret.expires_at > now && secret.digest == *given
        }))
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
        self.change_client_since(actor, id, new, None).await
    }

    /// The same, unless it is not what was `seen` any more, of which `new` was made.
    ///
    /// # Errors
    /// As [`Self::change_client`]; [`RegistryError::Changed`].
    pub async fn change_client_since(
        &self,
        actor: &Actor,
        id: &str,
        new: &NewClient,
        seen: Option<&Client>,
    ) -> Result<Client, RegistryError> {
        let changed = self.change_client_whole(actor, id, new, seen).await;
        changed.map(|(client, _)| client)
    }

    /// The same, with the secrets that worked at that moment, newest first: client and secrets as they
    /// stood together.
    ///
    /// # Errors
    /// As [`Self::change_client_since`].
    pub async fn change_client_whole(
        &self,
        actor: &Actor,
        id: &str,
        new: &NewClient,
        seen: Option<&Client>,
    ) -> Result<(Client, Vec<ClientSecretRecord>), RegistryError> {
        let changed = self.change_client_with(actor, id, new, seen, None).await?;
        Ok((changed.client, changed.secrets))
    }

    /// The same. If the client proves itself by a secret from now on and did not before, this one is its only one:
    /// it never stands without.
    ///
    /// # Errors
    /// As [`Self::change_client_since`].
    pub async fn change_client_with(
        &self,
        actor: &Actor,
        id: &str,
        new: &NewClient,
        seen: Option<&Client>,
        secret: Option<&TokenDigest>,
    ) -> Result<ChangedClient, RegistryError> {
        let settings = new.clone().check()?;
        let input = (actor.clone(), id.to_owned(), settings, seen.cloned());
        let secret = secret.map(|digest| (new_id(), *digest));
        self.write(
            (input, secret),
            |unit, ((actor, id, settings, seen), secret)| {
                Box::pin(async move {
                    let mut client = find(unit, id).await?;
                    if seen.as_ref().is_some_and(|seen| *seen != client) {
                        return Err(RegistryError::Changed);
                    }
                    if client.settings.client_type != settings.client_type {
                        return Err(PeopleError::Client("it stays public or confidential").into());
                    }
                    let now = unit.now();
                    let mut secrets =
                        store::people::clients::list_secrets(unit.read(), id, now).await?;
                    if client.settings == *settings {
                        return Ok(ChangedClient {
                            client,
                            secrets,
                            took_secret: false,
                        });
                    }
                    let needed = client.settings.auth_method.needs_secret();
                    client.settings = settings.clone();
                    client.changed_at = now;
                    store::people::clients::put(unit.write(), &client).await?;
                    let given = secret.as_ref();
                    let given = given.filter(|_| settings.auth_method.needs_secret() && !needed);
                    if let Some((secret_id, digest)) = given {
                        if let Some(newest) = secrets.first() {
                            let (connection, newest) = (unit.write(), &newest.id);
                            store::people::clients::retire_secrets(
                                connection, id, newest, now, now,
                            )
                            .await?;
                        }
                        let given = NewClientSecret::Random(*digest);
                        insert_secret(unit, id, secret_id, &given).await?;
                        secrets =
                            store::people::clients::list_secrets(unit.read(), id, now).await?;
                    }
                    let took_secret = given.is_some();
                    unit.audit(
                        actor,
                        about_client(AuditAction::ClientChanged, &client, "changed"),
                    );
                    if took_secret {
                        // Whoever watches for secrets that change hands looks for this.
                        let action = AuditAction::ClientSecretRotated;
                        let mut event = about_client(action, &client, "given another secret");
                        event.details.push(("overlap_ms", "0".to_owned()));
                        unit.audit(actor, event);
                    }
                    Ok(ChangedClient {
                        client,
                        secrets,
                        took_secret,
                    })
                })
            },
        )
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
        let input = (secret, overlap_ms.max(0), false);
        self.give_client_secret(actor, id, input).await.map(drop)
    }

    /// Gives a client another secret because somebody else may have the one before: all secrets of
    /// before end now, every grant of it is revoked, and its own tokens end. Returns how many grants.
    ///
    /// # Errors
    /// As [`Self::rotate_client_secret`].
    pub async fn replace_client_secret(
        &self,
        actor: &Actor,
        id: &str,
        secret: &TokenDigest,
    ) -> Result<usize, RegistryError> {
        self.give_client_secret(actor, id, (secret, 0, true)).await
    }

    async fn give_client_secret(
        &self,
        actor: &Actor,
        id: &str,
        (secret, overlap_ms, ends): (&TokenDigest, i64, bool),
    ) -> Result<usize, RegistryError> {
        let how = (new_id(), overlap_ms, ends);
        let input = (actor.clone(), id.to_owned(), *secret, how);
        self.write(input, |unit, (actor, id, digest, how)| {
            Box::pin(async move {
                let (secret_id, overlap, ends) = how;
                let now = unit.now();
                let mut client = find(unit, id).await?;
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
                let secret = NewClientSecret::Random(*digest);
                insert_secret(unit, id, secret_id, &secret).await?;
                unit.made(id);
                let action = AuditAction::ClientSecretRotated;
                let mut event = about_client(action, &client, "given another secret");
                event.details.push(("overlap_ms", overlap.to_string()));
                let mut grants = 0;
                if *ends {
                    grants = end_all(unit, actor, &mut client, EndReason::EndedByAdmin).await?;
                    store::people::clients::put(unit.write(), &client).await?;
                    event.details.push(("grants", grants.to_string()));
                }
                unit.audit(actor, event);
                Ok(grants)
            })
        })
        .await
    }

    /// Ends all that a client was given, and leaves the client: every grant of it is revoked, and its
    /// own tokens end. Returns how many grants.
    ///
    /// # Errors
    /// [`PeopleError::ClientNotFound`].
    pub async fn end_client_tokens(&self, actor: &Actor, id: &str) -> Result<usize, RegistryError> {
        self.write((actor.clone(), id.to_owned()), |unit, (actor, id)| {
            Box::pin(async move {
                let mut client = find(unit, id).await?;
                let grants = end_all(unit, actor, &mut client, EndReason::EndedByAdmin).await?;
                store::people::clients::put(unit.write(), &client).await?;
                let action = AuditAction::ClientTokensEnded;
                let mut event = about_client(action, &client, "left without its tokens");
                event.details.push(("grants", grants.to_string()));
                unit.audit(actor, event);
                Ok(grants)
            })
        })
        .await
    }

    /// Removes a client with its secrets and what people allowed it, revokes every grant of it, and
    /// ends its own tokens. Its id is free again. Returns how many grants.
    ///
    /// # Errors
    /// [`PeopleError::ClientNotFound`].
    pub async fn remove_client(&self, actor: &Actor, id: &str) -> Result<usize, RegistryError> {
        self.write((actor.clone(), id.to_owned()), |unit, (actor, id)| {
            Box::pin(async move {
                let mut client = find(unit, id).await?;
                let grants = end_all(unit, actor, &mut client, EndReason::ClientDisabled).await?;
                store::people::clients::delete(unit.write(), id).await?;
                let mut event = about_client(AuditAction::ClientRemoved, &client, "removed");
                event.details.push(("grants", grants.to_string()));
                unit.audit(actor, event);
                Ok(grants)
            })
        })
        .await
    }

    /// Disables a client, revokes every grant of it, and ends its own tokens. Returns how many grants.
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
                let grants = end_all(unit, actor, &mut client, EndReason::ClientDisabled).await?;
                store::people::clients::put(unit.write(), &client).await?;
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

/// A client that is to be stored; `secret`: whether it comes with one.
pub(super) fn new_client(
    id: &str,
    new: &NewClient,
    secret: bool,
    now: i64,
) -> Result<Client, RegistryError> {
    let settings = new.clone().check()?;
    if settings.auth_method.needs_secret() != secret {
        return Err(PeopleError::Client("its method and its secret do not fit").into());
    }
    let id_is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if id.is_empty() || id.len() > 100 || !id.bytes().all(id_is_plain) {
        return Err(PeopleError::Client("its id has characters that an address escapes").into());
    }
    Ok(Client {
        id: id.to_owned(),
        settings,
        created_at: now,
        changed_at: now,
        disabled_at: None,
        // No series of one that had this id before.
        token_series: new_id(),
        registered_by: None,
    })
}

pub(super) async fn insert(
    unit: &mut Unit,
    client: &Client,
    secret: Option<&NewClientSecret>,
    secret_id: &str,
) -> Result<(), RegistryError> {
    let taken = store::people::clients::find(unit.read(), &client.id).await?;
    if taken.is_some() {
        return Err(PeopleError::ClientIdTaken.into());
    }
    store::people::clients::put(unit.write(), client).await?;
    if let Some(secret) = secret {
        insert_secret(unit, &client.id, secret_id, secret).await?;
    }
    Ok(())
}

/// Revokes every grant of a client and ends its own tokens; the caller stores the client. Returns how
/// many grants.
async fn end_all(
    unit: &mut Unit,
    actor: &Actor,
    client: &mut Client,
    reason: EndReason,
) -> Result<usize, RegistryError> {
    let now = unit.now();
    let until = now.saturating_add(ACCESS_KEPT_MS);
    let own = [client.own_tokens()];
    let connection = unit.write();
    store::people::grants::deny_all(connection, DenialKind::Grant, &own, now, until).await?;
    // What waits for its client to ask for it is given no more either.
    store::people::clients::forget_pending(unit.write(), &client.id).await?;
    client.token_series = new_id();
    let (all, how) = (Revoked::OfClient(&client.id), (now, actor.as_str(), reason));
    store::people::grants::revoke(unit.write(), all, how, until).await
}

async fn insert_secret(
    unit: &mut Unit,
    client_id: &str,
    id: &str,
    secret: &NewClientSecret,
) -> Result<(), RegistryError> {
    let (digest, hash) = match secret {
        NewClientSecret::Random(digest) => (*digest, None),
        NewClientSecret::Chosen(hash) => {
            let nobodys = random_token(&mut rand::rng());
            (TokenDigest::of(&nobodys), Some(hash.clone()))
        }
    };
    let secret = ClientSecretRecord {
        id: id.to_owned(),
        digest,
        hash,
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
