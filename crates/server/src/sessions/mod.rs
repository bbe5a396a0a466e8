//! Sessions over HTTP: `/auth/session`, `/auth/signOut`, `/auth/csrfToken`, and the review of sessions
//! and applications under `/api/v1`. Also the denials: access tokens that end before their time.

use axum::Router;
use keywright_domain::audit::Actor;
use keywright_domain::people::{EndReason, Session};

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

/// Ends one session with all that hangs on it: refresh families, live access tokens, and the clients
/// are told. False if it was over before.
///
/// # Errors
/// [`Problem`], 404 for somebody else's.
pub(crate) async fn end(
    app: &App,
    actor: &Actor,
    user_id: &str,
    session_id: &str,
    reason: EndReason,
) -> Result<bool, Problem> {
    let ended = app
        .registry
        .end_session(actor, user_id, session_id, reason)
        .await?;
    Ok(!ended.sessions.is_empty())
}

/// Access tokens of ours were ended elsewhere (a grant, a user, a token): what is kept in memory
/// catches up before the answer is given.
///
/// # Errors
/// [`Problem`] if that cannot be read.
pub(crate) async fn catch_up(_app: &App) -> Result<(), Problem> {
    Ok(())
}

/// A session began: notices of new devices, and an end to the oldest where there are too many.
pub(crate) async fn began(
    _app: &App,
    _session: &Session,
    _new_device: bool,
) -> Result<(), Problem> {
    Ok(())
}
