//! The notice board: what is put up where, what takes whose place, what is settled, and who has read it.

use anyhow::{Context as _, Result};
use keywright_domain::api_keys::{
    DAY_MS, Environment, Kid, NewApiKey, Owner, OwnerKind, Policy, PolicyEnvironment,
    RotationRequest,
};
use keywright_domain::people::Sealed;
use keywright_domain::schedules::{Mode, Recurrence, Schedule, ScheduleTerms, TimeZone};
use keywright_domain::scopes::ScopeSet;
use keywright_registry::outbox::{NewWebhook, WebhookChange};
use keywright_registry::{
    AfterFailure, BoardKind, BoardNotice, BoardQuery, BoardReader, DeliveryOutcome, HygieneFinding,
    HygieneQuery, HygieneRules, Issued, PrincipalChange, RetentionPolicy, RotationStep,
};

use super::{Fixture, START, from_issue, rand_text, wish};

const HOUR: i64 = 60 * 60 * 1000;

fn me() -> BoardReader {
    BoardReader::of_this_device()
}

fn named(id: &str, owner: Option<&str>) -> BoardReader {
    BoardReader {
        id: id.to_owned(),
        owner: owner.map(str::to_owned),
    }
}

async fn all(fixture: &Fixture, reader: &BoardReader) -> Result<Vec<BoardNotice>> {
    let query = BoardQuery {
        limit: 100,
        ..BoardQuery::default()
    };
    Ok(fixture.registry.list_board(reader, &query).await?.items)
}

async fn unread(fixture: &Fixture, reader: &BoardReader) -> Result<Vec<BoardNotice>> {
    let query = BoardQuery {
        unread_only: true,
        limit: 100,
        ..BoardQuery::default()
    };
    let items = fixture.registry.list_board(reader, &query).await?.items;
    let counted = fixture.registry.count_unread_notices(reader).await?;
    assert_eq!(counted, i64::try_from(items.len())?);
    Ok(items)
}

fn kinds(notices: &[BoardNotice]) -> Vec<BoardKind> {
    notices.iter().map(|one| one.kind).collect()
}

#[tokio::test]
async fn what_expires_has_one_place_which_its_more_urgent_notice_takes() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let issued = fixture.issue("expiring").await?;
    registry.post_notices().await?;
    assert_eq!(all(&fixture, &me()).await?, []);
    fixture.set_clock(START + 80 * DAY_MS);
    for _ in 0..3 {
        registry.post_notices().await?;
    }
    let up = unread(&fixture, &me()).await?;
    assert_eq!(kinds(&up), [BoardKind::KeyExpiring]);
    let first = &up[0];
    assert_eq!(first.key_id.as_deref(), Some(issued.key.id.as_str()));
    assert_eq!(first.name, "expiring");
    assert_eq!(first.kid.as_deref(), Some(issued.plain.kid().as_str()));
    assert_eq!(first.due_at, Some(START + 90 * DAY_MS));
    assert_eq!(first.at, START + 80 * DAY_MS);
    assert_eq!(first.detail, "days_14");
    assert!(registry.mark_notice_read(&me(), first.sequence).await?);
    assert_eq!(unread(&fixture, &me()).await?, []);
    assert!(all(&fixture, &me()).await?[0].read);
    // Less is left: the same matter, and it is unread again.
    fixture.set_clock(START + 84 * DAY_MS);
    registry.post_notices().await?;
    let up = unread(&fixture, &me()).await?;
    assert_eq!((up.len(), up[0].detail.as_str()), (1, "days_7"));
    assert!(up[0].sequence > first.sequence);
    assert_eq!(all(&fixture, &me()).await?.len(), 1);
    // What was looked at is not what is there now.
    assert!(!registry.mark_notice_read(&me(), first.sequence).await?);
    // Mail takes the same notices, and none is put up a second time for it.
    assert_eq!(registry.due_notices(10).await?.len(), 1);
    assert_eq!(all(&fixture, &me()).await?, up);
    // Rotated: nothing is left to do, read or not.
    fixture.rotate(&issued.key.id, DAY_MS).await?;
    assert_eq!(unread(&fixture, &me()).await?, []);
    let settled = &all(&fixture, &me()).await?[0];
    assert!(settled.settled && !settled.read);
    Ok(())
}

#[tokio::test]
async fn an_overlap_that_ends_in_use_is_put_up_and_over_when_it_has_ended() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let old = fixture.issue("busy").await?;
    let quiet = fixture.issue("quiet").await?;
    for issued in [&old, &quiet] {
        fixture
            .rotate_as(&issued.key.id, &from_issue(DAY_MS))
            .await?;
    }
    fixture.set_clock(START + DAY_MS - 30 * HOUR / 60);
    registry.post_notices().await?;
    assert_eq!(all(&fixture, &me()).await?, [], "nobody used it lately");
    assert_eq!(fixture.code(&old).await?, "valid");
    for _ in 0..2 {
        registry.post_notices().await?;
    }
    let up = unread(&fixture, &me()).await?;
    assert_eq!(kinds(&up), [BoardKind::OverlapClosing]);
    assert_eq!(up[0].name, "busy");
    assert_eq!(up[0].kid.as_deref(), Some(old.plain.kid().as_str()));
    assert_eq!((up[0].due_at, up[0].count), (Some(START + DAY_MS), 1));
    fixture.set_clock(START + DAY_MS);
    assert_eq!(unread(&fixture, &me()).await?, []);
    assert!(all(&fixture, &me()).await?[0].settled);
    Ok(())
}

#[tokio::test]
async fn failures_and_uses_after_the_end_are_put_up_with_what_was_written_down() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let issued = fixture.issue("delivered").await?;
    let rotation_id = rand_text();
    let new = registry
        .rotate_api_key(
            &fixture.actor,
            &issued.key.id,
            &from_issue(DAY_MS),
            &rotation_id,
            &fixture.peppers,
        )
        .await?;
    let secret = new.plain.text().expose();
    let outcome = DeliveryOutcome::Failed {
        error: format!("denied\nto {secret}"),
        then: AfterFailure::Hold,
    };
    registry
        .record_delivery(&fixture.actor, &rotation_id, "file:/srv/key", &outcome)
        .await?;
    let up = unread(&fixture, &me()).await?;
    assert_eq!(kinds(&up), [BoardKind::DeliveryFailed]);
    assert!(up[0].detail.contains("denied"), "{}", up[0].detail);
    // Foreign text: no secret, and no line of its own.
    assert!(!up[0].detail.contains(&secret[20..]) && !up[0].detail.contains('\n'));
    assert_eq!(up[0].kid.as_deref(), Some(new.plain.kid().as_str()));
    // It arrived after all.
    assert_eq!(fixture.code(&new).await?, "valid");
    assert_eq!(unread(&fixture, &me()).await?, []);

    let ended = fixture.issue("ended").await?;
    registry
        .revoke_api_key(&fixture.actor, &ended.key.id, "")
        .await?;
    for hours in [1, 2, 25] {
        fixture.set_clock(START + hours * HOUR);
        assert_eq!(fixture.code(&ended).await?, "revoked");
        let up = unread(&fixture, &me()).await?;
        // Although the key is: somebody still has it.
        assert_eq!(kinds(&up), [BoardKind::RetiredSecretUsed], "{hours}");
        assert_eq!(up[0].name, "ended");
        // The same day it is the same news.
        let first_of_day = if hours == 25 { 25 } else { 1 };
        assert_eq!(up[0].at, START + first_of_day * HOUR, "{hours}");
    }
    assert_eq!(all(&fixture, &me()).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_secret_that_a_schedule_made_waits_on_the_board_until_it_is_taken() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let long = NewApiKey {
        lifetime_ms: Some(365 * DAY_MS),
        ..wish("scheduled")
    };
    let issued = fixture.issue_as(&long).await?;
    fixture.verify(&issued).await?;
    let schedule = Schedule::new(ScheduleTerms {
        recurrence: Recurrence::Interval {
            every_ms: 30 * DAY_MS,
        },
        time_zone: TimeZone::new("UTC")?,
        window: None,
        jitter_ms: 0,
        mode: Mode::IssuePending,
        max_age_ms: None,
    })?;
    registry
        .set_schedule(&fixture.actor, &issued.key.id, &schedule, "")
        .await?;
    fixture.set_clock(START + 10 * DAY_MS);
    registry.post_notices().await?;
    let up = unread(&fixture, &me()).await?;
    assert_eq!(kinds(&up), [BoardKind::RotationDue]);
    // Nothing is due while its schedule stands still.
    let (actor, id) = (&fixture.actor, &issued.key.id);
    registry.pause_schedule(actor, id, true).await?;
    assert_eq!(unread(&fixture, &me()).await?, []);
    registry.pause_schedule(actor, id, false).await?;
    let up = unread(&fixture, &me()).await?;
    assert_eq!(kinds(&up), [BoardKind::RotationDue]);
    fixture.set_clock(START + 30 * DAY_MS);
    let runs = registry
        .run_due_schedules(&fixture.actor, &fixture.peppers, 10)
        .await?;
    assert_eq!(runs.len(), 1);
    let up = unread(&fixture, &me()).await?;
    assert_eq!(kinds(&up), [BoardKind::RotationPending]);
    let (key, _) = registry.find_api_key(&issued.key.id).await?;
    let pending = key.secrets.last().context("no secret")?;
    assert_eq!(up[0].kid.as_deref(), Some(pending.kid.as_str()));
    Ok(())
}

fn monthly(mode: Mode) -> Result<Schedule> {
    Ok(Schedule::new(ScheduleTerms {
        recurrence: Recurrence::Interval {
            every_ms: 30 * DAY_MS,
        },
        time_zone: TimeZone::new("UTC")?,
        window: None,
        jitter_ms: 0,
        mode,
        max_age_ms: None,
    })?)
}

fn of_a_year(name: &str) -> NewApiKey {
    NewApiKey {
        lifetime_ms: Some(365 * DAY_MS),
        ..wish(name)
    }
}

#[tokio::test]
async fn a_rotation_that_no_schedule_asks_for_any_more_is_over_on_the_board_and_in_the_mail()
-> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let issued = fixture.issue_as(&of_a_year("scheduled")).await?;
    let id = &issued.key.id;
    let schedule = monthly(Mode::NotifyOnly)?;
    registry.set_schedule(actor, id, &schedule, "").await?;
    fixture.set_clock(START + 10 * DAY_MS);
    registry.post_notices().await?;
    let due = [BoardKind::RotationDue];
    assert_eq!(kinds(&unread(&fixture, &me()).await?), due);
    // Nobody rotates a key that is suspended; it comes back with the key.
    registry.disable_api_key(actor, id, "").await?;
    assert_eq!(unread(&fixture, &me()).await?, []);
    registry.enable_api_key(actor, id).await?;
    assert_eq!(kinds(&unread(&fixture, &me()).await?), due);
    registry.remove_schedule(actor, id).await?;
    assert_eq!(unread(&fixture, &me()).await?, []);
    assert!(all(&fixture, &me()).await?[0].settled);
    assert_eq!(registry.due_notices(10).await?, [], "and nobody is sent it");
    // A new one begins now, and is another matter of the same place.
    registry.set_schedule(actor, id, &schedule, "").await?;
    assert_eq!(unread(&fixture, &me()).await?, []);
    registry.post_notices().await?;
    let up = unread(&fixture, &me()).await?;
    assert_eq!(up[0].due_at, Some(START + 40 * DAY_MS));
    registry.revoke_api_key(actor, id, "").await?;
    assert_eq!(unread(&fixture, &me()).await?, []);
    assert!(all(&fixture, &me()).await?[0].settled);
    assert_eq!(registry.due_notices(10).await?, []);
    Ok(())
}

#[tokio::test]
async fn a_rotation_that_no_policy_asks_for_any_more_is_over() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let policy = |environment, days: Option<i64>| Policy {
        environment,
        max_age_ms: days.map(|days| days * DAY_MS),
        ..Policy::default_for(Environment::LIVE)
    };
    let live = || PolicyEnvironment::One(Environment::LIVE);
    registry
        .set_policy(actor, &policy(live(), Some(40)))
        .await?;
    let issued = fixture.issue_as(&of_a_year("ageing")).await?;
    fixture.set_clock(START + 20 * DAY_MS);
    registry.post_notices().await?;
    let up = unread(&fixture, &me()).await?;
    assert_eq!(kinds(&up), [BoardKind::RotationDue]);
    assert_eq!(up[0].due_at, Some(START + 40 * DAY_MS));
    assert_eq!(registry.due_notices(10).await?.len(), 1, "it is sent");
    for other in [Some(41), None] {
        registry.set_policy(actor, &policy(live(), other)).await?;
        assert_eq!(unread(&fixture, &me()).await?, [], "{other:?}");
    }
    registry
        .set_policy(actor, &policy(live(), Some(40)))
        .await?;
    assert_eq!(unread(&fixture, &me()).await?, up, "as it was");
    // The one for everything else says the same, but not to an environment with one of its own.
    registry
        .set_policy(actor, &policy(PolicyEnvironment::All, Some(40)))
        .await?;
    registry.set_policy(actor, &policy(live(), None)).await?;
    assert_eq!(unread(&fixture, &me()).await?, []);
    registry.remove_policy(actor, &live()).await?;
    assert_eq!(unread(&fixture, &me()).await?, up);
    // A schedule of its own comes before any policy.
    let schedule = monthly(Mode::NotifyOnly)?;
    registry
        .set_schedule(actor, &issued.key.id, &schedule, "")
        .await?;
    assert_eq!(unread(&fixture, &me()).await?, []);
    registry.remove_schedule(actor, &issued.key.id).await?;
    assert_eq!(unread(&fixture, &me()).await?, up);
    registry
        .remove_policy(actor, &PolicyEnvironment::All)
        .await?;
    assert_eq!(unread(&fixture, &me()).await?, []);
    Ok(())
}

#[tokio::test]
async fn what_expires_is_over_when_its_secret_or_its_key_was_ended() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let (key, secret) = (fixture.issue("key").await?, fixture.issue("secret").await?);
    fixture.set_clock(START + 80 * DAY_MS);
    registry.post_notices().await?;
    let names = async || -> Result<Vec<String>> {
        let up = unread(&fixture, &me()).await?;
        assert!(up.iter().all(|one| one.kind == BoardKind::KeyExpiring));
        Ok(up.into_iter().map(|one| one.name).collect())
    };
    assert_eq!(names().await?.len(), 2);
    registry.revoke_api_key(actor, &key.key.id, "").await?;
    assert_eq!(names().await?, ["secret"]);
    let kid = secret.plain.kid();
    registry
        .revoke_secret(actor, &secret.key.id, kid, "leaked")
        .await?;
    assert_eq!(names().await?, Vec::<String>::new());
    assert!(all(&fixture, &me()).await?.iter().all(|one| one.settled));
    Ok(())
}

#[tokio::test]
async fn a_secret_that_waited_in_vain_or_was_taken_back_waits_no_more() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    for cancel in [true, false] {
        let began = fixture.place.now();
        let issued = fixture.issue_as(&of_a_year("pending")).await?;
        fixture.verify(&issued).await?;
        let schedule = monthly(Mode::IssuePending)?;
        registry
            .set_schedule(actor, &issued.key.id, &schedule, "")
            .await?;
        fixture.set_clock(began + 30 * DAY_MS);
        let runs = registry
            .run_due_schedules(actor, &fixture.peppers, 10)
            .await?;
        assert_eq!(runs.len(), 1);
        let is_up = async || -> Result<bool> {
            let up = unread(&fixture, &me()).await?;
            Ok(up.iter().any(|one| one.kind == BoardKind::RotationPending))
        };
        assert!(is_up().await?);
        if cancel {
            let step = RotationStep::Cancel;
            registry.step_rotation(actor, &issued.key.id, step).await?;
        } else {
            let (key, _) = registry.find_api_key(&issued.key.id).await?;
            let until = key.secrets.last().and_then(|secret| secret.pending_until);
            let until = until.context("it waits for ever")?;
            fixture.set_clock(until - 1);
            assert!(is_up().await?);
            fixture.set_clock(until);
        }
        assert!(!is_up().await?, "{cancel}");
        registry.revoke_api_key(actor, &issued.key.id, "").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_failed_delivery_is_over_with_the_next_rotation_and_not_because_it_was_taken_back()
-> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let failed = async |issued: &Issued| -> Result<Issued> {
        let id = rand_text();
        let key = &issued.key.id;
        let wish = RotationRequest::default();
        let new = registry
            .rotate_api_key(actor, key, &wish, &id, &fixture.peppers)
            .await?;
        let outcome = DeliveryOutcome::Failed {
            error: "denied".to_owned(),
            then: AfterFailure::Cancel,
        };
        registry
            .record_delivery(actor, &id, "file:/srv", &outcome)
            .await?;
        Ok(new)
    };
    let issued = fixture.issue("delivered").await?;
    fixture.verify(&issued).await?;
    failed(&issued).await?;
    let up = unread(&fixture, &me()).await?;
    // The rotation was taken back, and the place has the old secret still: somebody should know.
    assert_eq!(kinds(&up), [BoardKind::DeliveryFailed]);
    fixture.set_clock(START + HOUR);
    fixture
        .rotate_as(&issued.key.id, &RotationRequest::default())
        .await?;
    assert_eq!(unread(&fixture, &me()).await?, []);
    assert!(all(&fixture, &me()).await?[0].settled);
    Ok(())
}

#[tokio::test]
async fn a_webhook_that_is_on_again_or_gone_and_a_reported_secret_that_ended_are_over() -> Result<()>
{
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let new = NewWebhook {
        url: "https://hooks.example.org/path".into(),
        events: vec!["*".into()],
        description: String::new(),
        secret: Sealed::new(vec![1; 40]),
    };
    let made = registry.add_webhook(actor, &new).await?;
    let other = registry.add_webhook(actor, &new).await?;
    let fail = async |id: &str| -> Result<Vec<BoardKind>> {
        for _ in 0..2 {
            registry.note_webhook(id, false, false, DAY_MS).await?;
            fixture.set_clock(fixture.place.now() + DAY_MS);
        }
        Ok(kinds(&unread(&fixture, &me()).await?))
    };
    let disabled = [BoardKind::WebhookDisabled];
    assert_eq!(fail(&made.id).await?, disabled);
    let on = WebhookChange {
        enabled: Some(true),
        ..WebhookChange::default()
    };
    registry.change_webhook(actor, &made.id, &on).await?;
    assert_eq!(unread(&fixture, &me()).await?, []);
    assert_eq!(fail(&other.id).await?, disabled);
    registry.remove_webhook(actor, &other.id).await?;
    assert_eq!(unread(&fixture, &me()).await?, []);

    let issued = fixture.issue("reported").await?;
    let kid = Kid::new(issued.plain.kid().as_str())?;
    registry.report_found_kid(actor, &kid, "a log").await?;
    assert_eq!(
        kinds(&unread(&fixture, &me()).await?),
        [BoardKind::KeyReported]
    );
    let rotated_at = fixture.place.now();
    fixture
        .rotate_as(&issued.key.id, &from_issue(DAY_MS))
        .await?;
    assert_eq!(unread(&fixture, &me()).await?.len(), 1, "it works still");
    fixture.set_clock(rotated_at + DAY_MS);
    assert_eq!(unread(&fixture, &me()).await?, []);
    Ok(())
}

#[tokio::test]
async fn each_reader_has_their_own_marks_and_owners_see_what_is_theirs() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    for n in 0..5 {
        fixture.issue(&format!("key {n}")).await?;
    }
    fixture.set_clock(START + 80 * DAY_MS);
    registry.post_notices().await?;
    let (owner, other) = (named("o", Some("local")), named("x", Some("somebody")));
    let up = unread(&fixture, &owner).await?;
    assert_eq!((up.len(), unread(&fixture, &me()).await?.len()), (5, 5));
    assert_eq!(all(&fixture, &other).await?, []);
    assert!(!registry.mark_notice_read(&other, up[0].sequence).await?);
    assert!(!registry.mark_notice_read(&owner, 1_000_000).await?);
    // Page by page, newest first, each once.
    let mut query = BoardQuery {
        limit: 2,
        ..BoardQuery::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = registry.list_board(&owner, &query).await?;
        assert!(page.items.len() <= 2);
        seen.extend(page.items);
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, up);
    assert!(seen.is_sorted_by(|one, next| one.sequence > next.sequence));
    query.cursor = Some("nonsense".to_owned());
    let error = registry.list_board(&owner, &query).await.err();
    assert_eq!(error.context("a cursor")?.code(), "invalid_cursor");
    // One, and then all up to the second newest.
    assert!(registry.mark_notice_read(&owner, up[4].sequence).await?);
    assert!(registry.mark_notice_read(&owner, up[4].sequence).await?);
    assert_eq!(unread(&fixture, &owner).await?.len(), 4);
    let until = registry
        .mark_notices_read_until(&owner, up[1].sequence)
        .await?;
    assert_eq!(until, up[1].sequence);
    assert_eq!(unread(&fixture, &owner).await?, up[..1]);
    assert_eq!(unread(&fixture, &me()).await?.len(), 5, "another reader");
    // It never goes back, and not beyond what is there.
    registry.mark_notices_read_until(&owner, 1).await?;
    assert_eq!(registry.read_until(&owner).await?, up[1].sequence);
    let until = registry.mark_notices_read_until(&owner, i64::MAX).await?;
    assert_eq!(until, registry.newest_notice().await?);
    Ok(())
}

#[tokio::test]
async fn marks_and_old_notices_do_not_pile_up() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    fixture.issue("expiring").await?;
    let marks = async || -> Result<i64> {
        let mut stranger = fixture.stranger().await?;
        let sql = "SELECT COUNT(*) FROM board_reads";
        Ok(sqlx::query_scalar(sql).fetch_one(&mut stranger).await?)
    };
    for (day, expected) in [(80, 0), (84, 1), (89, 1)] {
        // News take the place of what was marked, and its mark goes with it.
        fixture.set_clock(START + day * DAY_MS);
        assert_eq!(marks().await?, expected);
        registry.post_notices().await?;
        assert_eq!(marks().await?, 0);
        let up = unread(&fixture, &me()).await?;
        assert_eq!(up.len(), 1);
        assert!(registry.mark_notice_read(&me(), up[0].sequence).await?);
    }
    fixture.set_clock(START + 400 * DAY_MS);
    registry.purge_notices(400).await?;
    assert_eq!(all(&fixture, &me()).await?.len(), 1);
    fixture.set_clock(START + 490 * DAY_MS);
    registry.purge_notices(400).await?;
    assert_eq!(all(&fixture, &me()).await?, []);
    assert_eq!(marks().await?, 0);
    Ok(())
}

#[tokio::test]
async fn what_is_removed_gives_its_number_to_nobody() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let issued = fixture.issue("gone").await?;
    fixture.set_clock(START + 80 * DAY_MS);
    registry.post_notices().await?;
    let newest = registry.newest_notice().await?;
    registry.mark_notice_read(&me(), newest).await?;
    registry
        .revoke_api_key(&fixture.actor, &issued.key.id, "")
        .await?;
    fixture.set_clock(START + 200 * DAY_MS);
    let policy = RetentionPolicy {
        ended_keys_days: Some(30),
        ..RetentionPolicy::default()
    };
    registry
        .run_retention(&fixture.actor, &policy, None, &[], &|_| {})
        .await?;
    assert_eq!(all(&fixture, &me()).await?, []);
    fixture.issue("next").await?;
    fixture.set_clock(START + 280 * DAY_MS);
    registry.post_notices().await?;
    let up = unread(&fixture, &me()).await?;
    assert_eq!((up.len(), up[0].sequence), (1, newest + 1));
    // By age as well.
    fixture.set_clock(START + 400 * DAY_MS);
    let policy = RetentionPolicy {
        ended_keys_days: None,
        notices_days: Some(30),
        ..RetentionPolicy::default()
    };
    registry
        .run_retention(&fixture.actor, &policy, None, &[], &|_| {})
        .await?;
    assert_eq!(all(&fixture, &me()).await?, []);
    Ok(())
}

#[tokio::test]
async fn ac_140_what_ended_with_its_owner_is_settled_and_no_finding() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let (kind, everything) = (OwnerKind::Person, ScopeSet::everything());
    registry
        .create_principal(actor, "ann", kind, "Ann", &everything)
        .await?;
    fixture
        .issue_as(&NewApiKey {
            owner: Some(Owner::new(kind, "ann")?),
            ..wish("of Ann")
        })
        .await?;
    fixture.set_clock(START + 80 * DAY_MS);
    registry.post_notices().await?;
    assert_eq!(
        kinds(&unread(&fixture, &me()).await?),
        [BoardKind::KeyExpiring]
    );
    let never_used = HygieneQuery {
        finding: HygieneFinding::NeverUsed,
        rules: HygieneRules {
            idle_days: 30,
            ..HygieneRules::default()
        },
        cursor: None,
        limit: 10,
    };
    assert_eq!(registry.hygiene(&never_used).await?.items.len(), 1);
    let revoke = PrincipalChange::RevokeKeys("leak".into());
    registry.change_principal(actor, "ann", &revoke).await?;
    assert_eq!(
        kinds(&unread(&fixture, &me()).await?),
        [BoardKind::OwnerKeysRevoked]
    );
    assert!(all(&fixture, &me()).await?[1].settled);
    assert_eq!(registry.hygiene(&never_used).await?.items.len(), 0);
    Ok(())
}

#[tokio::test]
async fn ac_140_an_overlap_of_a_key_that_ended_or_rests_with_its_owner_is_not_put_up() -> Result<()>
{
    let (kind, everything) = (OwnerKind::Person, ScopeSet::everything());
    let suspend = PrincipalChange::Disable("away".into());
    let revoke = PrincipalChange::RevokeKeys("leak".into());
    for change in [None, Some(suspend), Some(revoke)] {
        let fixture = super::fixture().await?;
        let (registry, actor) = (&fixture.registry, &fixture.actor);
        registry
            .create_principal(actor, "ann", kind, "Ann", &everything)
            .await?;
        let of_ann = NewApiKey {
            owner: Some(Owner::new(kind, "ann")?),
            ..wish("of Ann")
        };
        let old = fixture.issue_as(&of_ann).await?;
        fixture.rotate_as(&old.key.id, &from_issue(DAY_MS)).await?;
        fixture.set_clock(START + DAY_MS - HOUR / 2);
        assert_eq!(fixture.code(&old).await?, "valid");
        if let Some(change) = &change {
            registry.change_principal(actor, "ann", change).await?;
        }
        registry.post_notices().await?;
        let up = kinds(&all(&fixture, &me()).await?);
        assert_eq!(
            up.contains(&BoardKind::OverlapClosing),
            change.is_none(),
            "{change:?}: {up:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn every_overlap_that_ends_in_use_is_up_however_many_end_together() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let mut issued = Vec::new();
    for n in 0..501 {
        let one = fixture.issue(&format!("key {n}")).await?;
        fixture.rotate_as(&one.key.id, &from_issue(DAY_MS)).await?;
        issued.push(one);
    }
    fixture.set_clock(START + DAY_MS - HOUR / 2);
    for one in &issued {
        assert_eq!(fixture.code(one).await?, "valid");
    }
    let first = registry.overlaps_before_close(HOUR, None).await?;
    assert_eq!(first.len(), 500);
    assert!(first.iter().all(|one| one.key_prefix == "sk_live"));
    let rest = registry.overlaps_before_close(HOUR, first.last()).await?;
    assert_eq!(rest.len(), 1, "of one moment, and no two are one");
    assert_eq!(registry.overlaps_before_close(HOUR, rest.last()).await?, []);
    assert_eq!(registry.warnings_before_close(HOUR).await?.len(), 500);
    registry.post_notices().await?;
    let mut query = BoardQuery {
        limit: 100,
        ..BoardQuery::default()
    };
    let mut up = std::collections::BTreeSet::new();
    loop {
        let page = registry.list_board(&me(), &query).await?;
        for one in page.items {
            assert_eq!((one.kind, one.count), (BoardKind::OverlapClosing, 1));
            up.insert(one.key_id.context("a key")?);
        }
        if page.next_cursor.is_none() {
            break;
        }
        query.cursor = page.next_cursor;
    }
    assert_eq!(up, issued.into_iter().map(|one| one.key.id).collect());
    // Once is enough.
    let newest = registry.newest_notice().await?;
    fixture.set_clock(fixture.now() + 60_000);
    registry.post_notices().await?;
    assert_eq!(registry.newest_notice().await?, newest);
    Ok(())
}
