//! Cron expressions on local days. The library reads the expression; which moment a local time
//! is, and that each runs once, is decided here and in `zone`.

use cronp::{Calendar, CivilDateTime, Vixie};
use jiff::civil::Date;

use super::{NEVER, ScheduleError, TimeZone};

/// Longest expression.
const MAX_LENGTH: usize = 200;
/// The calendar repeats after this many days, weekdays included: what does not fire in them
/// never does.
const CYCLE_DAYS: i32 = 146_097;

/// A cron expression of five fields, as crontab(5) has them: minute, hour, day of month, month,
/// day of week. When both day fields are restricted, either may match. It fires at least once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronExpression {
    text: String,
    calendar: Calendar<Vixie>,
    /// The first minute of the day at which it fires.
    first_minute: u16,
}

impl CronExpression {
    /// Reads an expression. Letters become small, each gap one space; nicknames (`@daily`) are
    /// refused, so that what is stored says when it runs.
    ///
    /// # Errors
    /// [`ScheduleError::Cron`]; [`ScheduleError::CronNever`] for 30 February and its like.
    pub fn new(text: &str) -> Result<Self, ScheduleError> {
        if text.len() > MAX_LENGTH {
            return Err(ScheduleError::Cron("longer than 200 letters".to_owned()));
        }
        let fields: Vec<_> = text.split_ascii_whitespace().collect();
        if fields.len() != 5 {
            let count = fields.len();
            return Err(ScheduleError::Cron(format!("{count} fields")));
        }
        let text = fields.join(" ").to_ascii_lowercase();
        let calendar = match cronp::Schedule::<Vixie>::parse(&text) {
            Ok(cronp::Schedule::Calendar(calendar)) => calendar,
            Ok(_) => return Err(ScheduleError::Cron("a nickname".to_owned())),
            Err(error) => return Err(ScheduleError::Cron(error.to_string())),
        };
        let mut expression = Self {
            text,
            calendar,
            first_minute: 0,
        };
        expression.first_minute = expression.minute_from(0).ok_or(ScheduleError::CronNever)?;
        expression
            .day_from(Date::constant(2000, 1, 1))
            .ok_or(ScheduleError::CronNever)?;
        Ok(expression)
    }

    /// The expression, in small letters with single spaces.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first moment at or after `from` at which it fires in that zone, both Unix ms.
    ///
    /// A local time that the clock jumps over fires right after the jump; one that the clock
    /// shows twice fires the first time only; a day that the zone leaves out does not fire.
    pub(super) fn first_from(&self, from: i64, zone: &TimeZone) -> i64 {
        // One millisecond earlier: at the end of a jump the wall clock is already past the
        // times that were jumped over, and they fire at this very moment.
        let local = zone.local(from.saturating_sub(1));
        let mut minute = minute_of_day(local.hour(), local.minute());
        let mut next = Some(local.date());
        while let Some(day) = next.and_then(|day| self.day_from(day)) {
            if Some(day) != next {
                minute = 0;
            }
            if zone.has_day(day) {
                while let Some(found) = self.minute_from(minute) {
                    let moment = zone.first_moment(at_minute(day, found));
                    if moment >= from {
                        return moment;
                    }
                    minute = found + 1;
                }
            }
            minute = 0;
            next = day.tomorrow().ok();
        }
        NEVER
    }

    /// The first day from `day` on at which it fires.
    fn day_from(&self, mut day: Date) -> Option<Date> {
        let last = day
            .checked_add(jiff::Span::new().try_days(CYCLE_DAYS).ok()?)
            .unwrap_or(Date::MAX);
        while day <= last {
            if !self.calendar.admits_month(day.month().unsigned_abs()) {
                day = day.last_of_month().tomorrow().ok()?;
            } else if self.fires_on(day) {
                return Some(day);
            } else {
                day = day.tomorrow().ok()?;
            }
        }
        None
    }

    fn fires_on(&self, day: Date) -> bool {
        // The library counts years from 1; the calendar repeats every 400 years.
        let year = 2000 + day.year().rem_euclid(400).unsigned_abs();
        CivilDateTime::new(
            year,
            day.month().unsigned_abs(),
            day.day().unsigned_abs(),
            small(self.first_minute / 60),
            small(self.first_minute % 60),
            0,
        )
        .is_ok_and(|moment| self.calendar.matches(moment))
    }

    /// The first minute of a day, from `minute` on, at which it fires.
    fn minute_from(&self, minute: u16) -> Option<u16> {
        (minute / 60..24)
            .filter(|hour| self.calendar.admits_hour(small(*hour)))
            .flat_map(|hour| hour * 60..(hour + 1) * 60)
            .find(|found| *found >= minute && self.calendar.admits_minute(small(*found % 60)))
    }
}

/// An hour or a minute of the hour, as the library takes it.
fn small(part: u16) -> u8 {
    u8::try_from(part).unwrap_or(u8::MAX)
}

/// Minute of the day, 0 to 1439.
pub(super) fn minute_of_day(hour: i8, minute: i8) -> u16 {
    u16::from(hour.unsigned_abs()) * 60 + u16::from(minute.unsigned_abs())
}

/// The local time `minute` minutes into `day`; 1440 and more are on the next day.
pub(super) fn at_minute(day: Date, minute: u16) -> jiff::civil::DateTime {
    day.at(0, 0, 0, 0)
        .saturating_add(jiff::SignedDuration::from_mins(i64::from(minute)))
}
