//! How people sign in: password, passkey, one-time codes, invitations, and the first set-up.

pub(crate) mod set_up;

use axum::Router;

use crate::server::{App, BuildError};
use crate::settings::Settings;

/// What these pages keep in memory.
#[derive(Debug)]
pub(crate) struct State {
    /// The first set-up.
    pub(crate) set_up: set_up::State,
}

impl State {
    /// Nothing remembered yet.
    pub(crate) fn new(_settings: &Settings) -> Result<Self, BuildError> {
        Ok(Self {
            set_up: set_up::State::default(),
        })
    }
}

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new().merge(set_up::routes())
}

/// What a sign-in is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked<'a> {
    /// What the person is called where they come from.
    pub(crate) login_hint: Option<&'a str>,
    /// Even somebody who is signed in proves it again.
    pub(crate) again: bool,
    /// Two factors, or a passkey that verified its person.
    pub(crate) two_factors: bool,
}

/// The path of the sign-in page, with the issuer's base path: afterwards the browser goes to
/// `return_to`, a path of ours.
pub(crate) fn path(app: &App, return_to: &str, asked: Asked<'_>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("return_to", return_to);
    if let Some(hint) = asked.login_hint {
        query.append_pair("login_hint", hint);
    }
    if asked.again {
        query.append_pair("again", "1");
    }
    if asked.two_factors {
        query.append_pair("acr", crate::browser_session::ACR_TWO);
    }
    app.settings.path(&format!("/sign-in?{}", query.finish()))
}
