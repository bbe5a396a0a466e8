//! API keys of a Keywright server: each is asked about there, and what was accepted is remembered for a
//! few seconds, as long as the server's stream of changes is heard. What the stream names is forgotten.
//! If it falls silent, nothing that is remembered counts; if the server cannot be asked either, nobody
//! is let through.

mod follow;
mod gate;
mod in_url;
mod memory;
mod refused;
mod request;
mod sse;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use url::Url;

pub use self::gate::{ClientAddress, KeyGate, KeyGated};
use self::memory::Memory;
pub use self::request::{KeyError, KeyLimit, KeyRequest, VerifiedKey};
use crate::clock::Clock;
use crate::error::SetupError;
use crate::fetch::Fetch;
use crate::issuer::Issuer;

/// Longest that an answer may be remembered, and that the stream may be silent.
const LONGEST: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(1500);
const ENTRIES: usize = 10_000;
/// Questions at the same time.
const MOST_QUESTIONS: usize = 64;
/// Requests with keys in their addresses that the server is told of at the same time.
const MOST_TOLD: usize = 8;
/// A question and the wait for its turn.
const OVERALL_LIMIT: Duration = Duration::from_secs(10);
/// No key is longer; foreign ones have room.
const LONGEST_KEY: usize = 512;

/// What is remembered, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct KeyMemory {
    /// So many accepted answers; none: every key is asked about.
    pub entries: usize,
    /// Each for so long: five seconds at most, and never past the end of the key.
    pub remembered_for: Duration,
    /// The stream of changes may be silent for so long: five seconds at most. After it nothing that is
    /// remembered counts. The server says something every 300 ms.
    pub silence: Duration,
}

impl Default for KeyMemory {
    fn default() -> Self {
        Self {
            entries: ENTRIES,
            remembered_for: LONGEST,
            silence: SILENCE,
        }
    }
}

/// What the server is told of a key in an address.
#[derive(serde::Serialize)]
struct InUrl<'a> {
    key: &'a str,
    in_url: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
}

struct Shared {
    verify_url: Url,
    events_url: Url,
    fetch: Fetch,
    credential: String,
    clock: Clock,
    remembered_for: Duration,
    silence: Duration,
    memory: Mutex<Memory>,
    questions: Semaphore,
    telling: Arc<Semaphore>,
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Verifies API keys at a Keywright server. Cheap to clone; clones share what they remember and one
/// stream of changes, which ends with the last of them.
#[derive(Clone)]
pub struct ApiKeys {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKeys")
            .field(
                "server",
                &self.shared.verify_url.origin().ascii_serialization(),
            )
            .finish_non_exhaustive()
    }
}

impl ApiKeys {
    /// Keys of the server at this address (its issuer). `credential` is this service's own root key or
    /// access token with the scope `keys:verify`. Call it inside a tokio runtime: the stream of changes
    /// is followed in a task of its own.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(server: &str, credential: &str) -> Result<Self, SetupError> {
        Self::with_memory(server, credential, KeyMemory::default())
    }

    /// As [`ApiKeys::new`], with another memory.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn with_memory(
        server: &str,
        credential: &str,
        memory: KeyMemory,
    ) -> Result<Self, SetupError> {
        let keys = Self::silent(server, credential, memory, Clock::new())?;
        if memory.entries > 0 && !memory.remembered_for.is_zero() {
            follow::start(&keys.shared);
        }
        Ok(keys)
    }

    /// Without the stream of changes.
    fn silent(
        server: &str,
        credential: &str,
        memory: KeyMemory,
        clock: Clock,
    ) -> Result<Self, SetupError> {
        let is_plain = |byte: u8| (0x21..=0x7e).contains(&byte);
        if credential.is_empty() || !credential.bytes().all(is_plain) {
            return Err(SetupError::Credential);
        }
        let server = Issuer::parse(server)?;
        let base = server.as_str().trim_end_matches('/');
        let url = |path: &str| {
            Url::parse(&format!("{base}/api/v1/{path}")).map_err(|_| SetupError::Issuer)
        };
        let shared = Shared {
            verify_url: url("keys/verify")?,
            events_url: url("events")?,
            fetch: Fetch::new(&server)?,
            credential: credential.to_owned(),
            clock,
            remembered_for: memory.remembered_for.min(LONGEST),
            silence: memory.silence.min(LONGEST),
            memory: Mutex::new(Memory::new(memory.entries)),
            questions: Semaphore::new(MOST_QUESTIONS),
            telling: Arc::new(Semaphore::new(MOST_TOLD)),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Verifies a key.
    ///
    /// # Errors
    /// [`KeyError`]: why it is refused, or that the server cannot be asked.
    pub async fn verify(&self, asked: &KeyRequest<'_>) -> Result<Arc<VerifiedKey>, KeyError> {
        let shared = &*self.shared;
        let is_plain = |byte: u8| (0x21..=0x7e).contains(&byte);
        if asked.key.is_empty() || asked.key.len() > LONGEST_KEY || !asked.key.bytes().all(is_plain)
        {
            return Err(KeyError::Refused("key_malformed".to_owned()));
        }
        let name = asked.digest();
        let now = shared.clock.elapsed();
        let place = {
            let mut memory = shared.memory();
            if let Some(key) = memory.get(&name, now, shared.silence) {
                return Ok(key);
            }
            memory.begin(now, shared.silence)
        };
        let asking = tokio::time::timeout(OVERALL_LIMIT, shared.ask(asked)).await;
        let document = match asking.unwrap_or(Err("it did not answer in time")) {
            Ok(document) => document,
            Err(reason) => {
                tracing::warn!(reason, "the server cannot be asked about keys");
                return Err(KeyError::Unavailable);
            }
        };
        let answer = request::read(&document, shared.clock.unix_ms())?;
        if let (Some(place), false) = (place, answer.every_use_counts) {
            let left = left(&answer.key, shared.clock.unix_ms());
            let until = now + shared.remembered_for.min(left);
            let key = Arc::clone(&answer.key);
            shared.memory().fill(name, key, until, place, answer.as_of);
        }
        Ok(answer.key)
    }

    /// Tells the server of a key that was in the address of a request, where logs and histories see it: it is flagged
    /// there, and its owner is told. What stands around the key may stand beside it. A server that is older than
    /// this refuses to hear it.
    ///
    /// # Errors
    /// [`KeyError::Unavailable`]: it was not told.
    pub async fn tell_of_key_in_url(
        &self,
        text: &str,
        address: Option<IpAddr>,
    ) -> Result<(), KeyError> {
        let told = InUrl {
            key: text,
            in_url: true,
            address,
        };
        let telling = tokio::time::timeout(OVERALL_LIMIT, self.shared.ask(&told)).await;
        match telling.unwrap_or(Err("it did not answer in time")) {
            Ok(_) => Ok(()),
            Err(reason) => {
                tracing::warn!(reason, "the server was not told of a key in an address");
                Err(KeyError::Unavailable)
            }
        }
    }

    /// The same behind the answer to whoever sent it, for all of these texts. Where many are told of already, the
    /// rest is not: anybody can write keys into addresses.
    fn tell_later(&self, texts: Vec<String>, address: Option<IpAddr>) {
        if texts.is_empty() {
            return;
        }
        let Ok(turn) = Arc::clone(&self.shared.telling).try_acquire_owned() else {
            tracing::warn!("the server was not told of a key in an address: too many at once");
            return;
        };
        let keys = self.clone();
        tokio::spawn(async move {
            for text in &texts {
                let _ = keys.tell_of_key_in_url(text, address).await;
            }
            drop(turn);
        });
    }

    /// Whether the stream of changes is heard, so that what is remembered counts. For health pages.
    #[must_use]
    pub fn is_following(&self) -> bool {
        let now = self.shared.clock.elapsed();
        self.shared.memory().is_live(now, self.shared.silence)
    }

    /// How many answers are kept.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.shared.memory().len()
    }
}

/// How long a key and its secret work after a moment (Unix ms), to the millisecond: nothing is remembered past that.
fn left(key: &VerifiedKey, now: i64) -> Duration {
    let ends = [key.expires_at, key.retires_at];
    let left = ends
        .into_iter()
        .flatten()
        .min()
        .map_or(i64::MAX, |at| at.saturating_sub(now));
    Duration::from_millis(u64::try_from(left).unwrap_or(0))
}

impl Shared {
    async fn ask(
        &self,
        asked: &impl serde::Serialize,
    ) -> Result<serde_json::Map<String, serde_json::Value>, crate::fetch::NoAnswer> {
        let _turn = self.questions.acquire().await.map_err(|_| "it is closed")?;
        let question = self
            .fetch
            .post_json(&self.verify_url, &self.credential, asked);
        question.await
    }
}
