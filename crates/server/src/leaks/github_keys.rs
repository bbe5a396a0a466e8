//! The keys that GitHub signs with, as it publishes them, kept for an hour.

use std::collections::HashMap;

use tokio::sync::Mutex;
use url::Url;

use super::github_form::read_keys;
use crate::rp::outbound::Outbound;
use crate::settings::Settings;

const KEPT_MS: i64 = 60 * 60 * 1000;
/// A key id that is not among them may be new: GitHub is asked again, but not more often than this.
const AGAIN_MS: i64 = 60 * 1000;
/// While GitHub gives no keys, those that are known are good for so long: who asks for its keys in vain
/// must not be shut out, and a key that GitHub took back must not be good for ever.
const KEPT_WHILE_FAILING_MS: i64 = 24 * 60 * 60 * 1000;
/// After it was asked in vain GitHub is left alone for so long.
const AFTER_FAILURE_MS: i64 = 15 * 1000;

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
        let is_within = |at: Option<i64>, ms: i64| at.is_some_and(|at| is_within(at, now, ms));
        match self.points.get(key_id) {
            Some(point) if is_within(self.at, KEPT_MS) => {
                return Some(Key::Point(point.clone()));
            }
            None if is_within(self.at, AGAIN_MS) => return Some(Key::NotPublished),
            _ => {}
        }
        let failed_lately = is_within(self.failed_at, AFTER_FAILURE_MS);
        failed_lately.then(|| self.while_failing(key_id, now))
    }

    fn while_failing(&self, key_id: &str, now: i64) -> Key {
        let at = self.at;
        match self.points.get(key_id) {
            Some(point) if at.is_some_and(|at| is_within(at, now, KEPT_WHILE_FAILING_MS)) => {
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

/// Whether a moment is less than so long ago. One that is ahead is not: a clock was put back since.
fn is_within(at: i64, now: i64, ms: i64) -> bool {
    (0..ms).contains(&now.saturating_sub(at))
}

async fn fetch(http: &Outbound, url: &Url) -> Result<HashMap<String, Vec<u8>>, String> {
    let answer = http
        .get(url, None)
        .await
        .map_err(|error| error.to_string())?;
    if answer.status != 200 {
        return Err(format!("it answered {}", answer.status));
    }
    read_keys(&answer.body).ok_or_else(|| "it gave no list with a key that we can use".to_owned())
}

/// Asks GitHub for its keys once, where the settings name them: for whoever looks whether all is well.
///
/// # Errors
/// Why they cannot be read.
pub async fn check(settings: &Settings) -> Result<(), String> {
    let Some(url) = &settings.github_keys_url else {
        return Ok(());
    };
    let http = Outbound::new(settings.allow_private_addresses)?;
    fetch(&http, url).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_put_back_has_github_asked_again() {
        let known = Known {
            points: HashMap::from([("a".to_owned(), vec![4; 65])]),
            at: Some(1_000_000),
            failed_at: None,
        };
        let point = Some(Key::Point(vec![4; 65]));
        assert_eq!(known.without_asking("a", 1_000_000 + KEPT_MS - 1), point);
        assert_eq!(known.without_asking("a", 1_000_000 + KEPT_MS), None);
        assert_eq!(known.without_asking("a", 999_999), None);
        assert_eq!(
            known.without_asking("b", 1_000_000),
            Some(Key::NotPublished)
        );
        assert_eq!(known.without_asking("b", 999_999), None);
        // Of keys from the future nobody can say that they are younger than a day.
        assert_eq!(known.while_failing("a", 999_999), Key::Unknown(15));
    }
}
