//! What may be done with the registry in use: what is not allowed is not offered (AC-158).

use keywright_domain::api_keys::Owner;
use keywright_protocol::registries::RegistryPermissionsView;

use crate::remote::{AnyRegistry, Permissions, is_offline};
use crate::{App, AppError};

impl App {
    /// What may be done with the registry in use.
    ///
    /// # Errors
    /// [`AppError::Registry`]; where its server does not say, why: nothing is to be offered then.
    pub async fn registry_permissions(&self) -> Result<RegistryPermissionsView, AppError> {
        let permissions = self.keys().await?.permissions().await?;
        Ok(RegistryPermissionsView {
            may_issue: permissions.issue,
            may_verify: permissions.verify,
            may_define_scopes: permissions.define_scopes,
        })
    }
}

impl AnyRegistry {
    async fn permissions(&self) -> Result<Permissions, AppError> {
        match self {
            Self::Device(_) => Ok(Permissions::all()),
            Self::Server(registry) => registry.permissions().await,
        }
    }

    /// Whether each of these owners' keys may be changed. Nothing may be that a server refuses to tell about;
    /// while one is away, and never said, keys can be revoked all the same (AC-152).
    pub(crate) async fn may_change<'a>(
        &self,
        owners: impl Iterator<Item = &'a Owner> + Send,
    ) -> Vec<bool> {
        let permissions = self.permissions().await;
        owners
            .map(|owner| match &permissions {
                Ok(permissions) => permissions.may_change(owner),
                Err(error) => is_offline(error),
            })
            .collect()
    }
}
