//! The authorization request (RFC 6749 §4.1.1, RFC 7636, OpenID Connect Core §3.1.2.1):
//! fresh secrets for each attempt, and the address the browser opens.

use std::collections::HashSet;

use keywright_domain::SecretText;
use keywright_domain::pkce::{PkceVerifier, random_token};
use oauth2::basic::BasicClient;
use oauth2::{
    AuthUrl, ClientId, CsrfToken, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope,
};
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use url::Url;

use super::error::SignInError;

/// What one attempt must remember until its answer comes; never used for a second one.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) state: SecretText,
    pub(crate) nonce: SecretText,
    pub(crate) verifier: PkceVerifier,
}

impl Attempt {
    /// From the operating system's generator.
    pub(crate) fn new() -> Self {
        let mut entropy = UnwrapErr(SysRng);
        Self {
            state: random_token(&mut entropy),
            nonce: random_token(&mut entropy),
            verifier: PkceVerifier::generate(&mut entropy),
        }
    }
}

/// What is asked for.
pub(crate) struct AuthorizationRequest<'a> {
    pub(crate) endpoint: &'a Url,
    pub(crate) client_id: &'a str,
    pub(crate) redirect_uri: &'a str,
    pub(crate) scopes: &'a [String],
    pub(crate) login_hint: Option<&'a str>,
    pub(crate) extra_parameters: &'a [(&'static str, &'static str)],
    /// Someone else is signed in already: let the person choose.
    pub(crate) is_openid: bool,
}

impl AuthorizationRequest<'_> {
    /// The address the browser opens: no secret and no verifier in it.
    pub(crate) fn url(&self, attempt: &Attempt) -> Result<Url, SignInError> {
        let unusable =
            |_| SignInError::InvalidRequest("The authorization address is unusable.".to_owned());
        let client = BasicClient::new(ClientId::new(self.client_id.to_owned()))
            .set_auth_uri(AuthUrl::new(self.endpoint.to_string()).map_err(unusable)?)
            .set_redirect_uri(RedirectUrl::new(self.redirect_uri.to_owned()).map_err(unusable)?);
        let verifier = PkceCodeVerifier::new(attempt.verifier.secret().expose().to_owned());
        let mut request = client
            .authorize_url(|| CsrfToken::new(attempt.state.expose().to_owned()))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
            .add_scopes(self.scopes.iter().cloned().map(Scope::new));
        if self.is_openid {
            request = request.add_extra_param("nonce", attempt.nonce.expose());
            if self.asks_for_consent() {
                // OpenID Connect Core §11: without it a provider may ignore offline_access.
                request = request.add_extra_param("prompt", "consent");
            }
        }
        if let Some(hint) = self.login_hint.filter(|hint| !hint.is_empty()) {
            request = request.add_extra_param("login_hint", hint);
        }
        for (name, value) in self.extra_parameters {
            request = request.add_extra_param(*name, *value);
        }
        let (url, _state) = request.url();
        let mut names = HashSet::new();
        if url
            .query_pairs()
            .all(|(name, _)| names.insert(name.into_owned()))
        {
            Ok(url)
        } else {
            // The metadata's address had one of our parameters in it.
            Err(SignInError::InvalidRequest("The provider's authorization address carries parameters of its own that collide with the request.".to_owned()))
        }
    }

    fn asks_for_consent(&self) -> bool {
        self.scopes.iter().any(|scope| scope == "offline_access")
            && !self
                .extra_parameters
                .iter()
                .any(|(name, _)| *name == "prompt")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use url::Url;

    use super::{Attempt, AuthorizationRequest};
    use crate::sign_in::SignInError;

    fn request<'a>(endpoint: &'a Url, scopes: &'a [String]) -> AuthorizationRequest<'a> {
        AuthorizationRequest {
            endpoint,
            client_id: "app & co",
            redirect_uri: "http://127.0.0.1:4711/callback",
            scopes,
            login_hint: Some("ada@example.com"),
            extra_parameters: &[],
            is_openid: true,
        }
    }

    #[test]
    fn ac_004_each_parameter_once_and_no_verifier() -> Result<(), anyhow::Error> {
        let endpoint = Url::parse("https://id.example.com/auth?tenant=a")?;
        let scopes = ["openid".to_owned(), "email".to_owned()];
        let attempt = Attempt::new();
        let url = request(&endpoint, &scopes).url(&attempt)?;
        let pairs: HashMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(pairs.len(), url.query_pairs().count());
        for (name, value) in [
            ("tenant", "a"),
            ("client_id", "app & co"),
            ("redirect_uri", "http://127.0.0.1:4711/callback"),
            ("response_type", "code"),
            ("scope", "openid email"),
            ("state", attempt.state.expose()),
            ("nonce", attempt.nonce.expose()),
            ("code_challenge", &attempt.verifier.challenge()),
            ("code_challenge_method", "S256"),
            ("login_hint", "ada@example.com"),
        ] {
            assert_eq!(pairs.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!url.as_str().contains(attempt.verifier.secret().expose()));
        assert!(!url.as_str().contains("secret"));
        Ok(())
    }

    #[test]
    fn s0_17_scopes_go_out_parted_by_plus() -> Result<(), anyhow::Error> {
        let endpoint = Url::parse("https://id.example.com/auth")?;
        let scopes = ["openid", "profile", "email"].map(str::to_owned);
        let url = request(&endpoint, &scopes).url(&Attempt::new())?;
        let mut pairs = url.query().unwrap_or_default().split('&');
        assert!(
            pairs.any(|pair| pair == "scope=openid+profile+email"),
            "{url}"
        );
        Ok(())
    }

    #[test]
    fn ac_004_an_endpoint_with_our_parameters_is_refused() -> Result<(), anyhow::Error> {
        let endpoint = Url::parse("https://id.example.com/auth?client_id=evil")?;
        let refused = request(&endpoint, &[]).url(&Attempt::new());
        assert!(matches!(refused, Err(SignInError::InvalidRequest(_))));
        Ok(())
    }

    #[test]
    fn ac_004_attempts_share_nothing() {
        let (one, two) = (Attempt::new(), Attempt::new());
        assert!(!one.state.matches(two.state.expose()) && !one.nonce.matches(two.nonce.expose()));
        assert!(
            !one.verifier
                .secret()
                .matches(two.verifier.secret().expose())
        );
        assert!(!one.state.matches(one.nonce.expose()));
    }
}
