//! Issuing a key once, however often it is asked for. The answer to a retry names the key; its
//! secret is not stored anywhere and is not shown again.

mod rotations;

use keywright_domain::api_keys::{ApiKey, NewApiKey, PlainKey};
use keywright_domain::audit::Actor;
use keywright_domain::base62::ordered_id;

use crate::api_keys::{self, ClientSecret, NewSecret};
use crate::peppers::Peppers;
use crate::writer::{Unit, Wants};
use crate::{LocalRegistry, RegistryError, store};

pub use self::rotations::RotatedOnce;

/// Names are remembered for so long.
const KEPT_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// What a caller names a request by, so that it can be sent again.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    /// The caller's own name for it. Names of different actors have nothing to do with each other.
    pub name: String,
    /// SHA-256 of what is asked for: the same name for something else is refused.
    pub request: [u8; 32],
}

/// What came of a request that may have been made before.
#[derive(Debug)]
pub enum IssuedOnce {
    /// The key is new.
    Now {
        /// The record.
        key: ApiKey,
        /// Its secret, unless the client made it.
        plain: Option<PlainKey>,
    },
    /// The key was issued by an earlier request, and this is how it stands now.
    Before(ApiKey),
}

impl LocalRegistry {
    /// Issues a key, or finds the one that the same request was answered with before. The name is
    /// remembered for seven days, in the transaction that issues.
    ///
    /// # Errors
    /// [`RegistryError::IdempotencyKeyReused`] for the same name with another request; otherwise as
    /// [`Self::issue_api_key`] and [`Self::issue_api_key_for`].
    pub async fn issue_api_key_once(
        &self,
        actor: &Actor,
        wish: &NewApiKey,
        client: Option<&ClientSecret>,
        once: &IdempotencyKey,
        peppers: &Peppers,
    ) -> Result<IssuedOnce, RegistryError> {
        let plain = match client {
            Some(_) => None,
            None => Some(PlainKey::generate(
                &wish.checked_prefix()?,
                &mut rand::rng(),
            )),
        };
        let secret = match (client, &plain) {
            (Some(client), _) => {
                client.check()?;
                NewSecret::of_client(client, peppers.current())
            }
            (None, Some(plain)) => NewSecret::of_plain(plain, peppers.current()),
            (None, None) => return Err(RegistryError::PepperMissing),
        };
        let id = ordered_id(self.now(), &mut rand::rng());
        let owner = wish.owner.as_ref().map(|owner| owner.id.clone());
        let wants = Wants {
            principals: owner.into_iter().chain(wish.creator.clone()).collect(),
            rotation: None,
            refresh: None,
        };
        let input = (
            actor.clone(),
            wish.clone(),
            secret,
            id.clone(),
            once.clone(),
        );
        let key = self
            .write_grouped(input, wants, |unit, (actor, wish, secret, id, once)| {
                Box::pin(issue(unit, actor, wish, secret, id, once))
            })
            .await?;
        if key.id == id {
            Ok(IssuedOnce::Now { key, plain })
        } else {
            Ok(IssuedOnce::Before(key))
        }
    }
}

async fn issue(
    unit: &mut Unit,
    actor: &Actor,
    wish: &NewApiKey,
    secret: &NewSecret,
    id: &str,
    once: &IdempotencyKey,
) -> Result<ApiKey, RegistryError> {
    let found = store::idempotency::find(unit.read(), actor.as_str(), &once.name).await?;
    if let Some((request, key_id)) = found {
        if request != once.request {
            return Err(RegistryError::IdempotencyKeyReused);
        }
        return api_keys::find(unit, &key_id).await;
    }
    let key = api_keys::issue(unit, actor, wish, secret, id).await?;
    let now = unit.now();
    let write = unit.write();
    store::idempotency::prune(write, now.saturating_sub(KEPT_MS)).await?;
    store::idempotency::insert(write, actor.as_str(), once, id, now).await?;
    Ok(key)
}
