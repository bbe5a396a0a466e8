//! Mails of one look, by a real SMTP conversation.

use axum::body::Body;
use axum::http::Method;
use keywright_domain::api_keys::{
    DAY_MS, NewApiKey, OverlapClock, Owner, OwnerKind, RotationRequest,
};
use keywright_domain::audit::Actor;
use keywright_domain::schedules::{Mode, Recurrence, Schedule, ScheduleTerms, TimeZone};
use keywright_registry::people::User;
use keywright_registry::{Issued, RotationStep, VerifyRequest};
use serde_json::json;

use crate::mail::testing::{Mail, Sink, settings};
use crate::notices::run_until_idle;
use crate::test_support::TestServer;
use crate::webhooks::testing::{Receiver, Root, run, verdict};

const MINUTE_MS: i64 = 60_000;

async fn server(port: u16) -> TestServer {
    TestServer::with(|own| own.mail = Some(settings(port))).await
}

async fn issue(server: &TestServer, owner: &User, name: &str, lifetime_ms: i64) -> Issued {
    let wish = NewApiKey {
        name: name.to_owned(),
        prefix: "sk_live".to_owned(),
        scopes: vec!["orders:read".to_owned()],
        lifetime_ms: Some(lifetime_ms),
        owner: Some(Owner {
            kind: OwnerKind::Person,
            id: owner.id.clone(),
        }),
        ..NewApiKey::default()
    };
    let peppers = server.server.app().peppers().unwrap();
    let actor = Actor::person("test");
    let issued = server.registry().issue_api_key(&actor, &wish, &peppers);
    issued.await.unwrap()
}

/// What a mail says, without the breaks of its encoding.
fn text(mail: &Mail) -> String {
    let bytes = mail.data.replace("=\r\n", "");
    let mut plain = Vec::new();
    let mut rest = bytes.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let coded = (*first == b'=').then(|| after.get(..2)).flatten();
        let byte =
            coded.and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        plain.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(plain).unwrap()
}

fn header<'a>(mail: &'a Mail, name: &str) -> &'a str {
    let mut lines = mail.data.lines();
    lines
        .find_map(|line| line.strip_prefix(name))
        .unwrap()
        .trim()
}

fn to<'a>(mails: &'a [Mail], address: &str) -> Vec<&'a Mail> {
    mails
        .iter()
        .filter(|mail| mail.to.contains(address))
        .collect()
}

#[tokio::test]
async fn what_is_due_for_an_owner_at_one_look_is_one_mail_however_much_it_is() {
    let (sink, port) = Sink::plain().await;
    let server = server(port).await;
    Root::of(&server).await;
    let [mia, ann, bob] = ["mia@example.org", "ann@example.org", "bob@example.org"];
    let owners = [
        server.add_user(mia, &["member"]).await,
        server.add_user(ann, &["member"]).await,
        server.add_user(bob, &["member"]).await,
    ];
    // Mixed, over many pages of a look, and the nearest come last of all.
    for n in 0..1_203_i64 {
        let days = if n < 1_183 { 20 } else { 10 };
        let name = format!("mia's {n}");
        issue(&server, &owners[0], &name, days * DAY_MS + n).await;
        if n % 400 == 0 {
            issue(&server, &owners[1], &format!("ann's {n}"), 20 * DAY_MS).await;
        }
    }
    issue(&server, &owners[2], "Billing", 20 * DAY_MS).await;
    server.pass(2 * MINUTE_MS);
    run(&server).await;
    sink.take();
    server.pass(2 * MINUTE_MS);
    run(&server).await;
    assert!(sink.take().is_empty(), "each was told once");
    server.pass(6 * DAY_MS);
    run(&server).await;
    let mails = sink.take();
    assert_eq!(mails.len(), 3, "{}", mails.len());
    let big = text(to(&mails, mia)[0]);
    assert!(big.contains("1,203 API keys expire."), "{big}");
    assert!(header(to(&mails, mia)[0], "Subject:").ends_with(": 1,203 API keys expire"));
    assert!(big.contains("and 1,183 more"), "{big}");
    assert!(big.contains("/account/api-keys"), "{big}");
    let named: Vec<_> = big
        .lines()
        .filter(|line| line.contains("(sk_live) expires"))
        .collect();
    assert_eq!(named.len(), 20, "{big}");
    // The nearest, in their order, each with its date and its prefix.
    for (line, n) in named.iter().zip(1_183..) {
        assert!(
            line.contains(&format!("“mia's {n}” (sk_live) expires")),
            "{line}"
        );
        assert!(line.starts_with("2027-01-2"), "{line}");
    }
    assert!(
        !big.contains("ann's"),
        "what is another's is no business of hers"
    );
    let few = text(to(&mails, ann)[0]);
    assert!(
        header(to(&mails, ann)[0], "Subject:").ends_with(": 4 API keys expire"),
        "{few}"
    );
    let named: Vec<_> = few.lines().filter(|line| line.contains("“ann's")).collect();
    assert_eq!(named.len(), 4, "{few}");
    assert!(!few.contains("more") && !few.contains("mia's"), "{few}");
    assert!(few.contains("/account/api-keys"), "{few}");
    assert!(few.contains("Rotate keys that expire"), "{few}");
    // One alone reads as it always did.
    let alone = text(to(&mails, bob)[0]);
    for part in [
        "API key “Billing” expires within 14 days.",
        "Secret: ",
        "Due: 2027-02-04T",
    ] {
        assert!(alone.contains(part), "{alone}");
    }
    for mail in &mails {
        assert!(header(mail, "Message-ID:").starts_with("<ntc_"));
    }
    // What became of each is written down with it.
    for owner in &owners {
        let key = first_key(&server, owner).await;
        let notices = server.registry().list_notices(&key).await.unwrap();
        let sent = notices
            .iter()
            .filter(|one| one.channel.as_deref() == Some("mail"));
        assert_eq!(sent.count(), 2, "{notices:?}");
    }
}

async fn first_key(server: &TestServer, owner: &User) -> String {
    let query = keywright_registry::ApiKeyQuery {
        filter: keywright_registry::ApiKeyFilter {
            owner: Some(owner.id.clone()),
            ..Default::default()
        },
        order: keywright_registry::ApiKeyOrder::CreatedDesc,
        cursor: None,
        limit: 1,
    };
    let page = server.registry().list_api_keys(&query).await.unwrap();
    page.items[0].id.clone()
}

#[tokio::test]
async fn webhooks_hear_of_each_and_what_is_urgent_has_a_mail_of_its_own() {
    let (sink, port) = Sink::plain().await;
    let server = server(port).await;
    let mut root = Root::of(&server).await;
    let (receiver, url) = Receiver::listen().await;
    root.hook(&url, &["key.expiring", "key.exposed"]).await;
    let mia = server.add_user("mia@example.org", &["member"]).await;
    let mut keys = Vec::new();
    for n in 0..3 {
        keys.push(issue(&server, &mia, &format!("key {n}"), 20 * DAY_MS).await);
    }
    server.pass(2 * MINUTE_MS);
    run(&server).await;
    assert_eq!(receiver.kinds(), ["key.expiring"; 3]);
    let mails = sink.take();
    assert_eq!(mails.len(), 1, "{mails:?}");
    let notices = server
        .registry()
        .list_notices(&keys[0].key.id)
        .await
        .unwrap();
    let sent = notices.iter().find(|one| one.sent_at.is_some()).unwrap();
    assert_eq!(sent.channel.as_deref(), Some("webhook and mail"));
    // Two of her keys in an address, at one look: two mails, at once.
    for issued in &keys[..2] {
        let address = format!("/orders?api_key={}", issued.plain.text().expose());
        let headers = [("x-original-uri", address.as_str())];
        let mut browser = server.browser();
        let answer = browser.send(Method::GET, "/verify", &headers, Body::empty());
        assert_eq!(answer.await.json()["code"], "key_in_url");
    }
    run(&server).await;
    assert_eq!(receiver.kinds(), ["key.exposed"; 2]);
    let mails = sink.take();
    assert_eq!(to(&mails, "mia@example.org").len(), 2, "{mails:?}");
}

#[tokio::test]
async fn a_mail_of_many_that_was_not_taken_comes_later_and_once() {
    let (sink, port) = Sink::plain().await;
    let server = server(port).await;
    Root::of(&server).await;
    let mia = server.add_user("mia@example.org", &["member"]).await;
    for n in 0..250 {
        issue(&server, &mia, &format!("key {n}"), 20 * DAY_MS).await;
    }
    sink.refuse(&["451 later", "451 later"]);
    server.pass(2 * MINUTE_MS);
    run(&server).await;
    assert!(sink.take().is_empty());
    for _ in 0..4 {
        server.pass(2 * MINUTE_MS);
        run(&server).await;
    }
    let mails = sink.take();
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert!(header(&mails[0], "Subject:").ends_with(": 250 API keys expire"));
}

#[tokio::test]
async fn two_nodes_that_look_at_one_moment_tell_each_notice_once() {
    let (sink, port) = Sink::plain().await;
    let server = server(port).await;
    Root::of(&server).await;
    let mia = server.add_user("mia@example.org", &["member"]).await;
    for n in 0..420 {
        issue(&server, &mia, &format!("key {n}"), 20 * DAY_MS).await;
    }
    let (other, _) = server.beside().await;
    let app = server.server.app();
    // Both look at once, as where a look takes longer than the minute that a node has it for.
    app.registry.post_notices().await.unwrap();
    tokio::join!(look(app), look(other.app()));
    run_until_idle(app).await;
    let mut told = 0;
    let mails = sink.take();
    assert!(mails.len() <= 2, "{}", mails.len());
    for mail in &mails {
        let subject = header(mail, "Subject:");
        let count = subject
            .split(": ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        told += count.parse::<usize>().unwrap();
    }
    assert_eq!(told, 420);
}

async fn look(app: &crate::server::App) {
    let webhooks = app.registry.list_webhooks().await.unwrap();
    crate::notices::make::of_notices(app, &webhooks)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_a_node_had_made_when_it_died_is_sent_and_the_rest_is_told_by_another() {
    let (sink, port) = Sink::plain().await;
    let server = server(port).await;
    Root::of(&server).await;
    let mia = server.add_user("mia@example.org", &["member"]).await;
    for n in 0..30 {
        issue(&server, &mia, &format!("key {n}"), 20 * DAY_MS).await;
    }
    let app = server.server.app();
    app.registry.post_notices().await.unwrap();
    // It told a part, took another, and was gone before the mail was let go.
    let mut digests = super::Digests::default();
    let taken = app.registry.take_notices(10).await.unwrap();
    crate::notices::make::tell(app, &[], &mut digests, &taken)
        .await
        .unwrap();
    assert_eq!(app.registry.take_notices(10).await.unwrap().len(), 10);
    drop(digests);
    server.pass(MINUTE_MS + 1);
    run(&server).await;
    let subjects = |mails: &[Mail]| -> Vec<String> {
        let subject = |mail: &Mail| {
            header(mail, "Subject:")
                .split(": ")
                .nth(1)
                .unwrap()
                .to_owned()
        };
        mails.iter().map(subject).collect()
    };
    assert_eq!(
        subjects(&sink.take()),
        ["10 API keys expire"],
        "what nobody had"
    );
    server.pass(8 * MINUTE_MS);
    run(&server).await;
    assert!(sink.take().is_empty());
    server.pass(2 * MINUTE_MS);
    run(&server).await;
    let mails = sink.take();
    assert_eq!(
        subjects(&mails),
        ["10 API keys expire"; 2],
        "its own, and what it had taken"
    );
    server.pass(30 * MINUTE_MS);
    run(&server).await;
    assert!(sink.take().is_empty());
}

#[tokio::test]
async fn secrets_that_wait_and_overlaps_that_end_are_one_mail_too() {
    let (sink, port) = Sink::plain().await;
    let server = server(port).await;
    let mut root = Root::of(&server).await;
    let mia = server.add_user("mia@example.org", &["member"]).await;
    let actor = Actor::person("test");
    let weekly = Schedule::new(ScheduleTerms {
        recurrence: Recurrence::Interval {
            every_ms: 7 * DAY_MS,
        },
        time_zone: TimeZone::new("UTC").unwrap(),
        window: None,
        jitter_ms: 0,
        mode: Mode::IssuePending,
        max_age_ms: None,
    })
    .unwrap();
    let mut keys = Vec::new();
    for n in 0..3 {
        let issued = issue(&server, &mia, &format!("key {n}"), 300 * DAY_MS).await;
        let text = issued.plain.text().expose().to_owned();
        assert_eq!(verdict(&server, &text).await, "valid");
        server
            .registry()
            .set_schedule(&actor, &issued.key.id, &weekly, "")
            .await
            .unwrap();
        keys.push((issued.key.id.clone(), text));
    }
    run(&server).await;
    sink.take();
    server.pass(7 * DAY_MS + MINUTE_MS);
    run(&server).await;
    let mails = sink.take();
    let waiting: Vec<_> = mails
        .iter()
        .filter(|mail| text(mail).contains("3 API keys have a new secret that waits to be taken"))
        .collect();
    assert_eq!(waiting.len(), 1, "{mails:?}");
    let said = text(waiting[0]);
    // What it advises can be done with what it says.
    assert!(said.contains("/reissue") && said.contains("GET /api/v1/notices"));
    for (id, _) in &keys {
        assert!(
            said.contains(&format!("(sk_live, {id}) has a new secret")),
            "{said}"
        );
        server.registry().remove_schedule(&actor, id).await.unwrap();
        let cancel = RotationStep::Cancel;
        server
            .registry()
            .step_rotation(&actor, id, cancel)
            .await
            .unwrap();
        let path = format!("/api/v1/keys/{id}/rotations");
        let body = json!({ "overlap_ms": DAY_MS, "clock": "from_issue" });
        root.ok(Method::POST, &path, body).await;
    }
    server.pass(DAY_MS - 30 * MINUTE_MS);
    run(&server).await;
    sink.take();
    for (_, text) in &keys {
        assert_eq!(
            verdict(&server, text).await,
            "valid",
            "the old one in its last hour"
        );
    }
    server.pass(2 * MINUTE_MS);
    run(&server).await;
    let mails = sink.take();
    assert_eq!(mails.len(), 1, "{mails:?}");
    let said = text(&mails[0]);
    assert!(
        said.contains("3 API keys have an old secret that ends soon and is still in use"),
        "{said}"
    );
    assert_eq!(said.matches("ends and is in use").count(), 3, "{said}");
    assert!(!said.contains("these callers"), "{said}");
    assert!(said.contains("GET /api/v1/notices"), "{said}");
    for (id, _) in &keys {
        assert!(
            said.contains(&format!("(sk_live, {id}) old secret")),
            "{said}"
        );
    }
    // Once is enough.
    for _ in 0..3 {
        server.pass(3 * MINUTE_MS);
        run(&server).await;
    }
    assert!(sink.take().is_empty());
}

#[tokio::test]
async fn of_many_overlaps_that_end_together_each_is_told_and_once() {
    let (sink, port) = Sink::plain().await;
    let server = server(port).await;
    let mut root = Root::of(&server).await;
    let (receiver, url) = Receiver::listen().await;
    root.hook(&url, &["overlap.closing"]).await;
    let mia = server.add_user("mia@example.org", &["member"]).await;
    let registry = server.registry();
    let peppers = server.server.app().peppers().unwrap();
    let actor = Actor::person("test");
    let request = RotationRequest {
        overlap_ms: DAY_MS,
        clock: OverlapClock::FromIssue,
        ..RotationRequest::default()
    };
    let mut keys = Vec::new();
    // More than one page of them, that end at one moment.
    for n in 0..501 {
        let issued = issue(&server, &mia, &format!("key {n}"), 300 * DAY_MS).await;
        let (id, rotation) = (&issued.key.id, format!("rotation-of-key-{n}"));
        registry
            .rotate_api_key(&actor, id, &request, &rotation, &peppers)
            .await
            .unwrap();
        keys.push(issued);
    }
    server.pass(DAY_MS - 30 * MINUTE_MS);
    run(&server).await;
    sink.take();
    assert!(receiver.take().is_empty(), "nobody uses the old ones");
    for issued in &keys {
        let request = VerifyRequest {
            presented: issued.plain.text().expose(),
            ..VerifyRequest::default()
        };
        let verified = registry.verify_api_key(&request, &peppers).await.unwrap();
        assert_eq!(verified.code(), "valid");
    }
    server.pass(2 * MINUTE_MS);
    run(&server).await;
    let mails = sink.take();
    assert_eq!(mails.len(), 1, "{}", mails.len());
    let said = text(&mails[0]);
    assert!(
        said.contains("501 API keys have an old secret that ends soon and is still in use."),
        "{said}"
    );
    assert!(said.contains("and 481 more"), "{said}");
    let told = receiver.take();
    let about: std::collections::BTreeSet<_> = told
        .iter()
        .map(|one| one.json()["data"]["about"]["id"].to_string())
        .collect();
    assert_eq!((told.len(), about.len()), (501, 501));
    for _ in 0..3 {
        server.pass(2 * MINUTE_MS);
        run(&server).await;
    }
    assert!(sink.take().is_empty() && receiver.take().is_empty());
}

/// A key that has expired is not said to expire, nor is its owner told to rotate it before that.
#[tokio::test]
async fn what_has_expired_is_told_as_that() {
    let (sink, port) = Sink::plain().await;
    let server = server(port).await;
    Root::of(&server).await;
    let [mia, ann] = ["mia@example.org", "ann@example.org"];
    let owners = [
        server.add_user(mia, &["member"]).await,
        server.add_user(ann, &["member"]).await,
    ];
    issue(&server, &owners[0], "Dead", 40 * DAY_MS).await;
    issue(&server, &owners[0], "Soon", 47 * DAY_MS).await;
    issue(&server, &owners[1], "Dead alone", 40 * DAY_MS).await;
    // The server slept through every day before.
    server.pass(41 * DAY_MS + MINUTE_MS);
    run(&server).await;
    let mails = sink.take();
    let both = text(to(&mails, mia)[0]);
    for part in [
        "1 API key has expired, 1 expires.",
        "“Dead” (sk_live) has expired",
        "“Soon” (sk_live) expires",
        "their old secrets do",
        "Rotate keys that expire before they do",
    ] {
        assert!(both.contains(part), "{part} in {both}");
    }
    let alone = text(to(&mails, ann)[0]);
    for part in [
        "API key “Dead alone” has expired.",
        "It is refused since then.",
    ] {
        assert!(alone.contains(part), "{part} in {alone}");
    }
    for text in [&both, &alone] {
        assert!(!text.contains("expires since") && !text.contains("before that"));
    }
}
