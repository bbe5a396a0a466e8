//! What the uses of keys tell: who still uses an old secret, which keys want tidying, and what a
//! change would break. Everything here reads and nothing writes, except the uses that wait in memory.

pub(crate) mod hygiene;
pub(crate) mod preview;
pub(crate) mod stragglers;

use crate::LocalRegistry;

/// An hour in milliseconds: what rollups count by.
const HOUR_MS: i64 = 60 * 60 * 1000;

/// A caller, as rollups keep it; an empty text is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallerIdentity {
    /// What the client called itself.
    pub client_label: String,
    /// The /24 (IPv4) or /48 (IPv6) it came from, in CIDR form.
    pub network: String,
    /// Product of its `User-Agent` (RFC 9110 §10.1.5).
    pub agent: String,
    /// Which part of the service it used.
    pub route: String,
}

/// The beginning of the hour of a moment.
pub(crate) fn hour_of(at: i64) -> i64 {
    at.div_euclid(HOUR_MS) * HOUR_MS
}

impl LocalRegistry {
    /// What waits in memory is told as well; if it cannot be written, the rest is told all the same.
    pub(crate) async fn flush_before_telling(&self) {
        if let Err(error) = self.flush_uses().await {
            tracing::warn!(code = error.code(), "the newest uses are not told yet");
        }
    }
}
