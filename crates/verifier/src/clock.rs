//! What time it is. Tests move it on.

#[cfg(test)]
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A clock; clones tell the same time.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    started: Instant,
    #[cfg(test)]
    ahead_ms: Arc<AtomicU64>,
}

impl Clock {
    /// The system's.
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            #[cfg(test)]
            ahead_ms: Arc::default(),
        }
    }

    /// Since this clock was made; never goes back.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed() + self.ahead()
    }

    /// Unix seconds.
    pub(crate) fn unix_s(&self) -> i64 {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from((now + self.ahead()).as_secs()).unwrap_or(i64::MAX)
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
