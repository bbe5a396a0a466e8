//! Rate limits: what a key may be asked for in a time, and the arithmetic that decides (GCRA).
//! Text of one limit: `name=count/period_ms+burst`, then `@owner` where all keys of an owner share
//! it; several are joined by one blank.

use core::fmt;
use std::sync::Arc;

use super::DAY_MS;

/// Most limits of one key.
pub const MAX_LIMITS: usize = 8;
/// Shortest period of a limit.
pub const MIN_PERIOD_MS: u32 = 1000;
/// Longest period of a limit: 30 days.
pub const MAX_PERIOD_MS: u32 = (30 * DAY_MS) as u32;
/// Most requests a millisecond. Beyond it, whole microseconds would be too coarse.
const MAX_COUNT_PER_MS: u64 = 100;

/// One named limit: `count` requests a period.
///
/// A whole period's worth is there at once, and `burst` more: with 60 a minute and no burst, 60
/// requests pass in one moment and the 61st is refused (AC-132). From then on one more becomes free
/// every `period / count`, here every second.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RateLimit {
    // Shared: it is handed about with every verification.
    name: Arc<str>,
    count: u32,
    period_ms: u32,
    burst: u32,
    shared_by_owner: bool,
}

impl RateLimit {
    /// Checks a limit.
    ///
    /// # Errors
    /// [`LimitError`]: the first rule it breaks.
    pub fn new(
        name: &str,
        count: u32,
        period_ms: u32,
        burst: u32,
        shared_by_owner: bool,
    ) -> Result<Self, LimitError> {
        let is_plain = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-')
        };
        if !(1..=32).contains(&name.len()) || !name.bytes().all(is_plain) {
            return Err(LimitError::Name);
        }
        if !(MIN_PERIOD_MS..=MAX_PERIOD_MS).contains(&period_ms) {
            return Err(LimitError::Period);
        }
        if count == 0 || u64::from(count) > u64::from(period_ms) * MAX_COUNT_PER_MS {
            return Err(LimitError::Count);
        }
        if u64::from(burst) > u64::from(count) * 10 || count.checked_add(burst).is_none() {
            return Err(LimitError::Burst);
        }
        Ok(Self {
            name: name.into(),
            count,
            period_ms,
            burst,
            shared_by_owner,
        })
    }

    /// Its name: 1 to 32 small letters, digits, `_` or `-`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Requests a period.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The period (ms).
    #[must_use]
    pub fn period_ms(&self) -> u32 {
        self.period_ms
    }

    /// Requests beyond `count` that may come at once.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// Whether all keys of an owner draw on it together.
    #[must_use]
    pub fn is_shared_by_owner(&self) -> bool {
        self.shared_by_owner
    }

    /// How much may come at once when nothing came before: `count + burst`.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.count.saturating_add(self.burst)
    }

    /// Whether `self` lets nothing through that `other` would refuse: no faster, nothing more at
    /// once, and shared if `other` is.
    #[must_use]
    pub fn is_at_least_as_strict_as(&self, other: &Self) -> bool {
        let pace = u64::from(self.count) * u64::from(other.period_ms);
        let other_pace = u64::from(other.count) * u64::from(self.period_ms);
        pace <= other_pace
            && self.capacity() <= other.capacity()
            && (self.shared_by_owner || !other.shared_by_owner)
    }

    /// Reads one limit as [`RateLimit::to_text`] writes it.
    ///
    /// # Errors
    /// [`LimitError`].
    pub fn parse(text: &str) -> Result<Self, LimitError> {
        let (text, shared_by_owner) = match text.strip_suffix("@owner") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (name, rest) = text.split_once('=').ok_or(LimitError::Text)?;
        let (count, rest) = rest.split_once('/').ok_or(LimitError::Text)?;
        let (period, burst) = rest.split_once('+').ok_or(LimitError::Text)?;
        let (count, period) = (number(count)?, number(period)?);
        Self::new(name, count, period, number(burst)?, shared_by_owner)
    }

    /// The text to store: `requests=60/60000+0@owner`.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = if self.shared_by_owner { "@owner" } else { "" };
        write!(
            f,
            "{}={}/{}+{}{shared}",
            self.name, self.count, self.period_ms, self.burst
        )
    }
}

/// Digits only, without a sign or leading zeros, so that one limit has one text.
fn number(text: &str) -> Result<u32, LimitError> {
    let number: u32 = text.parse().map_err(|_| LimitError::Text)?;
    if number.to_string() == text {
        Ok(number)
    } else {
        Err(LimitError::Text)
    }
}

/// The limits of one key: at most 8, each name once, in the order given. All of them count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimits(Vec<RateLimit>);

impl RateLimits {
    /// Checks a list of limits.
    ///
    /// # Errors
    /// [`LimitError::TooMany`], [`LimitError::NameTwice`].
    pub fn new(limits: Vec<RateLimit>) -> Result<Self, LimitError> {
        if limits.len() > MAX_LIMITS {
            return Err(LimitError::TooMany);
        }
        for (index, limit) in limits.iter().enumerate() {
            if limits.iter().take(index).any(|one| one.name == limit.name) {
                return Err(LimitError::NameTwice(limit.name.to_string()));
            }
        }
        Ok(Self(limits))
    }

    /// A list of one.
    #[must_use]
    pub fn one(limit: RateLimit) -> Self {
        Self(vec![limit])
    }

    /// The limits.
    #[must_use]
    pub fn as_slice(&self) -> &[RateLimit] {
        &self.0
    }

    /// Reads limits joined by one blank; no text, no limits.
    ///
    /// # Errors
    /// [`LimitError`].
    pub fn parse(text: &str) -> Result<Self, LimitError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let limits: Result<_, _> = text.split(' ').map(RateLimit::parse).collect();
        Self::new(limits?)
    }

    /// The text to store.
    #[must_use]
    pub fn to_text(&self) -> String {
        let texts: Vec<_> = self.0.iter().map(RateLimit::to_text).collect();
        texts.join(" ")
    }
}

/// Why a limit is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// The name breaks its rule.
    #[error("a limit's name has 1 to 32 small letters, digits, hyphens or underscores")]
    Name,
    /// No requests, or too many for the period.
    #[error("a limit allows at least 1 request a period and at most 100 a millisecond")]
    Count,
    /// Too short or too long.
    #[error("a limit's period is 1 second to 30 days")]
    Period,
    /// Too large.
    #[error("a limit's burst is at most ten times its count, and both together below 2³²")]
    Burst,
    /// More than [`MAX_LIMITS`].
    #[error("a key has at most {MAX_LIMITS} limits")]
    TooMany,
    /// Two limits of one name.
    #[error("two limits are named “{0}”")]
    NameTwice(String),
    /// Not the stored text of a limit.
    #[error("a limit is written name=count/period_ms+burst, for example requests=60/60000+0")]
    Text,
}

/// The generic cell rate algorithm for one limit: one number of state, the theoretical arrival
/// time (TAT), in whole microseconds.
///
/// The state fits one atomic word: read it, call [`Gcra::check`], and on
/// [`GcraAnswer::Allowed`] put `new_tat_us` in its place if it is still what was read, else try
/// again. A fresh state is `i64::MIN` or anything in the past. Times come from a clock that does
/// not run backwards where there is one; if it does all the same, nothing more is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gcra {
    /// Time between two requests at the steady pace; rounded up, so that never more than the limit
    /// passes (at 1,000 a second the pace is right to 0.1 %).
    pub emission_us: i64,
    /// How far the theoretical arrival time may lie ahead: the emission times the capacity.
    pub tolerance_us: i64,
}

/// What [`Gcra::check`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GcraAnswer {
    /// Within the limit.
    Allowed {
        /// The state to keep.
        new_tat_us: i64,
        /// Requests (of cost 1) that may still come at once.
        remaining: u32,
        /// Time until everything is there again, rounded up.
        reset_ms: u64,
    },
    /// Over the limit; the state stays.
    Refused {
        /// Time until the same request is allowed if nothing else comes, rounded up.
        retry_after_ms: u64,
        /// Requests (of cost 1) that may still come at once.
        remaining: u32,
        /// Time until everything is there again, rounded up.
        reset_ms: u64,
    },
    /// The cost is above the capacity: waiting never helps.
    CostTooHigh,
}

impl Gcra {
    /// The arithmetic of a limit.
    #[must_use]
    pub fn new(limit: &RateLimit) -> Self {
        let (period_us, count) = (i64::from(limit.period_ms) * 1000, i64::from(limit.count));
        let emission_us = (period_us + count - 1) / count;
        Self {
            emission_us,
            tolerance_us: emission_us * i64::from(limit.capacity()),
        }
    }

    /// Judges a request of `cost` at `now_us` when the state is `tat_us`. A cost of 0 looks without
    /// changing anything.
    #[must_use]
    pub fn check(&self, tat_us: i64, now_us: i64, cost: u32) -> GcraAnswer {
        let needed = self.emission_us.saturating_mul(i64::from(cost));
        if needed > self.tolerance_us {
            return GcraAnswer::CostTooHigh;
        }
        let ahead = tat_us.saturating_sub(now_us).max(0);
        if cost == 0 {
            return self.allowed(tat_us, ahead);
        }
        let ahead_then = ahead.saturating_add(needed);
        match tat_us.max(now_us).checked_add(needed) {
            Some(new_tat_us) if ahead_then <= self.tolerance_us => {
                self.allowed(new_tat_us, ahead_then)
            }
            // At the end of time nothing can be counted any more, so nothing passes.
            _ => GcraAnswer::Refused {
                retry_after_ms: whole_ms(ahead_then.saturating_sub(self.tolerance_us)).max(1),
                remaining: self.remaining(ahead),
                reset_ms: whole_ms(ahead),
            },
        }
    }

    fn allowed(&self, new_tat_us: i64, ahead: i64) -> GcraAnswer {
        GcraAnswer::Allowed {
            new_tat_us,
            remaining: self.remaining(ahead),
            reset_ms: whole_ms(ahead),
        }
    }

    fn remaining(&self, ahead: i64) -> u32 {
        let free = self.tolerance_us.saturating_sub(ahead).max(0);
        u32::try_from(free / self.emission_us.max(1)).unwrap_or(u32::MAX)
    }
}

fn whole_ms(us: i64) -> u64 {
    us.max(0).unsigned_abs().div_ceil(1000)
}

#[cfg(test)]
mod tests;
