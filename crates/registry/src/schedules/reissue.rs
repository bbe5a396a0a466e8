//! A secret that the client made for a rotation that is under way: whoever delivers a scheduled
//! rotation makes its secret where it is needed, and no registry ever shows one.

use keywright_domain::api_keys::{ApiKey, KeyError};
use keywright_domain::audit::Actor;

use crate::api_keys::{ClientSecret, NewSecret, find};
use crate::peppers::Peppers;
use crate::rotation::reissue;
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

impl LocalRegistry {
    /// Replaces the pending secret of a rotation by one that the client made. The one before is
    /// cancelled; the rotation stays the same one. The same secret again changes nothing.
    ///
    /// # Errors
    /// [`RegistryError::RotationNotFound`]; [`KeyError::NoRotation`] once the new secret was used;
    /// [`KeyError::ClientSecret`] for a secret that is no good, or is another key's or rotation's.
    pub async fn reissue_secret_to(
        &self,
        actor: &Actor,
        rotation_id: &str,
        secret: &ClientSecret,
        peppers: &Peppers,
    ) -> Result<ApiKey, RegistryError> {
        secret.check()?;
        let secret = NewSecret::of_client(secret, peppers.current());
        let input = (actor.clone(), rotation_id.to_owned(), secret);
        self.write(input, |unit, (actor, rotation_id, secret)| {
            Box::pin(reissue_to(unit, actor, rotation_id, secret))
        })
        .await
    }
}

async fn reissue_to(
    unit: &mut Unit,
    actor: &Actor,
    rotation_id: &str,
    new: &NewSecret,
) -> Result<ApiKey, RegistryError> {
    let rotation = store::rotations::find(unit.read(), rotation_id)
        .await?
        .ok_or(RegistryError::RotationNotFound)?;
    if rotation.new == new.kid {
        return find(unit, &rotation.key_id).await;
    }
    if store::secrets::find_key_id(unit.read(), new.kid.as_str())
        .await?
        .is_some()
    {
        return Err(KeyError::ClientSecret.into());
    }
    reissue(unit, actor, rotation_id, new).await
}
