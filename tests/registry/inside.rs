//! What is asked of a registry from inside, and so of the one of this device or node alone. Over HTTP
//! ([`super::super::over_http`]) these are left out, each for its reason:
//!
//! - peppers never leave the server, so nobody rotates one from outside;
//! - a creator is whoever calls: nobody names another over HTTP (`keys::tests` of the server has
//!   that);
//! - the audit trail is searched in the database;
//! - two processes over one database are two servers there, which `super::races` has;
//! - whoever guesses often is refused there before the time of an answer says anything.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use keywright_domain::api_keys::{DAY_MS, NewApiKey, OwnerKind};
use keywright_domain::audit::Actor;
use keywright_domain::schedules::{Mode, Recurrence, Schedule, ScheduleTerms, TimeZone};
use keywright_domain::scopes::{ScopeRequirement, ScopeSet};
use keywright_registry::{
    ApiKeyFilter, ApiKeyQuery, Clock, LocalRegistry, Peppers, PrincipalChange, RotationStep,
    VerifyRequest,
};

use super::keys::{asking, verify};
use super::races::{Way, code, end, peppers, window};
use super::{Kind, START, checksum, pepper, wish};

#[tokio::test]
async fn ac_147_the_first_use_of_a_verification_that_was_given_up_is_written_later() -> Result<()> {
    let fixture = super::fixture().await?;
    let issued = fixture.issue("a").await?;
    let (mut away, mut holds) = (fixture.stranger().await?, fixture.stranger().await?);
    let sql = "ALTER TABLE audit_events RENAME TO elsewhere";
    sqlx::raw_sql(sql).execute(&mut away).await?;
    let begin = match fixture.kind {
        Kind::Sqlite => "BEGIN IMMEDIATE",
        Kind::Postgres => "BEGIN",
    };
    sqlx::raw_sql(begin).execute(&mut holds).await?;
    sqlx::raw_sql("UPDATE heads SET id = id")
        .execute(&mut holds)
        .await?;
    // Its own time is over after 250 ms: on a busy machine both may be, and this one counts.
    tokio::select! {
        biased;
        () = tokio::time::sleep(Duration::from_millis(150)) => {}
        code = fixture.code(&issued) => anyhow::bail!("it was not given up: {code:?}"),
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut holds).await?;
    // Whatever it left with the writer is done, and failed, before this one.
    assert!(fixture.issue("b").await.is_err());
    let sql = "ALTER TABLE elsewhere RENAME TO audit_events";
    sqlx::raw_sql(sql).execute(&mut away).await?;
    assert_eq!(fixture.code(&issued).await?, "valid");
    fixture.registry.flush_uses().await?;
    let (key, _) = fixture.registry.find_api_key(&issued.key.id).await?;
    ensure!(key.secrets[0].first_used_at.is_some(), "{key:?}");
    assert_eq!(key.secrets[0].use_count, 1, "nobody was answered before");
    let actions = fixture.actions().await?;
    let first = actions
        .iter()
        .filter(|action| *action == "api_key.secret_first_used");
    assert_eq!(first.count(), 1);
    Ok(())
}

#[tokio::test]
async fn ac_131_a_creator_cannot_grant_more_and_takes_along_what_they_lose() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let held = ScopeSet::parse("keys:* users:read")?;
    registry
        .create_principal(actor, "ann", OwnerKind::Person, "Ann", &held)
        .await?;
    let made_by_ann = |scopes: &[&str]| NewApiKey {
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        creator: Some("ann".into()),
        ..wish("made by Ann")
    };
    for too_much in ["users:write", "users:*", "*:*"] {
        let refused = fixture.issue_as(&made_by_ann(&[too_much])).await;
        assert!(
            format!("{:?}", refused.expect_err("too much")).contains("more"),
            "{too_much}"
        );
    }
    let issued = fixture
        .issue_as(&made_by_ann(&["keys:read", "users:read"]))
        .await?;
    let requirement = ScopeRequirement::parse("users:read")?;
    let request = VerifyRequest {
        requirement: Some(&requirement),
        ..asking(&issued)
    };
    assert_eq!(verify(&fixture, request).await?.code(), "valid");
    let less = PrincipalChange::Permissions(ScopeSet::parse("keys:read")?);
    registry.change_principal(actor, "ann", &less).await?;
    let answer = verify(&fixture, request).await?;
    assert_eq!(answer.code(), "insufficient_scope");
    assert_eq!(
        answer.scopes.map(|scopes| scopes.to_string()).as_deref(),
        Some("keys:read")
    );
    let suspended = PrincipalChange::Disable("left".into());
    registry.change_principal(actor, "ann", &suspended).await?;
    assert_eq!(
        verify(&fixture, request).await?.code(),
        "insufficient_scope"
    );
    let wish = made_by_ann(&["keys:read"]);
    let refused = registry.issue_api_key(actor, &wish, &fixture.peppers).await;
    assert_eq!(refused.expect_err("suspended").code(), "owner_not_found");
    Ok(())
}

#[tokio::test]
async fn ac_148_a_secret_moves_to_the_newest_pepper_when_it_is_used() -> Result<()> {
    let fixture = super::fixture().await?;
    let (used, unused) = (fixture.issue("used").await?, fixture.issue("unused").await?);
    fixture
        .registry
        .rotate_pepper(&fixture.actor, "pepper-2")
        .await?;
    let both = || Peppers::new(pepper("pepper-2", 8)).with_older(pepper("pepper-1", 7));
    assert!(
        fixture
            .registry
            .verify_api_key(&asking(&used), &both())
            .await?
            .verdict
            .is_ok()
    );
    let only_newest = Peppers::new(pepper("pepper-2", 8));
    // The row is rewritten beside the verification.
    let mut moved = false;
    for _ in 0..2000 {
        moved = fixture
            .registry
            .verify_api_key(&asking(&used), &only_newest)
            .await
            .is_ok();
        if moved {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(moved, "the used secret is stored under the newest pepper");
    let left = fixture
        .registry
        .verify_api_key(&asking(&unused), &only_newest)
        .await;
    assert_eq!(
        left.expect_err("still under the old one").code(),
        "pepper_missing"
    );
    let uses = fixture.registry.list_peppers().await?;
    let needed = uses.iter().map(|one| (one.id.as_str(), one.is_needed));
    assert!(needed.eq([("pepper-2", true), ("pepper-1", true)]));
    for one in &uses {
        assert_eq!(fixture.registry.count_secrets_under(&one.id).await?, 1);
    }
    // Once the last secret under the old one has ended, it may go.
    let (actor, id) = (&fixture.actor, &unused.key.id);
    fixture.registry.revoke_api_key(actor, id, "done").await?;
    let uses = fixture.registry.list_peppers().await?;
    let needed = uses.iter().map(|one| (one.id.as_str(), one.is_needed));
    assert!(needed.eq([("pepper-2", true), ("pepper-1", false)]));
    Ok(())
}

#[tokio::test]
async fn a_search_of_the_audit_trail_ends_and_says_where() -> Result<()> {
    let fixture = super::fixture().await?;
    fixture.issue("a rare needle").await?;
    let mut stranger = fixture.stranger().await?;
    sqlx::query(
        "WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 119999) \
         INSERT INTO audit_events (sequence, at, action, actor, target_kind, target_id, target_name, summary, \
         details, search_text) SELECT i, 1, 'x', 'x', 'api_key', 'x', 'x', 'x', '[]', 'hay' FROM n",
    )
    .execute(&mut stranger)
    .await?;
    let (mut before, mut steps) = (None, Vec::new());
    loop {
        let query = keywright_registry::AuditQuery {
            text: "RARE needle".into(),
            before,
            limit: 10,
            ..Default::default()
        };
        let page = fixture.registry.list_audit_events(query).await?;
        assert_eq!(page.next_before, page.searched_back_to);
        steps.push((page.items.len(), page.searched_back_to));
        before = page.next_before;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(steps, [(0, Some(70_000)), (0, Some(20_000)), (1, None)]);
    let enough = keywright_registry::AuditQuery {
        text: "ha".into(),
        limit: 10,
        ..Default::default()
    };
    let page = fixture.registry.list_audit_events(enough).await?;
    assert_eq!(
        (page.items.len(), page.next_before, page.searched_back_to),
        (10, Some(119_990), None)
    );
    Ok(())
}
const PLACE: &str = "KEYWRIGHT_TEST_RACES_PLACE";
const TEXT: &str = "KEYWRIGHT_TEST_RACES_TEXT";

fn nanos() -> Result<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())
}

/// Not a test of its own: the other process. It asks for one key until it has ended, and writes
/// keys of its own meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_process() -> Result<()> {
    let Some(place) = std::env::var_os(PLACE) else {
        return Ok(());
    };
    let (place, text) = (place.to_string_lossy().into_owned(), std::env::var(TEXT)?);
    let registry = if place.starts_with("postgres") {
        LocalRegistry::open_postgres(&place, Clock::system()).await?
    } else {
        LocalRegistry::open(std::path::Path::new(&place), Clock::system()).await?
    };
    let actor = Actor::person("the other process");
    let (mut last_accepted, mut after) = (0, 0);
    for round in 0..20_000 {
        let began = nanos()?;
        if code(&registry, &text).await? == "valid" {
            last_accepted = began;
        } else {
            after += 1;
        }
        if round % 10 == 0 && round < 300 {
            registry
                .issue_api_key(&actor, &wish("theirs"), &peppers())
                .await?;
        }
        if after > 200 {
            break;
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    registry.close().await;
    eprintln!("last accepted {last_accepted} of {after}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ac_153_two_processes_write_and_verify_over_one_database() -> Result<()> {
    let fixture = super::fixture().await?;
    let place = match fixture.kind {
        Kind::Sqlite => fixture.file().display().to_string(),
        Kind::Postgres => fixture.url(),
    };
    let own_name = module_path!().split_once("::").context("a crate")?.1;
    let issued = fixture.issue("asked for").await?;
    let other = Command::new(std::env::current_exe()?)
        .args(["--exact", "--nocapture"])
        .arg(format!("{own_name}::other_process"))
        .env(PLACE, &place)
        .env(TEXT, issued.plain.text().expose())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    // Until the other process has written something, and a while longer.
    let started = Instant::now();
    let theirs = ApiKeyQuery {
        filter: ApiKeyFilter {
            text: "theirs".into(),
            ..ApiKeyFilter::default()
        },
        limit: 1,
        ..ApiKeyQuery::default()
    };
    while fixture
        .registry
        .list_api_keys(&theirs)
        .await?
        .items
        .is_empty()
    {
        ensure!(
            started.elapsed() < Duration::from_secs(30),
            "it does not write"
        );
        fixture.issue("ours").await?;
        fixture.code(&issued).await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    end(&fixture.registry, &issued, Way::Revoke).await?;
    let revoked = nanos()?;
    let output = tokio::task::spawn_blocking(move || other.wait_with_output()).await??;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{said}");
    let last: u128 = said
        .split("last accepted ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .context("what it said")?
        .parse()?;
    assert!(last > 0, "it was accepted before: {said}");
    assert!(
        last < revoked + window(fixture.kind).as_nanos(),
        "accepted after the revocation returned"
    );
    crate::registry::model::check_chain(&mut fixture.stranger().await?).await
}

#[tokio::test]
async fn rotations_that_nothing_ended_are_looked_at_and_not_written() -> Result<()> {
    const HOUR_MS: i64 = 3_600_000;
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    for (number, overlap) in [(0, 1), (1, 48), (2, 48)] {
        let issued = fixture.issue_as(&wish("rotated")).await?;
        let id = format!("rotation {number}");
        let request = super::from_issue(overlap * HOUR_MS);
        registry
            .rotate_api_key(
                &fixture.actor,
                &issued.key.id,
                &request,
                &id,
                &fixture.peppers,
            )
            .await?;
        registry
            .step_rotation(&fixture.actor, &issued.key.id, RotationStep::Promote)
            .await?;
    }
    // Somebody else has the writer's turn, and keeps it: whoever writes waits for that.
    let mut stranger = fixture.stranger().await?;
    for sql in ["BEGIN", "UPDATE heads SET writes = writes WHERE id = 1"] {
        sqlx::query(sql).execute(&mut stranger).await?;
    }
    let settled = tokio::time::timeout(Duration::from_secs(4), registry.settle_rotations());
    assert_eq!(settled.await.context("it waits for the writer")??, 0);
    sqlx::query("ROLLBACK").execute(&mut stranger).await?;
    fixture.set_clock(super::START + 2 * HOUR_MS);
    assert_eq!(registry.settle_rotations().await?, 1);
    Ok(())
}

/// The smaller of two medians against the larger one, of calls that take turns: each asks for a text so many times.
async fn ratio_of_times(
    fixture: &super::Fixture,
    [one, other]: [&str; 2],
    at_once: usize,
) -> Result<f64> {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..301 {
        for (times, presented) in times.iter_mut().zip([one, other]) {
            let request = VerifyRequest {
                presented,
                ..VerifyRequest::default()
            };
            let start = std::time::Instant::now();
            let (registry, mut refused) = (&fixture.registry, 0);
            registry
                .verify_api_keys(&vec![request; at_once], &fixture.peppers, |_, answer| {
                    refused += usize::from(answer.code() == "not_found");
                    true
                })
                .await?;
            times.push(start.elapsed().as_secs_f64());
            assert_eq!(refused, at_once);
        }
    }
    let [one, other] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    Ok(one.min(other) / one.max(other))
}

#[tokio::test]
async fn ac_127_an_unknown_kid_takes_as_long_as_a_wrong_secret() -> Result<()> {
    let (fixture, stranger) = (super::fixture().await?, super::fixture().await?);
    let (ours, theirs) = (
        fixture.issue("ours").await?,
        stranger.issue("theirs").await?,
    );
    while !fixture.registry.index_is_complete() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let text = ours.plain.text().expose();
    let mut forged = text[..text.len() - 38].to_owned() + &"0".repeat(32);
    forged.push_str(&checksum(&forged));
    // A first use is written down: what comes after it is judged from memory alone.
    assert_eq!(fixture.verify_text(text).await?.code(), "valid");
    for at_once in [1, 2] {
        let mut ratios = Vec::new();
        // This machine has other things to do.
        while ratios.iter().all(|ratio| *ratio <= 0.75) {
            ensure!(ratios.len() < 5, "time tells which kids exist: {ratios:?}");
            let texts = [&*forged, theirs.plain.text().expose()];
            ratios.push(ratio_of_times(&fixture, texts, at_once).await?);
        }
    }
    Ok(())
}

/// Months may pass before somebody rotates: each look would be a turn of those who write.
#[tokio::test]
async fn an_overdue_schedule_that_only_notifies_waits_for_no_writer_once_it_was_told() -> Result<()>
{
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let schedule = Schedule::new(ScheduleTerms {
        recurrence: Recurrence::Interval {
            every_ms: 7 * DAY_MS,
        },
        time_zone: TimeZone::new("UTC")?,
        window: None,
        jitter_ms: 0,
        mode: Mode::NotifyOnly,
        max_age_ms: None,
    })?;
    let mut keys = Vec::new();
    for name in ["one", "two", "three"] {
        let key = fixture.issue(name).await?.key;
        registry
            .set_schedule(&fixture.actor, &key.id, &schedule, "")
            .await?;
        keys.push(key);
    }
    let run = || registry.run_due_schedules(&fixture.actor, &fixture.peppers, 10);
    fixture.set_clock(START + 9 * DAY_MS);
    ensure!(run().await?.is_empty());
    ensure!(registry.due_notices(10).await?.len() == 3, "they are told");
    let mut holds = fixture.stranger().await?;
    let begin = match fixture.kind {
        Kind::Sqlite => "BEGIN IMMEDIATE",
        Kind::Postgres => "BEGIN",
    };
    sqlx::raw_sql(begin).execute(&mut holds).await?;
    sqlx::raw_sql("UPDATE heads SET id = id")
        .execute(&mut holds)
        .await?;
    let looked = tokio::time::timeout(Duration::from_secs(3), run()).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut holds).await?;
    ensure!(looked.context("it waits for the writer")??.is_empty());
    // Rotated by hand, it is due a week later.
    fixture
        .registry
        .rotate_api_key(
            &fixture.actor,
            &keys[0].id,
            &super::from_issue(DAY_MS),
            "by-hand",
            &fixture.peppers,
        )
        .await?;
    ensure!(run().await?.is_empty());
    let moved = registry.find_schedule(&keys[0].id).await?;
    ensure!(moved.is_some_and(|one| one.next_due_at > START + 9 * DAY_MS));
    Ok(())
}
