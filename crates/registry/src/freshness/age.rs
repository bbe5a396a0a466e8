//! How old memory is, for whoever watches: nothing is decided by it.

use std::sync::PoisonError;
use std::time::Duration;

use super::{Freshness, since_boot};

impl Freshness {
    /// How long ago memory was known to be as new as the database; none before the first time. Of a file that
    /// is known at every moment.
    pub(crate) fn age(&self) -> Option<Duration> {
        let confirmed = self.confirmed.lock();
        let confirmed = confirmed.unwrap_or_else(PoisonError::into_inner);
        let at = confirmed.at?;
        let is_now = self.wal_index.is_some() && self.confirms(&confirmed);
        Some(match is_now {
            true => Duration::ZERO,
            false => since_boot().saturating_sub(at),
        })
    }

    /// Nothing was missing at that moment either: of a file, whose header says so.
    pub(super) fn is_still_new(&self, at: Duration) {
        let confirmed = self.confirmed.lock();
        let mut confirmed = confirmed.unwrap_or_else(PoisonError::into_inner);
        confirmed.at = confirmed.at.map(|before| before.max(at));
    }
}
