//! What the token endpoint answers (RFC 6749 §5.1, OpenID Connect Core §3.1.3.3): one function for
//! every grant type.

use axum::response::Response;
use keywright_domain::SecretText;
use keywright_domain::people::{Client, OAuthScopes};

use crate::problem::OAuthError;
use crate::server::App;

/// What a grant came to, for the answer.
#[derive(Debug)]
pub(crate) struct Granted<'a> {
    /// Who gets the tokens.
    pub(crate) client: &'a Client,
    /// The person.
    pub(crate) user_id: &'a str,
    /// The grant.
    pub(crate) grant_id: Option<&'a str>,
    /// The session it was given in.
    pub(crate) session_id: Option<&'a str>,
    /// What the access token allows.
    pub(crate) scopes: &'a OAuthScopes,
    /// For which resource; none for our own API.
    pub(crate) resource: Option<&'a str>,
    /// Thumbprint of the key that it is bound to.
    pub(crate) jkt: Option<&'a str>,
    /// `jti` of the access token.
    pub(crate) access_jti: String,
    /// The refresh token, where there is one.
    pub(crate) refresh_token: Option<SecretText>,
    /// When the person proved who they are, Unix ms.
    pub(crate) authenticated_at: Option<i64>,
    /// At which level.
    pub(crate) acr: Option<&'a str>,
    /// In which ways, separated by spaces.
    pub(crate) amr: Option<&'a str>,
    /// To be echoed in the ID token.
    pub(crate) nonce: Option<&'a str>,
}

/// The answer of the token endpoint.
///
/// # Errors
/// [`OAuthError`].
pub(crate) async fn answer(_app: &App, _granted: Granted<'_>) -> Result<Response, OAuthError> {
    Err(OAuthError::new("server_error", "not there yet"))
}
