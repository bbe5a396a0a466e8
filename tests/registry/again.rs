//! Rotations that a schedule made and that came to nothing. Not over HTTP: there a rotation is known by whoever asked
//! for it.

use anyhow::Result;
use keywright_domain::api_keys::{DAY_MS, NewApiKey, Rotation, RotationState};
use keywright_domain::schedules::{
    Mode, NoticeKind, Recurrence, Schedule, ScheduleTerms, TimeZone,
};
use keywright_registry::{
    AfterFailure, DeliveryOutcome, Issued, KeySchedule, NoticeSubject, RotationStep, ScheduleWork,
};

use super::{Fixture, START, wish};

const HOUR: i64 = 60 * 60 * 1000;

fn failed(then: AfterFailure) -> DeliveryOutcome {
    DeliveryOutcome::Failed {
        error: "permission denied".to_owned(),
        then,
    }
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
    let Some(run) = runs.into_iter().next() else {
        return Ok(None);
    };
    match run.work {
        ScheduleWork::Take { rotation, .. } | ScheduleWork::Deliver { rotation, .. } => {
            Ok(Some(rotation))
        }
        ScheduleWork::Refused(error) => Err(anyhow::anyhow!("refused: {error}")),
    }
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
    let told = registry.due_notices(500).await?;
    assert_eq!(told.len(), 1, "{told:?}");
    registry.mark_notice_sent(&told[0].id, "mail").await?;
    let mut last = rotated(&fixture).await?.expect("it is due");
    // The longer it fails, the less often it is tried.
    let mut waits = Vec::new();
    for _ in 0..3 {
        let failure = failed(AfterFailure::Cancel);
        let (_, ended) = registry
            .record_delivery(&fixture.actor, &last.id, "vault", &failure)
            .await?;
        assert_eq!(ended.state, RotationState::Cancelled);
        assert_eq!(registry.due_notices(500).await?, [], "once on its day");
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

/// Nobody was told of it: the rotation began before.
#[tokio::test]
async fn rule_12_a_notice_that_was_passed_while_the_rotation_ran_is_made_again_when_that_came_to_nothing()
-> Result<()> {
    let fixture = super::fixture().await?;
    let issued = scheduled(&fixture, Mode::Automatic).await?;
    let (registry, id) = (&fixture.registry, &issued.key.id);
    let due = START + 90 * DAY_MS;
    fixture.set_clock(due);
    registry.post_notices().await?;
    let made = rotated(&fixture).await?.expect("it is due");
    assert_eq!(registry.take_notices(500).await?, [], "it is being rotated");
    fixture.set_clock(due + 10 * 60 * 1000);
    let fail = async |rotation: &str| -> Result<()> {
        let failure = failed(AfterFailure::Cancel);
        registry
            .record_delivery(&fixture.actor, rotation, "vault", &failure)
            .await?;
        Ok(())
    };
    fail(&made.id).await?;
    let told = registry.due_notices(500).await?;
    let said: Vec<_> = told
        .iter()
        .map(|one| (one.key_id.as_str(), one.kind))
        .collect();
    assert_eq!(said, [(id.as_str(), NoticeKind::Today)]);
    registry.mark_notice_sent(&told[0].id, "mail").await?;
    // It was told now, and not once more after the next failure of that day.
    fixture.set_clock(due + 2 * HOUR);
    let made = rotated(&fixture).await?.expect("it is tried again");
    fail(&made.id).await?;
    assert_eq!(registry.due_notices(500).await?, []);
    Ok(())
}
