//! Principals: people, services and teams, as far as their keys are concerned. A change of one
//! reaches all its keys at once, however many they are.

use keywright_domain::api_keys::lifecycle::check_name;
use keywright_domain::api_keys::{KeyError, Owner, OwnerKind};
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::{Email, PeopleError};
use keywright_domain::scopes::ScopeSet;

use crate::store::{self, audit::NewEvent};
use crate::writer::{Subject, Unit};
use crate::{LocalRegistry, RegistryError};

/// Who keys belong to, or who made them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Stable id.
    pub id: String,
    /// Person, service or team.
    pub kind: OwnerKind,
    /// For people.
    pub name: String,
    /// Of a service or team, where notices about its keys go. A person's address is the user's.
    pub email: Option<Email>,
    /// What keys made by it can do at most.
    pub permissions: ScopeSet,
    /// While this is set, its keys do not verify.
    pub disabled_at: Option<i64>,
    /// Why.
    pub disabled_reason: Option<String>,
    /// Its keys that were made until then are revoked.
    pub keys_revoked_at: Option<i64>,
    /// Why.
    pub keys_revoked_reason: Option<String>,
    /// Unix ms.
    pub created_at: i64,
    /// Number of its last change in the ordered log.
    pub epoch: i64,
}

/// A service or team that keys are to belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOwner {
    /// What it is, and its id.
    pub owner: Owner,
    /// For people: 1 to 120 characters.
    pub name: String,
    /// Where notices about its keys go; to administrators where there is none.
    pub email: Option<Email>,
}

/// What is to change of a principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrincipalChange {
    /// What people know of it; what is none stays.
    Profile {
        /// Another name.
        name: Option<String>,
        /// Another address for notices, or none any more.
        email: Option<Option<Email>>,
    },
    /// Other permissions: keys it made can do no more than these from now on.
    Permissions(ScopeSet),
    /// Suspend it with all its keys.
    Disable(String),
    /// End the suspension.
    Enable,
    /// Revoke every key it owns now, at once.
    RevokeKeys(String),
    /// End all keys that it had at a moment (Unix ms), with a reason: what a trail says of keys that a backup brought
    /// back. Keys that were made since then stay.
    RevokeKeysUntil(i64, String),
}

impl LocalRegistry {
    /// Makes a service, a team or a person that keys can belong to.
    ///
    /// # Errors
    /// [`RegistryError::OwnerExists`]; [`KeyError::Name`].
    pub async fn create_principal(
        &self,
        actor: &Actor,
        id: &str,
        kind: OwnerKind,
        name: &str,
        permissions: &ScopeSet,
    ) -> Result<Principal, RegistryError> {
        let owner = Owner::new(kind, id).map_err(|_| RegistryError::OwnerNotFound)?;
        let new = NewOwner {
            owner,
            name: name.to_owned(),
            email: None,
        };
        self.write(
            (actor.clone(), new, permissions.clone()),
            |unit, (actor, new, permissions)| Box::pin(create(unit, actor, new, permissions)),
        )
        .await
    }

    /// Makes a service or team. It signs in nowhere and makes no keys, so that it may do nothing by itself: its
    /// keys may do what whoever issues them may give.
    ///
    /// # Errors
    /// [`RegistryError::OwnerExists`]; [`PeopleError::PrincipalIsUser`] for a person, [`KeyError::Name`].
    pub async fn create_owner(
        &self,
        actor: &Actor,
        new: &NewOwner,
    ) -> Result<Principal, RegistryError> {
        if new.owner.kind == OwnerKind::Person {
            return Err(PeopleError::PrincipalIsUser.into());
        }
        self.write((actor.clone(), new.clone()), |unit, (actor, new)| {
            Box::pin(async move { create(unit, actor, new, &ScopeSet::default()).await })
        })
        .await
    }

    /// Changes a principal; its keys follow with the next verification.
    ///
    /// # Errors
    /// [`RegistryError::OwnerNotFound`]; [`KeyError::Name`], [`KeyError::ReasonTooLong`].
    pub async fn change_principal(
        &self,
        actor: &Actor,
        id: &str,
        change: &PrincipalChange,
    ) -> Result<Principal, RegistryError> {
        let input = (actor.clone(), id.to_owned(), change.clone());
        self.write(input, |unit, (actor, id, change)| {
            Box::pin(change_principal(unit, actor, id, change))
        })
        .await
    }

    /// A principal.
    ///
    /// # Errors
    /// [`RegistryError::OwnerNotFound`].
    pub async fn find_principal(&self, id: &str) -> Result<Principal, RegistryError> {
        store::principals::find(&mut *self.shared.pool.acquire().await?, id)
            .await?
            .ok_or(RegistryError::OwnerNotFound)
    }

    /// Up to 500 principals after an id, of one kind or of all, in the order of ids.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`] for what no id can be.
    pub async fn list_principals(
        &self,
        kind: Option<OwnerKind>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Principal>, RegistryError> {
        if store::is_no_id(after) {
            return Err(RegistryError::Cursor);
        }
        let limit = i64::from(limit.clamp(1, 500));
        let mut connection = self.shared.pool.acquire().await?;
        store::principals::list(&mut connection, kind, after, limit).await
    }
}

async fn create(
    unit: &mut Unit,
    actor: &Actor,
    new: &NewOwner,
    permissions: &ScopeSet,
) -> Result<Principal, RegistryError> {
    let name = check_name(&new.name)?;
    let id = &new.owner.id;
    if store::principals::find(unit.read(), id).await?.is_some() {
        return Err(RegistryError::OwnerExists);
    }
    let principal = Principal {
        id: id.clone(),
        kind: new.owner.kind,
        name,
        email: new.email.clone(),
        permissions: permissions.clone(),
        disabled_at: None,
        disabled_reason: None,
        keys_revoked_at: None,
        keys_revoked_reason: None,
        created_at: unit.now(),
        epoch: unit.change(Subject::Principal(id.clone())),
    };
    store::principals::put(unit.write(), &principal).await?;
    unit.made(id);
    let event = about(AuditAction::PrincipalCreated, &principal, "created", "");
    unit.audit(actor, event);
    Ok(principal)
}

async fn change_principal(
    unit: &mut Unit,
    actor: &Actor,
    id: &str,
    change: &PrincipalChange,
) -> Result<Principal, RegistryError> {
    let now = unit.now();
    let mut principal = store::principals::find(unit.read(), id)
        .await?
        .ok_or(RegistryError::OwnerNotFound)?;
    if !matches!(
        change,
        PrincipalChange::RevokeKeys(_) | PrincipalChange::RevokeKeysUntil(..)
    ) {
        crate::people::users::check_not_a_user(unit, id).await?;
    }
    let before = principal.clone();
    let reason_of = |text: &str| {
        if text.chars().count() > 500 {
            return Err(KeyError::ReasonTooLong);
        }
        if text.contains('\0') {
            return Err(KeyError::Character);
        }
        Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
    };
    let (action, verb, detail) = match change {
        PrincipalChange::Profile { name, email } => {
            if let Some(name) = name {
                principal.name = check_name(name)?;
            }
            if let Some(email) = email {
                principal.email.clone_from(email);
            }
            let is_renamed = principal.name != before.name;
            let verb = match (is_renamed, principal.email != before.email) {
                (true, true) => "renamed and given another address",
                (true, false) => "renamed",
                (false, _) => "given another address",
            };
            // The address is nobody's business who reads the trail.
            let detail = if is_renamed { before.name.as_str() } else { "" };
            (AuditAction::PrincipalChanged, verb, detail.to_owned())
        }
        PrincipalChange::Permissions(permissions) => {
            principal.permissions = permissions.clone();
            (
                AuditAction::PrincipalChanged,
                "given other permissions",
                permissions.to_string(),
            )
        }
        PrincipalChange::Disable(reason) => {
            let reason = reason_of(reason)?;
            principal.disabled_at = principal.disabled_at.or(Some(now));
            principal.disabled_reason = principal.disabled_reason.or(reason.clone());
            (
                AuditAction::PrincipalDisabled,
                "disabled",
                reason.unwrap_or_default(),
            )
        }
        PrincipalChange::Enable => {
            principal.disabled_at = None;
            principal.disabled_reason = None;
            (AuditAction::PrincipalEnabled, "enabled", String::new())
        }
        PrincipalChange::RevokeKeys(reason) => {
            let reason = reason_of(reason)?;
            // Keys made in this very millisecond belong to what is revoked, and so do those made
            // before a clock went back; and what was revoked once does not come back.
            let newest = store::api_keys::newest_of_owner(unit.read(), id).await?;
            principal.keys_revoked_at = principal.keys_revoked_at.max(newest).max(Some(now));
            principal.keys_revoked_reason = reason.clone();
            (
                AuditAction::PrincipalKeysRevoked,
                "left without all its keys",
                reason.unwrap_or_default(),
            )
        }
        PrincipalChange::RevokeKeysUntil(until, reason) => {
            let reason = reason_of(reason)?;
            if principal.keys_revoked_at < Some(*until) {
                principal.keys_revoked_at = Some(*until);
                principal.keys_revoked_reason.clone_from(&reason);
            }
            (
                AuditAction::PrincipalKeysRevoked,
                "left without the keys that it had",
                reason.unwrap_or_default(),
            )
        }
    };
    if principal == before {
        return Ok(principal);
    }
    principal.epoch = unit.change(Subject::Principal(id.to_owned()));
    store::principals::put(unit.write(), &principal).await?;
    unit.audit(actor, about(action, &principal, verb, &detail));
    Ok(principal)
}

fn about(action: AuditAction, principal: &Principal, verb: &str, detail: &str) -> NewEvent {
    let details = if detail.is_empty() {
        Vec::new()
    } else {
        vec![("detail", detail.to_owned())]
    };
    NewEvent {
        action,
        target_kind: "principal",
        target_id: principal.id.clone(),
        target_name: principal.name.clone(),
        summary: format!(
            "The {} “{}” was {verb}",
            principal.kind.as_str(),
            principal.name
        ),
        details,
    }
}
