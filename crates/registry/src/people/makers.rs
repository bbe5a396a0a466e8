//! Whether whoever made something that others use later (an invitation, a link for another password, a
//! registration token) could make it still: what a person, a key or a client began does not outlive them.

use keywright_domain::api_keys::ApiKeyState;
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::{RoleName, union_of};
use keywright_domain::scopes::{Scope, ScopeSet};
use sqlx::AnyConnection;

use super::{invitations, registration_tokens};
use crate::writer::Unit;
use crate::{RegistryError, store};

/// How the actor of a root key is named.
const KEY: &str = "key:";
/// How the actor of a client's own token is named.
const CLIENT: &str = "client:";
/// What inviting and giving links for another password takes.
pub(super) const MANAGES_PEOPLE: &str = "users:write";
/// What making registration tokens takes.
pub(super) const MANAGES_CLIENTS: &str = "clients:write";

/// What some roles and one permission allow together; none where a role is gone.
pub(super) async fn needed_for(
    connection: &mut AnyConnection,
    permission: &str,
    roles: &[RoleName],
) -> Result<Option<ScopeSet>, RegistryError> {
    let mut sets = vec![ScopeSet::new(vec![Scope::new(permission)?])];
    for name in roles {
        let Some(role) = store::people::roles::find(connection, name.as_str()).await? else {
            return Ok(None);
        };
        sets.push(role.permissions);
    }
    Ok(Some(union_of(&sets)))
}

/// Whether the actor of this name is let in at `now`, and holds all of `needed`. A command at the server
/// itself, which no name of these is, always stands.
pub(super) async fn stands(
    connection: &mut AnyConnection,
    name: &str,
    needed: &ScopeSet,
    now: i64,
) -> Result<bool, RegistryError> {
    if let Some(id) = name.strip_prefix(KEY) {
        return key_stands(connection, id, needed, now).await;
    }
    if let Some(id) = name.strip_prefix(CLIENT) {
        let client = store::people::clients::find(connection, id).await?;
        return Ok(client.is_some_and(|client| {
            let scopes = client.settings.scopes.as_slice().iter();
            let held = scopes.filter_map(|text| Scope::new(text).ok()).collect();
            client.disabled_at.is_none() && ScopeSet::new(held).covers_all(needed)
        }));
    }
    // Who was deleted stays as a disabled principal.
    let principal = store::principals::find(connection, name).await?;
    Ok(principal.is_none_or(|one| one.disabled_at.is_none() && one.permissions.covers_all(needed)))
}

async fn key_stands(
    connection: &mut AnyConnection,
    id: &str,
    needed: &ScopeSet,
    now: i64,
) -> Result<bool, RegistryError> {
    let Some(key) = store::api_keys::find(connection, id).await? else {
        return Ok(false);
    };
    let works = matches!(key.state(now), ApiKeyState::Active | ApiKeyState::Rotating);
    let owner = store::principals::find(connection, &key.owner.id).await?;
    let is_owned = owner.is_some_and(|owner| {
        let revoked = owner.keys_revoked_at.is_some_and(|at| at >= key.created_at);
        owner.disabled_at.is_none() && !revoked
    });
    if !works || !is_owned || !key.scopes.covers_all(needed) {
        return Ok(false);
    }
    let Some(creator) = &key.creator else {
        return Ok(true);
    };
    let creator = store::principals::find(connection, creator).await?;
    Ok(creator.is_some_and(|one| one.disabled_at.is_none() && one.permissions.covers_all(needed)))
}

/// Takes back what somebody made and nobody used up: their invitations and registration tokens.
pub(super) async fn withdraw_all(
    unit: &mut Unit,
    actor: &Actor,
    made_by: &str,
) -> Result<(), RegistryError> {
    let now = unit.now();
    let open = store::people::invitations::list_open_of(unit.read(), made_by, now).await?;
    for invitation in &open {
        store::people::invitations::withdraw(unit.write(), &invitation.id, now).await?;
        let (action, verb) = (AuditAction::InvitationWithdrawn, "not invited any more");
        let event = invitations::about_invitation(action, invitation, verb);
        unit.audit(actor, event);
    }
    let open = store::people::registration_tokens::list_open_of(unit.read(), made_by, now).await?;
    for token in &open {
        store::people::registration_tokens::end(unit.write(), &token.id, now).await?;
        let action = AuditAction::RegistrationTokenEnded;
        let mut event = registration_tokens::about_token(action, token, "ended");
        event.details.push(("uses", token.uses.to_string()));
        unit.audit(actor, event);
    }
    Ok(())
}
