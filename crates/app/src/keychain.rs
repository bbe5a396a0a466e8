//! The keychain as a person sees it: how it is, and the encrypted file in its place.

use keywright_domain::SecretText;
use keywright_protocol::settings::{KeychainView, PassphraseRequest};

use crate::secret_store::KeychainError;
use crate::{App, AppError};

impl App {
    /// Probes the keychain with a write, a read and a delete.
    ///
    /// # Errors
    /// None: what is wrong stands in the view.
    pub async fn check_keychain(&self) -> Result<KeychainView, AppError> {
        let view = self.inner.keychain.probe().await;
        if view.healthy {
            self.inner.accounts.sessions.keychain_answers();
        }
        Ok(view)
    }

    /// Makes an encrypted file in place of a keychain that this system does not have.
    ///
    /// # Errors
    /// [`KeychainError::VaultNotNeeded`] where a keychain works, or where this registry's keys
    /// were made with a pepper that is in one: they could not be verified any more.
    pub async fn create_vault(&self, request: PassphraseRequest) -> Result<KeychainView, AppError> {
        let passphrase = SecretText::new(request.passphrase);
        if self
            .inner
            .registry
            .get()
            .await?
            .pepper_id()
            .await?
            .is_some()
        {
            let why = "This registry's keys need the pepper that is in the keychain.";
            return Err(KeychainError::VaultNotNeeded(why).into());
        }
        self.inner.keychain.create_vault(passphrase).await?;
        tracing::info!("an encrypted file was made in place of the keychain");
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
