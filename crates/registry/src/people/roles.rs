//! Roles, and who has them. What a person may do is written into their principal, so that the keys
//! they made shrink with the next verification (AC-131).

use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::{OWNER, PeopleError, RoleName, union_of};
use keywright_domain::scopes::ScopeSet;

use super::about;
use super::users::{self, User};
use crate::writer::{Subject, Unit};
use crate::{LocalRegistry, RegistryError, store};

/// A role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Name.
    pub name: RoleName,
    /// What it is for.
    pub description: String,
    /// What it allows.
    pub permissions: ScopeSet,
    /// Whether it came with the registry and stays as it is.
    pub built_in: bool,
    /// Unix ms; 0 for built-in ones.
    pub created_at: i64,
}

impl LocalRegistry {
    /// All roles, by name: an installation has a handful.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn list_roles(&self) -> Result<Vec<Role>, RegistryError> {
        store::people::roles::list(&mut *self.shared.pool.acquire().await?).await
    }

    /// A role.
    ///
    /// # Errors
    /// [`PeopleError::RoleNotFound`].
    pub async fn find_role(&self, name: &RoleName) -> Result<Role, RegistryError> {
        let connection = &mut *self.shared.pool.acquire().await?;
        store::people::roles::find(connection, name.as_str())
            .await?
            .ok_or_else(|| PeopleError::RoleNotFound(name.to_string()).into())
    }

    /// Adds a role, or changes what it allows; everybody who has it follows at once.
    ///
    /// # Errors
    /// [`PeopleError::RoleBuiltIn`].
    pub async fn define_role(
        &self,
        actor: &Actor,
        name: &RoleName,
        description: &str,
        permissions: &ScopeSet,
    ) -> Result<Role, RegistryError> {
        let role = Role {
            name: name.clone(),
            description: super::foreign(description),
            permissions: permissions.minimal(),
            built_in: false,
            created_at: self.now(),
        };
        self.write((actor.clone(), role), |unit, (actor, role)| {
            Box::pin(define_role(unit, actor, role))
        })
        .await
    }

    /// The newest change of what keys know of those who have a role; none where nobody has it. Asked for
    /// after [`define_role`](Self::define_role), a receipt of it is one of that too.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn newest_change_of_holders(
        &self,
        name: &RoleName,
    ) -> Result<Option<i64>, RegistryError> {
        let connection = &mut *self.shared.pool.acquire().await?;
        store::people::roles::newest_epoch_of_holders(connection, name.as_str()).await
    }

    /// Deletes a role that nobody has.
    ///
    /// # Errors
    /// [`PeopleError::RoleNotFound`], [`PeopleError::RoleBuiltIn`], [`PeopleError::RoleInUse`].
    pub async fn delete_role(&self, actor: &Actor, name: &RoleName) -> Result<(), RegistryError> {
        self.write((actor.clone(), name.clone()), |unit, (actor, name)| {
            Box::pin(async move {
                let role = find(unit, name).await?;
                if role.built_in {
                    return Err(PeopleError::RoleBuiltIn.into());
                }
                let holders =
                    store::people::roles::list_holders(unit.read(), name.as_str(), "", 1).await?;
                if !holders.is_empty() {
                    return Err(PeopleError::RoleInUse.into());
                }
                store::people::roles::delete(unit.write(), name.as_str()).await?;
                let target = ("role", name.as_str(), name.as_str());
                let summary = format!("Role {name} was deleted");
                unit.audit(
                    actor,
                    about(AuditAction::RoleDeleted, target, summary, Vec::new()),
                );
                Ok(())
            })
        })
        .await
    }

    /// Gives a person exactly these roles.
    ///
    /// # Errors
    /// [`PeopleError::LastOwner`], [`PeopleError::UserNotFound`], [`PeopleError::RoleNotFound`].
    pub async fn set_user_roles(
        &self,
        actor: &Actor,
        user_id: &str,
        roles: &[RoleName],
    ) -> Result<User, RegistryError> {
        let input = (actor.clone(), user_id.to_owned(), unique(roles));
        self.write(input, |unit, (actor, user_id, roles)| {
            Box::pin(set_user_roles(unit, actor, user_id, roles))
        })
        .await
    }
}

/// Sorted, each once.
pub(super) fn unique(roles: &[RoleName]) -> Vec<RoleName> {
    let mut roles = roles.to_vec();
    roles.sort();
    roles.dedup();
    roles
}

async fn find(unit: &mut Unit, name: &RoleName) -> Result<Role, RegistryError> {
    store::people::roles::find(unit.read(), name.as_str())
        .await?
        .ok_or_else(|| PeopleError::RoleNotFound(name.to_string()).into())
}

/// What some roles allow together.
pub(super) async fn permissions_of(
    unit: &mut Unit,
    roles: &[RoleName],
) -> Result<ScopeSet, RegistryError> {
    let mut sets = Vec::with_capacity(roles.len());
    for name in roles {
        sets.push(find(unit, name).await?.permissions);
    }
    Ok(union_of(&sets))
}

/// Refuses what would leave nobody who may do everything.
pub(super) async fn check_owner_remains(unit: &mut Unit, user: &User) -> Result<(), RegistryError> {
    if user.disabled_at.is_some() || !user.roles.iter().any(RoleName::is_owner) {
        return Ok(());
    }
    if store::people::roles::another_has(unit.read(), OWNER, &user.id).await? {
        return Ok(());
    }
    Err(PeopleError::LastOwner.into())
}

async fn set_user_roles(
    unit: &mut Unit,
    actor: &Actor,
    user_id: &str,
    roles: &[RoleName],
) -> Result<User, RegistryError> {
    let now = unit.now();
    let mut user = users::find(unit, user_id).await?;
    let permissions = permissions_of(unit, roles).await?;
    if user.roles == roles {
        return Ok(user);
    }
    if !roles.iter().any(RoleName::is_owner) {
        check_owner_remains(unit, &user).await?;
    }
    let before = join(&user.roles);
    store::people::roles::set_of_user(unit.write(), user_id, roles, now, actor.as_str()).await?;
    set_permissions(unit, user_id, &permissions).await?;
    user.roles = roles.to_vec();
    user.permissions = permissions;
    let details = vec![
        ("before", before),
        ("after", join(roles)),
        ("permissions", user.permissions.to_string()),
    ];
    let event = users::about_user(
        AuditAction::UserRolesChanged,
        &user,
        "given other roles",
        details,
    );
    unit.audit(actor, event);
    Ok(user)
}

pub(super) fn join(roles: &[RoleName]) -> String {
    let names: Vec<_> = roles.iter().map(RoleName::as_str).collect();
    names.join(" ")
}

/// Writes permissions into the principal, where verification reads them.
async fn set_permissions(
    unit: &mut Unit,
    user_id: &str,
    permissions: &ScopeSet,
) -> Result<(), RegistryError> {
    let mut principal = store::principals::find(unit.read(), user_id)
        .await?
        .ok_or(PeopleError::UserNotFound)?;
    if principal.permissions == *permissions {
        return Ok(());
    }
    principal.permissions = permissions.clone();
    principal.epoch = unit.change(Subject::Principal(user_id.to_owned()));
    store::principals::put(unit.write(), &principal).await
}

async fn define_role(unit: &mut Unit, actor: &Actor, role: &Role) -> Result<Role, RegistryError> {
    const STEP: i64 = 500;
    let mut role = role.clone();
    let before = store::people::roles::find(unit.read(), role.name.as_str()).await?;
    if let Some(before) = &before {
        if before.built_in {
            return Err(PeopleError::RoleBuiltIn.into());
        }
        role.created_at = before.created_at;
    }
    store::people::roles::put(unit.write(), &role).await?;
    let mut after = String::new();
    loop {
        let name = role.name.as_str();
        let holders = store::people::roles::list_holders(unit.read(), name, &after, STEP).await?;
        for user_id in &holders {
            let roles = store::people::roles::list_of_user(unit.read(), user_id).await?;
            let permissions = union_of(roles.iter().map(|role| &role.permissions));
            set_permissions(unit, user_id, &permissions).await?;
        }
        match holders.last() {
            Some(last) => after.clone_from(last),
            None => break,
        }
    }
    let target = ("role", role.name.as_str(), role.name.as_str());
    let summary = format!("Role {} was defined", role.name);
    let details = vec![("permissions", role.permissions.to_string())];
    unit.audit(
        actor,
        about(AuditAction::RoleDefined, target, summary, details),
    );
    Ok(role)
}
