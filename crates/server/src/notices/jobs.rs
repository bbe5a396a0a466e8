//! Schedules of rotations are carried out here. Nodes need not agree on who does it: the registry
//! rotates once for each due moment, whoever asks.

use std::sync::Arc;
use std::time::Duration;

use keywright_domain::audit::Actor;
use keywright_registry::outbox::MadeOf;
use keywright_registry::{AfterFailure, DeliveryOutcome, RegistryError, ScheduleRun, ScheduleWork};

use super::{State, make};
use crate::server::App;
use crate::webhooks::events;

const LOOK_EVERY: Duration = Duration::from_secs(30);
const LOOK_EVERY_MS: i64 = 30_000;
/// Rotations at a time; the rest has its turn at once after.
const RUNS: u32 = 50;

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
    let actor = Actor::person("schedule");
    loop {
        let runs = match app.registry.run_due_schedules(&actor, &peppers, RUNS).await {
            Ok(runs) => runs,
            Err(error) => {
                tracing::warn!(code = error.code(), "schedules wait for the next turn");
                return;
            }
        };
        let more = runs.len() >= RUNS as usize;
        for run in runs {
            let key = run.key_id.clone();
            if let Err(error) = see_to(app, &actor, run).await {
                tracing::warn!(
                    code = error.code(),
                    key,
                    "a scheduled rotation is half told"
                );
            }
        }
        app.notices.wake();
        if !more {
            return;
        }
    }
}

/// A server has no place of its own to bring a secret to: its owner takes it, made anew under the same
/// rotation, or a program that a webhook tells makes its own and delivers it. Until then the old one
/// goes on.
async fn see_to(app: &App, actor: &Actor, run: ScheduleRun) -> Result<(), RegistryError> {
    match run.work {
        ScheduleWork::Take { rotation, issued } => {
            let event = events::of_pending(&issued.key, &rotation, app.now());
            make::tell(app, &event, MadeOf::Else).await
        }
        ScheduleWork::Deliver {
            rotation,
            target,
            issued,
        } => {
            if crate::key_service::schedules::somebody_delivers(app).await? {
                let event = events::of_delivery_due(&issued.key, &rotation, &target, app.now());
                return make::tell(app, &event, MadeOf::Else).await;
            }
            let outcome = DeliveryOutcome::Failed {
                error: "no webhook names delivery.due any more: take the new one by making it anew"
                    .into(),
                then: AfterFailure::Hold,
            };
            app.registry
                .record_delivery(actor, &rotation.id, &target, &outcome)
                .await?;
            Ok(())
        }
        ScheduleWork::Refused(error) => {
            tracing::warn!(
                code = error.code(),
                key = run.key_id,
                "a scheduled rotation is refused"
            );
            Ok(())
        }
    }
}
