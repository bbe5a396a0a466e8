//! What an administrator says of a client, by the API and by the command line, in the words of RFC 7591
//! §2: the same rules for both. The rest of them are the registry's.

use keywright_domain::people::{AuthMethod, ClientType, NewClient, OAuthScopes};
use serde_json::Value;

use crate::oauth2::register::public_keys;

/// Scopes of a client of which nobody said any: who a person is, and nothing else.
const SCOPES: &str = "openid profile email offline_access";

/// What is said of a client; what is left out stays as it is, or is as usual.
#[derive(Clone, Debug, Default)]
pub struct ClientChanges {
    /// `client_name`: shown to people.
    pub client_name: Option<String>,
    /// Where answers may go.
    pub redirect_uris: Option<Vec<String>>,
    /// Where browsers may go after they signed out.
    pub post_logout_redirect_uris: Option<Vec<String>>,
    /// Where it is told of ended sessions; an inner none takes it away.
    pub backchannel_logout_uri: Option<Option<String>>,
    /// How it proves itself: `none` makes it public.
    pub token_endpoint_auth_method: Option<String>,
    /// Its public keys (RFC 7517 §5); an inner none takes them away.
    pub jwks: Option<Option<Value>>,
    /// Grant types it may use.
    pub grant_types: Option<Vec<String>>,
    /// Scopes it may ask for, separated by spaces.
    pub scope: Option<String>,
    /// Algorithm of its ID tokens.
    pub id_token_signed_response_alg: Option<String>,
    /// Whether PKCE is required; always for public clients.
    pub require_pkce: Option<bool>,
    /// Whether its tokens are always bound to a key (RFC 9449).
    pub dpop_bound_access_tokens: Option<bool>,
    /// Whether it follows the FAPI 2.0 Security Profile.
    pub fapi: Option<bool>,
}

/// What is said of a client cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct ClientError {
    /// Which member.
    pub field: &'static str,
    /// Why, and what is allowed.
    pub why: &'static str,
}

impl ClientChanges {
    /// A client with this id of which nothing else is known (RFC 7591 §2 has the defaults).
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn into_new(self, id: &str) -> Result<NewClient, ClientError> {
        let usual = NewClient {
            name: id.to_owned(),
            client_type: ClientType::Confidential,
            auth_method: AuthMethod::ClientSecretBasic,
            jwks: None,
            redirect_uris: Vec::new(),
            post_logout_redirect_uris: Vec::new(),
            backchannel_logout_uri: None,
            grant_types: vec!["authorization_code".to_owned(), "refresh_token".to_owned()],
            scopes: OAuthScopes::parse(SCOPES).unwrap_or_default(),
            signing_alg: "RS256".to_owned(),
            require_pkce: true,
            require_dpop: false,
            fapi: false,
        };
        self.apply(usual)
    }

    /// The client as it is after these changes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn apply(self, mut client: NewClient) -> Result<NewClient, ClientError> {
        let refuse = |field, why| ClientError { field, why };
        if let Some(text) = &self.token_endpoint_auth_method {
            let why = "none, client_secret_basic, client_secret_post or private_key_jwt";
            client.auth_method =
                AuthMethod::parse(text).ok_or_else(|| refuse("token_endpoint_auth_method", why))?;
            client.client_type = match client.auth_method {
                AuthMethod::None => ClientType::Public,
                _ => ClientType::Confidential,
            };
        }
        if let Some(text) = &self.scope {
            client.scopes = OAuthScopes::parse(text)
                .ok_or_else(|| refuse("scope", "a character is not one of RFC 6749 §3.3"))?;
        }
        match self.jwks {
            Some(Some(jwks)) => {
                client.jwks = Some(public_keys(&jwks).map_err(|why| refuse("jwks", why))?);
            }
            Some(None) => client.jwks = None,
            None => {}
        }
        let set = |into: &mut String, text: Option<String>| {
            if let Some(text) = text {
                *into = text;
            }
        };
        set(&mut client.name, self.client_name);
        set(&mut client.signing_alg, self.id_token_signed_response_alg);
        let set = |into: &mut Vec<String>, texts: Option<Vec<String>>| {
            if let Some(texts) = texts {
                *into = texts;
            }
        };
        set(&mut client.redirect_uris, self.redirect_uris);
        let after = self.post_logout_redirect_uris;
        set(&mut client.post_logout_redirect_uris, after);
        set(&mut client.grant_types, self.grant_types);
        if let Some(uri) = self.backchannel_logout_uri {
            client.backchannel_logout_uri = uri;
        }
        client.require_pkce = self.require_pkce.unwrap_or(client.require_pkce);
        client.require_dpop = self.dpop_bound_access_tokens.unwrap_or(client.require_dpop);
        client.fapi = self.fapi.unwrap_or(client.fapi);
        Ok(client)
    }
}
