//! Device authorization (RFC 8628): the endpoint, the page, and the grant type.

use axum::response::Response;
use keywright_domain::people::Client;

use crate::http::{Params, Peer};
use crate::problem::OAuthError;
use crate::server::App;

/// The device grant of the token endpoint (RFC 8628 §3.4).
///
/// # Errors
/// `authorization_pending`, `slow_down`, `access_denied`, `expired_token`, `invalid_grant`.
pub(crate) async fn grant(
    _app: &App,
    _client: &Client,
    _params: &Params,
    _jkt: Option<String>,
    _peer: &Peer,
) -> Result<Response, OAuthError> {
    Err(OAuthError::new("server_error", "not there yet"))
}
