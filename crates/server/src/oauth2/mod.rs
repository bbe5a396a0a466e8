//! The authorization server and OpenID Provider: one file an endpoint or grant type, named by the
//! RFC's words.

pub(crate) mod access_token;
pub(crate) mod authorization_request;
pub(crate) mod authorize;
pub(crate) mod back_channel;
mod basic;
mod chosen_secrets;
pub(crate) mod client_assertion;
pub(crate) mod client_auth;
pub(crate) mod client_jws;
pub(crate) mod consent;
pub(crate) mod cors;
pub(crate) mod device;
pub(crate) mod dpop;
pub(crate) mod end_session;
pub(crate) mod extensions;
pub(crate) mod id_token;
pub(crate) mod introspect;
pub(crate) mod metadata;
pub(crate) mod opened;
pub(crate) mod pushed_requests;
pub(crate) mod register;
pub(crate) mod resource;
pub(crate) mod revoke;
pub(crate) mod token;
pub(crate) mod tokens;
pub(crate) mod unusual;
pub(crate) mod used;
pub(crate) mod user_claims;
pub(crate) mod userinfo;

#[cfg(test)]
mod fapi;
#[cfg(test)]
pub(crate) mod testing;

use axum::Router;

use crate::nodes::guesses::Guesses;
use crate::server::{App, BuildError};

/// What these endpoints keep in memory.
#[derive(Debug)]
pub(crate) struct State {
    /// Clients that did not prove themselves.
    pub(crate) failures: Guesses,
    /// Refreshes, for what is unusual about them.
    pub(crate) unusual: unusual::State,
    /// Secrets that people chose and that were right a moment ago.
    pub(crate) chosen_secrets: chosen_secrets::ChosenSecrets,
    /// Access tokens whose signature was checked.
    pub(crate) opened: opened::Opened,
    /// What the endpoints beyond RFC 6749 remember.
    pub(crate) extensions: extensions::State,
}

impl State {
    /// Nothing remembered yet. `now`: Unix ms.
    pub(crate) fn new(now: i64) -> Result<Self, BuildError> {
        Ok(Self {
            failures: Guesses::new("clients", 20, 60_000),
            unusual: unusual::State::new(),
            chosen_secrets: chosen_secrets::ChosenSecrets::default(),
            opened: opened::Opened::default(),
            extensions: extensions::State::new(now),
        })
    }
}

/// Below the base path.
pub(crate) fn routes(app: &App) -> Router<App> {
    let short = app.settings.short_aliases;
    Router::new()
        .merge(metadata::routes())
        .merge(authorize::routes(short))
        .merge(token::routes(short))
        .merge(userinfo::routes())
        .merge(extensions::routes())
}

/// At the root of the host, whatever the base path (RFC 8414 §3.1: the issuer's path comes after the
/// well-known one).
pub(crate) fn root_routes(app: &App) -> Router<App> {
    metadata::root_routes(&app.settings.base_path)
}

/// Starts what goes on beside requests.
pub(crate) fn start_background_work(app: &App) {
    extensions::start_background_work(app);
}
