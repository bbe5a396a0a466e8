//! An issuer's metadata (OpenID Connect Discovery, RFC 8414): where its endpoints are.
//! Unknown members and values are ignored; the issuer must be the one that was asked.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use url::Url;

use super::error::{SignInError, tame};
use super::presets::{Kind, Provider};
use crate::http::{HttpClient, HttpError, check_endpoint};

const FRESH_FOR: Duration = Duration::from_secs(600);

/// Where an issuer's endpoints are.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    pub(crate) authorization_endpoint: Url,
    pub(crate) token_endpoint: Url,
    /// Where OpenID Connect is spoken.
    pub(crate) jwks_uri: Option<Url>,
    pub(crate) userinfo_endpoint: Option<Url>,
    pub(crate) revocation_endpoint: Option<Url>,
    /// RFC 9207: every answer carries `iss`.
    pub(crate) answers_carry_iss: bool,
    /// How a client secret is sent, where there is one: in the body or by HTTP Basic.
    pub(crate) secret_in_body: bool,
    /// From the last `Date` seen.
    pub(crate) clock_offset_ms: Option<i64>,
}

/// Metadata by issuer, remembered for ten minutes.
#[derive(Debug, Default)]
pub(crate) struct MetadataCache {
    known: Mutex<HashMap<String, (Instant, Metadata)>>,
}

impl MetadataCache {
    /// The metadata of a provider, fetched where it is not known or too old.
    pub(crate) async fn find(
        &self,
        http: &HttpClient,
        provider: &Provider,
    ) -> Result<Metadata, SignInError> {
        if provider.preset.kind == Kind::GitHub {
            return super::github::metadata();
        }
        let issuer = provider.issuer.as_str();
        if let Some(known) = self.remembered(issuer) {
            return Ok(known);
        }
        let metadata = fetch(http, provider).await?;
        if let Ok(mut known) = self.known.lock() {
            known.insert(issuer.to_owned(), (Instant::now(), metadata.clone()));
        }
        Ok(metadata)
    }

    fn remembered(&self, issuer: &str) -> Option<Metadata> {
        let known = self.known.lock().ok()?;
        let (when, metadata) = known.get(issuer)?;
        (when.elapsed() < FRESH_FOR).then(|| metadata.clone())
    }
}

async fn fetch(http: &HttpClient, provider: &Provider) -> Result<Metadata, SignInError> {
    let failed = |detail: String| SignInError::DiscoveryFailed {
        issuer: provider.issuer.to_string(),
        detail,
    };
    let url = Url::parse(&provider.issuer.discovery_url())
        .map_err(|_| failed("its address is unusable".to_owned()))?;
    let answer = http.get(&url, None).await?;
    match answer.status {
        200 => {}
        status @ (429 | 500..=599) => return Err(SignInError::ProviderUnavailable(status)),
        status => return Err(failed(format!("it answered with status {status}"))),
    }
    let Ok(Value::Object(document)) = serde_json::from_slice::<Value>(&answer.body) else {
        return Err(failed(format!("it answered with {}", answer.describe())));
    };
    let mut metadata = read(provider, &document)?;
    metadata.clock_offset_ms = answer.clock_offset_ms;
    Ok(metadata)
}

fn read(provider: &Provider, document: &Map<String, Value>) -> Result<Metadata, SignInError> {
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    let got = text("issuer").unwrap_or("");
    if !provider.rule.accepts_metadata(got) {
        return Err(SignInError::DiscoveryIssuerMismatch {
            expected: provider.issuer.to_string(),
            got: tame(got, 120),
        });
    }
    let endpoint = |name: &'static str| match text(name) {
        None => Ok(None),
        Some(address) => read_endpoint(provider, address).map(Some),
    };
    let required = |name: &'static str| {
        endpoint(name)?.ok_or_else(|| SignInError::DiscoveryFailed {
            issuer: provider.issuer.to_string(),
            detail: format!("it names no {name}"),
        })
    };
    Ok(Metadata {
        authorization_endpoint: required("authorization_endpoint")?,
        token_endpoint: required("token_endpoint")?,
        jwks_uri: Some(required("jwks_uri")?),
        userinfo_endpoint: endpoint("userinfo_endpoint")?,
        revocation_endpoint: endpoint("revocation_endpoint")?,
        answers_carry_iss: document
            .get("authorization_response_iss_parameter_supported")
            .and_then(Value::as_bool)
            .unwrap_or(false),
        secret_in_body: only_in_body(document),
        clock_offset_ms: None,
    })
}

/// Basic is the default and what every server must know (RFC 6749 §2.3.1).
fn only_in_body(document: &Map<String, Value>) -> bool {
    let methods = document
        .get("token_endpoint_auth_methods_supported")
        .and_then(Value::as_array);
    let offers =
        |name: &str| methods.is_some_and(|methods| methods.iter().any(|method| method == name));
    offers("client_secret_post") && !offers("client_secret_basic")
}

/// https; plain http only where the issuer itself is on this machine.
fn read_endpoint(provider: &Provider, address: &str) -> Result<Url, SignInError> {
    let unusable = || SignInError::DiscoveryFailed {
        issuer: provider.issuer.to_string(),
        detail: "one of its endpoints is no address".to_owned(),
    };
    let url = Url::parse(address).map_err(|_| unusable())?;
    check_endpoint(&url)?;
    if url.scheme() == "http" && !provider.issuer.is_loopback() {
        return Err(HttpError::InsecureEndpoint(url.origin().ascii_serialization()).into());
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(unusable());
    }
    Ok(url)
}
