//! What is asked about a key, and what the answer says.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// A key that somebody presented, and what it is needed for.
#[derive(Clone, Copy, Default, Serialize)]
pub struct KeyRequest<'a> {
    /// The whole key.
    pub key: &'a str,
    /// A scope, or scopes joined by `and`, `or` and parentheses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requirement: Option<&'a str>,
    /// The environment that the resource belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<&'a str>,
    /// Types that may do this; empty for all.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub key_types: &'a [&'a str],
    /// Where the request came from. Keys that are bound to networks need it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Its `Origin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<&'a str>,
    /// Its `User-Agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<&'a str>,
    /// Which part of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<&'a str>,
}

impl std::fmt::Debug for KeyRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRequest")
            .field("requirement", &self.requirement)
            .field("environment", &self.environment)
            .finish_non_exhaustive()
    }
}

impl KeyRequest<'_> {
    /// Names the question by everything that its answer depends on; the key itself is not kept.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        let mut part = |text: &str| {
            digest.update((text.len() as u64).to_be_bytes());
            digest.update(text);
        };
        part(self.key);
        let address = self.address.map(|address| address.to_string());
        for text in [
            self.requirement,
            self.environment,
            self.origin,
            address.as_deref(),
        ] {
            part(if text.is_some() { "1" } else { "0" });
            part(text.unwrap_or(""));
        }
        for kind in self.key_types {
            part(kind);
        }
        digest.finalize().into()
    }
}

/// A key that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedKey {
    /// The key's id.
    pub key_id: String,
    /// Public id of its secret, where it has our format.
    pub kid: Option<String>,
    /// Whose it is.
    pub owner: Option<String>,
    /// What it may do now; wildcards stand as they are.
    pub scopes: Vec<String>,
    /// Until when this secret works, when it is on its way out (Unix ms): tell the client.
    pub retires_at: Option<i64>,
    /// When it ends by itself (Unix ms).
    pub expires_at: Option<i64>,
    /// How its narrowest limit stands, where it has limits.
    pub limit: Option<KeyLimit>,
}

/// How a limit of a key stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLimit {
    /// Small letters, digits, `_` and `-`.
    pub name: String,
    /// Requests a period.
    pub count: u32,
    /// Milliseconds of a period.
    pub period_ms: u32,
    /// Requests beyond them that may come at once.
    pub burst: u32,
    /// Requests that may still come at once.
    pub left: u32,
    /// Milliseconds until it is whole again.
    pub reset_ms: u64,
}

impl KeyLimit {
    /// None where the server said nothing of a limit, or nothing that can be read.
    fn read(document: &Map<String, Value>) -> Option<Self> {
        let policy = document.get("limit_policy")?.as_object()?;
        let number = |of: &Map<String, Value>, name: &str| of.get(name).and_then(Value::as_u64);
        let small = |of, name| number(of, name).and_then(|number| u32::try_from(number).ok());
        let name = policy.get("name")?.as_str()?;
        // It goes into headers.
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
            return None;
        }
        Some(Self {
            name: name.to_owned(),
            count: small(policy, "count")?,
            period_ms: small(policy, "period_ms")?,
            burst: small(policy, "burst")?,
            left: small(document, "limit_left")?,
            reset_ms: number(document, "limit_reset_ms")?,
        })
    }
}

/// Why a key is not accepted. None of them holds the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is not good here: the server's code, such as `key_revoked` or `ip_not_allowed`.
    #[error("the key is refused: {0}")]
    Refused(String),
    /// Scopes that would do.
    #[error("the key lacks a scope")]
    InsufficientScope(Vec<String>),
    /// A limit is reached, or the credits are used up.
    #[error("the key is used too often: {code}")]
    Limited {
        /// `rate_limited` or `credits_exhausted`.
        code: String,
        /// When it is worth trying again, in seconds; none where waiting does not help.
        retry_after_s: Option<u64>,
        /// The limit that is reached, or how the narrowest stands where the credits are used up.
        limit: Option<KeyLimit>,
    },
    /// The server cannot be asked now. Nobody is let through.
    #[error("the server cannot be asked now")]
    Unavailable,
}

/// An accepted key, and what may be done with the answer.
pub(super) struct Answer {
    pub(super) key: Arc<VerifiedKey>,
    pub(super) every_use_counts: bool,
    pub(super) as_of: i64,
}

/// Codes of states carry the word key towards the outside.
fn outside(code: &str) -> &str {
    match code {
        "malformed" => "key_malformed",
        "not_found" => "key_not_found",
        "revoked" => "key_revoked",
        "retired" => "key_retired",
        "expired" => "key_expired",
        "not_yet_valid" => "key_not_yet_valid",
        "disabled" => "key_disabled",
        other => other,
    }
}

/// Whole seconds to wait, at least one.
fn seconds(ms: i64) -> Option<u64> {
    if ms == i64::MAX {
        return None;
    }
    u64::try_from(ms).map_or(Some(1), |ms| Some(ms.div_ceil(1000).max(1)))
}

/// Reads an answer that came at the moment `now` (Unix ms). What cannot be read is no acceptance.
pub(super) fn read(document: &Map<String, Value>, now: i64) -> Result<Answer, KeyError> {
    let text = |name: &str| {
        document
            .get(name)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let number = |name: &str| document.get(name).and_then(Value::as_i64);
    let list = |name: &str| -> Vec<String> {
        let list = document.get(name).and_then(Value::as_array);
        let list = list.into_iter().flatten().filter_map(Value::as_str);
        list.map(str::to_owned).collect()
    };
    let is_valid = document.get("valid").and_then(Value::as_bool);
    let (Some(is_valid), Some(code)) = (is_valid, text("code")) else {
        return Err(KeyError::Unavailable);
    };
    if !is_valid {
        // It goes into a header: anything but a plain word is not repeated.
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        let is_word = (1..=40).contains(&code.len()) && code.bytes().all(plain);
        let code = if is_word { outside(&code) } else { "refused" };
        return Err(match code {
            "insufficient_scope" => KeyError::InsufficientScope(list("missing_scopes")),
            "rate_limited" | "credits_exhausted" => KeyError::Limited {
                code: code.to_owned(),
                // A limit says how long, credits say when they come back.
                retry_after_s: number("retry_after_ms")
                    .or_else(|| Some(number("refill_at")?.saturating_sub(now)))
                    .and_then(seconds),
                limit: KeyLimit::read(document),
            },
            other => KeyError::Refused(other.to_owned()),
        });
    }
    let Some(key_id) = text("key_id").filter(|_| code == "valid") else {
        return Err(KeyError::Unavailable);
    };
    let counts = document.get("every_use_counts").and_then(Value::as_bool);
    let as_of = number("as_of");
    Ok(Answer {
        key: Arc::new(VerifiedKey {
            key_id,
            kid: text("kid"),
            owner: text("owner"),
            scopes: list("scopes"),
            retires_at: number("retires_at"),
            expires_at: number("expires_at"),
            limit: KeyLimit::read(document),
        }),
        // A server that does not say is an older one: nothing is remembered of it.
        every_use_counts: counts.unwrap_or(true) || as_of.is_none(),
        as_of: as_of.unwrap_or(-1),
    })
}
