use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use keywright_registry::outbox::{Attempt, Channel, MadeOf, NewMessage, Outcome};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::deliver::deliver;
use super::signature;
use super::testing::{Got, Receiver, Root, run};
use crate::test_support::TestServer;

const HOUR_MS: i64 = 60 * 60 * 1000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Checks a request as a receiver would. Returns how many of its signatures are good.
fn good_signatures(got: &Got, secret: &str) -> usize {
    let at: i64 = got.header("webhook-timestamp").parse().unwrap();
    let own = signature::sign(secret, &got.header("webhook-id"), at, &got.body).unwrap();
    let given = got.header("webhook-signature");
    given.split(' ').filter(|one| *one == own).count()
}

async fn deliveries(root: &mut Root, hook: &str) -> Vec<Value> {
    let path = format!("/api/v1/webhooks/{hook}/deliveries");
    let list = root.ok(Method::GET, &path, Value::Null).await;
    list["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn what_happens_is_told_once_signed_and_to_those_who_want_it() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let (one, url) = Receiver::listen().await;
    let (other, other_url) = Receiver::listen().await;
    let (_, secret) = root.hook(&url, &["key.issued", "key.revoked"]).await;
    root.hook(&other_url, &["key.revoked"]).await;
    let issued = root.issue("Billing").await;
    run(&server).await;
    let got = one.take();
    assert_eq!(got.len(), 1, "{got:?}");
    let body = got[0].json();
    assert_eq!(body["type"], "key.issued");
    assert_eq!(body["timestamp"], "2027-01-15T08:00:00Z");
    assert_eq!(body["data"]["about"]["id"], issued["key"]["id"]);
    assert_eq!(body["data"]["about"]["name"], "Billing");
    assert_eq!(got[0].header("content-type"), "application/json");
    assert_eq!(got[0].header("webhook-timestamp"), "1800000000");
    assert_eq!(good_signatures(&got[0], &secret), 1);
    assert_eq!(good_signatures(&got[0], "whsec_AAAA"), 0);
    let text = String::from_utf8(got[0].body.clone()).unwrap();
    assert!(!text.contains(&issued["secret"].as_str().unwrap()[20..]));
    assert!(other.take().is_empty());

    run(&server).await;
    assert!(one.take().is_empty(), "it was told again");
    let path = format!(
        "/api/v1/keys/{}/revoke",
        issued["key"]["id"].as_str().unwrap()
    );
    root.ok(Method::POST, &path, json!({ "reason": "left" }))
        .await;
    run(&server).await;
    let (first, second) = (one.take(), other.take());
    assert_eq!(first[0].json()["data"]["details"]["reason"], "left");
    // One event has one id, whoever is told.
    assert_eq!(
        first[0].header("webhook-id"),
        second[0].header("webhook-id")
    );
}

#[tokio::test]
async fn what_fails_is_tried_again_later_and_later_and_everything_is_in_the_log() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let (receiver, url) = Receiver::listen().await;
    let (hook, _) = root.hook(&url, &["key.issued"]).await;
    receiver.will_answer(&[500, 302, 429]);
    root.issue("Billing").await;
    run(&server).await;
    assert_eq!(receiver.take().len(), 1);
    run(&server).await;
    assert!(receiver.take().is_empty(), "it did not wait");
    let waiting = &deliveries(&mut root, &hook).await[0];
    assert_eq!(
        (&waiting["state"], &waiting["attempts"]),
        (&json!("waiting"), &json!(1))
    );
    let next = waiting["next_try_at"].as_i64().unwrap() - crate::test_support::START;
    assert!((4_000..=6_000).contains(&next), "{next}");

    let mut ids = BTreeSet::new();
    for wait in [6_000, 36_000, 144_000] {
        server.pass(wait);
        run(&server).await;
        let got = receiver.take();
        assert_eq!(got.len(), 1, "after {wait}: a redirect is not followed");
        ids.insert(got[0].header("webhook-id"));
    }
    assert_eq!(ids.len(), 1, "a receiver can tell that it came before");
    let delivered = &deliveries(&mut root, &hook).await[0];
    assert_eq!(delivered["state"], "delivered");
    assert!(delivered["next_try_at"].is_null());
    let path = format!(
        "/api/v1/webhooks/{hook}/deliveries/{}",
        delivered["id"].as_str().unwrap()
    );
    let whole = root.ok(Method::GET, &path, Value::Null).await;
    let tries = whole["attempts"].as_array().unwrap();
    let statuses: Vec<_> = tries.iter().map(|one| one["status"].clone()).collect();
    assert_eq!(statuses, [json!(500), Value::Null, json!(429), json!(204)]);
    assert!(tries[1]["error"].as_str().unwrap().contains("redirect"));
    let excerpt = tries[0]["excerpt"].as_str().unwrap();
    assert!(
        excerpt.starts_with("said ") && excerpt.len() <= 300,
        "{}",
        excerpt.len()
    );
    assert!(
        tries
            .iter()
            .all(|one| one["duration_ms"].as_i64().unwrap() >= 0)
    );
}

#[tokio::test]
async fn messages_that_fail_at_one_moment_are_not_due_at_one_moment() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let (receiver, url) = Receiver::listen().await;
    let (hook, _) = root.hook(&url, &["key.issued"]).await;
    receiver.will_answer(&[503; 8]);
    // As many as one receiver is sent at once.
    for number in 0..8 {
        root.issue(&format!("key {number}")).await;
    }
    // The clock stands still: each fails at the same moment.
    run(&server).await;
    assert_eq!(receiver.take().len(), 8);
    let waiting = deliveries(&mut root, &hook).await;
    let due: BTreeSet<_> = waiting
        .iter()
        .map(|one| one["next_try_at"].as_i64().unwrap() - crate::test_support::START)
        .collect();
    assert_eq!(waiting.len(), 8);
    // Of 2,001 moments: that three of eight are shared comes once in millions.
    assert!(due.len() > 5, "{due:?}");
    assert!(due.iter().all(|at| (4_000..=6_000).contains(at)), "{due:?}");
}

#[tokio::test]
async fn tries_end_after_more_than_a_day() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let (receiver, url) = Receiver::listen().await;
    let (hook, _) = root.hook(&url, &["key.issued"]).await;
    receiver.will_answer(&[503; 11]);
    root.issue("Billing").await;
    let mut tries = 0;
    for _ in 0..60 {
        run(&server).await;
        tries += receiver.take().len();
        server.pass(HOUR_MS);
    }
    assert_eq!(tries, 11);
    let given_up = &deliveries(&mut root, &hook).await[0];
    assert_eq!(given_up["state"], "failed");
    let lasted = given_up["ended_at"].as_i64().unwrap() - given_up["made_at"].as_i64().unwrap();
    assert!(lasted > DAY_MS, "{lasted}");
    // By hand it is sent once more, with the id it had.
    let path = format!(
        "/api/v1/webhooks/{hook}/deliveries/{}/redeliver",
        given_up["id"].as_str().unwrap()
    );
    let again = root.send(Method::POST, &path, Value::Null).await;
    assert_eq!(again.status, StatusCode::ACCEPTED, "{}", again.text);
    run(&server).await;
    let got = receiver.take();
    assert_eq!(got[0].header("webhook-id"), given_up["event_id"]);
    assert_eq!(deliveries(&mut root, &hook).await[0]["state"], "delivered");
}

#[tokio::test]
async fn a_receiver_that_was_away_catches_up_with_what_failed_since() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let (receiver, url) = Receiver::listen().await;
    let (hook, _) = root.hook(&url, &["key.issued"]).await;
    let registry = server.registry();
    let send = async |events: &[&str], fails: bool| {
        let messages = events.iter().map(|event| NewMessage {
            event_id: (*event).to_owned(),
            event_type: "key.issued".into(),
            channel: Channel::Webhook,
            target: hook.clone(),
            body: b"{}".to_vec(),
        });
        let made = registry.enqueue(MadeOf::Else, messages.collect());
        assert!(made.await.unwrap());
        if !fails {
            return;
        }
        for one in registry
            .claim_messages(&[Channel::Webhook], 10)
            .await
            .unwrap()
        {
            let attempt = Attempt {
                attempt: one.message.attempts,
                at: 0,
                duration_ms: 1,
                status: Some(503),
                error: None,
                excerpt: String::new(),
            };
            let failed = registry.record_attempt(&one.message.id, attempt, Outcome::Failed);
            failed.await.unwrap();
        }
    };
    send(&["a", "b"], true).await;
    server.pass(HOUR_MS);
    let since = server.server.app().now();
    send(&["c", "d"], true).await;
    send(&["e"], false).await;
    run(&server).await;
    assert_eq!(
        receiver.take().len(),
        1,
        "what failed is not tried by itself"
    );

    let path = format!("/api/v1/webhooks/{hook}/deliveries");
    let count = async |root: &mut Root, query: &str| {
        let path = format!("{path}?{query}");
        let list = root.ok(Method::GET, &path, Value::Null).await;
        list["items"].as_array().unwrap().len()
    };
    for (query, expected) in [
        ("state=failed".to_owned(), 4),
        (format!("state=failed&since={since}"), 2),
        (format!("since={since}"), 3),
        ("state=delivered".to_owned(), 1),
        ("state=waiting".to_owned(), 0),
    ] {
        assert_eq!(count(&mut root, &query).await, expected, "{query}");
    }
    for query in ["state=odd", "since=yesterday"] {
        let path = format!("{path}?{query}");
        let refused = root.send(Method::GET, &path, Value::Null).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(refused.json()["code"], "invalid_parameter");
    }

    let again = format!("{path}/redeliver");
    for (body, status, code) in [
        (
            json!({ "state": "waiting", "since": 0 }),
            400,
            "invalid_body",
        ),
        (json!({ "since": 0 }), 400, "invalid_body"),
    ] {
        let refused = root.send(Method::POST, &again, body).await;
        assert_eq!(refused.status, status, "{}", refused.text);
        assert_eq!(refused.json()["code"], code);
    }
    for (since, expected) in [(since, ["c", "d"]), (0, ["a", "b"])] {
        let body = json!({ "state": "failed", "since": since });
        let answer = root.send(Method::POST, &again, body).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
        assert_eq!(answer.json(), json!({ "count": 2, "left": 0 }));
        run(&server).await;
        let got = receiver.take();
        let ids: BTreeSet<_> = got.iter().map(|one| one.header("webhook-id")).collect();
        assert_eq!(ids, expected.map(str::to_owned).into());
    }
    assert_eq!(count(&mut root, "state=delivered").await, 5);
    let off = json!({ "enabled": false });
    root.ok(Method::PATCH, &format!("/api/v1/webhooks/{hook}"), off)
        .await;
    let body = json!({ "state": "failed", "since": 0 });
    let refused = root.send(Method::POST, &again, body).await;
    assert_eq!(refused.json()["code"], "webhook_disabled");
}

#[tokio::test]
async fn a_receiver_that_is_gone_or_dead_is_switched_off_and_others_hear_of_it() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let (watcher, watching) = Receiver::listen().await;
    root.hook(&watching, &["webhook.disabled"]).await;
    let (gone, url) = Receiver::listen().await;
    let (hook, _) = root.hook(&url, &["key.issued"]).await;
    gone.will_answer(&[410]);
    root.issue("one").await;
    run(&server).await;
    run(&server).await;
    assert_eq!(watcher.kinds(), ["webhook.disabled"]);
    let path = format!("/api/v1/webhooks/{hook}");
    let read = root.ok(Method::GET, &path, Value::Null).await;
    assert_eq!(read["enabled"], false);
    assert!(read["disabled_reason"].as_str().unwrap().contains("410"));
    gone.take();
    root.issue("two").await;
    run(&server).await;
    assert!(gone.take().is_empty());
    let test = root
        .send(Method::POST, &format!("{path}/test"), Value::Null)
        .await;
    assert_eq!(test.json()["code"], "webhook_disabled");

    // One that only fails is given three days, and what is delivered in between forgives all.
    root.ok(Method::PATCH, &path, json!({ "enabled": true }))
        .await;
    gone.will_answer(&[500, 204]);
    root.issue("three").await;
    run(&server).await;
    assert!(root.ok(Method::GET, &path, Value::Null).await["failing_since"].is_i64());
    server.pass(6_000);
    run(&server).await;
    assert!(root.ok(Method::GET, &path, Value::Null).await["failing_since"].is_null());
    gone.will_answer(&[500; 100]);
    for day in 0..4 {
        root.issue(&format!("day {day}")).await;
        run(&server).await;
        server.pass(DAY_MS);
    }
    let read = root.ok(Method::GET, &path, Value::Null).await;
    assert_eq!(read["enabled"], false, "{read}");
    run(&server).await;
    assert_eq!(watcher.kinds(), ["webhook.disabled"]);
}

/// A receiver that is overloaded is not asked with the next of many, as fast as it can refuse.
#[tokio::test]
async fn a_receiver_that_refuses_is_left_alone_however_much_waits_for_it() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let (receiver, url) = Receiver::listen().await;
    let (hook, _) = root.hook(&url, &["key.exposed"]).await;
    let (other, other_url) = Receiver::listen().await;
    let (healthy, _) = root.hook(&other_url, &["key.exposed"]).await;
    let message = |number: i32, target: &str| NewMessage {
        event_id: format!("e{number}"),
        event_type: "key.issued".into(),
        channel: Channel::Webhook,
        target: target.into(),
        body: b"{}".to_vec(),
    };
    let many = (0..100).map(|number| message(number, &hook));
    let registry = server.registry();
    registry
        .enqueue(MadeOf::Else, many.collect())
        .await
        .unwrap();
    receiver.will_answer(&[503; 100]);
    run(&server).await;
    // Those that were on their way when the first was refused.
    assert!(receiver.take().len() <= 8);
    for _ in 0..3 {
        run(&server).await;
        server.pass(1_000);
    }
    assert!(receiver.take().is_empty(), "it was not left alone");
    // It keeps nobody else waiting.
    let one = vec![message(0, &healthy)];
    registry.enqueue(MadeOf::Else, one).await.unwrap();
    run(&server).await;
    assert_eq!(other.take().len(), 1);
    // When the time is over one is tried, and the receiver says when to come again.
    *receiver.retry_after_s.lock().unwrap() = Some(60);
    server.pass(1_000);
    run(&server).await;
    assert_eq!(receiver.take().len(), 1);
    server.pass(59_000);
    run(&server).await;
    assert!(receiver.take().is_empty(), "it asked for a minute");
    // Back again: what waits goes, without another pause.
    receiver.answers.lock().unwrap().clear();
    server.pass(1_000);
    run(&server).await;
    assert_eq!(receiver.take().len(), 100);
    // Whoever asks for a test does not wait.
    receiver.will_answer(&[503]);
    let path = format!("/api/v1/webhooks/{hook}/test");
    for _ in 0..2 {
        root.ok(Method::POST, &path, Value::Null).await;
        run(&server).await;
        assert_eq!(receiver.take().len(), 1);
    }
}

/// Too many at once: a refusal is quick, and what it took comes to its end later.
#[tokio::test]
async fn a_receiver_that_takes_one_of_two_is_left_alone_for_as_long_as_it_asked_for() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let (receiver, url) = Receiver::listen().await;
    let (hook, _) = root.hook(&url, &["key.exposed"]).await;
    let messages = (0..2).map(|number| NewMessage {
        event_id: format!("e{number}"),
        event_type: "key.issued".into(),
        channel: Channel::Webhook,
        target: hook.clone(),
        body: b"{}".to_vec(),
    });
    let registry = server.registry();
    let made = registry.enqueue(MadeOf::Else, messages.collect());
    assert!(made.await.unwrap());
    let taken = registry.claim_messages(&[Channel::Webhook], 2);
    let taken = taken.await.unwrap();
    let leave = Arc::new(Semaphore::new(0));
    *receiver.leave.lock().unwrap() = Some(Arc::clone(&leave));
    *receiver.retry_after_s.lock().unwrap() = Some(60);
    receiver.will_answer(&[429, 204]);
    let app = server.server.app();
    let is_held = || !app.notices.holds.held(app.now()).is_empty();
    let (first, second, ()) =
        tokio::join!(deliver(app, &taken[0]), deliver(app, &taken[1]), async {
            while receiver.count() < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            server.pass(10);
            leave.add_permits(1);
            while !is_held() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            server.pass(100);
            leave.add_permits(1);
        });
    first.and(second).unwrap();
    *receiver.leave.lock().unwrap() = None;
    assert_eq!(receiver.take().len(), 2);
    server.pass(59_000);
    run(&server).await;
    assert!(receiver.take().is_empty(), "it asked for a minute");
    server.pass(1_000);
    run(&server).await;
    assert_eq!(receiver.take().len(), 1);
}

#[tokio::test]
async fn both_secrets_sign_for_a_day_after_a_change() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let (receiver, url) = Receiver::listen().await;
    let (hook, old) = root.hook(&url, &["*"]).await;
    let path = format!("/api/v1/webhooks/{hook}/rotate-secret");
    let changed = root.ok(Method::POST, &path, Value::Null).await;
    let new = changed["secret"].as_str().unwrap();
    assert_ne!(new, old);
    let test = format!("/api/v1/webhooks/{hook}/test");
    for (wait, olds) in [(DAY_MS - 1, 1), (1, 0)] {
        server.pass(wait);
        root.ok(Method::POST, &test, Value::Null).await;
        run(&server).await;
        let got = receiver.take();
        assert_eq!(got[0].kind(), "webhook.test");
        assert_eq!(good_signatures(&got[0], new), 1);
        assert_eq!(good_signatures(&got[0], &old), olds, "after {wait}");
    }
}

#[tokio::test]
async fn ac_205_addresses_within_are_refused_when_made_and_when_sent_to() {
    let server = TestServer::with(|settings| settings.allow_private_addresses = false).await;
    let mut root = Root::of(&server).await;
    for url in [
        "http://hooks.example.org/",
        "http://127.0.0.1:9/",
        "https://127.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://10.0.0.1/",
        "https://user:secret@hooks.example.org/",
        "https://hooks.example.org/#x",
        "ftp://hooks.example.org/",
        "hooks",
    ] {
        let body = json!({ "url": url, "events": ["*"] });
        let answer = root.send(Method::POST, "/api/v1/webhooks", body).await;
        assert_eq!(answer.json()["code"], "invalid_webhook_url", "{url}");
    }
    // A name is looked up for each request, and every address of it is looked at: one that turned
    // inside after it was accepted is not asked.
    let (hook, _) = root.hook("https://localhost/hook", &["key.issued"]).await;
    root.issue("Billing").await;
    run(&server).await;
    let sent = &deliveries(&mut root, &hook).await[0];
    let path = format!(
        "/api/v1/webhooks/{hook}/deliveries/{}",
        sent["id"].as_str().unwrap()
    );
    let whole = root.ok(Method::GET, &path, Value::Null).await;
    let error = whole["attempts"][0]["error"].as_str().unwrap();
    assert!(error.contains("private network"), "{error}");
}

#[tokio::test]
async fn webhooks_are_for_administrators_and_their_secrets_for_nobody() {
    let server = TestServer::start().await;
    let member = server.add_user("mia@example.org", &["member"]).await;
    let admin = server.add_user("adam@example.org", &["admin"]).await;
    let mut member = server.sign_in_as(&member).await;
    let mut admin = server.sign_in_as(&admin).await;
    let wish = json!({ "url": "https://hooks.example.org/x", "events": ["*", "key.issued"] });
    let refused = member.json(Method::POST, "/api/v1/webhooks", &wish).await;
    assert_eq!(refused.json()["code"], "insufficient_scope");
    let refused = member.get("/api/v1/webhooks").await;
    assert_eq!(refused.json()["code"], "insufficient_scope");
    let made = admin.json(Method::POST, "/api/v1/webhooks", &wish).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert_eq!(made.header("cache-control"), "no-store");
    let secret = made.json()["secret"].as_str().unwrap().to_owned();
    let id = made.json()["webhook"]["id"].as_str().unwrap().to_owned();
    assert_eq!(made.json()["webhook"]["events"], json!(["*"]));
    let list = admin.get("/api/v1/webhooks").await;
    assert!(!list.text.contains("whsec_"));
    assert!(list.json()["event_types"].as_array().unwrap().len() > 20);
    // Nothing of it is in the database, in clear or as it is written.
    let path = server.registry().path().unwrap().to_owned();
    let mut stored = std::fs::read(&path).unwrap();
    stored.extend(std::fs::read(path.with_extension("db-wal")).unwrap_or_default());
    let needle = &secret.as_bytes()[6..30];
    assert!(!stored.windows(needle.len()).any(|part| part == needle));
    for bad in [json!([]), json!(["key.isued"]), json!(["*", "nothing"])] {
        let body = json!({ "url": "https://hooks.example.org/x", "events": bad });
        let answer = admin.json(Method::POST, "/api/v1/webhooks", &body).await;
        assert_eq!(answer.json()["code"], "invalid_event_type");
    }
    let one = format!("/api/v1/webhooks/{id}");
    for (method, path) in [
        (Method::GET, format!("{one}/deliveries/none")),
        (Method::POST, format!("{one}/deliveries/none/redeliver")),
        (Method::GET, "/api/v1/webhooks/none".to_owned()),
        (Method::DELETE, "/api/v1/webhooks/none".to_owned()),
        (Method::POST, "/api/v1/webhooks/none/test".to_owned()),
    ] {
        let answer = admin.json(method, &path, &Value::Null).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    let removed = admin.json(Method::DELETE, &one, &Value::Null).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    assert_eq!(admin.get(&one).await.json()["code"], "webhook_not_found");
}

#[tokio::test]
async fn nothing_is_lost_when_the_server_stops_before_it_told() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let (receiver, url) = Receiver::listen().await;
    root.hook(&url, &["key.issued"]).await;
    // Committed, and nothing made of it yet.
    root.issue("before").await;
    let server = server.again().await;
    run(&server).await;
    assert_eq!(receiver.kinds(), ["key.issued"]);
    // Made, taken by a process that then stopped, and free again when its time is over.
    let mut root = Root::of(&server).await;
    root.issue("taken").await;
    crate::notices::make_for_test(server.server.app()).await;
    let taken = server
        .registry()
        .claim_messages(&[Channel::Webhook], 10)
        .await
        .unwrap();
    assert_eq!(taken.len(), 1);
    let server = server.again().await;
    run(&server).await;
    assert!(receiver.take().is_empty(), "two send it at once");
    server.pass(2 * 60_000);
    run(&server).await;
    assert_eq!(receiver.kinds(), ["key.issued"]);
}

#[tokio::test]
async fn whoever_makes_and_sends_at_the_same_moment_sends_each_message_once() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let (receiver, url) = Receiver::listen().await;
    let (hook, _) = root.hook(&url, &["key.issued"]).await;
    for n in 0..5 {
        root.issue(&format!("key {n}")).await;
    }
    let app = server.server.app();
    tokio::join!(
        crate::notices::run_until_idle(app),
        crate::notices::run_until_idle(app),
        crate::notices::run_until_idle(app)
    );
    assert_eq!(receiver.kinds().len(), 5);
    // The same event for the same target is one message, whoever makes it again.
    let message = NewMessage {
        event_id: "evt_1".into(),
        event_type: "key.issued".into(),
        channel: Channel::Webhook,
        target: hook,
        body: b"{}".to_vec(),
    };
    for _ in 0..3 {
        let again = vec![message.clone()];
        server
            .registry()
            .enqueue(MadeOf::Else, again)
            .await
            .unwrap();
    }
    crate::notices::run_until_idle(app).await;
    assert_eq!(receiver.take().len(), 1);
}

#[tokio::test]
async fn the_log_is_forgotten_after_a_month() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let (_receiver, url) = Receiver::listen().await;
    let (hook, _) = root.hook(&url, &["key.issued"]).await;
    root.issue("Billing").await;
    run(&server).await;
    server.pass(29 * DAY_MS);
    run(&server).await;
    assert_eq!(deliveries(&mut root, &hook).await.len(), 1);
    server.pass(2 * DAY_MS);
    run(&server).await;
    assert!(deliveries(&mut root, &hook).await.is_empty());
}

/// However much ended: it is not there for longer than is said, and goes in one look.
#[tokio::test]
async fn the_log_is_forgotten_as_fast_as_it_grows() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let (hook, _) = root.hook("http://127.0.0.1:9/hook", &["key.issued"]).await;
    let many = (0..1_300).map(|number| NewMessage {
        event_id: format!("e{number}"),
        event_type: "key.issued".into(),
        channel: Channel::Webhook,
        target: hook.clone(),
        body: b"{}".to_vec(),
    });
    let registry = server.registry();
    let made = registry.enqueue(MadeOf::Else, many.collect());
    assert!(made.await.unwrap());
    // What waits for a webhook ends with it.
    let path = format!("/api/v1/webhooks/{hook}");
    root.ok(Method::DELETE, &path, Value::Null).await;
    server.pass(31 * DAY_MS);
    run(&server).await;
    let left = registry.list_messages(Channel::Webhook, &hook, None, 10);
    assert!(left.await.unwrap().0.is_empty());
}
