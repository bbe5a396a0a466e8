//! What a server lets this account do, so that a face offers nothing that would be refused (AC-158). Asked
//! once in a while; the server decides each time, whatever is known here.

use std::time::{Duration, Instant};

use keywright_domain::api_keys::{Owner, OwnerKind};
use serde::Deserialize;

use super::call::{Call, Credentials};
use super::error::is_older;
use super::{Known, RemoteRegistry};
use crate::AppError;

/// A role that was given or taken away shows after this time.
const KNOWN_FOR: Duration = Duration::from_secs(30);

/// What may be done with a registry.
#[derive(Clone, Debug, Deserialize)]
pub struct Permissions {
    /// Whose keys are the caller's own.
    pub person: Option<String>,
    /// Issue keys.
    pub issue: bool,
    /// Change, rotate and end everybody's keys.
    pub change_all: bool,
    /// Change, rotate and end their own.
    pub change_own: bool,
    /// Verify keys of others.
    pub verify: bool,
    /// Add scopes to the catalogue.
    pub define_scopes: bool,
}

impl Permissions {
    /// Everything: a person's own registry, and one that says nothing of it.
    #[must_use]
    pub fn all() -> Self {
        Self {
            person: None,
            issue: true,
            change_all: true,
            change_own: true,
            verify: true,
            define_scopes: true,
        }
    }

    /// Whether keys of this owner may be changed, rotated and ended.
    #[must_use]
    pub fn may_change(&self, owner: &Owner) -> bool {
        let own = owner.kind == OwnerKind::Person && self.person.as_deref() == Some(&owner.id);
        self.change_all || (own && self.change_own)
    }
}

/// What was answered, and when.
#[derive(Debug, Default)]
pub(super) struct Asked(std::sync::Mutex<Option<(Instant, Permissions)>>);

impl Asked {
    fn get(&self) -> Option<Permissions> {
        let asked = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let (at, permissions) = asked.as_ref()?;
        (at.elapsed() < KNOWN_FOR).then(|| permissions.clone())
    }

    /// Keeps an answer; none forgets it.
    pub(super) fn set(&self, permissions: Option<&Permissions>) {
        *self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) =
            permissions.map(|permissions| (Instant::now(), permissions.clone()));
    }
}

impl<C: Credentials> RemoteRegistry<C> {
    /// What this account may do; as it was said last where the server does not answer. An older server does
    /// not say: everything is offered, and refused there.
    ///
    /// # Errors
    /// [`super::RemoteError`], `reauth_required`: it is not known, and nothing may be taken for allowed.
    pub async fn permissions(&self) -> Result<Permissions, AppError> {
        if let Some(known) = self.kept().permissions.get() {
            return Ok(known);
        }
        let call = Call::get(&["permissions"]).beside();
        let asked: Known<Option<Permissions>> = self.read_if_there(call, is_older).await?;
        let permissions = asked.value.unwrap_or_else(Permissions::all);
        // What was said long ago is asked for again as soon as somebody answers.
        let said_now = asked.as_of.is_none().then_some(&permissions);
        self.kept().permissions.set(said_now);
        Ok(permissions)
    }
}

#[cfg(test)]
mod tests {
    use super::super::kept::Kept;
    use super::*;

    #[tokio::test]
    async fn ac_158_what_was_allowed_is_forgotten_with_the_sign_in() -> std::io::Result<()> {
        let kept = Kept::new(None);
        kept.permissions.set(Some(&Permissions::all()));
        assert!(kept.permissions.get().is_some());
        kept.forget_answers().await?;
        assert!(kept.permissions.get().is_none());
        Ok(())
    }
}
