//! Users: people with an account in this registry. Each is a principal that keys can belong to.

use std::sync::Arc;

use keywright_domain::SecretText;
use keywright_domain::api_keys::OwnerKind;
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::{Email, EndReason, PeopleError, RoleName, person_name};
use keywright_domain::scopes::ScopeSet;

use super::page::{self, Page, Position};
use super::{about, makers, new_id, roles, sessions};
use crate::principals::Principal;
use crate::store::{self, audit::NewEvent};
use crate::writer::{Subject, Unit};
use crate::{LocalRegistry, RegistryError};

/// A user, without anything to sign in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Id of the person and of the principal.
    pub id: String,
    /// Name.
    pub name: String,
    /// E-mail address.
    pub email: Option<Email>,
    /// Whether mail to it was answered.
    pub email_verified: bool,
    /// Roles, by name.
    pub roles: Vec<RoleName>,
    /// What the roles allow together.
    pub permissions: ScopeSet,
    /// Whether there is a password.
    pub has_password: bool,
    /// When it was set (Unix ms).
    pub password_changed_at: Option<i64>,
    /// Passwords are not tried before this moment.
    pub locked_until: Option<i64>,
    /// Latest sign-in.
    pub last_sign_in_at: Option<i64>,
    /// When the user was added.
    pub created_at: i64,
    /// When the user was disabled, if so.
    pub disabled_at: Option<i64>,
    /// Why.
    pub disabled_reason: Option<String>,
}

/// A user who is to be added.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Name.
    pub name: String,
    /// E-mail address.
    pub email: Option<Email>,
    /// Whether mail to it was answered.
    pub email_verified: bool,
    /// Roles.
    pub roles: Vec<RoleName>,
    /// PHC text of an argon2id hash.
    pub password_hash: Option<SecretText>,
}

/// What sign-in needs to know.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Whose.
    pub user_id: String,
    /// PHC text of an argon2id hash, if there is a password.
    pub password_hash: Option<SecretText>,
    /// Nothing is tried before this moment.
    pub locked_until: Option<i64>,
    /// Whether the user is disabled.
    pub disabled: bool,
    /// Whether a one-time code is needed as well.
    pub needs_totp: bool,
}

/// What is to change of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserChange {
    /// Another name.
    Name(String),
    /// Another e-mail address, and whether mail to it was answered.
    Email(Option<Email>, bool),
    /// Several at once; what is none stays. Another address counts as not answered unless it is said.
    Profile {
        /// Another name.
        name: Option<String>,
        /// Another e-mail address, or none any more.
        email: Option<Option<Email>>,
        /// Whether mail to it was answered.
        email_verified: Option<bool>,
    },
}

/// In which order users are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserOrder {
    /// A to Z.
    #[default]
    NameAsc,
    /// Newest first.
    CreatedDesc,
}

/// A page of users is asked for.
#[derive(Clone, Debug, Default)]
pub struct UserQuery {
    /// Part of a name or an e-mail address.
    pub text: String,
    /// In which order.
    pub order: UserOrder,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// 1 to 500.
    pub limit: u32,
}

impl LocalRegistry {
    /// Adds a user.
    ///
    /// # Errors
    /// [`PeopleError::EmailTaken`], [`PeopleError::Name`], [`PeopleError::RoleNotFound`].
    pub async fn create_user(&self, actor: &Actor, new: &NewUser) -> Result<User, RegistryError> {
        let mut new = new.clone();
        new.name = person_name(&new.name)?;
        new.roles = roles::unique(&new.roles);
        self.write((actor.clone(), new_id(), new), |unit, (actor, id, new)| {
            Box::pin(async move {
                let user = insert(unit, actor, id, new).await?;
                unit.made(id);
                let details = vec![("roles", roles::join(&user.roles))];
                unit.audit(
                    actor,
                    about_user(AuditAction::UserCreated, &user, "added", details),
                );
                Ok(user)
            })
        })
        .await
    }

    /// A user.
    ///
    /// # Errors
    /// [`PeopleError::UserNotFound`].
    pub async fn find_user(&self, id: &str) -> Result<Arc<User>, RegistryError> {
        let (shared, memory) = (&*self.shared, &self.shared.remembered);
        if let Some(user) = memory.get(shared, |rows| rows.users.get(id).cloned()).await {
            return Ok(user);
        }
        let generation = memory.before_reading(shared);
        let connection = &mut *shared.pool.acquire().await?;
        let mut user = store::people::users::find(connection, id)
            .await?
            .ok_or(PeopleError::UserNotFound)?;
        let roles = store::people::roles::list_of_user(connection, id).await?;
        user.roles = roles.into_iter().map(|role| role.name).collect();
        let user = Arc::new(user);
        let row = Arc::clone(&user);
        memory.put(generation, |rows| &mut rows.users, id.to_owned(), row);
        Ok(user)
    }

    /// What is needed to sign somebody in by e-mail address; none for a stranger. The caller does
    /// the same work for both.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn find_credentials(
        &self,
        email: &Email,
    ) -> Result<Option<Credentials>, RegistryError> {
        store::people::users::find_credentials(&mut *self.shared.pool.acquire().await?, email).await
    }

    /// One page of users.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`].
    pub async fn list_users(&self, query: &UserQuery) -> Result<Page<User>, RegistryError> {
        let newest_first = query.order == UserOrder::CreatedDesc;
        let after = Position::read(query.cursor.as_deref(), newest_first)?;
        let limit = page::limit(query.limit);
        let connection = &mut *self.shared.pool.acquire().await?;
        let rows = store::people::users::list(connection, query, &after, limit + 1).await?;
        let cut = page::cut(rows, limit, |(_, place)| place.clone());
        let mut items: Vec<_> = cut.items.into_iter().map(|(user, _)| user).collect();
        let ids: Vec<_> = items.iter().map(|user| user.id.clone()).collect();
        for (user_id, role) in store::people::roles::list_of_users(connection, &ids).await? {
            if let Some(user) = items.iter_mut().find(|user| user.id == user_id) {
                user.roles.push(RoleName::new(&role)?);
            }
        }
        Ok(Page {
            items,
            next_cursor: cut.next_cursor,
        })
    }

    /// Changes a name or an e-mail address.
    ///
    /// # Errors
    /// [`PeopleError::UserNotFound`], [`PeopleError::EmailTaken`], [`PeopleError::Name`].
    pub async fn change_user(
        &self,
        actor: &Actor,
        id: &str,
        change: &UserChange,
    ) -> Result<User, RegistryError> {
        let input = (actor.clone(), id.to_owned(), change.clone());
        self.write(input, |unit, (actor, id, change)| {
            Box::pin(change_user(unit, actor, id, change))
        })
        .await
    }

    /// Sets a password's hash; none removes the password. All sessions end but one, and all grants
    /// that were not given in that one (AC-117).
    ///
    /// # Errors
    /// [`PeopleError::UserNotFound`]; [`PeopleError::LastSignInMethod`] if it is removed and nothing
    /// else is left.
    pub async fn set_password_hash(
        &self,
        actor: &Actor,
        user_id: &str,
        hash: Option<&SecretText>,
        keep_session: Option<&str>,
    ) -> Result<sessions::EndedSessions, RegistryError> {
        let keep = keep_session.unwrap_or_default().to_owned();
        let input = (actor.clone(), user_id.to_owned(), hash.cloned(), keep);
        self.write(input, |unit, (actor, user_id, hash, keep)| {
            Box::pin(async move {
                let now = unit.now();
                let user = find(unit, user_id).await?;
                if hash.is_none() {
                    let (_, passkeys, identities) =
                        store::people::credentials::count_ways_in(unit.read(), user_id).await?;
                    keywright_domain::people::linking::check_one_remains(
                        false, passkeys, identities,
                    )?;
                }
                let new = hash.as_ref();
                store::people::users::update_password(unit.write(), user_id, new, now).await?;
                let reason = EndReason::PasswordChanged;
                let ended =
                    sessions::end_everything_but(unit, actor, user_id, keep, reason).await?;
                let verb = if hash.is_some() {
                    "given a password"
                } else {
                    "left without a password"
                };
                let event = about_user(AuditAction::PasswordChanged, &user, verb, ended.details());
                unit.audit(actor, event);
                Ok(ended)
            })
        })
        .await
    }

    /// Replaces the hash of the same password by one with newer parameters, after a sign-in. Nothing
    /// of it shows to the person, so no session ends and there is no event.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn upgrade_password_hash(
        &self,
        user_id: &str,
        hash: &SecretText,
    ) -> Result<(), RegistryError> {
        self.write(
            (user_id.to_owned(), hash.clone()),
            |unit, (user_id, hash)| {
                Box::pin(async move {
                    let user = find(unit, user_id).await?;
                    let set_at = user.password_changed_at.unwrap_or_else(|| unit.now());
                    let hash = Some(hash).filter(|_| user.has_password);
                    if hash.is_some() {
                        store::people::users::update_password(unit.write(), user_id, hash, set_at)
                            .await?;
                    }
                    Ok(())
                })
            },
        )
        .await
    }

    /// Disables a user: sessions and grants end, keys are suspended (AC-146).
    ///
    /// # Errors
    /// [`PeopleError::LastOwner`], [`PeopleError::UserNotFound`].
    pub async fn disable_user(
        &self,
        actor: &Actor,
        id: &str,
        reason: &str,
    ) -> Result<User, RegistryError> {
        let input = (actor.clone(), id.to_owned(), super::foreign(reason.trim()));
        self.write(input, |unit, (actor, id, reason)| {
            Box::pin(disable(unit, actor, id, reason))
        })
        .await
    }

    /// Enables a user again. Their keys work again; sessions and grants stay ended.
    ///
    /// # Errors
    /// [`PeopleError::UserNotFound`].
    pub async fn enable_user(&self, actor: &Actor, id: &str) -> Result<User, RegistryError> {
        self.write((actor.clone(), id.to_owned()), |unit, (actor, id)| {
            Box::pin(async move {
                let mut user = find(unit, id).await?;
                if user.disabled_at.is_none() {
                    return Ok(user);
                }
                (user.disabled_at, user.disabled_reason) = (None, None);
                put_principal(unit, &user).await?;
                let event = about_user(AuditAction::UserEnabled, &user, "enabled", Vec::new());
                unit.audit(actor, event);
                Ok(user)
            })
        })
        .await
    }

    /// Deletes what is personal of a user. The principal stays without a name, disabled: keys and
    /// the audit trail refer to it.
    ///
    /// # Errors
    /// [`PeopleError::LastOwner`], [`PeopleError::UserNotFound`].
    pub async fn delete_user(&self, actor: &Actor, id: &str) -> Result<(), RegistryError> {
        self.write((actor.clone(), id.to_owned()), |unit, (actor, id)| {
            Box::pin(delete(unit, actor, id))
        })
        .await
    }
}

/// Refuses to change the principal of a user past the user: the last owner would be no safer than
/// the weakest way to change one.
pub(crate) async fn check_not_a_user(unit: &mut Unit, id: &str) -> Result<(), RegistryError> {
    match store::people::users::find(unit.read(), id).await? {
        Some(_) => Err(PeopleError::PrincipalIsUser.into()),
        None => Ok(()),
    }
}

/// A user with roles.
pub(super) async fn find(unit: &mut Unit, id: &str) -> Result<User, RegistryError> {
    let mut user = store::people::users::find(unit.read(), id)
        .await?
        .ok_or(PeopleError::UserNotFound)?;
    let roles = store::people::roles::list_of_user(unit.read(), id).await?;
    user.roles = roles.into_iter().map(|role| role.name).collect();
    Ok(user)
}

/// Refuses somebody who is disabled.
pub(super) async fn find_enabled(unit: &mut Unit, id: &str) -> Result<User, RegistryError> {
    let user = find(unit, id).await?;
    if user.disabled_at.is_some() {
        return Err(PeopleError::UserDisabled.into());
    }
    Ok(user)
}

pub(super) async fn check_email_free(
    unit: &mut Unit,
    email: Option<&Email>,
    besides: &str,
) -> Result<(), RegistryError> {
    if let Some(email) = email
        && let Some(other) = store::people::users::find_by_email(unit.read(), email).await?
        && other.id != besides
    {
        return Err(PeopleError::EmailTaken.into());
    }
    Ok(())
}

/// Inserts a user whose name and roles were checked.
pub(super) async fn insert(
    unit: &mut Unit,
    actor: &Actor,
    id: &str,
    new: &NewUser,
) -> Result<User, RegistryError> {
    let now = unit.now();
    check_email_free(unit, new.email.as_ref(), id).await?;
    let permissions = roles::permissions_of(unit, &new.roles).await?;
    let user = User {
        id: id.to_owned(),
        name: new.name.clone(),
        email: new.email.clone(),
        email_verified: new.email_verified && new.email.is_some(),
        roles: new.roles.clone(),
        permissions,
        has_password: new.password_hash.is_some(),
        password_changed_at: new.password_hash.as_ref().map(|_| now),
        locked_until: None,
        last_sign_in_at: None,
        created_at: now,
        disabled_at: None,
        disabled_reason: None,
    };
    put_principal(unit, &user).await?;
    let hash = new.password_hash.as_ref();
    store::people::users::insert(unit.write(), &user, hash).await?;
    store::people::roles::set_of_user(unit.write(), id, &user.roles, now, actor.as_str()).await?;
    Ok(user)
}

/// Writes what keys need to know of a user.
async fn put_principal(unit: &mut Unit, user: &User) -> Result<(), RegistryError> {
    let before = store::principals::find(unit.read(), &user.id).await?;
    let keys_revoked_at = before.as_ref().and_then(|one| one.keys_revoked_at);
    let principal = Principal {
        id: user.id.clone(),
        kind: OwnerKind::Person,
        name: user.name.clone(),
        email: None,
        permissions: user.permissions.clone(),
        disabled_at: user.disabled_at,
        disabled_reason: user.disabled_reason.clone(),
        keys_revoked_at,
        keys_revoked_reason: before.and_then(|one| one.keys_revoked_reason),
        created_at: user.created_at,
        epoch: unit.change(Subject::Principal(user.id.clone())),
    };
    store::principals::put(unit.write(), &principal).await
}

async fn change_user(
    unit: &mut Unit,
    actor: &Actor,
    id: &str,
    change: &UserChange,
) -> Result<User, RegistryError> {
    let mut user = find(unit, id).await?;
    let before = user.clone();
    match change {
        UserChange::Name(name) => user.name = person_name(name)?,
        UserChange::Email(email, verified) => {
            check_email_free(unit, email.as_ref(), id).await?;
            user.email_verified = *verified && email.is_some();
            user.email.clone_from(email);
        }
        UserChange::Profile {
            name,
            email,
            email_verified,
        } => {
            if let Some(name) = name {
                user.name = person_name(name)?;
            }
            let is_other = email.as_ref().is_some_and(|email| *email != before.email);
            if let Some(email) = email {
                check_email_free(unit, email.as_ref(), id).await?;
                user.email.clone_from(email);
            }
            let verified = email_verified.unwrap_or(!is_other && before.email_verified);
            user.email_verified = verified && user.email.is_some();
        }
    }
    if user == before {
        return Ok(user);
    }
    if user.name != before.name {
        put_principal(unit, &user).await?;
    }
    store::people::users::update(unit.write(), &user).await?;
    let details = vec![("before", before.name)];
    unit.audit(
        actor,
        about_user(AuditAction::UserChanged, &user, "changed", details),
    );
    Ok(user)
}

async fn disable(
    unit: &mut Unit,
    actor: &Actor,
    id: &str,
    reason: &str,
) -> Result<User, RegistryError> {
    let mut user = find(unit, id).await?;
    if user.disabled_at.is_some() {
        return Ok(user);
    }
    roles::check_owner_remains(unit, &user).await?;
    user.disabled_at = Some(unit.now());
    user.disabled_reason = Some(reason.to_owned()).filter(|text| !text.is_empty());
    put_principal(unit, &user).await?;
    let ended = sessions::end_everything(unit, actor, id, EndReason::UserDisabled).await?;
    makers::withdraw_all(unit, actor, id).await?;
    let mut details = ended.details();
    details.push(("reason", reason.to_owned()));
    unit.audit(
        actor,
        about_user(AuditAction::UserDisabled, &user, "disabled", details),
    );
    Ok(user)
}

async fn delete(unit: &mut Unit, actor: &Actor, id: &str) -> Result<(), RegistryError> {
    let mut user = find(unit, id).await?;
    roles::check_owner_remains(unit, &user).await?;
    let ended = sessions::end_everything(unit, actor, id, EndReason::UserDisabled).await?;
    makers::withdraw_all(unit, actor, id).await?;
    store::people::users::delete(unit.write(), id).await?;
    user.name = "Deleted person".to_owned();
    user.permissions = ScopeSet::default();
    user.disabled_at = user.disabled_at.or(Some(unit.now()));
    user.disabled_reason = Some("deleted".to_owned());
    put_principal(unit, &user).await?;
    // The event names nobody: it outlives the person's data.
    unit.audit(
        actor,
        about_user(AuditAction::UserDeleted, &user, "deleted", ended.details()),
    );
    Ok(())
}

pub(super) fn about_user(
    action: AuditAction,
    user: &User,
    verb: &str,
    details: Vec<(&'static str, String)>,
) -> NewEvent {
    let summary = format!("“{}” was {verb}", user.name);
    about(action, ("user", &user.id, &user.name), summary, details)
}
