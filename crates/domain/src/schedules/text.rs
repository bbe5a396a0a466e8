//! The text of a schedule, for storage. One schedule has one text:
//!
//! ```text
//! schedule   = "v1;" recurrence ";zone=" zone [";window=" window] ";jitter=" ms ";mode=" mode [";max_age=" ms]
//! recurrence = "every=" ms | "cron=" minute " " hour " " day-of-month " " month " " day-of-week
//! window     = day *("," day) "@" hh:mm "-" hh:mm       ; days in the week's order; 24:00 is midnight
//! day        = "mon" | "tue" | "wed" | "thu" | "fri" | "sat" | "sun"
//! mode       = "notify_only" | "issue_pending" | "automatic"
//! zone       = a name of the IANA database, in its own spelling
//! ms         = milliseconds, decimal, no sign and no leading zero
//! ```
//!
//! As in `v1;every=7776000000;zone=Europe/Berlin;window=mon,tue@22:00-06:00;jitter=0;mode=automatic`.

use super::{
    CronExpression, Mode, Recurrence, Schedule, ScheduleError, ScheduleTerms, TimeZone, Weekday,
    Window,
};

/// Longest text that is looked at.
const MAX_LENGTH: usize = 512;

impl Schedule {
    /// Its one text: `v1;`, then `every=` (ms) or `cron=`, `zone=`, perhaps `window=`
    /// (`mon,fri@22:00-06:00`), `jitter=` (ms), `mode=` and perhaps `max_age=` (ms), in this
    /// order and with `;` between them. Stable: it may be stored and compared.
    #[must_use]
    pub fn to_text(&self) -> String {
        let terms = self.terms();
        let mut text = match &terms.recurrence {
            Recurrence::Interval { every_ms } => format!("v1;every={every_ms}"),
            Recurrence::Cron(expression) => format!("v1;cron={}", expression.as_str()),
        };
        text.push_str(";zone=");
        text.push_str(terms.time_zone.as_str());
        if let Some(window) = &terms.window {
            text.push_str(";window=");
            text.push_str(&window_text(window));
        }
        text.push_str(&format!(";jitter={}", terms.jitter_ms));
        text.push_str(";mode=");
        text.push_str(terms.mode.as_str());
        if let Some(age) = terms.max_age_ms {
            text.push_str(&format!(";max_age={age}"));
        }
        text
    }

    /// The schedule of that text, which must be exactly as [`Schedule::to_text`] writes it.
    ///
    /// # Errors
    /// [`ScheduleError::Text`] for what breaks the grammar; the error of the part for a value
    /// out of range.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        if text.len() > MAX_LENGTH {
            return Err(broken(format!("longer than {MAX_LENGTH} letters")));
        }
        let fields = text
            .strip_prefix("v1;")
            .ok_or_else(|| broken("it begins with \"v1;\""))?;
        let mut fields = fields.split(';').peekable();

        let recurrence = match fields.next().and_then(|field| field.split_once('=')) {
            Some(("every", value)) => Recurrence::Interval {
                every_ms: milliseconds(value)?,
            },
            Some(("cron", value)) => Recurrence::Cron(CronExpression::new(value)?),
            _ => return Err(broken("\"every=\" or \"cron=\" comes first")),
        };
        let mut optional = |name: &str| {
            fields
                .next_if(|field| field.split_once('=').is_some_and(|(left, _)| left == name))
                .and_then(|field| field.split_once('='))
                .map(|(_, value)| value)
        };
        let time_zone = TimeZone::new(optional("zone").ok_or_else(|| missing("zone"))?)?;
        let window = optional("window").map(parse_window).transpose()?;
        let jitter_ms = milliseconds(optional("jitter").ok_or_else(|| missing("jitter"))?)?;
        let mode = optional("mode").ok_or_else(|| missing("mode"))?;
        let mode = Mode::from_stable(mode).ok_or_else(|| {
            broken("a mode is \"notify_only\", \"issue_pending\" or \"automatic\"")
        })?;
        let max_age_ms = optional("max_age").map(milliseconds).transpose()?;
        if fields.next().is_some() {
            return Err(broken(
                "after the recurrence come zone, window, jitter, mode and max_age, each once",
            ));
        }

        let schedule = Self::new(ScheduleTerms {
            recurrence,
            time_zone,
            window,
            jitter_ms,
            mode,
            max_age_ms,
        })?;
        let own = schedule.to_text();
        if own != text {
            return Err(broken(format!("its exact form is \"{own}\"")));
        }
        Ok(schedule)
    }
}

fn window_text(window: &Window) -> String {
    let days: Vec<_> = window.days().iter().map(|day| day.as_str()).collect();
    format!(
        "{}@{}-{}",
        days.join(","),
        clock(window.start_minute()),
        clock(window.end_minute())
    )
}

fn clock(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

fn parse_window(text: &str) -> Result<Window, ScheduleError> {
    let wrong = || broken("a window looks like \"mon,fri@22:00-06:00\"");
    let (days, span) = text.split_once('@').ok_or_else(wrong)?;
    let (start, end) = span.split_once('-').ok_or_else(wrong)?;
    let days: Option<Vec<_>> = days.split(',').map(Weekday::from_stable).collect();
    Window::new(
        &days.ok_or_else(wrong)?,
        parse_clock(start).ok_or_else(wrong)?,
        parse_clock(end).ok_or_else(wrong)?,
    )
}

fn parse_clock(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let minute: u16 = minute.parse().ok().filter(|minute| *minute < 60)?;
    let hour: u16 = hour.parse().ok().filter(|hour| *hour <= 24)?;
    Some(hour * 60 + minute)
}

fn milliseconds(text: &str) -> Result<i64, ScheduleError> {
    text.parse().map_err(|_| {
        broken("every, jitter and max_age are milliseconds: digits, without sign or leading zero")
    })
}

fn missing(name: &str) -> ScheduleError {
    broken(format!("\"{name}=\" is missing or out of its place"))
}

fn broken(reason: impl Into<String>) -> ScheduleError {
    ScheduleError::Text(reason.into())
}
