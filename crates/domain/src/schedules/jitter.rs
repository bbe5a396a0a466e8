//! Jitter: spreads the rotations of many keys without a generator, so that a restart gives the
//! same moment again.

use sha2::{Digest, Sha256};

/// Where in the spread a key has its place. The same key always has the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(u64);

impl Seed {
    /// The place of the key with that id.
    #[must_use]
    pub fn of(key_id: &str) -> Self {
        let digest = Sha256::digest(key_id.as_bytes());
        let place = digest
            .iter()
            .take(8)
            .fold(0, |place, byte| place << 8 | u64::from(*byte));
        Self(place)
    }

    /// 0 to `most` (ms), evenly spread over keys. A larger `most` never gives less, and one
    /// millisecond more of it at most one millisecond more: delays keep their order.
    pub(super) fn delay(self, most: i64) -> i64 {
        let places = u128::from(most.max(0).unsigned_abs()) + 1;
        i64::try_from((u128::from(self.0) * places) >> 64).unwrap_or(i64::MAX)
    }
}
