//! `private_key_jwt`: a client's own signed assertion (RFC 7523 §3, OpenID Connect Core §9).

use keywright_domain::SecretText;
use keywright_domain::people::Client;

use crate::problem::OAuthError;
use crate::server::App;

/// `client_assertion_type`.
pub(crate) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Who an assertion says it is from, before anything of it is believed.
pub(crate) fn issuer_of(_assertion: &str) -> Option<String> {
    None
}

/// Whether an assertion is the client's, for us, and new.
///
/// # Errors
/// [`OAuthError`] if that cannot be found out.
pub(crate) async fn verify(
    _app: &App,
    _client: &Client,
    _assertion: &SecretText,
) -> Result<bool, OAuthError> {
    Ok(false)
}
