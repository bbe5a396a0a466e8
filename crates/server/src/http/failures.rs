//! Failed attempts, counted by source and by what they were at, so that neither can be guessed at
//! speed. Bounded: what would not fit takes the place of the older half.

use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::peer::network;
use crate::problem::{OAuthError, Problem};

/// Most sources and targets that are remembered, in two generations: this many that were counted last are
/// never forgotten, and twice as many are the most.
const GENERATION: usize = 10_000;

/// Counts failures in a sliding pair of windows.
#[derive(Debug)]
pub(crate) struct Failures {
    allowed: u32,
    window_ms: i64,
    counts: Mutex<Counts>,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    since: i64,
    failures: u32,
}

/// Names that are counted come to the young ones. Once these are many, the old ones go as a whole: nobody
/// looks for the oldest, and no count waits for that.
#[derive(Debug, Default)]
struct Counts {
    young: HashMap<String, Count>,
    old: HashMap<String, Count>,
}

impl Counts {
    fn get(&self, name: &str) -> Option<&Count> {
        self.young.get(name).or_else(|| self.old.get(name))
    }

    /// Makes room for one more. What is forgotten is returned: taking so much apart is not done under the
    /// lock.
    fn make_room(&mut self) -> Option<HashMap<String, Count>> {
        if self.young.len() < GENERATION {
            return None;
        }
        let older = mem::take(&mut self.young);
        Some(mem::replace(&mut self.old, older))
    }
}

/// What a count came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Failures in this window, this one among them.
    pub(crate) failures: u32,
    /// Until the window ends.
    pub(crate) left_ms: i64,
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
        {
            let counts = self.lock();
            if counts.young.is_empty() && counts.old.is_empty() {
                return Ok(());
            }
        }
        self.check_without(&name(source, target), 0, now)
    }

    /// The same under a [`name`], if so many of what is counted were no failures.
    ///
    /// # Errors
    /// [`Waits`].
    pub(crate) fn check_without(&self, name: &str, others: u32, now: i64) -> Result<(), Waits> {
        match self.lock().get(name) {
            Some(count) if count.failures.saturating_sub(others) >= self.allowed => {
                let until = count.since + self.window_ms;
                if until <= now {
                    return Ok(());
                }
                Err(Waits::for_ms(until - now))
            }
            _ => Ok(()),
        }
    }

    /// Counts a failure. Says how many there are with it: of many at once, no two get the same number.
    pub(crate) fn count(&self, source: IpAddr, target: &str, now: i64) -> Counted {
        let name = name(source, target);
        let mut counts = self.lock();
        if let Some(count) = counts.young.get_mut(&name) {
            return self.one_more(count, now);
        }
        // Taken out before anything is forgotten: a name is not dropped by its own count.
        let mut count = counts.old.remove(&name).unwrap_or(Count {
            since: now,
            failures: 0,
        });
        let counted = self.one_more(&mut count, now);
        let forgotten = counts.make_room();
        counts.young.insert(name, count);
        drop(counts);
        drop(forgotten);
        counted
    }

    /// Counts one more, where it is not one too many.
    ///
    /// # Errors
    /// [`Waits`]: it is not counted.
    pub(crate) fn count_within(&self, source: IpAddr, target: &str, now: i64) -> Result<(), Waits> {
        let counted = self.count(source, target, now);
        if counted.failures <= self.allowed {
            return Ok(());
        }
        self.take_back(source, target, now);
        Err(Waits::for_ms(counted.left_ms))
    }

    fn one_more(&self, count: &mut Count, now: i64) -> Counted {
        if count.since + self.window_ms <= now {
            *count = Count {
                since: now,
                failures: 0,
            };
        }
        count.failures = count.failures.saturating_add(1);
        Counted {
            failures: count.failures,
            left_ms: count.since + self.window_ms - now,
        }
    }

    /// Takes one count back: what was counted at `counted_at`, before anybody knew, was no failure. Where
    /// that window has ended, nothing of it is left to take.
    pub(crate) fn take_back(&self, source: IpAddr, target: &str, counted_at: i64) {
        let name = name(source, target);
        let mut counts = self.lock();
        let counts = &mut *counts;
        let found = match counts.young.get_mut(&name) {
            Some(count) => Some(count),
            None => counts.old.get_mut(&name),
        };
        if let Some(count) = found.filter(|count| count.since <= counted_at) {
            count.failures = count.failures.saturating_sub(1);
        }
    }

    /// Forgets the failures of a source at a target, after a success.
    pub(crate) fn forget(&self, source: IpAddr, target: &str) {
        let name = name(source, target);
        let mut counts = self.lock();
        counts.young.remove(&name);
        counts.old.remove(&name);
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn what_is_remembered_is_bounded_and_the_newest_are_in_it() {
        let failures = Failures::new(3, 1_000_000);
        let source = "192.0.2.1".parse().unwrap();
        let many = 5 * GENERATION + 10;
        for n in 0..many {
            failures.count(source, &n.to_string(), i64::try_from(n).unwrap());
            let counts = failures.counts.lock().unwrap();
            assert!(counts.young.len() + counts.old.len() <= 2 * GENERATION);
        }
        // Each is counted a second time: who is known, is so still.
        for n in (many - GENERATION)..many {
            let counted = failures.count(source, &n.to_string(), 0);
            assert_eq!(counted.failures, 2, "{n}");
        }
        assert_eq!(failures.count(source, "0", 0).failures, 1);
    }

    #[test]
    fn a_name_that_is_there_is_not_dropped_by_its_own_count() {
        let failures = Failures::new(3, 1_000);
        let source = "192.0.2.1".parse().unwrap();
        assert_eq!(failures.count(source, "a", 7).failures, 1);
        for n in 0..(2 * GENERATION - 1) {
            failures.count(source, &n.to_string(), 7);
        }
        // It is among the old ones, and the young ones are full: the next name makes the old ones go.
        {
            let counts = failures.counts.lock().unwrap();
            assert_eq!(counts.young.len(), GENERATION);
            assert!(counts.old.keys().any(|name| name.ends_with(" a")));
        }
        let counted = failures.count(source, "a", 8);
        let expected = Counted {
            failures: 2,
            left_ms: 999,
        };
        assert_eq!(counted, expected);
        // One that is counted now and then stays, however many others come.
        for n in 0..(5 * GENERATION) {
            failures.count(source, &n.to_string(), 8);
            if n % (GENERATION - 1) == 0 {
                failures.count(source, "a", 8);
            }
        }
        assert_eq!(failures.count(source, "a", 8).failures, 9);
        failures.forget(source, "a");
        assert_eq!(failures.count(source, "a", 8).failures, 1);
    }

    #[test]
    fn what_is_taken_back_is_one_and_of_its_own_window() {
        let failures = Failures::new(3, 1_000);
        let source = "192.0.2.1".parse().unwrap();
        for _ in 0..3 {
            failures.count(source, "a", 0);
        }
        assert!(failures.check(source, "a", 1).is_err());
        failures.take_back(source, "a", 0);
        assert!(failures.check(source, "a", 1).is_ok());
        assert_eq!(failures.count(source, "a", 1).failures, 3);
        // Of the next window it takes nothing, and of nothing it takes nothing.
        assert_eq!(failures.count(source, "a", 1_000).failures, 1);
        failures.take_back(source, "a", 999);
        assert_eq!(failures.count(source, "a", 1_001).failures, 2);
        failures.take_back(source, "b", 0);
        assert_eq!(failures.count(source, "b", 0).failures, 1);
        // Also of what is among the old ones.
        for n in 0..GENERATION {
            failures.count(source, &n.to_string(), 0);
        }
        failures.take_back(source, "b", 0);
        assert_eq!(failures.count(source, "b", 0).failures, 1);
    }

    #[test]
    fn many_at_once_get_different_numbers() {
        let failures = Failures::new(3, 1_000);
        let source = "192.0.2.1".parse().unwrap();
        let mut numbers: Vec<u32> = std::thread::scope(|scope| {
            let count = || failures.count(source, "a", 0).failures;
            let all: Vec<_> = (0..8).map(|_| scope.spawn(count)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=8).collect::<Vec<_>>());
    }
}
