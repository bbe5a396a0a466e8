//! A provider's metadata (OpenID Connect Discovery, RFC 8414): where its endpoints are. The issuer must
//! be, byte for byte, the one that was asked. Remembered for ten minutes, of a hundred issuers at most.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use keywright_jose::{MetadataProblem, ProviderMetadata};
use url::Url;

use super::failure::{Failure, tame};
use super::outbound::Outbound;
use super::presets::{FACEBOOK, Kind, Provider, TokenAuth};

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
        match provider.kind {
            Kind::GitHub => return github(provider),
            Kind::Facebook => return facebook(provider),
            _ => {}
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
    Ok(Metadata {
        authorization_endpoint: address(format!("{base}/login/oauth/authorize"))?,
        token_endpoint: address(format!("{base}/login/oauth/access_token"))?,
        jwks_uri: None,
        userinfo_endpoint: Some(address(api)?),
        answers_carry_iss: false,
        token_auth: TokenAuth::ClientSecretPost,
    })
}

/// Facebook speaks OpenID Connect, and publishes metadata in which the token endpoint is missing: its addresses
/// are documented and fixed. Those without a version stand for the oldest that the application may use.
fn facebook(provider: &Provider) -> Result<Metadata, Failure> {
    let base = provider.issuer.as_str();
    let api = if base == FACEBOOK {
        "https://graph.facebook.com"
    } else {
        base
    };
    Ok(Metadata {
        authorization_endpoint: address(format!("{base}/dialog/oauth"))?,
        token_endpoint: address(format!("{api}/oauth/access_token"))?,
        jwks_uri: Some(address(format!("{base}/.well-known/oauth/openid/jwks/"))?),
        userinfo_endpoint: None,
        answers_carry_iss: false,
        token_auth: TokenAuth::ClientSecretPost,
    })
}

fn address(text: String) -> Result<Url, Failure> {
    Url::parse(&text).map_err(|_| Failure::provider("idp_metadata_unusable", "no address"))
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
    let read = ProviderMetadata::read(&answer.body, &provider.issuer, &provider.rule, |url| {
        http.check(url)
    });
    let metadata = read.map_err(|problem| match problem {
        MetadataProblem::NoObject => unusable("no JSON object"),
        MetadataProblem::Issuer(got) => {
            let detail = format!("{} says it is {}", provider.issuer, tame(&got, 120));
            Failure::provider("idp_issuer_mismatch", detail)
        }
        MetadataProblem::Missing(name) => unusable(&format!("{name} is missing")),
        MetadataProblem::Unusable(name) => unusable(&format!("{name} is no address")),
        // An https issuer has no plain endpoints, not even on this machine.
        MetadataProblem::Plain(_) => unusable("an endpoint does not use https"),
        MetadataProblem::Refused(error) => error.into(),
    })?;
    Ok(Metadata {
        authorization_endpoint: metadata.authorization_endpoint,
        token_endpoint: metadata.token_endpoint,
        jwks_uri: Some(metadata.jwks_uri),
        userinfo_endpoint: metadata.userinfo_endpoint,
        answers_carry_iss: metadata.answers_carry_iss,
        token_auth: if metadata.secret_in_body {
            TokenAuth::ClientSecretPost
        } else {
            TokenAuth::ClientSecretBasic
        },
    })
}
