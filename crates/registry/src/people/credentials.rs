//! Second factors and passkeys. Secrets come sealed or hashed; a step, a code and a counter are
//! good once.

use keywright_domain::SecretText;
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::linking::check_one_remains;
use keywright_domain::people::{PeopleError, Sealed, person_name};

use super::{new_id, users};
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

/// One-time codes of a user (RFC 6238).
#[derive(Clone, Debug)]
pub struct Totp {
    /// The shared secret, sealed.
    pub sealed: Sealed,
    /// Unix ms.
    pub created_at: i64,
    /// When the first code was right; not asked for before that.
    pub confirmed_at: Option<i64>,
    /// Latest time step that was used; -1 for none.
    pub last_step: i64,
}

/// A recovery code that was not used.
#[derive(Clone, Debug)]
pub struct RecoveryCode {
    /// Stable id.
    pub id: String,
    /// Hash of the code, as the caller made it.
    pub hash: SecretText,
}

/// A passkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passkey {
    /// Credential id (WebAuthn §5.1).
    pub credential_id: Vec<u8>,
    /// Whose.
    pub user_id: String,
    /// Public key (COSE).
    pub public_key: Vec<u8>,
    /// Signature counter; 0 for authenticators without one.
    pub sign_count: i64,
    /// How the authenticator is reached, separated by single spaces.
    pub transports: String,
    /// What the person calls it.
    pub name: String,
    /// Unix ms.
    pub created_at: i64,
    /// Latest use.
    pub last_used_at: Option<i64>,
    /// When its counter went backwards: there may be a copy.
    pub suspect_at: Option<i64>,
}

/// A passkey that is to be added.
#[derive(Clone, Debug)]
pub struct NewPasskey {
    /// Credential id.
    pub credential_id: Vec<u8>,
    /// Whose.
    pub user_id: String,
    /// Public key (COSE).
    pub public_key: Vec<u8>,
    /// Signature counter.
    pub sign_count: i64,
    /// How the authenticator is reached.
    pub transports: String,
    /// What the person calls it.
    pub name: String,
}

/// What the use of a passkey comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasskeyUse {
    /// It counts.
    Accepted,
    /// The counter went backwards: refused, and marked.
    Suspect,
}

impl LocalRegistry {
    /// The one-time codes of a user.
    ///
    /// # Errors
    /// [`PeopleError::TotpNotFound`].
    pub async fn find_totp(&self, user_id: &str) -> Result<Totp, RegistryError> {
        store::people::credentials::find_totp(&mut *self.shared.pool.acquire().await?, user_id)
            .await?
            .ok_or_else(|| PeopleError::TotpNotFound.into())
    }

    /// Sets one-time codes up; the first accepted step confirms them.
    ///
    /// # Errors
    /// [`PeopleError::UserNotFound`].
    pub async fn set_totp(
        &self,
        actor: &Actor,
        user_id: &str,
        sealed: &Sealed,
    ) -> Result<(), RegistryError> {
        let input = (actor.clone(), user_id.to_owned(), sealed.clone());
        self.write(input, |unit, (actor, user_id, sealed)| {
            Box::pin(async move {
                let now = unit.now();
                users::find(unit, user_id).await?;
                store::people::credentials::put_totp(unit.write(), user_id, sealed, now).await?;
                let action = AuditAction::SecondFactorChanged;
                audit(unit, actor, action, user_id, "given one-time codes").await
            })
        })
        .await
    }

    /// Removes one-time codes, and the recovery codes that stand in for them.
    ///
    /// # Errors
    /// [`PeopleError::TotpNotFound`].
    pub async fn remove_totp(&self, actor: &Actor, user_id: &str) -> Result<(), RegistryError> {
        self.write(
            (actor.clone(), user_id.to_owned()),
            |unit, (actor, user_id)| {
                Box::pin(async move {
                    store::people::credentials::find_totp(unit.read(), user_id)
                        .await?
                        .ok_or(PeopleError::TotpNotFound)?;
                    let now = unit.now();
                    let connection = unit.write();
                    store::people::credentials::delete_totp(connection, user_id).await?;
                    store::people::credentials::put_recovery_codes(connection, user_id, &[], now)
                        .await?;
                    let action = AuditAction::SecondFactorChanged;
                    audit(unit, actor, action, user_id, "left without one-time codes").await
                })
            },
        )
        .await
    }

    /// Confirms one-time codes by their first step, after the caller found its code right, and replaces all recovery
    /// codes: whoever is asked for the one has the others. False for a step that was used before.
    ///
    /// # Errors
    /// [`PeopleError::TotpNotFound`].
    pub async fn confirm_totp(
        &self,
        actor: &Actor,
        user_id: &str,
        step: i64,
        hashes: &[SecretText],
    ) -> Result<bool, RegistryError> {
        let codes: Vec<_> = hashes.iter().map(|hash| (new_id(), hash.clone())).collect();
        let input = (actor.clone(), user_id.to_owned(), step, codes);
        self.write(input, |unit, (actor, user_id, step, codes)| {
            Box::pin(async move {
                let now = unit.now();
                store::people::credentials::find_totp(unit.read(), user_id)
                    .await?
                    .ok_or(PeopleError::TotpNotFound)?;
                let connection = unit.write();
                if !store::people::credentials::accept_step(connection, user_id, *step, now).await?
                {
                    return Ok(false);
                }
                store::people::credentials::put_recovery_codes(connection, user_id, codes, now)
                    .await?;
                let action = AuditAction::SecondFactorChanged;
                let verb = "asked for one-time codes from now on, and given recovery codes";
                audit(unit, actor, action, user_id, verb).await?;
                Ok(true)
            })
        })
        .await
    }

    /// Uses a time step up, after the caller found its code right. False for a step that was used
    /// before, or is older than one that was (RFC 6238 §5.2).
    ///
    /// # Errors
    /// [`PeopleError::TotpNotFound`].
    pub async fn accept_totp_step(
        &self,
        actor: &Actor,
        user_id: &str,
        step: i64,
    ) -> Result<bool, RegistryError> {
        let input = (actor.clone(), user_id.to_owned(), step);
        self.write(input, |unit, (actor, user_id, step)| {
            Box::pin(async move {
                let now = unit.now();
                store::people::credentials::find_totp(unit.read(), user_id)
                    .await?
                    .ok_or(PeopleError::TotpNotFound)?;
                let connection = unit.write();
                if !store::people::credentials::accept_step(connection, user_id, *step, now).await?
                {
                    return Ok(false);
                }
                let action = AuditAction::SecondFactorUsed;
                audit(unit, actor, action, user_id, "let in by a one-time code").await?;
                Ok(true)
            })
        })
        .await
    }

    /// Replaces all recovery codes.
    ///
    /// # Errors
    /// [`PeopleError::UserNotFound`].
    pub async fn set_recovery_codes(
        &self,
        actor: &Actor,
        user_id: &str,
        hashes: &[SecretText],
    ) -> Result<(), RegistryError> {
        let codes: Vec<_> = hashes.iter().map(|hash| (new_id(), hash.clone())).collect();
        let input = (actor.clone(), user_id.to_owned(), codes);
        self.write(input, |unit, (actor, user_id, codes)| {
            Box::pin(async move {
                let now = unit.now();
                users::find(unit, user_id).await?;
                let connection = unit.write();
                store::people::credentials::put_recovery_codes(connection, user_id, codes, now)
                    .await?;
                let action = AuditAction::SecondFactorChanged;
                audit(unit, actor, action, user_id, "given recovery codes").await
            })
        })
        .await
    }

    /// The recovery codes that were not used: the caller compares.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn list_recovery_codes(
        &self,
        user_id: &str,
    ) -> Result<Vec<RecoveryCode>, RegistryError> {
        let connection = &mut *self.shared.pool.acquire().await?;
        store::people::credentials::list_recovery_codes(connection, user_id).await
    }

    /// Uses a recovery code up. False if it was used.
    ///
    /// # Errors
    /// [`PeopleError::UserNotFound`].
    pub async fn use_recovery_code(
        &self,
        actor: &Actor,
        user_id: &str,
        code_id: &str,
    ) -> Result<bool, RegistryError> {
        let input = (actor.clone(), user_id.to_owned(), code_id.to_owned());
        self.write(input, |unit, (actor, user_id, id)| {
            Box::pin(async move {
                let now = unit.now();
                users::find(unit, user_id).await?;
                let connection = unit.write();
                let used =
                    store::people::credentials::use_recovery_code(connection, user_id, id, now);
                if !used.await? {
                    return Ok(false);
                }
                let action = AuditAction::SecondFactorUsed;
                audit(unit, actor, action, user_id, "let in by a recovery code").await?;
                Ok(true)
            })
        })
        .await
    }

    /// Adds a passkey.
    ///
    /// # Errors
    /// [`PeopleError::PasskeyTaken`], [`PeopleError::UserNotFound`], [`PeopleError::Name`].
    pub async fn add_passkey(&self, actor: &Actor, new: &NewPasskey) -> Result<(), RegistryError> {
        let mut new = new.clone();
        new.name = person_name(&new.name)?;
        new.transports = super::foreign(&new.transports);
        self.write((actor.clone(), new), |unit, (actor, new)| {
            Box::pin(async move {
                let now = unit.now();
                users::find(unit, &new.user_id).await?;
                let id = &new.credential_id;
                if store::people::credentials::find_passkey(unit.read(), id)
                    .await?
                    .is_some()
                {
                    return Err(PeopleError::PasskeyTaken.into());
                }
                store::people::credentials::insert_passkey(unit.write(), new, now).await?;
                audit(
                    unit,
                    actor,
                    AuditAction::PasskeyAdded,
                    &new.user_id,
                    "given a passkey",
                )
                .await
            })
        })
        .await
    }

    /// A passkey, by its credential id.
    ///
    /// # Errors
    /// [`PeopleError::PasskeyNotFound`].
    pub async fn find_passkey(&self, credential_id: &[u8]) -> Result<Passkey, RegistryError> {
        let connection = &mut *self.shared.pool.acquire().await?;
        store::people::credentials::find_passkey(connection, credential_id)
            .await?
            .ok_or_else(|| PeopleError::PasskeyNotFound.into())
    }

    /// The passkeys of a user, oldest first, 100 at most.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn list_passkeys(&self, user_id: &str) -> Result<Vec<Passkey>, RegistryError> {
        let connection = &mut *self.shared.pool.acquire().await?;
        store::people::credentials::list_passkeys(connection, user_id).await
    }

    /// Counts a use, after the caller found the signature right.
    ///
    /// # Errors
    /// [`PeopleError::PasskeyNotFound`].
    pub async fn use_passkey(
        &self,
        actor: &Actor,
        credential_id: &[u8],
        sign_count: i64,
    ) -> Result<PasskeyUse, RegistryError> {
        let input = (actor.clone(), credential_id.to_vec(), sign_count);
        self.write(input, |unit, (actor, id, count)| {
            Box::pin(async move {
                let now = unit.now();
                let passkey = find_passkey(unit, id).await?;
                let connection = unit.write();
                let used =
                    store::people::credentials::use_passkey(connection, id, *count, now).await?;
                let (outcome, action, verb) = if used {
                    (
                        PasskeyUse::Accepted,
                        AuditAction::PasskeyUsed,
                        "let in by a passkey",
                    )
                } else {
                    store::people::credentials::suspect_passkey(unit.write(), id, now).await?;
                    let verb = "turned away: a passkey counted backwards";
                    (PasskeyUse::Suspect, AuditAction::PasskeyCloned, verb)
                };
                audit(unit, actor, action, &passkey.user_id, verb).await?;
                Ok(outcome)
            })
        })
        .await
    }

    /// Gives a passkey of a user another name.
    ///
    /// # Errors
    /// [`PeopleError::PasskeyNotFound`], [`PeopleError::Name`].
    pub async fn rename_passkey(
        &self,
        actor: &Actor,
        user_id: &str,
        credential_id: &[u8],
        name: &str,
    ) -> Result<(), RegistryError> {
        let input = (
            actor.clone(),
            user_id.to_owned(),
            credential_id.to_vec(),
            person_name(name)?,
        );
        self.write(input, |unit, (actor, user_id, id, name)| {
            Box::pin(async move {
                find_own(unit, user_id, id).await?;
                store::people::credentials::rename_passkey(unit.write(), id, name).await?;
                let verb = "given a passkey of another name";
                audit(unit, actor, AuditAction::PasskeyRenamed, user_id, verb).await
            })
        })
        .await
    }

    /// Removes a passkey of a user.
    ///
    /// # Errors
    /// [`PeopleError::PasskeyNotFound`], [`PeopleError::LastSignInMethod`].
    pub async fn remove_passkey(
        &self,
        actor: &Actor,
        user_id: &str,
        credential_id: &[u8],
    ) -> Result<(), RegistryError> {
        let input = (actor.clone(), user_id.to_owned(), credential_id.to_vec());
        self.write(input, |unit, (actor, user_id, id)| {
            Box::pin(async move {
                find_own(unit, user_id, id).await?;
                let (password, passkeys, identities) =
                    store::people::credentials::count_ways_in(unit.read(), user_id).await?;
                check_one_remains(password, passkeys - 1, identities)?;
                store::people::credentials::delete_passkey(unit.write(), id).await?;
                let verb = "left without a passkey";
                audit(unit, actor, AuditAction::PasskeyRemoved, user_id, verb).await
            })
        })
        .await
    }
}

async fn find_passkey(unit: &mut Unit, id: &[u8]) -> Result<Passkey, RegistryError> {
    store::people::credentials::find_passkey(unit.read(), id)
        .await?
        .ok_or_else(|| PeopleError::PasskeyNotFound.into())
}

async fn find_own(unit: &mut Unit, user_id: &str, id: &[u8]) -> Result<(), RegistryError> {
    let passkey = find_passkey(unit, id).await?;
    if passkey.user_id == user_id {
        Ok(())
    } else {
        Err(PeopleError::PasskeyNotFound.into())
    }
}

async fn audit(
    unit: &mut Unit,
    actor: &Actor,
    action: AuditAction,
    user_id: &str,
    verb: &str,
) -> Result<(), RegistryError> {
    let user = users::find(unit, user_id).await?;
    unit.audit(actor, users::about_user(action, &user, verb, Vec::new()));
    Ok(())
}
