//! From the code to a proven identity: one exchange, every check, and nothing kept of what fails.

use std::time::{Duration, Instant};

use keywright_domain::SecretText;
use keywright_domain::accounts::Account;

use super::authorization::Attempt;
use super::error::SignInError;
use super::exchange::{TokenEndpoint, Tokens};
use super::id_token::{IdTokenContext, verify_id_token};
use super::jwks::KeyCache;
use super::presets::{Kind, Provider};
use super::profile::{Profile, fetch_profile};
use crate::clock::now_ms;
use crate::http::HttpError;

/// Codes live for a minute at many providers: later than this a second try is pointless.
const CODE_LIFE: Duration = Duration::from_secs(50);

/// Code for tokens, with one retry when the network breaks, inside the life of a code (AC-024).
pub(crate) async fn redeem(
    endpoint: &TokenEndpoint<'_>,
    code: &SecretText,
    attempt: &Attempt,
    redirect_uri: &str,
) -> Result<Tokens, SignInError> {
    let started = Instant::now();
    let first = endpoint.exchange_code(code, attempt, redirect_uri).await;
    match first {
        Err(error) if is_break(&error) && started.elapsed() < CODE_LIFE => {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        answered => return answered,
    }
    match endpoint.exchange_code(code, attempt, redirect_uri).await {
        // The first request may have got through, and with it the code is spent.
        Err(SignInError::ProviderRefused { .. } | SignInError::Http(HttpError::Network { .. })) => {
            Err(SignInError::NetworkError)
        }
        answered => answered,
    }
}

fn is_break(error: &SignInError) -> bool {
    matches!(
        error,
        SignInError::Http(HttpError::Network {
            certificate: false,
            ..
        }) | SignInError::ProviderUnavailable(_)
    )
}

/// What the tokens are checked against.
pub(crate) struct Check<'a> {
    pub(crate) endpoint: &'a TokenEndpoint<'a>,
    pub(crate) keys: &'a KeyCache,
    pub(crate) provider: &'a Provider,
    pub(crate) nonce: &'a SecretText,
    /// The account that signs in again.
    pub(crate) account: Option<&'a Account>,
}

impl Check<'_> {
    /// Who signed in, and whether that is proven by a signature.
    pub(crate) async fn identity(&self, tokens: &Tokens) -> Result<(Profile, bool), SignInError> {
        let identity = match self.provider.preset.kind {
            Kind::OpenId => (self.openid_profile(tokens).await?, true),
            Kind::GitHub => {
                let TokenEndpoint { http, metadata, .. } = self.endpoint;
                (
                    super::github::fetch_profile(http, metadata, &tokens.access_token).await?,
                    false,
                )
            }
        };
        match self.account {
            Some(account)
                if account.subject != identity.0.subject
                    || account.issuer != self.provider.issuer.as_str() =>
            {
                Err(SignInError::AccountMismatch(account.display_name.clone()))
            }
            _ => Ok(identity),
        }
    }

    async fn openid_profile(&self, tokens: &Tokens) -> Result<Profile, SignInError> {
        let TokenEndpoint {
            http,
            metadata,
            client_id,
            ..
        } = self.endpoint;
        let id_token = tokens
            .id_token
            .as_ref()
            .ok_or(SignInError::IdTokenMissing)?;
        let jwks_uri = metadata
            .jwks_uri
            .as_ref()
            .ok_or(SignInError::IdTokenMissing)?;
        let context = IdTokenContext {
            issuer: &self.provider.rule,
            client_id,
            nonce: Some(self.nonce),
            access_token: tokens.access_token.secret(),
            now_ms: now_ms(),
            clock_offset_ms: tokens.clock_offset_ms.or(metadata.clock_offset_ms),
        };
        let token = verify_id_token(http, self.keys, jwks_uri, id_token, &context).await?;
        fetch_profile(http, metadata, &token, &tokens.access_token).await
    }
}

/// A refresh token that will not be kept should not stay alive at the provider.
pub(crate) async fn give_back(endpoint: &TokenEndpoint<'_>, tokens: Tokens) {
    let Some(refresh_token) = tokens.refresh_token else {
        return;
    };
    let revoke = endpoint.revoke(&refresh_token, "refresh_token");
    let revoked = tokio::time::timeout(Duration::from_secs(3), revoke).await;
    tracing::info!(
        revoked = matches!(revoked, Ok(Ok(()))),
        "tokens of a refused sign-in were given back"
    );
}
