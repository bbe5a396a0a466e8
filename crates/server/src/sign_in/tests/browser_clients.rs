use axum::body::Body;
use axum::http::{Method, StatusCode};
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_domain::people::{SessionLives, TokenDigest};
use keywright_registry::people::{NewGrant, NewSession};
use serde_json::json;

use super::{code, give_codes, history};
use crate::oauth2::testing;
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
    let cookie = answer.header("set-cookie").to_owned();
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

/// A browser in which a page of its own signed the owner in, and the access token.
async fn logged_in(server: &TestServer) -> (Browser, String) {
    let mut browser = server.browser();
    let answer = login(&mut browser, OWNER_EMAIL, PASSWORD).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    (browser, token)
}

/// Nothing of a sign-in is left: neither what this browser held nor the token that it had.
async fn assert_over(server: &TestServer, before: &Browser, token: &str) {
    let answer = refresh(&mut before.clone()).await;
    assert_eq!(answer.json()["code"], "refresh_refused", "{}", answer.text);
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let mut program = server.browser();
    let answer = program
        .send(Method::GET, "/api/v1/sessions", &headers, Body::empty())
        .await;
    assert_eq!(answer.json()["code"], "token_revoked", "{}", answer.text);
}

async fn sessions(server: &TestServer) -> Vec<keywright_domain::people::Session> {
    let owner = owner(server).await;
    let page = server.registry().list_sessions(&owner.id, false, None, 100);
    page.await.unwrap().items
}

async fn owner(server: &TestServer) -> keywright_registry::people::User {
    let email = keywright_domain::people::Email::new(OWNER_EMAIL).unwrap();
    let found = server.registry().find_credentials(&email).await.unwrap();
    let user = server.registry().find_user(&found.unwrap().user_id).await;
    (*user.unwrap()).clone()
}

#[tokio::test]
async fn s2_19_s3_51_signing_out_ends_what_a_page_of_its_own_signed_in_for() {
    let server = TestServer::start().await;
    let (mut browser, token) = logged_in(&server).await;
    let before = browser.clone();
    let handle = browser.cookie("sign_in").unwrap().to_owned();
    // Another site signs nobody out, and neither does a cookie that we did not make.
    let foreign = [("origin", "https://evil.example")];
    let refused = browser
        .clone()
        .send(Method::POST, "/auth/signOut", &foreign, Body::empty())
        .await;
    assert_eq!(refused.json()["code"], "origin_rejected");
    let mut forged = server.browser();
    let (id, _) = handle.split_once('.').unwrap();
    for value in [
        format!("{id}.{}", "A".repeat(43)),
        format!("{id}."),
        id.to_owned(),
    ] {
        forged.cookies = vec![("sign_in".into(), value)];
        let answer = forged
            .send(Method::POST, "/auth/signOut", &[], Body::empty())
            .await;
        assert_eq!(answer.json(), json!({ "signedOut": false }));
    }
    // It signs nobody in.
    let mut impostor = server.browser();
    impostor.cookies = vec![("session".into(), handle)];
    assert_eq!(impostor.get("/auth/session").await.status, 401);
    assert!(works(&server, &token).await);

    let answer = browser
        .send(Method::POST, "/auth/signOut", &[], Body::empty())
        .await;
    assert_eq!(
        answer.json(),
        json!({ "signedOut": true }),
        "{}",
        answer.text
    );
    // What stays tells only which browser it is.
    let left = browser.cookies.iter().map(|(name, _)| name.as_str());
    assert_eq!(left.collect::<Vec<_>>(), ["device"]);
    assert_over(&server, &before, &token).await;
    let ended = sessions(&server).await;
    assert_eq!(ended[0].end_reason.unwrap().as_str(), "signed_out");
    let query = keywright_registry::AuditQuery {
        limit: 100,
        ..Default::default()
    };
    let events = server.registry().list_audit_events(query).await.unwrap();
    let ended = events.items.iter();
    let ended = ended.filter(|event| event.action == "session.ended");
    let details: Vec<_> = ended.map(|event| format!("{:?}", event.details)).collect();
    assert_eq!(details.len(), 1);
    assert!(details[0].contains("(\"grants\", \"1\")"), "{details:?}");
    let again = before
        .clone()
        .send(Method::POST, "/auth/signOut", &[], Body::empty())
        .await;
    assert_eq!(again.json(), json!({ "signedOut": false }));
}

#[tokio::test]
async fn a_browser_with_both_is_signed_out_of_both_and_another_person_stays() {
    let server = TestServer::start().await;
    let ann = server.add_user("ann@example.org", &[]).await;
    for same in [true, false] {
        let user = if same {
            owner(&server).await
        } else {
            ann.clone()
        };
        let mut browser = server.sign_in_as(&user).await;
        let answer = login(&mut browser, OWNER_EMAIL, PASSWORD).await;
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        let before = browser.clone();
        // Without our page's token nothing ends, of neither.
        let mut bare = browser.clone();
        bare.cookies.retain(|(name, _)| name != "csrf_token");
        let refused = bare.post("/auth/signOut", &[]).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert!(works(&server, &token).await);

        // An application asks for the one that it knows of.
        let answer = browser.post("/oauth2/end_session/confirm", &[]).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert!(browser.cookie("session").is_none());
        assert_eq!(browser.cookie("refresh_token").is_none(), same);
        if same {
            assert_over(&server, &before, &token).await;
        } else {
            assert!(works(&server, &token).await, "hers, not ann's");
            let out = browser.post("/auth/signOut", &[]).await;
            assert_eq!(out.json(), json!({ "signedOut": true }), "{}", out.text);
            assert_over(&server, &before, &token).await;
        }
    }
}

#[tokio::test]
async fn ac_113_ac_114_what_a_page_of_its_own_signed_in_for_is_seen_and_ended_like_the_rest() {
    let server = TestServer::start().await;
    let owner = owner(&server).await;
    let mut browser = server.sign_in_as(&owner).await;
    let (page, token) = logged_in(&server).await;
    let list = browser.get("/api/v1/sessions").await.json();
    let rows = list["items"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    let row = rows.iter().find(|row| row["current"] == false).unwrap();
    assert_eq!(row["clients"][0]["id"], BROWSER_CLIENT);
    assert_eq!(row["amr"], json!(["pwd"]));
    assert!(
        browser
            .get("/account")
            .await
            .text
            .contains("Keywright in the browser")
    );
    // To itself it is the one that asks.
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let own = server
        .browser()
        .send(Method::GET, "/api/v1/sessions", &headers, Body::empty())
        .await
        .json();
    let current = own["items"].as_array().unwrap().iter();
    let current: Vec<_> = current.filter(|row| row["current"] == true).collect();
    assert_eq!((current.len(), &current[0]["id"]), (1, &row["id"]));

    let path = format!("/api/v1/sessions/{}", row["id"].as_str().unwrap());
    let ended = browser.json(Method::DELETE, &path, &json!(null)).await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT);
    assert_over(&server, &page, &token).await;

    // Everywhere else, from our page …
    let (page, token) = logged_in(&server).await;
    let ended = browser.post("/account/end-others", &[]).await;
    assert_eq!(ended.status, StatusCode::SEE_OTHER);
    assert_over(&server, &page, &token).await;
    assert_eq!(browser.get("/auth/session").await.status, StatusCode::OK);
    // … and from the page itself: it stays, the others end.
    let (other, others) = logged_in(&server).await;
    let (mut page, token) = logged_in(&server).await;
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let path = "/api/v1/sessions/revoke-others";
    let ended = server
        .browser()
        .send(Method::POST, path, &headers, Body::empty())
        .await;
    assert_eq!(ended.json()["sessions"], 2, "{}", ended.text);
    assert_over(&server, &other, &others).await;
    assert!(works(&server, &token).await);
    assert_eq!(refresh(&mut page).await.status, StatusCode::OK);
    assert_eq!(browser.get("/auth/session").await.status, 401);

    // Removing the application ends its sessions, not only its tokens.
    let mut browser = server.sign_in_as(&owner).await;
    let path = format!("/api/v1/applications/{BROWSER_CLIENT}");
    for _ in 0..2 {
        let removed = browser.json(Method::DELETE, &path, &json!(null)).await;
        assert_eq!(removed.status, StatusCode::NO_CONTENT);
    }
    assert_over(&server, &page, &token).await;
    let left = browser.get("/api/v1/sessions").await.json();
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn ac_115_signing_in_by_a_page_of_its_own_counts_as_a_session() {
    let server = TestServer::with(|settings| settings.max_sessions = 2).await;
    let (first, token) = logged_in(&server).await;
    for _ in 0..2 {
        assert!(works(&server, &token).await);
        server.pass(1_000);
        logged_in(&server).await;
    }
    assert_over(&server, &first, &token).await;
    let all = sessions(&server).await;
    let reasons: Vec<_> = all.iter().map(|one| one.end_reason).collect();
    assert_eq!(reasons[2].unwrap().as_str(), "max_sessions_exceeded");
    assert_eq!(reasons[..2], [None, None]);
}

#[tokio::test]
async fn ac_107_ac_085_another_login_and_a_stolen_token_end_the_session_too() {
    let server = TestServer::start().await;
    let (mut browser, token) = logged_in(&server).await;
    let before = browser.clone();
    server.pass(1);
    let answer = login(&mut browser, OWNER_EMAIL, PASSWORD).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_over(&server, &before, &token).await;
    // A wrong password ends nothing.
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    login(&mut browser, OWNER_EMAIL, "wrong").await;
    assert!(works(&server, &token).await);

    let old = browser.clone();
    refresh(&mut browser).await;
    refresh(&mut browser).await;
    server.pass(61_000);
    let thief = refresh(&mut old.clone()).await;
    assert_eq!(thief.json()["code"], "refresh_reuse");
    assert_over(&server, &browser, &token).await;
    let all = sessions(&server).await;
    assert_eq!(all[0].end_reason.unwrap().as_str(), "reuse");
}

/// Seen every five minutes at most, the session is there as long as the refresh token is good.
#[tokio::test]
async fn the_session_of_a_page_lives_as_long_as_its_refresh_tokens() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    let server = TestServer::start().await;
    let (mut browser, _) = logged_in(&server).await;
    let active = async || {
        let owner = owner(&server).await;
        let page = server.registry().list_sessions(&owner.id, true, None, 10);
        page.await.unwrap().items.len()
    };
    // Refreshed a moment before the five minutes are over: not written as seen.
    server.pass(299_000);
    assert_eq!(refresh(&mut browser).await.status, StatusCode::OK);
    for _ in 0..4 {
        server.pass(7 * DAY_MS - 1);
        assert_eq!(active().await, 1);
        let answer = refresh(&mut browser).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let claims = testing::part(answer.json()["access_token"].as_str().unwrap(), 1);
        assert!(
            claims["sid"].is_string() && claims["acr"] == "aal1",
            "{claims}"
        );
    }
    // 30 days in all, for both.
    server.pass(2 * DAY_MS);
    assert_eq!(active().await, 0);
    assert_eq!(refresh(&mut browser).await.status, 401);
}

/// Decision 0027: who signs in anew in the session, or proves more in it, is no part of what the grant tells.
#[tokio::test]
async fn what_a_refreshed_token_says_of_the_sign_in_is_the_grants_own() {
    let server = TestServer::start().await;
    let registry = server.registry();
    let owner = owner(&server).await;
    let actor = Actor::person(&owner.id);
    let token = |text: &str| TokenDigest::of(&SecretText::new(text.to_owned()));
    let client = registry.find_client(BROWSER_CLIENT).await.unwrap();
    let lives = server.server.app().settings.refresh;
    let new = NewGrant {
        session: NewSession {
            digest: token("session"),
            user_id: owner.id.clone(),
            acr: "aal1".to_owned(),
            amr: "pwd".to_owned(),
            proven_at: None,
            user_agent: "Test browser".to_owned(),
            network: String::new(),
            lives: SessionLives::of_refresh(lives),
        },
        client_id: BROWSER_CLIENT.to_owned(),
        scopes: client.settings.scopes.clone(),
        refresh_token: token("refresh"),
        lives,
    };
    let (session, _) = registry.begin_grant(&actor, &new).await.unwrap();
    server.pass(60_000);
    let (old, fresh) = (token("session"), token("another"));
    let how = ("aal2", "pwd otp");
    let renewed = registry.renew_session(&actor, &old, &fresh, how, None);
    let renewed = renewed.await.unwrap();
    assert_ne!(renewed.authenticated_at, session.authenticated_at);
    let mut browser = server.browser();
    let cookie = [("cookie", "refresh_token=refresh")];
    let answer = browser
        .send(Method::POST, "/auth/refresh", &cookie, Body::empty())
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    for _ in 0..2 {
        let answer = refresh(&mut browser).await;
        let claims = testing::part(answer.json()["access_token"].as_str().unwrap(), 1);
        assert_eq!(
            (&claims["auth_time"], &claims["acr"], &claims["amr"]),
            (
                &json!(session.authenticated_at / 1000),
                &json!("aal1"),
                &json!(["pwd"])
            ),
            "{claims}"
        );
    }
}

#[tokio::test]
async fn s1_18_an_impossible_rate_of_the_cookie_is_written_down_and_refuses_nobody() {
    let server = TestServer::start().await;
    let (mut browser, _) = logged_in(&server).await;
    let noted = async || {
        let query = keywright_registry::AuditQuery {
            limit: 500,
            ..Default::default()
        };
        let page = server.registry().list_audit_events(query).await.unwrap();
        let mut items = page.items.iter();
        items.any(|one| one.action == "grant.unusual_use")
    };
    for round in 0..33 {
        let answer = refresh(&mut browser).await;
        assert_eq!(answer.status, StatusCode::OK, "{round}: {}", answer.text);
        assert_eq!(noted().await, round >= 30, "{round}");
    }
}
