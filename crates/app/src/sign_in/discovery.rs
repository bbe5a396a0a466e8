//! An issuer's metadata (OpenID Connect Discovery, RFC 8414): where its endpoints are.
//! Unknown members and values are ignored; the issuer must be the one that was asked.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use keywright_jose::{MetadataProblem, ProviderMetadata};
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
    let read = ProviderMetadata::read(
        &answer.body,
        &provider.issuer,
        &provider.rule,
        check_endpoint,
    );
    let metadata = read.map_err(|problem| match problem {
        MetadataProblem::NoObject => failed(format!("it answered with {}", answer.describe())),
        MetadataProblem::Issuer(got) => SignInError::DiscoveryIssuerMismatch {
            expected: provider.issuer.to_string(),
            got: tame(&got, 120),
        },
        MetadataProblem::Missing(name) => failed(format!("it names no {name}")),
        MetadataProblem::Unusable(_) => failed("one of its endpoints is no address".to_owned()),
        MetadataProblem::Plain(url) => {
            HttpError::InsecureEndpoint(url.origin().ascii_serialization()).into()
        }
        MetadataProblem::Refused(error) => error.into(),
    })?;
    Ok(Metadata {
        authorization_endpoint: metadata.authorization_endpoint,
        token_endpoint: metadata.token_endpoint,
        jwks_uri: Some(metadata.jwks_uri),
        userinfo_endpoint: metadata.userinfo_endpoint,
        revocation_endpoint: metadata.revocation_endpoint,
        answers_carry_iss: metadata.answers_carry_iss,
        secret_in_body: metadata.secret_in_body,
        clock_offset_ms: answer.clock_offset_ms,
    })
}
