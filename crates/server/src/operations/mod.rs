//! Running it: health, readiness, metrics, logs, limits around all requests, the API's description.

mod access_log;
mod answers;
mod docs_page;
#[cfg(test)]
mod every_route;
pub(crate) mod front;
mod health;
mod in_address;
mod job_figures;
pub(crate) mod metrics;
mod metrics_access;
mod nul;
mod openapi;
mod outcome;
mod process_figures;
mod request_id;
pub(crate) mod telemetry;
pub(crate) mod verifications;
mod watched;
mod within;

pub(crate) use outcome::{Outcome, is_logged};
pub(crate) use request_id::RequestId;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{self, DefaultBodyLimit, Request};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use axum::{Router, middleware};
use tower::ServiceBuilder;

use crate::http;
use crate::server::{App, BuildError};
use crate::settings::Settings;

/// How long a request may take until its answer begins.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);
/// No request of ours is larger: imports and exports have limits of their own.
const LARGEST_BODY: usize = 256 * 1024;
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

/// Around all routes: request ids, logs, metrics, time-outs, panics, clear answers, safe headers.
pub(crate) fn around(app: &App, routes: Router<App>) -> Router<App> {
    around_with(app, routes, REQUEST_WITHIN)
}

/// One layer for all of it: each layer of its own would be boxed, and cloned with everything below it
/// for every request.
fn around_with(app: &App, routes: Router<App>, limit: Duration) -> Router<App> {
    let state = (Arc::clone(app), limit);
    routes.layer(
        ServiceBuilder::new()
            .layer(middleware::from_fn_with_state(state, every_request))
            .layer(DefaultBodyLimit::max(LARGEST_BODY)),
    )
}

async fn every_request(
    extract::State((app, limit)): extract::State<(App, Duration)>,
    request: Request,
    next: Next,
) -> Response {
    let answer = async |request: Request| match in_address::refused(&app, &request) {
        Some(refused) => refused.await,
        None => {
            let clear = |request| answers::clear(&app, request, |request| next.run(request));
            nul::none_in(&app, request, clear).await
        }
    };
    let limited = |request| within::limits(limit, request, answer);
    let mut response = access_log::around(&app, request, limited).await;
    http::headers::for_every_answer(&app, response.headers_mut());
    response
}

/// Starts what goes on beside requests: the figures that nobody's request changes.
pub(crate) fn start_background_work(app: &App) {
    telemetry::start(app);
    let weak = Arc::downgrade(app);
    tokio::spawn(async move {
        loop {
            let Some(app) = weak.upgrade() else { return };
            let _ = app.registry.while_reachable(metrics::look(&app)).await;
            drop(app);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
}
