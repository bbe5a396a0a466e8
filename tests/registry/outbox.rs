//! Messages of the outbox, webhooks, and keys that somebody found.

use anyhow::{Context as _, Result};
use keywright_domain::api_keys::{DAY_MS, Kid, NewApiKey, Owner, OwnerKind, PlainKey, SecretState};
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::{Email, Sealed};
use keywright_registry::outbox::{
    Attempt, Channel, Claimed, MadeOf, MessageFilter, MessageState, NewMessage, NewWebhook,
    Outcome, Resent, WebhookChange,
};

use keywright_registry::people::NewUser;
use keywright_registry::{NewOwner, PrincipalChange};

use super::{START, wish};

fn message(event: &str, target: &str) -> NewMessage {
    NewMessage {
        event_id: event.to_owned(),
        event_type: "key.issued".to_owned(),
        channel: Channel::Webhook,
        target: target.to_owned(),
        body: b"{}".to_vec(),
    }
}

fn attempt(claimed: &Claimed, error: Option<&str>) -> Attempt {
    Attempt {
        attempt: claimed.message.attempts,
        at: START,
        duration_ms: 7,
        status: error.is_none().then_some(204),
        error: error.map(str::to_owned),
        excerpt: "x".repeat(2_000),
    }
}

#[tokio::test]
async fn what_was_committed_is_fed_once_and_in_order() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let actions = [AuditAction::ApiKeyIssued, AuditAction::ApiKeyRevoked];
    let one = fixture.issue_as(&wish("one")).await?;
    let two = fixture.issue_as(&wish("two")).await?;
    registry
        .revoke_api_key(&fixture.actor, &one.key.id, "")
        .await?;
    let untold = registry.untold_audit().await?.context("there is news")?;
    let feed = registry.read_audit_feed(&untold, &actions).await?;
    let told: Vec<_> = feed
        .events
        .iter()
        .map(|event| (event.action.as_str(), event.target_id.as_str()))
        .collect();
    let (first, second) = (one.key.id.as_str(), two.key.id.as_str());
    assert_eq!(
        told,
        [
            ("api_key.issued", first),
            ("api_key.issued", second),
            ("api_key.revoked", first),
        ]
    );
    let part = || MadeOf::Audit {
        from: feed.from,
        to: feed.to,
    };
    // Two nodes read the same part; one of them writes.
    assert!(
        registry
            .enqueue(part(), vec![message("e1", "hook")])
            .await?
    );
    assert!(
        !registry
            .enqueue(part(), vec![message("e2", "hook")])
            .await?
    );
    assert!(registry.untold_audit().await?.is_none());
    let (messages, next) = registry
        .list_messages(Channel::Webhook, "hook", None, 10)
        .await?;
    assert_eq!((messages.len(), next), (1, None));
    assert_eq!(messages[0].event_id, "e1");
    // Nobody is told the same twice, and others are told it too.
    for (event, target) in [("e1", "hook"), ("e1", "other"), ("e3", "hook")] {
        registry
            .enqueue(MadeOf::Else, vec![message(event, target)])
            .await?;
    }
    let (messages, _) = registry
        .list_messages(Channel::Webhook, "hook", None, 10)
        .await?;
    assert_eq!(messages.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_message_is_taken_by_one_tried_again_and_forgotten_in_the_end() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let hooks = [Channel::Webhook];
    for event in ["a", "b", "c"] {
        registry
            .enqueue(MadeOf::Else, vec![message(event, "hook")])
            .await?;
    }
    assert!(
        registry
            .claim_messages(&[Channel::Mail], 10)
            .await?
            .is_empty()
    );
    let (one, other) = tokio::try_join!(
        registry.claim_messages(&hooks, 2),
        registry.claim_messages(&hooks, 2)
    )?;
    let mut taken: Vec<_> = one
        .iter()
        .chain(&other)
        .map(|one| one.message.event_id.clone())
        .collect();
    taken.sort();
    assert_eq!(taken, ["a", "b", "c"], "each by one");
    assert!(registry.claim_messages(&hooks, 10).await?.is_empty());
    let all: Vec<Claimed> = one.into_iter().chain(other).collect();
    assert!(
        all.iter()
            .all(|one| one.body == b"{}" && one.message.attempts == 1)
    );
    let again = START + 5_000;
    registry
        .record_attempt(
            &all[0].message.id,
            attempt(&all[0], Some("no\nanswer")),
            Outcome::Again(again),
        )
        .await?;
    registry
        .record_attempt(
            &all[1].message.id,
            attempt(&all[1], None),
            Outcome::Delivered,
        )
        .await?;
    // The third was taken by a node that is gone: free again after two minutes.
    fixture.set_clock(START + 5_000);
    let due = registry.claim_messages(&hooks, 10).await?;
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].message.attempts, 2);
    registry
        .record_attempt(
            &due[0].message.id,
            attempt(&due[0], Some("no")),
            Outcome::Failed,
        )
        .await?;
    fixture.set_clock(START + 125_000);
    let due = registry.claim_messages(&hooks, 10).await?;
    assert_eq!(
        (due.len(), due[0].message.id.as_str()),
        (1, all[2].message.id.as_str())
    );
    let (message, attempts) = registry.find_message(&all[0].message.id).await?;
    assert_eq!((message.state, attempts.len()), (MessageState::Failed, 2));
    assert_eq!(attempts[0].error.as_deref(), Some("no answer"));
    assert_eq!(attempts[0].status, None);
    assert_eq!(attempts[0].excerpt.len(), 300);
    // By hand it goes out once more, and what arrived stays so whatever a slower attempt says.
    let woken = registry.resend_message(&message.id).await?;
    assert_eq!(woken.state, MessageState::Waiting);
    assert_eq!(registry.claim_messages(&hooks, 10).await?.len(), 1);
    registry
        .record_attempt(
            &all[1].message.id,
            attempt(&all[1], Some("late")),
            Outcome::Failed,
        )
        .await?;
    let (delivered, _) = registry.find_message(&all[1].message.id).await?;
    assert_eq!(delivered.state, MessageState::Delivered);
    assert_eq!(registry.prune_messages(START).await?, 0);
    assert_eq!(registry.prune_messages(START + DAY_MS).await?, 1);
    let gone = registry.find_message(&all[1].message.id).await;
    assert_eq!(gone.expect_err("it is gone").code(), "message_not_found");
    Ok(())
}

#[tokio::test]
async fn what_failed_since_a_moment_is_sent_again_and_no_more_than_a_number_at_once() -> Result<()>
{
    const EARLY: usize = 5_003;
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let list = async |filter: MessageFilter| -> Result<Vec<String>> {
        let page = registry.list_messages_of(Channel::Webhook, "hook", filter, None, 500);
        let (items, _) = page.await?;
        Ok(items.into_iter().map(|one| one.event_id).collect())
    };
    let state = |state, since| MessageFilter {
        state: Some(state),
        since,
    };
    let mut early: Vec<_> = (0..EARLY)
        .map(|number| message(&format!("e{number}"), "hook"))
        .collect();
    early.push(message("another's", "other"));
    registry.enqueue(MadeOf::Else, early).await?;
    fixture.set_clock(START + 1_000);
    let late = ["f", "g"].map(|event| message(event, "hook"));
    registry.enqueue(MadeOf::Else, late.to_vec()).await?;
    let mut stranger = fixture.stranger().await?;
    sqlx::raw_sql("UPDATE outbox SET state = 'failed', ended_at = 1")
        .execute(&mut stranger)
        .await?;
    registry
        .enqueue(MadeOf::Else, vec![message("waits", "hook")])
        .await?;
    let since = Some(START + 1_000);
    assert_eq!(list(state(MessageState::Failed, since)).await?.len(), 2);
    assert_eq!(list(state(MessageState::Failed, None)).await?.len(), 500);
    assert_eq!(list(state(MessageState::Waiting, None)).await?, ["waits"]);
    assert!(list(state(MessageState::Delivered, None)).await?.is_empty());
    let all_since = MessageFilter { state: None, since };
    assert_eq!(list(all_since).await?.len(), 3);

    let again = registry.resend_failed(Channel::Webhook, "hook", START + 1_000);
    assert_eq!(again.await?, Resent { count: 2, left: 0 });
    let mut waiting = list(state(MessageState::Waiting, None)).await?;
    waiting.sort();
    assert_eq!(waiting, ["f", "g", "waits"]);
    let again = registry.resend_failed(Channel::Webhook, "hook", 0);
    let expected = Resent {
        count: 5_000,
        left: 3,
    };
    assert_eq!(again.await?, expected);
    for count in [3, 0] {
        let again = registry.resend_failed(Channel::Webhook, "hook", 0);
        assert_eq!(again.await?, Resent { count, left: 0 });
    }
    let others = registry
        .list_messages(Channel::Webhook, "other", None, 10)
        .await?;
    assert_eq!(others.0[0].state, MessageState::Failed, "another's");
    Ok(())
}

#[tokio::test]
async fn webhooks_are_made_changed_rotated_and_removed_with_what_waits_for_them() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let sealed = |byte| Sealed::new(vec![byte; 40]);
    let new = NewWebhook {
        url: "https://hooks.example.org/secret-path".into(),
        events: vec!["key.issued".into(), "key.revoked".into()],
        description: "for\nbilling".into(),
        secret: sealed(1),
    };
    let made = registry.add_webhook(actor, &new).await?;
    assert_eq!(made.description, "for billing");
    assert!(made.wants("key.issued") && !made.wants("key.exposed"));
    assert_eq!(registry.list_webhooks().await?, std::slice::from_ref(&made));
    let secrets = registry.webhook_secrets(&made.id).await?;
    assert_eq!(secrets.current.as_bytes(), sealed(1).as_bytes());
    assert!(secrets.old.is_none());
    registry
        .rotate_webhook_secret(actor, &made.id, &sealed(2), DAY_MS)
        .await?;
    let secrets = registry.webhook_secrets(&made.id).await?;
    assert_eq!(secrets.current.as_bytes(), sealed(2).as_bytes());
    let old = secrets.old.context("both sign")?;
    assert_eq!(old.as_bytes(), sealed(1).as_bytes());
    fixture.set_clock(START + DAY_MS);
    assert!(registry.webhook_secrets(&made.id).await?.old.is_none());
    // Three days without a delivery.
    let patience = 3 * DAY_MS;
    assert!(
        !registry
            .note_webhook(&made.id, false, false, patience)
            .await?
    );
    fixture.set_clock(START + 4 * DAY_MS - 1);
    assert!(
        !registry
            .note_webhook(&made.id, false, false, patience)
            .await?
    );
    fixture.set_clock(START + 4 * DAY_MS);
    assert!(
        registry
            .note_webhook(&made.id, false, false, patience)
            .await?
    );
    assert!(
        !registry
            .note_webhook(&made.id, false, false, patience)
            .await?,
        "once"
    );
    assert!(!registry.find_webhook(&made.id).await?.wants("key.issued"));
    let on = WebhookChange {
        enabled: Some(true),
        events: Some(vec!["*".into()]),
        ..WebhookChange::default()
    };
    let changed = registry.change_webhook(actor, &made.id, &on).await?;
    assert!(changed.wants("anything") && changed.failing_since.is_none());
    registry
        .enqueue(MadeOf::Else, vec![message("e1", &made.id)])
        .await?;
    registry.remove_webhook(actor, &made.id).await?;
    assert!(
        registry
            .claim_messages(&[Channel::Webhook], 10)
            .await?
            .is_empty()
    );
    let gone = registry.find_webhook(&made.id).await;
    assert_eq!(gone.expect_err("removed").code(), "webhook_not_found");
    let actions = fixture.actions().await?;
    for (action, many) in [
        ("webhook.added", 1),
        ("webhook.secret_rotated", 1),
        ("webhook.disabled", 1),
        ("webhook.changed", 1),
        ("webhook.removed", 1),
    ] {
        let count = actions.iter().filter(|one| *one == action).count();
        assert_eq!(count, many, "{action}");
    }
    Ok(())
}

#[tokio::test]
async fn ac_144_a_found_secret_is_ended_and_a_found_id_is_written_down() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let door = Actor::person("found-key door");
    let issued = fixture.issue_as(&wish("found")).await?;
    fixture.verify(&issued).await?;
    let text = issued.plain.text().expose();
    let found = registry.identify_secret(text, &fixture.peppers).await?;
    let (kid, key_id) = found.context("it is ours")?;
    assert_eq!(
        (kid.as_str(), &key_id),
        (issued.plain.kid().as_str(), &issued.key.id)
    );
    let other = PlainKey::generate(issued.plain.prefix(), &mut rand::rng());
    let stranger = registry.identify_secret(other.text().expose(), &fixture.peppers);
    assert_eq!(stranger.await?, None);
    let kid = Kid::new(&kid)?;
    assert!(registry.report_found_kid(&door, &kid, "a log").await?);
    assert!(
        !registry.report_found_kid(&door, &kid, "a log").await?,
        "once a day"
    );
    assert!(
        !registry
            .report_found_kid(&door, other.kid(), "a log")
            .await?
    );
    assert_eq!(fixture.code(&issued).await?, "valid");
    let seen_in = format!("a page with {text} in it\r\n");
    assert!(
        registry
            .report_found_secret(&door, &key_id, &kid, &seen_in)
            .await?
    );
    assert!(
        !registry
            .report_found_secret(&door, &key_id, &kid, &seen_in)
            .await?
    );
    assert_eq!(fixture.code(&issued).await?, "revoked");
    let (key, events) = registry.find_api_key(&key_id).await?;
    assert_eq!(key.secrets[0].stored, SecretState::Revoked);
    assert_eq!(key.exposed_at, Some(START));
    let told: Vec<_> = events
        .iter()
        .filter(|event| event.actor == "found-key door")
        .map(|event| event.action.as_str())
        .collect();
    assert_eq!(told, ["api_key.exposed", "api_key.reported"]);
    let kept = format!("{events:?}");
    assert!(!kept.contains(&text[24..]), "the key is in the trail");
    // An ended secret is known all the same.
    assert!(
        registry
            .identify_secret(text, &fixture.peppers)
            .await?
            .is_some()
    );
    Ok(())
}

#[tokio::test]
async fn an_alert_is_told_once_and_again_after_an_hour_if_it_goes_on() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let issued = fixture.issue_as(&wish("old")).await?;
    fixture.verify(&issued).await?;
    registry
        .revoke_api_key(&fixture.actor, &issued.key.id, "")
        .await?;
    assert!(registry.untold_alerts(10).await?.is_empty());
    let used = async || {
        fixture.verify(&issued).await?;
        registry.flush_uses().await?;
        Ok::<_, anyhow::Error>(registry.untold_alerts(10).await?)
    };
    let alerts = used().await?;
    assert_eq!(alerts.len(), 1);
    assert_eq!(registry.alerts_never_told(10).await?.len(), 1);
    let of = MadeOf::Alert {
        id: alerts[0].id.clone(),
        count: alerts[0].count,
    };
    assert!(
        registry
            .enqueue(of.clone(), vec![message("a1", "hook")])
            .await?
    );
    assert!(
        !registry.enqueue(of, vec![message("a2", "hook")]).await?,
        "another node was faster"
    );
    assert!(registry.untold_alerts(10).await?.is_empty());
    assert!(used().await?.is_empty(), "it was told a moment ago");
    // By a clock that is a little behind the one by which it was told.
    fixture.set_clock(START - 5_000);
    assert!(used().await?.is_empty(), "it was told a moment ago");
    fixture.set_clock(START + 60 * 60 * 1000);
    assert_eq!(registry.untold_alerts(10).await?.len(), 1);
    // Whose clock is hours off leaves it to others, whether it is ahead or behind.
    for hours in [3, -3] {
        fixture.set_clock(START + hours * 60 * 60 * 1000);
        assert_eq!(registry.untold_alerts(10).await?.len(), 1);
        assert!(registry.alerts_never_told(10).await?.is_empty());
    }
    assert!(registry.administrator_addresses().await?.is_empty());
    Ok(())
}

/// By them it is judged who heard of a campaign, which may run for a year.
#[tokio::test]
async fn questions_are_kept_for_longer_than_any_campaign_runs() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let asked = NewMessage {
        event_type: "hygiene.asked".into(),
        ..message("asked", "hook")
    };
    let made = vec![asked, message("news", "hook")];
    registry.enqueue(MadeOf::Else, made).await?;
    for one in registry.claim_messages(&[Channel::Webhook], 10).await? {
        registry
            .record_attempt(&one.message.id, attempt(&one, None), Outcome::Delivered)
            .await?;
    }
    for (days, gone) in [(29, 0), (31, 1), (399, 0), (401, 1)] {
        let before = START + (days - 30) * DAY_MS;
        assert_eq!(registry.prune_messages(before).await?, gone, "{days} days");
    }
    Ok(())
}

#[tokio::test]
async fn a_mass_of_news_keeps_out_none_that_asks_for_action() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let mass: Vec<_> = (0..10_003)
        .map(|n| message(&format!("event {n}"), "full"))
        .collect();
    registry.enqueue(MadeOf::Else, mass).await?;
    let exposed = NewMessage {
        event_type: "key.exposed".into(),
        ..message("leak", "full")
    };
    let news = vec![
        exposed,
        message("one more", "full"),
        message("another's", "other"),
    ];
    registry.enqueue(MadeOf::Else, news).await?;
    let mut stranger = fixture.stranger().await?;
    let count = "SELECT COUNT(*) FROM outbox WHERE target = 'full'";
    let count: i64 = sqlx::query_scalar(count).fetch_one(&mut stranger).await?;
    assert_eq!(count, 10_001);
    let kept = "SELECT event_id FROM outbox WHERE event_id IN ('leak', 'one more', 'another''s') \
                ORDER BY event_id";
    let kept: Vec<String> = sqlx::query_scalar(kept).fetch_all(&mut stranger).await?;
    assert_eq!(kept, ["another's", "leak"]);
    Ok(())
}

#[tokio::test]
async fn a_target_that_is_silent_has_its_share_and_no_more_however_much_waits_for_it() -> Result<()>
{
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let to = |channel, event: String, target: &str| NewMessage {
        channel,
        ..message(&event, target)
    };
    let hook = |event: String, target: &str| to(Channel::Webhook, event, target);
    let many = (0..500).map(|number| hook(format!("e{number}"), "silent"));
    registry.enqueue(MadeOf::Else, many.collect()).await?;
    // Of what comes later nothing waits for it.
    fixture.set_clock(START + 1_000);
    let later = (0..9).map(|number| hook(format!("e{number}"), "other"));
    registry.enqueue(MadeOf::Else, later.collect()).await?;
    let hooks = [Channel::Webhook];
    let targets = |taken: &[Claimed]| {
        let of = |name: &str| {
            taken
                .iter()
                .filter(|one| one.message.target == name)
                .count()
        };
        (of("silent"), of("other"))
    };
    let taken = registry.claim_messages(&hooks, 12).await?;
    assert_eq!(targets(&taken), (6, 6), "in turns");
    assert_eq!(taken[0].message.target, "silent", "it waits longest");
    // Nothing came back: each has eight, and the rest of the places stays free.
    let taken = registry.claim_messages(&hooks, 12).await?;
    assert_eq!(targets(&taken), (2, 2));
    assert!(registry.claim_messages(&hooks, 12).await?.is_empty());
    // One that is back makes room for the next of its target.
    let done = &taken[0];
    let outcome = Outcome::Delivered;
    registry
        .record_attempt(&done.message.id, attempt(done, None), outcome)
        .await?;
    let next = registry.claim_messages(&hooks, 12).await?;
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].message.target, done.message.target);
    // Sign-outs and mail have shares of their own, and mail whatever its addresses.
    let clients = (0..6).map(|number| to(Channel::Logout, format!("out{number}"), "client"));
    let mails =
        (0..20).map(|number| to(Channel::Mail, "m".to_owned(), &format!("a{number}@b.org")));
    let both = clients.chain(mails).collect();
    registry.enqueue(MadeOf::Else, both).await?;
    let outs = registry.claim_messages(&[Channel::Logout], 16).await?;
    assert_eq!(outs.len(), 4);
    let mails = registry.claim_messages(&[Channel::Mail], 16).await?;
    assert_eq!(mails.len(), 8);
    assert!(
        registry
            .claim_messages(&[Channel::Mail], 16)
            .await?
            .is_empty()
    );
    // The node that had them is gone: others go at once, and these when their claim is over.
    fixture.set_clock(START + 42_000);
    let others = registry.claim_messages(&[Channel::Mail], 16).await?;
    assert_eq!(others.len(), 8);
    assert!(others.iter().all(|one| one.message.attempts == 1));
    // Many targets of a channel have its share together.
    fixture.set_clock(START + DAY_MS);
    let mass = (0..16).map(|number| to(Channel::Logout, "all".to_owned(), &format!("c{number}")));
    registry.enqueue(MadeOf::Else, mass.collect()).await?;
    let both = [Channel::Logout, Channel::Mail];
    let taken = registry.claim_messages(&both, 16).await?;
    let is_out = |one: &&Claimed| one.message.channel == Channel::Logout;
    assert_eq!((taken.iter().filter(is_out).count(), taken.len()), (8, 16));
    assert!(
        registry
            .claim_messages(&[Channel::Logout], 16)
            .await?
            .is_empty()
    );
    Ok(())
}

#[tokio::test]
async fn a_webhook_that_failed_is_tried_one_by_one() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let new = NewWebhook {
        url: "https://example.org/hook".to_owned(),
        events: vec!["*".to_owned()],
        description: String::new(),
        secret: Sealed::new(vec![1; 40]),
    };
    let made = registry.add_webhook(&fixture.actor, &new).await?;
    let many = (0..30).map(|number| message(&format!("e{number}"), &made.id));
    registry.enqueue(MadeOf::Else, many.collect()).await?;
    let hooks = [Channel::Webhook];
    let taken = registry.claim_messages(&hooks, 12).await?;
    assert_eq!(taken.len(), 8);
    for one in &taken {
        let (failed, again) = (
            attempt(one, Some("silence")),
            Outcome::Again(START + DAY_MS),
        );
        registry
            .record_attempt(&one.message.id, failed, again)
            .await?;
        registry
            .note_webhook(&made.id, false, false, DAY_MS)
            .await?;
    }
    for _ in 0..2 {
        let taken = registry.claim_messages(&hooks, 12).await?;
        assert_eq!(taken.len(), 1);
        let (done, arrived) = (attempt(&taken[0], Some("silence")), Outcome::Failed);
        registry
            .record_attempt(&taken[0].message.id, done, arrived)
            .await?;
    }
    Ok(())
}

/// A webhook with rare events: what failed three weeks ago does not count together with what fails today.
#[tokio::test]
async fn failures_with_nothing_between_them_do_not_add_up() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let new = NewWebhook {
        url: "https://example.org/hook".to_owned(),
        events: vec!["*".to_owned()],
        description: String::new(),
        secret: Sealed::new(vec![1; 40]),
    };
    let rare = registry.add_webhook(&fixture.actor, &new).await?.id;
    let patience = 3 * DAY_MS;
    // Tries what is due, in vain. Returns whether that switched the webhook off.
    let fail = async |again_ms: Option<i64>| -> Result<bool> {
        let now = fixture.now();
        let taken = registry.claim_messages(&[Channel::Webhook], 1).await?;
        let one = taken.first().context("one is due")?;
        let tried = Attempt {
            at: now,
            ..attempt(one, Some("502"))
        };
        let outcome = again_ms.map_or(Outcome::Failed, |wait| Outcome::Again(now + wait));
        registry
            .record_attempt(&one.message.id, tried, outcome)
            .await?;
        Ok(registry.note_webhook(&rare, false, false, patience).await?)
    };
    registry
        .enqueue(MadeOf::Else, vec![message("old", &rare)])
        .await?;
    assert!(!fail(None).await?);
    assert_eq!(
        registry.find_webhook(&rare).await?.failing_since,
        Some(START)
    );
    let later = START + 21 * DAY_MS;
    fixture.set_clock(later);
    registry
        .enqueue(MadeOf::Else, vec![message("leak", &rare)])
        .await?;
    assert!(!fail(Some(DAY_MS / 2)).await?, "one failure in three weeks");
    let shown = registry.find_webhook(&rare).await?;
    assert_eq!(
        (shown.failing_since, shown.disabled_at),
        (Some(later), None)
    );
    // One that goes on failing is switched off when its time is over, and not before.
    for half_day in 1..=6 {
        fixture.set_clock(later + half_day * DAY_MS / 2);
        assert_eq!(fail(Some(DAY_MS / 2)).await?, half_day == 6, "{half_day}");
    }
    Ok(())
}

/// A machine that boots with a clock forty days ahead, and has it set: nothing that it wrote waits for forty days.
#[tokio::test]
async fn what_a_clock_that_was_ahead_wrote_down_is_sent_all_the_same() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let issued = fixture.issue_as(&wish("leaked")).await?;
    let kid = issued.plain.kid().clone();
    let ahead = START + 40 * DAY_MS;
    fixture.set_clock(ahead);
    let channels = [Channel::Webhook];
    let events = ["new", "failed", "taken"];
    for event in ["failed", "taken"] {
        registry
            .enqueue(MadeOf::Else, vec![message(event, "hook")])
            .await?;
    }
    let taken = registry.claim_messages(&channels, 2).await?;
    let failed = taken.iter().find(|one| one.message.event_id == "failed");
    let failed = failed.context("it was taken")?;
    let again = Outcome::Again(ahead + 5_000);
    registry
        .record_attempt(&failed.message.id, attempt(failed, Some("no")), again)
        .await?;
    registry
        .enqueue(MadeOf::Else, vec![message("new", "hook")])
        .await?;
    // What is told once an hour at most is told, and happens again.
    let mut stranger = fixture.stranger().await?;
    let alert = format!(
        "INSERT INTO alerts (id, kind, key_id, kid, caller, count, first_at, last_at, told_count, told_at) \
         VALUES ('a', 'ended_secret_used', '{}', '{kid}', 'x', 2, 1, 1, 1, {ahead})",
        issued.key.id
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(alert))
        .execute(&mut stranger)
        .await?;
    fixture.set_clock(START + 60_000);
    assert!(registry.claim_messages(&channels, 10).await?.is_empty());
    assert_eq!(registry.untold_alerts(10).await?.len(), 1, "mute for weeks");
    assert!(registry.mend_moments().await? > 0);
    let mut given: Vec<_> = registry
        .claim_messages(&channels, 10)
        .await?
        .into_iter()
        .map(|one| one.message.event_id)
        .collect();
    given.sort();
    let mut all = events;
    all.sort_unstable();
    assert_eq!(given, all);
    // What can be right is left as it is.
    assert_eq!(registry.mend_moments().await?, 0);
    Ok(())
}

#[tokio::test]
async fn whoever_a_key_belongs_to_has_an_address_of_theirs_or_of_the_service() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let email = |text: &str| Email::new(text).map(Some);
    let person = NewUser {
        name: "Ada".into(),
        email: email("ada@example.org")?,
        email_verified: true,
        roles: Vec::new(),
        password_hash: None,
    };
    let ada = registry.create_user(actor, &person).await?;
    let mut owners = vec![Owner::new(OwnerKind::Person, &ada.id)?];
    for (kind, id, address) in [
        (OwnerKind::Service, "billing", email("ops@example.org")?),
        (OwnerKind::Team, "crew", email("crew@example.org")?),
        (OwnerKind::Service, "silent", None),
    ] {
        let owner = Owner::to_be_made(kind, id)?;
        owners.push(owner.clone());
        let new = NewOwner {
            owner,
            name: id.into(),
            email: address,
        };
        let made = registry.create_owner(actor, &new).await?;
        assert_eq!(made.email, new.email);
        assert_eq!(registry.find_principal(id).await?, made);
    }
    let mut keys = Vec::new();
    for owner in owners {
        let wish = NewApiKey {
            owner: Some(owner),
            ..wish("one")
        };
        keys.push(fixture.issue_as(&wish).await?.key.id);
    }
    let told = async || -> Result<Vec<Option<String>>> {
        let mut found = registry.owner_addresses(&keys).await?;
        let each: Vec<_> = keys.iter().map(|id| found.remove(id)).collect();
        assert!(found.is_empty());
        Ok(each)
    };
    let some = |text: &str| Some(text.to_owned());
    let (ada, ops, crew) = (
        some("ada@example.org"),
        some("ops@example.org"),
        some("crew@example.org"),
    );
    assert_eq!(told().await?, [ada.clone(), ops, crew, None]);
    // Another address counts from then on, a suspended owner is told nothing.
    let change = PrincipalChange::Profile {
        name: None,
        email: Some(email("bills@example.org")?),
    };
    registry.change_principal(actor, "billing", &change).await?;
    let suspend = PrincipalChange::Disable("paused".into());
    registry.change_principal(actor, "crew", &suspend).await?;
    assert_eq!(told().await?, [ada, some("bills@example.org"), None, None]);
    Ok(())
}
