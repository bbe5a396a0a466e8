//! Rows that a registry keeps in memory, refresh tokens that are written together, and events of
//! clients' own tokens: what is answered is what the database has.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what goes wrong in a test's parts is a failed test"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Result, ensure};
use keywright_domain::api_keys::DAY_MS;
use keywright_domain::people::{
    AuthMethod, ClientType, EndReason, NewClient, OAuthScopes, RefreshLives, Sealed, SessionLives,
    SessionState,
};
use keywright_registry::people::{NewSession, RefreshOutcome, RefreshRequest, UserChange};
use keywright_registry::{AuditQuery, LocalRegistry};

use super::Fixture;
use super::grants::{desktop, grant_of, ready, scopes};
use super::people::token;

const MACHINE: &str = "machine";

fn machine() -> NewClient {
    NewClient {
        client_type: ClientType::Confidential,
        auth_method: AuthMethod::ClientSecretBasic,
        redirect_uris: Vec::new(),
        grant_types: vec!["client_credentials".to_owned()],
        scopes: scopes("keys:read keys:write"),
        ..desktop()
    }
}

async fn start_session(
    registry: &LocalRegistry,
    fixture: &Fixture,
    user: &str,
    cookie: &str,
) -> Result<String> {
    let new = NewSession {
        digest: token(cookie),
        user_id: user.to_owned(),
        acr: "aal1".to_owned(),
        amr: "pwd".to_owned(),
        proven_at: None,
        user_agent: "Firefox".to_owned(),
        network: "192.0.2.1".to_owned(),
        lives: SessionLives {
            idle_ms: DAY_MS,
            absolute_ms: 2 * DAY_MS,
        },
    };
    Ok(registry.start_session(&fixture.actor, &new).await?.id)
}

/// Reads everything that may be remembered.
async fn warm(registry: &LocalRegistry, user: &str, session: &str, cookie: &str) -> Result<()> {
    registry.find_client("app").await?;
    registry.find_client(MACHINE).await?;
    registry.list_client_secrets(MACHINE).await?;
    registry.find_user(user).await?;
    registry.find_session(&token(cookie)).await?;
    registry.find_session_by_id(session).await?;
    registry.list_sessions(user, true, None, 50).await?;
    registry.list_session_clients(session).await?;
    Ok(())
}

#[tokio::test]
async fn what_another_process_or_this_one_changed_is_seen_by_the_next_question() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let second = fixture.second().await?;
    let (one, actor) = (&fixture.registry, &fixture.actor);
    one.add_client(actor, MACHINE, &machine(), Some(&token("s1")))
        .await?;
    // Whoever changes something, both answer by it at once, from whatever they held before.
    for (writer, round) in [(one, 0), (&second, 1), (one, 2), (&second, 3)] {
        let both = [one, &second];
        let cookie = format!("cookie {round}");
        let session = start_session(writer, &fixture, &ada.id, &cookie).await?;
        for registry in both {
            warm(registry, &ada.id, &session, &cookie).await?;
        }
        writer.disable_client(actor, "app").await?;
        for registry in both {
            ensure!(
                registry.find_client("app").await?.disabled_at.is_some(),
                "{round}: a disabled client"
            );
        }
        writer.enable_client(actor, "app").await?;
        for registry in both {
            ensure!(
                registry.find_client("app").await?.disabled_at.is_none(),
                "{round}: an enabled client"
            );
        }
        let (old, new) = (format!("s{}", round + 1), format!("s{}", round + 2));
        writer
            .rotate_client_secret(actor, MACHINE, &token(&new), 0)
            .await?;
        for registry in both {
            ensure!(
                !registry.is_client_secret(MACHINE, &token(&old)).await?,
                "{round}: an old secret"
            );
            ensure!(
                registry.is_client_secret(MACHINE, &token(&new)).await?,
                "{round}: a new secret"
            );
        }
        let name = format!("Ada {round}");
        writer
            .change_user(actor, &ada.id, &UserChange::Name(name.clone()))
            .await?;
        for registry in both {
            assert_eq!(registry.find_user(&ada.id).await?.name, name);
        }
        let other = format!("other {round}");
        let added = start_session(writer, &fixture, &ada.id, &other).await?;
        for registry in both {
            let page = registry.list_sessions(&ada.id, true, None, 50).await?;
            assert_eq!(page.items.len(), 2, "{round}: a session more");
            registry.find_session(&token(&other)).await?;
        }
        writer
            .end_session(actor, &ada.id, &added, EndReason::Revoked)
            .await?;
        for registry in both {
            let (_, state) = registry
                .find_session(&token(&other))
                .await?
                .expect("it is kept");
            assert_eq!(state, SessionState::Ended, "{round}");
            ensure!(
                registry
                    .find_session_by_id(&added)
                    .await?
                    .ended_at
                    .is_some(),
                "{round}"
            );
            let page = registry.list_sessions(&ada.id, true, None, 50).await?;
            assert_eq!(page.items.len(), 1, "{round}: one less");
        }
        writer.disable_user(actor, &ada.id, "left").await?;
        for registry in both {
            ensure!(
                registry.find_user(&ada.id).await?.disabled_at.is_some(),
                "{round}: a disabled person"
            );
            let (_, state) = registry
                .find_session(&token(&cookie))
                .await?
                .expect("it is kept");
            assert_eq!(state, SessionState::Ended, "{round}: of a disabled person");
        }
        writer.enable_user(actor, &ada.id).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_session_that_runs_out_in_memory_is_over_and_hides_no_other() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let registry = &fixture.registry;
    start_session(registry, &fixture, &ada.id, "first").await?;
    fixture.set_clock(super::START + DAY_MS / 2);
    start_session(registry, &fixture, &ada.id, "second").await?;
    let page = registry.list_sessions(&ada.id, true, None, 1).await?;
    ensure!(page.items.len() == 1 && page.next_cursor.is_some());
    registry.find_session(&token("first")).await?;
    registry.list_sessions(&ada.id, true, None, 50).await?;
    fixture.set_clock(super::START + DAY_MS);
    let (_, state) = registry
        .find_session(&token("first"))
        .await?
        .expect("it is kept");
    assert_eq!(state, SessionState::Expired);
    assert_eq!(
        registry
            .list_sessions(&ada.id, true, None, 50)
            .await?
            .items
            .len(),
        1
    );
    let page = registry.list_sessions(&ada.id, true, None, 1).await?;
    ensure!(page.items.len() == 1 && page.next_cursor.is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_who_asks_meanwhile_leaves_an_old_row_behind() -> Result<()> {
    let (fixture, _) = ready().await?;
    let second = fixture.second().await?;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for registry in [&fixture.registry, &second, &fixture.registry, &second] {
        let (registry, stop, asked) = (registry.clone(), Arc::clone(&stop), Arc::clone(&asked));
        tasks.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                registry.find_client("app").await?;
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    let both = [&fixture.registry, &second];
    for round in 0..60 {
        let writer = both[round % 2];
        writer.disable_client(&fixture.actor, "app").await?;
        for registry in both {
            ensure!(
                registry.find_client("app").await?.disabled_at.is_some(),
                "round {round}"
            );
        }
        writer.enable_client(&fixture.actor, "app").await?;
        for registry in both {
            ensure!(
                registry.find_client("app").await?.disabled_at.is_none(),
                "round {round}"
            );
        }
    }
    stop.store(true, Ordering::SeqCst);
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    ensure!(asked.load(Ordering::Relaxed) > 0);
    Ok(())
}

fn refresh(presented: &str, successor: &str) -> RefreshRequest {
    RefreshRequest {
        presented: token(presented),
        successor: token(successor),
        sealed_successor: Sealed::new(successor.as_bytes().to_vec()),
        client_id: "app".to_owned(),
        dpop_jkt: None,
        scopes: None,
        lives: RefreshLives::default(),
        rotate: true,
        network: "192.0.2.1".to_owned(),
    }
}

async fn refresh_all(
    registry: &LocalRegistry,
    requests: Vec<RefreshRequest>,
) -> Result<Vec<RefreshOutcome>> {
    let mut tasks = tokio::task::JoinSet::new();
    for (at, request) in requests.into_iter().enumerate() {
        let registry = registry.clone();
        tasks.spawn(async move { (at, registry.refresh_grant(&request).await) });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let (at, outcome) = done?;
        all.push((at, outcome?));
    }
    all.sort_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, outcome)| outcome).collect())
}

#[tokio::test]
async fn of_tokens_that_are_refreshed_in_one_group_each_is_rotated_once() -> Result<()> {
    const FAMILIES: usize = 20;
    let (fixture, ada) = ready().await?;
    let registry = &fixture.registry;
    for family in 0..FAMILIES {
        grant_of(
            &fixture,
            &ada,
            &format!("code {family}"),
            &format!("{family}-0"),
            None,
        )
        .await?;
    }
    for turn in 0..3 {
        // Three at once with each token, each with a successor of its own.
        let requests = (0..FAMILIES * 3)
            .map(|at| {
                let (family, copy) = (at / 3, at % 3);
                let presented = if turn == 0 {
                    format!("{family}-0")
                } else {
                    format!("{family}-{turn}-first")
                };
                let next = format!(
                    "{family}-{}-{}",
                    turn + 1,
                    if copy == 0 { "first" } else { "late" }
                );
                refresh(
                    &presented,
                    &format!("{next}{}", if copy == 2 { "r" } else { "" }),
                )
            })
            .collect();
        let outcomes = refresh_all(registry, requests).await?;
        for (family, three) in outcomes.chunks(3).enumerate() {
            let rotated = three
                .iter()
                .filter(|one| matches!(one, RefreshOutcome::Rotated { .. }))
                .count();
            assert_eq!(rotated, 1, "family {family}, turn {turn}: {three:?}");
            ensure!(
                matches!(three[0], RefreshOutcome::Rotated { .. }),
                "the first that came: {three:?}"
            );
            for again in &three[1..] {
                let RefreshOutcome::Replayed {
                    sealed_successor, ..
                } = again
                else {
                    panic!("an honest retry: {again:?}");
                };
                let first = format!("{family}-{}-first", turn + 1);
                assert_eq!(sealed_successor.as_bytes(), first.as_bytes());
            }
        }
    }
    // One that is too old, in a group with the newest of all families: its family ends, whichever of
    // the two comes first, and no other does.
    let mut requests: Vec<_> = (0..FAMILIES)
        .map(|family| refresh(&format!("{family}-3-first"), &format!("{family}-4")))
        .collect();
    // The token just before the newest one, when that is used in the same group before it.
    requests.push(refresh("9-2-first", "late"));
    requests.push(refresh("7-0", "stolen"));
    let outcomes = refresh_all(registry, requests).await?;
    ensure!(matches!(outcomes[FAMILIES], RefreshOutcome::Reused { .. }));
    ensure!(matches!(outcomes[9], RefreshOutcome::Rotated { .. }));
    ensure!(
        matches!(outcomes[FAMILIES + 1], RefreshOutcome::Reused { .. }),
        "{:?}",
        outcomes[FAMILIES + 1]
    );
    for family in 0..FAMILIES {
        let next = registry
            .refresh_grant(&refresh(&format!("{family}-4"), &format!("{family}-5")))
            .await?;
        let goes_on = matches!(next, RefreshOutcome::Rotated { .. });
        assert_eq!(
            goes_on,
            ![7, 9].contains(&family),
            "family {family}: {next:?}"
        );
    }
    ensure!(
        registry
            .find_grant_of_live_token(&token("stolen"))
            .await?
            .is_none()
    );
    Ok(())
}

async fn issued(registry: &LocalRegistry) -> Result<Vec<(u64, Vec<String>, String)>> {
    let query = AuditQuery {
        limit: 500,
        ..AuditQuery::default()
    };
    let events = registry.list_audit_events(query).await?.items;
    let own = events
        .into_iter()
        .filter(|event| event.action == "client.token_issued");
    own.map(|event| {
        let detail = |name: &str| {
            let found = event.details.iter().find(|(own, _)| own == name);
            found.map(|(_, value)| value.clone())
        };
        let jtis = detail("jti").unwrap_or_default();
        Ok((
            detail("count").map_or(Ok(1), |count| count.parse())?,
            jtis.split(' ').map(str::to_owned).collect(),
            detail("scopes").unwrap_or_default(),
        ))
    })
    .collect()
}

#[tokio::test]
async fn every_token_of_a_client_is_counted_in_an_event_and_the_first_at_once() -> Result<()> {
    let (fixture, _) = ready().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    registry
        .add_client(actor, MACHINE, &machine(), Some(&token("s")))
        .await?;
    let (read, write) = (scopes("keys:read"), scopes("keys:write"));
    let record = async |jti: &str, scopes: &OAuthScopes| {
        registry.record_client_token(MACHINE, jti, scopes).await
    };
    record("first", &read).await?;
    let told = issued(registry).await?;
    assert_eq!(
        told,
        [(1, vec!["first".to_owned()], "keys:read".to_owned())]
    );
    for at in 0..200 {
        record(&format!("r{at}"), &read).await?;
    }
    record("w", &write).await?;
    registry.flush_client_tokens().await?;
    let told = issued(registry).await?;
    let count = |of: &str| {
        told.iter()
            .filter(|one| one.2 == of)
            .map(|one| one.0)
            .sum::<u64>()
    };
    assert_eq!((count("keys:read"), count("keys:write")), (201, 1));
    ensure!(
        told.iter().all(|one| one.1.len() as u64 == one.0.min(32)),
        "the first 32 are named: {told:?}"
    );
    registry.flush_client_tokens().await?;
    assert_eq!(
        issued(registry).await?.len(),
        told.len(),
        "nothing is told twice"
    );
    // What waits when the registry is closed is written.
    record("early", &read).await?;
    record("late", &read).await?;
    registry.close().await;
    let second = fixture.second().await?;
    let all: u64 = issued(&second).await?.iter().map(|one| one.0).sum();
    assert_eq!(all, 204);
    let refused = registry.record_client_token(MACHINE, "none", &read).await;
    ensure!(refused.is_err(), "no token without its event");
    Ok(())
}
