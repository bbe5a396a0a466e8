//! What a write depends on beside the rules of its use case: the name that the caller gave the request
//! (`Idempotency-Key`), the state that the caller saw (`If-Match`, RFC 9110 §13), and whether the caller
//! may have the secret that it hands out. All are looked at in the transaction that writes, so that it holds on several nodes and after a crash.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keywright_domain::api_keys::PolicyEnvironment;
use keywright_domain::audit::Actor;
use keywright_domain::people::{Client, RoleName};
use keywright_domain::scopes::ScopeSet;

use crate::api_keys::check_secret_of;
use crate::idempotency::IdempotencyKey;
use crate::outbox::Webhook;
use crate::people::{ClientSecretRecord, IdentityProvider, Role, User};
use crate::principals::Principal;
use crate::schedules::KeySchedule;
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, idempotency, store};

/// What a caller may have seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// The policy of an environment.
    Policy(PolicyEnvironment),
    /// The schedule of a key, by the key's id.
    Schedule(String),
    /// A role.
    Role(RoleName),
    /// A person, with roles.
    User(String),
    /// A webhook.
    Webhook(String),
    /// An identity provider, disabled ones too.
    Provider(String),
    /// A client, with its secrets.
    Client(String),
    /// An owner of keys.
    Owner(String),
}

/// A thing as it stands in the transaction.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A policy.
    Policy(keywright_domain::api_keys::Policy),
    /// A schedule.
    Schedule(KeySchedule),
    /// A role.
    Role(Role),
    /// A person.
    User(Box<User>),
    /// A webhook.
    Webhook(Webhook),
    /// An identity provider.
    Provider(IdentityProvider),
    /// A client with the secrets that work now, newest first.
    Client(Box<Client>, Vec<ClientSecretRecord>),
    /// An owner of keys.
    Owner(Box<Principal>),
}

/// Whether a state is one that the caller saw; none where the thing is not there.
type Holds = Arc<dyn Fn(Option<&Seen>) -> bool + Send + Sync>;

/// Conditions of one write.
#[derive(Clone, Default)]
pub struct Conditions {
    once: Option<(Actor, IdempotencyKey)>,
    state: Option<(Thing, Holds)>,
    secret_of: Option<(String, ScopeSet)>,
}

impl Conditions {
    /// It is done once, however often it is asked for under this name.
    #[must_use]
    pub fn once(mut self, actor: &Actor, key: IdempotencyKey) -> Self {
        self.once = Some((actor.clone(), key));
        self
    }

    /// It is done only if the thing stands as the caller saw it.
    #[must_use]
    pub fn when(
        mut self,
        thing: Thing,
        holds: impl Fn(Option<&Seen>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.state = Some((thing, Arc::new(holds)));
        self
    }

    /// It hands out a secret of this key to somebody who holds no more than `held`. Of a management key
    /// that may do more than that it fails with [`KeyError::ScopeExceedsCreator`]; its scopes may have
    /// become more since the caller was let in.
    ///
    /// [`KeyError::ScopeExceedsCreator`]: keywright_domain::api_keys::KeyError::ScopeExceedsCreator
    #[must_use]
    pub fn secret_of(mut self, key_id: &str, held: &ScopeSet) -> Self {
        self.secret_of = Some((key_id.to_owned(), held.clone()));
        self
    }

    /// Before the use case: nothing is written yet.
    pub(crate) async fn before(&self, unit: &mut Unit) -> Result<(), RegistryError> {
        unit.forget_made();
        // First: what was done under this name changed the state that its caller saw.
        if let Some((actor, key)) = &self.once
            && let Some(made) = idempotency::find(unit, actor, key).await?
        {
            return Err(RegistryError::DoneBefore { made });
        }
        if let Some((thing, holds)) = &self.state {
            let seen = find(unit, thing).await?;
            if !holds(seen.as_ref()) {
                return Err(RegistryError::Precondition);
            }
        }
        // A key that is not there is the use case's to refuse.
        if let Some((key_id, held)) = &self.secret_of
            && let Some(key) = unit.key(key_id).await?
        {
            check_secret_of(&key, held)?;
        }
        Ok(())
    }

    /// After it, in the same transaction.
    pub(crate) async fn after(&self, unit: &mut Unit) -> Result<(), RegistryError> {
        if let Some((actor, key)) = &self.once {
            let made = unit.take_made();
            idempotency::remember(unit, actor, key, &made).await?;
        }
        Ok(())
    }
}

impl fmt::Debug for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conditions")
            .field("once", &self.once.is_some())
            .field("state", &self.state.as_ref().map(|(thing, _)| thing))
            .field("secret_of", &self.secret_of)
            .finish()
    }
}

/// Conditions that wait for their write.
#[derive(Debug)]
pub(crate) struct ForOneWrite {
    conditions: Conditions,
    taken: AtomicBool,
}

impl LocalRegistry {
    /// The registry for one write that depends on these conditions: a use case that is one transaction
    /// is called on it, once. A second write is refused.
    ///
    /// That use case fails with [`RegistryError::DoneBefore`] where it was done before under the
    /// same name, with [`RegistryError::IdempotencyKeyReused`] where the name stood for something
    /// else, and with [`RegistryError::Precondition`] where the state is another.
    #[must_use]
    pub fn under(&self, conditions: Conditions) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            conditions: Some(Arc::new(ForOneWrite {
                conditions,
                taken: AtomicBool::new(false),
            })),
        }
    }

    /// The conditions of the write that is about to be queued.
    pub(crate) fn take_conditions(&self) -> Result<Option<Conditions>, RegistryError> {
        let Some(waiting) = &self.conditions else {
            return Ok(None);
        };
        if waiting.taken.swap(true, Ordering::Relaxed) {
            let why = "conditions are for one write, and this is the second";
            return Err(RegistryError::Store(why.to_owned()));
        }
        Ok(Some(waiting.conditions.clone()))
    }
}

async fn find(unit: &mut Unit, thing: &Thing) -> Result<Option<Seen>, RegistryError> {
    let connection = unit.read();
    Ok(match thing {
        Thing::Policy(environment) => {
            let policies = store::policies::list(connection).await?;
            let mut policies = policies.into_iter();
            let found = policies.find(|policy| policy.environment == *environment);
            found.map(Seen::Policy)
        }
        Thing::Schedule(key_id) => {
            let found = store::schedules::find(connection, key_id).await?;
            found.map(Seen::Schedule)
        }
        Thing::Role(name) => {
            let found = store::people::roles::find(connection, name.as_str()).await?;
            found.map(Seen::Role)
        }
        Thing::User(id) => {
            let Some(mut user) = store::people::users::find(connection, id).await? else {
                return Ok(None);
            };
            let roles = store::people::roles::list_of_user(connection, id).await?;
            user.roles = roles.into_iter().map(|role| role.name).collect();
            Some(Seen::User(Box::new(user)))
        }
        Thing::Webhook(id) => {
            let found = store::webhooks::find(connection, id).await?;
            found.map(Seen::Webhook)
        }
        Thing::Provider(id) => {
            let found = store::people::providers::find(connection, id).await?;
            found.map(Seen::Provider)
        }
        Thing::Client(id) => {
            let Some(client) = store::people::clients::find(connection, id).await? else {
                return Ok(None);
            };
            let now = unit.now();
            let secrets = store::people::clients::list_secrets(unit.read(), id, now).await?;
            Some(Seen::Client(Box::new(client), secrets))
        }
        Thing::Owner(id) => {
            let found = store::principals::find(connection, id).await?;
            found.map(|principal| Seen::Owner(Box::new(principal)))
        }
    })
}
