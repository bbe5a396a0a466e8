//! What the wall clock said within the last hour, so that one that is put forward for a while is not believed at
//! once where something would be forgotten by it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a reading counts, by a clock that nobody sets.
const KEPT: Duration = Duration::from_secs(3600);

/// Readings of the wall clock, each with its moment.
#[derive(Debug, Default)]
pub(crate) struct Readings(Mutex<VecDeque<(Instant, i64)>>);

impl Readings {
    /// Takes a reading, in Unix ms.
    pub(crate) fn take(&self, at: Instant, now_ms: i64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_back((at, now_ms));
        // The last one from before the hour stays: it is what the clock said when the hour began.
        while let Some((second, _)) = all.get(1)
            && at.saturating_duration_since(*second) >= KEPT
        {
            all.pop_front();
        }
    }

    /// The earliest that the clock said within the hour before a moment, in Unix ms; none before a whole hour is
    /// known.
    pub(crate) fn earliest(&self, at: Instant) -> Option<i64> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, _) = all.front()?;
        if at.saturating_duration_since(*first) < KEPT {
            return None;
        }
        all.iter().map(|(_, now_ms)| *now_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60;
    const MINUTE_MS: i64 = 60_000;

    #[test]
    fn a_clock_that_is_ahead_for_less_than_an_hour_is_not_believed() {
        let (start, readings) = (Instant::now(), Readings::default());
        let after = |minutes: u64| start + Duration::from_secs(minutes * MINUTE);
        // Right, three hours ahead for fifty minutes, right again.
        let says = |minutes: u64| {
            let ahead = if (100..150).contains(&minutes) {
                180
            } else {
                0
            };
            (i64::try_from(minutes).unwrap() + ahead) * MINUTE_MS
        };
        assert_eq!(readings.earliest(start), None);
        for minutes in 0..400 {
            readings.take(after(minutes), says(minutes));
            let earliest = readings.earliest(after(minutes));
            assert_eq!(earliest.is_some(), minutes >= 60, "{minutes}");
            let right = i64::try_from(minutes).unwrap() * MINUTE_MS;
            assert!(earliest.is_none_or(|at| at <= right), "{minutes}");
        }
        let last = readings.earliest(after(399));
        assert_eq!(last, Some(339 * MINUTE_MS), "an hour behind, and no more");
        assert!(readings.0.lock().unwrap().len() <= 62);
        // Put back, it is believed at once; put forward for good, an hour later.
        readings.take(after(400), -MINUTE_MS);
        assert_eq!(readings.earliest(after(400)), Some(-MINUTE_MS));
        for minutes in 401..470 {
            readings.take(after(minutes), 10_000 * MINUTE_MS);
        }
        assert_eq!(readings.earliest(after(469)), Some(10_000 * MINUTE_MS));
    }

    #[test]
    fn whoever_looks_seldom_forgets_late() {
        let (start, readings) = (Instant::now(), Readings::default());
        readings.take(start, 1);
        readings.take(start + KEPT * 3, 5);
        assert_eq!(readings.earliest(start + KEPT * 3), Some(1));
        readings.take(start + KEPT * 5, 9);
        assert_eq!(readings.earliest(start + KEPT * 5), Some(5));
    }
}
