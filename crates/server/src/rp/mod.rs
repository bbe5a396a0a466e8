//! The relying party: people sign in here by an identity provider elsewhere (GitHub, Google, any OpenID issuer).

use axum::Router;
use maud::{Markup, html};

use crate::problem::Problem;
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

/// “Continue with …” for the sign-in page, one link a provider; nothing where there is none.
///
/// # Errors
/// [`Problem`] if the providers cannot be read.
pub(crate) async fn buttons(_app: &App, _return_to: &str) -> Result<Markup, Problem> {
    Ok(html! {})
}

/// “Link …” for a person's own page: the providers that they have not linked yet.
///
/// # Errors
/// [`Problem`] if the providers cannot be read.
pub(crate) async fn buttons_to_link(_app: &App, _user_id: &str) -> Result<Markup, Problem> {
    Ok(html! {})
}
