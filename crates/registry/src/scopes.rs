//! The catalogue of scopes this registry knows.

use keywright_domain::api_keys::lifecycle::{KeyError, KnownScope};
use keywright_domain::audit::{Actor, AuditAction};

use crate::store::{self, audit::NewEvent};
use crate::{LocalRegistry, RegistryError};

impl LocalRegistry {
    /// All scopes, by name.
    ///
    /// # Errors
    /// [`RegistryError`] if the file cannot be read.
    pub async fn list_scopes(&self) -> Result<Vec<KnownScope>, RegistryError> {
        store::scopes::list(&mut *self.shared.pool.acquire().await?).await
    }

    /// Adds a scope, or describes it anew.
    ///
    /// # Errors
    /// [`KeyError::ScopeIsWildcard`]; [`RegistryError`] if the file cannot be written.
    pub async fn define_scope(
        &self,
        actor: &Actor,
        scope: KnownScope,
    ) -> Result<KnownScope, RegistryError> {
        if scope.scope.is_wildcard() {
            return Err(KeyError::ScopeIsWildcard.into());
        }
        self.write((actor.clone(), scope.clone()), |unit, (actor, scope)| {
            Box::pin(async move {
                store::scopes::upsert(unit.write(), scope).await?;
                let name = scope.scope.as_str().to_owned();
                let event = NewEvent {
                    action: AuditAction::ScopeDefined,
                    target_kind: "scope",
                    target_id: name.clone(),
                    summary: format!("Scope {name} was defined"),
                    target_name: name,
                    details: vec![("description", scope.description.clone())],
                };
                unit.audit(actor, event);
                Ok(())
            })
        })
        .await?;
        Ok(scope)
    }
}
