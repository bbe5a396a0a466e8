//! The issuer's public keys (RFC 7517). They are fetched once and remembered; a token that names an
//! unknown key has them fetched again, at most every 30 seconds, and everybody who waits shares that
//! one fetch. While the issuer is down the old keys serve on, for a bounded time.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::Algorithm;
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::error::TokenError;
use crate::fetch::NoAnswer;
use crate::jwk::{VerificationKey, choose, read_keys};
use crate::metadata::Discovery;

/// Keys this old are fetched again, so that withdrawn ones disappear.
const FRESH_FOR: Duration = Duration::from_secs(600);
/// Between two fetches.
const PAUSE: Duration = Duration::from_secs(30);
/// After a fetch that failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(5);

#[derive(Clone, Default)]
struct Known {
    keys: Arc<Vec<VerificationKey>>,
    /// When these keys came.
    fetched: Option<Duration>,
    /// When the last fetch ended, and whether it brought keys.
    tried: Option<(Duration, bool)>,
}

/// The keys of one issuer.
pub(crate) struct IssuerKeys {
    discovery: Discovery,
    clock: Clock,
    /// How long keys serve while they cannot be fetched again.
    outage: Duration,
    known: RwLock<Known>,
    /// Held by the one fetch that everybody waits for.
    fetching: Arc<Mutex<()>>,
}

impl IssuerKeys {
    /// No keys yet.
    pub(crate) fn new(discovery: Discovery, clock: Clock, outage: Duration) -> Self {
        Self {
            discovery,
            clock,
            outage,
            known: RwLock::default(),
            fetching: Arc::default(),
        }
    }

    /// The issuer, byte for byte.
    pub(crate) fn issuer(&self) -> &str {
        self.discovery.issuer.as_str()
    }

    /// The key that a token was signed with.
    pub(crate) async fn find(
        self: &Arc<Self>,
        key_id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<VerificationKey, TokenError> {
        let known = self.known();
        let chosen = choose(&known.keys, key_id, algorithm).filter(|_| self.are_usable(&known));
        match chosen {
            Some(key) if self.are_fresh(&known) => return Ok(key),
            // Somebody is fetching already: the old key is good enough meanwhile.
            Some(key) if self.fetching.try_lock().is_err() => return Ok(key),
            _ => {}
        }
        if self.may_fetch(&known) {
            // A task of its own: a caller that goes away must not undo the fetch of the others.
            let keys = Arc::clone(self);
            if tokio::spawn(async move { keys.fetch_once().await })
                .await
                .is_err()
            {
                return Err(TokenError::Unavailable);
            }
        }
        let known = self.known();
        if !self.are_usable(&known) {
            return Err(TokenError::Unavailable);
        }
        match choose(&known.keys, key_id, algorithm) {
            Some(key) => Ok(key),
            // Nobody can say whether the issuer has this key.
            None if known.tried.is_some_and(|(_, brought)| !brought) => {
                Err(TokenError::Unavailable)
            }
            None => Err(TokenError::UnknownKey),
        }
    }

    async fn fetch_once(&self) {
        let _fetching = Arc::clone(&self.fetching).lock_owned().await;
        // Whoever had the lock before may have fetched.
        if !self.may_fetch(&self.known()) {
            return;
        }
        let fetched = self.fetch().await;
        let now = self.clock.elapsed();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match fetched {
            Ok(keys) => {
                *known = Known {
                    keys: Arc::new(keys),
                    fetched: Some(now),
                    tried: Some((now, true)),
                };
            }
            Err(reason) => {
                known.tried = Some((now, false));
                drop(known);
                self.discovery.forget();
                tracing::warn!(
                    issuer = self.issuer(),
                    reason,
                    "the keys of the issuer cannot be fetched"
                );
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<VerificationKey>, NoAnswer> {
        let metadata = self.discovery.find().await?;
        let url = metadata
            .jwks_uri
            .as_ref()
            .ok_or("its metadata name no usable jwks_uri")?;
        let document = self.discovery.fetch.get(url).await?;
        read_keys(&document).ok_or("its keys are no JWK set")
    }

    fn known(&self) -> Known {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    fn age(&self, since: Duration) -> Duration {
        self.clock.elapsed().saturating_sub(since)
    }

    fn are_fresh(&self, known: &Known) -> bool {
        known.fetched.is_some_and(|at| self.age(at) < FRESH_FOR)
    }

    fn are_usable(&self, known: &Known) -> bool {
        let longest = FRESH_FOR.max(self.outage);
        known.fetched.is_some_and(|at| self.age(at) < longest)
    }

    fn may_fetch(&self, known: &Known) -> bool {
        known.tried.is_none_or(|(at, brought)| {
            let pause = if brought { PAUSE } else { PAUSE_AFTER_FAILURE };
            self.age(at) >= pause
        })
    }
}
