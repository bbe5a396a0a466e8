//! What happens at the same moment: in tasks, and in two registries over one database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use keywright_domain::api_keys::{
    CreditPlan, DAY_MS, KeySettings, NewApiKey, Owner, OwnerKind, PlainKey, Prefix, RotationRequest,
};
use keywright_domain::audit::Actor;
use keywright_domain::scopes::ScopeSet;
use keywright_registry::{ClientSecret, Issued, Peppers, PrincipalChange, VerifyRequest};
use tokio::task::JoinSet;

use super::{Fixture, Kind, Registry, from_issue, pepper, rand_text, wish};

/// What another node may still believe after a revocation returned; nothing on SQLite.
pub(super) fn window(kind: Kind) -> Duration {
    match kind {
        Kind::Sqlite => Duration::ZERO,
        Kind::Postgres => Duration::from_secs(1),
    }
}

pub(super) fn peppers() -> Peppers {
    Peppers::new(pepper("pepper-1", 7))
}

pub(super) async fn code(registry: &Registry, text: &str) -> Result<&'static str> {
    let request = VerifyRequest {
        presented: text,
        ..VerifyRequest::default()
    };
    match registry.verify_api_key(&request, &peppers()).await {
        Ok(answer) => Ok(answer.code()),
        // On a busy machine a commit takes longer than a verification waits for: it refuses then.
        Err(error) if BUSY.contains(&error.code()) => Ok(error.code()),
        Err(error) => Err(error.into()),
    }
}

/// What a registry answers when a commit takes longer than a verification waits for. It may have
/// counted the use all the same.
const BUSY: [&str; 3] = [
    "registry_locked",
    "registry_offline",
    "registry_unavailable",
];

/// Rounds in which nobody was told that the registry is busy are needed; so many may fail before.
const ROUNDS: u32 = 30;

/// Races go on for eight seconds, and on a busy machine until enough of them took place.
fn goes_on(started: Instant, is_enough: bool) -> bool {
    let since = started.elapsed();
    since < Duration::from_secs(8) || (!is_enough && since < Duration::from_secs(120))
}

/// Runs all at the same moment.
async fn at_once<T: Send + 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Result<Vec<T>> {
    let tasks: Vec<_> = tasks.into_iter().collect();
    let gate = Arc::new(tokio::sync::Barrier::new(tasks.len()));
    let mut running = JoinSet::new();
    for task in tasks {
        let gate = Arc::clone(&gate);
        running.spawn(async move {
            gate.wait().await;
            task.await
        });
    }
    let mut answers = Vec::new();
    while let Some(answer) = running.join_next().await {
        answers.push(answer?);
    }
    Ok(answers)
}

/// Ways to end a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Revoke,
    RevokeSecret,
    Disable,
    Compromise,
    Owner,
    OwnerDisabled,
}

const WAYS: [Way; 6] = [
    Way::Revoke,
    Way::RevokeSecret,
    Way::Disable,
    Way::Compromise,
    Way::Owner,
    Way::OwnerDisabled,
];

async fn owned(fixture: &Fixture) -> Result<Issued> {
    let id = rand_text();
    fixture
        .registry
        .create_principal(
            &fixture.actor,
            &id,
            OwnerKind::Service,
            "a service",
            &ScopeSet::everything(),
        )
        .await?;
    let kind = OwnerKind::Service;
    fixture
        .issue_as(&NewApiKey {
            owner: Some(Owner { kind, id }),
            ..wish("raced")
        })
        .await
}

pub(super) async fn end(registry: &Registry, issued: &Issued, way: Way) -> Result<()> {
    let actor = Actor::person("ender");
    let (key, id) = (&issued.key, issued.key.id.as_str());
    match way {
        Way::Revoke => drop(registry.revoke_api_key(&actor, id, "").await?),
        Way::RevokeSecret => {
            let kid = issued.plain.kid();
            drop(registry.revoke_secret(&actor, id, kid, "leaked").await?);
        }
        Way::Disable => drop(registry.disable_api_key(&actor, id, "").await?),
        Way::Compromise => {
            let request = RotationRequest {
                compromised: Some("leaked".to_owned()),
                ..RotationRequest::default()
            };
            let once = rand_text();
            drop(
                registry
                    .rotate_api_key(&actor, id, &request, &once, &peppers())
                    .await?,
            );
        }
        Way::Owner => {
            let change = PrincipalChange::RevokeKeys("gone".to_owned());
            drop(
                registry
                    .change_principal(&actor, &key.owner.id, &change)
                    .await?,
            );
        }
        Way::OwnerDisabled => {
            let change = PrincipalChange::Disable("away".to_owned());
            drop(
                registry
                    .change_principal(&actor, &key.owner.id, &change)
                    .await?,
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ac_140_nothing_is_accepted_after_its_end_returned() -> Result<()> {
    let fixture = super::fixture().await?;
    let started = Instant::now();
    let (mut rounds, mut accepted) = (0_usize, 0_usize);
    while goes_on(started, rounds > 10 && accepted > 0) {
        let way = WAYS[rounds % WAYS.len()];
        let issued = owned(&fixture).await?;
        // Every other time nobody has seen the key yet: then the first answer and its end race.
        if rounds.is_multiple_of(2) {
            fixture.code(&issued).await?;
        }
        let over = Arc::new(AtomicBool::new(false));
        let mut askers = JoinSet::new();
        for _ in 0..3 {
            let (registry, over) = (fixture.registry.clone(), Arc::clone(&over));
            let text = issued.plain.text().expose().to_owned();
            askers.spawn(async move {
                let mut accepted = 0;
                for _ in 0..400 {
                    let was_over = over.load(Ordering::SeqCst);
                    let code = code(&registry, &text).await?;
                    ensure!(
                        !(was_over && code == "valid"),
                        "accepted after {way:?} returned"
                    );
                    accepted += usize::from(code == "valid");
                    if was_over {
                        break;
                    }
                }
                Ok(accepted)
            });
        }
        tokio::time::sleep(Duration::from_micros(137 * (rounds as u64 % 13))).await;
        end(&fixture.registry, &issued, way).await?;
        over.store(true, Ordering::SeqCst);
        while let Some(answer) = askers.join_next().await {
            accepted += answer??;
        }
        assert_ne!(fixture.code(&issued).await?, "valid");
        rounds += 1;
    }
    assert!(
        rounds > 10 && accepted > 0,
        "{rounds} rounds, {accepted} accepted before"
    );
    Ok(())
}

/// The other registry has just been opened: its index is being filled while the key ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ac_140_another_registry_accepts_nothing_after_the_window() -> Result<()> {
    let fixture = super::fixture().await?;
    for index in 0..200 {
        fixture.issue(&format!("beside {index}")).await?;
    }
    let window = window(fixture.kind);
    let started = Instant::now();
    let mut rounds = 0_usize;
    while goes_on(started, rounds > 2) {
        let other = fixture.second().await?;
        let mut askers = JoinSet::new();
        let mut ends = Vec::new();
        for way in WAYS {
            let issued = owned(&fixture).await?;
            if rounds.is_multiple_of(2) {
                code(&other, issued.plain.text().expose()).await?;
            }
            let ended = Arc::new(std::sync::Mutex::new(None::<Instant>));
            let (asked, registry) = (Arc::clone(&ended), other.clone());
            let text = issued.plain.text().expose().to_owned();
            ends.push((issued, way, ended));
            askers.spawn(async move {
                loop {
                    let began = Instant::now();
                    let ended = *asked.lock().expect("a lock");
                    let code = code(&registry, &text).await?;
                    if let Some(ended) = ended {
                        let late = began.saturating_duration_since(ended);
                        ensure!(
                            code != "valid" || late < window,
                            "accepted {late:?} after {way:?} returned"
                        );
                        if late > window + Duration::from_millis(5) {
                            ensure!(code != "valid", "accepted at last");
                            return Ok(());
                        }
                    }
                    tokio::task::yield_now().await;
                }
            });
        }
        for (issued, way, ended) in ends {
            end(&fixture.registry, &issued, way).await?;
            *ended.lock().expect("a lock") = Some(Instant::now());
        }
        while let Some(answer) = askers.join_next().await {
            answer??;
        }
        other.close().await;
        rounds += 1;
    }
    assert!(rounds > 2, "{rounds} rounds");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parallel_debits_take_exactly_the_credits_there_are() -> Result<()> {
    let fixture = super::fixture().await?;
    let second = fixture.second().await?;
    let credits = |amount| KeySettings {
        credits: Some(CreditPlan {
            amount,
            refill: None,
        }),
        ..KeySettings::default()
    };
    for amount in [1, 30, 49] {
        let expected = usize::try_from(amount)?;
        let mut tries = 0;
        // On a busy machine some are told that the registry is busy, and the round proves less.
        loop {
            let issued = fixture
                .issue_as(&NewApiKey {
                    settings: credits(amount),
                    ..wish("with credits")
                })
                .await?;
            let new = fixture.rotate(&issued.key.id, DAY_MS).await?;
            let texts = [issued, new].map(|issued| issued.plain.text().expose().to_owned());
            let tasks = (0..50).map(|task| {
                let registry = if task % 2 == 0 {
                    fixture.registry.clone()
                } else {
                    second.clone()
                };
                let text = texts[task / 25].clone();
                async move { code(&registry, &text).await }
            });
            let answers: Result<Vec<_>> = at_once(tasks).await?.into_iter().collect();
            let answers = answers?;
            let count = |wanted: &str| answers.iter().filter(|code| **code == wanted).count();
            let (mut valid, exhausted) = (count("valid"), count("credits_exhausted"));
            let mut busy = 50 - valid - exhausted;
            let is_exact = busy == 0;
            ensure!(
                busy == BUSY.iter().map(|code| count(code)).sum::<usize>(),
                "{answers:?}"
            );
            loop {
                match code(&fixture.registry, &texts[0]).await? {
                    "valid" => valid += 1,
                    "credits_exhausted" => break,
                    _ => {
                        busy += 1;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                ensure!(valid <= expected, "an overlap doubles nothing");
            }
            // Who was told "busy" may have paid all the same, once.
            ensure!(
                valid + busy >= expected,
                "{valid} and {busy} busy of {expected}"
            );
            let left: i64 =
                sqlx::query_scalar("SELECT remaining FROM credits WHERE remaining <> 0")
                    .fetch_optional(&mut fixture.stranger().await?)
                    .await?
                    .unwrap_or(0);
            assert_eq!(left, 0);
            if is_exact {
                assert_eq!((valid, exhausted), (expected, 50 - expected));
                break;
            }
            tries += 1;
            ensure!(tries < ROUNDS, "the registry was busy in every round");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_one_time_key_is_accepted_once_whoever_asks_at_the_same_moment() -> Result<()> {
    let fixture = super::fixture().await?;
    let second = fixture.second().await?;
    let mut kinds = vec![true, true, true, false];
    let mut tries = 0;
    while let Some(rotated) = kinds.pop() {
        let issued = fixture
            .issue_as(&NewApiKey {
                settings: KeySettings {
                    one_time: true,
                    ..KeySettings::default()
                },
                ..wish("once")
            })
            .await?;
        let mut texts = vec![issued.plain.text().expose().to_owned()];
        if rotated {
            let new = fixture.rotate(&issued.key.id, DAY_MS).await?;
            texts.push(new.plain.text().expose().to_owned());
        }
        let tasks = (0..50).map(|task| {
            let registry = if task % 2 == 0 {
                fixture.registry.clone()
            } else {
                second.clone()
            };
            let text = texts[task / 2 % texts.len()].clone();
            async move { code(&registry, &text).await }
        });
        let (mut accepted, mut busy) = (0, 0);
        for answer in at_once(tasks).await? {
            let code = answer?;
            ensure!(
                ["valid", "retired"].contains(&code) || BUSY.contains(&code),
                "{code}"
            );
            accepted += usize::from(code == "valid");
            busy += usize::from(BUSY.contains(&code));
        }
        // One who was told "busy" may have used it up; nobody is accepted after anybody.
        let last = loop {
            let code = code(&fixture.registry, &texts[0]).await?;
            if !BUSY.contains(&code) {
                break code;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        accepted += usize::from(last == "valid");
        assert!(
            accepted <= 1,
            "rotated: {rotated}, accepted {accepted} times"
        );
        if busy == 0 {
            assert_eq!((accepted, last), (1, "retired"), "rotated: {rotated}");
        } else {
            tries += 1;
            ensure!(tries < ROUNDS, "the registry was busy in every round");
            kinds.push(rotated);
            continue;
        }
        let open = fixture.registry.list_rotations(&issued.key.id).await?;
        assert!(open.iter().all(|rotation| !rotation.state.is_open()));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ac_138_of_parallel_rotations_of_one_secret_one_succeeds() -> Result<()> {
    let fixture = super::fixture().await?;
    let second = fixture.second().await?;
    for _ in 0..5 {
        let issued = fixture.issue("raced").await?;
        let request = RotationRequest {
            replaces: Some(issued.plain.kid().clone()),
            ..from_issue(DAY_MS)
        };
        let tasks = (0..20).map(|task| {
            let registry = if task % 2 == 0 {
                fixture.registry.clone()
            } else {
                second.clone()
            };
            let (id, request) = (issued.key.id.clone(), request.clone());
            async move {
                let (actor, once) = (Actor::person("racer"), rand_text());
                registry
                    .rotate_api_key(&actor, &id, &request, &once, &peppers())
                    .await
            }
        });
        let mut made = 0;
        for answer in at_once(tasks).await? {
            match answer {
                Ok(_) => made += 1,
                Err(error) => assert_eq!(error.code(), "rotation_in_progress"),
            }
        }
        assert_eq!(made, 1);
        let (key, _) = fixture.registry.find_api_key(&issued.key.id).await?;
        assert_eq!(key.secrets.len(), 2);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ac_138_the_same_rotation_id_rotates_once_from_wherever_it_comes() -> Result<()> {
    let fixture = super::fixture().await?;
    let second = fixture.second().await?;
    let issued = fixture.issue("by the server").await?;
    let by_client = fixture.issue("by the client").await?;
    let made = ClientSecret::of(&PlainKey::generate(
        &Prefix::new("sk_live")?,
        &mut rand::rng(),
    ));
    let tasks = (0..40).map(|task| {
        let registry = if task % 2 == 0 {
            fixture.registry.clone()
        } else {
            second.clone()
        };
        let (id, made) = (issued.key.id.clone(), made.clone());
        let other = by_client.key.id.clone();
        async move {
            let (actor, request) = (Actor::person("racer"), from_issue(DAY_MS));
            if task < 20 {
                let answer = registry
                    .rotate_api_key(&actor, &id, &request, "rotation-once", &peppers())
                    .await;
                return answer.map(|issued| format!("made {}", issued.plain.kid()));
            }
            let answer = registry
                .rotate_api_key_to(
                    &actor,
                    &other,
                    &request,
                    "rotation-twice",
                    &made,
                    &peppers(),
                )
                .await;
            answer.map(|(_, rotation)| {
                if rotation.new == made.kid && rotation.id == "rotation-twice" {
                    "the same".to_owned()
                } else {
                    "another".to_owned()
                }
            })
        }
    });
    // A device that asks several times under one id, before it was answered, does so with one secret.
    let (mut first, mut same) = (std::collections::BTreeSet::new(), 0);
    for answer in at_once(tasks).await? {
        match answer {
            Ok(made) if made.starts_with("made ") => drop(first.insert(made)),
            Ok(the_same) if the_same == "the same" => same += 1,
            Ok(other) => panic!("{other} rotation"),
            Err(error) => assert_eq!(error.code(), "rotation_already_done"),
        }
    }
    assert_eq!((first.len(), same), (1, 20));
    for id in [&issued.key.id, &by_client.key.id] {
        let (key, events) = second.find_api_key(id).await?;
        let rotated = events
            .iter()
            .filter(|event| event.action == "api_key.rotated");
        assert_eq!((key.secrets.len(), rotated.count()), (2, 1));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ac_147_parallel_first_uses_are_one_first_use() -> Result<()> {
    let fixture = super::fixture().await?;
    let second = fixture.second().await?;
    let issued = fixture.issue("raced").await?;
    fixture.code(&issued).await?;
    let new = fixture
        .rotate_as(&issued.key.id, &RotationRequest::default())
        .await?;
    let tasks = (0..40).map(|task| {
        let registry = if task % 2 == 0 {
            fixture.registry.clone()
        } else {
            second.clone()
        };
        let text = new.plain.text().expose().to_owned();
        // Whoever is told "busy" was not counted, and asks again.
        async move {
            loop {
                match code(&registry, &text).await {
                    Ok("registry_locked") => tokio::time::sleep(Duration::from_millis(20)).await,
                    other => return other,
                }
            }
        }
    });
    for answer in at_once(tasks).await? {
        assert_eq!(answer?, "valid");
    }
    second.flush_uses().await?;
    let (key, events) = fixture.registry.find_api_key(&issued.key.id).await?;
    let first = events
        .iter()
        .filter(|event| event.action == "api_key.secret_first_used");
    assert_eq!(first.count(), 2, "one of each secret");
    assert_eq!(key.secrets[1].use_count, 40, "none lost, none twice");
    assert_eq!(
        key.secrets[0].retires_at,
        Some(fixture.now() + DAY_MS),
        "the clock runs"
    );
    Ok(())
}
