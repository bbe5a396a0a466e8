//! What time it is. Tests move it on.

use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::AtomicU64;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The two clocks of the system drift apart by less than this, unless the machine slept or somebody set
/// the time.
const SLEPT_MS: i64 = 1_000;

/// A clock; clones tell the same time.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_unix: Duration,
    sleep: Arc<Sleep>,
    #[cfg(test)]
    ahead_ms: Arc<AtomicU64>,
    #[cfg(test)]
    asleep_ms: Arc<AtomicU64>,
}

/// What the steady clock did not count: on most systems it stands still while the machine sleeps.
#[derive(Debug, Default)]
struct Sleep {
    /// How far the time of day was ahead of the steady clock when that was last looked at.
    lead_ms: AtomicI64,
    total_ms: AtomicI64,
}

impl Sleep {
    /// All of it so far. A time of day that is set back takes nothing from it.
    fn total(&self, lead_ms: i64) -> Duration {
        let before = self.lead_ms.load(Ordering::Acquire);
        let more = lead_ms.saturating_sub(before);
        if more.saturating_abs() >= SLEPT_MS
            && self
                .lead_ms
                .compare_exchange(before, lead_ms, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
        {
            self.total_ms.fetch_add(more.max(0), Ordering::AcqRel);
        }
        let total = self.total_ms.load(Ordering::Acquire);
        Duration::from_millis(u64::try_from(total).unwrap_or(0))
    }
}

impl Clock {
    /// The system's.
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            started_unix: unix(),
            sleep: Arc::default(),
            #[cfg(test)]
            ahead_ms: Arc::default(),
            #[cfg(test)]
            asleep_ms: Arc::default(),
        }
    }

    /// Since this clock was made, the time that the machine slept included; never goes back.
    pub(crate) fn elapsed(&self) -> Duration {
        let steady = self.started.elapsed();
        let of_day = ms(unix() + self.asleep()) - ms(self.started_unix);
        steady + self.sleep.total(of_day - ms(steady)) + self.ahead()
    }

    /// Unix seconds.
    pub(crate) fn unix_s(&self) -> i64 {
        let now = unix() + self.ahead() + self.asleep();
        i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
    }

    /// Unix milliseconds.
    pub(crate) fn unix_ms(&self) -> i64 {
        ms(unix() + self.ahead() + self.asleep())
    }

    #[cfg(not(test))]
    fn asleep(&self) -> Duration {
        Duration::ZERO
    }

    #[cfg(test)]
    fn asleep(&self) -> Duration {
        Duration::from_millis(self.asleep_ms.load(Ordering::SeqCst))
    }

    /// The machine sleeps: only the time of day goes on.
    #[cfg(test)]
    pub(crate) fn sleep(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.asleep_ms.fetch_add(ms, Ordering::SeqCst);
    }

    #[cfg(not(test))]
    fn ahead(&self) -> Duration {
        Duration::ZERO
    }

    #[cfg(test)]
    fn ahead(&self) -> Duration {
        Duration::from_millis(self.ahead_ms.load(Ordering::SeqCst))
    }

    /// Moves the clock on.
    #[cfg(test)]
    pub(crate) fn pass(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.ahead_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

fn unix() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_counts_and_a_time_that_is_set_back_does_not() {
        let sleep = Sleep::default();
        let total = |lead| sleep.total(lead).as_millis();
        // What the two clocks differ by when they are read one after the other adds up to nothing.
        for lead in [0, 3, -2, 900, -900, 5] {
            assert_eq!(total(lead), 0);
        }
        assert_eq!(total(60_000), 60_000);
        assert_eq!(total(60_001), 60_000);
        assert_eq!(total(-5_000), 60_000, "never goes back");
        assert_eq!(total(-5_000), 60_000);
        assert_eq!(total(0), 65_000, "rather too much than too little");
    }
}
