//! Asks the issuer about each token (RFC 7662), and remembers its answers for a few seconds. If it
//! cannot be asked, nobody is let through.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::cache::Cache;
use crate::claims::{Claims, Expected};
use crate::clock::Clock;
use crate::error::{SetupError, TokenError};
use crate::fetch::{Fetch, NoAnswer};
use crate::issuer::Issuer;
use crate::jws::LONGEST;
use crate::metadata::Discovery;

/// What an answer about a good token must have for us to use it.
const REQUIRED: &[&str] = &["iss", "exp", "aud", "sub", "client_id"];
const REMEMBERED_FOR: Duration = Duration::from_secs(5);
const MOST_REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// A refusal is remembered shortly: the same token may be meant to become good.
const REFUSAL_FOR: Duration = Duration::from_secs(2);
const ENTRIES: usize = 10_000;
/// Questions at the same time.
const MOST_QUESTIONS: usize = 64;
/// A question and the wait for its turn.
const OVERALL_LIMIT: Duration = Duration::from_secs(10);

/// Who asks: a confidential client of the issuer.
struct Credentials {
    id: String,
    secret: String,
}

struct Answers {
    good: Cache<Arc<Claims>>,
    /// By themselves, so that a flood of nonsense drops no good answer.
    refused: Cache<TokenError>,
}

struct Shared {
    discovery: Discovery,
    clock: Clock,
    audience: String,
    credentials: Credentials,
    remembered_for: Duration,
    answers: Mutex<Answers>,
    questions: Semaphore,
}

/// Asks the issuer about tokens. Cheap to clone; clones share what they remember.
#[derive(Clone)]
pub struct Online {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Online {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Online")
            .field("issuer", &self.shared.discovery.issuer.as_str())
            .field("audience", &self.shared.audience)
            .finish_non_exhaustive()
    }
}

impl Online {
    /// Tokens of this issuer for this service, which is the client `client_id` there. At a Keywright
    /// server that client needs the scope `tokens:introspect`; without it, every token of others is
    /// called inactive.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(
        issuer: &str,
        audience: &str,
        client_id: &str,
        client_secret: &str,
    ) -> Result<Self, SetupError> {
        let memory = (ENTRIES, REMEMBERED_FOR);
        Self::with(
            issuer,
            audience,
            (client_id, client_secret),
            memory,
            Clock::new(),
        )
    }

    /// As [`Online::new`], with room for so many answers, each remembered for this long: a minute at
    /// most, and never past the token's end. With no room or no time the issuer is asked every time.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn with_memory(
        issuer: &str,
        audience: &str,
        client_id: &str,
        client_secret: &str,
        entries: usize,
        remembered_for: Duration,
    ) -> Result<Self, SetupError> {
        let memory = (entries, remembered_for);
        Self::with(
            issuer,
            audience,
            (client_id, client_secret),
            memory,
            Clock::new(),
        )
    }

    pub(crate) fn with(
        issuer: &str,
        audience: &str,
        (id, secret): (&str, &str),
        (entries, remembered_for): (usize, Duration),
        clock: Clock,
    ) -> Result<Self, SetupError> {
        if audience.is_empty() {
            return Err(SetupError::Audience);
        }
        let issuer = Issuer::parse(issuer)?;
        let fetch = Fetch::new(&issuer)?;
        let shared = Shared {
            discovery: Discovery::new(issuer, fetch),
            clock,
            audience: audience.to_owned(),
            credentials: Credentials {
                id: id.to_owned(),
                secret: secret.to_owned(),
            },
            remembered_for: remembered_for.min(MOST_REMEMBERED_FOR),
            answers: Mutex::new(Answers {
                good: Cache::new(entries),
                refused: Cache::new(entries),
            }),
            questions: Semaphore::new(MOST_QUESTIONS),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Checks a token.
    ///
    /// # Errors
    /// [`TokenError`]: what is wrong, or that the issuer cannot be asked.
    pub async fn check(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        let shared = &*self.shared;
        // Nothing is asked about what can be no token at all.
        if token.is_empty() || token.len() > LONGEST || !token.bytes().all(is_token_byte) {
            return Err(TokenError::Malformed);
        }
        let key: [u8; 32] = Sha256::digest(token).into();
        if let Some(remembered) = shared.remembered(&key) {
            return remembered;
        }
        let answer = tokio::time::timeout(OVERALL_LIMIT, shared.ask(token)).await;
        let answer = answer.unwrap_or(Err("it did not answer in time"));
        let checked = match answer {
            Ok(document) => shared.read(document).map(Arc::new),
            Err(reason) => {
                shared.discovery.forget();
                let issuer = shared.discovery.issuer.as_str();
                tracing::warn!(issuer, reason, "the issuer cannot be asked about tokens");
                // Not remembered: it may be back at the next request.
                return Err(TokenError::Unavailable);
            }
        };
        shared.remember(key, &checked);
        checked
    }

    /// How many answers are kept: good ones and refusals.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> (usize, usize) {
        let answers = self.shared.answers();
        (answers.good.len(), answers.refused.len())
    }
}

impl Shared {
    fn answers(&self) -> std::sync::MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, key: &[u8; 32]) -> Option<Result<Arc<Claims>, TokenError>> {
        let now = self.clock.elapsed();
        let now_s = self.clock.unix_s();
        let mut answers = self.answers();
        if let Some(claims) = answers.good.get(key, now) {
            // The time of day may have been set: then the issuer says what it is.
            return (now_s < claims.exp).then_some(Ok(claims));
        }
        answers.refused.get(key, now).map(Err)
    }

    fn remember(&self, key: [u8; 32], checked: &Result<Arc<Claims>, TokenError>) {
        let now = self.clock.elapsed();
        match checked {
            Ok(claims) => {
                let left = claims.exp.saturating_sub(self.clock.unix_s());
                let left = Duration::from_secs(u64::try_from(left).unwrap_or(0));
                let until = now + self.remembered_for.min(left);
                self.answers().good.put(key, Arc::clone(claims), until);
            }
            Err(problem) => {
                let until = now + self.remembered_for.min(REFUSAL_FOR);
                self.answers().refused.put(key, *problem, until);
            }
        }
    }

    async fn ask(&self, token: &str) -> Result<Map<String, Value>, NoAnswer> {
        let _turn = self.questions.acquire().await.map_err(|_| "it is closed")?;
        let metadata = self.discovery.find().await?;
        let url = metadata
            .introspection_endpoint
            .as_ref()
            .ok_or("its metadata name no usable introspection_endpoint")?;
        let form = [("token", token), ("token_type_hint", "access_token")];
        let Credentials { id, secret } = &self.credentials;
        self.discovery.fetch.post_form(url, id, secret, &form).await
    }

    fn read(&self, document: Map<String, Value>) -> Result<Claims, TokenError> {
        if document.get("active") != Some(&Value::Bool(true)) {
            return Err(TokenError::Revoked);
        }
        // An answer about a refresh token or an ID token is no answer about an access token.
        let kind = document.get("token_type").and_then(Value::as_str);
        if kind.is_some_and(|kind| !["bearer", "dpop"].contains(&&*kind.to_ascii_lowercase())) {
            return Err(TokenError::WrongUse);
        }
        let expected = Expected {
            issuer: self.discovery.issuer.as_str(),
            audience: &self.audience,
            // The issuer's clock counts: it has just said that the token is good.
            leeway_s: 30,
            required: REQUIRED,
        };
        Claims::check(document, &expected, self.clock.unix_s())
    }
}

/// `b64token` (RFC 6750 §2.1).
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}
