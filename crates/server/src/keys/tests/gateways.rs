//! What gateways differ in, and what a client may try by them. The gateways themselves are in the whole-system tests.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::json;

use super::{ask, root, wish, with_key};
use crate::test_support::TestServer;

#[tokio::test]
async fn ac_123_envoy_asks_with_the_clients_address_behind_ours_and_is_told_200() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let issued = root.issue(wish()).await;
    let key = issued["secret"].as_str().unwrap();
    let id = issued["key"]["id"].as_str().unwrap();
    let mut browser = server.browser();
    let with = |scope| [("x-api-key", key), ("x-keywright-scope", scope)];
    // Every other status, 204 among them, Envoy takes for a refusal.
    let accepted = browser
        .send(
            Method::POST,
            "/verify/orders/7?page=2",
            &with("orders:read"),
            Body::empty(),
        )
        .await;
    assert_eq!(accepted.status, StatusCode::OK, "{}", accepted.text);
    assert_eq!(accepted.text, "");
    assert_eq!(accepted.header("x-keywright-key-id"), id);
    assert_eq!(accepted.header("x-keywright-scopes"), "orders:read");
    let refused = ask(&mut browser, "/verify/orders/7", &with("orders:write")).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
    // The client's query and path are not ours.
    for address in [
        "/verify/orders?scope=orders:read",
        "/verify/?scope=orders:read&cost=0",
        "/verify/verify?scope=orders:read",
        "/verify//verify?scope=orders:read",
        "/verify/../verify?scope=orders:read",
        "/verify/..%2fverify%3Fscope=orders:read",
    ] {
        let answer = ask(&mut browser, address, &with("orders:write")).await;
        assert_eq!(answer.json()["code"], "insufficient_scope", "{address}");
        let answer = ask(&mut browser, address, &[]).await;
        assert_eq!(answer.json()["code"], "credentials_missing", "{address}");
    }
    // The route is counted by the client's method.
    let path = format!("/api/v1/keys/{id}/preview");
    let preview = root
        .send(Method::POST, &path, json!({ "revoke": true }))
        .await;
    assert_eq!(preview.status, StatusCode::OK, "{}", preview.text);
    let lines = preview.json()["lines"].clone();
    assert_eq!(lines.as_array().map(Vec::len), Some(1), "{lines}");
    assert_eq!(lines[0]["caller"]["route"], "POST /orders/*", "{lines}");
}

/// A gateway that adds its header in place of setting it sends the client's as well.
#[tokio::test]
async fn ac_123_what_is_needed_is_said_once_or_refused() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let issued = root.issue(wish()).await;
    let key = issued["secret"].as_str().unwrap();
    let mut browser = server.browser();
    for (name, clients, ours) in [
        ("x-keywright-scope", "orders:read", "orders:write"),
        ("x-keywright-scope", "ö", "orders:write"),
        ("x-keywright-environment", "live", "test"),
        ("x-keywright-type", "secret", "publishable"),
    ] {
        for pair in [[clients, ours], [ours, clients]] {
            let [one, other] = pair.map(|value| (name, value));
            let headers = [("x-api-key", key), one, other];
            let answer = ask(&mut browser, "/verify", &headers).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{pair:?}");
            assert_eq!(answer.json()["code"], "invalid_parameter", "{pair:?}");
        }
    }
    // In the address and in a header, which may be the client's: neither.
    for named in ["scope=orders:read", "scope=orders:write"] {
        let headers = [("x-api-key", key), ("x-keywright-scope", "orders:read")];
        let answer = ask(&mut browser, &format!("/verify?{named}"), &headers).await;
        assert_eq!(answer.json()["code"], "invalid_parameter", "{named}");
    }
    let unreadable = [("x-api-key", key), ("x-keywright-scope", "ö")];
    let answer = ask(&mut browser, "/verify", &unreadable).await;
    assert_eq!(answer.json()["code"], "invalid_parameter");
}

#[tokio::test]
async fn ac_124_a_key_is_found_beside_what_is_no_text_and_in_every_address() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let issued = root.issue(wish()).await;
    let key = issued["secret"].as_str().unwrap();
    let mut browser = server.browser();
    let beside = format!("/orders?name=Zoë&x={key}");
    let plain = format!("/orders?x={key}");
    for addresses in [
        vec![("x-original-uri", beside.as_str())],
        vec![
            ("x-forwarded-uri", "/orders"),
            ("x-forwarded-uri", plain.as_str()),
        ],
        vec![
            ("x-original-uri", "/orders"),
            ("x-envoy-original-path", plain.as_str()),
        ],
    ] {
        let headers = [&with_key(key)[..], &addresses[..]].concat();
        let answer = ask(&mut browser, "/verify", &headers).await;
        assert_eq!(answer.json()["code"], "key_in_url", "{answer:?}");
    }
}
