//! The pepper of this device's registry: made once, kept in the keychain, held in memory while
//! the app runs. It is never made anew by itself while the registry names one: that would kill every key. Where
//! it is lost, a person may say so and start with a new one.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keywright_domain::SecretText;
use keywright_domain::api_keys::Pepper;
use keywright_domain::base62::random_id;
use keywright_protocol::settings::{KeychainView, LostPepperView, NewPepperRequest};
use keywright_registry::{LocalRegistry, PepperKey, Peppers, RegistryError};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::{App, AppError};

#[derive(Default)]
pub(crate) struct PepperCell(Mutex<Option<Arc<Peppers>>>);

impl PepperCell {
    /// Drops the pepper from memory; the next use asks the keychain again.
    pub(crate) async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

fn entry(id: &str) -> String {
    format!("pepper:{id}")
}

impl App {
    /// The peppers in force, newest first; none if this registry has never issued a key.
    pub(crate) async fn peppers(
        &self,
        registry: &LocalRegistry,
    ) -> Result<Option<Arc<Peppers>>, AppError> {
        let mut cell = self.inner.pepper.0.lock().await;
        if let Some(pepper) = &*cell {
            return Ok(Some(Arc::clone(pepper)));
        }
        let mut known = registry.list_peppers().await?.into_iter();
        let Some(newest) = known.next() else {
            return Ok(None);
        };
        let mut peppers = Peppers::new(self.read_pepper(newest.id).await?);
        // Those that no secret is stored under any more may be gone.
        for older in known.filter(|older| older.is_needed) {
            peppers = peppers.with_older(self.read_pepper(older.id).await?);
        }
        let peppers = Arc::new(peppers.complete());
        *cell = Some(Arc::clone(&peppers));
        Ok(Some(peppers))
    }

    /// The peppers in force, made now if there was none.
    pub(crate) async fn peppers_or_new(
        &self,
        registry: &LocalRegistry,
    ) -> Result<Arc<Peppers>, AppError> {
        if let Some(pepper) = self.peppers(registry).await? {
            return Ok(pepper);
        }
        let mut cell = self.inner.pepper.0.lock().await;
        if let Some(pepper) = &*cell {
            return Ok(Arc::clone(pepper));
        }
        // Keychain first, database second: a crash in between leaves an entry that nothing names,
        // never a registry whose pepper is nowhere.
        let kept = self.make_pepper().await?;
        let adopted = registry.adopt_pepper(&self.inner.actor, &kept.id).await?;
        let pepper = if adopted == kept.id {
            kept
        } else {
            // Another process was first; ours is named by nobody.
            self.inner.keychain.delete(&entry(&kept.id)).await?;
            self.read_pepper(adopted).await?
        };
        let peppers = Arc::new(Peppers::new(pepper).complete());
        *cell = Some(Arc::clone(&peppers));
        Ok(peppers)
    }

    /// Whether the registry's pepper is lost, and what that ends.
    ///
    /// # Errors
    /// [`AppError::Registry`] if the registry cannot be read.
    pub async fn lost_pepper(&self) -> Result<LostPepperView, AppError> {
        let registry = self.inner.registry.get().await?;
        if self.inner.pepper.0.lock().await.is_some() {
            return Ok(LostPepperView {
                lost: false,
                keys: 0,
            });
        }
        let lost = match self.lost_peppers(&registry).await {
            // In a keychain that does not answer there is none of them.
            Err(AppError::Keychain(_)) => needed(&registry).await?,
            lost => lost?,
        };
        Ok(LostPepperView {
            lost: !lost.is_empty(),
            keys: count_keys(&registry, &lost).await?,
        })
    }

    /// Starts with a new pepper where the old one is lost, and ends the keys that nobody can verify any more.
    /// Cut short, it is done again and goes on with the rest.
    ///
    /// # Errors
    /// [`AppError::PepperThere`] where it is not lost; `changed_meanwhile` if more keys end than the person
    /// was told; [`AppError::Keychain`], [`AppError::Registry`].
    pub async fn start_with_new_pepper(
        &self,
        request: NewPepperRequest,
    ) -> Result<KeychainView, AppError> {
        let registry = self.inner.registry.get().await?;
        let cell = self.inner.pepper.0.lock().await;
        if cell.is_some() {
            return Err(AppError::PepperThere);
        }
        // That a keychain has no such entry counts only where it is healthy.
        self.inner.keychain.check().await?;
        let lost = self.lost_peppers(&registry).await?;
        if lost.is_empty() {
            return Err(AppError::PepperThere);
        }
        if count_keys(&registry, &lost).await? > request.keys {
            return Err(RegistryError::Changed.into());
        }
        let actor = &self.inner.actor;
        if let Some(newest) = registry.pepper_id().await?
            && lost.contains(&newest)
        {
            let kept = self.make_pepper().await?;
            registry
                .replace_lost_pepper(actor, &newest, &kept.id)
                .await?;
        }
        for pepper in &lost {
            let keys = registry.end_keys_under(actor, pepper).await?;
            tracing::warn!(
                pepper,
                keys,
                "a pepper was lost, and the keys under it ended"
            );
        }
        drop(cell);
        self.peppers(&registry).await?;
        self.inner.events.registry_changed();
        self.check_keychain().await
    }

    /// Writes the peppers that are in memory, if they are, to a keychain that took another one's place.
    pub(crate) async fn keep_peppers_in_memory(&self) -> Result<(), AppError> {
        let cell = self.inner.pepper.0.lock().await;
        for pepper in cell.iter().flat_map(|peppers| peppers.iter()) {
            self.inner
                .keychain
                .write(&entry(&pepper.id), &encode(&pepper.pepper))
                .await?;
        }
        Ok(())
    }

    /// The peppers that are needed and not in the keychain, newest first.
    async fn lost_peppers(&self, registry: &LocalRegistry) -> Result<Vec<String>, AppError> {
        let mut lost = Vec::new();
        for id in needed(registry).await? {
            match self.read_pepper(id.clone()).await {
                Ok(_) => {}
                Err(AppError::Registry(error))
                    if matches!(*error, RegistryError::PepperMissing) =>
                {
                    lost.push(id);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(lost)
    }

    /// A pepper that nothing names yet, in the keychain and read back from there.
    async fn make_pepper(&self) -> Result<PepperKey, AppError> {
        let id = random_id(&mut rand::rng());
        let pepper = Pepper::generate(&mut rand::rng());
        self.inner
            .keychain
            .write(&entry(&id), &encode(&pepper))
            .await?;
        let kept = self.read_pepper(id).await?;
        if kept.pepper.expose() != pepper.expose() {
            return Err(RegistryError::PepperMissing.into());
        }
        Ok(kept)
    }

    async fn read_pepper(&self, id: String) -> Result<PepperKey, AppError> {
        let text = self
            .inner
            .keychain
            .read(&entry(&id))
            .await?
            .ok_or(RegistryError::PepperMissing)?;
        let pepper = decode(&text).ok_or(RegistryError::PepperMissing)?;
        Ok(PepperKey { id, pepper })
    }
}

/// The peppers that the registry needs: the newest, and those that secrets are stored under.
async fn needed(registry: &LocalRegistry) -> Result<Vec<String>, AppError> {
    let known = registry.list_peppers().await?;
    let needed = known
        .into_iter()
        .enumerate()
        .filter(|(index, pepper)| *index == 0 || pepper.is_needed);
    Ok(needed.map(|(_, pepper)| pepper.id).collect())
}

async fn count_keys(registry: &LocalRegistry, peppers: &[String]) -> Result<i64, AppError> {
    let mut keys = 0;
    for pepper in peppers {
        keys += registry.count_keys_under(pepper).await?;
    }
    Ok(keys)
}

fn encode(pepper: &Pepper) -> SecretText {
    SecretText::new(STANDARD.encode(pepper.expose()))
}

fn decode(text: &SecretText) -> Option<Pepper> {
    let bytes = Zeroizing::new(STANDARD.decode(text.expose()).ok()?);
    Some(Pepper::from_bytes(bytes.as_slice().try_into().ok()?))
}

#[cfg(test)]
#[path = "pepper_tests.rs"]
mod tests;
