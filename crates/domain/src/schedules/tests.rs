use super::*;

/// The moment of a local time that the clock shows exactly once.
pub(super) fn at(zone: &str, local: &str) -> i64 {
    let zone = jiff::tz::TimeZoneDatabase::bundled()
        .get(zone)
        .expect("zone");
    let local: jiff::civil::DateTime = local.parse().expect("a local time");
    let moment = zone.to_ambiguous_timestamp(local);
    moment.unambiguous().expect("shown once").as_millisecond()
}

pub(super) fn utc(moment: &str) -> i64 {
    moment
        .parse::<jiff::Timestamp>()
        .expect("a moment")
        .as_millisecond()
}

pub(super) fn zone(name: &str) -> TimeZone {
    TimeZone::new(name).expect("a zone")
}

pub(super) fn cron(text: &str) -> Recurrence {
    Recurrence::Cron(CronExpression::new(text).expect("a cron expression"))
}

pub(super) fn terms(recurrence: Recurrence, zone_name: &str) -> ScheduleTerms {
    ScheduleTerms {
        recurrence,
        time_zone: zone(zone_name),
        window: None,
        jitter_ms: 0,
        mode: Mode::Automatic,
        max_age_ms: None,
    }
}

fn plain(recurrence: Recurrence, zone_name: &str) -> Schedule {
    Schedule::new(terms(recurrence, zone_name)).expect("a schedule")
}

fn windowed(
    recurrence: Recurrence,
    zone_name: &str,
    days: &[Weekday],
    span: (u16, u16),
) -> Schedule {
    let mut terms = terms(recurrence, zone_name);
    terms.window = Some(Window::new(days, span.0, span.1).expect("a window"));
    Schedule::new(terms).expect("a schedule")
}

pub(super) fn seed() -> Seed {
    Seed::of("key_1")
}

/// The next `count` runs, as UTC texts.
fn runs(schedule: &Schedule, from: i64, count: usize) -> Vec<String> {
    let mut now = from;
    let mut runs = Vec::new();
    for _ in 0..count {
        now = schedule.next_due(now, i64::MIN, seed());
        runs.push(
            jiff::Timestamp::from_millisecond(now)
                .expect("a moment")
                .to_string(),
        );
    }
    runs
}

#[test]
fn a_time_that_the_clock_jumps_over_runs_right_after_the_jump() {
    let schedule = plain(cron("30 2 * * *"), "Europe/Berlin");
    let found = runs(&schedule, utc("2026-03-28T00:00:00Z"), 3);
    let expected = [
        "2026-03-28T01:30:00Z",
        "2026-03-29T01:00:00Z",
        "2026-03-30T00:30:00Z",
    ];
    assert_eq!(found, expected);
    // Also when asked a millisecond before.
    let jump = utc("2026-03-29T01:00:00Z");
    assert_eq!(schedule.next_due(jump - 1, 0, seed()), jump);
    // Half an hour on Lord Howe Island: 02:15 becomes 02:30.
    let schedule = plain(cron("15 2 * * *"), "Australia/Lord_Howe");
    let found = runs(&schedule, utc("2026-10-03T12:00:00Z"), 1);
    assert_eq!(found, ["2026-10-03T15:30:00Z"]);
    // Nuuk jumps over the hour before midnight: Saturday's run is at Sunday's first moment.
    let schedule = plain(cron("30 23 * * sat"), "America/Nuuk");
    let found = runs(&schedule, utc("2026-03-28T00:00:00Z"), 2);
    assert_eq!(found, ["2026-03-29T01:00:00Z", "2026-04-05T00:30:00Z"]);
}

#[test]
fn times_that_were_jumped_over_run_once_together() {
    let schedule = plain(cron("*/20 2,3 * * *"), "America/New_York");
    let found = runs(&schedule, at("America/New_York", "2026-03-08T00:00"), 4);
    let expected = [
        "2026-03-08T07:00:00Z",
        "2026-03-08T07:20:00Z",
        "2026-03-08T07:40:00Z",
        "2026-03-09T06:00:00Z",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_time_that_the_clock_shows_twice_runs_the_first_time_only() {
    let schedule = plain(cron("30 2 * * *"), "Europe/Berlin");
    let found = runs(&schedule, utc("2026-10-24T12:00:00Z"), 2);
    assert_eq!(found, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    // Asked within the second pass, the first one does not come back.
    let found = runs(&schedule, utc("2026-10-25T01:10:00Z"), 1);
    assert_eq!(found, ["2026-10-26T01:30:00Z"]);
}

#[test]
fn a_day_that_a_zone_left_out_does_not_run() {
    let schedule = plain(cron("0 2 * * *"), "Pacific/Apia");
    let found = runs(&schedule, utc("2011-12-29T00:00:00Z"), 3);
    let expected = [
        "2011-12-29T12:00:00Z",
        "2011-12-30T12:00:00Z",
        "2011-12-31T12:00:00Z",
    ];
    assert_eq!(found, expected);
}

#[test]
fn leap_days_ends_of_months_and_days_before_1970() {
    let schedule = plain(cron("0 0 29 2 *"), "UTC");
    let found = runs(&schedule, utc("2096-03-01T00:00:00Z"), 2);
    assert_eq!(found, ["2104-02-29T00:00:00Z", "2108-02-29T00:00:00Z"]);
    let schedule = plain(cron("0 12 31 * *"), "UTC");
    let found = runs(&schedule, utc("1968-12-31T12:00:00Z"), 3);
    let expected = [
        "1969-01-31T12:00:00Z",
        "1969-03-31T12:00:00Z",
        "1969-05-31T12:00:00Z",
    ];
    assert_eq!(found, expected);
    // Either day field may match when both are restricted.
    let schedule = plain(cron("0 0 13 * FRI"), "UTC");
    let found = runs(&schedule, utc("2026-03-10T00:00:00Z"), 3);
    let expected = [
        "2026-03-13T00:00:00Z",
        "2026-03-20T00:00:00Z",
        "2026-03-27T00:00:00Z",
    ];
    assert_eq!(found, expected);
}

#[test]
fn intervals_count_from_the_anchor_and_never_before_its_first() {
    let every = plain(
        Recurrence::Interval {
            every_ms: 30 * DAY_MS,
        },
        "UTC",
    );
    let anchor = utc("2026-01-01T10:00:00Z");
    let next = |after| (every.next_due(after, anchor, seed()) - anchor) / DAY_MS;
    assert_eq!(next(anchor - 400 * DAY_MS), 30);
    assert_eq!(next(anchor), 30);
    assert_eq!(next(anchor + 30 * DAY_MS - 1), 30);
    assert_eq!(next(anchor + 30 * DAY_MS), 60);
    assert_eq!(every.next_due(i64::MIN, -5, seed()), 30 * DAY_MS - 5);
}

#[test]
fn what_recurred_before_the_anchor_does_not_wait_for_a_window() {
    let nights = (22 * 60, 2 * 60);
    let schedule = windowed(cron("0 12 * * mon"), "UTC", &Weekday::ALL, nights);
    let monday = utc("2026-01-05T12:00:00Z");
    let tonight = utc("2026-01-05T22:00:00Z");
    assert_eq!(schedule.next_due(monday, monday - 1, seed()), tonight);
    assert_eq!(
        schedule.next_due(monday, monday, seed()),
        tonight + 7 * DAY_MS
    );
}

#[test]
fn a_window_moves_to_its_next_opening_also_over_midnight() {
    let nights = [Weekday::Friday, Weekday::Saturday];
    let schedule = windowed(
        cron("0 12 * * *"),
        "Europe/Berlin",
        &nights,
        (22 * 60, 2 * 60),
    );
    // Friday's noon waits for the night; Saturday's too; Sunday to Friday are one.
    let found = runs(&schedule, at("Europe/Berlin", "2026-01-08T12:00"), 3);
    let expected = [
        "2026-01-09T21:00:00Z",
        "2026-01-10T21:00:00Z",
        "2026-01-16T21:00:00Z",
    ];
    assert_eq!(found, expected);
    // 01:00 on Sunday is still Saturday's window, 02:00 no longer.
    let early = windowed(
        cron("0 1 * * sun"),
        "Europe/Berlin",
        &nights,
        (22 * 60, 2 * 60),
    );
    let found = runs(&early, at("Europe/Berlin", "2026-01-08T12:00"), 1);
    assert_eq!(found, ["2026-01-11T00:00:00Z"]);
    let late = windowed(
        cron("0 2 * * sun"),
        "Europe/Berlin",
        &nights,
        (22 * 60, 2 * 60),
    );
    let found = runs(&late, at("Europe/Berlin", "2026-01-10T12:00"), 1);
    assert_eq!(found, ["2026-01-16T21:00:00Z"]);
}

#[test]
fn a_window_that_the_clock_jumps_over_opens_after_the_jump() {
    let schedule = windowed(
        cron("0 0 * * *"),
        "Europe/Berlin",
        &Weekday::ALL,
        (130, 150),
    );
    let found = runs(&schedule, at("Europe/Berlin", "2026-03-28T12:00"), 2);
    assert_eq!(found, ["2026-03-29T01:00:00Z", "2026-03-30T00:10:00Z"]);
    // What recurs at that very moment is in it.
    let inside = windowed(
        cron("15 2 * * *"),
        "Europe/Berlin",
        &Weekday::ALL,
        (130, 150),
    );
    let found = runs(&inside, at("Europe/Berlin", "2026-03-28T12:00"), 2);
    assert_eq!(found, ["2026-03-29T01:00:00Z", "2026-03-30T00:15:00Z"]);
}

#[test]
fn a_window_does_not_open_for_a_day_that_the_zone_left_out() {
    let schedule = windowed(
        cron("0 1 * * *"),
        "Pacific/Apia",
        &[Weekday::Friday],
        (120, 240),
    );
    let found = runs(&schedule, utc("2011-12-25T00:00:00Z"), 1);
    assert_eq!(found, ["2012-01-05T12:00:00Z"]);
}

#[test]
fn ten_thousand_keys_spread_over_the_jitter_and_stay_in_the_window() {
    let mut terms = terms(cron("0 3 1 * *"), "UTC");
    terms.jitter_ms = 4 * 3_600_000;
    terms.window = Some(Window::new(&Weekday::ALL, 180, 240).expect("a window"));
    let schedule = Schedule::new(terms).expect("a schedule");
    let opens = utc("2026-05-01T03:00:00Z");
    let mut seconds = std::collections::HashMap::new();
    for key in 0..10_000 {
        let seed = Seed::of(&format!("key_{key}"));
        let due = schedule.next_due(opens - DAY_MS, 0, seed);
        assert!((opens..opens + 3_600_000).contains(&due));
        *seconds.entry(due / 1000).or_insert(0) += 1;
    }
    assert!(seconds.len() > 3000, "{} seconds", seconds.len());
    assert!(seconds.values().all(|keys| *keys < 15));
    // Stable over versions: a restart must not move what is due.
    assert_eq!(schedule.next_due(0, 0, seed()), 10_969_236);
}

#[test]
fn maximum_age_is_a_limit_that_nothing_moves() {
    let mut terms = terms(cron("0 3 1 1 *"), "UTC");
    terms.max_age_ms = Some(90 * DAY_MS);
    terms.jitter_ms = DAY_MS;
    let schedule = Schedule::new(terms).expect("a schedule");
    let now = utc("2026-05-01T00:00:00Z");
    assert_eq!(schedule.due_at(now, 0, seed(), now), now + 90 * DAY_MS);
    assert_eq!(
        schedule.due_at(now, 0, seed(), now - 100 * DAY_MS),
        now - 10 * DAY_MS
    );
    let november = utc("2026-11-01T00:00:00Z");
    let next = schedule.next_due(november, 0, seed());
    assert_eq!(schedule.due_at(november, 0, seed(), november), next);
    assert_eq!(schedule.due_at(november, 0, seed(), i64::MAX), next);
}

#[test]
fn the_ends_of_time_do_not_overflow() {
    let every = Recurrence::Interval {
        every_ms: MAX_INTERVAL_MS,
    };
    let ends = [
        i64::MIN,
        i64::MIN + 1,
        zone::earliest(),
        0,
        zone::latest() - 1,
        i64::MAX,
    ];
    for recurrence in [every, cron("0 0 29 2 *"), cron("* * * * *")] {
        let mut terms = terms(recurrence, "Pacific/Apia");
        terms.jitter_ms = MAX_JITTER_MS;
        let open = Schedule::new(terms.clone()).expect("a schedule");
        terms.window = Some(Window::new(&[Weekday::Friday], 1439, 1).expect("a window"));
        let narrow = Schedule::new(terms).expect("a schedule");
        for schedule in [open, narrow] {
            for after in ends {
                for anchor in ends {
                    let due = schedule.next_due(after, anchor, seed());
                    assert!(due > after || due == NEVER);
                    assert_eq!(schedule.next_due(i64::MAX, anchor, seed()), NEVER);
                }
            }
        }
    }
}

#[test]
fn what_is_refused_says_so_and_why() {
    let code = |text: &str| CronExpression::new(text).map_err(|error| error.code());
    for text in ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *"] {
        assert_eq!(code(text), Err("cron_never_fires"), "{text}");
    }
    let long = format!("0 0 {} * *", ["1"; 100_000].join(","));
    let broken = [
        "",
        "@daily",
        "@reboot",
        "0 0 * *",
        "0 0 0 * * *",
        "60 0 * * *",
        "0 24 * * *",
        "0 0 0 * *",
        "0 0 * 13 *",
        "0 0 * * 8",
        "*/0 * * * *",
        "5-1 * * * *",
        "0 0 L * *",
        "0 0 ? * *",
        "TZ=UTC 0 0 * *",
        "0 0 * * mon;",
        "é 0 * * *",
        &long,
    ];
    for text in broken {
        assert_eq!(code(text), Err("invalid_cron"), "{text}");
    }
    for name in [
        "",
        "Mars/Base",
        "Etc/Unknown",
        "../etc/passwd",
        "+02:00",
        "localtime",
    ] {
        assert_eq!(TimeZone::new(name), Err(ScheduleError::TimeZone), "{name}");
    }
    assert_eq!(zone("europe/BERLIN").as_str(), "Europe/Berlin");
    for (days, start, end) in [
        (0, 60, 120),
        (1, 60, 60),
        (1, 1440, 60),
        (1, 60, 1441),
        (1, 60, 0),
    ] {
        let window = Window::new(&Weekday::ALL[..days], start, end);
        assert_eq!(window, Err(ScheduleError::Window), "{days} {start} {end}");
    }
    let refusal = |change: fn(&mut ScheduleTerms)| {
        let mut terms = terms(Recurrence::Interval { every_ms: DAY_MS }, "UTC");
        change(&mut terms);
        Schedule::new(terms).map_err(|error| error.code()).err()
    };
    let short = Recurrence::Interval {
        every_ms: DAY_MS - 1,
    };
    assert_eq!(plain_error(short), Some("invalid_interval"));
    let long = Recurrence::Interval {
        every_ms: MAX_INTERVAL_MS + 1,
    };
    assert_eq!(plain_error(long), Some("invalid_interval"));
    assert_eq!(
        refusal(|terms| terms.jitter_ms = -1),
        Some("invalid_jitter")
    );
    assert_eq!(
        refusal(|terms| terms.jitter_ms = DAY_MS + 1),
        Some("invalid_jitter")
    );
    assert_eq!(
        refusal(|terms| terms.max_age_ms = Some(0)),
        Some("invalid_max_age")
    );
    assert_eq!(refusal(|terms| terms.jitter_ms = DAY_MS), None);
}

fn plain_error(recurrence: Recurrence) -> Option<&'static str> {
    Schedule::new(terms(recurrence, "UTC"))
        .map_err(|error| error.code())
        .err()
}

#[test]
fn a_text_is_taken_in_its_one_form_only() {
    let good = "v1;cron=0 3 * * mon;zone=Europe/Berlin;window=mon,sun@22:00-24:00;jitter=60000;mode=issue_pending;max_age=86400000";
    assert_eq!(Schedule::parse(good).expect("a schedule").to_text(), good);
    let wrong = [
        "",
        "v2;every=86400000;zone=UTC;jitter=0;mode=automatic",
        "v1;zone=UTC;jitter=0;mode=automatic",
        "v1;every=86400000;zone=UTC;mode=automatic;jitter=0",
        "v1;every=86400000;zone=UTC;jitter=0;mode=automatic;",
        "v1;every=86400000;zone=UTC;jitter=0;mode=automatic;mode=automatic",
        "v1;every=86400000;zone=UTC;jitter=00;mode=automatic",
        "v1;every=+86400000;zone=UTC;jitter=0;mode=automatic",
        "v1;every=86400000;zone=UTC;jitter=0;mode=Automatic",
        "v1;every=86400000;zone=utc;jitter=0;mode=automatic",
        "v1;every=86400000;zone=UTC;jitter=0;mode=automatic\n",
        "v1;every=99999999999999999999;zone=UTC;jitter=0;mode=automatic",
        "v1;cron=0 3 * * MON;zone=UTC;jitter=0;mode=automatic",
        "v1;every=86400000;zone=UTC;window=sun,mon@22:00-24:00;jitter=0;mode=automatic",
        "v1;every=86400000;zone=UTC;window=mon@2:00-24:00;jitter=0;mode=automatic",
        "v1;every=86400000;zone=UTC;window=mon@22:60-24:00;jitter=0;mode=automatic",
        "v1;every=86400000;zone=UTC;window=mon@22:65535-24:00;jitter=0;mode=automatic",
        "v1;every=86400000;zone=UTC;window=mon 22:00-24:00;jitter=0;mode=automatic",
    ];
    for text in wrong {
        let error = Schedule::parse(text).expect_err(text);
        assert_eq!(error.code(), "invalid_schedule", "{text}: {error}");
    }
    let twice = "v1;every=86400000;zone=UTC;jitter=0;mode=automatic;mode=automatic";
    let error = Schedule::parse(twice).expect_err("twice");
    assert!(error.to_string().ends_with("each once"), "{error}");
    let error = Schedule::parse("v1;every=1;zone=UTC;jitter=0;mode=automatic").expect_err("short");
    assert_eq!(error, ScheduleError::Interval);
}
