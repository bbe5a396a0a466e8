//! Clients on the wire, in the words of RFC 7591 §2 where it has one. Times are Unix milliseconds.

use keywright_domain::people::{Client, ClientType};
use keywright_registry::people::ClientSecretRecord;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::ClientChanges;

/// A client.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClientRecordView {
    client_id: String,
    /// Shown to people.
    client_name: String,
    /// Whether it has no secret: desktop, mobile and browser programs.
    public: bool,
    redirect_uris: Vec<String>,
    post_logout_redirect_uris: Vec<String>,
    backchannel_logout_uri: Option<String>,
    token_endpoint_auth_method: &'static str,
    /// Its public keys (RFC 7517 §5).
    #[schema(value_type = Option<Object>)]
    jwks: Option<Value>,
    grant_types: Vec<String>,
    /// Scopes it may ask for.
    scope: String,
    id_token_signed_response_alg: String,
    require_pkce: bool,
    /// Whether its tokens are always bound to a key (RFC 9449).
    dpop_bound_access_tokens: bool,
    /// Whether it follows the FAPI 2.0 Security Profile.
    fapi: bool,
    created_at: i64,
    changed_at: i64,
    /// Since when it gets nothing.
    disabled_at: Option<i64>,
    /// Id of the registration token that it was made with.
    registered_by: Option<String>,
}

impl From<&Client> for ClientRecordView {
    fn from(client: &Client) -> Self {
        let own = &client.settings;
        let jwks = own.jwks.as_deref();
        Self {
            client_id: client.id.clone(),
            client_name: own.name.clone(),
            public: own.client_type == ClientType::Public,
            redirect_uris: own.redirect_uris.clone(),
            post_logout_redirect_uris: own.post_logout_redirect_uris.clone(),
            backchannel_logout_uri: own.backchannel_logout_uri.clone(),
            token_endpoint_auth_method: own.auth_method.as_str(),
            jwks: jwks.and_then(|text| serde_json::from_str(text).ok()),
            grant_types: own.grant_types.clone(),
            scope: own.scopes.to_string(),
            id_token_signed_response_alg: own.signing_alg.clone(),
            require_pkce: own.require_pkce,
            dpop_bound_access_tokens: own.require_dpop,
            fapi: own.fapi,
            created_at: client.created_at,
            changed_at: client.changed_at,
            disabled_at: client.disabled_at,
            registered_by: client.registered_by.clone(),
        }
    }
}

/// A secret of a client, without the secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClientSecretView {
    id: String,
    created_at: i64,
    /// Until when it works; none for no end.
    expires_at: Option<i64>,
}

impl From<ClientSecretRecord> for ClientSecretView {
    fn from(secret: ClientSecretRecord) -> Self {
        Self {
            id: secret.id,
            created_at: secret.created_at,
            expires_at: (secret.expires_at < i64::MAX).then_some(secret.expires_at),
        }
    }
}

/// A client with its secrets that work now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClientWithSecrets {
    #[serde(flatten)]
    pub(crate) client: ClientRecordView,
    /// Newest first.
    pub(crate) secrets: Vec<ClientSecretView>,
}

/// A client, with its secret where one was made just now: it is shown once and stored nowhere.
#[derive(Serialize, ToSchema)]
pub(crate) struct ClientMade {
    #[serde(flatten)]
    pub(crate) client: ClientRecordView,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_secret: Option<String>,
    /// The same request made it before, and its answer held the secret.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) secret_was_shown: bool,
}

/// One page of clients, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClientList {
    pub(crate) items: Vec<ClientRecordView>,
    /// For the next page; none at the end.
    pub(crate) next_cursor: Option<String>,
}

/// What is said of a client. What is left out stays as it is, or is as RFC 7591 §2 has it; null takes
/// an address or keys away.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ClientSaid {
    /// Shown to people.
    client_name: Option<String>,
    redirect_uris: Option<Vec<String>>,
    post_logout_redirect_uris: Option<Vec<String>>,
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    backchannel_logout_uri: Option<Option<String>>,
    /// `none` for a public client, `client_secret_basic`, `client_secret_post` or `private_key_jwt`.
    #[schema(pattern = "^(none|client_secret_basic|client_secret_post|private_key_jwt)$")]
    token_endpoint_auth_method: Option<String>,
    /// Its public keys (RFC 7517 §5).
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<Object>)]
    jwks: Option<Option<Value>>,
    grant_types: Option<Vec<String>>,
    /// Scopes it may ask for: of permissions, those that the caller holds.
    scope: Option<String>,
    id_token_signed_response_alg: Option<String>,
    require_pkce: Option<bool>,
    /// Whether its tokens are always bound to a key (RFC 9449).
    dpop_bound_access_tokens: Option<bool>,
    /// Whether it follows the FAPI 2.0 Security Profile.
    fapi: Option<bool>,
}

/// Null is something that was said.
fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl From<ClientSaid> for ClientChanges {
    fn from(said: ClientSaid) -> Self {
        Self {
            client_name: said.client_name,
            redirect_uris: said.redirect_uris,
            post_logout_redirect_uris: said.post_logout_redirect_uris,
            backchannel_logout_uri: said.backchannel_logout_uri,
            token_endpoint_auth_method: said.token_endpoint_auth_method,
            jwks: said.jwks,
            grant_types: said.grant_types,
            scope: said.scope,
            id_token_signed_response_alg: said.id_token_signed_response_alg,
            require_pkce: said.require_pkce,
            dpop_bound_access_tokens: said.dpop_bound_access_tokens,
            fapi: said.fapi,
        }
    }
}

/// A client that is to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientToAdd {
    /// Chosen here if it is left out.
    pub(crate) client_id: Option<String>,
    #[serde(flatten)]
    pub(crate) said: ClientSaid,
}

/// How a client gets another secret.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SecretToRotate {
    /// How long the secret before works on, 0 to 30 days; one day if it is left out.
    #[schema(minimum = 0, maximum = 2592000000i64)]
    pub(crate) overlap_ms: Option<i64>,
    /// Somebody else may have the secret: it ends now, and so does all that the client was given.
    pub(crate) compromised: bool,
}

/// What ended with a client.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokensEnded {
    /// Refresh families (grants) that were revoked.
    pub(crate) grants_revoked: usize,
}
