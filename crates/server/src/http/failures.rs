//! Failed attempts, counted by source and by what they were at, so that neither can be guessed at
//! speed. Bounded: what would not fit takes the place of the oldest.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use super::peer::network;
use crate::problem::{OAuthError, Problem};

/// Most sources and targets that are remembered.
const MOST: usize = 20_000;

/// Counts failures in a sliding pair of windows.
#[derive(Debug)]
pub(crate) struct Failures {
    allowed: u32,
    window_ms: i64,
    counts: Mutex<HashMap<String, Count>>,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    since: i64,
    failures: u32,
}

impl Failures {
    /// So many failures in so long, for each source and each target.
    pub(crate) fn new(allowed: u32, window_ms: i64) -> Self {
        Self {
            allowed,
            window_ms,
            counts: Mutex::default(),
        }
    }

    /// How many are allowed in a window.
    pub(crate) fn allowed(&self) -> u32 {
        self.allowed
    }

    /// How long a window is.
    pub(crate) fn window_ms(&self) -> i64 {
        self.window_ms
    }

    /// Refuses an attempt after too many failures of this source at this target.
    ///
    /// # Errors
    /// [`Waits`].
    pub(crate) fn check(&self, source: IpAddr, target: &str, now: i64) -> Result<(), Waits> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.is_empty() {
            return Ok(());
        }
        match counts.get(&name(source, target)) {
            Some(count) if count.failures >= self.allowed => {
                let until = count.since + self.window_ms;
                if until <= now {
                    return Ok(());
                }
                Err(Waits::for_ms(until - now))
            }
            _ => Ok(()),
        }
    }

    /// Counts a failure.
    pub(crate) fn count(&self, source: IpAddr, target: &str, now: i64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= MOST {
            let window_ms = self.window_ms;
            counts.retain(|_, count| count.since + window_ms > now);
            if counts.len() >= MOST
                && let Some(oldest) = counts
                    .iter()
                    .min_by_key(|(_, count)| count.since)
                    .map(|(name, _)| name.clone())
            {
                counts.remove(&oldest);
            }
        }
        let count = counts.entry(name(source, target)).or_insert(Count {
            since: now,
            failures: 0,
        });
        if count.since + self.window_ms <= now {
            *count = Count {
                since: now,
                failures: 0,
            };
        }
        count.failures = count.failures.saturating_add(1);
    }

    /// Forgets the failures of a source at a target, after a success.
    pub(crate) fn forget(&self, source: IpAddr, target: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.remove(&name(source, target));
    }
}

/// A source, as a network, and a target.
pub(crate) fn name(source: IpAddr, target: &str) -> String {
    let target: String = target.chars().take(200).collect();
    format!("{} {target}", network(source))
}

/// Too many failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waits {
    /// How long.
    pub(crate) seconds: u64,
}

impl Waits {
    /// So many milliseconds, in whole seconds and one at least.
    pub(crate) fn for_ms(ms: i64) -> Self {
        let seconds = u64::try_from(ms.saturating_add(999) / 1000).unwrap_or(1);
        Self {
            seconds: seconds.max(1),
        }
    }
}

impl From<Waits> for Problem {
    fn from(waits: Waits) -> Self {
        Self::rate_limited(waits.seconds)
    }
}

impl From<Waits> for OAuthError {
    fn from(_: Waits) -> Self {
        let mut error = Self::new("slow_down", "too many failures: wait, then try again");
        error.status = axum::http::StatusCode::TOO_MANY_REQUESTS;
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s18_guessing_is_slow_for_one_source_and_free_for_others() {
        let failures = Failures::new(3, 1_000);
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        for _ in 0..3 {
            assert!(failures.check(one, "a", 0).is_ok());
            failures.count(one, "a", 0);
        }
        assert_eq!(failures.check(one, "a", 1), Err(Waits { seconds: 1 }));
        assert!(failures.check(other, "a", 1).is_ok());
        assert!(failures.check(one, "b", 1).is_ok());
        assert!(failures.check(one, "a", 1_000).is_ok());
        failures.count(one, "a", 1_000);
        assert!(failures.check(one, "a", 1_001).is_ok());
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        for _ in 0..3 {
            failures.count(v6, "a", 0);
        }
        assert!(
            failures
                .check("2001:db8::2".parse().unwrap(), "a", 1)
                .is_err()
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let failures = Failures::new(3, 1_000_000);
        let source = "192.0.2.1".parse().unwrap();
        for n in 0..(MOST + 10) {
            failures.count(source, &n.to_string(), i64::try_from(n).unwrap());
        }
        assert!(failures.counts.lock().unwrap().len() <= MOST);
    }
}
