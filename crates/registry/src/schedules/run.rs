//! Carries out what is due. One node of several does it: the due moment is moved on in the very
//! transaction that rotates, and only from where it was read.

use std::collections::{HashMap, HashSet};

use keywright_domain::api_keys::{
    ApiKey, DAY_MS, OverlapClock, PlainKey, Policy, Rotation, RotationRequest, RotationState,
};
use keywright_domain::audit::Actor;
use keywright_domain::schedules::Mode;

use super::{KeySchedule, notices, secret_created_at};
use crate::api_keys::{Issued, NewSecret, find, policy_of};
use crate::peppers::Peppers;
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, board, rotation, store};

/// A rotation that a rule refused is tried again after this time.
const TRY_AGAIN_MS: i64 = 60 * 60 * 1000;
/// Schedules read at a time.
const PAGE: i64 = 100;
/// How long an old secret works after a scheduled rotation, as far as the policy allows it.
const OVERLAP_MS: i64 = DAY_MS;

/// What a schedule did.
#[derive(Debug)]
pub struct ScheduleRun {
    /// The key.
    pub key_id: String,
    /// When it was due (Unix ms). Everything that was missed before is in this one run.
    pub due_at: i64,
    /// When it is due next, or tried again (Unix ms).
    pub next_due_at: i64,
    /// What is left to do.
    pub work: ScheduleWork,
}

/// What is left to do after a run.
#[derive(Debug)]
pub enum ScheduleWork {
    /// The new secret waits for a person to take it. Its text is here and nowhere else.
    Take {
        /// The key with its pending secret.
        issued: Box<Issued>,
        /// The rotation, for taking it back or making the secret anew.
        rotation: Rotation,
    },
    /// The new secret is to be delivered; what becomes of it is told to
    /// [`LocalRegistry::record_delivery`].
    Deliver {
        /// The key with its pending secret.
        issued: Box<Issued>,
        /// The rotation.
        rotation: Rotation,
        /// Where it goes, as the schedule says.
        target: String,
    },
    /// A rule refuses the rotation: it stays due, and is tried again within the hour.
    Refused(RegistryError),
}

/// What the transaction of a run came to.
enum Outcome {
    /// Somebody else did it, or there is nothing to do now.
    Nothing,
    Rotated(Box<ApiKey>, Rotation, i64),
    Refused(RegistryError, i64),
}

impl LocalRegistry {
    /// Carries out the schedules that are due, soonest first, until `limit` (1 to 100) new secrets
    /// were made; the rest stays due. Those that only notify have their notices made. A schedule
    /// runs once for all the times that it missed; a rotation that somebody made since then counts
    /// as this one, and one whose overlap still runs is not cut short.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing could be read or written. Secrets that were made before a failure
    /// are given back, and the failure is logged.
    pub async fn run_due_schedules(
        &self,
        actor: &Actor,
        peppers: &Peppers,
        limit: u32,
    ) -> Result<Vec<ScheduleRun>, RegistryError> {
        let mut runs = Vec::new();
        match self.run_due(actor, peppers, limit, &mut runs).await {
            Err(error) if runs.is_empty() => Err(error),
            Err(error) => {
                tracing::warn!(code = error.code(), "schedules are carried out in part");
                Ok(runs)
            }
            Ok(()) => Ok(runs),
        }
    }

    async fn run_due(
        &self,
        actor: &Actor,
        peppers: &Peppers,
        limit: u32,
        runs: &mut Vec<ScheduleRun>,
    ) -> Result<(), RegistryError> {
        let limit = limit.clamp(1, 100) as usize;
        let now = self.now();
        let mut after = (i64::MIN, String::new());
        loop {
            let mut connection = self.shared.pool.acquire().await?;
            let due =
                store::schedules::due_now(&mut connection, now, (after.0, &after.1), PAGE).await?;
            drop(connection);
            let Some(last) = due.last() else {
                return Ok(());
            };
            after = (last.next_due_at, last.id.clone());
            let to_notify = self.to_notify(&due).await?;
            for schedule in due {
                if is_notify_only(&schedule) {
                    if !to_notify.contains(&schedule.key_id) {
                        continue;
                    }
                    self.write(schedule, |unit, schedule| Box::pin(notify(unit, schedule)))
                        .await?;
                    continue;
                }
                runs.extend(self.run_one(actor, peppers, schedule).await?);
                if runs.len() == limit {
                    return Ok(());
                }
            }
        }
    }

    /// The keys of those that only notify and have something to write, as it looks before the writer's turn. Such a
    /// schedule stays due until somebody rotates, which may be months: each look at it would be a turn of those who write.
    async fn to_notify(&self, due: &[KeySchedule]) -> Result<HashSet<String>, RegistryError> {
        let due: Vec<_> = due.iter().filter(|one| is_notify_only(one)).collect();
        let ids: Vec<_> = due.iter().map(|one| one.key_id.clone()).collect();
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let mut connection = self.shared.pool.acquire().await?;
        let keys = store::api_keys::find_all(&mut connection, &ids).await?;
        let settled = store::notices::settled(&mut connection, &ids).await?;
        drop(connection);
        let now = self.now();
        let keys: HashMap<String, ApiKey> =
            keys.into_iter().map(|key| (key.id.clone(), key)).collect();
        let has_work = |schedule: &&&KeySchedule| {
            let Some(key) = keys.get(&schedule.key_id) else {
                return false;
            };
            if secret_created_at(key, now) >= schedule.next_due_at {
                return true;
            }
            key.current_secret(now).is_some_and(|current| {
                let candidate = notices::Candidate::of_schedule(schedule, current.kid.as_str());
                let due = notices::due_of(&candidate, &settled, now);
                due.send.is_some() || !due.passed.is_empty()
            })
        };
        let found = due.iter().filter(has_work);
        Ok(found.map(|one| one.key_id.clone()).collect())
    }

    async fn run_one(
        &self,
        actor: &Actor,
        peppers: &Peppers,
        schedule: KeySchedule,
    ) -> Result<Option<ScheduleRun>, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let prefix = store::api_keys::find_prefix(&mut connection, &schedule.key_id).await?;
        drop(connection);
        let Some(prefix) = prefix else {
            return Ok(None);
        };
        let plain = PlainKey::generate(&prefix, &mut rand::rng());
        let secret = NewSecret::of_plain(&plain, peppers.current());
        let input = (actor.clone(), schedule.clone(), secret);
        let outcome = self
            .write(input, |unit, (actor, schedule, secret)| {
                Box::pin(carry_out(unit, actor, schedule, secret))
            })
            .await?;
        let run = |next_due_at, work| ScheduleRun {
            key_id: schedule.key_id.clone(),
            due_at: schedule.next_due_at,
            next_due_at,
            work,
        };
        Ok(match outcome {
            Outcome::Nothing => None,
            Outcome::Refused(error, next) => Some(run(next, ScheduleWork::Refused(error))),
            Outcome::Rotated(key, rotation, next) => {
                let issued = Box::new(Issued { key: *key, plain });
                let work = match schedule.schedule.terms().mode {
                    Mode::Automatic => ScheduleWork::Deliver {
                        issued,
                        rotation,
                        target: schedule.delivery.clone(),
                    },
                    Mode::IssuePending | Mode::NotifyOnly => {
                        ScheduleWork::Take { issued, rotation }
                    }
                };
                Some(run(next, work))
            }
        })
    }
}

fn is_notify_only(schedule: &KeySchedule) -> bool {
    schedule.schedule.terms().mode == Mode::NotifyOnly
}

/// The schedule as it stands in this transaction, unless somebody moved it on.
async fn still_due(
    unit: &mut Unit,
    seen: &KeySchedule,
) -> Result<Option<(KeySchedule, ApiKey)>, RegistryError> {
    let Some(schedule) = store::schedules::find(unit.read(), &seen.key_id).await? else {
        return Ok(None);
    };
    if schedule.next_due_at != seen.next_due_at
        || schedule.retry_at != seen.retry_at
        || schedule.paused_at.is_some()
    {
        return Ok(None);
    }
    let key = find(unit, &seen.key_id).await?;
    let works =
        key.revoked_at.is_none() && key.disabled_at.is_none() && key.check_is_kept_here().is_ok();
    Ok(works.then_some((schedule, key)))
}

async fn notify(unit: &mut Unit, seen: &KeySchedule) -> Result<(), RegistryError> {
    let now = unit.now();
    let Some((schedule, key)) = still_due(unit, seen).await? else {
        return Ok(());
    };
    let made = secret_created_at(&key, now);
    if made >= schedule.next_due_at {
        // A person did it. Until then it stays due, so that it can become overdue.
        return move_on(unit, &schedule, schedule.next_after(now, made)).await;
    }
    let Some(current) = key.current_secret(now) else {
        return Ok(());
    };
    let candidate = notices::Candidate::of_schedule(&schedule, current.kid.as_str());
    notices::record(unit, &[candidate]).await
}

async fn carry_out(
    unit: &mut Unit,
    actor: &Actor,
    seen: &KeySchedule,
    new: &NewSecret,
) -> Result<Outcome, RegistryError> {
    let now = unit.now();
    let Some((schedule, key)) = still_due(unit, seen).await? else {
        return Ok(Outcome::Nothing);
    };
    let made = secret_created_at(&key, now);
    if made >= schedule.next_due_at {
        move_on(unit, &schedule, schedule.next_after(now, made)).await?;
        return Ok(Outcome::Nothing);
    }
    let open = store::rotations::find_open(unit.read(), &key.id).await?;
    if open.is_some_and(|open| open.state == RotationState::Overlapping)
        && let Some(until) = key.old_secret_works_until(now)
    {
        // Rotating now would end a secret that somebody was promised.
        move_on(unit, &schedule, until.max(now.saturating_add(1))).await?;
        return Ok(Outcome::Nothing);
    }
    let policy = policy_of(unit, &key.environment, true).await?;
    let request = request(&key, &policy, now);
    // One name for one due moment: whatever happens, it is not rotated twice for it.
    let rotation_id = format!("{}-{}", schedule.id, schedule.next_due_at);
    match rotation::rotate(unit, actor, &key.id, (&request).into(), &rotation_id, new).await {
        Ok((key, rotation)) => {
            let next = schedule.next_after(now, now);
            move_on(unit, &schedule, next).await?;
            // What is delivered by itself, nobody has to take.
            if schedule.schedule.terms().mode != Mode::Automatic {
                board::pending(unit, &key.id, rotation.new.as_str()).await?;
            }
            Ok(Outcome::Rotated(Box::new(key), rotation, next))
        }
        Err(error) if error.is_of_the_database() => Err(error),
        Err(error) => {
            // Due it stays: by its moment people were told, once.
            let retry_at = now.saturating_add(TRY_AGAIN_MS);
            let why = notices::short(&error.to_string());
            store::schedules::refuse(unit.write(), &schedule.id, &why, retry_at).await?;
            Ok(Outcome::Refused(error, retry_at))
        }
    }
}

async fn move_on(unit: &mut Unit, schedule: &KeySchedule, next: i64) -> Result<(), RegistryError> {
    if store::schedules::claim(unit.write(), &schedule.id, schedule.next_due_at, next).await? {
        Ok(())
    } else {
        // Taken back with everything that this transaction did.
        Err(RegistryError::Changed)
    }
}

/// A rotation as the policy of the key's environment has it: its new secret lives as long as the one
/// before, and no longer than the policy allows now.
fn request(key: &ApiKey, policy: &Policy, now: i64) -> RotationRequest {
    let inherited = key.inherited_lifetime_ms(now);
    let lifetime_ms = match inherited {
        None if policy.never_expires_allowed => None,
        longer => {
            let most = policy.max_lifetime_ms;
            Some(longer.map_or(most, |lifetime| lifetime.min(most)))
        }
    };
    let lifetime = lifetime_ms.unwrap_or(i64::MAX);
    let clock = match policy.overlap_clock {
        OverlapClock::UntilDrained { silent_ms, cap_ms } => OverlapClock::UntilDrained {
            silent_ms,
            cap_ms: cap_ms.min(lifetime).max(silent_ms),
        },
        other => other,
    };
    let overlap_ms = match clock {
        OverlapClock::UntilDrained { cap_ms, .. } => cap_ms,
        OverlapClock::FromFirstUse | OverlapClock::FromIssue => OVERLAP_MS
            .clamp(policy.min_overlap_ms, policy.max_overlap_ms)
            .min(lifetime),
    };
    RotationRequest {
        overlap_ms,
        clock,
        // What is inherited may be no lifetime that could be asked for.
        lifetime_ms: lifetime_ms.filter(|_| lifetime_ms != inherited),
        ..RotationRequest::default()
    }
}
