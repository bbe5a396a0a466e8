//! Rotation schedules: when a key's next rotation is due, and which notices go out before it.
//! Rule 11 of the rotation model. Moments are Unix ms and passed in; local days and daylight
//! saving come from the tz database that the program carries.

mod cron;
mod error;
mod jitter;
pub mod notices;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
mod text;
mod window;
mod zone;

pub use cron::CronExpression;
pub use error::ScheduleError;
pub use jitter::Seed;
pub use notices::{NoticeKind, NoticesDue, notices_due};
pub use window::{Weekday, Window};
pub use zone::TimeZone;

use crate::api_keys::{DAY_MS, MAX_LIFETIME_MS, MIN_LIFETIME_MS};

/// Shortest interval between rotations.
pub const MIN_INTERVAL_MS: i64 = DAY_MS;
/// Longest interval between rotations.
pub const MAX_INTERVAL_MS: i64 = 365 * DAY_MS;
/// Longest jitter.
pub const MAX_JITTER_MS: i64 = 7 * DAY_MS;
/// What stands for a rotation beyond the end of the calendar (year 9999).
pub const NEVER: i64 = i64::MAX;

/// How rotations recur.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recurrence {
    /// Every so many milliseconds, counted from the anchor. Elapsed time: across a change of
    /// the clock the local time of day moves.
    Interval {
        /// [`MIN_INTERVAL_MS`] to [`MAX_INTERVAL_MS`].
        every_ms: i64,
    },
    /// At local times.
    Cron(CronExpression),
}

/// What happens when a rotation is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A person is told; nothing else.
    NotifyOnly,
    /// The new secret is issued and waits for a person to take it.
    IssuePending,
    /// The new secret is issued and delivered.
    Automatic,
}

impl Mode {
    /// All three.
    pub const ALL: [Self; 3] = [Self::NotifyOnly, Self::IssuePending, Self::Automatic];

    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotifyOnly => "notify_only",
            Self::IssuePending => "issue_pending",
            Self::Automatic => "automatic",
        }
    }

    /// The mode of that stable text.
    #[must_use]
    pub fn from_stable(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text)
    }
}

/// What a schedule says, before [`Schedule::new`] has checked it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleTerms {
    /// How rotations recur.
    pub recurrence: Recurrence,
    /// The zone of the cron expression and of the window.
    pub time_zone: TimeZone,
    /// When rotations may happen; none for always.
    pub window: Option<Window>,
    /// Most that a key's rotation is delayed (ms), 0 to [`MAX_JITTER_MS`].
    pub jitter_ms: i64,
    /// What happens when one is due.
    pub mode: Mode,
    /// Oldest that a secret may get (ms), 1 to 365 days; none for no such limit.
    pub max_age_ms: Option<i64>,
}

/// A schedule that keeps its rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule(ScheduleTerms);

impl Schedule {
    /// Checks the terms.
    ///
    /// # Errors
    /// [`ScheduleError::Interval`], [`ScheduleError::Jitter`], [`ScheduleError::MaxAge`].
    pub fn new(terms: ScheduleTerms) -> Result<Self, ScheduleError> {
        let mut most_jitter = MAX_JITTER_MS;
        if let Recurrence::Interval { every_ms } = terms.recurrence {
            if !(MIN_INTERVAL_MS..=MAX_INTERVAL_MS).contains(&every_ms) {
                return Err(ScheduleError::Interval);
            }
            most_jitter = most_jitter.min(every_ms);
        }
        if !(0..=most_jitter).contains(&terms.jitter_ms) {
            return Err(ScheduleError::Jitter);
        }
        if let Some(age) = terms.max_age_ms
            && !(MIN_LIFETIME_MS..=MAX_LIFETIME_MS).contains(&age)
        {
            return Err(ScheduleError::MaxAge);
        }
        Ok(Self(terms))
    }

    /// What it says.
    #[must_use]
    pub fn terms(&self) -> &ScheduleTerms {
        &self.0
    }

    /// The first due moment after `after`; [`NEVER`] past the end of the calendar.
    ///
    /// `anchor` (Unix ms) is where the schedule begins, such as the issue of the key or the day
    /// the schedule was set. What recurs before it does not count, and intervals are counted from
    /// it. It stays the same over all rotations, so that windows and jitter do not add up.
    /// What falls outside the window waits for the next opening, and several that wait for
    /// the same opening are one. Jitter delays by the key's place in the spread, less near the
    /// window's end, and never past it. Maximum age is not in it: see [`Schedule::due_at`].
    #[must_use]
    pub fn next_due(&self, after: i64, anchor: i64, seed: Seed) -> i64 {
        if after >= zone::latest() {
            return NEVER;
        }
        let after = after.max(zone::earliest());
        // Window and jitter keep the order of moments, so the earliest moment that they move
        // past `after` is found by halving, and the first occurrence from there is the one.
        let mut low = after - window::MAX_WAIT_MS - self.0.jitter_ms;
        let mut high = after + 1;
        while low < high {
            let middle = low + (high - low) / 2;
            if self.moved(middle, seed) > after {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        self.moved(self.first_occurrence(low, anchor), seed)
    }

    /// When a secret made at `secret_created_at` is to be rotated: at the next due moment after
    /// `after`, or at the end of its maximum age if that is earlier. The age is a limit: no
    /// window and no jitter moves it, and when it has passed, this moment is in the past.
    #[must_use]
    pub fn due_at(&self, after: i64, anchor: i64, seed: Seed, secret_created_at: i64) -> i64 {
        let due = self.next_due(after, anchor, seed);
        let limit = self
            .0
            .max_age_ms
            .map_or(NEVER, |age| secret_created_at.saturating_add(age));
        due.min(limit)
    }

    /// The first moment at or after `from`, and after `anchor`, at which it recurs, before window
    /// and jitter.
    fn first_occurrence(&self, from: i64, anchor: i64) -> i64 {
        let from = from.max(anchor.saturating_add(1));
        if from >= zone::latest() {
            return NEVER;
        }
        match &self.0.recurrence {
            Recurrence::Interval { every_ms } => {
                let (every, anchor) = (i128::from(*every_ms), i128::from(anchor));
                let elapsed = i128::from(from) - anchor;
                let count = (elapsed + every - 1).div_euclid(every);
                i64::try_from(anchor + count * every).unwrap_or(NEVER)
            }
            Recurrence::Cron(expression) => expression.first_from(from, &self.0.time_zone),
        }
    }

    /// Where the window and the key's jitter move `at`. Never earlier, and in the same order.
    fn moved(&self, at: i64, seed: Seed) -> i64 {
        if at >= zone::latest() {
            return NEVER;
        }
        let Some(window) = &self.0.window else {
            return at + seed.delay(self.0.jitter_ms);
        };
        let opening = window.opening(at, &self.0.time_zone);
        let room = opening.until.saturating_sub(opening.from).saturating_sub(1);
        opening
            .from
            .saturating_add(seed.delay(self.0.jitter_ms.min(room)))
    }
}
