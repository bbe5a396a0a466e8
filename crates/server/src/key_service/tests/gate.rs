//! The layer of the verifier before a service, and what the server hears of it.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use axum::routing::get;
use keywright_verifier::{ApiKeys, KeyGate};
use serde_json::{Value, json};

use super::events::{Listening, service};
use super::{fine, id_of, secret_of};
use crate::keys::tests::{Program, root, wish};
use crate::test_support::{Answer, TestServer};

/// A service with one route behind a gate.
async fn behind(
    change: impl FnOnce(KeyGate) -> KeyGate,
) -> (TestServer, Program, Listening, Router) {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let at = Listening::start(&server).await;
    let keys = ApiKeys::new(&at.url(""), &service(&server, &mut root).await).unwrap();
    let gate = change(KeyGate::new(keys));
    let api = Router::new()
        .route("/orders/{id}", get(async || "here"))
        .layer(gate);
    (server, root, at, api)
}

async fn ask(api: &Router, path: &str, key: &str) -> Answer {
    let mut request = Request::get(path);
    if !key.is_empty() {
        request = request.header("x-api-key", key);
    }
    let request = request.body(Body::empty()).unwrap();
    let answer = tower::ServiceExt::oneshot(api.clone(), request).await;
    let (parts, body) = answer.unwrap().into_parts();
    let bytes = axum::body::to_bytes(body, 10_000).await.unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

fn with(settings: Value) -> Value {
    let mut wish = wish();
    wish["settings"] = settings;
    wish
}

fn refused(answer: &Answer, status: StatusCode, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-keywright-code"), code);
    let problem = answer.json();
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(problem["status"], status.as_u16(), "{problem}");
}

/// A key as it is shown once it is flagged, or after some seconds: the server is told behind the answer.
async fn flagged(root: &mut Program, id: &str) -> Value {
    let path = format!("/api/v1/keys/{id}");
    let mut shown = Value::Null;
    for _ in 0..100 {
        shown = fine(&root.get(&path).await);
        if shown["exposed_at"].is_i64() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_124_the_gate_refuses_a_key_in_an_address_and_the_server_flags_it() {
    let (_server, mut root, _at, api) = behind(|gate| gate).await;
    for address in [
        "/orders/7?page=1&x={}",
        "/orders/{}",
        "/orders/7?api_key={}",
    ] {
        let issued = root.issue(wish()).await;
        let (id, key) = (id_of(&issued), secret_of(&issued));
        let encoded = key.replace('_', "%5F").replace("KYWRT1", "%4BYWRT1");
        let answer = ask(&api, &address.replace("{}", &encoded), &key).await;
        refused(&answer, StatusCode::BAD_REQUEST, "key_in_url");
        assert!(!answer.text.contains(&key[20..]));
        let shown = flagged(&mut root, &id).await;
        assert!(shown["exposed_at"].is_i64(), "{address}: {shown}");
        assert_eq!(
            shown["secrets"][0]["use_count"], 0,
            "it was counted as a use"
        );
    }
}

/// What axum takes away from the address before the gate sees the request was in logs all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_124_the_gate_sees_the_part_of_the_path_that_a_router_took_away() {
    let (_server, mut root, _at, api) = behind(|gate| gate).await;
    let nested = Router::new().nest("/{tenant}", api);
    let issued = root.issue(wish()).await;
    let (id, key) = (id_of(&issued), secret_of(&issued));
    let answer = ask(&nested, "/acme/orders/7", &key).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let answer = ask(&nested, &format!("/{key}/orders/7"), &key).await;
    refused(&answer, StatusCode::BAD_REQUEST, "key_in_url");
    let shown = flagged(&mut root, &id).await;
    assert!(shown["exposed_at"].is_i64(), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_124_a_service_whose_own_parameter_is_called_key_says_so_to_the_gate() {
    let (_server, mut root, _at, api) = behind(|gate| gate).await;
    let (_other_server, mut other_root, _other_at, own) =
        behind(|gate| gate.key_parameters(&[])).await;
    let path = "/orders/7?key=invoices/2026/november.pdf&token=0123456789abcdef";
    let key = secret_of(&root.issue(wish()).await);
    let answer = ask(&api, path, &key).await;
    refused(&answer, StatusCode::BAD_REQUEST, "key_in_url");
    let issued = other_root.issue(wish()).await;
    let (id, key) = (id_of(&issued), secret_of(&issued));
    let answer = ask(&own, path, &key).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    // A key of ours is one under any name.
    let answer = ask(&own, &format!("/orders/7?key={key}"), &key).await;
    refused(&answer, StatusCode::BAD_REQUEST, "key_in_url");
    let shown = flagged(&mut other_root, &id).await;
    assert!(shown["exposed_at"].is_i64(), "{shown}");
}

/// The door behind it, for one key and for many, by a root key: the short way leaves it to the other one.
#[tokio::test]
async fn ac_124_a_service_tells_of_a_key_that_was_in_an_address() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let limit = json!({ "limits": [{ "name": "requests", "count": 1, "period_ms": 3_600_000 }] });
    let issued = root.issue(with(limit)).await;
    let (id, key) = (id_of(&issued), secret_of(&issued));
    let made_up = format!("sk_live_{}", "x".repeat(56));
    let asked = json!({ "keys": [
        { "key": made_up, "in_url": true },
        { "key": format!("page{key}"), "in_url": true, "requirement": "orders:read" },
        { "key": key },
        { "key": key, "in_url": true, "address": "192.0.2.1" },
    ] });
    let told = fine(&root.post("/api/v1/keys/verify", asked).await);
    let results = told["results"].as_array().unwrap();
    let codes: Vec<_> = results.iter().map(|one| &one["code"]).collect();
    // Its one use is left for who may use it.
    assert_eq!(codes, ["key_in_url", "key_in_url", "valid", "key_in_url"]);
    for one in [0, 1, 3].map(|at| &results[at]) {
        assert_eq!(one["valid"], false, "{one}");
        assert_eq!(one["scopes"], json!([]), "{one}");
    }
    assert_eq!(results[0]["key_id"], Value::Null);
    assert_eq!(results[1]["key_id"], id);
    let shown = fine(&root.get(&format!("/api/v1/keys/{id}")).await);
    assert!(shown["exposed_at"].is_i64(), "{shown}");
    let other = root.issue(wish()).await;
    let one = json!({ "key": secret_of(&other), "in_url": true });
    let told = fine(&root.post("/api/v1/keys/verify", one).await);
    assert_eq!(told["code"], "key_in_url", "{told}");
    let shown = fine(&root.get(&format!("/api/v1/keys/{}", id_of(&other))).await);
    assert!(shown["exposed_at"].is_i64(), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_132_a_limit_behind_the_gate_is_429_with_its_fields() {
    let (_server, mut root, _at, api) = behind(|gate| gate).await;
    let limits = json!({ "limits": [{ "name": "requests", "count": 2, "period_ms": 60_000 }] });
    let key = secret_of(&root.issue(with(limits)).await);
    for left in ["1", "0"] {
        let answer = ask(&api, "/orders/7", &key).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert_eq!(answer.header("x-ratelimit-remaining"), left);
        assert!(
            answer
                .header("ratelimit")
                .starts_with(&format!("\"requests\";r={left};t="))
        );
    }
    let answer = ask(&api, "/orders/7", &key).await;
    refused(&answer, StatusCode::TOO_MANY_REQUESTS, "rate_limited");
    assert_eq!(answer.header("retry-after"), "30");
    assert_eq!(answer.header("ratelimit-policy"), "\"requests\";q=2;w=60");
    assert_eq!(answer.header("ratelimit"), "\"requests\";r=0;t=60");
    assert_eq!(answer.header("x-ratelimit-limit"), "2");
    assert_eq!(answer.header("x-ratelimit-reset"), "60");
    assert_eq!(answer.header("www-authenticate"), "");
    // Waiting does not help where credits do not come back.
    let credits = json!({ "credits": { "amount": 1 } });
    let key = secret_of(&root.issue(with(credits)).await);
    assert_eq!(ask(&api, "/orders/7", &key).await.status, StatusCode::OK);
    let answer = ask(&api, "/orders/7", &key).await;
    refused(&answer, StatusCode::TOO_MANY_REQUESTS, "credits_exhausted");
    assert_eq!(answer.header("retry-after"), "");
    assert_eq!(answer.header("ratelimit"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_141_ac_139_the_gate_asks_for_types_and_says_the_route() {
    let (_server, mut root, _at, api) = behind(|gate| gate.types(&["secret", "custom"])).await;
    let secret = root.issue(wish()).await;
    let mut public = wish();
    public["prefix"] = json!("pk_live");
    let public = secret_of(&root.issue(public).await);
    let answer = ask(&api, "/orders/7", &public).await;
    refused(&answer, StatusCode::FORBIDDEN, "key_type_forbidden");
    let answer = ask(&api, "/orders/7", &secret_of(&secret)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let path = format!("/api/v1/keys/{}/preview", id_of(&secret));
    let body = json!({ "revoke": true });
    let preview = fine(&root.send(Method::POST, &path, body).await);
    let route = &preview["lines"][0]["caller"]["route"];
    assert_eq!(route, "GET /orders/{id}", "{preview}");
    refused(
        &ask(&api, "/orders/7", "").await,
        StatusCode::UNAUTHORIZED,
        "credentials_missing",
    );
    refused(
        &ask(&api, "/orders/7", "sk_live_x").await,
        StatusCode::UNAUTHORIZED,
        "key_malformed",
    );
}
