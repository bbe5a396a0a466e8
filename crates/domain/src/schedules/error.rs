//! Why a schedule is refused, and what would be accepted.

/// Why a schedule is refused. Each message says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The interval is shorter than a day or longer than 365 days.
    #[error("an interval is 1 to 365 days, in milliseconds")]
    Interval,
    /// The cron expression cannot be read.
    #[error(
        "not a cron expression ({0}); it has five fields: minute, hour, day of month, month, \
         day of week, as in \"30 2 1 * *\""
    )]
    Cron(String),
    /// The cron expression names days that no year has.
    #[error("this cron expression never fires: no year has such a day")]
    CronNever,
    /// The time zone is not in the time zone database.
    #[error("not a time zone of the IANA database; a name looks like \"Europe/Berlin\" or \"UTC\"")]
    TimeZone,
    /// The window has no day, or its start and end make no span of time.
    #[error(
        "a window has at least one day of the week, a start from 00:00 to 23:59 and another end \
         up to 24:00; an end before the start is on the next day"
    )]
    Window,
    /// The jitter is negative, longer than 7 days or longer than the interval.
    #[error("a jitter is 0 ms to 7 days, and not longer than the interval")]
    Jitter,
    /// The maximum age is shorter than a day or longer than 365 days.
    #[error("a maximum age is 1 to 365 days, in milliseconds")]
    MaxAge,
    /// The stored text of a schedule does not follow its grammar.
    #[error("not the text of a schedule: {0}")]
    Text(String),
}

impl ScheduleError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Interval => "invalid_interval",
            Self::Cron(_) => "invalid_cron",
            Self::CronNever => "cron_never_fires",
            Self::TimeZone => "unknown_time_zone",
            Self::Window => "invalid_window",
            Self::Jitter => "invalid_jitter",
            Self::MaxAge => "invalid_max_age",
            Self::Text(_) => "invalid_schedule",
        }
    }
}
