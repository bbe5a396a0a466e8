//! Verifying an ID token with the keys of its issuer, and telling a wrong clock from a wrong token.

use keywright_domain::SecretText;
use keywright_domain::id_token::Expected;
use keywright_domain::issuer::IssuerRule;
use keywright_jose::{UncheckedIdToken, VerifiedIdToken};
use url::Url;

use super::error::SignInError;
use super::jwks::KeyCache;
use crate::http::HttpClient;

/// What an ID token is checked against, besides its issuer's keys.
pub(crate) struct IdTokenContext<'a> {
    pub(crate) issuer: &'a IssuerRule,
    pub(crate) client_id: &'a str,
    /// Absent for a refresh.
    pub(crate) nonce: Option<&'a SecretText>,
    pub(crate) access_token: &'a SecretText,
    pub(crate) now_ms: i64,
    /// How far the provider's clock is ahead of ours.
    pub(crate) clock_offset_ms: Option<i64>,
}

/// Verifies the token with the keys at `jwks_uri`.
pub(crate) async fn verify_id_token(
    http: &HttpClient,
    keys: &KeyCache,
    jwks_uri: &Url,
    token: &SecretText,
    context: &IdTokenContext<'_>,
) -> Result<VerifiedIdToken, SignInError> {
    let unchecked = UncheckedIdToken::parse(token.expose())?;
    let key = keys
        .find(
            http,
            jwks_uri,
            unchecked.key_id.as_deref(),
            unchecked.algorithm,
        )
        .await?;
    let expected = Expected {
        issuer: context.issuer,
        client_id: context.client_id,
        nonce: context.nonce,
        access_token: None,
        now_s: context.now_ms.div_euclid(1000),
    };
    unchecked
        .verify(&key, expected, context.access_token)
        .map_err(|problem| problem.explained_by_clock(context.clock_offset_ms).into())
}

#[cfg(test)]
mod tests;
