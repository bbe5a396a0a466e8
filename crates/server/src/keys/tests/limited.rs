//! A limit that is reached is told with its fields, wherever it is reached.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Program, ask, root, wish, with_key};
use crate::test_support::{Answer, TestServer};

fn limits(count: u32) -> Value {
    json!({ "limits": [
        { "name": "requests", "count": count, "period_ms": 60_000, "burst": 1 },
        { "name": "monthly", "count": 100_000, "period_ms": 2_592_000_000_u32 },
    ] })
}

/// A limit of two a minute and one beside, all of it used.
#[track_caller]
fn says_all(answer: &Answer) {
    assert_eq!(
        answer.status,
        StatusCode::TOO_MANY_REQUESTS,
        "{}",
        answer.text
    );
    assert_eq!(answer.json()["code"], "rate_limited");
    assert_eq!(answer.json()["limit"], "requests");
    assert_eq!(answer.header("retry-after"), "30");
    assert_eq!(answer.header("ratelimit"), "\"requests\";r=0;t=90");
    assert_eq!(answer.header("ratelimit-policy"), "\"requests\";q=2;w=60");
    assert_eq!(answer.header("x-ratelimit-limit"), "3");
    assert_eq!(answer.header("x-ratelimit-remaining"), "0");
    assert_eq!(answer.header("x-ratelimit-reset"), "90");
    assert_eq!(answer.header("www-authenticate"), "", "the key is not dead");
}

#[tokio::test]
async fn ac_132_forward_authentication_says_when_to_come_again() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let mut wish = wish();
    wish["settings"] = limits(2);
    let issued = root.issue(wish).await;
    let key = issued["secret"].as_str().unwrap();
    let mut browser = server.browser();
    for left in ["2", "1", "0"] {
        let answer = ask(&mut browser, "/verify", &with_key(key)).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        assert_eq!(answer.header("x-ratelimit-remaining"), left);
        assert_eq!(answer.header("ratelimit-policy"), "\"requests\";q=2;w=60");
        let field = format!("\"requests\";r={left};t=");
        assert!(answer.header("ratelimit").starts_with(&field));
    }
    says_all(&ask(&mut browser, "/verify", &with_key(key)).await);
    // Gateways ask with other methods as well, and those go another way.
    let posted = browser
        .send(
            Method::POST,
            "/verify",
            &with_key(key),
            axum::body::Body::empty(),
        )
        .await;
    says_all(&posted);
    server.pass(30_000);
    let answer = ask(&mut browser, "/verify", &with_key(key)).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "as it said");
    // A service that asks is told the same of somebody else's key.
    let asked = json!({ "key": key });
    let told = root.send(Method::POST, "/api/v1/keys/verify", asked).await;
    assert_eq!(told.status, StatusCode::OK);
    let told = told.json();
    assert_eq!(told["code"], "rate_limited", "{told}");
    assert_eq!(told["limit"], "requests");
    assert_eq!(told["retry_after_ms"], 30_000);
    assert_eq!(
        (&told["limit_left"], &told["limit_reset_ms"]),
        (&json!(0), &json!(90_000))
    );
    let policy = json!({ "name": "requests", "count": 2, "period_ms": 60_000, "burst": 1 });
    assert_eq!(told["limit_policy"], policy);
}

#[tokio::test]
async fn a_root_key_that_asks_too_much_is_told_so_by_the_key_api() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let asks = [
        (Method::GET, "/api/v1/keys", Value::Null),
        (Method::POST, "/api/v1/keys/verify", json!({ "key": "x" })),
        (Method::POST, "/api/v1/keys", wish()),
    ];
    for (method, path, body) in asks {
        let wish = json!({ "name": "Limited", "prefix": "kw_root",
            "scopes": ["keys:*", "orders:read"], "settings": limits(2) });
        let issued = root.issue(wish).await;
        let mut limited = Program {
            browser: server.browser(),
            key: issued["secret"].as_str().unwrap().to_owned(),
        };
        for _ in 0..3 {
            let answer = limited.send(method.clone(), path, body.clone()).await;
            assert!(answer.status.is_success(), "{path}: {}", answer.text);
        }
        says_all(&limited.send(method, path, body).await);
    }
}

#[tokio::test]
async fn a_cost_that_never_fits_is_not_told_to_wait() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let mut wish = wish();
    wish["settings"] = limits(2);
    let issued = root.issue(wish).await;
    let key = issued["secret"].as_str().unwrap();
    let mut browser = server.browser();
    let answer = ask(&mut browser, "/verify?cost=10", &with_key(key)).await;
    assert_eq!(
        answer.status,
        StatusCode::TOO_MANY_REQUESTS,
        "{}",
        answer.text
    );
    assert_eq!(answer.header("retry-after"), "");
    assert_eq!(answer.header("ratelimit-policy"), "\"requests\";q=2;w=60");
}

#[tokio::test]
async fn credits_that_come_back_say_when() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let mut browser = server.browser();
    for refill in [true, false] {
        let mut wish = wish();
        wish["settings"] = json!({ "credits": { "amount": 1 } });
        if refill {
            wish["settings"]["credits"]["refill"] =
                json!({ "amount": 1, "every_ms": 3_600_000, "cap": 1 });
        }
        let issued = root.issue(wish).await;
        let key = issued["secret"].as_str().unwrap();
        ask(&mut browser, "/verify", &with_key(key)).await;
        server.pass(1500);
        let answer = ask(&mut browser, "/verify", &with_key(key)).await;
        assert_eq!(
            answer.status,
            StatusCode::TOO_MANY_REQUESTS,
            "{}",
            answer.text
        );
        assert_eq!(answer.json()["code"], "credits_exhausted");
        let expected = if refill { "3599" } else { "" };
        assert_eq!(answer.header("retry-after"), expected);
    }
}

#[tokio::test]
async fn who_guesses_too_often_is_told_when_to_come_again() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    let wrong = with_key("sk_live_nonsense");
    let mut last = ask(&mut browser, "/verify", &wrong).await;
    for _ in 0..60 {
        last = ask(&mut browser, "/verify", &wrong).await;
    }
    assert_eq!(last.status, StatusCode::TOO_MANY_REQUESTS, "{}", last.text);
    assert_eq!(last.json()["limit"], "failures");
    assert_eq!(last.header("retry-after"), "1");
    assert_eq!(last.header("ratelimit"), "\"failures\";r=0;t=1");
    assert_eq!(last.header("ratelimit-policy"), "\"failures\";q=60;w=60");
    assert_eq!(last.header("x-ratelimit-remaining"), "0");
}

#[tokio::test]
async fn a_verification_names_its_request() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    for body in [
        json!({ "key": "x" }),
        json!({ "keys": [{ "key": "x" }, { "key": "y" }] }),
    ] {
        let answer = root.send(Method::POST, "/api/v1/keys/verify", body).await;
        let id = answer.json()["request_id"].clone();
        assert_eq!(answer.header("x-request-id"), id, "{}", answer.text);
        assert!(id.as_str().is_some_and(|id| id.len() >= 8));
    }
}
