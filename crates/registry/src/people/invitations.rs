//! Invitations: a link that is good once, for one e-mail address and some roles.

use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::{Email, PeopleError, RoleName, TokenDigest, person_name};
use sqlx::AnyConnection;

use super::page::{self, Page, Position};
use super::users::{self, NewUser, User};
use super::{about, makers, new_id, roles};
use crate::store::audit::NewEvent;
use crate::{LocalRegistry, RegistryError, store};

/// An invitation, without its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Stable id.
    pub id: String,
    /// Who is invited.
    pub email: Email,
    /// What they will be.
    pub roles: Vec<RoleName>,
    /// Who invited them.
    pub invited_by: String,
    /// Unix ms.
    pub created_at: i64,
    /// Until when it can be accepted.
    pub expires_at: i64,
    /// When it was.
    pub accepted_at: Option<i64>,
    /// Id of the user it made.
    pub accepted_by: Option<String>,
    /// When it was taken back.
    pub withdrawn_at: Option<i64>,
}

/// An invitation that is to be made.
#[derive(Clone, Debug)]
pub struct NewInvitation {
    /// Of the token in the link.
    pub digest: TokenDigest,
    /// Who is invited.
    pub email: Email,
    /// What they will be.
    pub roles: Vec<RoleName>,
    /// How long it is good (ms).
    pub lifetime_ms: i64,
}

impl LocalRegistry {
    /// Invites somebody.
    ///
    /// # Errors
    /// [`PeopleError::EmailTaken`], [`PeopleError::RoleNotFound`].
    pub async fn invite_user(
        &self,
        actor: &Actor,
        new: &NewInvitation,
    ) -> Result<Invitation, RegistryError> {
        self.write(
            (actor.clone(), new_id(), new.clone()),
            |unit, (actor, id, new)| {
                Box::pin(async move {
                    let now = unit.now();
                    users::check_email_free(unit, Some(&new.email), "").await?;
                    let roles = roles::unique(&new.roles);
                    roles::permissions_of(unit, &roles).await?;
                    let invitation = Invitation {
                        id: id.clone(),
                        email: new.email.clone(),
                        roles,
                        invited_by: actor.as_str().to_owned(),
                        created_at: now,
                        expires_at: now.saturating_add(new.lifetime_ms),
                        accepted_at: None,
                        accepted_by: None,
                        withdrawn_at: None,
                    };
                    store::people::invitations::insert(unit.write(), &invitation, &new.digest)
                        .await?;
                    unit.made(id);
                    unit.audit(
                        actor,
                        about_invitation(AuditAction::UserInvited, &invitation, "invited"),
                    );
                    Ok(invitation)
                })
            },
        )
        .await
    }

    /// The invitation of a link, as long as it can be accepted: it is open, and whoever invited could do
    /// so still.
    ///
    /// # Errors
    /// [`PeopleError::Invitation`].
    pub async fn find_invitation(&self, digest: &TokenDigest) -> Result<Invitation, RegistryError> {
        let now = self.now();
        let connection = &mut *self.shared.pool.acquire().await?;
        find_good(connection, digest, now).await
    }

    /// An invitation, however it stands.
    ///
    /// # Errors
    /// [`RegistryError::InvitationNotFound`] if it was forgotten.
    pub async fn find_invitation_by_id(&self, id: &str) -> Result<Invitation, RegistryError> {
        let connection = &mut *self.shared.pool.acquire().await?;
        store::people::invitations::find(connection, id)
            .await?
            .ok_or(RegistryError::InvitationNotFound)
    }

    /// Accepts an invitation, once. E-mail and roles are the invitation's; whoever has the link
    /// reads that mail. `new` gives the name and the password.
    ///
    /// # Errors
    /// [`PeopleError::Invitation`], [`PeopleError::Name`], [`PeopleError::EmailTaken`].
    pub async fn accept_invitation(
        &self,
        digest: &TokenDigest,
        new: &NewUser,
    ) -> Result<User, RegistryError> {
        let mut new = new.clone();
        new.name = person_name(&new.name)?;
        self.write((*digest, new_id(), new), |unit, (digest, id, new)| {
            Box::pin(async move {
                let now = unit.now();
                let invitation = find_good(unit.read(), digest, now).await?;
                let new = NewUser {
                    email: Some(invitation.email.clone()),
                    email_verified: true,
                    roles: invitation.roles.clone(),
                    ..new.clone()
                };
                let actor = Actor::person(id);
                users::check_email_free(unit, new.email.as_ref(), "").await?;
                if !store::people::invitations::accept(unit.write(), &invitation.id, id, now)
                    .await?
                {
                    return Err(PeopleError::Invitation.into());
                }
                let user = users::insert(unit, &actor, id, &new).await?;
                let details = vec![("invited_by", invitation.invited_by)];
                let verb = "added by an invitation";
                let event =
                    users::about_user(AuditAction::InvitationAccepted, &user, verb, details);
                unit.audit(&actor, event);
                Ok(user)
            })
        })
        .await
    }

    /// Takes an invitation back.
    ///
    /// # Errors
    /// [`PeopleError::Invitation`] if it is unknown or was accepted.
    pub async fn withdraw_invitation(&self, actor: &Actor, id: &str) -> Result<(), RegistryError> {
        self.write((actor.clone(), id.to_owned()), |unit, (actor, id)| {
            Box::pin(async move {
                let now = unit.now();
                let invitation = store::people::invitations::find(unit.read(), id)
                    .await?
                    .filter(|one| one.accepted_at.is_none())
                    .ok_or(PeopleError::Invitation)?;
                if invitation.withdrawn_at.is_some() {
                    return Ok(());
                }
                store::people::invitations::withdraw(unit.write(), id, now).await?;
                let action = AuditAction::InvitationWithdrawn;
                unit.audit(
                    actor,
                    about_invitation(action, &invitation, "not invited any more"),
                );
                Ok(())
            })
        })
        .await
    }

    /// One page of invitations, newest first.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`].
    pub async fn list_invitations(
        &self,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<Invitation>, RegistryError> {
        let (after, limit) = (Position::read(cursor, true)?, page::limit(limit));
        let connection = &mut *self.shared.pool.acquire().await?;
        let rows = store::people::invitations::list(connection, &after, limit + 1).await?;
        Ok(page::cut(rows, limit, |one| {
            Position::of(one.created_at, &one.id)
        }))
    }
}

/// An open invitation of somebody who is let in, may still invite, and holds what it would give.
async fn find_good(
    connection: &mut AnyConnection,
    digest: &TokenDigest,
    now: i64,
) -> Result<Invitation, RegistryError> {
    let open = store::people::invitations::find_open(connection, digest, now).await?;
    let invitation = open.ok_or(PeopleError::Invitation)?;
    let (by, roles) = (&invitation.invited_by, &invitation.roles);
    let needed = makers::needed_for(connection, makers::MANAGES_PEOPLE, roles).await?;
    let needed = needed.ok_or(PeopleError::Invitation)?;
    if makers::stands(connection, by, &needed, now).await? {
        Ok(invitation)
    } else {
        Err(PeopleError::Invitation.into())
    }
}

pub(super) fn about_invitation(
    action: AuditAction,
    invitation: &Invitation,
    verb: &str,
) -> NewEvent {
    let email = invitation.email.as_str();
    let details = vec![("roles", roles::join(&invitation.roles))];
    let target = ("invitation", invitation.id.as_str(), email);
    about(action, target, format!("{email} was {verb}"), details)
}
