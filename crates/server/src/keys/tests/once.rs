//! A rotation is carried out once, and what its answer says of the old secret is so.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::held::program;
use super::{Program, ask, root, wish, with_key};
use crate::test_support::{Answer, TestServer};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const NAME: [(&str, &str); 1] = [("idempotency-key", "rotation-of-monday")];

#[track_caller]
fn reused(answer: &Answer) {
    let found = (answer.status, answer.json()["code"].clone());
    let expected = (StatusCode::CONFLICT, json!("idempotency_key_reused"));
    assert_eq!(found, expected, "{}", answer.text);
    assert!(answer.json().get("receipt").is_none(), "{}", answer.text);
}

async fn rotate(caller: &mut Program, path: &str, body: &Value, more: &[(&str, &str)]) -> Answer {
    caller
        .send_with(Method::POST, path, body.clone(), more)
        .await
}

#[tokio::test]
async fn a_name_stands_for_one_rotation_of_one_caller() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let mut other = program(&server, &mut root, &["keys:*"]).await;
    let issued = root.issue(wish()).await;
    let old = issued["secret"].as_str().unwrap();
    let path = |issued: &Value| {
        let id = issued["key"]["id"].as_str().unwrap();
        format!("/api/v1/keys/{id}/rotations")
    };
    let one = path(&issued);
    let another = path(&root.issue(wish()).await);
    let week = json!({ "overlap_ms": 7 * DAY_MS, "clock": "from_issue" });
    let first = rotate(&mut root, &one, &week, &NAME).await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text);
    let first = first.json();
    assert!(first.get("receipt").is_none(), "nothing ended: {first}");

    // Another request under this name was never carried out, and nobody is told that it was.
    for body in [
        json!({ "compromised": "it was in a public repository" }),
        json!({ "overlap_ms": 0, "clock": "from_issue" }),
        json!({ "overlap_ms": 7 * DAY_MS }),
        json!({}),
    ] {
        reused(&rotate(&mut root, &one, &body, &NAME).await);
    }
    reused(&rotate(&mut root, &another, &week, &NAME).await);
    let issue = root.send_with(Method::POST, "/api/v1/keys", wish(), &NAME);
    reused(&issue.await);
    let mut browser = server.browser();
    let answer = ask(&mut browser, "/verify", &with_key(old)).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text);

    // The same request again is the same rotation.
    let again = rotate(&mut root, &one, &week, &NAME).await;
    assert_eq!(again.status, StatusCode::OK, "{}", again.text);
    let again = again.json();
    assert_eq!(again["rotation_id"], first["rotation_id"]);
    assert_eq!(again["secret_was_shown"], true);
    assert!(again.get("secret").is_none() && again.get("receipt").is_none());
    let list = root.send(Method::GET, &one, Value::Null).await.json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");

    // Another caller's name is another one.
    let others = rotate(&mut other, &another, &week, &NAME).await;
    assert_eq!(others.status, StatusCode::CREATED, "{}", others.text);
    assert_ne!(others.json()["rotation_id"], first["rotation_id"]);
    reused(&rotate(&mut other, &one, &week, &NAME).await);

    // It is remembered for seven days.
    server.pass(8 * DAY_MS);
    let later = rotate(
        &mut root,
        &one,
        &week,
        &[("idempotency-key", "another-name")],
    )
    .await;
    assert_eq!(later.status, StatusCode::CREATED, "{}", later.text);
    let later = rotate(&mut root, &one, &week, &NAME).await;
    assert_eq!(later.status, StatusCode::CREATED, "{}", later.text);
}

#[tokio::test]
async fn a_secret_of_the_clients_is_given_once_and_another_one_is_another_request() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let issued = root.issue(wish()).await;
    let path = format!(
        "/api/v1/keys/{}/rotations",
        issued["key"]["id"].as_str().unwrap()
    );
    let secret = |kid: &str| json!({ "kid": kid, "last_four": "abcd", "digest": "ab".repeat(32) });
    let body = json!({ "client_secret": secret("7Hq2mXw4KdPz") });
    for expected in [StatusCode::CREATED, StatusCode::OK, StatusCode::OK] {
        let answer = rotate(&mut root, &path, &body, &NAME).await;
        assert_eq!(answer.status, expected, "{}", answer.text);
        assert!(answer.json().get("secret_was_shown").is_none());
        assert_eq!(answer.json()["key"]["secrets"][0]["kid"], "7Hq2mXw4KdPz");
    }
    let body = json!({ "client_secret": secret("8Hq2mXw4KdPz") });
    reused(&rotate(&mut root, &path, &body, &NAME).await);
}

#[tokio::test]
async fn a_rotation_has_a_receipt_where_it_ended_a_secret_and_nowhere_else() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let mut browser = server.browser();
    for (body, code) in [
        (json!({}), ""),
        (json!({ "overlap_ms": 0 }), "key_retired"),
        (json!({ "overlap_ms": DAY_MS, "clock": "from_issue" }), ""),
        (
            json!({ "overlap_ms": 0, "clock": "from_issue" }),
            "key_retired",
        ),
        (json!({ "compromised": "it leaked" }), "key_revoked"),
    ] {
        let issued = root.issue(wish()).await;
        let old = issued["secret"].as_str().unwrap();
        let id = issued["key"]["id"].as_str().unwrap();
        let path = format!("/api/v1/keys/{id}/rotations");
        for status in [StatusCode::CREATED, StatusCode::OK] {
            let name = [("idempotency-key", id)];
            let rotated = rotate(&mut root, &path, &body, &name).await;
            assert_eq!(rotated.status, status, "{}", rotated.text);
            let receipt = rotated.json()["receipt"].clone();
            let answer = ask(&mut browser, "/verify", &with_key(old)).await;
            if code.is_empty() {
                assert_eq!(receipt, Value::Null, "{body}");
                assert_eq!(answer.status, StatusCode::NO_CONTENT, "{body}");
            } else {
                assert_eq!(receipt["complete"], true, "{body}: {receipt}");
                assert_eq!(answer.json()["code"], code, "{body}");
            }
        }
    }
    // One that nobody used yet works until another takes its place.
    let issued = root.issue(wish()).await;
    let path = format!(
        "/api/v1/keys/{}/rotations",
        issued["key"]["id"].as_str().unwrap()
    );
    rotate(&mut root, &path, &json!({}), &[]).await;
    let second = rotate(&mut root, &path, &json!({}), &[]).await.json();
    assert_eq!(second["receipt"]["complete"], true, "{second}");
}
