//! A pepper that is lost: what its loss ends, the one that takes its place, and the end of the keys that
//! nobody can verify any more. Each step can be repeated, and one that was cut short goes on with the rest.

use keywright_domain::api_keys::SecretState;
use keywright_domain::audit::Actor;

use crate::api_keys::{End, end_key_for, find};
use crate::portable::end_copy;
use crate::store;
use crate::writer::{Subject, Unit};
use crate::{LocalRegistry, RegistryError};

/// Keys that are ended in one write.
const AT_ONCE: i64 = 100;
/// What stands with a key that ended so.
const REASON: &str = "its pepper was lost";

impl LocalRegistry {
    /// How many keys that work now have a secret under this pepper: so many end with it. A moved key counts
    /// while its copy here works. Reads all of them.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn count_keys_under(&self, pepper: &str) -> Result<i64, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        store::peppers::count_working_keys(&mut connection, pepper, self.now()).await
    }

    /// Puts a new pepper in the place of one that is lost: new secrets are stored under it. What was stored
    /// under the lost one goes on being refused with [`RegistryError::PepperMissing`] until
    /// [`Self::end_keys_under`] ended it.
    ///
    /// # Errors
    /// [`RegistryError::Changed`] if another pepper is in force by now; [`RegistryError::PepperExists`] for an
    /// id that is in use.
    pub async fn replace_lost_pepper(
        &self,
        actor: &Actor,
        lost: &str,
        id: &str,
    ) -> Result<(), RegistryError> {
        let input = (actor.clone(), lost.to_owned(), id.to_owned());
        self.write(input, |unit, (actor, lost, id)| {
            Box::pin(async move {
                if store::peppers::newest(unit.read()).await?.as_deref() != Some(lost.as_str()) {
                    return Err(RegistryError::Changed);
                }
                let summary = "A new pepper took the place of one that was lost";
                let details = vec![("lost", lost.clone())];
                crate::peppers::add(unit, actor, id, summary, details).await
            })
        })
        .await
    }

    /// Ends every key that has a secret under a pepper that is lost: no presented text can be compared with
    /// it any more. Copies of moved keys end here alone. Returns how many keys it was.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written; what was ended by then is.
    pub async fn end_keys_under(&self, actor: &Actor, lost: &str) -> Result<usize, RegistryError> {
        let mut ended = 0;
        loop {
            let mut connection = self.shared.pool.acquire().await?;
            let ids = store::peppers::keys_under(&mut connection, lost, AT_ONCE).await?;
            drop(connection);
            if ids.is_empty() {
                return Ok(ended);
            }
            ended += ids.len();
            let input = (actor.clone(), lost.to_owned(), ids);
            self.write(input, |unit, (actor, lost, ids)| {
                Box::pin(async move {
                    for id in ids {
                        end(unit, actor, id, lost).await?;
                    }
                    Ok(())
                })
            })
            .await?;
        }
    }
}

async fn end(unit: &mut Unit, actor: &Actor, id: &str, lost: &str) -> Result<(), RegistryError> {
    let mut key = find(unit, id).await?;
    if key.revoked_at.is_none() {
        if key.promoted_to.is_some() {
            end_copy(unit, actor, id, REASON).await?;
        } else {
            let details = vec![("pepper", lost.to_owned())];
            end_key_for(unit, actor, id, REASON, End::Revoke, details).await?;
        }
        return Ok(());
    }
    // Revoked otherwise, with all keys of its owner for example: what is left of it needs no pepper either.
    let now = unit.now();
    for secret in key.secrets.iter_mut().filter(|one| one.stored.verifies()) {
        secret.stored = SecretState::Revoked;
        secret.ended_at = Some(now);
    }
    unit.change(Subject::ApiKey(key.id.clone()));
    store::secrets::update_states(unit.write(), &key.secrets).await
}
