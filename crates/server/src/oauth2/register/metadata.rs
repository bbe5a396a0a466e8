//! Client metadata (RFC 7591 §2, OpenID Connect Dynamic Client Registration §2): what we read of it;
//! the rest is ignored.

use keywright_domain::people::{AuthMethod, Client, ClientType, NewClient, OAuthScopes};
use keywright_jose::jwk::is_private;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::oauth2::client_jws;
use crate::oauth2::token::DEVICE;
use crate::problem::OAuthError;

/// Who a person is, and nothing else.
const SCOPES: &str = "openid profile email offline_access";
const GRANTS: [&str; 3] = ["authorization_code", "refresh_token", DEVICE];
const MOST_ADDRESSES: usize = 10;
const MOST_KEYS: usize = 10;

/// Members that count.
#[derive(Deserialize)]
pub(super) struct Metadata {
    pub(super) client_id: Option<String>,
    pub(super) client_secret: Option<String>,
    client_name: Option<String>,
    #[serde(default)]
    redirect_uris: Vec<String>,
    #[serde(default)]
    post_logout_redirect_uris: Vec<String>,
    backchannel_logout_uri: Option<String>,
    token_endpoint_auth_method: Option<String>,
    grant_types: Option<Vec<String>>,
    response_types: Option<Vec<String>>,
    scope: Option<String>,
    jwks: Option<Value>,
    jwks_uri: Option<String>,
    id_token_signed_response_alg: Option<String>,
    dpop_bound_access_tokens: Option<bool>,
}

fn invalid(text: &str) -> OAuthError {
    OAuthError::new("invalid_client_metadata", text)
}

/// What an administrator gave a client beyond what can be registered: it may keep it, and say it again.
#[derive(Default)]
pub(super) struct Given {
    grant_types: Vec<String>,
    scopes: OAuthScopes,
    addresses: usize,
}

impl Metadata {
    /// What becomes of a client that says this of itself. What it cannot say is an administrator's, and
    /// stays: FAPI 2.0, tokens bound to a key, PKCE. What a read of it showed is good (RFC 7592 §2.2).
    pub(super) fn change(&self, client: &Client) -> Result<NewClient, OAuthError> {
        let before = &client.settings;
        let new = self.to_client(&Given {
            grant_types: before.grant_types.clone(),
            scopes: before.scopes.clone(),
            addresses: before.redirect_uris.len() + before.post_logout_redirect_uris.len(),
        })?;
        Ok(NewClient {
            require_pkce: before.require_pkce,
            require_dpop: before.require_dpop || new.require_dpop,
            fapi: before.fapi,
            ..new
        })
    }

    /// What the registry keeps of it. Redirect URIs have the registry's own rules (S2, S6).
    pub(super) fn to_client(&self, given: &Given) -> Result<NewClient, OAuthError> {
        let grant_types = self.grant_types.clone();
        let grant_types = grant_types.unwrap_or_else(|| vec!["authorization_code".to_owned()]);
        if !grant_types
            .iter()
            .all(|grant| GRANTS.contains(&grant.as_str()) || given.grant_types.contains(grant))
        {
            return Err(invalid("a grant type cannot be registered here"));
        }
        let types = self.response_types.as_deref().unwrap_or_default();
        if !types.iter().all(|kind| kind == "code") {
            return Err(invalid("the only response type is code"));
        }
        let addresses = self.redirect_uris.len() + self.post_logout_redirect_uris.len();
        if addresses > MOST_ADDRESSES.max(given.addresses) {
            return Err(invalid("there are more than 10 addresses"));
        }
        if self.redirect_uris.is_empty() && grant_types.iter().any(|one| one == GRANTS[0]) {
            let text = "authorization_code needs a redirect URI";
            return Err(OAuthError::new("invalid_redirect_uri", text));
        }
        if self.jwks_uri.is_some() {
            return Err(invalid("send the keys in jwks: jwks_uri is not supported"));
        }
        let method = self.token_endpoint_auth_method.as_deref();
        let auth_method = AuthMethod::parse(method.unwrap_or("client_secret_basic"))
            .ok_or_else(|| invalid("token_endpoint_auth_method is not known here"))?;
        let most = OAuthScopes::parse(SCOPES).unwrap_or_default();
        let scopes = match &self.scope {
            Some(text) => OAuthScopes::parse(text)
                .filter(|asked| most.union(&given.scopes).contains_all(asked))
                .ok_or_else(|| invalid("a scope is an administrator's to give"))?,
            None => most,
        };
        Ok(NewClient {
            name: self
                .client_name
                .clone()
                .unwrap_or_else(|| "Unnamed application".into()),
            client_type: if auth_method == AuthMethod::None {
                ClientType::Public
            } else {
                ClientType::Confidential
            },
            auth_method,
            jwks: self.keys()?,
            redirect_uris: self.redirect_uris.clone(),
            post_logout_redirect_uris: self.post_logout_redirect_uris.clone(),
            backchannel_logout_uri: self.backchannel_logout_uri.clone(),
            grant_types,
            scopes,
            signing_alg: self
                .id_token_signed_response_alg
                .clone()
                .unwrap_or_else(|| "RS256".into()),
            require_pkce: true,
            require_dpop: self.dpop_bound_access_tokens.unwrap_or(false),
            fapi: false,
        })
    }

    fn keys(&self) -> Result<Option<String>, OAuthError> {
        let keys = self.jwks.as_ref().map(public_keys);
        keys.transpose().map_err(invalid)
    }
}

/// The public keys of a client (RFC 7517 §5), as they are kept.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn public_keys(jwks: &Value) -> Result<String, &'static str> {
    let keys = jwks.get("keys").and_then(Value::as_array);
    let keys = keys.filter(|keys| !keys.is_empty() && keys.len() <= MOST_KEYS);
    let keys = keys.ok_or("jwks has 1 to 10 keys")?;
    let is_public = |key: &Value| {
        key.as_object()
            .is_some_and(|key| !is_private(key) && client_jws::thumbprint(key).is_some())
    };
    if !keys.iter().all(is_public) {
        return Err("jwks has a key that is no public key");
    }
    Ok(json!({ "keys": keys }).to_string())
}

/// A client as its metadata.
pub(super) fn of(client: &Client) -> Map<String, Value> {
    let own = &client.settings;
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| {
        body.insert(name.to_owned(), value);
    };
    put("client_name", json!(own.name));
    put("redirect_uris", json!(own.redirect_uris));
    put(
        "post_logout_redirect_uris",
        json!(own.post_logout_redirect_uris),
    );
    put("grant_types", json!(own.grant_types));
    put("response_types", json!(["code"]));
    put(
        "token_endpoint_auth_method",
        json!(own.auth_method.as_str()),
    );
    put("scope", json!(own.scopes.to_string()));
    put("id_token_signed_response_alg", json!(own.signing_alg));
    put("dpop_bound_access_tokens", json!(own.require_dpop));
    if let Some(uri) = &own.backchannel_logout_uri {
        put("backchannel_logout_uri", json!(uri));
    }
    let jwks = own.jwks.as_deref();
    if let Some(jwks) = jwks.and_then(|text| serde_json::from_str(text).ok()) {
        put("jwks", jwks);
    }
    body
}
