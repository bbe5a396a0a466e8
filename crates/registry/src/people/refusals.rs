//! Refusals of what somebody may not do, for the audit trail (AC-182).

use keywright_domain::audit::{Actor, AuditAction};

use super::{foreign, users};
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
        self.write(input, |unit, (actor, user_id, permission, network)| {
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
}
