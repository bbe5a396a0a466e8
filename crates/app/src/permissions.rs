//! What may be done with the registry in use: what is not allowed is not offered (AC-158).

use keywright_domain::api_keys::Owner;
use keywright_protocol::registries::RegistryPermissionsView;

use crate::remote::{AnyRegistry, Permissions};
use crate::{App, AppError};

impl App {
    /// What may be done with the registry in use. Where its server cannot be asked, everything is offered
    /// and may be refused.
    ///
    /// # Errors
    /// [`AppError::Registry`].
    pub async fn registry_permissions(&self) -> Result<RegistryPermissionsView, AppError> {
        let permissions = self.keys().await?.permissions().await;
        Ok(RegistryPermissionsView {
            may_issue: permissions.issue,
            may_verify: permissions.verify,
            may_define_scopes: permissions.define_scopes,
        })
    }
}

impl AnyRegistry {
    pub(crate) async fn permissions(&self) -> Permissions {
        match self {
            Self::Device(_) => Permissions::all(),
            Self::Server(registry) => registry
                .permissions()
                .await
                .unwrap_or_else(|_| Permissions::all()),
        }
    }

    /// Whether each of these owners' keys may be changed.
    pub(crate) async fn may_change<'a>(
        &self,
        owners: impl Iterator<Item = &'a Owner> + Send,
    ) -> Vec<bool> {
        let permissions = self.permissions().await;
        owners.map(|owner| permissions.may_change(owner)).collect()
    }
}
