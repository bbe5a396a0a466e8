//! Schedules of rotations, notices before them, and the alerts of failures.

use anyhow::Result;
use keywright_domain::api_keys::{
    DAY_MS, Environment, NewApiKey, Owner, OwnerKind, Policy, PolicyEnvironment, RotationState,
};
use keywright_domain::schedules::{
    Mode, NoticeKind, Recurrence, Schedule, ScheduleTerms, TimeZone,
};
use keywright_domain::scopes::ScopeSet;
use keywright_registry::{
    AlertQuery, Issued, KeySchedule, Notice, NoticeSubject, PrincipalChange, ScheduleWork,
};

use super::{Fixture, START, wish};

const HOUR: i64 = 60 * 60 * 1000;

fn every(days: i64, mode: Mode) -> Result<Schedule> {
    Ok(Schedule::new(ScheduleTerms {
        recurrence: Recurrence::Interval {
            every_ms: days * DAY_MS,
        },
        time_zone: TimeZone::new("UTC")?,
        window: None,
        jitter_ms: 0,
        mode,
        max_age_ms: None,
    })?)
}

fn year(name: &str) -> NewApiKey {
    NewApiKey {
        lifetime_ms: Some(365 * DAY_MS),
        ..wish(name)
    }
}

async fn scheduled(fixture: &Fixture, days: i64, mode: Mode) -> Result<Issued> {
    let issued = fixture.issue_as(&year("scheduled")).await?;
    fixture.verify(&issued).await?;
    fixture
        .registry
        .set_schedule(
            &fixture.actor,
            &issued.key.id,
            &every(days, mode)?,
            "env:API_KEY",
        )
        .await?;
    Ok(issued)
}

/// What a face does with its notices: sends all of them.
async fn send_all(fixture: &Fixture) -> Result<Vec<(NoticeSubject, NoticeKind)>> {
    let mut sent = Vec::new();
    for notice in fixture.registry.due_notices(500).await? {
        assert!(
            fixture
                .registry
                .mark_notice_sent(&notice.id, "desktop")
                .await?
        );
        sent.push((notice.subject, notice.kind));
    }
    Ok(sent)
}

#[tokio::test]
async fn rule_11_a_schedule_is_set_paused_and_removed() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let issued = scheduled(&fixture, 30, Mode::Automatic).await?;
    let id = &issued.key.id;
    let set = registry.find_schedule(id).await?.expect("it was set");
    assert_eq!(set.next_due_at, START + 30 * DAY_MS);
    assert_eq!(set.delivery, "env:API_KEY");
    fixture.set_clock(START + 10 * DAY_MS);
    let weekly = registry
        .set_schedule(actor, id, &every(7, Mode::IssuePending)?, "")
        .await?;
    assert_eq!(weekly.id, set.id, "one schedule a key");
    assert_eq!(weekly.next_due_at, START + 17 * DAY_MS);
    let paused = registry.pause_schedule(actor, id, true).await?;
    assert_eq!(paused.paused_at, Some(START + 10 * DAY_MS));
    fixture.set_clock(START + 40 * DAY_MS);
    let runs = registry
        .run_due_schedules(actor, &fixture.peppers, 10)
        .await?;
    assert!(runs.is_empty(), "{runs:?}");
    let resumed = registry.pause_schedule(actor, id, false).await?;
    assert_eq!(resumed.next_due_at, START + 45 * DAY_MS);
    assert!(registry.remove_schedule(actor, id).await?);
    assert!(!registry.remove_schedule(actor, id).await?);
    assert_eq!(registry.find_schedule(id).await?, None);
    let set = fixture.actions().await?;
    let count = |action: &str| set.iter().filter(|one| *one == action).count();
    assert_eq!((count("schedule.set"), count("schedule.removed")), (4, 1));
    registry.revoke_api_key(actor, id, "").await?;
    let refused = registry
        .set_schedule(actor, id, &every(7, Mode::NotifyOnly)?, "")
        .await;
    assert_eq!(refused.expect_err("revoked").code(), "key_revoked");
    Ok(())
}

#[tokio::test]
async fn rule_11_schedules_are_listed_by_when_they_are_due_and_one_is_made_due_now() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let later = scheduled(&fixture, 30, Mode::IssuePending).await?;
    let sooner = scheduled(&fixture, 7, Mode::NotifyOnly).await?;
    let keys = |list: &[KeySchedule]| -> Vec<_> {
        let ids = list.iter().map(|one| one.key_id.clone());
        ids.collect()
    };
    let first = registry.list_schedules(None, None, 1).await?;
    assert_eq!(keys(&first), std::slice::from_ref(&sooner.key.id));
    let after = Some((first[0].next_due_at, first[0].id.as_str()));
    let rest = registry.list_schedules(None, after, 10).await?;
    assert_eq!(keys(&rest), std::slice::from_ref(&later.key.id));
    assert_eq!(
        registry.find_schedule(&later.key.id).await?.as_ref(),
        Some(&rest[0])
    );
    let owner = &sooner.key.owner.id;
    assert_eq!(
        registry.list_schedules(Some(owner), None, 10).await?.len(),
        2
    );
    assert!(
        registry
            .list_schedules(Some("nobody"), None, 10)
            .await?
            .is_empty()
    );

    fixture.set_clock(START + HOUR);
    registry.pause_schedule(actor, &later.key.id, true).await?;
    let due = registry.hasten_schedule(actor, &later.key.id).await?;
    assert_eq!((due.next_due_at, due.paused_at), (START + HOUR, None));
    let list = registry.list_schedules(None, None, 10).await?;
    assert_eq!(keys(&list), [later.key.id.clone(), sooner.key.id.clone()]);
    let runs = registry
        .run_due_schedules(actor, &fixture.peppers, 10)
        .await?;
    assert!(
        matches!(&runs[..], [one] if matches!(one.work, ScheduleWork::Take { .. })),
        "{runs:?}"
    );
    let unknown = registry.hasten_schedule(actor, "x").await;
    assert_eq!(unknown.expect_err("unknown").code(), "key_not_found");
    registry.remove_schedule(actor, &sooner.key.id).await?;
    let none = registry.hasten_schedule(actor, &sooner.key.id).await;
    assert_eq!(none.expect_err("removed").code(), "schedule_not_found");
    Ok(())
}

#[tokio::test]
async fn rule_11_after_a_long_sleep_there_is_one_run_and_its_secret_works() -> Result<()> {
    let fixture = super::fixture().await?;
    let old = scheduled(&fixture, 7, Mode::IssuePending).await?;
    fixture.set_clock(START + 7 * DAY_MS - 1);
    let run = || async {
        fixture
            .registry
            .run_due_schedules(&fixture.actor, &fixture.peppers, 10)
            .await
    };
    assert!(run().await?.is_empty(), "not due yet");
    fixture.set_clock(START + 40 * DAY_MS);
    let mut runs = run().await?;
    assert_eq!(runs.len(), 1, "{runs:?}");
    let run_once = runs.remove(0);
    assert_eq!(run_once.due_at, START + 7 * DAY_MS);
    assert_eq!(run_once.next_due_at, START + 42 * DAY_MS);
    let ScheduleWork::Take { issued, rotation } = run_once.work else {
        panic!("a person takes it");
    };
    assert_eq!(rotation.state, RotationState::Pending);
    assert!(run().await?.is_empty(), "once");
    assert_eq!(fixture.code(&old).await?, "valid");
    assert_eq!(fixture.code(&issued).await?, "valid");
    // Its overlap runs: the next one waits for the end of it, instead of cutting it short.
    fixture.set_clock(START + 42 * DAY_MS);
    assert_eq!(
        fixture
            .registry
            .find_schedule(&old.key.id)
            .await?
            .map(|schedule| schedule.next_due_at),
        Some(START + 42 * DAY_MS)
    );
    assert_eq!(run().await?.len(), 1, "the overlap of a day is over");
    Ok(())
}

#[tokio::test]
async fn rule_11_an_overlap_that_runs_is_not_cut_short_by_a_schedule() -> Result<()> {
    let fixture = super::fixture().await?;
    let old = scheduled(&fixture, 7, Mode::IssuePending).await?;
    fixture.set_clock(START + 6 * DAY_MS);
    let new = fixture.rotate(&old.key.id, 3 * DAY_MS).await?;
    fixture.verify(&new).await?;
    // Rotated by hand a day before it was due: the due moment comes while both secrets work.
    fixture.set_clock(START + 7 * DAY_MS);
    let runs = fixture
        .registry
        .run_due_schedules(&fixture.actor, &fixture.peppers, 10)
        .await?;
    assert!(runs.is_empty(), "{runs:?}");
    assert_eq!(fixture.code(&old).await?, "valid");
    let schedule = fixture.registry.find_schedule(&old.key.id).await?;
    assert_eq!(
        schedule.map(|schedule| schedule.next_due_at),
        Some(START + 9 * DAY_MS)
    );
    Ok(())
}

#[tokio::test]
async fn rule_11_a_run_is_claimed_once_among_nodes() -> Result<()> {
    let fixture = super::fixture().await?;
    let keys = [
        scheduled(&fixture, 7, Mode::Automatic).await?,
        scheduled(&fixture, 7, Mode::Automatic).await?,
    ];
    let second = fixture.second().await?;
    fixture.set_clock(START + 8 * DAY_MS);
    let (one, other) = tokio::join!(
        fixture
            .registry
            .run_due_schedules(&fixture.actor, &fixture.peppers, 10),
        second.run_due_schedules(&fixture.actor, &fixture.peppers, 10),
    );
    let runs: Vec<_> = one?.into_iter().chain(other?).collect();
    assert_eq!(runs.len(), 2, "each key once: {runs:?}");
    for run in &runs {
        let ScheduleWork::Deliver { target, .. } = &run.work else {
            panic!("{run:?}");
        };
        assert_eq!(target, "env:API_KEY");
    }
    for issued in &keys {
        let rotations = fixture.registry.list_rotations(&issued.key.id).await?;
        assert_eq!(rotations.len(), 1, "{rotations:?}");
        assert_eq!(fixture.code(issued).await?, "valid");
    }
    second.close().await;
    Ok(())
}

#[tokio::test]
async fn rule_11_ac_143_a_refused_rotation_stays_due_says_why_and_is_told_once() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let issued = scheduled(&fixture, 7, Mode::Automatic).await?;
    let id = &issued.key.id;
    // No scheduled rotation overlaps for as long as this policy wants, of a secret that lives a week.
    let short = fixture
        .issue_as(&NewApiKey {
            lifetime_ms: Some(7 * DAY_MS),
            ..wish("short")
        })
        .await?;
    registry
        .set_schedule(
            &fixture.actor,
            &short.key.id,
            &every(6, Mode::Automatic)?,
            "",
        )
        .await?;
    let policy = Policy {
        min_overlap_ms: 8 * DAY_MS,
        ..Policy::default_for(Environment::LIVE)
    };
    registry.set_policy(&fixture.actor, &policy).await?;
    let run = || registry.run_due_schedules(&fixture.actor, &fixture.peppers, 10);
    let due_at = START + 6 * DAY_MS;
    let mut sent = Vec::new();
    for hour in 0..23 {
        fixture.set_clock(due_at + hour * HOUR);
        let runs = run().await?;
        let [one] = &runs[..] else {
            panic!("{runs:?}");
        };
        let ScheduleWork::Refused(error) = &one.work else {
            panic!("{runs:?}");
        };
        assert_eq!(error.code(), "policy_violation");
        assert_eq!(
            (one.due_at, one.next_due_at),
            (due_at, fixture.now() + HOUR)
        );
        assert!(run().await?.is_empty(), "not at once");
        let schedule = registry.find_schedule(&short.key.id).await?.expect("set");
        assert_eq!(
            (schedule.next_due_at, schedule.retry_at),
            (due_at, Some(fixture.now() + HOUR))
        );
        let why = schedule.last_error.expect("why");
        assert!(why.contains("minimum overlap"), "{why}");
        for notice in registry.due_notices(500).await? {
            if notice.key_id == short.key.id && notice.subject == NoticeSubject::Rotation {
                sent.push(notice.kind);
            }
            registry.mark_notice_sent(&notice.id, "mail").await?;
        }
    }
    assert!(sent.len() <= 2, "today, and overdue: {sent:?}");
    registry
        .remove_policy(&fixture.actor, &PolicyEnvironment::One(Environment::LIVE))
        .await?;
    // Whoever mended the rule need not wait.
    let hastened = registry
        .hasten_schedule(&fixture.actor, &short.key.id)
        .await?;
    assert_eq!((hastened.retry_at, hastened.last_error), (None, None));
    assert_eq!(hastened.next_due_at, due_at, "it was due, and is");
    let runs = run().await?;
    assert!(
        matches!(&runs[..], [one] if matches!(one.work, ScheduleWork::Deliver { .. })),
        "{runs:?}"
    );
    let schedule = registry.find_schedule(&short.key.id).await?.expect("set");
    assert!(schedule.next_due_at > fixture.now());
    assert_eq!((schedule.retry_at, schedule.last_error), (None, None));
    assert_eq!(registry.list_rotations(id).await?, []);
    // What is tried again by itself leaves nothing of the refusal either.
    registry.set_policy(&fixture.actor, &policy).await?;
    fixture.set_clock(schedule.next_due_at);
    let refused = run().await?.iter().any(|one| one.key_id == short.key.id);
    let schedule = registry.find_schedule(&short.key.id).await?.expect("set");
    assert!(refused && schedule.retry_at.is_some(), "{schedule:?}");
    registry
        .remove_policy(&fixture.actor, &PolicyEnvironment::One(Environment::LIVE))
        .await?;
    fixture.set_clock(fixture.now() + HOUR);
    run().await?;
    let schedule = registry.find_schedule(&short.key.id).await?.expect("set");
    assert!(schedule.next_due_at > fixture.now(), "{schedule:?}");
    assert_eq!((schedule.retry_at, schedule.last_error), (None, None));
    Ok(())
}

#[tokio::test]
async fn rule_11_a_scheduled_rotation_lives_no_longer_than_the_policy_allows_now() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let of_a_year = scheduled(&fixture, 7, Mode::Automatic).await?;
    let for_ever = fixture
        .issue_as(&NewApiKey {
            lifetime_ms: None,
            allow_never_expires: true,
            ..wish("for ever")
        })
        .await?;
    let weekly = every(7, Mode::Automatic)?;
    registry
        .set_schedule(&fixture.actor, &for_ever.key.id, &weekly, "")
        .await?;
    let policy = Policy {
        max_lifetime_ms: 30 * DAY_MS,
        ..Policy::default_for(Environment::LIVE)
    };
    registry.set_policy(&fixture.actor, &policy).await?;
    fixture.set_clock(START + 8 * DAY_MS);
    let runs = registry
        .run_due_schedules(&fixture.actor, &fixture.peppers, 10)
        .await?;
    assert_eq!(runs.len(), 2, "{runs:?}");
    for run in runs {
        let ScheduleWork::Deliver { issued, .. } = run.work else {
            panic!("{run:?}");
        };
        let newest = &issued.key.secrets[1];
        assert_eq!(newest.lifetime_ms(), Some(30 * DAY_MS));
    }
    assert_eq!(fixture.code(&of_a_year).await?, "valid");
    Ok(())
}

#[tokio::test]
async fn rule_11_ac_143_a_key_left_to_another_registry_is_scheduled_there() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let policy = Policy {
        max_age_ms: Some(7 * DAY_MS),
        ..Policy::default_for(Environment::LIVE)
    };
    registry.set_policy(actor, &policy).await?;
    let without = async |days: i64| {
        let wish = NewApiKey {
            lifetime_ms: Some(days * DAY_MS),
            ..wish("without a schedule")
        };
        fixture.issue_as(&wish).await
    };
    // One has a schedule, one grows old, one expires; and all have a notice that waits already.
    let issued = scheduled(&fixture, 7, Mode::Automatic).await?;
    let ids = [
        issued.key.id.clone(),
        without(60).await?.key.id,
        without(14).await?.key.id,
    ];
    assert!(registry.due_notices(500).await?.len() >= 3);
    let written = async || {
        let mut count = 0;
        for id in &ids {
            count += registry.list_notices(id).await?.len();
        }
        anyhow::Ok(count)
    };
    let before = written().await?;
    registry.mark_promoted(actor, &ids, "elsewhere").await?;
    for days in [8, 13] {
        fixture.set_clock(START + days * DAY_MS);
        let runs = registry
            .run_due_schedules(actor, &fixture.peppers, 10)
            .await?;
        assert!(runs.is_empty(), "{runs:?}");
        assert_eq!(registry.due_notices(500).await?, []);
        assert_eq!(written().await?, before, "none is made any more");
    }
    let weekly = every(7, Mode::Automatic)?;
    let set = registry.set_schedule(actor, &ids[0], &weekly, "").await;
    assert_eq!(set.expect_err("it lives there").code(), "key_promoted");
    Ok(())
}

#[tokio::test]
async fn ac_143_each_notice_goes_out_once_on_its_day() -> Result<()> {
    let fixture = super::fixture().await?;
    let day = START - START % DAY_MS;
    fixture.set_clock(day + HOUR);
    let issued = scheduled(&fixture, 40, Mode::NotifyOnly).await?;
    let due_at = day + HOUR + 40 * DAY_MS;
    let mut sent = Vec::new();
    for quarter in 0..4 * 44 {
        fixture.set_clock(day + HOUR + quarter * 6 * HOUR);
        // What a schedule that only notifies does when it is due: nothing but notices.
        let runs = fixture
            .registry
            .run_due_schedules(&fixture.actor, &fixture.peppers, 10)
            .await?;
        assert!(runs.is_empty());
        for (subject, kind) in send_all(&fixture).await? {
            assert_eq!(subject, NoticeSubject::Rotation);
            sent.push((kind, (due_at - fixture.now()).div_euclid(DAY_MS)));
        }
    }
    assert_eq!(
        sent,
        [
            (NoticeKind::Days30, 30),
            (NoticeKind::Days14, 14),
            (NoticeKind::Days7, 7),
            (NoticeKind::Days1, 1),
            (NoticeKind::Today, 0),
            (NoticeKind::Overdue, -1)
        ]
        .map(|(kind, left)| (kind, if kind == NoticeKind::Days30 { 30 } else { left }))
    );
    let listed = fixture.registry.list_notices(&issued.key.id).await?;
    assert_eq!(listed.len(), 6);
    assert!(
        listed
            .iter()
            .all(|notice| notice.channel.as_deref() == Some("desktop")
                && notice.due_at == due_at
                && notice.key_name == "scheduled")
    );
    // Rotated by hand: the schedule moves on, and nothing is overdue any more.
    let new = fixture.rotate(&issued.key.id, DAY_MS).await?;
    fixture.verify(&new).await?;
    fixture
        .registry
        .run_due_schedules(&fixture.actor, &fixture.peppers, 10)
        .await?;
    let schedule = fixture.registry.find_schedule(&issued.key.id).await?;
    assert_eq!(
        schedule.map(|schedule| schedule.next_due_at),
        Some(due_at + 40 * DAY_MS)
    );
    assert_eq!(send_all(&fixture).await?, []);
    Ok(())
}

#[tokio::test]
async fn ac_143_after_a_sleep_the_most_urgent_is_sent_and_the_rest_is_written_down() -> Result<()> {
    let fixture = super::fixture().await?;
    let (one, two) = (
        fixture.issue("expires in 90 days").await?,
        fixture.issue_as(&year("next year")).await?,
    );
    assert_eq!(send_all(&fixture).await?, []);
    fixture.set_clock(START + 80 * DAY_MS);
    assert_eq!(
        send_all(&fixture).await?,
        [(NoticeSubject::Expiry, NoticeKind::Days14)]
    );
    let kinds = |notices: &[Notice], passed: bool| -> Vec<_> {
        let mut kinds: Vec<_> = notices
            .iter()
            .filter(|notice| notice.passed == passed)
            .map(|notice| notice.kind)
            .collect();
        kinds.sort();
        kinds
    };
    let listed = fixture.registry.list_notices(&one.key.id).await?;
    assert_eq!(kinds(&listed, true), [NoticeKind::Days30]);
    // Asleep for half a year: it expired long ago, and that is told once.
    fixture.set_clock(START + 270 * DAY_MS);
    assert_eq!(
        send_all(&fixture).await?,
        [(NoticeSubject::Expiry, NoticeKind::Overdue)]
    );
    assert_eq!(send_all(&fixture).await?, []);
    let listed = fixture.registry.list_notices(&one.key.id).await?;
    assert_eq!(
        kinds(&listed, true),
        [
            NoticeKind::Days30,
            NoticeKind::Days7,
            NoticeKind::Days1,
            NoticeKind::Today
        ]
    );
    assert_eq!(fixture.registry.list_notices(&two.key.id).await?, []);
    Ok(())
}

#[tokio::test]
async fn ac_143_two_nodes_never_send_one_twice_and_a_failed_one_is_tried_again() -> Result<()> {
    let fixture = super::fixture().await?;
    for name in ["a", "b", "c"] {
        fixture.issue(name).await?;
    }
    fixture.set_clock(START + 85 * DAY_MS);
    let second = fixture.second().await?;
    let (one, other) = tokio::join!(fixture.registry.due_notices(2), second.due_notices(2));
    let (one, other) = (one?, other?);
    let mut keys: Vec<_> = one.iter().chain(&other).map(|one| &one.key_id).collect();
    keys.sort();
    keys.dedup();
    assert_eq!((one.len() + other.len(), keys.len()), (3, 3));
    assert_eq!(fixture.registry.due_notices(10).await?, []);
    let all: Vec<_> = one.into_iter().chain(other).collect();
    // One was sent; one could not be; one was taken by a node that died.
    let registry = &fixture.registry;
    assert!(registry.mark_notice_sent(&all[0].id, "mail").await?);
    assert!(!registry.mark_notice_sent(&all[0].id, "mail").await?);
    let again_at = registry
        .mark_notice_failed(&all[1].id, "no connection")
        .await?;
    assert_eq!(again_at, Some(fixture.now() + 60_000));
    assert_eq!(
        registry.mark_notice_failed(&all[0].id, "late").await?,
        None,
        "what was sent stays sent"
    );
    fixture.set_clock(fixture.now() + 60_000);
    let retried = second.due_notices(10).await?;
    assert_eq!(retried.len(), 1);
    assert_eq!(retried[0].id, all[1].id);
    assert_eq!(retried[0].error.as_deref(), Some("no connection"));
    assert_eq!(retried[0].attempts, 2);
    assert!(second.mark_notice_sent(&retried[0].id, "mail").await?);
    fixture.set_clock(fixture.now() + HOUR);
    let left = registry.due_notices(10).await?;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].id, all[2].id);
    let unknown = registry.mark_notice_sent("nobody", "mail").await;
    assert_eq!(unknown.expect_err("unknown").code(), "notice_not_found");
    second.close().await;
    Ok(())
}

#[tokio::test]
async fn ac_143_an_unsent_notice_goes_when_it_is_overtaken_or_settled() -> Result<()> {
    let fixture = super::fixture().await?;
    let issued = fixture.issue("a").await?;
    fixture.set_clock(START + 70 * DAY_MS);
    let taken = fixture.registry.due_notices(10).await?;
    assert_eq!(taken[0].kind, NoticeKind::Days30);
    // It was never sent. Later only the more urgent one goes out.
    fixture.set_clock(START + 85 * DAY_MS);
    assert_eq!(
        send_all(&fixture).await?,
        [(NoticeSubject::Expiry, NoticeKind::Days7)]
    );
    fixture.set_clock(START + 89 * DAY_MS);
    assert_eq!(fixture.registry.due_notices(10).await?.len(), 1);
    // The key was rotated before that one was sent: its secret does not expire any more.
    fixture.rotate(&issued.key.id, HOUR).await?;
    fixture.set_clock(START + 89 * DAY_MS + HOUR);
    assert_eq!(send_all(&fixture).await?, []);
    let listed = fixture.registry.list_notices(&issued.key.id).await?;
    let sent = listed.iter().filter(|notice| notice.sent_at.is_some());
    assert_eq!(sent.count(), 1);
    Ok(())
}

#[tokio::test]
async fn rule_11_the_maximum_age_of_a_policy_is_a_schedule_for_keys_without_one() -> Result<()> {
    let fixture = super::fixture().await?;
    let policy = Policy {
        max_age_ms: Some(60 * DAY_MS),
        ..Policy::default_for(Environment::LIVE)
    };
    let all = Policy {
        environment: PolicyEnvironment::All,
        max_age_ms: Some(20 * DAY_MS),
        ..policy.clone()
    };
    fixture.registry.set_policy(&fixture.actor, &policy).await?;
    fixture.registry.set_policy(&fixture.actor, &all).await?;
    let live = fixture.issue_as(&year("live")).await?;
    let test = fixture
        .issue_as(&NewApiKey {
            prefix: "sk_test".to_owned(),
            ..year("test")
        })
        .await?;
    scheduled(&fixture, 300, Mode::NotifyOnly).await?;
    let taken = fixture.registry.due_notices(10).await?;
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!(taken[0].key_id, test.key.id);
    assert_eq!(taken[0].due_at, START + 20 * DAY_MS);
    fixture.set_clock(START + 59 * DAY_MS);
    let taken = fixture.registry.due_notices(10).await?;
    let of_live: Vec<_> = taken
        .iter()
        .filter(|notice| notice.key_id == live.key.id)
        .map(|notice| (notice.subject, notice.kind, notice.due_at))
        .collect();
    assert_eq!(
        of_live,
        [(
            NoticeSubject::Rotation,
            NoticeKind::Days1,
            START + 60 * DAY_MS
        )]
    );
    assert_eq!(taken.len(), 2, "the other one is overdue: {taken:?}");
    Ok(())
}

#[tokio::test]
async fn alerts_are_listed_page_by_page_and_unseen_again_when_they_repeat() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let mut keys = Vec::new();
    for name in ["a", "b", "c"] {
        let issued = fixture.issue(name).await?;
        registry
            .revoke_api_key(&fixture.actor, &issued.key.id, "")
            .await?;
        fixture.set_clock(fixture.now() + HOUR);
        assert_eq!(fixture.code(&issued).await?, "revoked");
        keys.push(issued);
    }
    let mut query = AlertQuery {
        limit: 2,
        ..AlertQuery::default()
    };
    let first = registry.list_alerts(&query).await?;
    query.cursor.clone_from(&first.next_cursor);
    let rest = registry.list_alerts(&query).await?;
    let listed: Vec<_> = first.items.iter().chain(&rest.items).collect();
    assert_eq!(rest.next_cursor, None);
    let ids: Vec<_> = listed.iter().map(|alert| alert.key_id.clone()).collect();
    let expected: Vec<_> = keys.iter().rev().map(|key| key.key.id.clone()).collect();
    assert_eq!(ids, expected, "latest first");
    assert_eq!(registry.count_unseen_alerts().await?, 3);
    let latest = listed[0];
    assert!(registry.mark_alert_seen(&latest.id, latest.last_at).await?);
    assert!(!registry.mark_alert_seen(&latest.id, latest.last_at).await?);
    assert_eq!(registry.count_unseen_alerts().await?, 2);
    // It happens again: what was seen was not this.
    fixture.set_clock(fixture.now() + HOUR);
    fixture.verify(&keys[2]).await?;
    let unseen = AlertQuery {
        unseen_only: true,
        limit: 10,
        ..AlertQuery::default()
    };
    let page = registry.list_alerts(&unseen).await?;
    assert_eq!(page.items.len(), 3);
    assert_eq!(
        (page.items[0].id.as_str(), page.items[0].count),
        (latest.id.as_str(), 2)
    );
    assert!(
        !registry.mark_alert_seen(&latest.id, latest.last_at).await?,
        "what is marked is what was looked at"
    );
    Ok(())
}

#[tokio::test]
async fn ac_140_keys_that_ended_or_rest_with_their_owner_are_not_rotated_or_told_of() -> Result<()>
{
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let (kind, everything) = (OwnerKind::Service, ScopeSet::everything());
    registry
        .create_principal(actor, "ann", kind, "Ann", &everything)
        .await?;
    let policy = Policy {
        max_age_ms: Some(7 * DAY_MS),
        ..Policy::default_for(Environment::LIVE)
    };
    registry.set_policy(actor, &policy).await?;
    let of_ann = NewApiKey {
        owner: Some(Owner::new(kind, "ann")?),
        lifetime_ms: Some(20 * DAY_MS),
        ..wish("of Ann")
    };
    // One has a schedule, one expires, one grows old, one has a notice already.
    let weekly = fixture
        .issue_as(&NewApiKey {
            lifetime_ms: Some(365 * DAY_MS),
            ..of_ann.clone()
        })
        .await?;
    let schedule = every(7, Mode::Automatic)?;
    registry
        .set_schedule(actor, &weekly.key.id, &schedule, "")
        .await?;
    let ageing = NewApiKey {
        lifetime_ms: Some(365 * DAY_MS),
        ..of_ann.clone()
    };
    let ids = [
        weekly.key.id.clone(),
        fixture.issue_as(&of_ann).await?.key.id,
        fixture.issue_as(&ageing).await?.key.id,
    ];
    let taken = registry.due_notices(500).await?;
    assert!(taken.len() >= 3, "{taken:?}");
    // Passed ones too: what is made meanwhile would never be told.
    let written = async || {
        let mut count = 0;
        for id in &ids {
            count += registry.list_notices(id).await?.len();
        }
        anyhow::Ok(count)
    };

    let nothing = async || {
        let before = written().await?;
        fixture.set_clock(fixture.now() + 8 * DAY_MS);
        let runs = registry
            .run_due_schedules(actor, &fixture.peppers, 10)
            .await?;
        assert!(runs.is_empty(), "{runs:?}");
        assert_eq!(registry.due_notices(500).await?, []);
        assert_eq!(written().await?, before, "none is made");
        anyhow::Ok(())
    };
    let suspend = PrincipalChange::Disable("away".into());
    registry.change_principal(actor, "ann", &suspend).await?;
    nothing().await?;
    registry
        .change_principal(actor, "ann", &PrincipalChange::Enable)
        .await?;
    assert!(!registry.due_notices(500).await?.is_empty());
    let runs = registry
        .run_due_schedules(actor, &fixture.peppers, 10)
        .await?;
    assert_eq!(runs.len(), 1, "it was due all along: {runs:?}");

    let revoke = PrincipalChange::RevokeKeys("leak".into());
    registry.change_principal(actor, "ann", &revoke).await?;
    nothing().await
}
