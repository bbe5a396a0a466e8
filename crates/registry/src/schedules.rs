//! Schedules of rotations: set, paused, removed here; carried out in `run`, announced in `notices`,
//! and what became of the new secrets in `deliveries`. When something is due is the domain's.

pub(crate) mod again;
pub(crate) mod deliveries;
pub(crate) mod notices;
mod reissue;
pub(crate) mod run;

use keywright_domain::api_keys::{ApiKey, KeyError, redact};
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::base62::random_id;
use keywright_domain::schedules::{Schedule, Seed};

use crate::api_keys::{about_key, find};
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

/// The schedule of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct KeySchedule {
    /// Stable id.
    pub id: String,
    /// The key.
    pub key_id: String,
    /// What it says.
    pub schedule: Schedule,
    /// Where it begins (Unix ms): when it was set.
    pub anchor_at: i64,
    /// When the next rotation is due (Unix ms); [`NEVER`](keywright_domain::schedules::NEVER) past
    /// the end of the calendar.
    pub next_due_at: i64,
    /// Where a new secret goes, as whoever delivers reads it; empty for nowhere.
    pub delivery: String,
    /// Since when it is paused.
    pub paused_at: Option<i64>,
    /// Last change by a person (Unix ms).
    pub changed_at: i64,
    /// When a rotation that was refused is tried again (Unix ms); it stays due meanwhile.
    pub retry_at: Option<i64>,
    /// Why it was refused, in plain words.
    pub last_error: Option<String>,
}

impl KeySchedule {
    /// The next due moment after `now`, for a secret of that age. A limit that has passed already
    /// does not hold the schedule back: it is reported by notices.
    fn next_after(&self, now: i64, secret_created_at: i64) -> i64 {
        let seed = Seed::of(&self.key_id);
        let due = self
            .schedule
            .due_at(now, self.anchor_at, seed, secret_created_at);
        if due > now {
            due
        } else {
            self.schedule.next_due(now, self.anchor_at, seed)
        }
    }

    /// The first due moment, when it was set at `now`: an age that has passed already is due now.
    fn first_due(&self, now: i64, secret_created_at: i64) -> i64 {
        let seed = Seed::of(&self.key_id);
        self.schedule
            .due_at(now, self.anchor_at, seed, secret_created_at)
    }
}

impl LocalRegistry {
    /// Sets the schedule of a key, or replaces it: it begins now. `delivery` says where new secrets
    /// go, in the words of whoever delivers them; never a secret.
    ///
    /// # Errors
    /// [`RegistryError::KeyNotFound`]; [`KeyError::Revoked`], [`KeyError::Promoted`];
    /// [`RegistryError::Bounds`] for a delivery of more than 500 characters.
    pub async fn set_schedule(
        &self,
        actor: &Actor,
        key_id: &str,
        schedule: &Schedule,
        delivery: &str,
    ) -> Result<KeySchedule, RegistryError> {
        if delivery.chars().count() > 500 {
            return Err(RegistryError::Bounds(
                "where new secrets go is said in at most 500 characters",
            ));
        }
        if delivery.contains('\0') {
            return Err(RegistryError::Character);
        }
        let fresh = KeySchedule {
            id: random_id(&mut rand::rng()),
            key_id: key_id.to_owned(),
            schedule: schedule.clone(),
            anchor_at: 0,
            next_due_at: 0,
            delivery: redact(delivery).into_owned(),
            paused_at: None,
            changed_at: 0,
            retry_at: None,
            last_error: None,
        };
        self.write((actor.clone(), fresh), |unit, (actor, fresh)| {
            Box::pin(set(unit, actor, fresh))
        })
        .await
    }

    /// Removes the schedule of a key. Returns false if it has none.
    ///
    /// # Errors
    /// [`RegistryError::KeyNotFound`].
    pub async fn remove_schedule(
        &self,
        actor: &Actor,
        key_id: &str,
    ) -> Result<bool, RegistryError> {
        let input = (actor.clone(), key_id.to_owned());
        self.write(input, |unit, (actor, key_id)| {
            Box::pin(async move {
                let key = find(unit, key_id).await?;
                if store::schedules::find(unit.read(), key_id).await?.is_none() {
                    return Ok(false);
                }
                store::schedules::remove(unit.write(), key_id).await?;
                let verb = "left without a schedule of rotations";
                unit.audit(
                    actor,
                    about_key(AuditAction::ScheduleRemoved, &key, verb, Vec::new()),
                );
                Ok(true)
            })
        })
        .await
    }

    /// Pauses the schedule of a key, or lets it go on. What fell due meanwhile is not made up for:
    /// the next moment counts, or the end of the secret's maximum age.
    ///
    /// # Errors
    /// [`RegistryError::KeyNotFound`], [`RegistryError::ScheduleNotFound`].
    pub async fn pause_schedule(
        &self,
        actor: &Actor,
        key_id: &str,
        pause: bool,
    ) -> Result<KeySchedule, RegistryError> {
        let input = (actor.clone(), key_id.to_owned(), pause);
        self.write(input, |unit, (actor, key_id, pause)| {
            Box::pin(self::pause(unit, actor, key_id, *pause))
        })
        .await
    }

    /// Makes a schedule due now: whoever carries out schedules takes it next. One that is paused
    /// goes on with it. What it does then, and when it is due next, it says itself.
    ///
    /// # Errors
    /// [`RegistryError::KeyNotFound`], [`RegistryError::ScheduleNotFound`], [`KeyError::Revoked`].
    pub async fn hasten_schedule(
        &self,
        actor: &Actor,
        key_id: &str,
    ) -> Result<KeySchedule, RegistryError> {
        let input = (actor.clone(), key_id.to_owned());
        self.write(input, |unit, (actor, key_id)| {
            Box::pin(hasten(unit, actor, key_id))
        })
        .await
    }

    /// Schedules by their next due moment, paused ones too: after the moment and id that a page
    /// ended with, at most `limit` (1 to 500); of the keys of one owner, or of all.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn list_schedules(
        &self,
        owner: Option<&str>,
        after: Option<(i64, &str)>,
        limit: u32,
    ) -> Result<Vec<KeySchedule>, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let after = after.unwrap_or((i64::MIN, ""));
        let limit = i64::from(limit.clamp(1, 500));
        store::schedules::page(&mut connection, owner.unwrap_or(""), after, limit).await
    }

    /// The schedule of a key, if it has one.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn find_schedule(&self, key_id: &str) -> Result<Option<KeySchedule>, RegistryError> {
        store::schedules::find(&mut *self.shared.pool.acquire().await?, key_id).await
    }
}

async fn set(
    unit: &mut Unit,
    actor: &Actor,
    fresh: &KeySchedule,
) -> Result<KeySchedule, RegistryError> {
    let now = unit.now();
    let key = find(unit, &fresh.key_id).await?;
    key.check_is_kept_here()?;
    if key.revoked_at.is_some() {
        return Err(KeyError::Revoked.into());
    }
    let before = store::schedules::find(unit.read(), &fresh.key_id).await?;
    let mut schedule = fresh.clone();
    if let Some(before) = before {
        schedule.id = before.id;
    }
    schedule.anchor_at = now;
    schedule.changed_at = now;
    schedule.next_due_at = schedule.first_due(now, secret_created_at(&key, now));
    store::schedules::put(unit.write(), &schedule).await?;
    announce(
        unit,
        actor,
        &key,
        &schedule,
        "given a schedule of rotations",
    );
    Ok(schedule)
}

async fn pause(
    unit: &mut Unit,
    actor: &Actor,
    key_id: &str,
    pause: bool,
) -> Result<KeySchedule, RegistryError> {
    let now = unit.now();
    let key = find(unit, key_id).await?;
    let mut schedule = store::schedules::find(unit.read(), key_id)
        .await?
        .ok_or(RegistryError::ScheduleNotFound)?;
    if schedule.paused_at.is_some() == pause {
        return Ok(schedule);
    }
    schedule.paused_at = pause.then_some(now);
    schedule.changed_at = now;
    (schedule.retry_at, schedule.last_error) = (None, None);
    if !pause {
        schedule.next_due_at = schedule.first_due(now, secret_created_at(&key, now));
    }
    store::schedules::put(unit.write(), &schedule).await?;
    let verb = if pause {
        "taken off its schedule of rotations for a while"
    } else {
        "put back on its schedule of rotations"
    };
    announce(unit, actor, &key, &schedule, verb);
    Ok(schedule)
}

async fn hasten(
    unit: &mut Unit,
    actor: &Actor,
    key_id: &str,
) -> Result<KeySchedule, RegistryError> {
    let now = unit.now();
    let key = find(unit, key_id).await?;
    if key.revoked_at.is_some() {
        return Err(KeyError::Revoked.into());
    }
    let mut schedule = store::schedules::find(unit.read(), key_id)
        .await?
        .ok_or(RegistryError::ScheduleNotFound)?;
    if schedule.next_due_at <= now && schedule.paused_at.is_none() && schedule.retry_at.is_none() {
        return Ok(schedule);
    }
    schedule.next_due_at = schedule.next_due_at.min(now);
    schedule.paused_at = None;
    (schedule.retry_at, schedule.last_error) = (None, None);
    schedule.changed_at = now;
    store::schedules::put(unit.write(), &schedule).await?;
    announce(unit, actor, &key, &schedule, "put on its schedule for now");
    Ok(schedule)
}

fn announce(unit: &mut Unit, actor: &Actor, key: &ApiKey, schedule: &KeySchedule, verb: &str) {
    let mut details = vec![
        ("schedule", schedule.schedule.to_text()),
        ("next_due_at", schedule.next_due_at.to_string()),
    ];
    if !schedule.delivery.is_empty() {
        details.push(("delivery", schedule.delivery.clone()));
    }
    unit.audit(
        actor,
        about_key(AuditAction::ScheduleSet, key, verb, details),
    );
}

/// When the secret was made whose age counts: the newest that works.
fn secret_created_at(key: &ApiKey, now: i64) -> i64 {
    key.current_secret(now)
        .map_or(key.created_at, |secret| secret.created_at)
}
