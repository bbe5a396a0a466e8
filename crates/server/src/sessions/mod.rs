//! Sessions over HTTP: `/auth/session`, `/auth/signOut`, `/auth/csrfToken`, and the review of sessions
//! and applications under `/api/v1`. Also the denials: access tokens that end before their time.

use axum::Router;
use keywright_domain::people::Session;

use crate::oauth2::access_token::AccessClaims;
use crate::problem::Problem;
use crate::server::{App, BuildError};
use crate::settings::Settings;

/// What is kept in memory.
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

/// Reads what must be known before the first request.
pub(crate) async fn load(_app: &App) -> Result<(), BuildError> {
    Ok(())
}

/// Starts what goes on beside requests.
pub(crate) fn start_background_work(_app: &App) {}

/// Whether an access token was ended before its time: itself, its session or its grant.
///
/// # Errors
/// [`Problem`] if that cannot be found out: nobody is let through then (AC-204).
pub(crate) async fn is_denied(app: &App, claims: &AccessClaims) -> Result<bool, Problem> {
    let sid = claims.sid.as_deref().unwrap_or("");
    let gid = claims.gid.as_deref().unwrap_or("");
    Ok(app.registry.is_access_denied(&claims.jti, sid, gid).await?)
}

/// A session began: notices of new devices, and an end to the oldest where there are too many.
pub(crate) async fn began(
    _app: &App,
    _session: &Session,
    _new_device: bool,
) -> Result<(), Problem> {
    Ok(())
}
