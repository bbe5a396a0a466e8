//! A provider's metadata (OpenID Connect Discovery, RFC 8414): where its endpoints are. The issuer must
//! be, byte for byte, the one that was asked. Remembered for ten minutes, of a hundred issuers at most.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value};
use url::Url;

use super::failure::{Failure, tame};
use super::outbound::Outbound;
use super::presets::{Kind, Provider, TokenAuth};

const FRESH_FOR_MS: i64 = 600_000;
const MOST: usize = 100;

/// Where an issuer's endpoints are.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    /// Where browsers go.
    pub(crate) authorization_endpoint: Url,
    /// Where codes are exchanged.
    pub(crate) token_endpoint: Url,
    /// Its keys, where OpenID Connect is spoken.
    pub(crate) jwks_uri: Option<Url>,
    /// Who it is; GitHub's API.
    pub(crate) userinfo_endpoint: Option<Url>,
    /// RFC 9207: every answer carries `iss`.
    pub(crate) answers_carry_iss: bool,
    /// How a secret is sent.
    pub(crate) token_auth: TokenAuth,
}

/// What is known, by issuer.
#[derive(Debug, Default)]
pub(crate) struct MetadataCache(Mutex<HashMap<String, (i64, Metadata)>>);

impl MetadataCache {
    /// The metadata of a provider.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn find(
        &self,
        http: &Outbound,
        provider: &Provider,
        now: i64,
    ) -> Result<Metadata, Failure> {
        if provider.kind == Kind::GitHub {
            return github(provider);
        }
        let issuer = provider.issuer.as_str();
        if let Some(known) = self.remembered(issuer, now) {
            return Ok(known);
        }
        let metadata = fetch(http, provider).await?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST && !known.contains_key(issuer) {
            known.clear();
        }
        known.insert(issuer.to_owned(), (now, metadata.clone()));
        Ok(metadata)
    }

    fn remembered(&self, issuer: &str, now: i64) -> Option<Metadata> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (when, metadata) = known.get(issuer)?;
        (0..FRESH_FOR_MS)
            .contains(&now.saturating_sub(*when))
            .then(|| metadata.clone())
    }
}

/// GitHub publishes no metadata: its addresses are documented and fixed, and those of a GitHub
/// Enterprise Server follow from its host.
fn github(provider: &Provider) -> Result<Metadata, Failure> {
    let base = provider.issuer.as_str().trim_end_matches('/');
    let api = if base == "https://github.com" {
        "https://api.github.com".to_owned()
    } else {
        format!("{base}/api/v3")
    };
    let address = |text: String| {
        Url::parse(&text).map_err(|_| Failure::provider("idp_metadata_unusable", "no address"))
    };
    Ok(Metadata {
        authorization_endpoint: address(format!("{base}/login/oauth/authorize"))?,
        token_endpoint: address(format!("{base}/login/oauth/access_token"))?,
        jwks_uri: None,
        userinfo_endpoint: Some(address(api)?),
        answers_carry_iss: false,
        token_auth: TokenAuth::ClientSecretPost,
    })
}

async fn fetch(http: &Outbound, provider: &Provider) -> Result<Metadata, Failure> {
    let unusable = |detail: &str| {
        let detail = format!("metadata of {}: {detail}", provider.issuer);
        Failure::provider("idp_metadata_unusable", detail)
    };
    let url = Url::parse(&provider.issuer.discovery_url())
        .map_err(|_| unusable("its address is none"))?;
    let answer = http.get(&url, None).await?;
    if answer.status != 200 {
        return Err(unusable(&format!("status {}", answer.status)));
    }
    let Ok(Value::Object(document)) = serde_json::from_slice::<Value>(&answer.body) else {
        return Err(unusable("no JSON object"));
    };
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    let got = text("issuer").unwrap_or("");
    if !provider.rule.accepts_metadata(got) {
        let detail = format!("{} says it is {}", provider.issuer, tame(got, 120));
        return Err(Failure::provider("idp_issuer_mismatch", detail));
    }
    let endpoint = |name: &str| -> Result<Option<Url>, Failure> {
        let Some(address) = text(name) else {
            return Ok(None);
        };
        let bad = || unusable(&format!("{name} is no address"));
        let url = Url::parse(address).map_err(|_| bad())?;
        http.check(&url)?;
        // An https issuer has no plain endpoints, not even on this machine.
        let plain = url.scheme() == "http" && !provider.issuer.is_loopback();
        let odd =
            !url.username().is_empty() || url.password().is_some() || url.fragment().is_some();
        if plain || odd {
            return Err(bad());
        }
        Ok(Some(url))
    };
    let required =
        |name: &str| endpoint(name)?.ok_or_else(|| unusable(&format!("{name} is missing")));
    Ok(Metadata {
        authorization_endpoint: required("authorization_endpoint")?,
        token_endpoint: required("token_endpoint")?,
        jwks_uri: Some(required("jwks_uri")?),
        userinfo_endpoint: endpoint("userinfo_endpoint")?,
        answers_carry_iss: document
            .get("authorization_response_iss_parameter_supported")
            .and_then(Value::as_bool)
            .unwrap_or(false),
        token_auth: token_auth(&document),
    })
}

/// Basic is the default, and what every server must know (RFC 6749 §2.3.1).
fn token_auth(document: &Map<String, Value>) -> TokenAuth {
    let methods = document
        .get("token_endpoint_auth_methods_supported")
        .and_then(Value::as_array);
    let offers = |name: &str| methods.is_some_and(|all| all.iter().any(|method| method == name));
    if offers("client_secret_post") && !offers("client_secret_basic") {
        TokenAuth::ClientSecretPost
    } else {
        TokenAuth::ClientSecretBasic
    }
}
