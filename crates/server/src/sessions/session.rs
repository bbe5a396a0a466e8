//! `GET /auth/session`: who is signed in, and until when (S2-18, S2-26, S2-27).

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::people::{Email, RoleName};
use serde::Serialize;

use super::api::private;
use crate::browser_session::{self, Found, SignedIn};
use crate::http::cookies::{self, Name};
use crate::http::{Cookies, Peer};
use crate::pages::dates;
use crate::problem::Problem;
use crate::server::App;

/// Who is signed in.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CurrentSession {
    /// The person.
    user: CurrentUser,
    /// When the session ends if nobody comes back, RFC 3339: never after its absolute age.
    expires: String,
}

/// The person of a session.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CurrentUser {
    /// Stable id: `sub` of tokens.
    id: String,
    /// Name.
    name: String,
    /// E-mail address.
    email: Option<String>,
    /// Whether mail to it was answered.
    email_verified: bool,
    /// Roles.
    roles: Vec<String>,
}

impl CurrentSession {
    fn of(signed_in: &SignedIn) -> Self {
        let user = &signed_in.user;
        Self {
            user: CurrentUser {
                id: user.id.clone(),
                name: user.name.clone(),
                email: user.email.as_ref().map(Email::to_string),
                email_verified: user.email_verified,
                roles: user.roles.iter().map(RoleName::to_string).collect(),
            },
            expires: dates::iso(signed_in.session.runs_out_at()),
        }
    }
}

/// Who is signed in, by the session cookie.
#[utoipa::path(
    get,
    path = "/auth/session",
    tag = "sessions",
    security(("session" = [])),
    responses(
        (status = 200, description = "Somebody is signed in", body = CurrentSession),
        (status = 401, description = "`session_missing`, `session_expired` or `session_revoked`"),
    )
)]
pub(crate) async fn show(State(app): State<App>, peer: Peer, cookies: Cookies) -> Response {
    let mut response = match browser_session::find(&app, &cookies, &peer).await {
        Ok(Found::SignedIn(signed_in)) => private(&CurrentSession::of(&signed_in)),
        Ok(Found::Nobody) => {
            Problem::unauthorized("session_missing", "nobody is signed in").into_response()
        }
        Ok(Found::Over(state)) => {
            let detail = "this session is over: sign in again";
            let mut response = Problem::unauthorized(state.code(), detail).into_response();
            // AC-106: the cookie is worth nothing any more.
            let clear = cookies::clear(&app.settings, Name::Session);
            response.headers_mut().append(header::SET_COOKIE, clear);
            response
        }
        Err(problem) => problem.into_response(),
    };
    let vary = HeaderValue::from_static("Cookie");
    response.headers_mut().insert(header::VARY, vary);
    response
}
