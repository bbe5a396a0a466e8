//! Whether the signing keys of a registry can be used with these secrets.

use keywright_registry::{LocalRegistry, RegistryError};

use super::keys::PURPOSE;
use super::{Alg, Signer};
use crate::secrets::ServerSecrets;

/// How it stands with the keys of one algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFinding {
    /// One signs.
    Good,
    /// None yet: the server makes it when it starts.
    None,
    /// It was sealed under another master key, or is damaged.
    Unusable,
}

/// Looks at the key that signs, for each algorithm.
///
/// # Errors
/// [`RegistryError`] if the registry cannot be read.
pub async fn check_signing_keys(
    registry: &LocalRegistry,
    secrets: &ServerSecrets,
) -> Result<Vec<(&'static str, KeyFinding)>, RegistryError> {
    let known = registry.list_signing_keys().await?;
    let mut findings = Vec::new();
    for alg in Alg::ALL {
        let active = |key: &&keywright_domain::people::SigningKey| {
            key.alg == alg.as_str() && key.state == keywright_domain::people::KeyState::Active
        };
        if !known.iter().any(|key| active(&key)) {
            findings.push((alg.as_str(), KeyFinding::None));
            continue;
        }
        let (found, sealed) = registry.find_active_signing_key(alg.as_str()).await?;
        let opened = secrets.unseal(PURPOSE, &sealed).ok();
        let signer = opened.and_then(|pkcs8| Signer::from_pkcs8(alg, &pkcs8).ok());
        let good = signer.is_some_and(|signer| signer.kid == found.kid);
        let finding = if good {
            KeyFinding::Good
        } else {
            KeyFinding::Unusable
        };
        findings.push((alg.as_str(), finding));
    }
    Ok(findings)
}
