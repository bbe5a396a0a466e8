use axum::body::Body;
use axum::http::{Method, StatusCode};
use keywright_domain::audit::Actor;
use serde_json::json;

use super::{code, give_codes, history};
use crate::set_up::BROWSER_CLIENT;
use crate::test_support::{Answer, Browser, OWNER_EMAIL, PASSWORD, TestServer};

async fn login(browser: &mut Browser, email: &str, password: &str) -> Answer {
    let body = json!({"email": email, "password": password});
    browser.json(Method::POST, "/auth/login", &body).await
}

async fn refresh(browser: &mut Browser) -> Answer {
    browser
        .send(Method::POST, "/auth/refresh", &[], Body::empty())
        .await
}

async fn works(server: &TestServer, token: &str) -> bool {
    let header = format!("Bearer {token}");
    let headers = [("authorization", header.as_str())];
    let mut browser = server.browser();
    let answer = browser
        .send(Method::GET, "/api/v1/sessions", &headers, Body::empty())
        .await;
    answer.status == StatusCode::OK
}

#[tokio::test]
async fn s3_08_s3_14_a_browser_client_signs_in_and_refreshes() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    let answer = login(&mut browser, OWNER_EMAIL, PASSWORD).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    let cookie = answer.header("set-cookie");
    for part in [
        "refresh_token=",
        "HttpOnly",
        "SameSite=Strict",
        "Secure",
        "Path=/auth/refresh",
    ] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let body = answer.json();
    assert_eq!(
        (&body["token_type"], &body["expires_in"]),
        (&json!("Bearer"), &json!(900))
    );
    assert!(body["refresh_token"].is_null() && body["id_token"].is_null());
    let token = body["access_token"].as_str().unwrap().to_owned();
    assert!(works(&server, &token).await);
    assert!(browser.cookie("session").is_none());
    assert_eq!(history(&server).await[0].outcome, "succeeded");
    let old = browser.clone();
    let answer = refresh(&mut browser).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert!(works(&server, answer.json()["access_token"].as_str().unwrap()).await);
    assert_ne!(browser.cookie("refresh_token"), old.cookie("refresh_token"));
    // An honest retry gets the same successor.
    let mut retry = old.clone();
    assert_eq!(refresh(&mut retry).await.status, StatusCode::OK);
    assert_eq!(
        browser.cookie("refresh_token"),
        retry.cookie("refresh_token")
    );
    // AC-085: later it is theft, and the family is over, access tokens too.
    let third = refresh(&mut browser).await.json();
    let third = third["access_token"].as_str().unwrap().to_owned();
    server.pass(61_000);
    let mut thief = old.clone();
    let answer = refresh(&mut thief).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.json()["code"], "refresh_reuse");
    assert!(thief.cookie("refresh_token").is_none());
    assert_eq!(refresh(&mut browser).await.status, StatusCode::UNAUTHORIZED);
    assert!(!works(&server, &third).await);
}

#[tokio::test]
async fn ac_180_a_login_tells_nothing_and_needs_our_site() {
    let server = TestServer::start().await;
    let ada = server.add_user("ada@example.org", &[]).await;
    let mut browser = server.browser();
    let wrong = login(&mut browser, "ada@example.org", "wrong").await;
    let nobody = login(&mut browser, "nobody@example.org", "wrong").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert_eq!((wrong.status, &wrong.text), (nobody.status, &nobody.text));
    assert_eq!(wrong.json()["code"], "credentials_invalid");
    let body = json!({"email": "ada@example.org", "password": PASSWORD}).to_string();
    let kind = ("content-type", "application/json");
    for header in [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "same-site"),
    ] {
        let body = Body::from(body.clone());
        let answer = browser
            .send(Method::POST, "/auth/login", &[kind, header], body)
            .await;
        assert_eq!(answer.json()["code"], "origin_rejected");
    }
    let form = browser
        .send(Method::POST, "/auth/login", &[], Body::from(body))
        .await;
    assert_eq!(form.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let answer = browser
        .json(Method::POST, "/auth/login", &json!({"email": 1}))
        .await;
    assert!(answer.status.is_client_error() && answer.json()["code"] == "body_invalid");
    assert_eq!(
        refresh(&mut server.browser()).await.json()["code"],
        "refresh_missing"
    );

    // AC-093: a person who was disabled gets nothing, by neither way.
    assert_eq!(
        login(&mut browser, "ada@example.org", PASSWORD)
            .await
            .status,
        200
    );
    let actor = Actor::person("test");
    server
        .registry()
        .disable_user(&actor, &ada.id, "left")
        .await
        .unwrap();
    assert_eq!(refresh(&mut browser).await.status, StatusCode::UNAUTHORIZED);
    assert!(browser.cookie("refresh_token").is_none());
    let answer = login(&mut browser, "ada@example.org", PASSWORD).await;
    assert_eq!(answer.text, wrong.text);
}

#[tokio::test]
async fn a_login_asks_for_the_second_factor() {
    let server = TestServer::start().await;
    let ada = server.add_user("ada@example.org", &[]).await;
    give_codes(&server, &ada).await;
    let mut browser = server.browser();
    let answer = login(&mut browser, "ada@example.org", PASSWORD).await;
    assert_eq!(answer.json()["code"], "second_factor_required");
    let with = |code: String| {
        let mut browser = browser.clone();
        async move {
            let body = json!({"email": "ada@example.org", "password": PASSWORD, "code": code});
            browser.json(Method::POST, "/auth/login", &body).await
        }
    };
    assert_eq!(with("000000".into()).await.json()["code"], "code_invalid");
    assert_eq!(with(code(&server, 0)).await.status, StatusCode::OK);
    assert_eq!(with(code(&server, 0)).await.json()["code"], "code_invalid");
}

#[tokio::test]
async fn the_browser_client_has_no_address_and_is_refused_when_disabled() {
    let server = TestServer::start().await;
    let client = server.registry().find_client(BROWSER_CLIENT).await.unwrap();
    assert!(client.settings.redirect_uris.is_empty());
    let actor = Actor::person("test");
    server
        .registry()
        .disable_client(&actor, BROWSER_CLIENT)
        .await
        .unwrap();
    let answer = login(&mut server.browser(), OWNER_EMAIL, PASSWORD).await;
    assert_eq!(answer.json()["code"], "client_disabled");
}

/// A registry that was set up before there was this client.
#[tokio::test]
async fn the_browser_client_is_made_where_it_is_missing() {
    let server = TestServer::empty().await;
    let found = server.registry().find_client(BROWSER_CLIENT).await;
    assert!(found.is_err(), "nobody set this up yet");
    server.add_user("ada@example.org", &[]).await;
    let server = server.again().await;
    let client = server.registry().find_client(BROWSER_CLIENT).await.unwrap();
    assert!(client.settings.redirect_uris.is_empty());
    let actor = Actor::person("test");
    let registry = server.registry();
    registry
        .disable_client(&actor, BROWSER_CLIENT)
        .await
        .unwrap();
    let server = server.again().await;
    let client = server.registry().find_client(BROWSER_CLIENT).await.unwrap();
    assert!(client.disabled_at.is_some(), "it stays as it was left");
}
