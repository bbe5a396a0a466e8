//! Which sign-in a page of one's own made in this browser (`/auth/login`). Its refresh token goes to
//! `/auth/refresh` and nowhere else, so a second cookie names its session where one signs out. It can do
//! nothing but end that session.

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_domain::people::{EndReason, PeopleError};
use keywright_registry::RegistryError;
use subtle::ConstantTimeEq as _;

use crate::http::cookies::{self, Name};
use crate::http::{Cookies, Peer};
use crate::problem::Problem;
use crate::server::App;
use crate::sessions;

/// What became of this browser's sign-in by a page of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It had none that we know of.
    None,
    /// It is another person's, and goes on.
    SomebodyElses,
    /// It was over before.
    Before,
    /// It is over now.
    Now,
}

impl Ended {
    /// Whether its cookies mean nothing any more.
    pub(crate) fn is_over(self) -> bool {
        self != Self::SomebodyElses
    }
}

/// `Set-Cookie` for a session that began.
pub(super) fn cookie(app: &App, session_id: &str, max_age_s: i64) -> HeaderValue {
    let tag = URL_SAFE_NO_PAD.encode(tag(app, session_id));
    let value = SecretText::new(format!("{session_id}.{tag}"));
    cookies::set(&app.settings, Name::SignIn, &value, Some(max_age_s))
}

/// Ends the sign-in of this browser with all that it gave; only `whose`, where that is said.
///
/// # Errors
/// [`Problem`] if it cannot be ended: then its cookies stay.
pub(crate) async fn end(
    app: &App,
    cookies: &Cookies,
    peer: &Peer,
    whose: Option<&str>,
) -> Result<Ended, Problem> {
    let Some(id) = read(app, cookies) else {
        return Ok(Ended::None);
    };
    let session = match app.registry.find_session_by_id(&id).await {
        Ok(session) => session,
        Err(RegistryError::People(PeopleError::SessionNotFound)) => return Ok(Ended::Before),
        Err(error) => return Err(error.into()),
    };
    let user_id = session.user_id.as_str();
    if whose.is_some_and(|whose| whose != user_id) {
        return Ok(Ended::SomebodyElses);
    }
    let actor = Actor::person(user_id).at(peer.address);
    let ended = sessions::end(app, &actor, user_id, &id, EndReason::SignedOut).await?;
    Ok(if ended { Ended::Now } else { Ended::Before })
}

/// The session that the cookie names, if the cookie is ours.
fn read(app: &App, cookies: &Cookies) -> Option<String> {
    let value = cookies.get(&app.settings, Name::SignIn)?.expose();
    let (id, given) = value.split_once('.')?;
    let given = URL_SAFE_NO_PAD.decode(given).ok()?;
    bool::from(tag(app, id).ct_eq(given.as_slice())).then(|| id.to_owned())
}

fn tag(app: &App, session_id: &str) -> [u8; 32] {
    app.secrets
        .tag(&[b"sign-in of a page", session_id.as_bytes()])
}
