//! All keys of an owner end in one step.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{ask, root, wish, with_key};
use crate::test_support::{Answer, TestServer};

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) {
    let found = (answer.status.as_u16(), answer.json()["code"].clone());
    assert_eq!(found, (status, code.into()), "{}", answer.text);
}

fn wish_for(owner: &str) -> Value {
    let mut wish = wish();
    wish["owner"] = json!({ "kind": "person", "id": owner });
    wish
}

#[tokio::test]
async fn every_key_of_an_owner_ends_and_no_other_does() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let person = server.add_user("leaver@example.org", &[]).await;
    let stays = server.add_user("stays@example.org", &[]).await;
    let path = format!("/api/v1/owners/{}/revoke-keys", person.id);
    let mut browser = server.browser();
    let mut theirs = Vec::new();
    for _ in 0..3 {
        theirs.push(root.issue(wish_for(&person.id)).await);
    }
    let others = [
        root.issue(wish_for(&stays.id)).await,
        root.issue(wish()).await,
    ];
    let long = json!({ "reason": "x".repeat(501) });
    let answer = root.send(Method::POST, &path, long).await;
    refused(&answer, 400, "reason_too_long");
    let body = json!({ "reason": "left the company" });
    let answer = root.send(Method::POST, &path, body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let view = answer.json();
    assert_eq!(view["owner"], json!({ "kind": "person", "id": person.id }));
    assert_eq!(view["keys_revoked_reason"], "left the company");
    assert_eq!(view["receipt"]["complete"], true, "{view}");
    let version = view["receipt"]["version"].as_i64().unwrap();
    assert_eq!(answer.header("etag"), format!("\"{version}\""));
    for issued in &theirs {
        let key = issued["secret"].as_str().unwrap();
        let answer = ask(&mut browser, "/verify", &with_key(key)).await;
        refused(&answer, 401, "key_revoked");
        let path = format!("/api/v1/keys/{}", issued["key"]["id"].as_str().unwrap());
        let read = root.send(Method::GET, &path, Value::Null).await.json();
        assert_eq!(read["state"], "revoked", "{read}");
    }
    for issued in &others {
        let key = issued["secret"].as_str().unwrap();
        let answer = ask(&mut browser, "/verify", &with_key(key)).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text);
    }
    let events = root
        .send(
            Method::GET,
            "/api/v1/audit?type=principal.keys_revoked",
            Value::Null,
        )
        .await
        .json();
    assert_eq!(events["items"].as_array().unwrap().len(), 1, "{events}");
    assert_eq!(events["items"][0]["target_id"], person.id, "{events}");
    // What is issued after that is theirs to use, until it is asked for again: without a body as well.
    server.pass(1);
    let new = root.issue(wish_for(&person.id)).await;
    let key = new["secret"].as_str().unwrap();
    let answer = ask(&mut browser, "/verify", &with_key(key)).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text);
    let again = root.send(Method::POST, &path, Value::Null).await;
    assert_eq!(again.status, StatusCode::OK, "{}", again.text);
    let answer = ask(&mut browser, "/verify", &with_key(key)).await;
    refused(&answer, 401, "key_revoked");
}

#[tokio::test]
async fn keys_that_manage_end_only_where_that_was_said() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let owner = server.add_user("boss@example.org", &["owner"]).await;
    let mut wish = wish_for(&owner.id);
    wish["prefix"] = json!("kw_root");
    wish["scopes"] = json!(["keys:read"]);
    let managing = root.issue(wish).await;
    let ordinary = root.issue(wish_for(&owner.id)).await;
    // The key that asks is the registry's own.
    let own = root.send(Method::POST, "/api/v1/owners/local/revoke-keys", json!({}));
    refused(&own.await, 409, "owner_has_root_keys");
    let path = format!("/api/v1/owners/{}/revoke-keys", owner.id);
    let unsaid = root
        .send(Method::POST, &path, json!({ "reason": "r" }))
        .await;
    refused(&unsaid, 409, "owner_has_root_keys");
    let key = ordinary["secret"].as_str().unwrap();
    let mut browser = server.browser();
    let answer = ask(&mut browser, "/verify", &with_key(key)).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text);
    let said = json!({ "reason": "r", "root_keys": true });
    let said = root.send(Method::POST, &path, said).await;
    assert_eq!(said.status, StatusCode::OK, "{}", said.text);
    for issued in [&managing, &ordinary] {
        let key = issued["secret"].as_str().unwrap();
        let answer = ask(&mut browser, "/verify", &with_key(key)).await;
        refused(&answer, 401, "key_revoked");
    }
}

#[tokio::test]
async fn people_end_their_own_and_learn_nothing_of_others() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let ada = server.add_user("ada@example.org", &[]).await;
    let bob = server.add_user("bob@example.org", &[]).await;
    let issued = root.issue(wish_for(&ada.id)).await;
    let path = format!("/api/v1/owners/{}/revoke-keys", ada.id);
    let mut bobs = server.sign_in_as(&bob).await;
    let there = bobs.json(Method::POST, &path, &json!({})).await;
    refused(&there, 404, "owner_not_found");
    let absent = "/api/v1/owners/nobody/revoke-keys";
    let nowhere = bobs.json(Method::POST, absent, &json!({})).await;
    let plain = |answer: &Answer| {
        let mut body = answer.json();
        body["request_id"] = Value::Null;
        body
    };
    assert_eq!(plain(&there), plain(&nowhere));
    let mut adas = server.sign_in_as(&ada).await;
    let own = adas.json(Method::POST, &path, &json!({})).await;
    assert_eq!(own.status, StatusCode::OK, "{}", own.text);
    let key = issued["secret"].as_str().unwrap();
    let answer = ask(&mut server.browser(), "/verify", &with_key(key)).await;
    refused(&answer, 401, "key_revoked");
}
