//! Running it: health, readiness, metrics, logs, limits around all requests.

use axum::Router;
use axum::extract::State as Extracted;
use axum::http::StatusCode;
use axum::routing::get;

use crate::server::{App, BuildError};
use crate::settings::Settings;

/// What is kept in memory.
#[derive(Debug)]
pub(crate) struct State {}

impl State {
    /// Nothing counted yet.
    pub(crate) fn new(_settings: &Settings) -> Result<Self, BuildError> {
        Ok(Self {})
    }
}

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
}

/// Layers around all routes: request ids, logs, metrics, time-outs.
pub(crate) fn around(_app: &App, routes: Router<App>) -> Router<App> {
    routes
}

/// Starts what goes on beside requests.
pub(crate) fn start_background_work(_app: &App) {}

async fn health() -> &'static str {
    "ok\n"
}

async fn ready(Extracted(app): Extracted<App>) -> (StatusCode, &'static str) {
    match app.registry.schema_version().await {
        Ok(_) => (StatusCode::OK, "ready\n"),
        Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the registry does not answer\n",
        ),
    }
}
