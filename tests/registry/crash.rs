//! kill -9 at any write, and on PostgreSQL a lost connection in the middle of a COMMIT: reopened,
//! the database is whole and nothing is half done.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keywright_domain::api_keys::lifecycle::KnownScope;
use keywright_domain::api_keys::{
    CreditPlan, DAY_MS, KeySettings, NewApiKey, Owner, OwnerKind, Policy, PolicyEnvironment,
    RotationRequest, SecretState,
};
use keywright_domain::audit::Actor;
use keywright_domain::schedules::{Mode, Recurrence, Schedule, ScheduleTerms, TimeZone};
use keywright_domain::scopes::{Scope, ScopeSet};
use keywright_registry::{
    ApiKeyChange, Clock, Issued, LocalRegistry, Peppers, PrincipalChange, RegistryError,
    RotationStep, VerifyRequest,
};
use sqlx::{AnyConnection, Connection};

use super::model::{check_chain, folder};
use super::{from_issue, pepper, rand_text, wish};
use crate::support::postgres::Database;

/// Set where a victim ends with the first write that was undone and not done again. A COMMIT on the way
/// may have been answered by nobody: that is told, and not done again.
const VICTIM_IS_STRICT: &str = "KEYWRIGHT_TEST_CRASH_STRICT";
const VICTIM_PLACE: &str = "KEYWRIGHT_TEST_CRASH_PLACE";

async fn open(place: &str) -> Result<LocalRegistry, RegistryError> {
    if place.starts_with("postgres") {
        LocalRegistry::open_postgres(place, Clock::system()).await
    } else {
        LocalRegistry::open(Path::new(place), Clock::system()).await
    }
}

fn peppers(newest: usize) -> Peppers {
    let one = |number: usize| {
        pepper(
            &format!("pepper-{number}"),
            u8::try_from(number % 250).unwrap_or(0),
        )
    };
    (0..newest).fold(Peppers::new(one(newest)), |peppers, older| {
        peppers.with_older(one(older))
    })
}

const CHANGED: &str = "changed victim";
const CHANGED_SCOPE: &str = "audit:read";
/// Far from what was there before, whatever is used of either.
const CHANGED_CREDITS: i64 = 1000;

fn monthly() -> Result<Schedule, RegistryError> {
    let terms = ScheduleTerms {
        recurrence: Recurrence::Interval {
            every_ms: 30 * DAY_MS,
        },
        time_zone: TimeZone::new("UTC")?,
        window: None,
        jitter_ms: 0,
        mode: Mode::NotifyOnly,
        max_age_ms: None,
    };
    Ok(Schedule::new(terms)?)
}

/// Every use case once, on a key and an owner of its own.
struct Round {
    registry: LocalRegistry,
    actor: Actor,
    peppers: Peppers,
}

impl Round {
    async fn verify(&self, issued: &Issued) -> Result<&'static str, RegistryError> {
        let request = VerifyRequest {
            presented: issued.plain.text().expose(),
            ..VerifyRequest::default()
        };
        let answer = self
            .registry
            .verify_api_key(&request, &self.peppers)
            .await?;
        Ok(answer.code())
    }

    async fn rotate(&self, id: &str, request: &RotationRequest) -> Result<Issued, RegistryError> {
        self.registry
            .rotate_api_key(&self.actor, id, request, &rand_text(), &self.peppers)
            .await
    }

    async fn play(&self) -> Result<(), RegistryError> {
        let (registry, actor) = (&self.registry, &self.actor);
        let owner = rand_text();
        let everything = ScopeSet::everything();
        registry
            .create_principal(actor, &owner, OwnerKind::Team, "victims", &everything)
            .await?;
        let mine = NewApiKey {
            owner: Some(Owner {
                kind: OwnerKind::Team,
                id: owner.clone(),
            }),
            settings: KeySettings {
                credits: Some(CreditPlan {
                    amount: 3,
                    refill: None,
                }),
                ..KeySettings::default()
            },
            ..wish("victim")
        };
        let issued = registry.issue_api_key(actor, &mine, &self.peppers).await?;
        let id = issued.key.id.as_str();
        for _ in 0..4 {
            self.verify(&issued).await?;
        }
        // Another name, other scopes, and more credits than are left: together.
        let change = ApiKeyChange {
            name: Some(CHANGED.to_owned()),
            scopes: Some(vec![CHANGED_SCOPE.to_owned()]),
            settings: Some(KeySettings {
                credits: Some(CreditPlan {
                    amount: CHANGED_CREDITS,
                    refill: None,
                }),
                ..KeySettings::default()
            }),
            ..ApiKeyChange::default()
        };
        registry.change_api_key(actor, id, &change).await?;
        registry
            .set_schedule(actor, id, &monthly()?, "nowhere")
            .await?;
        registry.pause_schedule(actor, id, true).await?;
        registry.remove_schedule(actor, id).await?;
        // Taken back, promoted and finished, used and rolled back, made anew, compromised.
        self.rotate(id, &RotationRequest::default()).await?;
        registry
            .step_rotation(actor, id, RotationStep::Cancel)
            .await?;
        self.rotate(id, &RotationRequest::default()).await?;
        registry
            .step_rotation(actor, id, RotationStep::Promote)
            .await?;
        registry
            .step_rotation(actor, id, RotationStep::Finish)
            .await?;
        let new = self.rotate(id, &from_issue(DAY_MS)).await?;
        self.verify(&new).await?;
        registry
            .step_rotation(actor, id, RotationStep::RollBack)
            .await?;
        let (lost, once) = (from_issue(DAY_MS), rand_text());
        registry
            .rotate_api_key(actor, id, &lost, &once, &self.peppers)
            .await?;
        let anew = registry.reissue_secret(actor, &once, &self.peppers).await?;
        self.verify(&anew).await?;
        registry
            .revoke_secret(actor, id, anew.plain.kid(), "leaked")
            .await?;
        registry.settle_rotations().await?;
        registry.disable_api_key(actor, id, "away").await?;
        registry.enable_api_key(actor, id).await?;
        let compromised = RotationRequest {
            compromised: Some("leaked".to_owned()),
            ..RotationRequest::default()
        };
        self.rotate(id, &compromised).await?;
        registry.flush_uses().await?;
        let mut policy = Policy::default_for(keywright_domain::api_keys::Environment::TEST);
        policy.environment = PolicyEnvironment::parse("test")?;
        registry.set_policy(actor, &policy).await?;
        registry.remove_policy(actor, &policy.environment).await?;
        let change = PrincipalChange::RevokeKeys("gone".to_owned());
        registry.change_principal(actor, &owner, &change).await?;
        registry.revoke_api_key(actor, id, "done").await?;
        Ok(())
    }
}

/// Not a test of its own: the process that is killed. Without its variable it ends at once. A lost
/// connection is no end: it goes on, as a server would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_victim() -> Result<()> {
    let Ok(place) = std::env::var(VICTIM_PLACE) else {
        return Ok(());
    };
    let registry = loop {
        match open(&place).await {
            Ok(registry) => break registry,
            Err(error) if place.starts_with("postgres") => {
                eprintln!("opened anew after {}", error.code());
            }
            Err(error) => return Err(error.into()),
        }
    };
    let actor = Actor::person("victim");
    for round in 0..100_000 {
        let known = registry.list_peppers().await.map_or(0, |known| known.len());
        if known == 0 || round % 4 == 0 {
            // A newer pepper: what is in use follows, one write each.
            let id = format!("pepper-{known}");
            if known == 0 {
                let _ = registry.adopt_pepper(&actor, "pepper-0").await;
            } else {
                let _ = registry.rotate_pepper(&actor, &id).await;
            }
            continue;
        }
        let round = Round {
            registry: registry.clone(),
            actor: actor.clone(),
            peppers: peppers(known - 1),
        };
        if let Err(error) = round.play().await {
            let expected = matches!(
                error,
                RegistryError::Silent
                    | RegistryError::Store(_)
                    | RegistryError::CommitUnknown(_)
                    | RegistryError::Locked
            );
            let is_refused = std::env::var_os(VICTIM_IS_STRICT).is_some()
                && matches!(error, RegistryError::Store(_));
            ensure!(
                expected && place.starts_with("postgres") && !is_refused,
                "{error}"
            );
        }
    }
    Ok(())
}

/// Does not outlive a test that fails: stopped, it would hold the test's output open for good.
struct Victim(std::process::Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn victim(place: &str) -> Result<std::process::Child> {
    Ok(Command::new(std::env::current_exe()?)
        .args(["--exact", "registry::crash::crash_victim"])
        .env(VICTIM_PLACE, place)
        .stdout(Stdio::null())
        .spawn()?)
}

#[tokio::test]
async fn ac_153_a_kill_at_any_write_leaves_nothing_half_done() -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("registry.db").display().to_string();
    let mut seen = 0;
    for round in 0..25_u64 {
        let mut victim = victim(&file)?;
        tokio::time::sleep(Duration::from_millis(40 + 23 * round)).await;
        victim.kill()?;
        victim.wait()?;
        seen = check(&file).await?;
    }
    assert!(seen > 5, "the victims wrote something: {seen} keys");
    Ok(())
}

#[tokio::test]
async fn ac_153_a_kill_at_any_write_leaves_nothing_half_done_on_postgres() -> Result<()> {
    let database = Database::create().await?;
    let mut seen = 0;
    for round in 0..12_u64 {
        let mut victim = victim(database.url())?;
        tokio::time::sleep(Duration::from_millis(150 + 41 * round)).await;
        victim.kill()?;
        victim.wait()?;
        seen = check(database.url()).await?;
    }
    assert!(seen > 5, "the victims wrote something: {seen} keys");
    database.close().await
}

/// A process that stands still in the middle of a write holds the row that all writers wait for.
#[tokio::test]
async fn a_node_frozen_in_the_middle_of_a_write_does_not_hold_the_others_up() -> Result<()> {
    let database = Database::create().await?;
    let own = open(database.url()).await?;
    let mut victim = Victim(
        Command::new(std::env::current_exe()?)
            .args(["--exact", "registry::crash::crash_victim"])
            .env(VICTIM_PLACE, database.url())
            .env(VICTIM_IS_STRICT, "1")
            .stdout(Stdio::null())
            .spawn()?,
    );
    let id = victim.0.id().to_string();
    let signal = async |name: &str| -> Result<()> {
        let sent = tokio::process::Command::new("kill")
            .args([name, &id])
            .status();
        ensure!(sent.await?.success(), "{name}");
        Ok(())
    };
    while own.list_peppers().await?.len() < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let other = Actor::person("other");
    let mut held = Vec::new();
    for round in 0..60_u64 {
        // Long enough for the other try of the freeze before: there is one.
        tokio::time::sleep(Duration::from_millis(800 + 37 * (round % 9))).await;
        let scope = KnownScope {
            scope: Scope::new(&format!("frozen:{round}"))?,
            description: "A write of another node".into(),
            low_risk: true,
        };
        signal("-STOP").await?;
        let began = Instant::now();
        let written = own.define_scope(&other, scope).await;
        let took = began.elapsed();
        signal("-CONT").await?;
        written?;
        // One second, and what a busy machine adds; five were the longest before.
        ensure!(took < Duration::from_secs(4), "held up for {took:?}");
        if took > Duration::from_millis(700) {
            held.push(took);
        }
        if held.len() == 3 {
            break;
        }
    }
    // What it had begun was done again, each time.
    tokio::time::sleep(Duration::from_millis(500)).await;
    ensure!(victim.0.try_wait()?.is_none(), "a write of it failed");
    drop(victim);
    ensure!(
        !held.is_empty(),
        "none of the freezes was in the middle of a write"
    );
    own.close().await;
    check(database.url()).await?;
    database.close().await
}

#[tokio::test]
async fn a_connection_lost_at_any_moment_leaves_nothing_half_done() -> Result<()> {
    let database = Database::create().await?;
    open(database.url()).await?.close().await;
    let mut victim = victim(database.url())?;
    let mut hand = AnyConnection::connect(database.url()).await?;
    let mut cut = 0_i64;
    for round in 0..45_u64 {
        tokio::time::sleep(Duration::from_millis(61 + 37 * (round % 9))).await;
        // The backend itself goes: what it was committing may or may not have been written.
        let ended: i64 = sqlx::query_scalar(
            "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .fetch_one(&mut hand)
        .await?;
        cut += ended;
        ensure!(victim.try_wait()?.is_none(), "the victim gave up");
    }
    hand.close().await?;
    victim.kill()?;
    victim.wait()?;
    let seen = check(database.url()).await?;
    assert!(cut > 40 && seen > 2, "{cut} connections cut, {seen} keys");
    database.close().await
}

type KeyRow = (String, i64, Option<i64>, Option<i64>, String);
type SecretRow = (String, String, Option<i64>, Option<i64>);

/// The trail is whole, and every key has the rows that its events say, and no others.
async fn check(place: &str) -> Result<usize> {
    let registry = open(place).await?;
    let scopes = registry.list_scopes().await?.len();
    assert!(scopes > 0, "a registry always has its scopes");
    let url = if place.starts_with("postgres") {
        place.to_owned()
    } else {
        format!("sqlite://{place}")
    };
    let mut rows = AnyConnection::connect(&url).await?;
    check_chain(&mut rows).await?;
    let keys: Vec<KeyRow> =
        sqlx::query_as("SELECT id, epoch, revoked_at, disabled_at, kid FROM api_keys")
            .fetch_all(&mut rows)
            .await?;
    let newest: i64 = sqlx::query_scalar("SELECT change_version FROM heads")
        .fetch_one(&mut rows)
        .await?;
    for (id, epoch, revoked, disabled, current) in &keys {
        let events: Vec<String> = sqlx::query_scalar(
            "SELECT action FROM audit_events WHERE target_kind = 'api_key' AND target_id = $1 ORDER BY sequence",
        )
        .bind(id.clone())
        .fetch_all(&mut rows)
        .await?;
        let secrets: Vec<SecretRow> = sqlx::query_as(
            "SELECT kid, stored, first_used_at, retires_at FROM secrets WHERE key_id = $1 ORDER BY position",
        )
        .bind(id.clone())
        .fetch_all(&mut rows)
        .await?;
        check_key(&events, &secrets, revoked.is_some(), disabled.is_some())
            .with_context(|| format!("{events:?}, {secrets:?}"))?;
        assert!(*epoch <= newest && secrets.iter().any(|one| one.0 == *current));
        let rotations: Vec<(String, Option<i64>)> =
            sqlx::query_as("SELECT state, ended_at FROM rotations WHERE key_id = $1")
                .bind(id.clone())
                .fetch_all(&mut rows)
                .await?;
        let rotated = events
            .iter()
            .filter(|one| *one == "api_key.rotated")
            .count();
        assert_eq!(rotations.len(), rotated, "one rotation for each event");
        let open = rotations.iter().filter(|one| one.1.is_none()).count();
        assert!(open <= 1, "{rotations:?}");
        let states = |wanted: &str| rotations.iter().filter(|one| one.0 == wanted).count();
        assert_eq!(open, states("pending") + states("overlapping"));
        let left: Option<i64> =
            sqlx::query_scalar("SELECT remaining FROM credits WHERE key_id = $1")
                .bind(id.clone())
                .fetch_optional(&mut rows)
                .await?;
        check_change(&mut rows, id, &events, left)
            .await
            .with_context(|| format!("{events:?}, {left:?} left"))?;
    }
    rows.close().await?;
    // What was half way goes on.
    registry.settle_rotations().await?;
    registry.close().await;
    Ok(keys.len())
}

/// What is changed together is changed together, and a schedule is there as its events say.
async fn check_change(
    rows: &mut AnyConnection,
    id: &str,
    events: &[String],
    left: Option<i64>,
) -> Result<()> {
    let count = |action: &str| events.iter().filter(|event| *event == action).count();
    let (name, scopes): (String, String) =
        sqlx::query_as("SELECT name, scopes FROM api_keys WHERE id = $1")
            .bind(id.to_owned())
            .fetch_one(&mut *rows)
            .await?;
    let parts = [
        count("api_key.changed") == 1,
        name == CHANGED,
        scopes == CHANGED_SCOPE,
        left.is_some_and(|left| left > CHANGED_CREDITS / 2),
    ];
    ensure!(parts == [parts[0]; 4], "{parts:?}: {name}, {scopes}");
    let most = if parts[0] { CHANGED_CREDITS } else { 3 };
    ensure!(left.is_some_and(|left| (0..=most).contains(&left)));
    let paused: Vec<Option<i64>> =
        sqlx::query_scalar("SELECT paused_at FROM schedules WHERE key_id = $1")
            .bind(id.to_owned())
            .fetch_all(&mut *rows)
            .await?;
    // Set, and then paused: two events.
    let (set, removed) = (count("schedule.set"), count("schedule.removed"));
    let expected: &[bool] = match (set, removed) {
        (0, 0) | (2, 1) => &[],
        (1, 0) => &[false],
        (2, 0) => &[true],
        _ => anyhow::bail!("{set} set, {removed} removed"),
    };
    let paused: Vec<bool> = paused.iter().map(Option::is_some).collect();
    ensure!(paused == expected, "{paused:?}");
    Ok(())
}

fn check_key(
    events: &[String],
    secrets: &[SecretRow],
    revoked: bool,
    disabled: bool,
) -> Result<()> {
    let count = |action: &str| events.iter().filter(|event| *event == action).count();
    let state = |wanted: SecretState| {
        let wanted = format!("{wanted:?}").to_lowercase();
        secrets.iter().filter(|one| one.1 == wanted).count()
    };
    ensure!(count("api_key.issued") == 1, "issued");
    let made = 1 + count("api_key.rotated") + count("api_key.secret_reissued");
    ensure!(secrets.len() == made, "{made} secrets were made");
    ensure!(revoked == (count("api_key.revoked") == 1), "revoked");
    let away = count("api_key.disabled") - count("api_key.enabled");
    ensure!(disabled == (away == 1), "disabled");
    let used = secrets.iter().filter(|one| one.2.is_some()).count();
    ensure!(used == count("api_key.secret_first_used"), "first uses");
    let live =
        state(SecretState::Pending) + state(SecretState::Active) + state(SecretState::Retiring);
    ensure!(live <= 2 && (live == 0) == revoked, "{live} are live");
    let aborted = count("api_key.rotation_cancelled")
        + count("api_key.rotation_rolled_back")
        + count("api_key.secret_reissued");
    ensure!(state(SecretState::Aborted) == aborted, "aborted");
    let retiring = state(SecretState::Retiring);
    let ends = secrets
        .iter()
        .filter(|one| one.1 == "retiring" && one.3.is_some());
    ensure!(retiring == ends.count(), "an overlap has an end");
    Ok(())
}
