//! An issuer's public keys (RFC 7517), remembered for a while and asked for again when a token
//! names one that is not known: once, and at most once a minute (AC-038).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jsonwebtoken::Algorithm;
use keywright_domain::id_token::IdTokenProblem;
use keywright_jose::{VerificationKey, choose_key, read_keys};
use tokio::sync::Mutex;
use url::Url;

use super::error::SignInError;
use crate::http::{Answer, HttpClient};

const FRESH_FOR: Duration = Duration::from_secs(600);
const REFETCH_PAUSE: Duration = Duration::from_secs(60);

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
