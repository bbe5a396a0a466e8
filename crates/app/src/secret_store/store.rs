//! Which keychain this platform has, opened explicitly: no process-wide default store.

use std::collections::HashMap;
use std::sync::Arc;

use keyring_core::{CredentialStore, Entry, Result};
use keywright_domain::SecretText;

use super::{EntryName, KeychainError};

/// Opens a store; called again whenever the last one stopped working.
pub(crate) type OpenStore = Arc<dyn Fn() -> Result<Arc<CredentialStore>> + Send + Sync>;

/// What people call it.
#[cfg(target_os = "linux")]
pub(crate) const STORE_NAME: &str = "Secret Service";
/// What people call it.
#[cfg(target_os = "macos")]
pub(crate) const STORE_NAME: &str = "Keychain";
/// What people call it.
#[cfg(target_os = "windows")]
pub(crate) const STORE_NAME: &str = "Credential Manager";

/// `CRED_MAX_CREDENTIAL_BLOB_SIZE` of Windows.
#[cfg(target_os = "windows")]
const SIZE_LIMIT: usize = 2560;
#[cfg(not(target_os = "windows"))]
const SIZE_LIMIT: usize = 1024 * 1024;

/// Opens the platform's store.
pub(crate) fn open_platform_store() -> Result<Arc<CredentialStore>> {
    #[cfg(target_os = "linux")]
    let store = zbus_secret_service_keyring_store::Store::new()?;
    #[cfg(target_os = "macos")]
    let store = apple_native_keyring_store::keychain::Store::new()?;
    #[cfg(target_os = "windows")]
    let store = windows_native_keyring_store::Store::new()?;
    Ok(store)
}

/// The entry of a name, not necessarily present.
pub(crate) fn entry(store: &CredentialStore, name: &EntryName) -> Result<Entry> {
    let label = format!("Keywright: {}", name.user);
    let modifiers = if cfg!(target_os = "linux") {
        HashMap::from([("label", label.as_str())])
    } else if cfg!(target_os = "windows") {
        // Never roams to other machines of a domain.
        HashMap::from([("persistence", "Local")])
    } else {
        HashMap::new()
    };
    store.build(&name.service, &name.user, Some(&modifiers))
}

/// Refuses what the platform would refuse, with its size.
pub(crate) fn check_size(secret: &SecretText) -> std::result::Result<(), KeychainError> {
    let bytes = secret.expose().len();
    if bytes > SIZE_LIMIT {
        return Err(KeychainError::TooLarge {
            bytes,
            limit: SIZE_LIMIT,
        });
    }
    Ok(())
}
