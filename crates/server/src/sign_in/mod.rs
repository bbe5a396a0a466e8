//! How people sign in: password, passkey, one-time codes, invitations, and the first set-up.

pub(crate) mod browser_client;
mod code;
mod finish;
pub(crate) mod own_page;
mod page;
pub(crate) mod passkeys;
mod password;
mod pending;
pub(crate) mod recovery;
pub(crate) mod second_factor;
pub(crate) mod set_up;
pub(crate) mod totp;

use axum::Router;
use axum::http::StatusCode;

use crate::nodes::guesses::Guesses;
use crate::passwords::PasswordError;
use crate::problem::Problem;
use crate::server::{App, BuildError};
use crate::settings::Settings;

pub(crate) use finish::{go, session as finish_session};
pub(crate) use password::{Attempt, check as check_password};

const QUARTER_HOUR_MS: i64 = 15 * 60 * 1000;

/// What these pages keep in memory.
#[derive(Debug)]
pub(crate) struct State {
    /// By source and account (AC-180).
    accounts: Guesses,
    /// By source alone: one source does not try one password at everybody.
    sources: Guesses,
    /// Second factors, by person alone: whoever gets here has the password already.
    codes: Guesses,
    /// Challenges of passkeys that were answered.
    answered: passkeys::Answered,
    /// The first set-up.
    pub(crate) set_up: set_up::State,
}

impl State {
    /// Nothing remembered yet.
    pub(crate) fn new(_settings: &Settings) -> Result<Self, BuildError> {
        Ok(Self {
            accounts: Guesses::new("accounts", 10, QUARTER_HOUR_MS),
            sources: Guesses::new("sources", 50, QUARTER_HOUR_MS),
            codes: Guesses::new("codes", 10, QUARTER_HOUR_MS),
            answered: passkeys::Answered::default(),
            set_up: set_up::State::default(),
        })
    }
}

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .merge(set_up::routes())
        .merge(page::routes())
        .merge(code::routes())
        .merge(passkeys::routes())
        .merge(browser_client::routes())
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

/// What could not be hashed, as an answer.
pub(crate) fn busy(error: PasswordError) -> Problem {
    let status = match error {
        PasswordError::TooShort | PasswordError::TooLong => StatusCode::BAD_REQUEST,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut problem = Problem::new(status, error.code(), error.to_string());
    problem.retry_after_s = status.is_server_error().then_some(2);
    problem
}

#[cfg(test)]
pub(crate) mod tests;
