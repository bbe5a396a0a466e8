//! The authorization request (RFC 6749 §4.1.1 and what came after): read and checked in one place, for
//! the endpoint and for requests that are pushed (RFC 9126).

use keywright_domain::people::Client;

use crate::http::Params;
use crate::problem::OAuthError;
use crate::server::App;

/// Checks a pushed request as the authorization endpoint would (S57).
///
/// # Errors
/// [`OAuthError`].
pub(crate) async fn check_pushed(
    _app: &App,
    _client: &Client,
    _params: &Params,
) -> Result<(), OAuthError> {
    Err(OAuthError::new("server_error", "not there yet"))
}
