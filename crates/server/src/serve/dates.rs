//! When a certificate is good. rustls looks whether key and certificate belong together, and not at the calendar: one
//! that ended yesterday is served until somebody's browser says so.

use std::time::SystemTime;

use tokio_rustls::rustls::pki_types::CertificateDer;

/// Renewal is late when so little is left: certificates of 90 days are renewed a month before their end, shorter ones
/// with a third of their time left.
const SOON_S: i64 = 14 * DAY_S;
const DAY_S: i64 = 86_400;

/// From when and until when a certificate is good (RFC 5280 §4.1.2.5), in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateDates {
    /// From then on.
    pub begins_at: i64,
    /// Until then.
    pub ends_at: i64,
}

/// How a certificate stands at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateState {
    /// It is good, for so many days.
    Good(i64),
    /// It ends in so many days, which is soon.
    EndsSoon(i64),
    /// It ended so many days ago.
    Over(i64),
    /// It is not good yet.
    NotYet,
}

impl CertificateDates {
    /// Of the first one of a chain; none if it cannot be read.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, read) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let validity = read.validity();
        Some(Self {
            begins_at: validity.not_before.timestamp(),
            ends_at: validity.not_after.timestamp(),
        })
    }

    /// How it stands by this machine's clock.
    #[must_use]
    pub fn now(self) -> CertificateState {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        self.at(i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
    }

    /// How it stands at a moment, in Unix seconds.
    #[must_use]
    pub fn at(self, now_s: i64) -> CertificateState {
        let left = self.ends_at.saturating_sub(now_s);
        if now_s < self.begins_at {
            return CertificateState::NotYet;
        }
        // What lives a few days only is not late all its life.
        let soon = SOON_S.min(self.ends_at.saturating_sub(self.begins_at) / 3);
        match left {
            left if left < 0 => CertificateState::Over(left.saturating_neg() / DAY_S),
            left if left < soon => CertificateState::EndsSoon(left / DAY_S),
            left => CertificateState::Good(left / DAY_S),
        }
    }
}

impl CertificateState {
    /// Whether clients take it.
    pub(super) fn is_good(self) -> bool {
        matches!(self, Self::Good(_) | Self::EndsSoon(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_judged_by_its_dates() {
        let quarter = CertificateDates {
            begins_at: 1000,
            ends_at: 1000 + 90 * DAY_S,
        };
        for (now, state) in [
            (999, CertificateState::NotYet),
            (1000, CertificateState::Good(90)),
            (1000 + 76 * DAY_S, CertificateState::Good(14)),
            (1001 + 76 * DAY_S, CertificateState::EndsSoon(13)),
            (1000 + 90 * DAY_S, CertificateState::EndsSoon(0)),
            (1001 + 90 * DAY_S, CertificateState::Over(0)),
            (1000 + 92 * DAY_S, CertificateState::Over(2)),
        ] {
            assert_eq!(quarter.at(now), state, "{now}");
        }
        let days = CertificateDates {
            begins_at: 0,
            ends_at: 6 * DAY_S,
        };
        assert_eq!(days.at(3 * DAY_S), CertificateState::Good(3));
        assert_eq!(days.at(5 * DAY_S), CertificateState::EndsSoon(1));
    }
}
