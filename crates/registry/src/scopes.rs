//! The catalogue of scopes this registry knows.

use keywright_domain::api_keys::lifecycle::{KeyError, KnownScope};
use keywright_domain::audit::{Actor, AuditAction};

use keywright_domain::scopes::Scope;

use crate::store::{self, audit::NewEvent};
use crate::writer::{Subject, Unit};
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

    /// Removes a scope that nothing uses. Keys that were revoked use none.
    ///
    /// # Errors
    /// [`RegistryError::ScopeNotFound`]; [`RegistryError::ScopeInUse`], which says by what;
    /// [`RegistryError::Changed`] if too much else changed meanwhile to be sure.
    pub async fn remove_scope(&self, actor: &Actor, scope: &Scope) -> Result<(), RegistryError> {
        // All keys are read, and not while everybody who writes waits for it: what changes meanwhile
        // is looked at in the transaction.
        let known = self.list_scopes().await?;
        if !known.iter().any(|known| known.scope == *scope) {
            return Err(RegistryError::ScopeNotFound);
        }
        let since = self.newest_change().await?;
        let (name, mut after) = (scope.as_str(), String::new());
        loop {
            let connection = &mut *self.shared.pool.acquire().await?;
            match store::scopes::holders_behind(connection, name, &after, PART).await? {
                None => break,
                Some((_, true)) => return Err(RegistryError::ScopeInUse(HELD)),
                Some((last, false)) => after = last,
            }
        }
        let input = (actor.clone(), scope.clone(), since);
        self.write(input, |unit, (actor, scope, since)| {
            Box::pin(remove(unit, actor, scope, *since))
        })
        .await
    }
}

/// Keys that are read at a time.
const PART: i64 = 20_000;
/// More changes than this in the time of reading all keys are too many to look at.
const MOST_CHANGES: i64 = 1000;
const HELD: &str = "keys hold it";

async fn remove(
    unit: &mut Unit,
    actor: &Actor,
    scope: &Scope,
    since: i64,
) -> Result<(), RegistryError> {
    let catalogue = store::scopes::list(unit.read()).await?;
    if !catalogue.iter().any(|known| known.scope == *scope) {
        return Err(RegistryError::ScopeNotFound);
    }
    // By itself: a wildcard takes what there is, and a scope less breaks none.
    let mut changed = unit.changed_here();
    let logged = store::heads::changes_after(unit.read(), since, MOST_CHANGES).await?;
    if i64::try_from(logged.len()).unwrap_or(MOST_CHANGES) >= MOST_CHANGES {
        return Err(RegistryError::Changed);
    }
    changed.extend(logged.into_iter().map(|(_, subject)| subject));
    for subject in changed {
        if let Subject::ApiKey(id) = subject
            && store::scopes::is_held_by(unit.read(), scope.as_str(), &id).await?
        {
            return Err(RegistryError::ScopeInUse(HELD));
        }
    }
    let roles = store::people::roles::list(unit.read()).await?;
    if roles
        .iter()
        .any(|role| role.permissions.as_slice().contains(scope))
    {
        return Err(RegistryError::ScopeInUse("a role allows it"));
    }
    let policies = store::policies::list(unit.read()).await?;
    let mut named = policies
        .iter()
        .filter_map(|one| one.allowed_scopes.as_ref());
    if named.any(|scopes| scopes.as_slice().contains(scope)) {
        return Err(RegistryError::ScopeInUse("a policy names it"));
    }
    store::scopes::remove(unit.write(), scope.as_str()).await?;
    let name = scope.as_str().to_owned();
    let event = NewEvent {
        action: AuditAction::ScopeRemoved,
        target_kind: "scope",
        target_id: name.clone(),
        summary: format!("Scope {name} was removed"),
        target_name: name,
        details: Vec::new(),
    };
    unit.audit(actor, event);
    Ok(())
}
