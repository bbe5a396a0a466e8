//! What strangers get who sign up by an identity provider.

use keywright_registry::{LocalRegistry, RegistryError};

use crate::settings::{Settings, SignUp};

/// The roles of `sign_up.provider_roles` that the registry does not have: while one is missing nobody signs up.
///
/// # Errors
/// [`RegistryError`] if nothing can be read.
pub async fn missing_sign_up_roles(
    settings: &Settings,
    registry: &LocalRegistry,
) -> Result<Vec<String>, RegistryError> {
    let SignUp::ByProvider(roles) = &settings.sign_up else {
        return Ok(Vec::new());
    };
    let known = registry.list_roles().await?;
    let is_known = |role: &&String| known.iter().any(|one| one.name.as_str() == role.as_str());
    Ok(roles
        .iter()
        .filter(|role| !is_known(role))
        .cloned()
        .collect())
}
