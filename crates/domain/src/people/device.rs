//! The device grant (RFC 8628): codes that people type, and how often a device may ask.

use core::fmt;

use rand::CryptoRng;

/// Consonants without look-alikes: no words, nothing to mistake (RFC 8628 §6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const LENGTH: usize = 8;
/// Asking this much too early is a clock's fault (ms).
const SLACK_MS: i64 = 500;
const SLOWER_BY_MS: i64 = 5_000;
const SLOWEST_MS: i64 = 60_000;

/// The code that a person types: 8 letters, 34 bits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UserCode(String);

impl UserCode {
    /// A new one.
    pub fn generate(entropy: &mut impl CryptoRng) -> Self {
        let mut text = String::with_capacity(LENGTH);
        let mut block = [0_u8; 32];
        while text.len() < LENGTH {
            entropy.fill_bytes(&mut block);
            // 240 is the largest multiple of 20 that fits in a byte.
            let fair = block.iter().filter(|byte| **byte < 240);
            let letters = fair.map(|byte| LETTERS[usize::from(byte % 20)] as char);
            text.extend(letters.take(LENGTH - text.len()));
        }
        Self(text)
    }

    /// Reads what a person typed: case, spaces and dashes do not matter.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let letters = text.chars().filter(|c| !matches!(c, ' ' | '-'));
        let text: String = letters
            .map(|c| c.to_ascii_uppercase())
            .take(LENGTH + 1)
            .collect();
        (text.len() == LENGTH && text.bytes().all(|byte| LETTERS.contains(&byte)))
            .then_some(Self(text))
    }

    /// As it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserCode {
    /// As people read it, `BCDF-GHJK`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", &self.0[..LENGTH / 2], &self.0[LENGTH / 2..])
    }
}

/// How far a device's request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceStatus {
    /// Nobody decided.
    Pending,
    /// A person said yes.
    Approved,
    /// A person said no.
    Denied,
    /// The device has its tokens.
    Used,
}

impl DeviceStatus {
    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Used => "used",
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Approved, Self::Denied, Self::Used]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// How often a device may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollRule {
    /// Least time between two polls (ms).
    pub interval_ms: i64,
    /// The last one.
    pub last_polled_at: Option<i64>,
}

impl PollRule {
    /// The interval from now on, if the poll at `now` comes too early (`slow_down`, RFC 8628 §3.5):
    /// five seconds more, but never more than a minute, so that an honest device gets its answer.
    #[must_use]
    pub fn slower(&self, now: i64) -> Option<i64> {
        let last = self.last_polled_at?;
        let early = now.saturating_sub(last) < self.interval_ms - SLACK_MS;
        early.then(|| (self.interval_ms + SLOWER_BY_MS).min(SLOWEST_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_may_write_codes_as_they_like() {
        let code = UserCode::generate(&mut rand::rng());
        assert_eq!(code.to_string().len(), 9);
        assert_eq!(UserCode::parse(&code.to_string()), Some(code.clone()));
        assert_eq!(
            UserCode::parse(&format!(" {} ", code.as_str().to_lowercase())),
            Some(code)
        );
        for bad in ["", "BCDF", "BCDFGHJKL", "BCDFGHJA", "BCDFGHJ1", "ÄCDFGHJK"] {
            assert_eq!(UserCode::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn s55_slow_down_adds_five_seconds_and_has_an_end() {
        let mut rule = PollRule {
            interval_ms: 5_000,
            last_polled_at: None,
        };
        assert_eq!(rule.slower(0), None);
        rule.last_polled_at = Some(10_000);
        assert_eq!(rule.slower(14_499), Some(10_000));
        assert_eq!(rule.slower(14_500), None);
        rule.interval_ms = 58_000;
        assert_eq!(rule.slower(10_001), Some(60_000));
    }
}
