//! Keys in addresses that this server itself is asked for.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Program, ask, root, wish, with_key};
use crate::test_support::TestServer;

/// When a key was seen where it should not be; null if it was not.
async fn exposed_at(root: &mut Program, id: &str) -> Value {
    let path = format!("/api/v1/keys/{id}");
    let key = root.send(Method::GET, &path, Value::Null).await;
    assert_eq!(key.status, StatusCode::OK, "{}", key.text);
    key.json()["exposed_at"].clone()
}

#[tokio::test]
async fn ac_124_ac_125_a_key_in_any_address_of_the_server_is_refused_and_flagged() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let bearer = format!("Bearer {}", root.key);
    let mut browser = server.browser();
    // Routes of all kinds, one that is none, and methods that a route does not take.
    for (method, address) in [
        (Method::GET, "/api/v1/keys?api_key={}"),
        (Method::GET, "/api/v1/keys/{}"),
        (Method::POST, "/api/v1/keys/{}/revoke"),
        (Method::GET, "/api/v1/users?text={}"),
        (Method::POST, "/api/v1/keys/verify?key={}"),
        (Method::GET, "/healthz?key={}"),
        (Method::GET, "/oauth2/authorize?state={}"),
        (Method::GET, "/oauth2/userinfo?access_token={}"),
        (Method::GET, "/nothing/is/here/{}"),
        (Method::DELETE, "/sign-in?x={}"),
        (Method::GET, "/verify/orders?key={}"),
    ] {
        let issued = root.issue(wish()).await;
        let (key, id) = (
            issued["secret"].as_str().unwrap(),
            issued["key"]["id"].as_str().unwrap(),
        );
        let encoded = key.replace('_', "%5F").replace('K', "%4b");
        for shown in [key, encoded.as_str()] {
            let address = address.replace("{}", shown);
            // With good credentials beside it, and with none.
            for headers in [&[("authorization", bearer.as_str())][..], &[]] {
                let answer = browser
                    .send(method.clone(), &address, headers, Body::empty())
                    .await;
                assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{address}");
                assert_eq!(answer.json()["code"], "key_in_url", "{address}");
                assert!(!answer.text.contains(&key[20..]), "{}", answer.text);
            }
        }
        let at = exposed_at(&mut root, id).await;
        assert!(at.is_i64(), "{method} {address}: not flagged");
    }
    // A page is for people.
    let issued = root.issue(wish()).await;
    let address = format!("/sign-in?return_to={}", issued["secret"].as_str().unwrap());
    let page = ask(&mut browser, &address, &[("accept", "text/html")]).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(page.text.contains("key_in_url"), "{}", page.text);
}

#[tokio::test]
async fn ac_124_what_is_no_key_in_an_address_is_refused_for_nothing() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let issued = root.issue(wish()).await;
    let key = issued["secret"].as_str().unwrap();
    let id = issued["key"]["id"].as_str().unwrap();
    let kid = issued["key"]["secrets"][0]["kid"].as_str().unwrap();
    let other = if key.ends_with('0') { '1' } else { '0' };
    let made_up = format!("{}{other}", &key[..key.len() - 1]);
    for (address, status) in [
        (format!("/api/v1/keys?text={kid}"), StatusCode::OK),
        ("/api/v1/keys?text=KYWRT1".to_owned(), StatusCode::OK),
        (format!("/api/v1/keys?text={made_up}"), StatusCode::OK),
        (format!("/api/v1/keys/{id}"), StatusCode::OK),
        ("/healthz?key=short".to_owned(), StatusCode::OK),
    ] {
        let answer = root.send(Method::GET, &address, Value::Null).await;
        assert_eq!(answer.status, status, "{address}: {}", answer.text);
    }
    assert!(exposed_at(&mut root, id).await.is_null());
    // The strongest key there is.
    let address = format!("/api/v1/keys?api_key={}", root.key);
    let answer = ask(&mut root.browser, &address, &[]).await;
    assert_eq!(answer.json()["code"], "key_in_url");
    let all = root.send(Method::GET, "/api/v1/keys", Value::Null).await;
    let keys = all.json()["items"].as_array().cloned().unwrap_or_default();
    let flagged: Vec<_> = keys
        .iter()
        .filter(|key| key["exposed_at"].is_i64())
        .collect();
    assert_eq!(flagged.len(), 1, "{}", all.text);
    assert_eq!(flagged[0]["prefix"], "kw_root", "{}", flagged[0]);
}

#[tokio::test]
async fn ac_124_an_imported_key_in_an_address_is_flagged_too() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let mut ids = Vec::new();
    let foreign = [
        "9f8e7d6c5b4a39281706f5e4d3c2b1a0",
        "ghp_16C7e42F292c6912E7710c83",
    ];
    for key in foreign {
        let digest = Sha256::digest(key.as_bytes());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let line = json!({
            "name": "Old", "hash": digest, "scopes": ["orders:read"], "expires_at": 1_830_000_000_000_i64,
        });
        let bearer = format!("Bearer {}", root.key);
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/x-ndjson"),
        ];
        let path = "/api/v1/import?dry_run=false";
        let body = Body::from(format!("{line}\n"));
        let done = root.browser.send(Method::POST, path, &headers, body).await;
        let id = done.json()["imported"][0]["key_id"]
            .as_str()
            .map(str::to_owned);
        ids.push(id.unwrap_or_else(|| panic!("{}", done.text)));
    }
    let mut browser = server.browser();
    let good = ask(&mut browser, "/verify", &with_key(foreign[0])).await;
    assert_eq!(good.status, StatusCode::NO_CONTENT, "{}", good.text);
    // What was asked of a service, as its gateway tells, and of the server itself.
    let asked = format!("/orders?page=2&access_token={}", foreign[0]);
    let answer = ask(&mut browser, "/verify", &[("x-original-uri", &asked)]).await;
    assert_eq!(answer.json()["code"], "key_in_url");
    assert!(exposed_at(&mut root, &ids[0]).await.is_i64());
    assert!(exposed_at(&mut root, &ids[1]).await.is_null());
    let address = format!("/api/v1/keys?api-key={}", foreign[1]);
    let answer = ask(&mut browser, &address, &[]).await;
    assert_eq!(answer.json()["code"], "key_in_url");
    assert!(exposed_at(&mut root, &ids[1]).await.is_i64());
}

#[tokio::test]
async fn ac_124_a_second_leak_is_told_of_and_a_flood_of_one_key_writes_once() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let mut browser = server.browser();
    let issued = root.issue(wish()).await;
    let id = issued["key"]["id"].as_str().unwrap();
    let first = issued["secret"].as_str().unwrap().to_owned();
    ask(&mut browser, &format!("/healthz?key={first}"), &[]).await;
    let seen = exposed_at(&mut root, id).await;
    assert!(seen.is_i64());
    // The owner does as told.
    server.pass(61_000);
    let path = format!("/api/v1/keys/{id}/rotations");
    let rotated = root
        .send(Method::POST, &path, json!({ "compromised": "in a log" }))
        .await;
    assert_eq!(rotated.status, StatusCode::CREATED, "{}", rotated.text);
    let second = rotated.json()["secret"].as_str().unwrap().to_owned();
    server.pass(61_000);
    let before = server.registry().seen_change();
    for _ in 0..5 {
        ask(&mut browser, &format!("/healthz?key={second}"), &[]).await;
    }
    let again = exposed_at(&mut root, id).await;
    assert!(again.as_i64() > seen.as_i64(), "{seen} {again}");
    assert_eq!(server.registry().seen_change(), before + 1);
    // Nothing new is known a minute later.
    server.pass(61_000);
    ask(&mut browser, &format!("/healthz?key={second}"), &[]).await;
    assert_eq!(exposed_at(&mut root, id).await, again);
}

#[tokio::test]
async fn ac_124_where_nothing_was_imported_what_looks_like_a_key_is_nobodys_failure() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    for _ in 0..70 {
        let answer = ask(&mut browser, "/x?key=0123456789abcdef", &[]).await;
        assert_eq!(answer.json()["code"], "key_in_url");
    }
    let headers = [("x-api-key", "sk_live_nonsense")];
    let answer = ask(&mut browser, "/verify", &headers).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text);
}
