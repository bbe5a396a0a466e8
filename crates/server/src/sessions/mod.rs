//! Sessions over HTTP: `/auth/session`, `/auth/signOut`, `/auth/csrfToken`, and the review of sessions
//! and applications under `/api/v1`. Also the denials: access tokens that end before their time.

pub(crate) mod api;
pub(crate) mod applications;
pub(crate) mod csrf_token;
mod denials;
pub(crate) mod of_users;
mod refusals;
pub(crate) mod review;
pub(crate) mod session;
pub(crate) mod sign_ins;
pub(crate) mod sign_out;
pub(crate) mod user_agent;
pub(crate) mod views;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post};
use keywright_domain::audit::Actor;
use keywright_domain::people::{EndReason, Session};
use keywright_registry::people::EndedSessions;

pub(crate) use self::refusals::{
    is_due, require, write_down as refused, write_down_of as refused_person,
};

use crate::oauth2::access_token::AccessClaims;
use crate::oauth2::back_channel;
use crate::problem::Problem;
use crate::server::{App, BuildError};
use crate::settings::Settings;

/// What is kept in memory.
#[derive(Debug, Default)]
pub(crate) struct State {
    denials: denials::Denials,
    refusals: refusals::Refusals,
}

impl State {
    /// Nothing remembered yet.
    pub(crate) fn new(_settings: &Settings) -> Result<Self, BuildError> {
        Ok(Self::default())
    }
}

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    let wrong = api::wrong_method;
    Router::new()
        .route("/auth/session", get(session::show).fallback(wrong))
        .route("/auth/signOut", post(sign_out::sign_out).fallback(wrong))
        .route("/logout", post(sign_out::sign_out).fallback(wrong))
        .route("/auth/csrfToken", get(csrf_token::show).fallback(wrong))
        .route("/api/v1/sessions", get(review::list).fallback(wrong))
        .route(
            "/api/v1/sessions/revoke-others",
            post(review::revoke_others).fallback(wrong),
        )
        .route(
            "/api/v1/sessions/revoke-all",
            post(review::revoke_all).fallback(wrong),
        )
        .route("/api/v1/sessions/{id}", delete(review::end).fallback(wrong))
        .route(
            "/api/v1/applications",
            get(applications::list).fallback(wrong),
        )
        .route(
            "/api/v1/applications/{client_id}",
            delete(applications::remove).fallback(wrong),
        )
        .route("/api/v1/sign-ins", get(sign_ins::list).fallback(wrong))
        .route(
            "/api/v1/users/{id}/sessions",
            get(of_users::list).fallback(wrong),
        )
        .route(
            "/api/v1/users/{id}/sessions/revoke-all",
            post(of_users::revoke_all).fallback(wrong),
        )
        .route(
            "/api/v1/users/{id}/sessions/{session_id}",
            delete(of_users::end).fallback(wrong),
        )
        .route(
            "/api/v1/users/{id}/sign-ins",
            get(of_users::sign_ins).fallback(wrong),
        )
}

/// Reads what must be known before the first request.
pub(crate) async fn load(app: &App) -> Result<(), BuildError> {
    Ok(app
        .sessions
        .denials
        .refresh(&app.registry, || app.now())
        .await?)
}

/// Starts what goes on beside requests.
pub(crate) fn start_background_work(app: &App) {
    let weak = Arc::downgrade(app);
    let mut heard = app.registry.watch_denials();
    tokio::spawn(async move {
        loop {
            // Another server's word comes sooner; many words in a moment are one reading.
            let _ = tokio::time::timeout(denials::REFRESH_EVERY, heard.changed()).await;
            heard.mark_unchanged();
            let Some(app) = weak.upgrade() else { return };
            let read = app.sessions.denials.refresh(&app.registry, || app.now());
            let read = app.registry.while_reachable(read).await;
            if let Err(error) = read.and_then(|read| read) {
                tracing::warn!(code = error.code(), "denials could not be read");
            }
            drop(app);
            tokio::time::sleep(denials::REFRESH_PAUSE).await;
        }
    });
}

/// Whether an access token was ended before its time: itself, its session or its grant. Memory
/// answers; where it is too old or too small, the registry does.
///
/// # Errors
/// [`Problem`] if that cannot be found out: nobody is let through then (AC-204).
pub(crate) async fn is_denied(app: &App, claims: &AccessClaims) -> Result<bool, Problem> {
    let sid = claims.sid.as_deref().unwrap_or("");
    let gid = claims.gid.as_deref().unwrap_or("");
    match app.sessions.denials.knows(&claims.jti, sid, gid, app.now()) {
        Some(denied) => Ok(denied),
        None => Ok(app.registry.is_access_denied(&claims.jti, sid, gid).await?),
    }
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
    let any = !ended.sessions.is_empty();
    ended_elsewhere(app, &ended).await?;
    Ok(any)
}

/// Ends all sessions of a person but one, and all that was given outside it.
///
/// # Errors
/// [`Problem`].
pub(crate) async fn end_others(
    app: &App,
    actor: &Actor,
    user_id: &str,
    keep: &str,
) -> Result<EndedSessions, Problem> {
    let ended = app
        .registry
        .end_other_sessions(actor, user_id, keep)
        .await?;
    ended_elsewhere(app, &ended).await?;
    Ok(ended)
}

/// Ends all sessions of a person, and all that applications were given.
///
/// # Errors
/// [`Problem`].
pub(crate) async fn end_all(
    app: &App,
    actor: &Actor,
    user_id: &str,
    reason: EndReason,
) -> Result<EndedSessions, Problem> {
    let ended = app
        .registry
        .end_all_sessions(actor, user_id, reason)
        .await?;
    ended_elsewhere(app, &ended).await?;
    Ok(ended)
}

/// The registry ended sessions, here or with something else such as a password: access tokens are
/// denied from now on, and the messages that it left for clients leave.
///
/// # Errors
/// [`Problem`].
pub(crate) async fn ended_elsewhere(app: &App, ended: &EndedSessions) -> Result<(), Problem> {
    if ended.told > 0 {
        back_channel::deliver_soon(app);
    }
    catch_up(app).await
}

/// The sessions of a person that are good now, newest first.
///
/// # Errors
/// [`Problem`].
pub(crate) async fn active(app: &App, user_id: &str) -> Result<Vec<Session>, Problem> {
    let mut all = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = app
            .registry
            .list_sessions(user_id, true, cursor.as_deref(), 500)
            .await?;
        all.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(all);
        }
    }
}

/// Access tokens of ours were ended elsewhere (a grant, a user, a token): what is kept in memory
/// catches up before the answer is given.
///
/// # Errors
/// [`Problem`] if that cannot be read.
pub(crate) async fn catch_up(app: &App) -> Result<(), Problem> {
    Ok(app
        .sessions
        .denials
        .refresh(&app.registry, || app.now())
        .await?)
}

/// A session began: notices of new devices, and an end to the oldest where there are too many.
pub(crate) async fn began(app: &App, session: &Session, new_device: bool) -> Result<(), Problem> {
    if new_device {
        // The person sees it in their history and on their own page.
        tracing::info!(
            event = "new_device",
            user = %session.user_id,
            session = %session.id,
            "somebody signed in with a browser that was not seen before"
        );
        crate::notices::people::tell_of_new_sign_in(app, session).await;
    }
    let others = active(app, &session.user_id).await?;
    let too_old = others
        .iter()
        .filter(|other| other.id != session.id)
        .skip(app.settings.max_sessions.saturating_sub(1));
    let actor = Actor::keywright();
    for old in too_old {
        let reason = EndReason::TooManySessions;
        end(app, &actor, &session.user_id, &old.id, reason).await?;
    }
    Ok(())
}
