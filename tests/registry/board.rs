//! The notice board: what is put up where, what takes whose place, what is settled, and who has read it.

use anyhow::{Context as _, Result};
use keywright_domain::api_keys::{DAY_MS, NewApiKey, Owner, OwnerKind};
use keywright_domain::schedules::{Mode, Recurrence, Schedule, ScheduleTerms, TimeZone};
use keywright_domain::scopes::ScopeSet;
use keywright_registry::{
    AfterFailure, BoardKind, BoardNotice, BoardQuery, BoardReader, DeliveryOutcome, HygieneFinding,
    HygieneQuery, HygieneRules, PrincipalChange, RetentionPolicy,
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
    assert_eq!(unread(&fixture, &me()).await?, []);
    assert!(all(&fixture, &me()).await?[0].settled);
    assert_eq!(registry.hygiene(&never_used).await?.items.len(), 0);
    Ok(())
}
