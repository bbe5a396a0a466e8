//! A password that an administrator takes away, and the one that its person chooses by a link
//! afterwards. The link is bound to the moment of the reset: nothing is stored for it, and a later
//! reset or a chosen password makes it worthless.

use keywright_domain::SecretText;
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::{EndReason, PeopleError, union_of};
use sqlx::AnyConnection;

use super::makers;
use super::sessions::{self, EndedSessions};
use super::users::{self, User};
use crate::{LocalRegistry, RegistryError, store};

impl LocalRegistry {
    /// Takes a password away and ends all that it gave. Returns the moment, which the link is bound to.
    /// A password that is not there is taken away all the same: the person may choose one.
    ///
    /// # Errors
    /// [`PeopleError::UserNotFound`], [`PeopleError::UserDisabled`].
    pub async fn reset_password(
        &self,
        actor: &Actor,
        user_id: &str,
    ) -> Result<(i64, EndedSessions), RegistryError> {
        let input = (actor.clone(), user_id.to_owned());
        self.write(input, |unit, (actor, user_id)| {
            Box::pin(async move {
                let user = users::find(unit, user_id).await?;
                if user.disabled_at.is_some() {
                    return Err(PeopleError::UserDisabled.into());
                }
                // Two resets in one moment would share their links.
                let before = user.password_changed_at.unwrap_or(0);
                let moment = unit.now().max(before.saturating_add(1));
                store::people::users::update_password(unit.write(), user_id, None, moment).await?;
                unit.made(&moment.to_string());
                let reason = EndReason::PasswordChanged;
                let ended = sessions::end_everything_but(unit, actor, user_id, "", reason).await?;
                // It may have been in other hands.
                makers::withdraw_all(unit, actor, user_id).await?;
                let verb = "given a link to choose another password";
                let action = AuditAction::PasswordReset;
                unit.audit(
                    actor,
                    users::about_user(action, &user, verb, ended.details()),
                );
                Ok((moment, ended))
            })
        })
        .await
    }

    /// The person of a link that `by` gave, as long as it is good: they are there and chose none, and `by`
    /// could give it still.
    ///
    /// # Errors
    /// [`PeopleError::PasswordReset`].
    pub async fn find_password_reset(
        &self,
        user_id: &str,
        moment: i64,
        by: &str,
    ) -> Result<User, RegistryError> {
        let now = self.now();
        let connection = &mut *self.shared.pool.acquire().await?;
        find_waiting(connection, (user_id, moment, by), now).await
    }

    /// Chooses a password by a link that `by` gave, once. What began since the reset ends as well.
    ///
    /// # Errors
    /// [`PeopleError::PasswordReset`].
    pub async fn choose_password(
        &self,
        (user_id, moment, by): (&str, i64, &str),
        hash: &SecretText,
    ) -> Result<EndedSessions, RegistryError> {
        let input = (user_id.to_owned(), moment, by.to_owned(), hash.clone());
        self.write(input, |unit, (user_id, moment, by, hash)| {
            Box::pin(async move {
                let now = unit.now();
                let user = find_waiting(unit.read(), (user_id, *moment, by), now).await?;
                let now = unit.now().max(moment.saturating_add(1));
                let new = Some(hash);
                store::people::users::update_password(unit.write(), user_id, new, now).await?;
                let (actor, reason) = (Actor::person(user_id), EndReason::PasswordChanged);
                let ended = sessions::end_everything_but(unit, &actor, user_id, "", reason).await?;
                let verb = "given a password by a link";
                let action = AuditAction::PasswordChanged;
                unit.audit(
                    &actor,
                    users::about_user(action, &user, verb, ended.details()),
                );
                Ok(ended)
            })
        })
        .await
    }
}

async fn find_waiting(
    connection: &mut AnyConnection,
    (user_id, moment, by): (&str, i64, &str),
    now: i64,
) -> Result<User, RegistryError> {
    let user = store::people::users::find(connection, user_id)
        .await?
        .filter(|user| waits(user, moment))
        .ok_or(PeopleError::PasswordReset)?;
    let needed = makers::needed_for(connection, makers::MANAGES_PEOPLE, &[]).await?;
    let needed = union_of([&needed.unwrap_or_default(), &user.permissions]);
    if makers::stands(connection, by, &needed, now).await? {
        Ok(user)
    } else {
        Err(PeopleError::PasswordReset.into())
    }
}

fn waits(user: &User, moment: i64) -> bool {
    user.disabled_at.is_none() && !user.has_password && user.password_changed_at == Some(moment)
}
