//! Refusals of what somebody may not do, for the audit trail (AC-182).

use keywright_domain::audit::{Actor, AuditAction};

use super::{about, foreign, users};
use crate::{LocalRegistry, RegistryError};

impl LocalRegistry {
    /// Writes down that a person asked for what they may not do.
    ///
    /// # Errors
    /// [`keywright_domain::people::PeopleError::UserNotFound`].
    pub async fn record_refusal(
        &self,
        actor: &Actor,
        user_id: &str,
        permission: &str,
        network: &str,
    ) -> Result<(), RegistryError> {
        let input = (
            actor.clone(),
            user_id.to_owned(),
            foreign(permission),
            foreign(network),
        );
        self.write_anyway(input, |unit, (actor, user_id, permission, network)| {
            Box::pin(async move {
                let user = users::find(unit, user_id).await?;
                let details = vec![
                    ("permission", permission.clone()),
                    ("network", network.clone()),
                ];
                let verb = "refused what they may not do";
                let event = users::about_user(AuditAction::AccessRefused, &user, verb, details);
                unit.audit(actor, event);
                Ok(())
            })
        })
        .await
    }

    /// The same of a program: a key or a client, as the actor names it.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn record_refusal_of_program(
        &self,
        actor: &Actor,
        permission: &str,
    ) -> Result<(), RegistryError> {
        let input = (actor.clone(), foreign(permission));
        self.write_anyway(input, |unit, (actor, permission)| {
            Box::pin(async move {
                let target = ("program", actor.as_str(), actor.as_str());
                let summary = "A program was refused what it may not do".to_owned();
                let details = vec![("permission", permission.clone())];
                unit.audit(
                    actor,
                    about(AuditAction::AccessRefused, target, summary, details),
                );
                Ok(())
            })
        })
        .await
    }
}
