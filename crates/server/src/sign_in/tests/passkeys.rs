use axum::http::{Method, StatusCode};
use keywright_domain::audit::Actor;
use keywright_registry::people::User;
use serde_json::{Value, json};

use super::authenticator::Authenticator;
use super::{history, is_signed_in};
use crate::settings::Settings;
use crate::test_support::{Answer, Browser, TestServer};

const ADA: &str = "ada@example.org";
const ADD: &str = "/account/sign-in/passkeys";

async fn server() -> TestServer {
    TestServer::with(|settings| {
        let data = settings.data.clone();
        *settings = Settings::new("http://localhost:8377", data).unwrap();
        settings.allow_private_addresses = true;
    })
    .await
}

async fn options(browser: &mut Browser, path: &str) -> Value {
    let answer = browser
        .json(Method::POST, &format!("{path}/options"), &json!({}))
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json()
}

async fn add(browser: &mut Browser, key: &mut Authenticator) -> Answer {
    let options = options(browser, ADD).await;
    browser.json(Method::POST, ADD, &key.make(&options)).await
}

async fn with_key(server: &TestServer, alg: i64) -> (User, Authenticator) {
    let ada = server.add_user(ADA, &[]).await;
    let mut key = Authenticator::new(alg);
    let answer = add(&mut server.sign_in_as(&ada).await, &mut key).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    (ada, key)
}

/// A browser on the sign-in page, with a challenge.
async fn challenged(server: &TestServer) -> (Browser, Value) {
    // The history is in the order of time: what follows is newer than what was.
    server.pass(1);
    let mut browser = server.browser();
    let page = browser.get("/sign-in").await;
    assert!(page.text.contains("data-passkey=\"use\""));
    let options = options(&mut browser, "/sign-in/passkey").await;
    (browser, options)
}

async fn answer(browser: &mut Browser, body: &Value) -> Answer {
    browser.json(Method::POST, "/sign-in/passkey", body).await
}

#[tokio::test]
async fn passkeys_of_three_algorithms_sign_in_with_two_factors() {
    let server = server().await;
    let ada = server.add_user(ADA, &[]).await;
    for (alg, flags, amr) in [
        (-7, 0x05, "hwk user mfa"),
        (-8, 0x1d, "swk user mfa"),
        (-257, 0x05, "hwk user mfa"),
    ] {
        let mut owner = server.sign_in_as(&ada).await;
        let mut key = Authenticator::new(alg);
        key.flags = flags;
        let added = add(&mut owner, &mut key).await;
        assert_eq!(added.status, StatusCode::OK, "{alg} {}", added.text);
        assert!(
            owner
                .get("/account/sign-in")
                .await
                .text
                .contains("Test key")
        );
        let (mut browser, options) = challenged(&server).await;
        assert_eq!(options["publicKey"]["allowCredentials"], json!([]));
        assert_eq!(options["publicKey"]["userVerification"], "required");
        let done = answer(&mut browser, &key.answer(&options)).await;
        assert_eq!(done.status, StatusCode::OK, "{alg} {}", done.text);
        assert_eq!(done.json()["location"], "/x");
        assert!(is_signed_in(&mut browser).await);
        let newest = &history(&server).await[0];
        assert_eq!((&*newest.method, &*newest.identifier), ("passkey", ADA));
        let sessions = server
            .registry()
            .list_sessions(&ada.id, true, None, 50)
            .await
            .unwrap();
        let session = sessions
            .items
            .iter()
            .find(|one| Some(&one.id) == newest.session_id.as_ref());
        let session = session.unwrap();
        assert_eq!((&*session.acr, &*session.amr), ("aal2", amr));
    }
    let stored = server.registry().list_passkeys(&ada.id).await.unwrap();
    assert_eq!(stored.len(), 3);
    assert_eq!(stored[0].transports, "usb");
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_the_history_says_why() {
    let server = server().await;
    let (_, mut key) = with_key(&server, -7).await;
    let refused = async |body: &dyn Fn(&Value) -> Value, why: &str| {
        let (mut browser, options) = challenged(&server).await;
        let answer = answer(&mut browser, &body(&options)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{why}");
        assert_eq!(answer.json()["code"], "passkey_refused");
        assert!(browser.cookie("session").is_none());
        assert_eq!(history(&server).await[0].outcome, why);
    };
    key.origin = "http://evil.localhost:8377".into();
    refused(&|options| key.answer(options), "origin_mismatch").await;
    key.origin = "http://localhost:8377".into();
    key.rp_id = "example.com".into();
    refused(&|options| key.answer(options), "rp_id_mismatch").await;
    key.rp_id = "localhost".into();
    for (flags, why) in [
        (0x04, "user_not_present"),
        (0x01, "user_not_verified"),
        (0x15, "backup_flags_impossible"),
        (0x85, "authenticator_data_malformed"),
    ] {
        key.flags = flags;
        refused(&|options| key.answer(options), why).await;
    }
    key.flags = 0x05;
    let changed = |member: &'static str, value: Value| {
        let key = &key;
        move |options: &Value| {
            let mut body = key.answer(options);
            body[member] = value.clone();
            body
        }
    };
    refused(
        &changed("user_handle", json!("AAAA")),
        "user_handle_mismatch",
    )
    .await;
    refused(&changed("id", json!("AAAA")), "credential_unknown").await;
    refused(&changed("state", json!("AAAA")), "challenge_unknown").await;
    refused(&changed("signature", json!("AAAA")), "signature_wrong").await;
    let stranger = Authenticator::new(-7);
    let forged = |options: &Value| {
        let mut body = stranger.answer(options);
        body["id"] = key.answer(options)["id"].clone();
        body
    };
    refused(&forged, "signature_wrong").await;
    // A challenge that we did not make for this state.
    let other = |options: &Value| {
        let mut options = options.clone();
        options["publicKey"]["challenge"] = json!("AAAA");
        key.answer(&options)
    };
    refused(&other, "challenge_mismatch").await;
    let (mut browser, options) = challenged(&server).await;
    assert_eq!(
        answer(&mut browser, &key.answer(&options)).await.status,
        200
    );
}

#[tokio::test]
async fn a_challenge_is_for_one_browser_one_purpose_a_short_time_and_one_use() {
    let server = server().await;
    let (ada, key) = with_key(&server, -8).await;
    let (mut browser, options) = challenged(&server).await;
    let body = key.answer(&options);
    let mut other = challenged(&server).await.0;
    assert_eq!(answer(&mut other, &body).await.status, 401);
    assert_eq!(history(&server).await[0].outcome, "challenge_of_another");
    let tries = (0..50).map(|_| {
        let (mut browser, body) = (browser.clone(), body.clone());
        tokio::spawn(async move { answer(&mut browser, &body).await.status })
    });
    let mut good = 0;
    for one in tries.collect::<Vec<_>>() {
        good += usize::from(one.await.unwrap() == StatusCode::OK);
    }
    assert_eq!(good, 1);
    // A quarter of an hour later the source may try again, with a challenge of its own.
    server.pass(16 * 60 * 1000);
    let options = self::options(&mut browser, "/sign-in/passkey").await;
    let body = key.answer(&options);
    server.pass(5 * 60 * 1000);
    assert_eq!(answer(&mut browser, &body).await.status, 401);
    assert_eq!(history(&server).await[0].outcome, "challenge_expired");
    // One to sign in adds nothing.
    let mut owner = server.sign_in_as(&ada).await;
    let options = self::options(&mut owner, "/sign-in/passkey").await;
    let mut new = Authenticator::new(-8);
    let refused = owner.json(Method::POST, ADD, &new.make(&options)).await;
    assert_eq!(refused.json()["code"], "passkey_refused");
}

#[tokio::test]
async fn a_challenge_that_was_answered_before_a_restart_is_not_answered_after_it() {
    let server = server().await;
    // One without a counter: nothing else tells the two apart.
    let (_, key) = with_key(&server, -8).await;
    let (browser, options) = challenged(&server).await;
    let body = key.answer(&options);
    let kept = challenged(&server).await;
    let again = async |server: &TestServer, before: &Browser, body: &Value| {
        let mut browser = server.browser();
        browser.cookies.clone_from(&before.cookies);
        answer(&mut browser, body).await.status
    };
    assert_eq!(again(&server, &browser, &body).await, StatusCode::OK);
    let server = server.again().await;
    server.pass(1000);
    assert_eq!(
        again(&server, &browser, &body).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(history(&server).await[0].outcome, "challenge_used");
    let (browser, options) = kept;
    let body = key.answer(&options);
    assert_eq!(again(&server, &browser, &body).await, StatusCode::OK);
}

#[tokio::test]
async fn a_counter_that_goes_backwards_is_marked() {
    let server = server().await;
    let (ada, mut key) = with_key(&server, -7).await;
    for (counter, status) in [(5, 200), (6, 200), (6, 401), (3, 401), (0, 401), (7, 200)] {
        key.counter = counter;
        let (mut browser, options) = challenged(&server).await;
        let done = answer(&mut browser, &key.answer(&options)).await;
        assert_eq!(done.status.as_u16(), status, "{counter}");
    }
    let stored = server.registry().list_passkeys(&ada.id).await.unwrap();
    assert!(stored[0].suspect_at.is_some());
    let page = server.sign_in_as(&ada).await.get("/account/sign-in").await;
    assert!(page.text.contains("There may be a copy"));
}

#[tokio::test]
async fn a_disabled_person_has_no_passkey() {
    let server = server().await;
    let (ada, key) = with_key(&server, -7).await;
    let actor = Actor::person("test");
    server
        .registry()
        .disable_user(&actor, &ada.id, "left")
        .await
        .unwrap();
    let (mut browser, options) = challenged(&server).await;
    assert_eq!(
        answer(&mut browser, &key.answer(&options)).await.status,
        401
    );
    assert_eq!(history(&server).await[0].outcome, "user_disabled");
}

#[tokio::test]
async fn a_step_up_by_passkey_keeps_the_session() {
    let server = server().await;
    let (ada, key) = with_key(&server, -7).await;
    let mut browser = server.sign_in_as(&ada).await;
    let mut stale = browser.clone();
    let page = browser.get("/sign-in?acr=aal2&return_to=/x").await;
    assert!(page.text.contains("Use your passkey"));
    let options = options(&mut browser, "/sign-in/passkey").await;
    assert_eq!(
        answer(&mut browser, &key.answer(&options)).await.status,
        200
    );
    assert!(is_signed_in(&mut browser).await && !is_signed_in(&mut stale).await);
    assert_eq!(
        browser
            .get("/sign-in?acr=aal2&return_to=/x")
            .await
            .location(),
        "/x"
    );
}

#[tokio::test]
async fn a_new_passkey_must_fit_and_be_new() {
    let server = server().await;
    let (ada, mut key) = with_key(&server, -7).await;
    let mut owner = server.sign_in_as(&ada).await;
    assert_eq!(
        add(&mut owner, &mut key).await.json()["code"],
        "passkey_taken"
    );
    for wrong in 0..5 {
        let mut key = Authenticator::new(-7);
        match wrong {
            0 => key.flags = 0x01,
            1 => key.origin = "http://localhost".into(),
            2 => key.rp_id = "127.0.0.1".into(),
            3 => key.id = vec![7; 1024],
            _ => key.id = Vec::new(),
        }
        let answer = add(&mut owner, &mut key).await;
        assert_eq!(answer.json()["code"], "passkey_refused", "{wrong}");
    }
    // Without our CSRF token, or without a sign-in of late: nothing.
    let body = axum::body::Body::from("{}");
    let kind = [("content-type", "application/json")];
    let path = format!("{ADD}/options");
    let answer = owner.send(Method::POST, &path, &kind, body).await;
    assert_eq!(answer.json()["code"], "csrf_missing");
    server.pass(10 * 60 * 1000);
    let answer = owner.json(Method::POST, &path, &json!({})).await;
    assert_eq!(answer.json()["code"], "fresh_sign_in_required");
}

#[tokio::test]
async fn an_address_has_no_passkeys() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    assert!(!browser.get("/sign-in").await.text.contains("data-passkey"));
    let answer = browser
        .json(Method::POST, "/sign-in/passkey/options", &json!({}))
        .await;
    assert_eq!(answer.json()["code"], "passkeys_unavailable");
    let script = browser.get("/assets/passkeys.js").await;
    assert!(script.header("content-type").starts_with("text/javascript"));
}
