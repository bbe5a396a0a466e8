//! What became of a new secret on its way to where it is needed (rule 12). The delivery itself is
//! not made here. A failed one never costs the old secret its life.

use keywright_domain::api_keys::Rotation;
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::base62::random_id;
use keywright_domain::scopes::ScopeSet;

use super::again::{Undone, set_again};
use super::notices::short;
use crate::api_keys::{about_key, find};
use crate::narrowing::{self, GiveBack};
use crate::people::page::{self, Page, Position};
use crate::rotation::save;
use crate::uses::{AlertKind, PendingAlert};
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

/// What came of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// It arrived, was read back and verified.
    Delivered,
    /// It did not arrive, or what arrived could not be read back.
    Failed {
        /// Why, for people; never a secret.
        error: String,
        /// What is to become of the rotation.
        then: AfterFailure,
    },
}

/// What is to become of a rotation whose new secret did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// The new secret waits for another attempt; the old one lives on until the new one is used.
    Hold,
    /// The rotation is taken back, if its new secret reached nobody, the old one works, and the caller
    /// may give the key back what the rotation took from it. Held otherwise.
    Cancel,
}

/// One attempt to deliver a new secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Stable id.
    pub id: String,
    /// The rotation that made the secret.
    pub rotation_id: String,
    /// The secret.
    pub kid: String,
    /// Where it was to go.
    pub target: String,
    /// Whether it arrived.
    pub delivered: bool,
    /// Why not.
    pub error: Option<String>,
    /// When (Unix ms).
    pub at: i64,
}

impl LocalRegistry {
    /// Writes down what came of a delivery, and sees to the rotation: a failed one keeps the old
    /// secret alive and raises an alarm. Returns the rotation as it stands then.
    ///
    /// # Errors
    /// [`RegistryError::RotationNotFound`].
    pub async fn record_delivery(
        &self,
        actor: &Actor,
        rotation_id: &str,
        target: &str,
        outcome: &DeliveryOutcome,
    ) -> Result<(Delivery, Rotation), RegistryError> {
        self.record_delivery_by(actor, rotation_id, target, outcome, None)
            .await
    }

    /// The same by somebody who holds no more than `held`: a rotation that took more from its key is held,
    /// not taken back.
    ///
    /// # Errors
    /// As [`Self::record_delivery`].
    pub async fn record_delivery_by(
        &self,
        actor: &Actor,
        rotation_id: &str,
        target: &str,
        outcome: &DeliveryOutcome,
        held: Option<&ScopeSet>,
    ) -> Result<(Delivery, Rotation), RegistryError> {
        let delivery = attempt(rotation_id, target, outcome);
        let then = match outcome {
            DeliveryOutcome::Delivered => None,
            DeliveryOutcome::Failed { then, .. } => Some(*then),
        };
        let input = (actor.clone(), delivery, then, held.cloned());
        self.write(input, |unit, (actor, delivery, then, held)| {
            Box::pin(record(unit, actor, delivery, *then, held.as_ref()))
        })
        .await
    }

    /// Writes down that nobody makes the delivery of a rotation, and holds the rotation, if nothing was written down
    /// of it so far: several nodes may find that out at once. Returns whether this was the first to.
    ///
    /// # Errors
    /// [`RegistryError::RotationNotFound`].
    pub async fn record_nobody_delivers(
        &self,
        actor: &Actor,
        rotation_id: &str,
        target: &str,
        why: &str,
    ) -> Result<bool, RegistryError> {
        let outcome = DeliveryOutcome::Failed {
            error: why.to_owned(),
            then: AfterFailure::Hold,
        };
        let input = (actor.clone(), attempt(rotation_id, target, &outcome));
        self.write(input, |unit, (actor, delivery)| {
            Box::pin(async move {
                let first = (i64::MIN, "");
                let id = &delivery.rotation_id;
                let told = store::deliveries::of_rotation(unit.read(), id, first, 1).await?;
                if !told.is_empty() {
                    return Ok(false);
                }
                record(unit, actor, delivery, Some(AfterFailure::Hold), None).await?;
                Ok(true)
            })
        })
        .await
    }

    /// A delivery and its rotation as it stands now.
    ///
    /// # Errors
    /// [`RegistryError::RotationNotFound`].
    pub async fn find_delivery(&self, id: &str) -> Result<(Delivery, Rotation), RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let delivery = store::deliveries::find(&mut connection, id)
            .await?
            .ok_or(RegistryError::RotationNotFound)?;
        let rotation = store::rotations::find(&mut connection, &delivery.rotation_id)
            .await?
            .ok_or(RegistryError::RotationNotFound)?;
        Ok((delivery, rotation))
    }

    /// One page of the deliveries of a rotation, oldest first.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`].
    pub async fn list_deliveries(
        &self,
        rotation_id: &str,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<Delivery>, RegistryError> {
        let (after, limit) = (Position::read(cursor, false)?, page::limit(limit));
        let connection = &mut *self.shared.pool.acquire().await?;
        let place = (after.number, after.id.as_str());
        let found =
            store::deliveries::of_rotation(connection, rotation_id, place, limit + 1).await?;
        Ok(page::cut(found, limit, |one| Position::of(one.at, &one.id)))
    }
}

/// What is written down of an attempt; its secret and its time are found when it is.
fn attempt(rotation_id: &str, target: &str, outcome: &DeliveryOutcome) -> Delivery {
    Delivery {
        id: random_id(&mut rand::rng()),
        rotation_id: rotation_id.to_owned(),
        kid: String::new(),
        target: short(target),
        delivered: *outcome == DeliveryOutcome::Delivered,
        error: match outcome {
            DeliveryOutcome::Delivered => None,
            DeliveryOutcome::Failed { error, .. } => Some(short(error)),
        },
        at: 0,
    }
}

async fn record(
    unit: &mut Unit,
    actor: &Actor,
    told: &Delivery,
    then: Option<AfterFailure>,
    held: Option<&ScopeSet>,
) -> Result<(Delivery, Rotation), RegistryError> {
    let now = unit.now();
    let mut rotation = store::rotations::find(unit.read(), &told.rotation_id)
        .await?
        .ok_or(RegistryError::RotationNotFound)?;
    let mut key = find(unit, &rotation.key_id).await?;
    let delivery = Delivery {
        kid: rotation.new.to_string(),
        at: now,
        ..told.clone()
    };
    let mut details = vec![
        ("rotation", rotation.id.clone()),
        ("kid", delivery.kid.clone()),
        ("target", delivery.target.clone()),
    ];
    let Some(then) = then else {
        store::deliveries::insert(unit.write(), &delivery).await?;
        unit.made(&delivery.id);
        let verb = "given a new secret where it is needed";
        unit.audit(
            actor,
            about_key(AuditAction::SecretDelivered, &key, verb, details),
        );
        return Ok((delivery, rotation));
    };
    let arrived = store::deliveries::has_arrived(unit.read(), &rotation.id, &delivery.kid).await?;
    let before = key.secrets.clone();
    let cancel = then == AfterFailure::Cancel
        && !arrived
        && key.old_secret_works(&rotation, now)
        && narrowing::may_give_back(unit, &key, &rotation.id, held).await?;
    if cancel
        && key
            .cancel_rotation(&mut rotation, actor.as_str(), now)
            .is_ok()
    {
        let ended = Some((&rotation, GiveBack::OrRefuse(held)));
        details.extend(save(unit, &mut key, &before, None, ended).await?);
        let why = delivery.error.as_deref().unwrap_or_default();
        set_again(unit, &key, &rotation, Undone::NotDelivered(why)).await?;
        details.push(("then", "cancelled".to_owned()));
    } else if key.hold_rotation(&mut rotation, now) {
        save(unit, &mut key, &before, None, None).await?;
        store::deliveries::update_clock(unit.write(), &rotation.id, &rotation.clock.to_text())
            .await?;
        details.push(("then", "held".to_owned()));
    }
    store::deliveries::insert(unit.write(), &delivery).await?;
    unit.made(&delivery.id);
    let alert = PendingAlert {
        kind: AlertKind::DeliveryFailed,
        key_id: key.id.clone(),
        kid: delivery.kid.clone(),
        caller: delivery.target.clone(),
        count: 1,
        first_at: now,
        last_at: now,
    };
    store::uses::add_alerts(unit.write(), &[alert]).await?;
    details.extend(delivery.error.clone().map(|error| ("error", error)));
    let verb = "not given its new secret where it is needed";
    unit.audit(
        actor,
        about_key(AuditAction::DeliveryFailed, &key, verb, details),
    );
    Ok((delivery, rotation))
}
