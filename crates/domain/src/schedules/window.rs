//! Windows: the days and hours in which a rotation may happen.

use super::cron::at_minute;
use super::{NEVER, ScheduleError, TimeZone};

const MINUTES_OF_DAY: u16 = 24 * 60;
/// The next opening is at most a week away, or two when the zone leaves that day out; a window
/// over midnight may have opened the day before.
const DAYS_SEARCHED: u16 = 17;
/// The longest that a window makes a rotation wait (ms).
pub(super) const MAX_WAIT_MS: i64 = DAYS_SEARCHED as i64 * crate::api_keys::DAY_MS;

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weekday {
    /// Monday.
    Monday,
    /// Tuesday.
    Tuesday,
    /// Wednesday.
    Wednesday,
    /// Thursday.
    Thursday,
    /// Friday.
    Friday,
    /// Saturday.
    Saturday,
    /// Sunday.
    Sunday,
}

impl Weekday {
    /// All seven, Monday first.
    pub const ALL: [Self; 7] = [
        Self::Monday,
        Self::Tuesday,
        Self::Wednesday,
        Self::Thursday,
        Self::Friday,
        Self::Saturday,
        Self::Sunday,
    ];

    /// Stable text: `mon` to `sun`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Monday => "mon",
            Self::Tuesday => "tue",
            Self::Wednesday => "wed",
            Self::Thursday => "thu",
            Self::Friday => "fri",
            Self::Saturday => "sat",
            Self::Sunday => "sun",
        }
    }

    /// The day of that stable text.
    #[must_use]
    pub fn from_stable(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|day| day.as_str() == text)
    }
}

/// Days of the week and a span of local time in which a rotation may happen.
///
/// The span includes its start and not its end; one over midnight belongs to the day on which
/// it opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    days: Vec<Weekday>,
    start_minute: u16,
    end_minute: u16,
}

/// One opening of a window, from the moment asked for on (Unix ms).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    /// The first moment that is allowed.
    pub(super) from: i64,
    /// The first moment that is no longer allowed.
    pub(super) until: i64,
}

impl Window {
    /// A window on `days`, from `start_minute` (0 to 1439) to `end_minute` (1 to 1440), both
    /// minutes of the local day. An end before the start is on the next day.
    ///
    /// # Errors
    /// [`ScheduleError::Window`]: no day, a minute out of range, or an end equal to the start.
    pub fn new(
        days: &[Weekday],
        start_minute: u16,
        end_minute: u16,
    ) -> Result<Self, ScheduleError> {
        let fits = start_minute < MINUTES_OF_DAY
            && (1..=MINUTES_OF_DAY).contains(&end_minute)
            && start_minute != end_minute;
        if days.is_empty() || !fits {
            return Err(ScheduleError::Window);
        }
        let mut days = days.to_vec();
        days.sort_unstable();
        days.dedup();
        Ok(Self {
            days,
            start_minute,
            end_minute,
        })
    }

    /// The days on which it opens, Monday first.
    #[must_use]
    pub fn days(&self) -> &[Weekday] {
        &self.days
    }

    /// Minute of the local day at which it opens.
    #[must_use]
    pub fn start_minute(&self) -> u16 {
        self.start_minute
    }

    /// Minute of the local day at which it closes; 1440 is midnight.
    #[must_use]
    pub fn end_minute(&self) -> u16 {
        self.end_minute
    }

    /// The opening that `at` is in, or else the next one. Never decreases when `at` grows.
    pub(super) fn opening(&self, at: i64, zone: &TimeZone) -> Opening {
        let mut next = zone.local(at).date().yesterday().ok();
        for _ in 0..DAYS_SEARCHED {
            let Some(day) = next else { break };
            if self.opens_on(day.weekday()) && zone.has_day(day) {
                let opening = self.opening_on(day, zone);
                if opening.until > at {
                    let from = opening.from.max(at);
                    return Opening { from, ..opening };
                }
            }
            next = day.tomorrow().ok();
        }
        Opening {
            from: NEVER,
            until: NEVER,
        }
    }

    fn opening_on(&self, day: jiff::civil::Date, zone: &TimeZone) -> Opening {
        let length = if self.end_minute > self.start_minute {
            self.end_minute - self.start_minute
        } else {
            self.end_minute + MINUTES_OF_DAY - self.start_minute
        };
        let from = zone.first_moment(at_minute(day, self.start_minute));
        let until = zone.first_moment(at_minute(day, self.start_minute + length));
        // The clock jumped over the whole window: it opens after the jump, as long as written,
        // so that no allowed day goes without.
        let until = if until > from {
            until
        } else {
            from.saturating_add(i64::from(length) * 60_000)
        };
        Opening { from, until }
    }

    fn opens_on(&self, day: jiff::civil::Weekday) -> bool {
        let index = usize::from(day.to_monday_zero_offset().unsigned_abs());
        Weekday::ALL
            .get(index)
            .is_some_and(|day| self.days.contains(day))
    }
}
