//! A provider's public keys (RFC 7517), remembered for ten minutes and asked for again when a token
//! names one that is not known: once, and at most once a minute (S64).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jsonwebtoken::{Algorithm, DecodingKey};
use keywright_domain::id_token::IdTokenProblem;
use serde_json::Value;
use url::Url;

use super::failure::Failure;
use super::outbound::Outbound;

const FRESH_FOR_MS: i64 = 600_000;
const REFETCH_PAUSE_MS: i64 = 60_000;
const MOST_KEYS: usize = 100;
const MOST_DOCUMENTS: usize = 100;

/// A key that may sign ID tokens, and the algorithms it may be used with: nothing a token says adds to
/// them.
#[derive(Clone)]
pub(crate) struct VerificationKey {
    key_id: Option<String>,
    pub(super) decoding: DecodingKey,
    pub(super) algorithms: Vec<Algorithm>,
}

impl VerificationKey {
    /// None for what signs no ID token: secrets, private keys, encryption keys, unknown types.
    fn from_jwk(jwk: &Value) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|usage| usage != "sig") || jwk.get("d").is_some() {
            return None;
        }
        let (decoding, possible) = match (text("kty")?, text("crv")) {
            ("RSA", _) => (
                DecodingKey::from_rsa_components(text("n")?, text("e")?).ok()?,
                vec![Algorithm::RS256, Algorithm::PS256],
            ),
            ("EC", Some("P-256")) => (
                DecodingKey::from_ec_components(text("x")?, text("y")?).ok()?,
                vec![Algorithm::ES256],
            ),
            ("OKP", Some("Ed25519")) => (
                DecodingKey::from_ed_components(text("x")?).ok()?,
                vec![Algorithm::EdDSA],
            ),
            _ => return None,
        };
        let algorithms: Vec<_> = match text("alg") {
            None => possible,
            Some(alg) => possible
                .into_iter()
                .filter(|one| format!("{one:?}") == alg)
                .collect(),
        };
        (!algorithms.is_empty()).then(|| Self {
            key_id: text("kid").map(str::to_owned),
            decoding,
            algorithms,
        })
    }
}

fn read(document: &[u8]) -> Option<Vec<VerificationKey>> {
    let document: Value = serde_json::from_slice(document).ok()?;
    let keys = document.get("keys")?.as_array()?.iter().take(MOST_KEYS);
    Some(keys.filter_map(VerificationKey::from_jwk).collect())
}

/// The one key that a token can mean, where there is one.
fn choose(
    keys: &[VerificationKey],
    key_id: Option<&str>,
    algorithm: Algorithm,
) -> Option<VerificationKey> {
    let fits = |key: &&VerificationKey| key.algorithms.contains(&algorithm);
    if key_id.is_some() {
        let named: Vec<_> = keys
            .iter()
            .filter(|key| key.key_id.as_deref() == key_id)
            .collect();
        // One that does not fit is known all the same: the algorithm is what is wrong then.
        let fitting = named.iter().copied().find(|key| fits(key));
        return fitting.or(named.first().copied()).cloned();
    }
    let mut fitting = keys.iter().filter(fits);
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Some(only.clone()),
        _ => None,
    }
}

/// Keys by address of their document.
#[derive(Default)]
pub(crate) struct KeyCache(Mutex<HashMap<String, Document>>);

impl std::fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyCache")
    }
}

struct Document {
    keys: Vec<VerificationKey>,
    fetched: i64,
    /// When an unknown key id last made us ask again.
    asked_again: Option<i64>,
}

impl KeyCache {
    /// The key that a token was signed with.
    ///
    /// # Errors
    /// [`Failure`]; `unknown_key` where there is none.
    pub(crate) async fn find(
        &self,
        http: &Outbound,
        url: &Url,
        key_id: Option<&str>,
        algorithm: Algorithm,
        now: i64,
    ) -> Result<VerificationKey, Failure> {
        let unknown = || Failure::from(IdTokenProblem::UnknownKey);
        if !self.is_fresh(url, now) {
            let keys = fetch(http, url).await?;
            let chosen = choose(&keys, key_id, algorithm);
            self.keep(url, keys, now);
            return chosen.ok_or_else(unknown);
        }
        match self.look(url, key_id, algorithm, now) {
            Look::Found(key) => Ok(key),
            Look::Rests => Err(unknown()),
            Look::AskAgain => {
                let keys = fetch(http, url).await?;
                let chosen = choose(&keys, key_id, algorithm);
                self.keep(url, keys, now);
                chosen.ok_or_else(unknown)
            }
        }
    }

    fn is_fresh(&self, url: &Url, now: i64) -> bool {
        let documents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        documents.get(url.as_str()).is_some_and(|document| {
            (0..FRESH_FOR_MS).contains(&now.saturating_sub(document.fetched))
        })
    }

    fn look(&self, url: &Url, key_id: Option<&str>, algorithm: Algorithm, now: i64) -> Look {
        let mut documents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(document) = documents.get_mut(url.as_str()) else {
            return Look::AskAgain;
        };
        if let Some(key) = choose(&document.keys, key_id, algorithm) {
            return Look::Found(key);
        }
        let recent = |at: i64| (0..REFETCH_PAUSE_MS).contains(&now.saturating_sub(at));
        if document.asked_again.is_some_and(recent) {
            return Look::Rests;
        }
        // Before the answer: many tokens at once ask once.
        document.asked_again = Some(now);
        Look::AskAgain
    }

    fn keep(&self, url: &Url, keys: Vec<VerificationKey>, now: i64) {
        let mut documents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if documents.len() >= MOST_DOCUMENTS && !documents.contains_key(url.as_str()) {
            documents.clear();
        }
        let before = documents.get(url.as_str());
        let document = Document {
            keys,
            fetched: now,
            asked_again: before.and_then(|before| before.asked_again),
        };
        documents.insert(url.to_string(), document);
    }
}

enum Look {
    Found(VerificationKey),
    AskAgain,
    Rests,
}

async fn fetch(http: &Outbound, url: &Url) -> Result<Vec<VerificationKey>, Failure> {
    let answer = http.get(url, None).await?;
    let unusable = || Failure::provider("idp_keys_unusable", format!("status {}", answer.status));
    if answer.status != 200 {
        return Err(unusable());
    }
    read(&answer.body).ok_or_else(unusable)
}
