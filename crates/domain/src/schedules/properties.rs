//! Properties over many schedules, moments and keys.

use std::collections::BTreeMap;

use jiff::civil::Date;
use proptest::prelude::*;

use super::tests::{at, cron, seed, terms, zone};
use super::*;

const ZONES: [&str; 7] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "Pacific/Apia",
];
const CRONS: [&str; 9] = [
    "30 2 * * *",
    "0 0 1 * *",
    "*/7 1-3 * * *",
    "* * * * *",
    "59 23 * * sun",
    "0 12 31 * *",
    "0 0 29 2 *",
    "15 2 */3 * mon",
    "0 4 1,15 3,10 fri",
];

/// A moment, mostly near this century's changes of the clock, sometimes anywhere.
fn moment() -> impl Strategy<Value = i64> {
    let year = at("UTC", "2026-01-01T00:00");
    prop_oneof![
        6 => year..year + 2 * 365 * DAY_MS,
        // Each change of the clock of 2026 in these zones, and the hours around it.
        3 => (0..5_usize, -6 * 3_600_000..6 * 3_600_000_i64).prop_map(|(which, around)| {
            let changes = ["2026-03-29T01:00", "2026-10-25T01:00", "2026-03-08T07:00",
                "2026-11-01T06:00", "2026-10-03T15:30"];
            at("UTC", changes[which]) + around
        }),
        1 => -4_000_000_000_000..40_000_000_000_000_i64,
    ]
}

fn window() -> impl Strategy<Value = Window> {
    let days = proptest::sample::subsequence(Weekday::ALL.to_vec(), 1..=7);
    (days, 0..1440_u16, 1..=1440_u16).prop_filter_map("a span", |(days, start, end)| {
        Window::new(&days, start, end).ok()
    })
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let recurrence = prop_oneof![
        (MIN_INTERVAL_MS..=MAX_INTERVAL_MS).prop_map(|every_ms| Recurrence::Interval { every_ms }),
        proptest::sample::select(&CRONS[..]).prop_map(cron),
    ];
    let jitter = prop_oneof![Just(0), 0..=3_600_000_i64, 0..=DAY_MS];
    (
        recurrence,
        proptest::sample::select(&ZONES[..]),
        proptest::option::of(window()),
        jitter,
        proptest::sample::select(&Mode::ALL[..]),
        proptest::option::of(MIN_LIFETIME_MS..=MAX_LIFETIME_MS),
    )
        .prop_map(
            |(recurrence, zone_name, window, jitter_ms, mode, max_age_ms)| {
                let terms = ScheduleTerms {
                    window,
                    jitter_ms,
                    mode,
                    max_age_ms,
                    ..terms(recurrence, zone_name)
                };
                Schedule::new(terms).expect("a schedule")
            },
        )
}

/// The same schedule without one of its parts.
fn without(schedule: &Schedule, change: fn(&mut ScheduleTerms)) -> Schedule {
    let mut terms = schedule.terms().clone();
    change(&mut terms);
    Schedule::new(terms).expect("a schedule")
}

/// Whether the wall clock, read independently of the code under test, is inside the window.
fn is_inside(window: &Window, zone_name: &str, moment: i64) -> bool {
    let zone = jiff::tz::TimeZoneDatabase::bundled()
        .get(zone_name)
        .expect("zone");
    let local = zone.to_datetime(jiff::Timestamp::from_millisecond(moment).expect("a moment"));
    let minute = u16::try_from(local.hour()).expect("hour") * 60
        + u16::try_from(local.minute()).expect("minute");
    let opens = |date: Date| {
        let index = usize::try_from(date.weekday().to_monday_zero_offset()).expect("index");
        window.days().contains(&Weekday::ALL[index])
    };
    let (start, end) = (window.start_minute(), window.end_minute());
    let yesterday = local.date().yesterday().expect("a day");
    if start < end {
        opens(local.date()) && (start..end).contains(&minute)
    } else {
        (opens(local.date()) && minute >= start) || (opens(yesterday) && minute < end)
    }
}

/// Whether the zone's clock was changed within a day of that moment.
fn is_near_change(zone_name: &str, moment: i64) -> bool {
    let zone = jiff::tz::TimeZoneDatabase::bundled()
        .get(zone_name)
        .expect("zone");
    let offset = |at| zone.to_offset(jiff::Timestamp::from_millisecond(at).expect("a moment"));
    offset(moment - DAY_MS) != offset(moment + DAY_MS)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn due_moments_come_after_in_order_and_again_the_same(
        schedule in schedule(), one in moment(), other in moment(), anchor in moment(), key in 0..1000_u32,
    ) {
        let seed = Seed::of(&key.to_string());
        let (early, late) = (one.min(other), one.max(other));
        let due = |after| schedule.next_due(after, anchor, seed);
        prop_assert!(due(early) > early);
        prop_assert!(due(early) <= due(late));
        prop_assert_eq!(due(early), schedule.clone().next_due(early, anchor, Seed::of(&key.to_string())));
        // Nothing lies between: from just before it, and from anywhere on the way, it is next.
        let next = due(early);
        prop_assert_eq!(due(next - 1), next);
        prop_assert_eq!(due(early + (next - early) / 2), next);
    }

    #[test]
    fn due_moments_lie_in_the_window(schedule in schedule(), after in moment(), key in 0..99_u32) {
        let due = schedule.next_due(after, 0, Seed::of(&key.to_string()));
        let zone_name = schedule.terms().time_zone.as_str();
        if let Some(window) = &schedule.terms().window {
            prop_assert!(
                is_inside(window, zone_name, due) || is_near_change(zone_name, due),
                "{} outside of {:?}", due, window
            );
        }
    }

    #[test]
    fn jitter_delays_by_no_more_than_it_may(
        schedule in schedule(), after in moment(), key in 0..99_u32,
    ) {
        let due = schedule.next_due(after, 0, Seed::of(&key.to_string()));
        // The last due moment without jitter that is not after this one.
        let still = without(&schedule, |terms| terms.jitter_ms = 0);
        let base = still.next_due(due - schedule.terms().jitter_ms - 1, 0, seed());
        prop_assert!(base <= due && due - base <= schedule.terms().jitter_ms);
    }

    #[test]
    fn a_window_only_delays(schedule in schedule(), after in moment()) {
        let free = without(&schedule, |terms| { terms.window = None; terms.jitter_ms = 0 });
        let moved = without(&schedule, |terms| terms.jitter_ms = 0);
        let base = free.next_due(after, 0, seed());
        let due = moved.next_due(base - 1, 0, seed());
        prop_assert!(due >= base);
        prop_assert!(due - base <= window::MAX_WAIT_MS);
    }

    #[test]
    fn a_text_gives_the_schedule_back(schedule in schedule()) {
        let text = schedule.to_text();
        prop_assert_eq!(Schedule::parse(&text), Ok(schedule));
    }

    #[test]
    fn foreign_text_is_refused_or_has_its_one_form(text in "v1;(every=[0-9]{8,10}|cron=[0-9*/, a-z-]{9,14});zone=(UTC|utc|Asia/Kathmandu);(window=(mon|tue|,){1,3}@[0-9:]{5}-[0-9:]{5};)?jitter=[0-9]{1,9};mode=automatic") {
        if let Ok(schedule) = Schedule::parse(&text) {
            prop_assert_eq!(schedule.to_text(), text);
        }
    }

    #[test]
    fn any_expression_is_answered(text in "[0-9*,/a-zL#-]{1,9}( [0-9*,/-]{1,9}){3} [0-9*,/a-z-]{1,5}", after in moment()) {
        if let Ok(expression) = CronExpression::new(&text) {
            let schedule = Schedule::new(terms(Recurrence::Cron(expression), "Africa/Casablanca"))
                .expect("a schedule");
            let due = schedule.next_due(after, 0, seed());
            prop_assert!(due > after && due != NEVER);
        }
    }
}

/// Local days of the zone on which its clock shows anything, from `first`, for two years.
fn local_days(zone_name: &str, first: Date) -> Vec<Date> {
    let zone = zone(zone_name);
    first
        .series(jiff::Span::new().days(1))
        .take(731)
        .filter(|day| zone.has_day(*day))
        .collect()
}

#[test]
fn two_years_across_every_change_run_once_each_scheduled_local_day() {
    // Years with changes in all these zones; Samoa left out a day and ended its summer time.
    let cases = [
        ("Europe/Berlin", 2026),
        ("America/New_York", 2026),
        ("Australia/Lord_Howe", 2026),
        ("Asia/Kathmandu", 2026),
        ("Asia/Kathmandu", 1985),
        ("Africa/Casablanca", 2026),
        ("Africa/Cairo", 2026),
        ("Pacific/Apia", 2011),
        ("Pacific/Apia", 2026),
    ];
    let weekdays = |day: &Date| day.weekday().to_monday_zero_offset() < 5;
    for (zone_name, year) in cases {
        for (time, minutes) in [("30 2", 150), ("15 0", 15), ("0 3", 180), ("45 1", 105)] {
            for (days, only_weekdays) in [("* * *", false), ("* * mon-fri", true)] {
                let schedule = Schedule::new(terms(cron(&format!("{time} {days}")), zone_name))
                    .expect("a schedule");
                let first = Date::constant(year, 1, 1);
                let scheduled: Vec<Date> = local_days(zone_name, first)
                    .into_iter()
                    .filter(|day| !only_weekdays || weekdays(day))
                    .collect();
                let mut now = schedule
                    .terms()
                    .time_zone
                    .first_moment(first.at(0, 0, 0, 0))
                    - 1;
                let mut counts = BTreeMap::new();
                for _ in 0..scheduled.len() {
                    now = schedule.next_due(now, 0, seed());
                    let local = schedule.terms().time_zone.local(now);
                    let off = i64::from(local.hour()) * 60 + i64::from(local.minute()) - minutes;
                    assert!((0..=60).contains(&off), "{zone_name} {time}: {local}");
                    *counts.entry(local.date()).or_insert(0) += 1;
                }
                assert!(
                    counts.values().all(|count| *count == 1),
                    "{zone_name} {time}"
                );
                assert_eq!(
                    counts.into_keys().collect::<Vec<_>>(),
                    scheduled,
                    "{zone_name} {time}"
                );
            }
        }
    }
}
