use axum::body::Body;
use axum::http::{Method, StatusCode};
use keywright_domain::audit::Actor;
use keywright_domain::people::OAuthScopes;
use keywright_registry::people::User;

use crate::sessions::tests::{by_token, give_access};
use crate::sign_in::{second_factor, totp};
use crate::test_support::{Answer, Browser, PASSWORD, TestServer};

const ADA: &str = "ada@example.org";
const PAGE: &str = "/account/sign-in";
const NEW: &str = "another good password";
const LATELY_MS: i64 = 10 * 60 * 1000;

async fn start() -> (TestServer, User, Browser) {
    let server = TestServer::start().await;
    let ada = server.add_user(ADA, &[]).await;
    let browser = server.sign_in_as(&ada).await;
    (server, ada, browser)
}

async fn change(browser: &mut Browser, fields: &[(&str, &str)]) -> Answer {
    browser.post("/account/sign-in/password", fields).await
}

async fn sign_in(server: &TestServer, password: &str) -> Answer {
    let mut browser = server.browser();
    browser.get("/sign-in").await;
    let fields = [("email", ADA), ("password", password)];
    browser.post("/sign-in", &fields).await
}

#[tokio::test]
async fn a_password_change_ends_the_other_sessions() {
    let (server, ada, mut browser) = start().await;
    let mut other = server.sign_in_as(&ada).await;
    let mut stale = browser.clone();
    let answer = change(&mut browser, &[("password", NEW)]).await;
    assert_eq!(
        answer.location(),
        "/account/sign-in?done=password",
        "{}",
        answer.text
    );
    assert_eq!(browser.get(answer.location()).await.status, StatusCode::OK);
    assert_eq!(other.get(PAGE).await.status, StatusCode::SEE_OTHER);
    assert_eq!(stale.get(PAGE).await.status, StatusCode::SEE_OTHER);
    assert_eq!(
        sign_in(&server, PASSWORD).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(sign_in(&server, NEW).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn ac_117_another_password_ends_what_has_no_session() {
    let (server, ada, mut browser) = start().await;
    server
        .add_client("app", None, |client| {
            client.scopes = OAuthScopes::parse("openid account").unwrap();
        })
        .await;
    let sessions = server.registry().list_sessions(&ada.id, true, None, 9);
    let own = sessions.await.unwrap().items[0].id.clone();
    let kept = give_access(&server, &ada, Some(&own), "app", "openid account").await;
    let device = give_access(&server, &ada, None, "app", "openid account").await;
    let mut page = server.browser();
    let body = serde_json::json!({"email": ADA, "password": PASSWORD});
    let login = page.json(Method::POST, "/auth/login", &body).await;
    let token = login.json()["access_token"].as_str().unwrap().to_owned();
    let code = async |token: &str| {
        let answer = by_token(&server, token, Method::GET, "/api/v1/sessions").await;
        answer.json()["code"].as_str().unwrap_or("good").to_owned()
    };
    for token in [&kept.token, &device.token, &token] {
        assert_eq!(code(token).await, "good");
    }
    let answer = change(&mut browser, &[("password", NEW)]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    for ended in [&device.token, &token] {
        assert_eq!(code(ended).await, "token_revoked");
    }
    assert_eq!(code(&kept.token).await, "good");
    let refreshed = page
        .send(Method::POST, "/auth/refresh", &[], Body::empty())
        .await;
    assert_eq!(refreshed.json()["code"], "refresh_refused");
}

/// The session says how it was proven: not by a password that nobody typed.
#[tokio::test]
async fn a_second_factor_is_added_to_the_first_that_was_used() {
    for (amr, then) in [
        ("fed", "fed otp mfa"),
        ("pwd", "pwd otp mfa"),
        ("hwk user mfa", "hwk user mfa otp"),
    ] {
        let server = TestServer::start().await;
        let ada = server.add_user(ADA, &[]).await;
        let mut browser = server.sign_in_by(&ada, amr).await;
        let app = server.server.app();
        browser.post("/account/sign-in/codes", &[]).await;
        let sealed = server.registry().find_totp(&ada.id).await.unwrap().sealed;
        let secret = app
            .secrets
            .unseal(&second_factor::purpose(&ada.id), &sealed);
        let secret = secret.unwrap();
        let code = totp::code(&secret, app.now() / 30_000);
        let shown = browser
            .post("/account/sign-in/codes/confirm", &[("code", &code)])
            .await;
        assert_eq!(shown.status, StatusCode::OK, "{}", shown.text);
        // And by a step-up of a session that somebody else's server began.
        server.pass(30_000);
        let code = totp::code(&secret, app.now() / 30_000);
        let mut weak = server.sign_in_by(&ada, amr).await;
        let answer = weak.post("/sign-in/code", &[("code", &code)]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
        let sessions = server.registry().list_sessions(&ada.id, true, None, 9);
        for session in sessions.await.unwrap().items {
            assert_eq!((&*session.acr, &*session.amr), ("aal2", then));
        }
    }
}

#[tokio::test]
async fn later_the_old_password_or_a_new_sign_in_is_needed() {
    let (server, _, mut browser) = start().await;
    server.pass(LATELY_MS);
    browser.get(PAGE).await;
    let answer = change(&mut browser, &[("password", NEW)]).await;
    assert_eq!(
        answer.location(),
        "/sign-in?return_to=%2Faccount%2Fsign-in&again=1"
    );
    let wrong = change(&mut browser, &[("password", NEW), ("current", "wrong")]).await;
    assert_eq!(wrong.status, StatusCode::FORBIDDEN);
    assert_eq!(
        sign_in(&server, PASSWORD).await.status,
        StatusCode::SEE_OTHER
    );
    let answer = change(&mut browser, &[("password", NEW), ("current", PASSWORD)]).await;
    assert_eq!(answer.location(), "/account/sign-in?done=password");
    assert_eq!(sign_in(&server, NEW).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn ac_181_a_password_is_8_to_128_characters() {
    let (server, _, mut browser) = start().await;
    for bad in ["", "short", &"x".repeat(129)] {
        let answer = change(&mut browser, &[("password", bad)]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    assert_eq!(
        sign_in(&server, PASSWORD).await.status,
        StatusCode::SEE_OTHER
    );
}

#[tokio::test]
async fn ac_100_nothing_changes_without_our_token() {
    let (server, _, mut browser) = start().await;
    for path in [
        "password",
        "codes",
        "codes/remove",
        "recovery-codes",
        "passkeys/remove",
        "identities/unlink",
    ] {
        let fields = [("password", NEW), ("csrf_token", "x")];
        let answer = browser.post(&format!("{PAGE}/{path}"), &fields).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
    let nobody = server
        .browser()
        .post("/account/sign-in/password", &[("password", NEW)])
        .await;
    assert!(nobody.location().starts_with("/sign-in?"));
    assert_eq!(
        sign_in(&server, PASSWORD).await.status,
        StatusCode::SEE_OTHER
    );
}

/// The key on the page, as an app reads it.
fn secret_of(page: &Answer) -> Vec<u8> {
    let text = page.text.split("<p class=\"mono\">").nth(1).unwrap();
    let text = text.split('<').next().unwrap().replace(' ', "");
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for letter in text.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            _ => letter - b'2' + 26,
        };
        bits = (bits << 5) | u32::from(value);
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).unwrap());
        }
    }
    bytes
}

#[tokio::test]
async fn one_time_codes_are_set_up_confirmed_and_turned_off() {
    let (server, ada, mut browser) = start().await;
    let app = server.server.app().clone();
    let answer = browser.post("/account/sign-in/codes", &[]).await;
    assert_eq!(
        answer.location(),
        "/account/sign-in/codes",
        "{}",
        answer.text
    );
    let page = browser.get("/account/sign-in/codes").await;
    assert!(page.text.contains("data:image/svg+xml;base64,"));
    assert_eq!(page.header("cache-control"), "no-store");
    let secret = secret_of(&page);
    assert_eq!(secret.len(), 20);
    // Not on before the first code.
    assert!(!second_factor::is_set_up(&app, &ada.id).await.unwrap());
    let wrong = browser
        .post("/account/sign-in/codes/confirm", &[("code", "000000")])
        .await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    let code = totp::code(&secret, app.now() / 30_000);
    let shown = browser
        .post("/account/sign-in/codes/confirm", &[("code", &code)])
        .await;
    assert_eq!(shown.status, StatusCode::OK, "{}", shown.text);
    assert_eq!(shown.text.matches("<li class=\"mono\">").count(), 10);
    assert!(second_factor::is_set_up(&app, &ada.id).await.unwrap());
    // The key is never shown again, and the code that confirmed is used up.
    assert_eq!(browser.get("/account/sign-in/codes").await.location(), PAGE);
    assert!(!second_factor::accept(&app, &ada.id, &code).await.unwrap());
    assert_eq!(
        browser.post("/account/sign-in/codes", &[]).await.status,
        StatusCode::CONFLICT
    );
    // One factor is not enough to turn the second off.
    let mut weak = server.sign_in_as(&ada).await;
    let answer = weak.post("/account/sign-in/codes/remove", &[]).await;
    assert_eq!(
        answer.location(),
        "/sign-in?return_to=%2Faccount%2Fsign-in&acr=aal2"
    );
    let new = browser.post("/account/sign-in/recovery-codes", &[]).await;
    assert_eq!(new.text.matches("<li class=\"mono\">").count(), 10);
    let answer = browser.post("/account/sign-in/codes/remove", &[]).await;
    assert_eq!(answer.location(), "/account/sign-in?done=codes-off");
    assert!(!second_factor::is_set_up(&app, &ada.id).await.unwrap());
    assert!(
        server
            .registry()
            .list_recovery_codes(&ada.id)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn s65_the_last_way_in_stays() {
    use keywright_registry::people::NewPasskey;
    let (server, ada, _) = start().await;
    let registry = server.registry();
    let actor = Actor::person("test");
    let new = NewPasskey {
        credential_id: vec![1, 2, 3],
        user_id: ada.id.clone(),
        public_key: vec![0],
        sign_count: 0,
        transports: String::new(),
        name: "Key".into(),
    };
    registry.add_passkey(&actor, &new).await.unwrap();
    registry
        .set_password_hash(&actor, &ada.id, None, None)
        .await
        .unwrap();
    let mut browser = server.sign_in_as(&ada).await;
    let answer = browser
        .post("/account/sign-in/passkeys/remove", &[("id", "AQID")])
        .await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(answer.text.contains("last way you can sign in"));
    let fields = [("id", "AQID"), ("name", "<b>Blue</b>")];
    let answer = browser
        .post("/account/sign-in/passkeys/rename", &fields)
        .await;
    assert_eq!(answer.location(), "/account/sign-in?done=passkey-renamed");
    let page = browser.get(answer.location()).await;
    assert!(page.text.contains("&lt;b&gt;Blue") && page.text.contains("has its new name"));
    // With a password it may go; somebody else's never.
    assert_eq!(change(&mut browser, &[("password", NEW)]).await.status, 303);
    let bob = server.add_user("bob@example.org", &[]).await;
    let mut other = server.sign_in_as(&bob).await;
    let answer = other
        .post("/account/sign-in/passkeys/remove", &[("id", "AQID")])
        .await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let answer = browser
        .post("/account/sign-in/passkeys/remove", &[("id", "AQID")])
        .await;
    assert_eq!(answer.location(), "/account/sign-in?done=passkey-removed");
    assert!(registry.list_passkeys(&ada.id).await.unwrap().is_empty());
}
