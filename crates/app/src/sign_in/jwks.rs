//! An issuer's public keys (RFC 7517), remembered for a while and asked for again when a token
//! names one that is not known: once, and at most once a minute (AC-038).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jsonwebtoken::{Algorithm, DecodingKey};
use keywright_domain::id_token::IdTokenProblem;
use serde_json::Value;
use tokio::sync::Mutex;
use url::Url;

use super::error::SignInError;
use crate::http::{Answer, HttpClient};

const FRESH_FOR: Duration = Duration::from_secs(600);
const REFETCH_PAUSE: Duration = Duration::from_secs(60);
const MOST_KEYS: usize = 100;

/// A key that may sign ID tokens.
#[derive(Clone)]
pub(crate) struct VerificationKey {
    key_id: Option<String>,
    decoding: DecodingKey,
    algorithms: Vec<Algorithm>,
}

impl VerificationKey {
    /// What this key may be used with; nothing a token says adds to it.
    pub(crate) fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    pub(crate) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    /// Reads a JWK; `None` for what signs no ID token: secrets, encryption keys, unknown types.
    fn from_jwk(jwk: &Value) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|usage| usage != "sig") || jwk.get("d").is_some() {
            return None;
        }
        let (decoding, possible) = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let key = DecodingKey::from_rsa_components(text("n")?, text("e")?).ok()?;
                (key, vec![Algorithm::RS256, Algorithm::PS256])
            }
            ("EC", Some("P-256")) => {
                let key = DecodingKey::from_ec_components(text("x")?, text("y")?).ok()?;
                (key, vec![Algorithm::ES256])
            }
            ("OKP", Some("Ed25519")) => {
                let key = DecodingKey::from_ed_components(text("x")?).ok()?;
                (key, vec![Algorithm::EdDSA])
            }
            _ => return None,
        };
        let algorithms = match text("alg") {
            None => possible,
            Some(alg) => possible
                .into_iter()
                .filter(|one| format!("{one:?}") == alg)
                .collect(),
        };
        let key_id = text("kid").map(str::to_owned);
        Some(Self {
            key_id,
            decoding,
            algorithms,
        })
        .filter(|key| !key.algorithms.is_empty())
    }
}

/// The keys of one document.
pub(crate) fn read_keys(document: &[u8]) -> Option<Vec<VerificationKey>> {
    let document: Value = serde_json::from_slice(document).ok()?;
    let keys = document.get("keys")?.as_array()?;
    Some(
        keys.iter()
            .take(MOST_KEYS)
            .filter_map(VerificationKey::from_jwk)
            .collect(),
    )
}

/// The one key a token can mean, where there is one.
pub(crate) fn choose_key<'a>(
    keys: &'a [VerificationKey],
    key_id: Option<&str>,
    algorithm: Algorithm,
) -> Result<&'a VerificationKey, IdTokenProblem> {
    match key_id {
        Some(_) => {
            let mut named = keys
                .iter()
                .filter(|key| key.key_id.as_deref() == key_id)
                .peekable();
            let first = named.peek().copied().ok_or(IdTokenProblem::UnknownKey)?;
            Ok(named
                .find(|key| key.algorithms.contains(&algorithm))
                .unwrap_or(first))
        }
        None => {
            let mut fitting = keys
                .iter()
                .filter(|key| key.algorithms.contains(&algorithm));
            match (fitting.next(), fitting.next()) {
                (Some(only), None) => Ok(only),
                _ => Err(IdTokenProblem::UnknownKey),
            }
        }
    }
}

/// Keys by address of their document.
#[derive(Default)]
pub(crate) struct KeyCache {
    documents: Mutex<HashMap<String, Document>>,
}

struct Document {
    keys: Vec<VerificationKey>,
    fetched: Instant,
    /// When an unknown key id last made us ask again.
    asked_again: Option<Instant>,
}

impl KeyCache {
    /// The key a token was signed with.
    pub(crate) async fn find(
        &self,
        http: &HttpClient,
        url: &Url,
        key_id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<VerificationKey, SignInError> {
        let mut documents = self.documents.lock().await;
        let now = Instant::now();
        let known = documents.get(url.as_str());
        if known.is_none_or(|document| now.duration_since(document.fetched) > FRESH_FOR) {
            let asked_again = known.and_then(|document| document.asked_again);
            let document = Document {
                keys: fetch(http, url).await?,
                fetched: now,
                asked_again,
            };
            documents.insert(url.to_string(), document);
        }
        let Some(document) = documents.get_mut(url.as_str()) else {
            return Err(IdTokenProblem::UnknownKey.into());
        };
        let chosen = choose_key(&document.keys, key_id, algorithm);
        let rested = document
            .asked_again
            .is_none_or(|last| now.duration_since(last) >= REFETCH_PAUSE);
        if !matches!(chosen, Err(IdTokenProblem::UnknownKey)) || !rested {
            return Ok(chosen?.clone());
        }
        document.asked_again = Some(now);
        document.keys = fetch(http, url).await?;
        document.fetched = now;
        Ok(choose_key(&document.keys, key_id, algorithm)?.clone())
    }
}

async fn fetch(http: &HttpClient, url: &Url) -> Result<Vec<VerificationKey>, SignInError> {
    let answer = http.get(url, None).await?;
    let unusable = |answer: &Answer| SignInError::DiscoveryFailed {
        issuer: url.origin().ascii_serialization(),
        detail: format!("its keys are {}", answer.describe()),
    };
    match answer.status {
        200 => read_keys(&answer.body).ok_or_else(|| unusable(&answer)),
        status @ (429 | 500..=599) => Err(SignInError::ProviderUnavailable(status)),
        _ => Err(unusable(&answer)),
    }
}
