//! The authorization server and OpenID Provider: one file an endpoint or grant type, named by the
//! RFC's words.

pub(crate) mod access_token;
pub(crate) mod authorization_request;
pub(crate) mod back_channel;
pub(crate) mod client_assertion;
pub(crate) mod client_auth;
pub(crate) mod device;
pub(crate) mod dpop;
pub(crate) mod extensions;
pub(crate) mod id_token;
pub(crate) mod resource;
pub(crate) mod tokens;
pub(crate) mod user_claims;

use axum::Router;
use axum::http::HeaderValue;
use axum::routing::get;

use crate::http::failures::Failures;
use crate::server::{App, BuildError};
use crate::settings::Settings;

/// What these endpoints keep in memory.
#[derive(Debug)]
pub(crate) struct State {
    /// Clients that did not prove themselves.
    pub(crate) failures: Failures,
    /// What the endpoints beyond RFC 6749 remember.
    pub(crate) extensions: extensions::State,
}

impl State {
    /// Nothing remembered yet.
    pub(crate) fn new(settings: &Settings) -> Result<Self, BuildError> {
        Ok(Self {
            failures: Failures::new(20, 60_000),
            extensions: extensions::State::new(settings),
        })
    }
}

/// Below the base path.
pub(crate) fn routes(_app: &App) -> Router<App> {
    Router::new()
        .route("/oauth2/jwks.json", get(jwks))
        .merge(extensions::routes())
}

/// At the root of the host, whatever the base path (RFC 8414 §3.1: the issuer's path comes after the
/// well-known one).
pub(crate) fn root_routes(_app: &App) -> Router<App> {
    Router::new()
}

/// Starts what goes on beside requests.
pub(crate) fn start_background_work(app: &App) {
    extensions::start_background_work(app);
}

async fn jwks(
    axum::extract::State(app): axum::extract::State<App>,
) -> ([(axum::http::HeaderName, HeaderValue); 2], String) {
    let headers = [
        (
            axum::http::header::CONTENT_TYPE,
            HeaderValue::from_static("application/jwk-set+json"),
        ),
        (
            axum::http::header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=300"),
        ),
    ];
    (headers, app.keys.current().jwks().to_owned())
}
