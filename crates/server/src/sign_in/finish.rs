//! The end of every sign-in of ours: a session begins, or the one that is there is trusted more.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_registry::people::NewSignIn;

use super::pending::Pending;
use crate::browser_device;
use crate::browser_session::{self, Proof, SignedIn};
use crate::http::local_path::LocalPath;
use crate::http::{Cookies, Peer, going_on};
use crate::problem::Problem;
use crate::server::App;

/// Where somebody goes after a sign-in: a path of ours, or their own page (AC-075).
pub(super) fn return_to(app: &App, asked: Option<&str>) -> String {
    match asked.map(LocalPath::parse) {
        Some(Some(path)) => path.as_str().to_owned(),
        Some(None) => {
            tracing::warn!("a sign-in asked to lead to another site: not followed");
            app.settings.path("/account")
        }
        None => app.settings.path("/account"),
    }
}

/// Begins a session, or renews this browser's if it is the same person's: what was given in it stays
/// good. Returns the cookies.
///
/// # Errors
/// [`Problem`].
pub(crate) async fn session(
    app: &App,
    cookies: &Cookies,
    peer: &Peer,
    current: Option<&SignedIn>,
    user_id: &str,
    proof: &Proof<'_>,
) -> Result<HeaderMap, Problem> {
    let Some(current) = current.filter(|current| current.user.id == user_id) else {
        let begun = browser_session::begin(app, cookies, peer, user_id, proof).await?;
        return Ok(begun.headers);
    };
    // Level and moment belong together: a weaker proof makes a weaker session of now.
    let (session, mut headers) =
        browser_session::renew(app, current, proof.amr, proof.acr, proof.proven_at).await?;
    let device = browser_device::of(app, cookies);
    app.registry
        .record_sign_in(&NewSignIn {
            user_id: Some(user_id.to_owned()),
            identifier: proof.identifier.to_owned(),
            method: proof.method.to_owned(),
            failure: None,
            network: peer.network(),
            user_agent: peer.user_agent.clone(),
            session_id: Some(session.id),
            device: Some(device.digest),
        })
        .await?;
    app.operations.metrics.count_sign_in(proof.method, true);
    Pending::clear(app, &mut headers);
    headers.append(header::SET_COOKIE, device.cookie);
    Ok(headers)
}

/// Our own places that a form leads to: they answer with a page, whatever comes after.
const OURS: [&str; 4] = [
    "/account",
    "/device",
    "/oauth2/authorize/resume",
    "/rp/link",
];

/// Goes to `to`, a path of this origin, after a form. What is not ours may lead on to another site at once,
/// and browsers hold our form's policy against that: there a page goes on.
pub(super) fn after_a_form(app: &App, to: &str, headers: HeaderMap) -> Response {
    let path = to.split(['?', '#']).next().unwrap_or(to);
    let is_ours = OURS.iter().any(|place| {
        let below = path.strip_prefix(app.settings.path(place).as_str());
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    if is_ours {
        return go(to, headers);
    }
    let address = format!("{}{to}", app.settings.origin());
    going_on::go_on(app, "Signed in", &address, headers)
}

/// 303 with cookies.
pub(crate) fn go(to: &str, mut headers: HeaderMap) -> Response {
    let Ok(value) = to.parse() else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    headers.insert(header::LOCATION, value);
    (StatusCode::SEE_OTHER, headers).into_response()
}
