//! The keychain as a person sees it: how it is, and the encrypted file in its place.

use keywright_domain::SecretText;
use keywright_protocol::settings::{
    CreateVaultRequest, KeychainView, NewPepperRequest, PassphraseRequest,
};
use keywright_registry::RegistryError;

use crate::secret_store::KeychainError;
use crate::{App, AppError};

impl App {
    /// Probes the keychain with a write, a read and a delete, and looks whether the registry's pepper is in it.
    ///
    /// # Errors
    /// None: what is wrong stands in the view.
    pub async fn check_keychain(&self) -> Result<KeychainView, AppError> {
        let mut view = self.inner.keychain.probe().await;
        if !view.healthy {
            return Ok(view);
        }
        self.inner.accounts.sessions.keychain_answers();
        // A keychain without the pepper is as bad as none for the keys. What ails the registry itself is told
        // elsewhere.
        if let Ok(registry) = self.inner.registry.get().await
            && let Err(error) = self.peppers(&registry).await
            && is_about_the_keychain(&error)
        {
            view.healthy = false;
            view.problem = Some(error.into());
        }
        Ok(view)
    }

    /// Makes an encrypted file in place of a keychain that this system does not have. A pepper that is still in
    /// memory goes into it; where the registry's keys were made with one that is in a keychain, they end, and a
    /// person says so.
    ///
    /// # Errors
    /// [`KeychainError::VaultNotNeeded`] where a keychain works, or where more keys end than the person was
    /// told.
    pub async fn create_vault(
        &self,
        request: CreateVaultRequest,
    ) -> Result<KeychainView, AppError> {
        let passphrase = SecretText::new(request.passphrase);
        let lost = self.lost_pepper().await?;
        if lost.lost && request.keys.is_none_or(|told| lost.keys > told) {
            let why = "This registry's keys need the pepper that is in the keychain.";
            return Err(KeychainError::VaultNotNeeded(why).into());
        }
        self.inner.keychain.create_vault(passphrase).await?;
        tracing::info!("an encrypted file was made in place of the keychain");
        if lost.lost {
            let keys = lost.keys;
            self.start_with_new_pepper(NewPepperRequest { keys })
                .await?;
        } else {
            self.keep_peppers_in_memory().await?;
        }
        self.inner.events.accounts_changed();
        self.check_keychain().await
    }

    /// Opens the encrypted file with its passphrase.
    ///
    /// # Errors
    /// [`KeychainError::VaultWrongPassphrase`], [`KeychainError::VaultBackOff`],
    /// [`KeychainError::VaultCorrupt`].
    pub async fn unlock_vault(&self, request: PassphraseRequest) -> Result<KeychainView, AppError> {
        self.inner
            .keychain
            .unlock_vault(SecretText::new(request.passphrase))
            .await?;
        self.inner.events.accounts_changed();
        self.check_keychain().await
    }

    /// Forgets the key of the encrypted file, and the pepper that was read from it.
    ///
    /// # Errors
    /// None today; faces treat every command alike.
    pub async fn lock_vault(&self) -> Result<KeychainView, AppError> {
        self.inner.keychain.lock_vault();
        self.inner.pepper.forget().await;
        self.check_keychain().await
    }
}

fn is_about_the_keychain(error: &AppError) -> bool {
    match error {
        AppError::Keychain(_) => true,
        AppError::Registry(error) => matches!(**error, RegistryError::PepperMissing),
        _ => false,
    }
}
