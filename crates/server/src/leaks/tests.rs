use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, StatusCode};
use keywright_registry::AuditQuery;
use serde_json::{Value, json};

use crate::test_support::{Answer, TestServer};
use crate::webhooks::testing::{Receiver, Root, run, verdict};

async fn report(server: &TestServer, body: Value) -> Answer {
    let kind = [("content-type", "application/json")];
    let body = Body::from(body.to_string());
    server
        .browser()
        .send(Method::POST, "/found-key", &kind, body)
        .await
}

/// The verdict on a key, when it is this one or time enough has passed.
async fn becomes(server: &TestServer, key: &str, expected: &str) -> String {
    for _ in 0..200 {
        let now = verdict(server, key).await;
        if now == expected {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    verdict(server, key).await
}

async fn events(server: &TestServer, action: &str) -> Vec<keywright_registry::AuditEvent> {
    let query = AuditQuery {
        limit: 500,
        ..AuditQuery::default()
    };
    let mut all = server.registry().list_audit_events(query).await.unwrap();
    all.items.retain(|event| event.action == action);
    all.items
}

/// Waits until the trail has so many events of an action.
async fn eventually(
    server: &TestServer,
    action: &str,
    many: usize,
) -> Vec<keywright_registry::AuditEvent> {
    for _ in 0..200 {
        if events(server, action).await.len() >= many {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    events(server, action).await
}

#[tokio::test]
async fn ac_144_a_whole_key_is_ended_and_told_of() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let (receiver, url) = Receiver::listen().await;
    root.hook(&url, &["key.exposed"]).await;
    let issued = root.issue("Billing").await;
    let key = issued["secret"].as_str().unwrap();
    assert_eq!(verdict(&server, key).await, "valid");
    let body = json!({ "key": key, "seen_in": "https://paste.example.org/1" });
    let answer = report(&server, body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.json()["status"], "received");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(becomes(&server, key, "key_revoked").await, "key_revoked");
    let told = eventually(&server, "api_key.exposed", 1).await;
    assert_eq!((told.len(), told[0].actor.as_str()), (1, "found-key door"));
    assert!(
        told[0]
            .details
            .contains(&("secret_revoked".into(), "true".into()))
    );
    let path = format!("/api/v1/keys/{}", issued["key"]["id"].as_str().unwrap());
    let read = root.ok(Method::GET, &path, Value::Null).await;
    assert!(read["exposed_at"].is_i64());
    run(&server).await;
    let got = receiver.take();
    assert_eq!(got.len(), 1);
    let said = got[0].json();
    assert_eq!(
        said["data"]["details"]["reason"],
        "https://paste.example.org/1"
    );
    // Said again, it is answered the same, and nothing more is told.
    let again = report(&server, json!({ "key": key })).await;
    assert_eq!((again.status, &again.text), (answer.status, &answer.text));
    tokio::time::sleep(Duration::from_millis(100)).await;
    run(&server).await;
    assert!(receiver.take().is_empty());
}

#[tokio::test]
async fn ac_144_an_id_alone_ends_nothing_and_its_owner_hears_of_it_once_a_day() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let issued = root.issue("Billing").await;
    let key = issued["secret"].as_str().unwrap();
    let kid = issued["key"]["secrets"][0]["kid"].as_str().unwrap();
    for _ in 0..3 {
        let body = json!({ "key": kid, "seen_in": "https://evil.example.org/click" });
        let answer = report(&server, body).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    }
    let told = eventually(&server, "api_key.reported", 1).await;
    assert_eq!(told.len(), 1);
    // What a stranger wrote beside it reaches nobody.
    let texts: String = told[0]
        .details
        .iter()
        .map(|(_, text)| text.as_str())
        .collect();
    assert!(!texts.contains("evil"), "{texts}");
    assert_eq!(verdict(&server, key).await, "valid");
    server.pass(25 * 60 * 60 * 1000);
    report(&server, json!({ "key": kid })).await;
    assert_eq!(eventually(&server, "api_key.reported", 2).await.len(), 2);
}

#[tokio::test]
async fn ac_144_the_answer_and_its_time_tell_nothing() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let issued = root.issue("Billing").await;
    let real = issued["secret"].as_str().unwrap().to_owned();
    let other = root.issue("Other").await["secret"]
        .as_str()
        .unwrap()
        .to_owned();
    // The right kid and a wrong secret, with a right checksum: it is not his who made it up.
    let kid = issued["key"]["secrets"][0]["kid"]
        .as_str()
        .unwrap()
        .to_owned();
    let unknown = keywright_domain::api_keys::PlainKey::generate(
        &keywright_domain::api_keys::Prefix::new("sk_live").unwrap(),
        &mut rand::rng(),
    );
    let unknown = unknown.text().expose().to_owned();
    let other_end = if real.ends_with('x') { "y" } else { "x" };
    let broken = format!("{}{other_end}", &real[..real.len() - 1]);
    let mut answers = Vec::new();
    for text in [
        &other,
        &unknown,
        &broken,
        "nonsense",
        "ghp_0123456789abcdef",
    ] {
        let begun = Instant::now();
        let answer = report(&server, json!({ "key": text })).await;
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(40), "{took:?}");
        let headers: Vec<_> = answer
            .headers
            .iter()
            .filter(|(name, _)| name.as_str() != "x-request-id")
            .map(|(name, value)| format!("{name}: {value:?}"))
            .collect();
        answers.push((answer.status, answer.text, headers));
    }
    assert!(
        answers.windows(2).all(|two| two[0] == two[1]),
        "{answers:?}"
    );
    // Ids too: those that are there and those that are not.
    let known = report(&server, json!({ "key": kid })).await;
    let stranger = report(&server, json!({ "key": "0123456789ab" })).await;
    assert_eq!((known.status, known.text), (stranger.status, stranger.text));
    assert_eq!(
        verdict(&server, &real).await,
        "valid",
        "only what was reported is ended"
    );
    assert_eq!(becomes(&server, &other, "key_revoked").await, "key_revoked");
}

/// From above too: what is done with a key of ours is done after the answer, not before it.
#[tokio::test]
async fn ac_144_a_key_of_ours_is_answered_as_soon_as_one_that_nobody_has() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let prefix = keywright_domain::api_keys::Prefix::new("sk_live").unwrap();
    // The quickest of some: a busy machine makes anything wait.
    let mut quickest = [Duration::MAX; 4];
    for round in 0..6 {
        let ours = root.issue("ours").await["secret"]
            .as_str()
            .unwrap()
            .to_owned();
        let ended = root.issue("ended").await;
        let path = format!(
            "/api/v1/keys/{}/revoke",
            ended["key"]["id"].as_str().unwrap()
        );
        root.ok(Method::POST, &path, json!({})).await;
        let made_up = keywright_domain::api_keys::PlainKey::generate(&prefix, &mut rand::rng());
        let texts = [
            ours.clone(),
            ended["secret"].as_str().unwrap().to_owned(),
            made_up.text().expose().to_owned(),
            "nonsense".to_owned(),
        ];
        for turn in 0..texts.len() {
            // Each comes first as often as the others.
            let kind = (turn + round) % texts.len();
            let begun = Instant::now();
            let answer = report(&server, json!({ "key": texts[kind] })).await;
            quickest[kind] = quickest[kind].min(begun.elapsed());
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        }
        assert_eq!(becomes(&server, &ours, "key_revoked").await, "key_revoked");
        // So many reports are taken from one address at a time.
        server.pass(11 * 60 * 1000);
    }
    let (shortest, longest) = (
        quickest.iter().min().unwrap(),
        quickest.iter().max().unwrap(),
    );
    assert!(
        *longest - *shortest < Duration::from_millis(12),
        "{quickest:?}"
    );
}

#[tokio::test]
async fn a_key_is_found_in_the_line_that_it_stands_in() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let one = root.issue("one").await["secret"]
        .as_str()
        .unwrap()
        .to_owned();
    let two = root.issue("two").await["secret"]
        .as_str()
        .unwrap()
        .to_owned();
    let line = format!("export API_KEY=\"{one}\"\nother: {two}, and so on");
    report(&server, json!({ "key": line })).await;
    for key in [&one, &two] {
        assert_eq!(becomes(&server, key, "key_revoked").await, "key_revoked");
    }
}

/// A whole file with keys, such as a log: whoever reports it cannot see which were ended, and reports it once.
#[tokio::test]
async fn every_key_of_a_text_is_ended_however_many_they_are() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let mut keys = Vec::new();
    for number in 0..12 {
        let issued = root.issue(&format!("Key {number}")).await;
        keys.push(issued["secret"].as_str().unwrap().to_owned());
    }
    let text: Vec<_> = keys
        .iter()
        .flat_map(|key| [format!("A={key}"), format!("again {key}")])
        .collect();
    report(&server, json!({ "key": text.join("\n") })).await;
    for key in &keys {
        assert_eq!(becomes(&server, key, "key_revoked").await, "key_revoked");
    }
}

#[tokio::test]
async fn the_old_secret_of_a_rotation_is_ended_alone() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let issued = root.issue("Billing").await;
    let old = issued["secret"].as_str().unwrap();
    assert_eq!(verdict(&server, old).await, "valid");
    let path = format!(
        "/api/v1/keys/{}/rotations",
        issued["key"]["id"].as_str().unwrap()
    );
    let rotated = root.ok(Method::POST, &path, json!({})).await;
    let new = rotated["secret"].as_str().unwrap();
    assert_eq!(verdict(&server, new).await, "valid");
    report(&server, json!({ "key": old })).await;
    assert_eq!(becomes(&server, old, "key_revoked").await, "key_revoked");
    assert_eq!(verdict(&server, new).await, "valid");
}

#[tokio::test]
async fn people_without_javascript_report_by_a_form() {
    let server = TestServer::start().await;
    let mut root = Root::of(&server).await;
    let key = root.issue("Billing").await["secret"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut browser = server.browser();
    let page = browser.get("/found-key").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("<form") && !page.text.contains("<script"));
    assert!(browser.cookies.is_empty(), "it remembers who asks");
    let fields = [("key", key.as_str()), ("seen_in", "a chat")];
    let thanks = browser.post("/found-key", &fields).await;
    assert_eq!(thanks.status, StatusCode::OK);
    assert!(thanks.text.contains("<h1>Thank you</h1>"));
    assert!(!thanks.text.contains(&key));
    assert_eq!(becomes(&server, &key, "key_revoked").await, "key_revoked");
    let empty = browser.post("/found-key", &[("key", " ")]).await;
    assert_eq!(empty.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_door_has_limits_of_its_own_and_bounds() {
    let server = TestServer::start().await;
    let large = report(&server, json!({ "key": "x".repeat(20_000) })).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    let kind = [("content-type", "text/plain")];
    let plain = server
        .browser()
        .send(Method::POST, "/found-key", &kind, Body::from("x"))
        .await;
    assert_eq!(plain.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    for bad in [json!([]), json!({}), json!({ "key": 1 })] {
        assert_eq!(report(&server, bad).await.json()["code"], "invalid_body");
    }
    let mut last = StatusCode::OK;
    for _ in 0..super::OF_ONE {
        last = report(&server, json!({ "key": "" })).await.status;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    server.pass(super::WINDOW_MS);
    let again = report(&server, json!({ "key": "x" })).await;
    assert_eq!(again.status, StatusCode::OK);
}

#[tokio::test]
async fn scanners_find_what_they_need() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    let description = browser.get("/.well-known/secret-scanning").await.json();
    assert_eq!(description["report"], "http://127.0.0.1:8377/found-key");
    for (name, path) in description["rules"].as_object().unwrap() {
        let path = path.as_str().unwrap().strip_prefix("http://127.0.0.1:8377");
        let rules = browser.get(path.unwrap()).await;
        assert_eq!(rules.status, StatusCode::OK, "{name}");
        assert!(
            rules
                .text
                .contains(description["pattern"].as_str().unwrap())
        );
    }
    let none = browser.get("/scanner-rules/none.toml").await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
}
