//! What the key service asks of the registry: changes since a version, the trail by filters, schedules
//! in pages, issues that are asked for again, operations over many keys.

use anyhow::{Context as _, Result};
use keywright_domain::api_keys::lifecycle::KnownScope;
use keywright_domain::api_keys::{DAY_MS, Environment, Policy, PolicyEnvironment, RotationRequest};
use keywright_domain::audit::Actor;
use keywright_domain::people::Sealed;
use keywright_domain::schedules::Schedule;
use keywright_domain::scopes::Scope;
use keywright_registry::outbox::NewWebhook;
use keywright_registry::{
    AuditQuery, BulkFailure, BulkProblem, BulkProgress, BulkState, ChangedSubject, Claim,
    ClientSecret, Conditions, DeliveryOutcome, IdempotencyKey, IssuedOnce, LocalRegistry, NewBulk,
    RegistryError, RotatedOnce, Seen, Thing,
};

use super::{START, wish};

#[tokio::test]
async fn changes_are_read_from_where_one_was_and_a_gap_is_told() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let before = registry.newest_change().await?;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(fixture.issue(&format!("key {number}")).await?.key.id);
    }
    let all = registry.changes_since(before, 1000).await?;
    let found: Vec<_> = all.items.iter().map(|one| one.subject.clone()).collect();
    let expected: Vec<_> = ids.iter().cloned().map(ChangedSubject::ApiKey).collect();
    assert_eq!(found, expected);
    assert_eq!(
        (all.through, all.has_gap),
        (registry.newest_change().await?, false)
    );
    assert_eq!(registry.seen_change(), all.through);
    // In parts it is the same.
    let (mut after, mut parts) = (before, Vec::new());
    loop {
        let part = registry.changes_since(after, 2).await?;
        assert!(part.items.len() <= 2);
        after = part.through;
        if part.items.is_empty() {
            break;
        }
        parts.extend(part.items);
    }
    assert_eq!(parts, all.items);
    assert!(
        registry.changes_since(after + 1, 10).await?.has_gap,
        "a number nobody gave"
    );
    assert!(!registry.changes_since(after, 10).await?.has_gap);
    // Another node sees the same.
    let other = fixture.second().await?;
    fixture
        .registry
        .revoke_api_key(&fixture.actor, &ids[0], "")
        .await?;
    let seen = other.changes_since(after, 10).await?;
    assert_eq!(
        seen.items[0].subject,
        ChangedSubject::ApiKey(ids[0].clone())
    );
    other.close().await;
    Ok(())
}

#[tokio::test]
async fn ac_184_the_trail_is_filtered_by_type_person_target_and_time() -> Result<()> {
    let fixture = super::fixture().await?;
    let one = fixture.issue("one").await?.key.id;
    fixture.set_clock(START + DAY_MS);
    let other = Actor::person("some_body%");
    fixture.registry.revoke_api_key(&other, &one, "").await?;
    fixture.issue("two").await?;
    let read = async |query: AuditQuery| -> Result<Vec<String>> {
        let query = AuditQuery {
            limit: 100,
            ..query
        };
        let page = fixture.registry.list_audit_events(query).await?;
        Ok(page.items.into_iter().map(|event| event.action).collect())
    };
    let by = |actor: &str| AuditQuery {
        actor: Some(actor.to_owned()),
        ..AuditQuery::default()
    };
    assert_eq!(read(by("some_body%")).await?, ["api_key.revoked"]);
    assert_eq!(read(by("some_bodyx")).await?, [] as [&str; 0]);
    let kind = |action: &str| AuditQuery {
        action: Some(action.to_owned()),
        ..AuditQuery::default()
    };
    assert_eq!(read(kind("api_key.issued")).await?.len(), 2);
    assert_eq!(read(kind("api_key.")).await?.len(), 3);
    assert_eq!(read(kind("api_ke_.")).await?.len(), 0);
    let about = AuditQuery {
        target: Some(one.clone()),
        until: Some(START + DAY_MS),
        ..AuditQuery::default()
    };
    assert_eq!(read(about).await?, ["api_key.issued"]);
    let late = AuditQuery {
        from: Some(START + DAY_MS),
        ..kind("api_key.")
    };
    assert_eq!(read(late).await?, ["api_key.issued", "api_key.revoked"]);
    Ok(())
}

#[tokio::test]
async fn schedules_come_in_pages_and_are_hastened() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let schedule = |days: i64| {
        let every = days * DAY_MS;
        Schedule::parse(&format!(
            "v1;every={every};zone=UTC;jitter=0;mode=notify_only"
        ))
    };
    let mut ids = Vec::new();
    for days in [3, 1, 2] {
        let id = fixture.issue("a").await?.key.id;
        registry
            .set_schedule(&fixture.actor, &id, &schedule(days)?, "")
            .await?;
        ids.push(id);
    }
    let mut found = Vec::new();
    let mut after: Option<(i64, String)> = None;
    loop {
        let place = after.as_ref().map(|(at, id)| (*at, id.as_str()));
        let page = registry.list_schedules(None, place, 2).await?;
        let Some(last) = page.last() else { break };
        after = Some((last.next_due_at, last.id.clone()));
        found.extend(page.into_iter().map(|one| one.key_id));
    }
    assert_eq!(found, [&*ids[1], &*ids[2], &*ids[0]]);
    assert!(
        registry
            .list_schedules(Some("nobody"), None, 10)
            .await?
            .is_empty()
    );
    registry
        .pause_schedule(&fixture.actor, &ids[0], true)
        .await?;
    let hastened = registry.hasten_schedule(&fixture.actor, &ids[0]).await?;
    assert_eq!((hastened.next_due_at, hastened.paused_at), (START, None));
    registry.revoke_api_key(&fixture.actor, &ids[1], "").await?;
    let refused = registry.hasten_schedule(&fixture.actor, &ids[1]).await;
    assert_eq!(refused.err().map(|error| error.code()), Some("key_revoked"));
    Ok(())
}

#[tokio::test]
async fn ac_138_an_issue_that_is_asked_for_again_is_the_same_key_on_every_node() -> Result<()> {
    let fixture = super::fixture().await?;
    let other = fixture.second().await?;
    let once = |name: &str, request: u8| IdempotencyKey {
        name: name.to_owned(),
        request: [request; 32],
    };
    let (actor, peppers) = (&fixture.actor, &fixture.peppers);
    let wish = wish("once");
    let ask = async |registry: &keywright_registry::LocalRegistry, name: &str, request: u8| {
        let once = once(name, request);
        registry
            .issue_api_key_once(actor, &wish, None, &once, peppers)
            .await
    };
    // Many at once, over two nodes.
    let tries = (0..10).map(|number| {
        let registry = if number % 2 == 0 {
            &fixture.registry
        } else {
            &other
        };
        ask(registry, "a", 1)
    });
    let (mut made, mut ids) = (0, std::collections::BTreeSet::new());
    let mut tries: Vec<_> = tries.map(Box::pin).collect();
    let all = std::future::poll_fn(|context| {
        let mut done = Vec::new();
        tries.retain_mut(|one| match one.as_mut().poll(context) {
            std::task::Poll::Ready(answer) => {
                done.push(answer);
                false
            }
            std::task::Poll::Pending => true,
        });
        for answer in done {
            match answer {
                Ok(IssuedOnce::Now { key, plain }) => {
                    assert!(plain.is_some());
                    made += 1;
                    ids.insert(key.id);
                }
                Ok(IssuedOnce::Before(key)) => {
                    ids.insert(key.id);
                }
                Err(error) => panic!("{error}"),
            }
        }
        if tries.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    });
    all.await;
    assert_eq!((made, ids.len()), (1, 1));
    let reused = ask(&other, "a", 2).await;
    assert!(matches!(reused, Err(RegistryError::IdempotencyKeyReused)));
    // A name that another actor used is free.
    let stranger = Actor::person("somebody else");
    let made = other
        .issue_api_key_once(&stranger, &wish, None, &once("a", 2), peppers)
        .await?;
    assert!(matches!(made, IssuedOnce::Now { .. }));
    // A rule that is broken remembers nothing.
    let mut bad = wish.clone();
    bad.scopes = vec!["unknown:thing".into()];
    let refused = other
        .issue_api_key_once(actor, &bad, None, &once("b", 3), peppers)
        .await;
    assert_eq!(
        refused.err().map(|error| error.code()),
        Some("unknown_scope")
    );
    assert!(matches!(ask(&other, "b", 4).await?, IssuedOnce::Now { .. }));
    // After a week the name means nothing any more.
    fixture.set_clock(START + 8 * DAY_MS);
    assert!(matches!(ask(&other, "c", 1).await?, IssuedOnce::Now { .. }));
    assert!(matches!(ask(&other, "a", 1).await?, IssuedOnce::Now { .. }));
    // A secret of the client's that is taken is refused, and the same request is not.
    let plain = fixture.issue("own").await?.plain;
    let client = ClientSecret::of(&plain);
    let taken = other
        .issue_api_key_once(actor, &wish, Some(&client), &once("d", 1), peppers)
        .await;
    assert!(taken.is_err());
    other.close().await;
    Ok(())
}

fn named(name: &str, request: u8) -> IdempotencyKey {
    IdempotencyKey {
        name: name.into(),
        request: [request; 32],
    }
}

fn hook(url: &str) -> NewWebhook {
    NewWebhook {
        url: url.into(),
        events: vec!["*".into()],
        description: String::new(),
        secret: Sealed::new(vec![1, 2, 3]),
    }
}

#[tokio::test]
async fn whatever_is_one_write_is_done_once_under_a_name_on_every_node() -> Result<()> {
    let fixture = super::fixture().await?;
    let other = fixture.second().await?;
    let actor = &fixture.actor;
    let under = |registry: &LocalRegistry, name: &str, request: u8| {
        registry.under(Conditions::default().once(actor, named(name, request)))
    };
    // Many at the same moment, on two nodes.
    let mut made = Vec::new();
    let mut before = Vec::new();
    let tries = (0..24).map(|number| {
        let node = if number % 2 == 0 {
            &fixture.registry
        } else {
            &other
        };
        let (registry, actor) = (under(node, "a", 1), actor.clone());
        tokio::spawn(async move {
            registry
                .add_webhook(&actor, &hook("https://a.example/"))
                .await
        })
    });
    for one in tries.collect::<Vec<_>>() {
        match one.await? {
            Ok(webhook) => made.push(webhook.id),
            Err(RegistryError::DoneBefore { made }) => before.push(made),
            Err(error) => return Err(error.into()),
        }
    }
    assert_eq!((made.len(), before.len()), (1, 23));
    assert!(before.iter().all(|id| *id == made[0]), "{before:?}");
    assert_eq!(other.list_webhooks().await?.len(), 1);
    let reused = under(&other, "a", 2)
        .add_webhook(actor, &hook("https://b.example/"))
        .await;
    assert!(matches!(reused, Err(RegistryError::IdempotencyKeyReused)));
    // A refusal is not remembered: what it wrote is undone with the name.
    let none = under(&other, "b", 1).remove_webhook(actor, "nobody").await;
    assert!(matches!(none, Err(RegistryError::WebhookNotFound)));
    under(&other, "b", 2)
        .add_webhook(actor, &hook("https://b.example/"))
        .await?;
    // Conditions are for one write.
    let twice = under(&other, "c", 1);
    twice
        .add_webhook(actor, &hook("https://c.example/"))
        .await?;
    assert!(
        twice
            .add_webhook(actor, &hook("https://c.example/"))
            .await
            .is_err()
    );
    // After a week the name means nothing any more.
    fixture.set_clock(START + 8 * DAY_MS);
    under(&other, "d", 1)
        .add_webhook(actor, &hook("https://d.example/"))
        .await?;
    under(&other, "a", 2)
        .add_webhook(actor, &hook("https://e.example/"))
        .await?;
    other.close().await;
    Ok(())
}

#[tokio::test]
async fn of_two_nodes_that_saw_the_same_one_changes_it() -> Result<()> {
    let fixture = super::fixture().await?;
    let other = fixture.second().await?;
    let place = PolicyEnvironment::One(Environment::LIVE);
    let policy = |drain_ms: i64| Policy {
        drain_ms,
        ..Policy::default_for(Environment::LIVE)
    };
    let mut stands: Option<Policy> = None;
    for round in 0..4_i64 {
        let tries = (0..12_i64).map(|number| {
            let node = if number % 2 == 0 {
                &fixture.registry
            } else {
                &other
            };
            let before = stands.clone();
            let seen =
                Conditions::default().when(Thing::Policy(place.clone()), move |seen| {
                    match (seen, &before) {
                        (None, None) => true,
                        (Some(Seen::Policy(now)), Some(before)) => now == before,
                        _ => false,
                    }
                });
            let registry = node.under(seen);
            let (actor, policy) = (fixture.actor.clone(), policy(60_000 + 100 * round + number));
            tokio::spawn(async move { (registry.set_policy(&actor, &policy).await, policy) })
        });
        let (mut made, mut late) = (Vec::new(), 0);
        for one in tries.collect::<Vec<_>>() {
            match one.await? {
                (Ok(()), policy) => made.push(policy),
                (Err(RegistryError::Precondition), _) => late += 1,
                (Err(error), _) => return Err(error.into()),
            }
        }
        assert_eq!((made.len(), late), (1, 11), "round {round}");
        assert_eq!(other.list_policies().await?, made);
        stands = made.pop();
    }
    // What was refused left nothing behind: no event, and nothing of whoever shared its commit.
    let query = AuditQuery {
        limit: 500,
        ..AuditQuery::default()
    };
    let events = fixture.registry.list_audit_events(query).await?.items;
    let set = events.iter().filter(|event| event.action == "policy.set");
    assert_eq!(set.count(), 4);
    // Under a name, a retry is told that it was done, though the state is another by now.
    let both = || {
        Conditions::default()
            .once(&fixture.actor, named("p", 1))
            .when(
                Thing::Policy(place.clone()),
                |seen| matches!(seen, Some(Seen::Policy(policy)) if policy.drain_ms < 70_000),
            )
    };
    let last = policy(70_000);
    fixture
        .registry
        .under(both())
        .set_policy(&fixture.actor, &last)
        .await?;
    let again = other.under(both()).set_policy(&fixture.actor, &last).await;
    assert!(
        matches!(again, Err(RegistryError::DoneBefore { .. })),
        "{again:?}"
    );
    other.close().await;
    Ok(())
}

#[tokio::test]
async fn lists_of_rotations_deliveries_and_operations_are_pages() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let key = fixture.issue("pages").await?.key.id;
    let mut last = String::new();
    for number in 0..23 {
        // Some in one moment.
        fixture.set_clock(START + 1000 * (number / 4));
        let request = super::from_issue(0);
        let id = super::rand_text();
        registry
            .rotate_api_key(&fixture.actor, &key, &request, &id, &fixture.peppers)
            .await?;
        last = id;
        let told = DeliveryOutcome::Delivered;
        registry
            .record_delivery(&fixture.actor, &last, "place", &told)
            .await?;
    }
    for _ in 0..17 {
        let told = DeliveryOutcome::Delivered;
        registry
            .record_delivery(&fixture.actor, &last, "place", &told)
            .await?;
        let new = NewBulk {
            operation: "enable".into(),
            total: 0,
            reason: String::new(),
        };
        registry.begin_bulk(&fixture.actor, &new).await?;
    }
    let (mut ids, mut times, mut cursor) = (Vec::new(), Vec::new(), None);
    loop {
        let page = registry.page_rotations(&key, cursor.as_deref(), 5).await?;
        assert!(page.items.len() <= 5);
        times.extend(page.items.iter().map(|one| one.created_at));
        ids.extend(page.items.into_iter().map(|one| one.id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!((ids.len(), distinct.len()), (23, 23));
    assert!(times.is_sorted_by(|a, b| a >= b), "newest first");
    assert_eq!(registry.find_rotation(&key, &last).await?.id, last);
    let foreign = registry.find_rotation("another", &last).await;
    assert!(matches!(foreign, Err(RegistryError::RotationNotFound)));
    let (mut ids, mut cursor) = (std::collections::BTreeSet::new(), None);
    loop {
        let page = registry
            .list_deliveries(&last, cursor.as_deref(), 4)
            .await?;
        ids.extend(page.items.into_iter().map(|one| one.id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(ids.len(), 18);
    let (mut ids, mut cursor) = (std::collections::BTreeSet::new(), None);
    loop {
        let page = registry.list_bulk(None, cursor.as_deref(), 4).await?;
        ids.extend(page.items.into_iter().map(|one| one.id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(ids.len(), 17);
    assert!(registry.page_rotations(&key, Some("x"), 5).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_scope_goes_when_no_key_holds_it_by_its_name() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    for name in ["a_b:read", "axb:read", "a_b:read_all"] {
        let scope = KnownScope {
            scope: Scope::new(name)?,
            description: String::new(),
            low_risk: false,
        };
        registry.define_scope(actor, scope).await?;
    }
    let mut wish = wish("held");
    wish.scopes = vec!["axb:read".into(), "a_b:read_all".into()];
    fixture.issue_as(&wish).await?;
    // Neither the underscore nor the beginning of a name makes it another one's.
    registry
        .remove_scope(actor, &Scope::new("a_b:read")?)
        .await?;
    for name in ["axb:read", "a_b:read_all"] {
        let held = registry.remove_scope(actor, &Scope::new(name)?).await;
        assert!(
            matches!(held, Err(RegistryError::ScopeInUse(_))),
            "{name}: {held:?}"
        );
    }
    let gone = registry.remove_scope(actor, &Scope::new("a_b:read")?).await;
    assert!(matches!(gone, Err(RegistryError::ScopeNotFound)));
    Ok(())
}

#[tokio::test]
async fn a_request_of_many_writes_is_one_nodes_until_it_is_silent() -> Result<()> {
    let fixture = super::fixture().await?;
    let other = fixture.second().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let Claim::Mine(first) = registry.claim_request(actor, &named("a", 1)).await? else {
        anyhow::bail!("nobody else had it");
    };
    let busy = other.claim_request(actor, &named("a", 1)).await;
    assert!(
        matches!(busy, Err(RegistryError::RequestUnderWay)),
        "{busy:?}"
    );
    let reused = other.claim_request(actor, &named("a", 2)).await;
    assert!(matches!(reused, Err(RegistryError::IdempotencyKeyReused)));
    // It speaks for itself, and is let alone.
    fixture.set_clock(START + 25_000);
    assert!(registry.renew_claim(&first).await?);
    fixture.set_clock(START + 50_000);
    let busy = other.claim_request(actor, &named("a", 1)).await;
    assert!(matches!(busy, Err(RegistryError::RequestUnderWay)));
    // The process ended: another node takes it up, and the first one's word is not taken any more.
    fixture.set_clock(START + 56_000);
    let Claim::Mine(second) = other.claim_request(actor, &named("a", 1)).await? else {
        anyhow::bail!("it was silent for too long");
    };
    assert!(!registry.answer_claim(&first, "the first").await?);
    assert!(!registry.renew_claim(&first).await?);
    registry.drop_claim(&first).await?;
    assert!(other.answer_claim(&second, "the second").await?);
    let told = registry.claim_request(actor, &named("a", 1)).await?;
    assert!(
        matches!(&told, Claim::Answered(text) if text == "the second"),
        "{told:?}"
    );
    // What failed is free again.
    let Claim::Mine(failed) = registry.claim_request(actor, &named("b", 1)).await? else {
        anyhow::bail!("nobody else had it");
    };
    registry.drop_claim(&failed).await?;
    let again = other.claim_request(actor, &named("b", 1)).await?;
    assert!(matches!(again, Claim::Mine(_)));
    other.close().await;
    Ok(())
}

#[tokio::test]
async fn ac_138_a_rotation_that_is_asked_for_again_is_the_same_one_on_every_node() -> Result<()> {
    let fixture = super::fixture().await?;
    let other = fixture.second().await?;
    let (actor, peppers) = (&fixture.actor, &fixture.peppers);
    let (one, two) = (
        fixture.issue("one").await?.key.id,
        fixture.issue("two").await?.key.id,
    );
    let wish = RotationRequest::default();
    let ask = async |registry: &LocalRegistry, actor: &Actor, id: &str, request: u8| {
        let once = IdempotencyKey {
            name: "monday".to_owned(),
            request: [request; 32],
        };
        registry
            .rotate_api_key_once(actor, id, &wish, None, Some(&once), peppers)
            .await
    };
    let (here, there) = (&fixture.registry, &other);
    // Many at once: some share a transaction, some are another node's.
    let all = tokio::join!(
        ask(here, actor, &one, 1),
        ask(here, actor, &one, 1),
        ask(there, actor, &one, 1),
        ask(here, actor, &one, 1),
        ask(there, actor, &one, 1),
    );
    let (mut made, mut ids) = (0, std::collections::BTreeSet::new());
    for answer in [all.0, all.1, all.2, all.3, all.4] {
        let rotation = match answer? {
            RotatedOnce::Now {
                rotation, plain, ..
            } => {
                assert!(plain.is_some());
                made += 1;
                rotation
            }
            RotatedOnce::Before { key, rotation } => {
                assert_eq!(key.id, one);
                rotation
            }
        };
        ids.insert(rotation.id);
    }
    assert_eq!((made, ids.len()), (1, 1));
    assert_eq!(here.list_rotations(&one).await?.len(), 1);
    for (id, request) in [(&one, 2), (&two, 2)] {
        let reused = ask(there, actor, id, request).await;
        assert!(matches!(reused, Err(RegistryError::IdempotencyKeyReused)));
    }
    // A name that another actor used is free.
    let stranger = Actor::person("somebody else");
    let made = ask(there, &stranger, &two, 1).await?;
    assert!(matches!(made, RotatedOnce::Now { .. }));
    // A rule that is broken remembers nothing.
    let absent = ask(here, &Actor::person("a third"), "nobody's", 1).await;
    assert!(matches!(absent, Err(RegistryError::KeyNotFound)));
    let made = ask(here, &Actor::person("a third"), &two, 1).await?;
    assert!(matches!(made, RotatedOnce::Now { .. }));
    other.close().await;
    Ok(())
}

#[tokio::test]
async fn an_operation_tells_how_far_it_came_and_that_nobody_speaks_for_it() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let new = NewBulk {
        operation: "revoke".into(),
        total: 300,
        reason: "tidying".into(),
    };
    let begun = registry.begin_bulk(&fixture.actor, &new).await?;
    let mut progress = BulkProgress::default();
    for number in 0..250 {
        progress.count(if number % 2 == 0 {
            Ok(number)
        } else {
            Err(BulkFailure {
                key_id: format!("key {number}"),
                code: "key_not_found".into(),
                message: "“quoted” and 100%".into(),
            })
        });
    }
    // Told twice, where nothing was heard of the first commit, each failure is there once.
    for _ in 0..2 {
        assert!(!registry.report_bulk(&begun.id, &progress, None).await?);
    }
    progress.told();
    let found = registry.find_bulk(&begun.id).await?;
    assert_eq!(found.progress, progress);
    assert_eq!(
        found.progress.last_change, 248,
        "the newest of those that were changed"
    );
    assert_eq!(
        (found.progress.failed, found.progress.failures.len()),
        (125, 100)
    );
    // One more, of which the others are not told again; and page by page all of them.
    progress.count(Err(BulkFailure {
        key_id: "key 250".into(),
        code: "key_revoked".into(),
        message: "the key is revoked".into(),
    }));
    registry.report_bulk(&begun.id, &progress, None).await?;
    let (mut failed, mut cursor) = (Vec::new(), None);
    loop {
        let page = registry.bulk_failures(&begun.id, cursor.as_deref(), 50);
        let page = page.await?;
        failed.extend(page.items.into_iter().map(|one| one.key_id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let odd = (0..250).filter(|number| number % 2 == 1).chain([250]);
    let expected: Vec<String> = odd.map(|number| format!("key {number}")).collect();
    assert_eq!(failed, expected);
    fixture.set_clock(START + 31_000);
    assert_eq!(
        registry.find_bulk(&begun.id).await?.state,
        BulkState::Interrupted
    );
    // It was only slow.
    registry.report_bulk(&begun.id, &progress, None).await?;
    assert_eq!(
        registry.find_bulk(&begun.id).await?.state,
        BulkState::Running
    );
    registry.cancel_bulk(&fixture.actor, &begun.id).await?;
    assert!(registry.report_bulk(&begun.id, &progress, None).await?);
    let why = BulkProblem {
        code: "store_unavailable".into(),
        detail: "it is away".into(),
    };
    registry
        .end_bulk(&begun.id, &progress, BulkState::Stopped, Some(why.clone()))
        .await?;
    fixture.set_clock(START + DAY_MS);
    let found = registry.find_bulk(&begun.id).await?;
    assert_eq!(
        (found.state, found.finished_at),
        (BulkState::Stopped, Some(START + 31_000))
    );
    let listed = registry.list_bulk(None, None, 100).await?.items.remove(0);
    assert_eq!(
        (found.problem, listed.problem),
        (Some(why.clone()), Some(why))
    );
    assert_eq!(
        registry
            .list_bulk(Some("nobody"), None, 100)
            .await?
            .items
            .len(),
        0
    );
    assert_eq!(registry.list_bulk(None, None, 100).await?.items.len(), 1);
    fixture.set_clock(START + 40 * DAY_MS);
    registry.begin_bulk(&fixture.actor, &new).await?;
    assert_eq!(
        registry.list_bulk(None, None, 100).await?.items.len(),
        1,
        "the old one is forgotten"
    );
    let failures = registry.bulk_failures(&begun.id, None, 50).await?;
    assert!(failures.items.is_empty(), "and what failed in it");
    let gone = registry.cancel_bulk(&fixture.actor, &begun.id).await;
    assert_eq!(
        gone.err().map(|error| error.code()),
        Some("operation_not_found")
    );
    registry
        .list_bulk(None, None, 100)
        .await?
        .items
        .first()
        .context("one is left")?;
    Ok(())
}
