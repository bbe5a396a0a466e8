//! What came of deliveries of new secrets, and what that does to their rotations.

use anyhow::Result;
use keywright_domain::api_keys::{DAY_MS, NewApiKey, RotationState, SecretState};
use keywright_domain::schedules::{
    Mode, NoticeKind, Recurrence, Schedule, ScheduleTerms, TimeZone,
};
use keywright_registry::{
    AfterFailure, AlertKind, AlertQuery, DeliveryOutcome, Issued, KeySchedule, NoticeSubject,
    Rotation, RotationStep, ScheduleWork,
};

use super::{Fixture, START, from_issue, rand_text, wish};

const HOUR: i64 = 60 * 60 * 1000;

fn failed(then: AfterFailure) -> DeliveryOutcome {
    DeliveryOutcome::Failed {
        error: "permission denied".to_owned(),
        then,
    }
}

#[tokio::test]
async fn ac_137_a_failed_delivery_cancels_what_reached_nobody_and_leaves_the_old_secret()
-> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let old = fixture.issue("a").await?;
    let id = rand_text();
    let new = registry
        .rotate_api_key(
            &fixture.actor,
            &old.key.id,
            &from_issue(DAY_MS),
            &id,
            &fixture.peppers,
        )
        .await?;
    let (delivery, rotation) = registry
        .record_delivery(
            &fixture.actor,
            &id,
            "file:/srv/key",
            &failed(AfterFailure::Cancel),
        )
        .await?;
    assert_eq!(rotation.state, RotationState::Cancelled);
    assert_eq!(delivery.error.as_deref(), Some("permission denied"));
    assert_eq!(delivery.kid, new.plain.kid().as_str());
    assert_eq!(
        registry.list_deliveries(&id, None, 100).await?.items,
        [delivery]
    );
    assert_eq!(fixture.code(&new).await?, "retired");
    fixture.set_clock(START + 2 * DAY_MS);
    assert_eq!(
        fixture.code(&old).await?,
        "valid",
        "the overlap does not run any more"
    );
    assert_eq!(registry.count_unseen_alerts().await?, 2);
    let alerts = registry
        .list_alerts(&AlertQuery {
            limit: 10,
            ..AlertQuery::default()
        })
        .await?;
    let failure = alerts
        .items
        .iter()
        .find(|alert| alert.kind == AlertKind::DeliveryFailed)
        .expect("an alarm");
    assert_eq!(
        (failure.key_id.as_str(), failure.caller.as_str()),
        (old.key.id.as_str(), "file:/srv/key")
    );
    let actions = fixture.actions().await?;
    assert!(actions.contains(&"api_key.delivery_failed".to_owned()));
    let unknown = registry
        .record_delivery(&fixture.actor, "x", "y", &DeliveryOutcome::Delivered)
        .await;
    assert_eq!(unknown.expect_err("unknown").code(), "rotation_not_found");
    Ok(())
}

#[tokio::test]
async fn ac_137_a_held_rotation_keeps_the_old_secret_until_the_new_one_is_used() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let (held, arrived) = (
        fixture.issue("held").await?,
        fixture.issue("arrived").await?,
    );
    let (one, two) = (rand_text(), rand_text());
    let rotate = |key: &Issued, id: &str| {
        let (key_id, id) = (key.key.id.clone(), id.to_owned());
        async {
            let (key_id, id) = (key_id, id);
            registry
                .rotate_api_key(
                    &fixture.actor,
                    &key_id,
                    &from_issue(DAY_MS),
                    &id,
                    &fixture.peppers,
                )
                .await
        }
    };
    let new = rotate(&held, &one).await?;
    rotate(&arrived, &two).await?;
    let (_, rotation) = registry
        .record_delivery(&fixture.actor, &one, "env", &failed(AfterFailure::Hold))
        .await?;
    assert_eq!(rotation.state, RotationState::Pending);
    // It reached one place: taking it back would cut that one off.
    registry
        .record_delivery(&fixture.actor, &two, "env", &DeliveryOutcome::Delivered)
        .await?;
    let (_, rotation) = registry
        .record_delivery(&fixture.actor, &two, "file", &failed(AfterFailure::Cancel))
        .await?;
    assert_eq!(rotation.state, RotationState::Pending);
    assert_eq!(
        registry.list_deliveries(&two, None, 100).await?.items.len(),
        2
    );
    fixture.set_clock(START + 5 * DAY_MS);
    registry.settle_rotations().await?;
    for issued in [&held, &arrived] {
        assert_eq!(fixture.code(issued).await?, "valid", "the old one lives on");
    }
    assert_eq!(fixture.code(&new).await?, "valid");
    fixture.set_clock(START + 6 * DAY_MS);
    assert_eq!(
        fixture.code(&held).await?,
        "retired",
        "the overlap ran from the first use of the new one"
    );
    let finished = registry
        .step_rotation(&fixture.actor, &held.key.id, RotationStep::Finish)
        .await;
    assert!(
        finished
            .is_ok_and(|(key, _)| { key.secrets[0].state(fixture.now()) == SecretState::Retired })
    );
    Ok(())
}

/// A key that is rotated every 90 days and whose secret may get 100 days old.
async fn scheduled(fixture: &Fixture, mode: Mode) -> Result<Issued> {
    let long = NewApiKey {
        lifetime_ms: Some(365 * DAY_MS),
        ..wish("scheduled")
    };
    let issued = fixture.issue_as(&long).await?;
    let schedule = Schedule::new(ScheduleTerms {
        recurrence: Recurrence::Interval {
            every_ms: 90 * DAY_MS,
        },
        time_zone: TimeZone::new("UTC")?,
        window: None,
        jitter_ms: 0,
        mode,
        max_age_ms: Some(100 * DAY_MS),
    })?;
    let (registry, id) = (&fixture.registry, &issued.key.id);
    registry
        .set_schedule(&fixture.actor, id, &schedule, "vault")
        .await?;
    Ok(issued)
}

/// The schedule of a key, as it stands.
async fn schedule_of(fixture: &Fixture, key_id: &str) -> Result<KeySchedule> {
    let found = fixture.registry.find_schedule(key_id).await?;
    found.ok_or_else(|| anyhow::anyhow!("it has one"))
}

/// Carries out what is due: the rotation that was made.
async fn rotated(fixture: &Fixture) -> Result<Option<Rotation>> {
    let registry = &fixture.registry;
    let runs = registry
        .run_due_schedules(&fixture.actor, &fixture.peppers, 10)
        .await?;
    Ok(runs.into_iter().next().map(|run| match run.work {
        ScheduleWork::Take { rotation, .. } | ScheduleWork::Deliver { rotation, .. } => rotation,
        ScheduleWork::Refused(error) => panic!("refused: {error}"),
    }))
}

#[tokio::test]
async fn rule_12_a_scheduled_rotation_that_nobody_took_is_due_again_by_the_age_of_the_secret()
-> Result<()> {
    let fixture = super::fixture().await?;
    let issued = scheduled(&fixture, Mode::IssuePending).await?;
    let (registry, id) = (&fixture.registry, &issued.key.id);
    fixture.set_clock(START + 90 * DAY_MS);
    let first = rotated(&fixture).await?.expect("a secret waits");
    assert_eq!(
        schedule_of(&fixture, id).await?.next_due_at,
        START + 180 * DAY_MS
    );
    // Nobody takes it for a month: its only secret is older than it may be.
    fixture.set_clock(START + 121 * DAY_MS);
    assert_eq!(registry.settle_rotations().await?, 1);
    let again = schedule_of(&fixture, id).await?;
    assert_eq!(again.next_due_at, START + 100 * DAY_MS, "{again:?}");
    let told = registry.due_notices(500).await?;
    assert!(
        told.iter()
            .any(|one| (one.subject, one.kind) == (NoticeSubject::Rotation, NoticeKind::Overdue)),
        "{told:?}"
    );
    let second = rotated(&fixture).await?.expect("another one");
    assert_ne!(first.id, second.id);
    assert!(rotated(&fixture).await?.is_none(), "once");
    // And once more: each is a rotation of its own.
    fixture.set_clock(START + 152 * DAY_MS);
    assert_eq!(registry.settle_rotations().await?, 1);
    let third = rotated(&fixture).await?.expect("and another one");
    assert!(third.id != second.id && third.state == RotationState::Pending);
    // Who cancels it by hand is left alone for a day, and sees why it is due.
    let cancel = RotationStep::Cancel;
    registry.step_rotation(&fixture.actor, id, cancel).await?;
    assert!(rotated(&fixture).await?.is_none());
    let left = schedule_of(&fixture, id).await?;
    assert!(left.last_error.is_some_and(|why| why.contains("cancelled")));
    fixture.set_clock(START + 153 * DAY_MS);
    assert!(rotated(&fixture).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn rule_12_a_scheduled_rotation_that_was_not_delivered_is_made_again_within_the_hour()
-> Result<()> {
    let fixture = super::fixture().await?;
    let issued = scheduled(&fixture, Mode::Automatic).await?;
    let (registry, id) = (&fixture.registry, &issued.key.id);
    let due = START + 90 * DAY_MS;
    fixture.set_clock(due);
    let mut last = rotated(&fixture).await?.expect("it is due");
    // The longer it fails, the less often it is tried.
    let mut waits = Vec::new();
    for _ in 0..3 {
        let failure = failed(AfterFailure::Cancel);
        let (_, ended) = registry
            .record_delivery(&fixture.actor, &last.id, "vault", &failure)
            .await?;
        assert_eq!(ended.state, RotationState::Cancelled);
        let left = schedule_of(&fixture, id).await?;
        let retry_at = left.retry_at.expect("it is tried again");
        assert_eq!(
            left.last_error.as_deref(),
            Some("not delivered: permission denied")
        );
        waits.push(retry_at - fixture.now());
        fixture.set_clock(retry_at - 1);
        assert!(rotated(&fixture).await?.is_none(), "too early");
        fixture.set_clock(retry_at);
        let next = rotated(&fixture).await?.expect("another one");
        assert_ne!(next.id, last.id);
        last = next;
        fixture.set_clock(retry_at + 5 * HOUR);
    }
    assert_eq!(waits[0], HOUR);
    assert!(waits.is_sorted() && waits[2] <= DAY_MS, "{waits:?}");
    // Once it is delivered, the next is a period later.
    registry
        .record_delivery(
            &fixture.actor,
            &last.id,
            "vault",
            &DeliveryOutcome::Delivered,
        )
        .await?;
    let left = schedule_of(&fixture, id).await?;
    assert!(left.next_due_at >= due + 90 * DAY_MS && left.last_error.is_none());
    Ok(())
}
