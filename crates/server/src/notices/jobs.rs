//! Schedules of rotations are carried out here. Nodes need not agree on who does it: the registry
//! rotates once for each due moment, whoever asks.

use std::sync::Arc;
use std::time::Duration;

use keywright_domain::api_keys::{ApiKey, RotationState};
use keywright_domain::audit::Actor;
use keywright_domain::schedules::Mode;
use keywright_registry::{AuditEvent, KeySchedule, RegistryError, ScheduleWork};

use super::State;
use crate::key_service::schedules::somebody_delivers;
use crate::server::App;
use crate::webhooks::events::{self, Event};

const LOOK_EVERY: Duration = Duration::from_secs(30);
const LOOK_EVERY_MS: i64 = 30_000;
/// Rotations at a time; the rest has its turn at once after.
const RUNS: u32 = 50;
/// Who the audit trail says it was.
const ACTOR: &str = "schedule";

pub(super) fn start(app: &App) {
    let weak = Arc::downgrade(app);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(app) = weak.upgrade() else { return };
            if let Err(error) = app.registry.while_reachable(run(&app)).await {
                tracing::warn!(code = error.code(), "schedules wait for the next turn");
            }
        }
    });
}

/// Carries out what is due.
pub(super) async fn run(app: &App) {
    if !State::is_time(&app.notices.worked_at, app.now(), LOOK_EVERY_MS) {
        return;
    }
    let Some(peppers) = app.peppers() else { return };
    let actor = Actor::person(ACTOR);
    loop {
        let ended = app.registry.run_due_schedules(&actor, &peppers, RUNS).await;
        app.operations.metrics.job_ended("schedules", &ended);
        let runs = match ended {
            Ok(runs) => runs,
            Err(error) => {
                tracing::warn!(code = error.code(), "schedules wait for the next turn");
                return;
            }
        };
        let more = runs.len() >= RUNS as usize;
        for run in runs {
            if let ScheduleWork::Refused(error) = run.work {
                tracing::warn!(
                    code = error.code(),
                    key = run.key_id,
                    "a scheduled rotation is refused"
                );
            }
        }
        app.notices.wake();
        if !more {
            return;
        }
    }
}

/// What is to be told of a rotation that the audit trail shows: whoever waits for its new secret, where a schedule
/// made it and it still waits. It is read from the trail, so that a crash between the rotation and the telling loses
/// nothing. A server has no place of its own to bring a secret to: its owner takes it, made anew under the same
/// rotation, or a program that a webhook tells makes its own and delivers it. Until then the old one goes on.
///
/// # Errors
/// [`RegistryError`] if it cannot be read, or a delivery that nobody makes cannot be written down.
pub(super) async fn told_of(
    app: &App,
    event: &AuditEvent,
) -> Result<Option<(Event, ApiKey)>, RegistryError> {
    let registry = &app.registry;
    let detail = |wanted: &str| {
        let mut all = event.details.iter();
        all.find(|(name, _)| name == wanted)
            .map(|(_, value)| value.as_str())
    };
    let (Some(rotation_id), Some(kid)) = (detail("rotation"), detail("kid")) else {
        return Ok(None);
    };
    // The names of rotations that schedules make: the schedule's, and the moment that was due.
    let Some((maker, due_at)) = rotation_id.rsplit_once('-') else {
        return Ok(None);
    };
    if due_at.parse::<i64>().is_err() {
        return Ok(None);
    }
    let key_id = &event.target_id;
    if event.actor != ACTOR {
        return Ok(None);
    }
    // Removed or set anew since: what it made waits all the same, and is told of as what somebody has to take.
    let schedule = registry.find_schedule(key_id).await?;
    let schedule = schedule.filter(|schedule| schedule.id == maker);
    let rotation = match registry.find_rotation(key_id, rotation_id).await {
        Ok(rotation) => rotation,
        Err(RegistryError::RotationNotFound) => return Ok(None),
        Err(error) => return Err(error),
    };
    // Somebody took it meanwhile, or it is over.
    if rotation.state != RotationState::Pending || rotation.new.as_str() != kid {
        return Ok(None);
    }
    let (key, _) = match registry.find_api_key(key_id).await {
        Ok(found) => found,
        Err(RegistryError::KeyNotFound) => return Ok(None),
        Err(error) => return Err(error),
    };
    let automatic = |made: &KeySchedule| made.schedule.terms().mode == Mode::Automatic;
    let Some(schedule) = schedule.filter(automatic) else {
        let event = events::of_pending(&key, &rotation, event.at);
        return Ok(Some((event, key)));
    };
    let target = &schedule.delivery;
    if somebody_delivers(app).await? {
        let event = events::of_delivery_due(&key, &rotation, target, event.at);
        return Ok(Some((event, key)));
    }
    let why = "no webhook names delivery.due any more: take the new one by making it anew";
    let actor = Actor::person(ACTOR);
    // Once, also where this was read before and the telling was lost, or another node reads it too.
    registry
        .record_nobody_delivers(&actor, &rotation.id, target, why)
        .await?;
    Ok(None)
}
