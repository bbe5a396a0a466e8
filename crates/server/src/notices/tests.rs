use axum::body::Body;
use axum::http::{Method, StatusCode};
use keywright_domain::api_keys::DAY_MS;
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::schedules::{Mode, Recurrence, Schedule, ScheduleTerms, TimeZone};
use serde_json::{Value, json};

use super::make;
use crate::test_support::TestServer;
use crate::webhooks::testing::{Receiver, Root, run, verdict};

const MINUTE_MS: i64 = 60_000;

fn id(issued: &Value) -> String {
    issued["key"]["id"].as_str().unwrap().to_owned()
}

fn secret(issued: &Value) -> String {
    issued["secret"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn ac_124_a_key_in_an_address_is_flagged_and_its_owner_told() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let (receiver, url) = Receiver::listen().await;
    root.hook(&url, &["key.exposed"]).await;
    let issued = root.issue("Billing").await;
    let key = secret(&issued);
    let address = format!("/orders?api_key={key}");
    let headers = [("x-original-uri", address.as_str())];
    let answer = server
        .browser()
        .send(Method::GET, "/verify", &headers, Body::empty())
        .await;
    assert_eq!(answer.json()["code"], "key_in_url");
    run(&server).await;
    let got = receiver.take();
    assert_eq!(got.len(), 1);
    let body = got[0].json();
    assert_eq!(body["type"], "key.exposed");
    assert_eq!(body["data"]["about"]["id"], id(&issued));
    assert!(!String::from_utf8_lossy(&got[0].body).contains(&key[20..]));
}

#[tokio::test]
async fn ac_139_the_old_key_in_the_last_hour_is_told_with_network_and_route_before_it_closes() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let (receiver, url) = Receiver::listen().await;
    root.hook(&url, &["overlap.closing"]).await;
    let issued = root.issue("Billing").await;
    let old = secret(&issued);
    assert_eq!(verdict(&server, &old).await, "valid");
    let path = format!("/api/v1/keys/{}/rotations", id(&issued));
    let body = json!({ "overlap_ms": DAY_MS, "clock": "from_issue" });
    root.ok(Method::POST, &path, body).await;
    let use_old = [
        ("x-api-key", old.as_str()),
        ("x-forwarded-method", "POST"),
        ("x-forwarded-uri", "/orders"),
        ("user-agent", "nightly/2.1"),
    ];
    let ask = async |server: &TestServer| {
        server
            .browser()
            .send(Method::GET, "/verify", &use_old, Body::empty())
            .await
            .status
    };
    // Early in the overlap nobody is warned.
    assert_eq!(ask(&server).await, StatusCode::NO_CONTENT);
    run(&server).await;
    assert!(receiver.take().is_empty());
    server.pass(DAY_MS - 30 * MINUTE_MS);
    run(&server).await;
    assert!(
        receiver.take().is_empty(),
        "nobody used it in the last hour"
    );
    assert_eq!(ask(&server).await, StatusCode::NO_CONTENT);
    server.pass(2 * MINUTE_MS);
    run(&server).await;
    let got = receiver.take();
    assert_eq!(got.len(), 1);
    let data = &got[0].json()["data"];
    assert_eq!(data["about"]["id"], id(&issued));
    assert_eq!(data["closes_at"], "2027-01-16T08:00:00Z");
    let callers = data["callers"].as_array().unwrap();
    let late = callers
        .iter()
        .find(|one| one["route"] == "POST /orders")
        .unwrap();
    assert!(late["network"].as_str().unwrap().ends_with("/24"), "{late}");
    assert_eq!(late["agent"], "nightly/2.1");
    // Once is enough.
    for _ in 0..3 {
        server.pass(5 * MINUTE_MS);
        ask(&server).await;
        run(&server).await;
    }
    assert!(receiver.take().is_empty());
}

#[tokio::test]
async fn a_retired_secret_and_a_canary_are_told_at_once_and_then_once_an_hour() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let (receiver, url) = Receiver::listen().await;
    root.hook(&url, &["secret.retired_used", "canary.used"])
        .await;
    let issued = root.issue("Billing").await;
    let old = secret(&issued);
    assert_eq!(verdict(&server, &old).await, "valid");
    let path = format!("/api/v1/keys/{}/rotations", id(&issued));
    let body = json!({ "overlap_ms": 0, "clock": "from_issue" });
    root.ok(Method::POST, &path, body).await;
    server.pass(1_000);
    for told in [1, 0] {
        assert_eq!(verdict(&server, &old).await, "key_retired");
        server.registry().flush_uses().await.unwrap();
        run(&server).await;
        assert_eq!(receiver.kinds().len(), told);
    }
    server.pass(61 * MINUTE_MS);
    run(&server).await;
    assert_eq!(receiver.kinds(), ["secret.retired_used"]);
    run(&server).await;
    assert!(receiver.take().is_empty());

    let wish = json!({ "name": "Bait", "prefix": "sk_live", "scopes": [], "settings": { "canary": true } });
    let bait = root.ok(Method::POST, "/api/v1/keys", wish).await;
    verdict(&server, &secret(&bait)).await;
    server.registry().flush_uses().await.unwrap();
    run(&server).await;
    let got = receiver.take();
    assert_eq!(got[0].kind(), "canary.used");
    assert_eq!(got[0].json()["data"]["about"]["id"], id(&bait));
}

/// A node whose clock is behind is not ready and answers all the same: what it sees is told to whoever wants it, also
/// where its time is before that of the webhook.
#[tokio::test]
async fn a_canary_that_was_used_by_a_clock_that_is_behind_is_told() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let (receiver, url) = Receiver::listen().await;
    root.hook(&url, &["canary.used"]).await;
    let wish = json!({ "name": "Bait", "prefix": "sk_live", "scopes": [], "settings": { "canary": true } });
    let bait = root.ok(Method::POST, "/api/v1/keys", wish).await;
    server.pass(-180 * MINUTE_MS);
    verdict(&server, &secret(&bait)).await;
    server.registry().flush_uses().await.unwrap();
    server.pass(180 * MINUTE_MS);
    run(&server).await;
    assert_eq!(receiver.kinds(), ["canary.used"]);
}

#[tokio::test]
async fn what_expires_is_told_once_for_each_step_and_not_for_those_slept_through() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let (receiver, url) = Receiver::listen().await;
    root.hook(&url, &["key.expiring"]).await;
    let wish = json!({
        "name": "Billing", "prefix": "sk_live", "scopes": ["orders:read"], "lifetime_ms": 60 * DAY_MS,
    });
    let issued = root.ok(Method::POST, "/api/v1/keys", wish).await;
    let mut told = Vec::new();
    for _ in 0..20 {
        server.pass(2 * DAY_MS);
        for _ in 0..2 {
            run(&server).await;
            for got in receiver.take() {
                let data = got.json()["data"].clone();
                assert_eq!(data["about"]["name"], "Billing");
                told.push(data["urgency"].as_str().unwrap().to_owned());
            }
        }
    }
    assert_eq!(told, ["days_30"], "60 days, 40 of them gone");
    // Asleep over 14 and 7 days: only what is most urgent now is told.
    server.pass(19 * DAY_MS);
    let server = server.again().await;
    run(&server).await;
    let got = receiver.take();
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!(got[0].json()["data"]["urgency"], "days_1");
    // What became of each is written down.
    let notices = server.registry().list_notices(&id(&issued)).await.unwrap();
    let sent: Vec<_> = notices.iter().filter(|one| one.sent_at.is_some()).collect();
    assert_eq!(sent.len(), 2);
    assert!(
        sent.iter()
            .all(|one| one.channel.as_deref() == Some("webhook"))
    );
    assert!(notices.iter().filter(|one| one.passed).count() >= 2);
}

#[tokio::test]
async fn a_schedule_rotates_once_for_all_it_missed_and_says_that_a_secret_waits() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let (receiver, url) = Receiver::listen().await;
    root.hook(
        &url,
        &["rotation.pending", "key.rotated", "delivery.failed"],
    )
    .await;
    let wish = json!({
        "name": "Billing", "prefix": "sk_live", "scopes": ["orders:read"], "lifetime_ms": 300 * DAY_MS,
    });
    let issued = root.ok(Method::POST, "/api/v1/keys", wish).await;
    let old = secret(&issued);
    assert_eq!(verdict(&server, &old).await, "valid");
    let schedule = |mode| {
        Schedule::new(ScheduleTerms {
            recurrence: Recurrence::Interval {
                every_ms: 7 * DAY_MS,
            },
            time_zone: TimeZone::new("UTC").unwrap(),
            window: None,
            jitter_ms: 0,
            mode,
            max_age_ms: None,
        })
        .unwrap()
    };
    let actor = Actor::person("test");
    server
        .registry()
        .set_schedule(&actor, &id(&issued), &schedule(Mode::IssuePending), "")
        .await
        .unwrap();
    run(&server).await;
    assert!(receiver.take().is_empty());
    server.pass(22 * DAY_MS);
    let server = server.again().await;
    for _ in 0..2 {
        run(&server).await;
        server.pass(MINUTE_MS);
    }
    run(&server).await;
    let mut kinds = receiver.kinds();
    kinds.sort();
    assert_eq!(kinds, ["key.rotated", "rotation.pending"]);
    assert_eq!(verdict(&server, &old).await, "valid", "the old one goes on");

    // A server does not deliver; it says so, and the old secret goes on.
    let other = root_issue(&server, "Other").await;
    assert_eq!(verdict(&server, &secret(&other)).await, "valid");
    server
        .registry()
        .set_schedule(
            &actor,
            &id(&other),
            &schedule(Mode::Automatic),
            "env:API_KEY",
        )
        .await
        .unwrap();
    server.pass(8 * DAY_MS);
    run(&server).await;
    run(&server).await;
    let kinds = receiver.kinds();
    assert!(kinds.contains(&"delivery.failed".to_owned()), "{kinds:?}");
    assert_eq!(verdict(&server, &secret(&other)).await, "valid");
}

async fn root_issue(server: &TestServer, name: &str) -> Value {
    Root::of(server).await.issue(name).await
}

#[tokio::test]
async fn time_ends_rotations_and_removes_what_is_kept_no_longer_without_a_request() {
    let server = TestServer::with(|settings| {
        settings.retention.keys.ended_keys_days = Some(30);
        settings.retention.keys.audit_days = Some(90);
    })
    .await;
    let mut root = Root::of(&server).await;
    let (receiver, url) = Receiver::listen().await;
    root.hook(&url, &["rotation.completed", "audit.checkpoint"])
        .await;
    let issued = root.issue("Billing").await;
    assert_eq!(verdict(&server, &secret(&issued)).await, "valid");
    let path = format!("/api/v1/keys/{}", id(&issued));
    let body = json!({ "overlap_ms": DAY_MS, "clock": "from_issue" });
    let rotated = root
        .ok(Method::POST, &format!("{path}/rotations"), body)
        .await;
    assert_eq!(verdict(&server, &secret(&rotated)).await, "valid");
    server.pass(DAY_MS + MINUTE_MS);
    run(&server).await;
    assert_eq!(receiver.kinds(), ["rotation.completed"]);
    root.ok(Method::POST, &format!("{path}/revoke"), json!({}))
        .await;
    server.pass(29 * DAY_MS);
    run(&server).await;
    let read = root.send(Method::GET, &path, Value::Null).await;
    assert_eq!(read.status, StatusCode::OK, "kept for its time");
    server.pass(2 * DAY_MS);
    run(&server).await;
    let read = root.send(Method::GET, &path, Value::Null).await;
    assert_eq!(read.json()["code"], "key_not_found");
    // The trail goes behind a signature.
    server.pass(91 * DAY_MS);
    run(&server).await;
    let query = keywright_registry::AuditQuery {
        limit: 500,
        ..Default::default()
    };
    let left = server
        .registry()
        .list_audit_events(query)
        .await
        .unwrap()
        .items;
    assert!(left.iter().any(|event| event.action == "audit.pruned"));
    assert!(!left.iter().any(|event| event.action == "api_key.issued"));
}

#[tokio::test]
async fn what_nobody_hears_of_is_passed_unread_and_a_new_webhook_hears_of_what_comes_after_it() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    for number in 0..210 {
        root.issue(&format!("Key {number}")).await;
    }
    let (app, registry) = (server.server.app(), server.registry());
    let untold = registry.untold_audit().await.unwrap().unwrap();
    let part = async |actions: Vec<AuditAction>| {
        let feed = registry.read_audit_feed(&untold, &actions).await.unwrap();
        (feed.events.len(), feed.more)
    };
    assert_eq!(part(make::told(app, &[])).await, (0, false));
    server.pass(1);
    let (receiver, url) = Receiver::listen().await;
    root.hook(&url, &["key.issued"]).await;
    let webhooks = registry.list_webhooks().await.unwrap();
    assert_eq!(part(make::told(app, &webhooks)).await, (200, true));
    run(&server).await;
    assert!(receiver.take().is_empty(), "older than the webhook");
    root.issue("Next").await;
    run(&server).await;
    assert_eq!(receiver.kinds(), ["key.issued"]);
    // Written down that nobody brings it, where nobody hears of anything.
    assert!(make::told(app, &[]).contains(&AuditAction::ApiKeyRotated));
}
