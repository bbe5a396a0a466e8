//! A provider's public keys (RFC 7517), remembered for ten minutes and asked for again when a token
//! names one that is not known: once, and at most once a minute (S64).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jsonwebtoken::Algorithm;
use keywright_domain::id_token::IdTokenProblem;
use keywright_jose::{VerificationKey, choose_key, read_keys};
use url::Url;

use super::failure::Failure;
use super::outbound::Outbound;

const FRESH_FOR_MS: i64 = 600_000;
const REFETCH_PAUSE_MS: i64 = 60_000;
const MOST_DOCUMENTS: usize = 100;

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
        if !self.is_fresh(url, now) {
            let keys = fetch(http, url).await?;
            let chosen = choose_key(&keys, key_id, algorithm).cloned();
            self.keep(url, keys, now);
            return Ok(chosen?);
        }
        match self.look(url, key_id, algorithm, now) {
            Look::Found(key) => Ok(key),
            Look::Rests => Err(IdTokenProblem::UnknownKey.into()),
            Look::AskAgain => {
                let keys = fetch(http, url).await?;
                let chosen = choose_key(&keys, key_id, algorithm).cloned();
                self.keep(url, keys, now);
                Ok(chosen?)
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
        if let Ok(key) = choose_key(&document.keys, key_id, algorithm) {
            return Look::Found(key.clone());
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
    read_keys(&answer.body).ok_or_else(unusable)
}
