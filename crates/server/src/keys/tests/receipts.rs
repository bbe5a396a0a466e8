//! What ends a secret, or makes a key narrower, answers with a receipt; what does not, without one.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Program, ask, root, wish, with_key};
use crate::test_support::TestServer;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

async fn send(root: &mut Program, method: Method, path: &str, body: Value) -> Value {
    let answer = root.send(method, path, body).await;
    assert!(
        answer.status.is_success(),
        "{path}: {} {}",
        answer.status,
        answer.text
    );
    answer.json()
}

#[track_caller]
fn has_receipt(answer: &Value, expected: bool) {
    let complete = if expected { json!(true) } else { Value::Null };
    assert_eq!(answer["receipt"]["complete"], complete, "{answer}");
}

#[tokio::test]
async fn steps_that_end_a_secret_have_a_receipt() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let mut browser = server.browser();
    // Steps, and which secret is refused after the last one.
    for (steps, ended) in [
        (&["cancel"][..], "new"),
        (&["promote"], ""),
        (&["promote", "finish"], "old"),
        (&["promote", "roll-back"], "new"),
        (&["finish-if-drained"], "old"),
        (&["reissue"], "new"),
    ] {
        let issued = root.issue(wish()).await;
        let id = issued["key"]["id"].as_str().unwrap();
        let path = format!("/api/v1/keys/{id}/rotations");
        let body = json!({ "overlap_ms": 7 * DAY_MS, "clock": "from_issue" });
        let rotated = send(&mut root, Method::POST, &path, body).await;
        has_receipt(&rotated, false);
        let new = rotated["secret"].as_str().unwrap();
        let mut last = Value::Null;
        for step in steps {
            let path = match *step {
                "reissue" => format!(
                    "{path}/{}/reissue",
                    rotated["rotation_id"].as_str().unwrap()
                ),
                step => format!("{path}/current/{step}"),
            };
            if *step == "finish-if-drained" {
                // Nobody used the old one, and the new one is in use.
                ask(&mut browser, "/verify", &with_key(new)).await;
                server.pass(2 * DAY_MS);
            }
            let answer = root.send(Method::POST, &path, Value::Null).await;
            assert!(answer.status.is_success(), "{steps:?}: {}", answer.text);
            last = answer.json();
        }
        has_receipt(&last, !ended.is_empty());
        let key = match ended {
            "old" => issued["secret"].as_str().unwrap(),
            _ => new,
        };
        let answer = ask(&mut browser, "/verify", &with_key(key)).await;
        let expected = if ended.is_empty() {
            StatusCode::NO_CONTENT
        } else {
            StatusCode::UNAUTHORIZED
        };
        assert_eq!(answer.status, expected, "{steps:?}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_delivery_that_failed_and_cancels_has_a_receipt() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    for then in ["hold", "cancel"] {
        let issued = root.issue(wish()).await;
        let id = issued["key"]["id"].as_str().unwrap();
        let path = format!("/api/v1/keys/{id}/rotations");
        let rotated = send(&mut root, Method::POST, &path, json!({})).await;
        let rotation = rotated["rotation_id"].as_str().unwrap();
        let body = json!({ "target": "t", "delivered": false, "error": "away", "then": then });
        let path = format!("{path}/{rotation}/deliveries");
        let told = send(&mut root, Method::POST, &path, body).await;
        has_receipt(&told, then == "cancel");
    }
}

#[tokio::test]
async fn a_change_that_takes_something_away_has_a_receipt() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let mut wish = wish();
    wish["scopes"] = json!(["orders:read", "orders:write"]);
    let issued = root.issue(wish).await;
    let path = format!("/api/v1/keys/{}", issued["key"]["id"].as_str().unwrap());
    for (change, takes_away) in [
        (json!({ "name": "Other" }), false),
        (json!({ "scopes": ["orders:read"] }), true),
        (json!({ "scopes": ["orders:read", "orders:write"] }), false),
        (json!({ "settings": { "tags": ["team"] } }), false),
        (
            json!({ "settings": { "networks": ["192.0.2.0/24"] } }),
            true,
        ),
        (
            json!({ "settings": { "networks": ["192.0.2.0/24"],
                "limits": [{ "name": "requests", "count": 2, "period_ms": 60_000 }] } }),
            true,
        ),
    ] {
        let changed = send(&mut root, Method::PATCH, &path, change.clone()).await;
        has_receipt(&changed, takes_away);
        assert!(changed["id"].is_string(), "the key itself: {changed}");
    }
}

#[tokio::test]
async fn one_receipt_speaks_for_all_keys_of_an_operation() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let mut ids = Vec::new();
    let mut newest = 0;
    for _ in 0..3 {
        let issued = root.issue(wish()).await;
        newest = newest.max(issued["key"]["epoch"].as_i64().unwrap());
        ids.push(issued["key"]["id"].clone());
    }
    for (operation, takes_away) in [("tag", false), ("disable", true), ("revoke", true)] {
        let body = json!({ "operation": operation, "ids": ids, "tag": "old" });
        let begun = send(&mut root, Method::POST, "/api/v1/bulk", body).await;
        let path = format!("/api/v1/bulk/{}", begun["id"].as_str().unwrap());
        let ended = loop {
            let view = send(&mut root, Method::GET, &path, Value::Null).await;
            if view["state"] != "running" {
                break view;
            }
            has_receipt(&view, false);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        };
        assert_eq!(ended["changed"], 3, "{ended}");
        has_receipt(&ended, takes_away);
        let mut last = 0;
        for id in &ids {
            let path = format!("/api/v1/keys/{}", id.as_str().unwrap());
            let key = send(&mut root, Method::GET, &path, Value::Null).await;
            last = last.max(key["epoch"].as_i64().unwrap());
        }
        assert!(last > newest);
        newest = last;
        if takes_away {
            assert_eq!(ended["receipt"]["version"], last, "{ended}");
        }
    }
}
