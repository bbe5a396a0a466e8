//! Failed verifications of one source: so many are answered, then it has to wait.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::packed::PackedKid;

/// Failures of one source that are answered at once, and so many more in [`FAILURES_PERIOD_MS`].
pub const FAILURES: u32 = 60;
/// See [`FAILURES`] (ms).
pub const FAILURES_PERIOD_MS: u32 = 60_000;
/// Words of a throttle.
const WORDS: usize = 65_536;

/// Counts failures by source in a fixed number of words (GCRA). Two sources may share a word, which
/// makes it stricter, never laxer; which ones do is not foreseeable from outside.
#[derive(Debug)]
pub struct FailureThrottle {
    words: Box<[AtomicI64]>,
    hasher: RandomState,
    emission_us: i64,
    tolerance_us: i64,
}

impl Default for FailureThrottle {
    /// [`FAILURES`] in a [`FAILURES_PERIOD_MS`], as many at once.
    fn default() -> Self {
        Self::new(FAILURES, FAILURES_PERIOD_MS, FAILURES)
    }
}

impl FailureThrottle {
    /// `count` failures in `period_ms`, at most `burst` at once; each at least 1.
    #[must_use]
    pub fn new(count: u32, period_ms: u32, burst: u32) -> Self {
        let emission_us = (i64::from(period_ms.max(1)) * 1000 / i64::from(count.max(1))).max(1);
        Self {
            words: (0..WORDS).map(|_| AtomicI64::new(0)).collect(),
            hasher: RandomState::new(),
            emission_us,
            tolerance_us: emission_us * i64::from(burst.max(1)),
        }
    }

    /// Whether a source may try again at `now_us`; counts nothing.
    ///
    /// # Errors
    /// The time to wait (ms, rounded up).
    pub fn check(&self, source: IpAddr, now_us: i64) -> Result<(), u64> {
        self.check_word(self.word(source), now_us)
    }

    /// The same for a kid that guesses are made at.
    ///
    /// # Errors
    /// The time to wait (ms, rounded up).
    pub fn check_kid(&self, kid: PackedKid, now_us: i64) -> Result<(), u64> {
        self.check_word(self.word_of(kid), now_us)
    }

    fn check_word(&self, word: &AtomicI64, now_us: i64) -> Result<(), u64> {
        let tat = word.load(Ordering::Relaxed);
        let wait_us = self.ahead(tat, now_us) + self.emission_us - self.tolerance_us;
        if wait_us <= 0 {
            return Ok(());
        }
        // Further ahead than failures can bring it: the clock was put back. It is brought near, or the
        // source would wait until the time is what it was. Somebody else's word, if there is one, stands.
        let furthest = now_us.saturating_add(self.tolerance_us);
        if tat > furthest {
            let _ = word.compare_exchange(tat, furthest, Ordering::Relaxed, Ordering::Relaxed);
        }
        Err(wait_us.cast_unsigned().div_ceil(1000))
    }

    /// Counts a failure of a source at `now_us`.
    pub fn fail(&self, source: IpAddr, now_us: i64) {
        self.fail_word(self.word(source), now_us);
    }

    /// Counts a wrong secret of a kid at `now_us`.
    pub fn fail_kid(&self, kid: PackedKid, now_us: i64) {
        self.fail_word(self.word_of(kid), now_us);
    }

    fn fail_word(&self, word: &AtomicI64, now_us: i64) {
        let mut tat = word.load(Ordering::Relaxed);
        loop {
            // Failures beyond the bound (already in flight) do not lengthen the wait without end.
            let ahead = (self.ahead(tat, now_us) + self.emission_us).min(self.tolerance_us);
            let after = now_us.saturating_add(ahead);
            match word.compare_exchange_weak(tat, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(current) => tat = current,
            }
        }
    }

    fn ahead(&self, tat: i64, now_us: i64) -> i64 {
        tat.saturating_sub(now_us).clamp(0, self.tolerance_us)
    }

    fn word(&self, source: IpAddr) -> &AtomicI64 {
        let network = match source.to_canonical() {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            // The first 64 bits: everyone has 2^64 addresses. Never equal to an IPv4 one, because
            // ::/32 belongs to nobody.
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        };
        self.word_of(network)
    }

    fn word_of(&self, what: impl std::hash::Hash) -> &AtomicI64 {
        &self.words[self.hasher.hash_one(what) as usize % WORDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn sixty_failures_are_answered_and_then_one_a_second() {
        let throttle = FailureThrottle::default();
        let source = address("192.0.2.1");
        for _ in 0..60 {
            assert_eq!(throttle.check(source, SECOND), Ok(()));
            throttle.fail(source, SECOND);
        }
        assert_eq!(throttle.check(source, SECOND), Err(1000));
        assert_eq!(throttle.check(source, SECOND + 1), Err(1000), "rounded up");
        assert_eq!(throttle.check(address("192.0.2.2"), SECOND), Ok(()));
        assert_eq!(throttle.check(source, 2 * SECOND), Ok(()));
        for _ in 0..1000 {
            throttle.fail(source, 2 * SECOND);
        }
        assert_eq!(
            throttle.check(source, 2 * SECOND),
            Err(1000),
            "no wait without end"
        );
        assert_eq!(throttle.check(source, 3 * SECOND), Ok(()));
    }

    #[test]
    fn a_clock_that_was_put_back_makes_nobody_wait_longer_than_failures_do() {
        const HOUR: i64 = 3600 * SECOND;
        let throttle = FailureThrottle::default();
        let source = address("192.0.2.1");
        throttle.fail(source, 2 * HOUR);
        assert_eq!(throttle.check(source, HOUR), Err(1000));
        assert_eq!(throttle.check(source, HOUR + SECOND), Ok(()));
        let kid = PackedKid::parse("000000000001").unwrap();
        throttle.fail_kid(kid, 2 * HOUR);
        assert_eq!(throttle.check_kid(kid, HOUR), Err(1000));
        assert_eq!(throttle.check_kid(kid, HOUR + SECOND), Ok(()));
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_a_64_bit_ipv6_network() {
        let throttle = FailureThrottle::new(1, 1000, 1);
        throttle.fail(address("2001:db8::1"), SECOND);
        assert!(throttle.check(address("2001:db8::ffff:2"), SECOND).is_err());
        assert!(throttle.check(address("2001:db8:0:1::1"), SECOND).is_ok());
        throttle.fail(address("192.0.2.1"), SECOND);
        assert!(throttle.check(address("::ffff:192.0.2.1"), SECOND).is_err());
    }
}
