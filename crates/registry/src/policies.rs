//! Policies by environment: what keys may be, and how they are rotated.

use keywright_domain::api_keys::{Environment, Policy, PolicyEnvironment};
use keywright_domain::audit::{Actor, AuditAction};

use crate::store::{self, audit::NewEvent};
use crate::{LocalRegistry, RegistryError};

impl LocalRegistry {
    /// Sets the policy of an environment. Keys that exist stay as they are; what is done to them
    /// from now on is judged by it.
    ///
    /// # Errors
    /// [`RegistryError::Policy`] for one that contradicts itself.
    pub async fn set_policy(&self, actor: &Actor, policy: &Policy) -> Result<(), RegistryError> {
        policy.check()?;
        self.write((actor.clone(), policy.clone()), |unit, (actor, policy)| {
            Box::pin(async move {
                let now = unit.now();
                store::policies::put(unit.write(), policy, now).await?;
                let summary = format!("The policy for {} was set", place(&policy.environment));
                unit.audit(
                    actor,
                    about(AuditAction::PolicySet, &policy.environment, summary),
                );
                Ok(())
            })
        })
        .await
    }

    /// Removes a policy. Returns false if there was none.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn remove_policy(
        &self,
        actor: &Actor,
        environment: &PolicyEnvironment,
    ) -> Result<bool, RegistryError> {
        self.write(
            (actor.clone(), environment.clone()),
            |unit, (actor, environment)| {
                Box::pin(async move {
                    if !store::policies::remove(unit.write(), environment).await? {
                        return Ok(false);
                    }
                    let summary = format!("The policy for {} was removed", place(environment));
                    unit.audit(
                        actor,
                        about(AuditAction::PolicyRemoved, environment, summary),
                    );
                    Ok(true)
                })
            },
        )
        .await
    }

    /// The policy in force for an environment: its own, else the one for all, else the defaults.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn policy_in_force(
        &self,
        environment: &Environment,
    ) -> Result<Policy, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let stored = store::policies::find(&mut connection, environment).await?;
        Ok(stored.unwrap_or_else(|| Policy::default_for(environment.clone())))
    }

    /// All policies; an environment without one is judged by `*`, and else by the defaults.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn list_policies(&self) -> Result<Vec<Policy>, RegistryError> {
        store::policies::list(&mut *self.shared.pool.acquire().await?).await
    }
}

fn place(environment: &PolicyEnvironment) -> String {
    match environment {
        PolicyEnvironment::All => "every environment without one of its own".to_owned(),
        PolicyEnvironment::One(environment) => format!("“{environment}”"),
    }
}

fn about(action: AuditAction, environment: &PolicyEnvironment, summary: String) -> NewEvent {
    NewEvent {
        target_kind: "policy",
        target_id: environment.as_str().to_owned(),
        target_name: environment.as_str().to_owned(),
        ..NewEvent::about_registry(action, summary)
    }
}
