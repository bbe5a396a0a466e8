//! Endpoints beyond RFC 6749: introspection, revocation, device authorization, pushed requests,
//! registration, sign-out.

use axum::Router;

use crate::server::App;
use crate::settings::Settings;

/// What these endpoints keep in memory.
#[derive(Debug)]
pub(crate) struct State {}

impl State {
    /// Nothing remembered yet.
    pub(crate) fn new(_settings: &Settings) -> Self {
        Self {}
    }
}

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
}

/// Starts what goes on beside requests.
pub(crate) fn start_background_work(_app: &App) {}
