//! A provider's metadata (OpenID Connect Discovery §3, RFC 8414 §2): where its endpoints are. Members that
//! nobody asks for are ignored; the issuer must be the one that was asked.

use keywright_domain::issuer::{Issuer, IssuerRule};
use serde_json::{Map, Value};
use url::Url;

/// Where a provider's endpoints are. All of them are https; plain http only where the issuer itself is on
/// this machine. None has a user, a password or a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderMetadata {
    /// Where browsers go.
    pub authorization_endpoint: Url,
    /// Where codes are exchanged.
    pub token_endpoint: Url,
    /// Its keys.
    pub jwks_uri: Url,
    /// Who signed in.
    pub userinfo_endpoint: Option<Url>,
    /// Where tokens are given back (RFC 7009).
    pub revocation_endpoint: Option<Url>,
    /// RFC 9207: every answer carries `iss`.
    pub answers_carry_iss: bool,
    /// A client secret is taken in the body, and not by HTTP Basic: the default, and what every server must
    /// know (RFC 6749 §2.3.1).
    pub secret_in_body: bool,
}

/// Why a document is not used. `E` is what the caller has against an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataProblem<E> {
    /// No JSON object.
    NoObject,
    /// Of another issuer: what it says of itself, as it is.
    Issuer(String),
    /// An endpoint that is needed is not named.
    Missing(&'static str),
    /// An endpoint is no address, or one with a user, a password or a fragment.
    Unusable(&'static str),
    /// An endpoint of an https issuer speaks plain http.
    Plain(Url),
    /// The caller does not go there.
    Refused(E),
}

impl ProviderMetadata {
    /// Reads a document. `check` says whether the caller would go to an address.
    ///
    /// # Errors
    /// [`MetadataProblem`].
    pub fn read<E>(
        document: &[u8],
        issuer: &Issuer,
        rule: &IssuerRule,
        check: impl Fn(&Url) -> Result<(), E>,
    ) -> Result<Self, MetadataProblem<E>> {
        let Ok(Value::Object(document)) = serde_json::from_slice::<Value>(document) else {
            return Err(MetadataProblem::NoObject);
        };
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        let got = text("issuer").unwrap_or("");
        if !rule.accepts_metadata(got) {
            return Err(MetadataProblem::Issuer(got.to_owned()));
        }
        let endpoint = |name: &'static str| -> Result<Option<Url>, MetadataProblem<E>> {
            let Some(address) = text(name) else {
                return Ok(None);
            };
            let url = Url::parse(address).map_err(|_| MetadataProblem::Unusable(name))?;
            check(&url).map_err(MetadataProblem::Refused)?;
            match url.scheme() {
                "https" => {}
                "http" if issuer.is_loopback() => {}
                "http" => return Err(MetadataProblem::Plain(url)),
                _ => return Err(MetadataProblem::Unusable(name)),
            }
            let odd =
                !url.username().is_empty() || url.password().is_some() || url.fragment().is_some();
            if odd {
                return Err(MetadataProblem::Unusable(name));
            }
            Ok(Some(url))
        };
        let required = |name: &'static str| endpoint(name)?.ok_or(MetadataProblem::Missing(name));
        Ok(Self {
            authorization_endpoint: required("authorization_endpoint")?,
            token_endpoint: required("token_endpoint")?,
            jwks_uri: required("jwks_uri")?,
            userinfo_endpoint: endpoint("userinfo_endpoint")?,
            revocation_endpoint: endpoint("revocation_endpoint")?,
            answers_carry_iss: document
                .get("authorization_response_iss_parameter_supported")
                .and_then(Value::as_bool)
                .unwrap_or(false),
            secret_in_body: only_in_body(&document),
        })
    }
}

fn only_in_body(document: &Map<String, Value>) -> bool {
    let methods = document
        .get("token_endpoint_auth_methods_supported")
        .and_then(Value::as_array);
    let offers = |name: &str| methods.is_some_and(|all| all.iter().any(|method| method == name));
    offers("client_secret_post") && !offers("client_secret_basic")
}
