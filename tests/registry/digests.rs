//! Messages that grow while a look goes on, and what was never made.

use anyhow::{Context as _, Result};
use keywright_domain::api_keys::DAY_MS;
use keywright_domain::audit::Actor;
use keywright_domain::people::Sealed;
use keywright_registry::RegistryError;
use keywright_registry::outbox::{
    Channel, Claimed, Digest, Dropped, Grown, MadeOf, NewMessage, NewWebhook,
};

use super::{Fixture, Kind, START};

const MINUTE: i64 = 60 * 1000;

fn mail(event: &str, target: &str, text: &str) -> NewMessage {
    NewMessage {
        event_id: event.to_owned(),
        event_type: "key.expiring".to_owned(),
        channel: Channel::Mail,
        target: target.to_owned(),
        body: text.as_bytes().to_vec(),
    }
}

fn first(event: &str, target: &str, text: &str) -> Digest {
    Digest {
        grown: None,
        fresh: mail(event, target, text),
        once: Vec::new(),
    }
}

fn next(id: &str, all: &str, event: &str, part: &str) -> Digest {
    Digest {
        grown: Some((id.to_owned(), mail("ignored", "mia", all))),
        fresh: mail(event, "mia", part),
        once: Vec::new(),
    }
}

async fn add(fixture: &Fixture, digest: Digest) -> Result<Grown> {
    let registry = &fixture.registry;
    let became = registry.enqueue_parts(MadeOf::Else, Vec::new(), vec![digest]);
    let became = became.await?.context("nobody was faster")?;
    Ok(became[0].clone())
}

async fn sent(fixture: &Fixture) -> Result<Vec<Claimed>> {
    Ok(fixture
        .registry
        .claim_messages(&[Channel::Mail], 10)
        .await?)
}

fn texts(claimed: &[Claimed]) -> Vec<String> {
    let text = |one: &Claimed| String::from_utf8_lossy(&one.body).into_owned();
    claimed.iter().map(text).collect()
}

#[tokio::test]
async fn a_message_grows_unseen_until_it_is_let_go() -> Result<()> {
    let fixture = super::fixture().await?;
    let begun = add(&fixture, first("e1", "mia", "one")).await?;
    assert!(begun.is_fresh && !begun.id.is_empty());
    let another = add(&fixture, first("e2", "ann", "hers")).await?;
    assert!(sent(&fixture).await?.is_empty(), "it is held");
    // Nine minutes for one part are not too long, and the time begins anew with each.
    for text in ["one two", "one two three"] {
        fixture.set_clock(fixture.now() + 9 * MINUTE);
        let grown = add(&fixture, next(&begun.id, text, "e3", "part")).await?;
        let same = Grown {
            id: begun.id.clone(),
            is_fresh: false,
        };
        assert_eq!(grown, same);
        let theirs = sent(&fixture).await?;
        assert!(!texts(&theirs).contains(&text.to_owned()), "{theirs:?}");
    }
    let ids = [begun.id.clone(), another.id];
    fixture.registry.let_go(&ids).await?;
    let taken = sent(&fixture).await?;
    // The other one went by itself, ten minutes after its only part; it is being sent.
    assert_eq!(texts(&taken), ["one two three"]);
    assert_eq!(taken[0].message.event_id, "e1", "its name stays");
    assert_eq!(taken[0].message.attempts, 1);
    // Whoever sends it has it for two minutes; letting go once more gives it to nobody else.
    fixture.registry.let_go(&ids).await?;
    assert!(sent(&fixture).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_was_sent_meanwhile_grows_no_more_and_the_rest_has_a_message_of_its_own() -> Result<()>
{
    let fixture = super::fixture().await?;
    let begun = add(&fixture, first("e1", "mia", "one")).await?;
    fixture.set_clock(fixture.now() + 10 * MINUTE);
    assert_eq!(
        texts(&sent(&fixture).await?),
        ["one"],
        "nobody held it any more"
    );
    let rest = add(&fixture, next(&begun.id, "one two", "e2", "two")).await?;
    assert!(rest.is_fresh && rest.id != begun.id, "{rest:?}");
    fixture.registry.let_go(&[rest.id]).await?;
    assert_eq!(texts(&sent(&fixture).await?), ["two"]);
    Ok(())
}

#[tokio::test]
async fn notices_and_the_message_that_tells_them_are_written_together_or_not_at_all() -> Result<()>
{
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    for name in ["a", "b", "c"] {
        fixture.issue(name).await?;
    }
    fixture.set_clock(START + 85 * DAY_MS);
    let second = fixture.second().await?;
    let taken = registry.due_notices(10).await?;
    assert_eq!(taken.len(), 3);
    assert!(taken.iter().all(|one| one.key_prefix == "sk_live"));
    let told = |which: &[usize]| MadeOf::Notices {
        told: which
            .iter()
            .map(|n| (taken[*n].id.clone(), "mail".to_owned()))
            .collect(),
        failed: Vec::new(),
    };
    let digest = first("e1", "mia", "a and b");
    let became = registry
        .enqueue_parts(told(&[0, 1]), Vec::new(), vec![digest])
        .await?;
    let mine = became.context("nobody was faster")?;
    // Another node that was slow tells one of them again: nothing of what it has is written.
    let slow = vec![first("e2", "mia", "b and c")];
    assert_eq!(
        second
            .enqueue_parts(told(&[1, 2]), Vec::new(), slow)
            .await?,
        None
    );
    second.let_go(&[mine[0].id.clone()]).await?;
    assert_eq!(texts(&sent(&fixture).await?), ["a and b"]);
    // What nobody can be told of waits as one that could not be sent.
    let failed = MadeOf::Notices {
        told: Vec::new(),
        failed: vec![(taken[2].id.clone(), "nobody".to_owned())],
    };
    assert_eq!(
        registry
            .enqueue_parts(failed, Vec::new(), Vec::new())
            .await?,
        Some(Vec::new())
    );
    assert_eq!(second.due_notices(10).await?, []);
    fixture.set_clock(fixture.now() + MINUTE);
    let again = second.due_notices(10).await?;
    assert_eq!(again.len(), 1);
    assert_eq!(
        (again[0].id.as_str(), again[0].attempts),
        (taken[2].id.as_str(), 2)
    );
    assert_eq!(again[0].error.as_deref(), Some("nobody"));
    for one in &taken[..2] {
        let notices = registry.list_notices(&one.key_id).await?;
        let sent = notices
            .iter()
            .find(|notice| notice.id == one.id)
            .context("it")?;
        assert_eq!(sent.channel.as_deref(), Some("mail"));
        assert!(sent.sent_at.is_some());
    }
    let unknown = MadeOf::Notices {
        told: vec![("nobody".into(), "mail".into())],
        failed: Vec::new(),
    };
    let unknown = registry
        .enqueue_parts(unknown, Vec::new(), Vec::new())
        .await;
    assert_eq!(unknown.expect_err("unknown").code(), "notice_not_found");
    second.close().await;
    Ok(())
}

#[tokio::test]
async fn what_only_a_message_remembers_is_told_once() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let once = |event: &str, parts: &[&str]| Digest {
        once: parts.iter().map(|part| (*part).to_owned()).collect(),
        ..first(event, "mia", event)
    };
    add(&fixture, once("o1", &["o1", "o2"])).await?;
    let asked = [("mia", "o1"), ("mia", "o2"), ("mia", "o3"), ("ann", "o2")];
    let asked = asked.map(|(target, event)| (target.to_owned(), event.to_owned()));
    let untold = registry.untold(Channel::Mail, asked.to_vec()).await?;
    let mut untold: Vec<_> = untold.into_iter().collect();
    untold.sort();
    assert_eq!(untold, [asked[3].clone(), asked[2].clone()]);
    let digests = vec![once("o3", &["o3", "o2"])];
    let late = registry
        .enqueue_parts(MadeOf::Else, Vec::new(), digests)
        .await;
    assert!(matches!(late, Err(RegistryError::Changed)), "{late:?}");
    let untold = registry
        .untold(Channel::Mail, vec![asked[2].clone()])
        .await?;
    assert_eq!(untold.len(), 1, "nothing of it was written");
    // It is forgotten with the message.
    let (messages, _) = registry
        .list_messages(Channel::Mail, "mia", None, 10)
        .await?;
    assert_eq!(messages.len(), 1);
    registry.remove_message(&messages[0].id).await?;
    assert_eq!(
        registry.untold(Channel::Mail, asked.to_vec()).await?.len(),
        4
    );
    Ok(())
}

#[tokio::test]
async fn what_is_never_made_is_counted_and_shown_at_its_webhook() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let actor = Actor::person("tester");
    let new = NewWebhook {
        url: "https://hooks.example.com/".into(),
        events: vec!["*".into()],
        description: String::new(),
        secret: Sealed::new(vec![1]),
    };
    let (full, other) = (
        registry.add_webhook(&actor, &new).await?,
        registry.add_webhook(&actor, &new).await?,
    );
    assert_eq!((full.dropped_count, full.dropped_at), (0, None));
    assert_eq!(registry.dropped_messages().await?, []);
    let news = |events: std::ops::Range<i64>| -> Vec<NewMessage> {
        let one = |n| NewMessage {
            event_type: "key.issued".into(),
            channel: Channel::Webhook,
            ..mail(&format!("e{n}"), &full.id, "{}")
        };
        events.map(one).collect()
    };
    registry.enqueue(MadeOf::Else, news(0..10_002)).await?;
    fixture.set_clock(START + 5);
    registry.enqueue(MadeOf::Else, news(20_000..20_003)).await?;
    let shown = registry.find_webhook(&full.id).await?;
    assert_eq!(
        (shown.dropped_count, shown.dropped_at),
        (5, Some(START + 5))
    );
    // A change by hand, and a delivery that fails, leave it as it is.
    let change = keywright_registry::outbox::WebhookChange {
        description: Some("changed".into()),
        ..Default::default()
    };
    let changed = registry.change_webhook(&actor, &full.id, &change).await?;
    registry
        .note_webhook(&full.id, false, false, DAY_MS)
        .await?;
    assert_eq!(changed.dropped_count, 5);
    let listed = registry.list_webhooks().await?;
    let of = |id: &str| {
        listed
            .iter()
            .find(|one| one.id == id)
            .map(|one| one.dropped_count)
    };
    assert_eq!((of(&full.id), of(&other.id)), (Some(5), Some(0)));
    let dropped = Dropped {
        channel: Channel::Webhook,
        messages: 5,
        last_at: START + 5,
    };
    assert_eq!(registry.dropped_messages().await?, [dropped]);
    Ok(())
}

/// Outdated notices of one key: their secrets were replaced. Ids and names of secrets go on from 1000.
const OUTDATED: &str = "INSERT INTO notices \
     (id, key_id, subject, kid, due_at, kind, made_at, passed, claimed_until, attempts) \
     WITH RECURSIVE n (i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 1999) \
     SELECT 'old' || i, k.id, 'expiry', 'gone' || i, 1800000000000, 'days_7', 0, 0, 0, 0 FROM n CROSS JOIN api_keys k";

#[tokio::test]
async fn outdated_notices_are_passed_page_by_page_and_others_write_in_between() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let issued = fixture.issue("a").await?;
    // One of the last hundred cannot be written: what a transaction did with it is not there.
    let (stop, go_on) = match fixture.kind {
        Kind::Sqlite => (
            "CREATE TRIGGER stop BEFORE UPDATE ON notices WHEN NEW.id = 'old1950' AND NEW.passed = 1 \
             BEGIN SELECT RAISE(ABORT, 'stopped'); END",
            "DROP TRIGGER stop",
        ),
        Kind::Postgres => (
            "ALTER TABLE notices ADD CONSTRAINT stop CHECK (id <> 'old1950' OR passed = 0)",
            "ALTER TABLE notices DROP CONSTRAINT stop",
        ),
    };
    let mut stranger = fixture.stranger().await?;
    for sql in [OUTDATED, stop] {
        sqlx::raw_sql(sql).execute(&mut stranger).await?;
    }
    fixture.set_clock(START + 85 * DAY_MS);
    assert!(registry.due_notices(100).await.is_err());
    let passed = "SELECT COUNT(*) FROM notices WHERE kid LIKE 'gone%' AND passed = 1";
    let count: i64 = sqlx::query_scalar(passed).fetch_one(&mut stranger).await?;
    assert_eq!(count, 900, "of nine transactions");
    sqlx::raw_sql(go_on).execute(&mut stranger).await?;
    let taken = registry.due_notices(100).await?;
    let kids: Vec<_> = taken.iter().map(|one| one.kid.as_str()).collect();
    assert_eq!(kids, [issued.plain.kid().as_str()], "the one behind them");
    let count: i64 = sqlx::query_scalar(passed).fetch_one(&mut stranger).await?;
    assert_eq!(count, 1_000);
    assert_eq!(registry.due_notices(100).await?, []);
    Ok(())
}
