//! The pepper of this device's registry: made once, kept in the keychain, held in memory while
//! the app runs. It is never made anew while the registry names one: that would kill every key.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keywright_domain::SecretText;
use keywright_domain::api_keys::Pepper;
use keywright_domain::base62::random_id;
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
        let peppers = Arc::new(peppers);
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
        let id = random_id(&mut rand::rng());
        let pepper = Pepper::generate(&mut rand::rng());
        self.inner
            .keychain
            .write(&entry(&id), &encode(&pepper))
            .await?;
        let kept = self.read_pepper(id.clone()).await?;
        if kept.pepper.expose() != pepper.expose() {
            return Err(RegistryError::PepperMissing.into());
        }
        let adopted = registry.adopt_pepper(&self.inner.actor, &id).await?;
        let pepper = if adopted == id {
            kept
        } else {
            // Another process was first; ours is named by nobody.
            self.inner.keychain.delete(&entry(&id)).await?;
            self.read_pepper(adopted).await?
        };
        let peppers = Arc::new(Peppers::new(pepper));
        *cell = Some(Arc::clone(&peppers));
        Ok(peppers)
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

fn encode(pepper: &Pepper) -> SecretText {
    SecretText::new(STANDARD.encode(pepper.expose()))
}

fn decode(text: &SecretText) -> Option<Pepper> {
    let bytes = Zeroizing::new(STANDARD.decode(text.expose()).ok()?);
    Some(Pepper::from_bytes(bytes.as_slice().try_into().ok()?))
}
