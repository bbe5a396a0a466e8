//! Local time: from a moment to a zone's wall clock and back, daylight saving included.
//! The tz database is inside the program, so the same program always gives the same answer.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZoneDatabase};

use super::ScheduleError;
use crate::api_keys::DAY_MS;

/// Room kept to both ends of the calendar (years -9999 to 9999), so that looking for the next
/// opening of a window stays inside it.
const MARGIN_MS: i64 = 60 * DAY_MS;

/// A time zone of the IANA database, such as `Europe/Berlin`.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeZone {
    name: String,
    rules: jiff::tz::TimeZone,
}

impl TimeZone {
    /// The zone of that name; the letters' case does not matter and is set right.
    ///
    /// # Errors
    /// [`ScheduleError::TimeZone`]: the database has no such zone.
    pub fn new(name: &str) -> Result<Self, ScheduleError> {
        let rules = TimeZoneDatabase::bundled()
            .get(name)
            .map_err(|_| ScheduleError::TimeZone)?;
        // "Etc/Unknown" is found, but has no name.
        let name = rules.iana_name().ok_or(ScheduleError::TimeZone)?.to_owned();
        Ok(Self { name, rules })
    }

    /// The zone's name in the IANA database.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// What the wall clock shows at `at` (Unix ms). A moment outside the calendar is moved to
    /// its edge.
    pub(super) fn local(&self, at: i64) -> DateTime {
        let at = at.clamp(earliest(), latest());
        let moment = Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH);
        self.rules.to_datetime(moment)
    }

    /// The first moment (Unix ms) at which the wall clock shows `local` or, where the clock
    /// jumps over it, the first moment after the jump. Never decreases when `local` grows.
    pub(super) fn first_moment(&self, local: DateTime) -> i64 {
        let moment = match self.rules.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local),
            // Read with the later offset, the skipped time lies just before the jump.
            AmbiguousOffset::Gap { before, after } => after.to_timestamp(local).and_then(|near| {
                self.rules
                    .following(near)
                    .take(4)
                    .find(|jump| jump.offset() == after)
                    .map_or_else(|| before.to_timestamp(local), |jump| Ok(jump.timestamp()))
            }),
        };
        moment.map_or_else(
            |_| {
                if local.year() > 0 { i64::MAX } else { i64::MIN }
            },
            Timestamp::as_millisecond,
        )
    }

    /// Whether the zone has that day at all: Samoa went from 29 to 31 December 2011.
    pub(super) fn has_day(&self, day: Date) -> bool {
        let midnight = day.at(0, 0, 0, 0);
        match self.rules.to_ambiguous_timestamp(midnight).offset() {
            AmbiguousOffset::Gap { .. } => self.local(self.first_moment(midnight)).date() == day,
            _ => true,
        }
    }
}

/// The earliest moment (Unix ms) that schedules reckon with.
pub(super) fn earliest() -> i64 {
    Timestamp::MIN.as_millisecond() + MARGIN_MS
}

/// The latest moment (Unix ms) that schedules reckon with.
pub(super) fn latest() -> i64 {
    Timestamp::MAX.as_millisecond() - MARGIN_MS
}
