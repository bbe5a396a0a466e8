//! Running it: health, readiness, metrics, logs, limits around all requests, the API's description.

mod access_log;
mod answers;
mod docs_page;
mod health;
pub(crate) mod metrics;
mod metrics_access;
mod openapi;
mod request_id;
pub(crate) mod telemetry;
mod within;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::routing::get;
use axum::{Router, middleware};

use crate::server::{App, BuildError};
use crate::settings::Settings;

/// How long a request may take until its answer begins.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// What is kept in memory.
#[derive(Debug)]
pub(crate) struct State {
    /// What is counted.
    pub(crate) metrics: metrics::Metrics,
    /// Traces, where somebody asked for them.
    telemetry: Option<telemetry::Telemetry>,
    draining: AtomicBool,
}

impl State {
    /// Nothing counted yet.
    pub(crate) fn new(settings: &Settings) -> Result<Self, BuildError> {
        Ok(Self {
            metrics: metrics::Metrics::new(),
            telemetry: telemetry::Telemetry::new(settings)?,
            draining: AtomicBool::new(false),
        })
    }

    /// The end has come: readiness says so from now on, and requests are still answered.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the end has come.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/healthz", get(health::health))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics_access::on_main_listener))
        .route("/api/openapi.json", get(openapi::document))
        .route("/api/docs", get(docs_page::page))
}

/// What the listener for machines serves (`metrics_listen`): no pages, no API.
pub(crate) fn machine_routes(app: &App) -> Router {
    Router::new()
        .route("/healthz", get(health::health))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics_access::text))
        .with_state(Arc::clone(app))
}

/// Layers around all routes: request ids, logs, metrics, time-outs, panics.
pub(crate) fn around(app: &App, routes: Router<App>) -> Router<App> {
    around_with(app, routes, REQUEST_WITHIN)
}

fn around_with(app: &App, routes: Router<App>, limit: Duration) -> Router<App> {
    routes
        .layer(middleware::from_fn_with_state(
            Arc::clone(app),
            answers::clear,
        ))
        .layer(middleware::from_fn_with_state(limit, within::limits))
        .layer(middleware::from_fn_with_state(
            Arc::clone(app),
            access_log::around,
        ))
}

/// Starts what goes on beside requests: the figures that nobody's request changes.
pub(crate) fn start_background_work(app: &App) {
    telemetry::start(app);
    let weak = Arc::downgrade(app);
    tokio::spawn(async move {
        loop {
            let Some(app) = weak.upgrade() else { return };
            metrics::look(&app).await;
            drop(app);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
}
