//! Rotation of a key's secret, with everything that can become of it. The rules are the domain's.

use std::collections::HashMap;

use keywright_domain::api_keys::{
    ApiKey, KeyError, Kid, PlainKey, Rotation, RotationRequest, RotationState, Secret,
};
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::scopes::ScopeSet;

use crate::api_keys::{
    ClientSecret, Issued, NewSecret, about_key, find, policy_of, secret_details,
};
use crate::idempotency::RotationWish;
use crate::narrowing::GiveBack;
use crate::peppers::Peppers;
use crate::schedules::again::{Undone, set_again};
use crate::store::api_keys::Extent;
use crate::store::secrets::SecretInsert;
use crate::writer::{Subject, Unit, Wants};
use crate::{LocalRegistry, RegistryError, narrowing, store};

/// What a person may do to a rotation that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationStep {
    /// The new secret counts as used, though nobody used it yet.
    Promote,
    /// Take it back before anybody used the new secret.
    Cancel,
    /// The old secret is the current one again.
    RollBack,
    /// End the old secret now.
    Finish,
}

impl LocalRegistry {
    /// Gives a key a new secret; the old one works until the overlap ends.
    ///
    /// # Errors
    /// [`RegistryError::RotationAlreadyDone`] for a rotation id that was used before: a retry never
    /// rotates twice; its secret can be made anew by [`Self::reissue_secret`] while nobody used it.
    /// [`RegistryError::KeyNotFound`], [`RegistryError::Key`].
    pub async fn rotate_api_key(
        &self,
        actor: &Actor,
        id: &str,
        request: &RotationRequest,
        rotation_id: &str,
        peppers: &Peppers,
    ) -> Result<Issued, RegistryError> {
        let wants = Wants {
            rotation: Some((id.to_owned(), rotation_id.to_owned())),
            ..Wants::default()
        };
        let input = (
            actor.clone(),
            id.to_owned(),
            request.clone(),
            rotation_id.to_owned(),
            peppers.current().clone(),
        );
        self.write_grouped(input, wants, |unit, input| {
            Box::pin(async move {
                let (actor, id, request, rotation_id, pepper) = input;
                let prefix = find(unit, id).await?.prefix;
                let plain = PlainKey::generate(&prefix, &mut rand::rng());
                let secret = NewSecret::of_plain(&plain, pepper);
                let wish = RotationWish::from(request);
                let (key, _) = rotate(unit, actor, id, wish, rotation_id, &secret).await?;
                Ok(Issued { key, plain })
            })
        })
        .await
    }

    /// The same with a secret that the client made. A retry with the same id gives the same answer.
    ///
    /// # Errors
    /// [`RegistryError::RotationAlreadyDone`] if the id was used with another secret; otherwise as
    /// [`Self::rotate_api_key`].
    pub async fn rotate_api_key_to(
        &self,
        actor: &Actor,
        id: &str,
        request: &RotationRequest,
        rotation_id: &str,
        secret: &ClientSecret,
        peppers: &Peppers,
    ) -> Result<(ApiKey, Rotation), RegistryError> {
        secret.check()?;
        let secret = NewSecret::of_client(secret, peppers.current());
        self.rotate(actor, id, request, rotation_id, secret).await
    }

    async fn rotate(
        &self,
        actor: &Actor,
        id: &str,
        request: &RotationRequest,
        rotation_id: &str,
        secret: NewSecret,
    ) -> Result<(ApiKey, Rotation), RegistryError> {
        let wants = Wants {
            rotation: Some((id.to_owned(), rotation_id.to_owned())),
            ..Wants::default()
        };
        let input = (
            actor.clone(),
            id.to_owned(),
            request.clone(),
            rotation_id.to_owned(),
            secret,
        );
        self.write_grouped(
            input,
            wants,
            |unit, (actor, id, request, rotation_id, secret)| {
                Box::pin(rotate(unit, actor, id, request.into(), rotation_id, secret))
            },
        )
        .await
    }

    /// Makes the pending secret of a rotation anew, when the answer that held it was lost. The one
    /// before is cancelled; the rotation stays the same one.
    ///
    /// # Errors
    /// [`RegistryError::RotationNotFound`]; [`KeyError::NoRotation`] once the new secret was used.
    pub async fn reissue_secret(
        &self,
        actor: &Actor,
        rotation_id: &str,
        peppers: &Peppers,
    ) -> Result<Issued, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let rotation = store::rotations::find(&mut connection, rotation_id)
            .await?
            .ok_or(RegistryError::RotationNotFound)?;
        let prefix = store::api_keys::find_prefix(&mut connection, &rotation.key_id)
            .await?
            .ok_or(RegistryError::KeyNotFound)?;
        drop(connection);
        let plain = PlainKey::generate(&prefix, &mut rand::rng());
        let secret = NewSecret::of_plain(&plain, peppers.current());
        let input = (actor.clone(), rotation_id.to_owned(), secret);
        let key = self
            .write(input, |unit, (actor, rotation_id, secret)| {
                Box::pin(reissue(unit, actor, rotation_id, secret))
            })
            .await?;
        Ok(Issued { key, plain })
    }

    /// Promotes, cancels, rolls back or finishes the rotation that is under way.
    ///
    /// # Errors
    /// [`RegistryError::KeyNotFound`]; [`KeyError::NoRotation`], [`KeyError::TooLateToRollBack`].
    pub async fn step_rotation(
        &self,
        actor: &Actor,
        key_id: &str,
        step: RotationStep,
    ) -> Result<(ApiKey, Rotation), RegistryError> {
        self.step_rotation_by(actor, key_id, step, None).await
    }

    /// The same by somebody who holds no more than `held`: scopes that the rotation took from the key
    /// come back with its end, and nobody gives out more than they hold.
    ///
    /// # Errors
    /// As [`Self::step_rotation`]; [`KeyError::ScopeExceedsCreator`].
    pub async fn step_rotation_by(
        &self,
        actor: &Actor,
        key_id: &str,
        step: RotationStep,
        held: Option<&ScopeSet>,
    ) -> Result<(ApiKey, Rotation), RegistryError> {
        let input = (actor.clone(), key_id.to_owned(), step, held.cloned());
        self.write(input, |unit, (actor, key_id, step, held)| {
            Box::pin(take_step(unit, actor, key_id, *step, held.as_ref()))
        })
        .await
    }

    /// Ends one secret for good, with a reason. The key and its other secrets go on.
    ///
    /// # Errors
    /// [`RegistryError::KeyNotFound`]; [`KeyError::UnknownKid`], [`KeyError::ReasonRequired`].
    pub async fn revoke_secret(
        &self,
        actor: &Actor,
        key_id: &str,
        kid: &Kid,
        reason: &str,
    ) -> Result<ApiKey, RegistryError> {
        self.revoke_secret_by(actor, key_id, kid, reason, None)
            .await
    }

    /// The same by somebody who holds no more than `held`. The end of a pending secret ends its rotation;
    /// scopes that this took from the key do not come back then, if they are more. The trail says so.
    ///
    /// # Errors
    /// As [`Self::revoke_secret`].
    pub async fn revoke_secret_by(
        &self,
        actor: &Actor,
        key_id: &str,
        kid: &Kid,
        reason: &str,
        held: Option<&ScopeSet>,
    ) -> Result<ApiKey, RegistryError> {
        let input = (
            actor.clone(),
            key_id.to_owned(),
            kid.clone(),
            reason.to_owned(),
            held.cloned(),
        );
        self.write(input, |unit, (actor, key_id, kid, reason, held)| {
            let held = held.as_ref();
            Box::pin(revoke_secret(unit, actor, (key_id, kid), reason, held))
        })
        .await
    }

    /// Ends what time has ended: overlaps that are over, pending secrets that nobody used, old
    /// secrets that have been silent for long enough. Returns how many rotations changed.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read or written.
    pub async fn settle_rotations(&self) -> Result<usize, RegistryError> {
        // Silence is measured by the last use, and the newest uses wait in memory.
        self.flush_uses().await?;
        let (mut after, mut changed) = ((i64::MIN, String::new()), 0);
        loop {
            let mut connection = self.shared.pool.acquire().await?;
            let open =
                store::rotations::list_open(&mut connection, (after.0, &after.1), 100).await?;
            drop(connection);
            let Some(last) = open.last() else {
                return Ok(changed);
            };
            after = (last.created_at, last.id.clone());
            // Most have nothing to settle, and whoever writes would have to wait for each look at them.
            for key_id in self.to_settle(open).await? {
                let settled = self.write(key_id, |unit, key_id| Box::pin(settle(unit, key_id)));
                changed += usize::from(settled.await?);
            }
        }
    }

    /// The keys of those rotations that time has ended, as it looks before the writer's turn.
    async fn to_settle(&self, open: Vec<Rotation>) -> Result<Vec<String>, RegistryError> {
        let ids: Vec<String> = open.iter().map(|one| one.key_id.clone()).collect();
        let mut connection = self.shared.pool.acquire().await?;
        let keys = store::api_keys::find_all(&mut connection, &ids).await?;
        drop(connection);
        let now = self.now();
        let mut keys: HashMap<String, ApiKey> =
            keys.into_iter().map(|key| (key.id.clone(), key)).collect();
        let ended = open.into_iter().filter_map(|mut rotation| {
            // A copy: what it does to the key is done again in the transaction.
            let key = keys.get_mut(&rotation.key_id)?;
            key.settle_rotation(&mut rotation, now)
                .then_some(rotation.key_id)
        });
        Ok(ended.collect())
    }
}

pub(crate) async fn rotate(
    unit: &mut Unit,
    actor: &Actor,
    id: &str,
    RotationWish { request, narrow }: RotationWish<'_>,
    rotation_id: &str,
    new: &NewSecret,
) -> Result<(ApiKey, Rotation), RegistryError> {
    let now = unit.now();
    let (done, earlier) = unit.rotations(rotation_id, id).await?;
    if let Some(done) = done {
        if new.from_client && done.key_id == id && done.new == new.kid {
            return Ok((find(unit, id).await?, done));
        }
        return Err(RegistryError::RotationAlreadyDone {
            kid: done.new.to_string(),
        });
    }
    let mut key = find(unit, id).await?;
    key.check_is_kept_here()?;
    let policy = policy_of(unit, &key.environment, true).await?;
    // A secret that lives for ever may be replaced by one of its kind.
    let lifetime = request
        .lifetime_ms
        .or_else(|| key.inherited_lifetime_ms(now));
    policy
        .check_rotation(
            request.longest_overlap_ms(),
            lifetime,
            request.compromised.is_some(),
        )
        .map_err(KeyError::from)?;
    if new.from_client
        && store::secrets::find_key_id(unit.read(), new.kid.as_str())
            .await?
            .is_some()
    {
        return Err(KeyError::ClientSecret.into());
    }
    let before = key.secrets.clone();
    let scopes_before = key.scopes.clone();
    // What a pending rotation took does not come back by another one, which hands out a secret: that one
    // takes it over, and gives it back with its own end.
    let taken_over = match &earlier {
        Some(earlier) if earlier.state == RotationState::Pending => {
            narrowing::taken_by(unit, &key, &earlier.id).await?
        }
        _ => None,
    };
    if let Some(narrow) = narrow
        && let Some(scopes) = narrowing::narrowed(unit, &key, narrow).await?
    {
        key.scopes = scopes;
    }
    let rotation = key.rotate(
        rotation_id,
        request,
        (new.kid.clone(), &new.last_four),
        actor.as_str(),
        now,
    )?;
    let mut rotations = vec![rotation.clone()];
    rotations.extend(earlier.map(|mut earlier| {
        earlier.supersede(now);
        earlier
    }));
    let extent = match key.scopes == scopes_before {
        true => Extent::Secrets,
        false => Extent::Whole,
    };
    save_of(unit, (&mut key, extent), &before, Some(new), rotations).await?;
    let narrowed = key.scopes != scopes_before;
    if narrowed || taken_over.is_some() {
        // Its row may wait to be written with others.
        unit.settle(&key.id, rotation_id).await?;
        let before = taken_over.as_ref().unwrap_or(&scopes_before).to_string();
        let after = key.scopes.to_string();
        store::rotations::keep_scopes(unit.write(), rotation_id, &before, &after).await?;
    }
    let secret = &key.secrets[key.secrets.len() - 1];
    let mut details = secret_details(secret);
    details.push(("rotation", rotation.id.clone()));
    details.push(("overlap_ms", rotation.overlap_ms.to_string()));
    details.push(("clock", rotation.clock.to_text()));
    if let Some(until) = key.old_secret_works_until(now) {
        details.push(("old_secret_works_until", until.to_string()));
    }
    if let Some(reason) = &rotation.reason {
        details.push(("compromised", reason.clone()));
    }
    if narrowed {
        details.push(("scopes_before", scopes_before.to_string()));
        details.push(("scopes", key.scopes.to_string()));
    }
    unit.audit(
        actor,
        about_key(AuditAction::ApiKeyRotated, &key, "rotated", details),
    );
    Ok((key, rotation))
}

pub(crate) async fn reissue(
    unit: &mut Unit,
    actor: &Actor,
    rotation_id: &str,
    new: &NewSecret,
) -> Result<ApiKey, RegistryError> {
    let now = unit.now();
    let mut rotation = store::rotations::find(unit.read(), rotation_id)
        .await?
        .ok_or(RegistryError::RotationNotFound)?;
    let mut key = find(unit, &rotation.key_id).await?;
    key.check_is_kept_here()?;
    let before = key.secrets.clone();
    key.reissue(&mut rotation, new.kid.clone(), &new.last_four, now)?;
    // It goes on: nothing comes back.
    let goes_on = Some((&rotation, GiveBack::OrLeave(None)));
    save(unit, &mut key, &before, Some(new), goes_on).await?;
    let details = secret_details(&key.secrets[key.secrets.len() - 1]);
    unit.audit(
        actor,
        about_key(
            AuditAction::SecretReissued,
            &key,
            "given its pending secret anew",
            details,
        ),
    );
    Ok(key)
}

async fn take_step(
    unit: &mut Unit,
    actor: &Actor,
    key_id: &str,
    step: RotationStep,
    held: Option<&ScopeSet>,
) -> Result<(ApiKey, Rotation), RegistryError> {
    let now = unit.now();
    let mut key = find(unit, key_id).await?;
    key.check_is_kept_here()?;
    let mut rotation = store::rotations::find_open(unit.read(), key_id)
        .await?
        .ok_or(KeyError::NoRotation)?;
    // Where all keys of an owner were revoked, their rotations are open still.
    if key.revoked_at.is_some() {
        return Err(KeyError::Revoked.into());
    }
    let before = key.secrets.clone();
    let (action, verb) = match step {
        RotationStep::Promote => {
            if !key.activate(&mut rotation, now) {
                return Err(KeyError::NoRotation.into());
            }
            (
                AuditAction::SecretPromoted,
                "given its new secret as the current one",
            )
        }
        RotationStep::Cancel => {
            key.cancel_rotation(&mut rotation, actor.as_str(), now)?;
            (AuditAction::RotationCancelled, "not rotated after all")
        }
        RotationStep::RollBack => {
            key.roll_back(&mut rotation, actor.as_str(), now)?;
            (
                AuditAction::RotationRolledBack,
                "rolled back to its old secret",
            )
        }
        RotationStep::Finish => {
            key.finish_rotation(&mut rotation, actor.as_str(), now)?;
            (AuditAction::RotationFinished, "left by its old secret")
        }
    };
    let mut details = rotation_details(&rotation);
    let ended = Some((&rotation, GiveBack::OrRefuse(held)));
    details.extend(save(unit, &mut key, &before, None, ended).await?);
    if step == RotationStep::Cancel {
        set_again(unit, &key, &rotation, Undone::ByHand).await?;
    }
    unit.audit(actor, about_key(action, &key, verb, details));
    Ok((key, rotation))
}

async fn settle(unit: &mut Unit, key_id: &str) -> Result<bool, RegistryError> {
    let now = unit.now();
    let Some(mut rotation) = store::rotations::find_open(unit.read(), key_id).await? else {
        return Ok(false);
    };
    let mut key = find(unit, key_id).await?;
    let before = key.secrets.clone();
    if !key.settle_rotation(&mut rotation, now) {
        return Ok(false);
    }
    let mut details = rotation_details(&rotation);
    let ended = Some((&rotation, GiveBack::Freely));
    details.extend(save(unit, &mut key, &before, None, ended).await?);
    if rotation.state == RotationState::Cancelled {
        set_again(unit, &key, &rotation, Undone::TimedOut).await?;
    }
    let (action, verb) = match rotation.state {
        RotationState::Cancelled => (
            AuditAction::RotationCancelled,
            "not rotated: nobody used the new secret in time",
        ),
        _ => (AuditAction::RotationFinished, "left by its old secret"),
    };
    unit.audit(&Actor::keywright(), about_key(action, &key, verb, details));
    Ok(true)
}

async fn revoke_secret(
    unit: &mut Unit,
    actor: &Actor,
    (key_id, kid): (&str, &Kid),
    reason: &str,
    held: Option<&ScopeSet>,
) -> Result<ApiKey, RegistryError> {
    let now = unit.now();
    let mut key = find(unit, key_id).await?;
    key.check_is_kept_here()?;
    let before = key.secrets.clone();
    let rotation = store::rotations::find_open(unit.read(), key_id).await?;
    if !key.revoke_secret(kid, reason, now)? {
        return Ok(key);
    }
    let settled = rotation
        .and_then(|mut rotation| key.settle_rotation(&mut rotation, now).then_some(rotation));
    let ended = settled
        .as_ref()
        .map(|rotation| (rotation, GiveBack::OrLeave(held)));
    let mut details = vec![
        ("kid", kid.to_string()),
        ("reason", reason.trim().to_owned()),
    ];
    details.extend(save(unit, &mut key, &before, None, ended).await?);
    unit.audit(
        actor,
        about_key(
            AuditAction::SecretRevoked,
            &key,
            "left without one of its secrets",
            details,
        ),
    );
    Ok(key)
}

/// The first use of a secret. Returns false if another verification was first.
pub(crate) async fn first_use(unit: &mut Unit, kid: &str, at: i64) -> Result<bool, RegistryError> {
    let Some(key_id) = store::secrets::mark_first_use(unit.write(), kid, at).await? else {
        return Ok(false);
    };
    let mut key = find(unit, &key_id).await?;
    let rotation = store::rotations::find_open(unit.read(), &key_id).await?;
    if let Some(mut rotation) = rotation.filter(|rotation| rotation.new.as_str() == kid) {
        let before = key.secrets.clone();
        if key.activate(&mut rotation, at) {
            let goes_on = Some((&rotation, GiveBack::OrLeave(None)));
            save(unit, &mut key, &before, None, goes_on).await?;
        }
    }
    let event = crate::store::audit::NewEvent {
        summary: format!("First use of a secret of API key “{}”", key.name),
        ..about_key(
            AuditAction::SecretFirstUsed,
            &key,
            "used",
            vec![("kid", kid.to_owned())],
        )
    };
    unit.audit(&Actor::keywright(), event);
    Ok(true)
}

/// The only use of a one-time key: every secret of it ends with it. Returns false if it was used,
/// by whichever of its secrets, or ended before.
pub(crate) async fn only_use(unit: &mut Unit, kid: &str, at: i64) -> Result<bool, RegistryError> {
    let now = unit.now();
    let key_id = store::secrets::find_key_id(unit.read(), kid)
        .await?
        .ok_or(RegistryError::KeyNotFound)?;
    let key = find(unit, &key_id).await?;
    // What memory said may be older than what is written: here it is exact.
    let works = |secret: &Secret| secret.kid.as_str() == kid && secret.state(at).verifies();
    if key.revoked_at.is_some()
        || key.disabled_at.is_some()
        || !key.secrets.iter().any(works)
        || !first_use(unit, kid, at).await?
    {
        return Ok(false);
    }
    let mut key = find(unit, &key_id).await?;
    let before = key.secrets.clone();
    key.end_one_time(now);
    save(unit, &mut key, &before, None, None).await?;
    if let Some(mut rotation) = store::rotations::find_open(unit.read(), &key_id).await? {
        rotation.supersede(now);
        store::rotations::update(unit.write(), &rotation).await?;
    }
    Ok(true)
}

/// Stores a secret under another pepper, unless it was changed meanwhile.
pub(crate) async fn rewrite_mac(
    unit: &mut Unit,
    kid: &str,
    old_pepper: &str,
    mac: &keywright_domain::api_keys::KeyMac,
    pepper_id: &str,
) -> Result<(), RegistryError> {
    let now = unit.now();
    let Some(key_id) = store::secrets::find_key_id(unit.read(), kid).await? else {
        return Ok(());
    };
    let mut key = find(unit, &key_id).await?;
    if store::secrets::update_mac(unit.write(), kid, old_pepper, mac, pepper_id).await? {
        key.epoch = unit.change(Subject::ApiKey(key_id));
        store::api_keys::update(unit.write(), &key, now).await?;
    }
    Ok(())
}

/// Writes the key, its new secret, those of the others that changed, and its rotation. Whoever ends one
/// comes through here and says what becomes of scopes that it took, so that none is forgotten. Returns
/// what is written down of that.
///
/// # Errors
/// [`KeyError::ScopeExceedsCreator`], by [`GiveBack::OrRefuse`].
pub(crate) async fn save(
    unit: &mut Unit,
    key: &mut ApiKey,
    before: &[Secret],
    new: Option<&NewSecret>,
    rotation: Option<(&Rotation, GiveBack<'_>)>,
) -> Result<Vec<(&'static str, String)>, RegistryError> {
    let details = match rotation {
        Some((rotation, how)) => narrowing::give_back(unit, key, rotation, how).await?,
        None => Vec::new(),
    };
    let rotations = rotation.map(|(rotation, _)| rotation.clone());
    let rotations = rotations.into_iter().collect();
    save_of(unit, (key, Extent::Whole), before, new, rotations).await?;
    Ok(details)
}

/// Writes so much of the key, its new secret, those of the others that changed, and rotations.
async fn save_of(
    unit: &mut Unit,
    (key, extent): (&mut ApiKey, Extent),
    before: &[Secret],
    new: Option<&NewSecret>,
    rotations: Vec<Rotation>,
) -> Result<(), RegistryError> {
    key.epoch = unit.change(Subject::ApiKey(key.id.clone()));
    let changed = before
        .iter()
        .zip(&key.secrets)
        .filter(|(old, secret)| old != secret)
        .map(|(_, secret)| secret.clone())
        .collect();
    let insert = new.map(|new| {
        let position = key.secrets.len() - 1;
        SecretInsert {
            key_id: key.id.clone(),
            position: i64::try_from(position).unwrap_or(i64::MAX),
            secret: key.secrets[position].clone(),
            stored: new.mac.clone(),
        }
    });
    unit.put(key, extent, insert, changed, rotations).await
}

fn rotation_details(rotation: &Rotation) -> Vec<(&'static str, String)> {
    let mut details = vec![
        ("rotation", rotation.id.clone()),
        ("kid", rotation.new.to_string()),
    ];
    if let Some(old) = &rotation.old {
        details.push(("old_kid", old.to_string()));
    }
    if let Some(by) = &rotation.ended_by {
        details.push(("ended_by", by.clone()));
    }
    details
}
