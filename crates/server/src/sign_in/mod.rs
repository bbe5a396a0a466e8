//! How people sign in: password, passkey, one-time codes, invitations, and the first set-up.

use axum::Router;

use crate::server::{App, BuildError};
use crate::settings::Settings;

/// What these pages keep in memory.
#[derive(Debug)]
pub(crate) struct State {}

impl State {
    /// Nothing remembered yet.
    pub(crate) fn new(_settings: &Settings) -> Result<Self, BuildError> {
        Ok(Self {})
    }
}

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
}
