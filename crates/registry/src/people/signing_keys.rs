//! Signing keys: made ahead, published, promoted on a schedule, and kept until the last token they
//! signed has expired (S38, AC-201).

use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::{KeyState, PeopleError, Sealed, SigningKey};

use super::about;
use crate::store::audit::NewEvent;
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

/// A signing key that is to be added.
#[derive(Clone, Debug)]
pub struct NewSigningKey {
    /// `kid` of its tokens.
    pub kid: String,
    /// `alg` of its tokens.
    pub alg: String,
    /// Public half (RFC 7517), JSON.
    pub public_jwk: String,
    /// Private half, sealed.
    pub sealed: Sealed,
    /// When it begins to sign by itself (Unix ms); none for by hand.
    pub activate_at: Option<i64>,
}

impl LocalRegistry {
    /// Adds a key. It is published and does not sign yet.
    ///
    /// # Errors
    /// [`PeopleError::SigningKeyTaken`].
    pub async fn add_signing_key(
        &self,
        actor: &Actor,
        new: &NewSigningKey,
    ) -> Result<SigningKey, RegistryError> {
        self.write((actor.clone(), new.clone()), |unit, (actor, new)| {
            Box::pin(async move {
                if store::people::signing_keys::find(unit.read(), &new.kid)
                    .await?
                    .is_some()
                {
                    return Err(PeopleError::SigningKeyTaken.into());
                }
                let key = SigningKey {
                    kid: new.kid.clone(),
                    alg: new.alg.clone(),
                    public_jwk: new.public_jwk.clone(),
                    state: KeyState::Pending,
                    created_at: unit.now(),
                    activate_at: new.activate_at,
                    activated_at: None,
                    retire_at: None,
                    retired_at: None,
                };
                store::people::signing_keys::insert(unit.write(), &key, &new.sealed).await?;
                unit.audit(
                    actor,
                    about_key(AuditAction::SigningKeyAdded, &key, "added"),
                );
                Ok(key)
            })
        })
        .await
    }

    /// Sets when a pending key begins to sign; none for by hand.
    ///
    /// # Errors
    /// [`PeopleError::SigningKeyNotFound`], [`PeopleError::SigningKeyState`].
    pub async fn schedule_signing_key(
        &self,
        actor: &Actor,
        kid: &str,
        activate_at: Option<i64>,
    ) -> Result<SigningKey, RegistryError> {
        let input = (actor.clone(), kid.to_owned(), activate_at);
        self.write(input, |unit, (actor, kid, at)| {
            Box::pin(async move {
                let mut key = find(unit, kid).await?;
                if key.state != KeyState::Pending {
                    return Err(PeopleError::SigningKeyState(key.state.as_str()).into());
                }
                key.activate_at = *at;
                store::people::signing_keys::update(unit.write(), &key).await?;
                unit.audit(
                    actor,
                    about_key(AuditAction::SigningKeyAdded, &key, "scheduled"),
                );
                Ok(key)
            })
        })
        .await
    }

    /// A pending key begins to sign; the one before goes on verifying for `longest_token_ms`.
    ///
    /// # Errors
    /// [`PeopleError::SigningKeyNotFound`], [`PeopleError::SigningKeyState`].
    pub async fn promote_signing_key(
        &self,
        actor: &Actor,
        kid: &str,
        longest_token_ms: i64,
    ) -> Result<SigningKey, RegistryError> {
        let input = (actor.clone(), kid.to_owned(), longest_token_ms);
        self.write(input, |unit, (actor, kid, longest)| {
            Box::pin(promote(unit, actor, kid, *longest))
        })
        .await
    }

    /// Ends a key now: one that never signed, or one that signs no more. Tokens it signed fail.
    ///
    /// # Errors
    /// [`PeopleError::SigningKeyNotFound`]; [`PeopleError::SigningKeyState`] for the one that signs:
    /// promote another one first.
    pub async fn retire_signing_key(
        &self,
        actor: &Actor,
        kid: &str,
    ) -> Result<SigningKey, RegistryError> {
        self.write((actor.clone(), kid.to_owned()), |unit, (actor, kid)| {
            Box::pin(retire(unit, actor, kid))
        })
        .await
    }

    /// Does what is due: begins pending keys, retires those whose last token has expired. Returns
    /// how many changed.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn settle_signing_keys(&self, longest_token_ms: i64) -> Result<usize, RegistryError> {
        let now = self.now();
        let mut changed = 0;
        for key in self.list_signing_keys().await? {
            let Some(due) = key.due(now) else { continue };
            let input = (key.kid, due, longest_token_ms);
            changed += self
                .write(input, |unit, (kid, due, longest)| {
                    Box::pin(async move {
                        // Another node may have done it by now.
                        if find(unit, kid).await?.due(unit.now()) != Some(*due) {
                            return Ok(0);
                        }
                        let actor = Actor::keywright();
                        match due {
                            KeyState::Active => promote(unit, &actor, kid, *longest).await?,
                            _ => retire(unit, &actor, kid).await?,
                        };
                        Ok(1)
                    })
                })
                .await?;
        }
        Ok(changed)
    }

    /// The keys that belong into the JWKS, oldest first: all but retired ones.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn list_signing_keys(&self) -> Result<Vec<SigningKey>, RegistryError> {
        store::people::signing_keys::list_published(&mut *self.shared.pool.acquire().await?).await
    }

    /// Keys that were retired in their time within the last `kept_ms`, oldest first: nothing that they signed
    /// is good any more, and we signed it all the same. One that was ended by hand is not among them:
    /// somebody else may have it.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn list_retired_signing_keys(
        &self,
        kept_ms: i64,
    ) -> Result<Vec<SigningKey>, RegistryError> {
        let since = self.now().saturating_sub(kept_ms);
        let connection = &mut *self.shared.pool.acquire().await?;
        store::people::signing_keys::list_retired(connection, since).await
    }

    /// The key that signs with an algorithm, and its private half, sealed.
    ///
    /// # Errors
    /// [`PeopleError::SigningKeyNotFound`].
    pub async fn find_active_signing_key(
        &self,
        alg: &str,
    ) -> Result<(SigningKey, Sealed), RegistryError> {
        let connection = &mut *self.shared.pool.acquire().await?;
        let key = store::people::signing_keys::find_active(connection, alg)
            .await?
            .ok_or(PeopleError::SigningKeyNotFound)?;
        let sealed = store::people::signing_keys::find_sealed(connection, &key.kid)
            .await?
            .ok_or(PeopleError::SigningKeyNotFound)?;
        Ok((key, sealed))
    }
}

async fn find(unit: &mut Unit, kid: &str) -> Result<SigningKey, RegistryError> {
    store::people::signing_keys::find(unit.read(), kid)
        .await?
        .ok_or_else(|| PeopleError::SigningKeyNotFound.into())
}

async fn promote(
    unit: &mut Unit,
    actor: &Actor,
    kid: &str,
    longest_token_ms: i64,
) -> Result<SigningKey, RegistryError> {
    let now = unit.now();
    let mut key = find(unit, kid).await?;
    if !key.state.may_become(KeyState::Active) {
        return Err(PeopleError::SigningKeyState(key.state.as_str()).into());
    }
    let before = store::people::signing_keys::find_active(unit.read(), &key.alg).await?;
    let mut event = about_key(
        AuditAction::SigningKeyPromoted,
        &key,
        "made the one that signs",
    );
    if let Some(mut before) = before {
        before.state = KeyState::Retiring;
        before.retire_at = Some(now.saturating_add(longest_token_ms));
        store::people::signing_keys::update(unit.write(), &before).await?;
        event.details.push(("before", before.kid));
    }
    (key.state, key.activated_at) = (KeyState::Active, Some(now));
    store::people::signing_keys::update(unit.write(), &key).await?;
    unit.audit(actor, event);
    Ok(key)
}

async fn retire(unit: &mut Unit, actor: &Actor, kid: &str) -> Result<SigningKey, RegistryError> {
    let mut key = find(unit, kid).await?;
    if !key.state.may_become(KeyState::Retired) {
        return Err(PeopleError::SigningKeyState(key.state.as_str()).into());
    }
    (key.state, key.retired_at) = (KeyState::Retired, Some(unit.now()));
    store::people::signing_keys::update(unit.write(), &key).await?;
    unit.audit(
        actor,
        about_key(AuditAction::SigningKeyRetired, &key, "retired"),
    );
    Ok(key)
}

fn about_key(action: AuditAction, key: &SigningKey, verb: &str) -> NewEvent {
    let summary = format!("Signing key {} was {verb}", key.kid);
    let details = vec![("alg", key.alg.clone())];
    about(
        action,
        ("signing_key", &key.kid, &key.kid),
        summary,
        details,
    )
}
