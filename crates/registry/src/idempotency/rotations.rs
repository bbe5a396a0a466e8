//! Rotating a key once, however often it is asked for. A caller's name for a request is the caller's
//! own: another caller's is another one, and with another request it is refused.

use keywright_domain::api_keys::{ApiKey, PlainKey, Rotation, RotationRequest};
use keywright_domain::audit::Actor;
use keywright_domain::base62::random_id;

use super::{IdempotencyKey, KEPT_MS};
use crate::api_keys::{ClientSecret, NewSecret, find};
use crate::peppers::{PepperKey, Peppers};
use crate::rotation::rotate;
use crate::writer::{Unit, Wants};
use crate::{LocalRegistry, NarrowScopes, RegistryError, store};

/// A rotation that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct RotationWish<'a> {
    /// How the secrets change.
    pub request: &'a RotationRequest,
    /// How the key's scopes are narrowed with it; none to leave them.
    pub narrow: Option<&'a NarrowScopes>,
}

impl<'a> From<&'a RotationRequest> for RotationWish<'a> {
    fn from(request: &'a RotationRequest) -> Self {
        Self {
            request,
            narrow: None,
        }
    }
}

/// What came of a rotation that may have been asked for before.
#[derive(Debug)]
pub enum RotatedOnce {
    /// It was carried out.
    Now {
        /// The record.
        key: ApiKey,
        /// What it was.
        rotation: Rotation,
        /// The new secret, unless the client made it.
        plain: Option<PlainKey>,
    },
    /// An earlier request carried it out, and this is how both stand now.
    Before {
        /// The record.
        key: ApiKey,
        /// What it was.
        rotation: Rotation,
    },
}

impl LocalRegistry {
    /// Gives a key a new secret, or finds the rotation that the same request was answered with before.
    /// The name is remembered for seven days, in the transaction that rotates. Without a name it is
    /// carried out each time.
    ///
    /// # Errors
    /// [`RegistryError::IdempotencyKeyReused`] for the same name with another request;
    /// [`RegistryError::ProposalChanged`], [`RegistryError::UsesUnnamed`]; otherwise as
    /// [`Self::rotate_api_key`] and [`Self::rotate_api_key_to`].
    pub async fn rotate_api_key_once(
        &self,
        actor: &Actor,
        id: &str,
        wish: impl Into<RotationWish<'_>>,
        client: Option<&ClientSecret>,
        once: Option<&IdempotencyKey>,
        peppers: &Peppers,
    ) -> Result<RotatedOnce, RegistryError> {
        if let Some(client) = client {
            client.check()?;
        }
        let RotationWish { request, narrow } = wish.into();
        if narrow.is_some() {
            // Uses that wait in memory are uses.
            self.flush_uses().await?;
        }
        let rotation_id = random_id(&mut rand::rng());
        let wants = Wants {
            rotation: Some((id.to_owned(), rotation_id.clone())),
            ..Wants::default()
        };
        let input = Input {
            actor: actor.clone(),
            id: id.to_owned(),
            request: request.clone(),
            narrow: narrow.cloned(),
            rotation_id,
            client: client.cloned(),
            once: once.cloned(),
            pepper: peppers.current().clone(),
        };
        self.write_grouped(input, wants, |unit, input| {
            Box::pin(rotate_once(unit, input))
        })
        .await
    }
}

#[derive(Clone)]
struct Input {
    actor: Actor,
    id: String,
    request: RotationRequest,
    narrow: Option<NarrowScopes>,
    rotation_id: String,
    client: Option<ClientSecret>,
    once: Option<IdempotencyKey>,
    pepper: PepperKey,
}

async fn rotate_once(unit: &mut Unit, input: &Input) -> Result<RotatedOnce, RegistryError> {
    let actor = &input.actor;
    if let Some(once) = &input.once
        && let Some((request, rotation_id)) =
            store::idempotency::find(unit.read(), actor.as_str(), &once.name).await?
    {
        if request != once.request {
            return Err(RegistryError::IdempotencyKeyReused);
        }
        // It may have been carried out in this very group.
        let (rotation, _) = unit.rotations(&rotation_id, &input.id).await?;
        return Ok(RotatedOnce::Before {
            key: find(unit, &input.id).await?,
            rotation: rotation.ok_or(RegistryError::RotationNotFound)?,
        });
    }
    let (plain, secret) = match &input.client {
        Some(client) => (None, NewSecret::of_client(client, &input.pepper)),
        None => {
            let prefix = find(unit, &input.id).await?.prefix;
            let plain = PlainKey::generate(&prefix, &mut rand::rng());
            let secret = NewSecret::of_plain(&plain, &input.pepper);
            (Some(plain), secret)
        }
    };
    let (id, rotation_id) = (&input.id, &input.rotation_id);
    let wish = RotationWish {
        request: &input.request,
        narrow: input.narrow.as_ref(),
    };
    let (key, rotation) = rotate(unit, actor, id, wish, rotation_id, &secret).await?;
    if let Some(once) = &input.once {
        let now = unit.now();
        // Beside the keys, people and sessions that are kept in memory.
        let write = unit.write_beside();
        store::idempotency::prune(write, now.saturating_sub(KEPT_MS)).await?;
        store::idempotency::insert(write, actor.as_str(), once, rotation_id, now).await?;
    }
    Ok(RotatedOnce::Now {
        key,
        rotation,
        plain,
    })
}
