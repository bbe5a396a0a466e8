//! Notices before a rotation is due or a secret expires: 30, 14, 7 and 1 days, on the day, and
//! overdue. Once each, and never a heap of them after the machine slept.

use super::TimeZone;

/// A notice, least urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoticeKind {
    /// 30 days or fewer are left.
    Days30,
    /// 14 days or fewer are left.
    Days14,
    /// 7 days or fewer are left.
    Days7,
    /// It is tomorrow.
    Days1,
    /// It is today.
    Today,
    /// The day has passed.
    Overdue,
}

impl NoticeKind {
    /// All six, least urgent first.
    pub const ALL: [Self; 6] = [
        Self::Days30,
        Self::Days14,
        Self::Days7,
        Self::Days1,
        Self::Today,
        Self::Overdue,
    ];

    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Days30 => "days_30",
            Self::Days14 => "days_14",
            Self::Days7 => "days_7",
            Self::Days1 => "days_1",
            Self::Today => "today",
            Self::Overdue => "overdue",
        }
    }

    /// The notice of that stable text.
    #[must_use]
    pub fn from_stable(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The notice that fits so many calendar days before the day it is due.
    fn of(days_left: i64) -> Option<Self> {
        match days_left {
            ..0 => Some(Self::Overdue),
            0 => Some(Self::Today),
            1 => Some(Self::Days1),
            2..=7 => Some(Self::Days7),
            8..=14 => Some(Self::Days14),
            15..=30 => Some(Self::Days30),
            _ => None,
        }
    }
}

/// What to do about notices now. Both parts are to be recorded as settled for this due moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoticesDue {
    /// The one to send.
    pub send: Option<NoticeKind>,
    /// Those that were missed and are not sent any more: a more urgent one says it all.
    pub passed: Vec<NoticeKind>,
}

/// Which notice about `due_at` (the next rotation, or a secret's expiry) is to go out at `now`,
/// both Unix ms. Days are calendar days in `time_zone`: "today" lasts until its midnight,
/// whatever the hour, and "overdue" begins there.
///
/// `settled` are the notices sent or passed for exactly this `due_at`. When the due moment is
/// moved, those of the old one are dropped and none are settled for the new one. Each notice is
/// sent at most once, and none after a more urgent one, even when the clock is set back.
#[must_use]
pub fn notices_due(
    due_at: i64,
    now: i64,
    settled: &[NoticeKind],
    time_zone: &TimeZone,
) -> NoticesDue {
    let (today, due_day) = (time_zone.local(now).date(), time_zone.local(due_at).date());
    let days_left = today.duration_until(due_day).as_hours() / 24;
    let Some(kind) = NoticeKind::of(days_left) else {
        return NoticesDue::default();
    };
    NoticesDue {
        send: Some(kind).filter(|kind| settled.iter().all(|settled| settled < kind)),
        passed: NoticeKind::ALL
            .into_iter()
            .filter(|other| *other < kind && !settled.contains(other))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::NoticeKind::{Days1, Days7, Days14, Days30, Overdue, Today};
    use super::*;
    use crate::api_keys::DAY_MS;
    use crate::schedules::NEVER;
    use crate::schedules::tests::{at, zone};

    const HOUR_MS: i64 = DAY_MS / 24;

    /// What a face does: sends, and records both parts.
    fn wake(
        due_at: i64,
        now: i64,
        settled: &mut Vec<NoticeKind>,
        time_zone: &TimeZone,
    ) -> Option<NoticeKind> {
        let notices = notices_due(due_at, now, settled, time_zone);
        settled.extend(notices.passed);
        settled.extend(notices.send);
        notices.send
    }

    #[test]
    fn ac_143_awake_all_the_time_each_notice_goes_out_once_on_its_day() {
        let berlin = zone("Europe/Berlin");
        let due_at = at("Europe/Berlin", "2026-04-10T03:00");
        let mut settled = Vec::new();
        let mut sent = Vec::new();
        for hour in -40 * 24..5 * 24 {
            let now = due_at + hour * HOUR_MS;
            if let Some(kind) = wake(due_at, now, &mut settled, &berlin) {
                sent.push((kind, berlin.local(now).date().to_string()));
            }
        }
        let expected = [
            (Days30, "2026-03-11"),
            (Days14, "2026-03-27"),
            (Days7, "2026-04-03"),
            (Days1, "2026-04-09"),
            (Today, "2026-04-10"),
            (Overdue, "2026-04-11"),
        ];
        let expected: Vec<_> = expected.map(|(kind, day)| (kind, day.to_owned())).into();
        assert_eq!(sent, expected);
    }

    #[test]
    fn ac_143_after_a_long_sleep_only_the_most_urgent_is_sent_and_the_rest_passed() {
        let utc = zone("UTC");
        let due_at = at("UTC", "2026-06-30T12:00");
        let slept = notices_due(due_at, due_at - 3 * DAY_MS, &[Days30], &utc);
        assert_eq!(slept.send, Some(Days7));
        assert_eq!(slept.passed, [Days14]);
        let slept = notices_due(due_at, due_at + 90 * DAY_MS, &[], &utc);
        assert_eq!(slept.send, Some(Overdue));
        assert_eq!(slept.passed, [Days30, Days14, Days7, Days1, Today]);
        let awake = notices_due(due_at, due_at + 91 * DAY_MS, &NoticeKind::ALL, &utc);
        assert_eq!(awake, NoticesDue::default());
    }

    #[test]
    fn ac_143_today_and_overdue_follow_the_calendar_of_the_zone() {
        let kathmandu = zone("Asia/Kathmandu");
        let due_at = at("Asia/Kathmandu", "2026-06-30T00:30");
        let day_before = at("Asia/Kathmandu", "2026-06-29T23:59");
        let last_minute = at("Asia/Kathmandu", "2026-06-30T23:59");
        let send = |now, time_zone: &TimeZone| notices_due(due_at, now, &[], time_zone).send;
        assert_eq!(send(day_before, &kathmandu), Some(Days1));
        assert_eq!(send(due_at - 30 * 60_000, &kathmandu), Some(Today));
        assert_eq!(send(last_minute, &kathmandu), Some(Today));
        assert_eq!(send(last_minute + 60_000, &kathmandu), Some(Overdue));
        // The same moments in UTC: the due day is still the 29th.
        assert_eq!(send(day_before, &zone("UTC")), Some(Today));
    }

    #[test]
    fn ac_143_a_clock_set_back_sends_nothing_less_urgent() {
        let utc = zone("UTC");
        let due_at = at("UTC", "2026-06-30T12:00");
        let mut settled = Vec::new();
        assert_eq!(wake(due_at, due_at, &mut settled, &utc), Some(Today));
        let earlier = due_at - 10 * DAY_MS;
        assert_eq!(wake(due_at, earlier, &mut settled, &utc), None);
        settled = vec![Today];
        assert_eq!(wake(due_at, earlier, &mut settled, &utc), None);
    }

    #[test]
    fn ac_143_moments_outside_the_calendar_do_no_harm() {
        let utc = zone("UTC");
        assert_eq!(notices_due(NEVER, 0, &[], &utc), NoticesDue::default());
        assert_eq!(notices_due(i64::MIN, 0, &[], &utc).send, Some(Overdue));
        assert_eq!(notices_due(0, i64::MIN, &[], &utc), NoticesDue::default());
        assert_eq!(notices_due(0, i64::MAX, &[], &utc).send, Some(Overdue));
    }

    #[test]
    fn notices_have_stable_texts() {
        for kind in NoticeKind::ALL {
            assert_eq!(NoticeKind::from_stable(kind.as_str()), Some(kind));
        }
        assert_eq!(NoticeKind::from_stable("days_2"), None);
    }

    proptest! {
        #[test]
        fn ac_143_each_notice_at_most_once_over_any_sleeps(
            steps in proptest::collection::vec(-2 * DAY_MS..9 * DAY_MS, 1..60),
            start in 0..60_i64,
            place in 0..3_usize,
        ) {
            let name = ["Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia"][place];
            let time_zone = zone(name);
            let due_at = at(name, "2026-10-05T02:30");
            let mut now = due_at - start * DAY_MS;
            let (mut settled, mut sent) = (Vec::new(), Vec::new());
            for step in steps {
                now += step;
                sent.extend(wake(due_at, now, &mut settled, &time_zone));
            }
            prop_assert!(sent.is_sorted_by(|one, next| one < next), "{:?}", sent);
            let mut once = settled.clone();
            once.sort();
            once.dedup();
            prop_assert_eq!(once.len(), settled.len(), "settled twice: {:?}", settled);
        }

        #[test]
        fn ac_143_after_the_due_moment_moved_away_nothing_is_sent(
            left in -40..31_i64,
            wakes in proptest::collection::vec(0..59 * DAY_MS, 1..20),
        ) {
            let utc = zone("UTC");
            let start = at("UTC", "2026-06-30T12:00");
            let mut settled = Vec::new();
            wake(start + left * DAY_MS, start, &mut settled, &utc);
            // Rotated: the next rotation is in 90 days, and nothing is settled for it.
            settled.clear();
            for after in wakes {
                let now = start + after;
                prop_assert_eq!(wake(start + 90 * DAY_MS, now, &mut settled, &utc), None);
            }
        }
    }
}
