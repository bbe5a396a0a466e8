//! The key service around the keys themselves: policies, schedules, the audit trail, hygiene, what
//! leaves and comes in, the stream of changes, and work over many keys. One file a resource; each
//! parses, calls the registry and renders.

pub(crate) mod alerts;
pub(crate) mod audit;
pub(crate) mod bulk;
mod bulk_run;
pub(crate) mod campaigns;
pub(crate) mod deliveries;
pub(crate) mod events;
pub(crate) mod export;
pub(crate) mod hygiene;
pub(crate) mod import;
pub(crate) mod later;
mod later_run;
pub(crate) mod notices;
pub(crate) mod owners;
mod paging;
mod places;
pub(crate) mod policies;
pub(crate) mod preview;
pub(crate) mod promotions;
pub(crate) mod rotations;
pub(crate) mod schedules;
pub(crate) mod scope_proposals;
pub(crate) mod stragglers;
mod stream;

#[cfg(test)]
mod tests;

use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use keywright_registry::MAX_IMPORT_BYTES;

use crate::server::App;

/// A bundle of 500 keys, and the sealed peppers.
const LARGEST_PROMOTION: usize = 8 * 1024 * 1024;
/// How often peppers that another node took are looked for.
const PEPPERS_EVERY: Duration = Duration::from_secs(10);
/// How often the audit trail is signed.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60 * 60);

/// What is kept in memory.
#[derive(Debug, Default)]
pub(crate) struct State {
    events: events::Followers,
    places: places::Places,
}

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    let large = DefaultBodyLimit::max(LARGEST_PROMOTION);
    Router::new()
        .route("/api/v1/policies", get(policies::list))
        .route(
            "/api/v1/policies/{environment}",
            get(policies::read)
                .put(policies::put)
                .delete(policies::remove),
        )
        .route("/api/v1/schedules", get(schedules::list))
        .route(
            "/api/v1/keys/{id}/schedule",
            get(schedules::read)
                .put(schedules::put)
                .delete(schedules::remove),
        )
        .route("/api/v1/keys/{id}/schedule/{step}", post(schedules::step))
        .route("/api/v1/keys/{id}/notices", get(schedules::notices))
        .route(
            "/api/v1/keys/{id}/rotations/current/stragglers",
            get(stragglers::read),
        )
        .route(
            "/api/v1/keys/{id}/rotations/current/finish-if-drained",
            post(stragglers::finish_if_drained),
        )
        .route("/api/v1/overlaps/closing", get(stragglers::closing))
        .route(
            "/api/v1/keys/{id}/rotations/{rotation_id}",
            get(rotations::read),
        )
        .route(
            "/api/v1/keys/{id}/rotations/{rotation_id}/deliveries",
            get(deliveries::list).post(deliveries::report),
        )
        .route(
            "/api/v1/keys/{id}/rotations/{rotation_id}/reissue",
            post(deliveries::reissue),
        )
        .route("/api/v1/audit", get(audit::list))
        .route("/api/v1/audit/verify", get(audit::verify))
        .route("/api/v1/audit/export", get(audit::export))
        .route("/api/v1/audit/checkpoint-keys", get(audit::checkpoint_keys))
        .route("/api/v1/audit/checkpoints", post(audit::checkpoint))
        .route("/api/v1/alerts", get(alerts::list))
        .route("/api/v1/alerts/{id}/seen", post(alerts::seen))
        .route("/api/v1/notices", get(notices::list))
        .route("/api/v1/notices/read", post(notices::read_until))
        .route("/api/v1/notices/{id}/read", post(notices::read))
        .route("/api/v1/hygiene", get(hygiene::counts))
        .route("/api/v1/hygiene/{finding}", get(hygiene::list))
        .route(
            "/api/v1/hygiene/campaigns",
            get(campaigns::list).post(campaigns::begin),
        )
        .route("/api/v1/hygiene/campaigns/{id}", get(campaigns::read))
        .route(
            "/api/v1/hygiene/campaigns/{id}/cancel",
            post(campaigns::cancel),
        )
        .route(
            "/api/v1/hygiene/campaigns/{id}/questions",
            get(campaigns::questions),
        )
        .route(
            "/api/v1/hygiene/campaigns/{id}/questions/{key_id}",
            post(campaigns::answer),
        )
        .route("/api/v1/hygiene/questions", get(campaigns::waiting))
        .route("/api/v1/owners", get(owners::list).post(owners::create))
        .route(
            "/api/v1/owners/{id}",
            get(owners::read).patch(owners::change),
        )
        .route("/api/v1/owners/{id}/disable", post(owners::disable))
        .route("/api/v1/owners/{id}/enable", post(owners::enable))
        .route("/api/v1/keys/{id}/preview", post(preview::preview))
        .route("/api/v1/keys/preview", post(preview::preview_many))
        .route(
            "/api/v1/keys/{id}/scope-proposal",
            get(scope_proposals::read),
        )
        .route("/api/v1/export", get(export::export))
        .route(
            "/api/v1/import",
            post(import::import).layer(DefaultBodyLimit::max(MAX_IMPORT_BYTES)),
        )
        .route("/api/v1/promotions/offers", post(promotions::offer))
        .route("/api/v1/promotions", post(promotions::accept).layer(large))
        .route("/api/v1/promotions/bundles", post(promotions::bundle))
        .route("/api/v1/promotions/left", post(promotions::left))
        .route("/api/v1/keys/{id}/end-copy", post(promotions::end_copy))
        .route("/api/v1/events", get(events::follow))
        .route("/api/v1/bulk", get(bulk::list).post(bulk::begin))
        .route("/api/v1/bulk/{id}", get(bulk::read))
        .route("/api/v1/bulk/{id}/failures", get(bulk::failures))
        .route("/api/v1/bulk/{id}/cancel", post(bulk::cancel))
        .route("/api/v1/operations", get(later::list))
        .route("/api/v1/operations/{id}", get(later::read))
        .route("/api/v1/operations/{id}/cancel", post(later::cancel))
}

/// One look for peppers that other nodes took.
#[cfg(test)]
pub(crate) async fn find_peppers_for_test(app: &App) {
    promotions::find_peppers(app).await;
}

/// Starts what goes on beside requests.
pub(crate) fn start_background_work(app: &App) {
    let weak = std::sync::Arc::downgrade(app);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(PEPPERS_EVERY).await;
            let Some(app) = weak.upgrade() else { return };
            let _ = app
                .registry
                .while_reachable(promotions::find_peppers(&app))
                .await;
        }
    });
    let weak = std::sync::Arc::downgrade(app);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(CHECKPOINT_EVERY).await;
            let Some(app) = weak.upgrade() else { return };
            let _ = app.registry.while_reachable(audit::sign(&app)).await;
        }
    });
}
