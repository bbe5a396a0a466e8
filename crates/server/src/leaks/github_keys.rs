//! The keys that GitHub signs with, as it publishes them, kept for an hour.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use crate::rp::outbound::Outbound;

const KEPT_MS: i64 = 60 * 60 * 1000;
/// A key id that is not among them may be new: GitHub is asked again, but not more often than this.
const AGAIN_MS: i64 = 60 * 1000;
/// While GitHub gives no keys, those that are known are good for so long: who asks for its keys in vain
/// must not be shut out, and a key that GitHub took back must not be good for ever.
const KEPT_WHILE_FAILING_MS: i64 = 24 * 60 * 60 * 1000;
/// After it was asked in vain GitHub is left alone for so long.
const AFTER_FAILURE_MS: i64 = 15 * 1000;
const MOST: usize = 50;
/// What stands before the point in the SPKI of a P-256 key (RFC 5480), as everybody writes it.
const SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

#[derive(Deserialize)]
struct Published {
    public_keys: Vec<PublishedKey>,
}

#[derive(Deserialize)]
struct PublishedKey {
    key_identifier: String,
    key: String,
}

#[derive(Debug, Default)]
struct Known {
    points: HashMap<String, Vec<u8>>,
    /// When GitHub gave them.
    at: Option<i64>,
    /// When it was last asked in vain.
    failed_at: Option<i64>,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Its uncompressed point.
    Point(Vec<u8>),
    /// GitHub does not publish it.
    NotPublished,
    /// GitHub does not say now; it is asked again in so many seconds.
    Unknown(u64),
}

/// The keys that are known.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<Known>);

impl Keys {
    /// What is known of a key now. Only an answer that has keys in it takes the place of those that are
    /// known: while GitHub gives none, the old ones are good for a day.
    pub(super) async fn find(&self, http: &Outbound, url: &Url, key_id: &str, now: i64) -> Key {
        // Held over the request: many reports at once ask GitHub once.
        let mut known = self.0.lock().await;
        if let Some(key) = known.without_asking(key_id, now) {
            return key;
        }
        match fetch(http, url).await {
            Ok(points) => {
                *known = Known {
                    points,
                    at: Some(now),
                    failed_at: None,
                };
                let point = known.points.get(key_id).cloned();
                point.map_or(Key::NotPublished, Key::Point)
            }
            Err(why) => {
                tracing::warn!(why, "GitHub's keys cannot be read");
                known.failed_at = Some(now);
                known.while_failing(key_id, now)
            }
        }
    }
}

impl Known {
    /// None where GitHub has to be asked.
    fn without_asking(&self, key_id: &str, now: i64) -> Option<Key> {
        let age = self.at.map(|at| now.saturating_sub(at));
        match self.points.get(key_id) {
            Some(point) if age.is_some_and(|age| age < KEPT_MS) => {
                return Some(Key::Point(point.clone()));
            }
            None if age.is_some_and(|age| age < AGAIN_MS) => return Some(Key::NotPublished),
            _ => {}
        }
        let failed = self.failed_at.map(|at| now.saturating_sub(at));
        let is_asked_again = failed.is_none_or(|age| age >= AFTER_FAILURE_MS);
        (!is_asked_again).then(|| self.while_failing(key_id, now))
    }

    fn while_failing(&self, key_id: &str, now: i64) -> Key {
        let age = self.at.map(|at| now.saturating_sub(at));
        match self.points.get(key_id) {
            Some(point) if age.is_some_and(|age| age < KEPT_WHILE_FAILING_MS) => {
                Key::Point(point.clone())
            }
            _ => {
                let again = self
                    .failed_at
                    .unwrap_or(now)
                    .saturating_add(AFTER_FAILURE_MS);
                let wait_ms = again.saturating_sub(now).clamp(1000, AFTER_FAILURE_MS);
                Key::Unknown(wait_ms.unsigned_abs().div_ceil(1000))
            }
        }
    }
}

async fn fetch(http: &Outbound, url: &Url) -> Result<HashMap<String, Vec<u8>>, String> {
    let answer = http
        .get(url, None)
        .await
        .map_err(|error| error.to_string())?;
    if answer.status != 200 {
        return Err(format!("it answered {}", answer.status));
    }
    read(&answer.body).ok_or_else(|| "it gave no list with a key that we can use".to_owned())
}

/// None if there is no key to be read.
fn read(body: &[u8]) -> Option<HashMap<String, Vec<u8>>> {
    let published = serde_json::from_slice::<Published>(body).ok()?;
    let keys = published.public_keys.into_iter().take(MOST);
    let points: HashMap<_, _> = keys
        .filter_map(|one| Some((one.key_identifier, point(&one.key)?)))
        .collect();
    (!points.is_empty()).then_some(points)
}

/// The point in a PEM of a P-256 public key.
fn point(pem: &str) -> Option<Vec<u8>> {
    let base64: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .map(str::trim)
        .collect();
    let der = STANDARD.decode(base64).ok()?;
    let point = der.strip_prefix(&SPKI)?;
    (point.len() == 65 && point[0] == 4).then(|| point.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_p256_keys_are_read() {
        let mut der = SPKI.to_vec();
        der.push(4);
        der.extend([7; 64]);
        let pem = |der: &[u8]| {
            format!(
                "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
                STANDARD.encode(der)
            )
        };
        assert_eq!(point(&pem(&der)).map(|point| point.len()), Some(65));
        assert_eq!(point(&pem(&der[..90])), None);
        der[20] ^= 1;
        assert_eq!(point(&pem(&der)), None);
        assert_eq!(point("-----BEGIN PUBLIC KEY-----\n!\n"), None);
        assert!(read(b"[]").is_none() && read(b"{\"public_keys\":[]}").is_none());
    }
}
