//! Clients: programs that ask for tokens. A public one has no secret (OAuth 2.1 §2.1).

use super::redirects::RedirectUri;
use super::{OAuthScopes, PeopleError, person_name};

/// Whether a client can keep a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientType {
    /// It cannot: desktop, mobile and browser programs.
    Public,
    /// It can: servers.
    Confidential,
}

impl ClientType {
    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Confidential => "confidential",
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Public, Self::Confidential]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// How a client proves itself at the token endpoint (`token_endpoint_auth_method`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// Not at all: public clients.
    None,
    /// A secret in the `Authorization` header.
    ClientSecretBasic,
    /// A secret in the form.
    ClientSecretPost,
    /// A signed assertion (RFC 7523 §2.2).
    PrivateKeyJwt,
}

impl AuthMethod {
    /// Stable text, as registered at IANA.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::None,
            Self::ClientSecretBasic,
            Self::ClientSecretPost,
            Self::PrivateKeyJwt,
        ]
        .into_iter()
        .find(|method| method.as_str() == text)
    }

    /// Whether it needs a secret of ours.
    #[must_use]
    pub fn needs_secret(self) -> bool {
        matches!(self, Self::ClientSecretBasic | Self::ClientSecretPost)
    }
}

const GRANTS: [&str; 4] = [
    "authorization_code",
    "refresh_token",
    "client_credentials",
    "urn:ietf:params:oauth:grant-type:device_code",
];
/// What the server has keys for: a client registered for another would never get an ID token.
const ALGORITHMS: [&str; 3] = ["RS256", "ES256", "EdDSA"];

/// What is said of a client, whether it is new or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewClient {
    /// Shown to people.
    pub name: String,
    /// Whether it can keep a secret.
    pub client_type: ClientType,
    /// How it proves itself.
    pub auth_method: AuthMethod,
    /// Its public keys as JSON (RFC 7517 §5), for `private_key_jwt`.
    pub jwks: Option<String>,
    /// Where answers may go.
    pub redirect_uris: Vec<String>,
    /// Where browsers may go after they signed out.
    pub post_logout_redirect_uris: Vec<String>,
    /// Where it is told of ended sessions (OpenID Connect Back-Channel Logout §2.2).
    pub backchannel_logout_uri: Option<String>,
    /// Grant types it may use.
    pub grant_types: Vec<String>,
    /// Scopes it may ask for.
    pub scopes: OAuthScopes,
    /// Algorithm of its ID tokens.
    pub signing_alg: String,
    /// Whether PKCE is required; always for public clients.
    pub require_pkce: bool,
    /// Whether its tokens are bound to a key (RFC 9449).
    pub require_dpop: bool,
    /// Whether it follows the FAPI 2.0 Security Profile.
    pub fapi: bool,
}

/// A client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// What is said of it.
    pub settings: NewClient,
    /// When it was added (Unix ms).
    pub created_at: i64,
    /// When it was last changed.
    pub changed_at: i64,
    /// When it was disabled, if it is.
    pub disabled_at: Option<i64>,
    /// Which series its own access tokens are of (RFC 6749 §4.4). All of a series end together.
    pub token_series: String,
    /// Id of the registration token that it was made with (RFC 7591 §3); none for one that a person
    /// added.
    pub registered_by: Option<String>,
}

impl NewClient {
    /// Checks that it fits together, and sets what follows from the rest.
    ///
    /// # Errors
    /// [`PeopleError::Client`], [`PeopleError::RedirectUri`], [`PeopleError::Name`].
    pub fn check(mut self) -> Result<Self, PeopleError> {
        self.name = person_name(&self.name)?;
        let public = self.client_type == ClientType::Public;
        // FAPI 2.0 Security Profile §5.3.2.1: confidential, keys and no shared secrets.
        let fapi_method = self.auth_method == AuthMethod::PrivateKeyJwt;
        let has = |grant: &str| self.grant_types.iter().any(|own| own == grant);
        let broken = [
            (
                public != (self.auth_method == AuthMethod::None),
                "a public client proves nothing, a confidential one must",
            ),
            (
                self.auth_method == AuthMethod::PrivateKeyJwt && self.jwks.is_none(),
                "private_key_jwt needs public keys",
            ),
            (
                !self
                    .grant_types
                    .iter()
                    .all(|own| GRANTS.contains(&own.as_str())),
                "a grant type is unknown",
            ),
            (self.grant_types.is_empty(), "it needs a grant type"),
            (
                public && has("client_credentials"),
                "client_credentials is for confidential clients",
            ),
            (
                has("authorization_code") && self.redirect_uris.is_empty(),
                "authorization_code needs a redirect URI",
            ),
            (
                self.redirect_uris.len() > 50 || self.post_logout_redirect_uris.len() > 50,
                "it has more than 50 addresses",
            ),
            (
                !ALGORITHMS.contains(&self.signing_alg.as_str()),
                "ID tokens are signed with RS256, ES256 or EdDSA, and with nothing else (such as PS256)",
            ),
            (
                self.fapi && !fapi_method,
                "FAPI 2.0 needs a confidential client with private_key_jwt",
            ),
            (
                self.fapi && self.signing_alg == "RS256",
                "FAPI 2.0 forbids RS256",
            ),
        ];
        if let Some((_, why)) = broken.into_iter().find(|(is, _)| *is) {
            return Err(PeopleError::Client(why));
        }
        for uri in self
            .redirect_uris
            .iter()
            .chain(&self.post_logout_redirect_uris)
        {
            RedirectUri::new(uri)?;
        }
        if let Some(uri) = &self.backchannel_logout_uri {
            RedirectUri::new(uri)?;
            if !uri.starts_with("http") {
                return Err(PeopleError::Client("the logout address is an http address"));
            }
        }
        self.require_pkce |= public || self.fapi;
        Ok(self)
    }
}

impl Client {
    /// What its own access tokens of now are ended by, as those of a grant are by the grant's id.
    #[must_use]
    pub fn own_tokens(&self) -> String {
        format!("client:{}:{}", self.id, self.token_series)
    }

    /// Whether an answer may go to `asked` (S3).
    #[must_use]
    pub fn allows_redirect(&self, asked: &str) -> bool {
        let allows = |own: &String| RedirectUri::new(own).is_ok_and(|own| own.allows(asked));
        self.settings.redirect_uris.iter().any(allows)
    }

    /// Whether a browser that signed out may go to `asked`: exactly registered, no exception (S45).
    #[must_use]
    pub fn allows_post_logout(&self, asked: &str) -> bool {
        self.settings
            .post_logout_redirect_uris
            .iter()
            .any(|own| own == asked)
    }

    /// Whether it may use a grant type.
    #[must_use]
    pub fn may_use(&self, grant_type: &str) -> bool {
        self.disabled_at.is_none()
            && self
                .settings
                .grant_types
                .iter()
                .any(|own| own == grant_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desktop() -> NewClient {
        NewClient {
            name: "Desktop".into(),
            client_type: ClientType::Public,
            auth_method: AuthMethod::None,
            jwks: None,
            redirect_uris: vec!["http://127.0.0.1/callback".into()],
            post_logout_redirect_uris: Vec::new(),
            backchannel_logout_uri: None,
            grant_types: vec!["authorization_code".into(), "refresh_token".into()],
            scopes: OAuthScopes::parse("openid profile").unwrap(),
            signing_alg: "RS256".into(),
            require_pkce: false,
            require_dpop: false,
            fapi: false,
        }
    }

    fn refused(change: impl FnOnce(&mut NewClient)) -> &'static str {
        let mut client = desktop();
        change(&mut client);
        client.check().expect_err("refused").code()
    }

    #[test]
    fn s1_s8_a_public_client_has_no_secret_and_always_pkce() {
        assert!(desktop().check().unwrap().require_pkce);
        let secret = refused(|client| client.auth_method = AuthMethod::ClientSecretPost);
        assert_eq!(secret, "invalid_client_metadata");
        assert_eq!(
            refused(|client| client.client_type = ClientType::Confidential),
            "invalid_client_metadata"
        );
        let machine = refused(|client| client.grant_types.push("client_credentials".into()));
        assert_eq!(machine, "invalid_client_metadata");
    }

    #[test]
    fn s16_the_implicit_and_the_password_grant_do_not_exist() {
        for grant in ["implicit", "password"] {
            let code = refused(|client| client.grant_types.push(grant.into()));
            assert_eq!(code, "invalid_client_metadata");
        }
    }

    #[test]
    fn an_algorithm_that_never_signs_is_refused_by_name() {
        for alg in ["PS256", "HS256", "none", ""] {
            let mut client = desktop();
            client.signing_alg = alg.into();
            let refusal = client.check().expect_err("refused");
            assert_eq!(refusal.code(), "invalid_client_metadata");
            assert!(
                refusal.to_string().contains("RS256, ES256 or EdDSA"),
                "{refusal}"
            );
        }
    }

    #[test]
    fn ac_200_a_wildcard_redirect_is_refused() {
        let code = refused(|client| client.redirect_uris.push("https://*.example.com/".into()));
        assert_eq!(code, "invalid_redirect_uri");
    }

    #[test]
    fn fapi_wants_keys_and_no_rs256() {
        let mut client = desktop();
        client.fapi = true;
        assert!(client.clone().check().is_err());
        client.client_type = ClientType::Confidential;
        client.auth_method = AuthMethod::PrivateKeyJwt;
        client.jwks = Some("{}".into());
        assert!(client.clone().check().is_err());
        client.signing_alg = "ES256".into();
        assert!(client.check().unwrap().require_pkce);
    }

    #[test]
    fn s45_post_logout_addresses_match_exactly() {
        let mut settings = desktop();
        settings.post_logout_redirect_uris = vec!["http://127.0.0.1/bye".into()];
        let mut client = Client {
            id: "c".into(),
            settings,
            created_at: 0,
            changed_at: 0,
            disabled_at: None,
            token_series: String::new(),
            registered_by: None,
        };
        assert!(client.allows_post_logout("http://127.0.0.1/bye"));
        assert!(!client.allows_post_logout("http://127.0.0.1:5/bye"));
        assert!(client.allows_redirect("http://127.0.0.1:5/callback"));
        assert!(client.may_use("refresh_token"));
        client.disabled_at = Some(1);
        assert!(!client.may_use("refresh_token"));
    }
}
