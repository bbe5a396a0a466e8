//! What a sign-in at a provider proves: nothing, unless it says when it asked its person.

use axum::http::StatusCode;
use keywright_domain::SecretText;
use keywright_domain::people::{Session, TokenDigest};
use serde_json::json;

use super::stub::{Stub, callback};
use crate::settings::SignUp;
use crate::test_support::{Answer, Browser, START, TestServer};

const LINK: &str = "/rp/link?idp=other";

async fn start(password: bool) -> (TestServer, Stub) {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    let ada = server.add_user("ada@example.org", &[]).await;
    stub.add(&server, "corp", "openid").await;
    stub.add(&server, "github", "github").await;
    stub.add(&server, "other", "openid").await;
    if !password {
        // One way to sign in remains.
        stub.trip(&mut server.browser(), "corp").await;
        let actor = keywright_domain::audit::Actor::person("test");
        let registry = server.registry();
        registry
            .set_password_hash(&actor, &ada.id, None, None)
            .await
            .unwrap();
    }
    server.pass(1);
    (server, stub)
}

/// By a provider, as the sign-in page of a place that needs a proof leads there.
async fn again(stub: &Stub, browser: &mut Browser, id: &str, target: &str) -> Answer {
    let target: String = url::form_urlencoded::byte_serialize(target.as_bytes()).collect();
    let path = format!("/rp/authorize?idp={id}&redirect_uri={target}&again=1");
    let sent = browser.get(&path).await;
    stub.note(&sent);
    browser.get(&callback(id, &sent, "&code=good")).await
}

async fn session(server: &TestServer, browser: &Browser) -> Session {
    let token = SecretText::new(browser.cookie("session").unwrap().to_owned());
    let digest = TokenDigest::of(&token);
    let found = server.registry().find_session(&digest);
    (*found.await.unwrap().unwrap().0).clone()
}

/// Whether the browser's person is asked to prove themselves before they link another identity.
#[track_caller]
fn asks(answer: &Answer) -> bool {
    let asks = answer.location() == "/sign-in?return_to=%2Frp%2Flink%3Fidp%3Dother&again=1";
    assert!(asks || answer.status == StatusCode::OK, "{}", answer.text);
    asks
}

/// The same before they set up one-time codes.
async fn codes_ask(browser: &mut Browser) -> bool {
    let page = browser.get("/account/sign-in").await;
    let csrf = page.field("csrf_token").unwrap();
    let form = [("csrf_token", csrf.as_str())];
    let answer = browser.post("/account/sign-in/codes", &form).await;
    let asks = answer.location() == "/sign-in?return_to=%2Faccount%2Fsign-in&again=1";
    let begun = answer.location() == "/account/sign-in/codes";
    assert!(asks || begun, "{} {}", answer.location(), answer.text);
    asks
}

#[tokio::test]
async fn s65_a_silent_sign_in_at_a_provider_is_no_proof() {
    for id in ["corp", "github"] {
        let (server, stub) = start(true).await;
        // Begun by it.
        let mut browser = server.browser();
        assert_eq!(stub.trip(&mut browser, id).await.location(), "/dashboard");
        let begun = session(&server, &browser).await;
        assert_eq!((begun.proven_at, &*begun.amr), (0, "fed"));
        assert!(asks(&browser.get(LINK).await), "{id}");
        assert!(codes_ask(&mut browser).await, "{id}");
        // Or on top of a session whose proof is old: nothing of it is new afterwards.
        let ada = begun.user_id.clone();
        let ada = server.registry().find_user(&ada).await.unwrap();
        let mut browser = server.sign_in_as(&ada).await;
        assert!(!asks(&browser.get(LINK).await), "a password is one");
        assert!(!codes_ask(&mut browser).await, "a password is one");
        let before = session(&server, &browser).await;
        server.pass(600_000);
        assert!(asks(&browser.get(LINK).await));
        assert_eq!(stub.trip(&mut browser, id).await.location(), "/dashboard");
        assert!(asks(&browser.get(LINK).await), "{id}");
        assert!(codes_ask(&mut browser).await, "{id}");
        let facts = |one: &Session| (one.authenticated_at, one.proven_at, one.amr.clone());
        let after = session(&server, &browser).await;
        assert_eq!(facts(&after), facts(&before));
    }
}

#[tokio::test]
async fn s65_a_provider_that_says_when_it_asked_is_believed_about_that_moment() {
    let (server, stub) = start(true).await;
    let at = |ago: i64| {
        let time = START / 1000 - ago;
        stub.plan(|plan| {
            plan.claims.insert("auth_time".into(), json!(time));
        });
    };
    for (ago, is_new) in [(0, true), (599, true), (600, false), (86_400, false)] {
        at(ago);
        let mut browser = server.browser();
        assert_eq!(
            stub.trip(&mut browser, "corp").await.location(),
            "/dashboard"
        );
        assert_eq!(!asks(&browser.get(LINK).await), is_new, "{ago} s ago");
    }
    // What is to come is not known before.
    at(-3_600);
    let mut browser = server.browser();
    stub.trip(&mut browser, "corp").await;
    assert_eq!(session(&server, &browser).await.proven_at, 0);
    // Asked anew, and it says so: back where the link was asked for.
    at(86_400);
    let mut browser = server.browser();
    stub.trip(&mut browser, "corp").await;
    at(0);
    let back = again(&stub, &mut browser, "corp", LINK).await;
    assert_eq!(back.location(), LINK, "{}", back.text);
    assert!(!asks(&browser.get(LINK).await));
}

#[tokio::test]
async fn s65_where_a_provider_does_not_say_it_the_own_password_or_passkey_is_asked_for() {
    for id in ["corp", "github"] {
        let (server, stub) = start(true).await;
        let mut browser = server.browser();
        stub.trip(&mut browser, id).await;
        let before = session(&server, &browser).await;
        for target in [LINK, "/account/sign-in", "/account/sign-in?done=x"] {
            let back = again(&stub, &mut browser, id, target).await;
            assert_eq!(back.status, StatusCode::FORBIDDEN, "{}", back.text);
            assert!(
                back.text.contains("fresh_sign_in_required"),
                "{}",
                back.text
            );
            assert!(back.text.contains("use your password or your passkey"));
            assert!(back.text.contains(&format!("Stub {id}")));
        }
        assert_eq!(session(&server, &browser).await, before);
        assert!(asks(&browser.get(LINK).await));
        // For a client that wants a new sign-in it is one: the person was to be asked. Still no proof.
        server.pass(1_000);
        let back = again(&stub, &mut browser, id, "/dashboard").await;
        assert_eq!(back.location(), "/dashboard", "{}", back.text);
        let after = session(&server, &browser).await;
        assert_eq!(after.authenticated_at, START + 1_001);
        assert_eq!(after.proven_at, 0);
        assert!(asks(&browser.get(LINK).await), "{id}");
    }
}

#[tokio::test]
async fn s65_whoever_has_neither_password_nor_passkey_is_asked_at_the_provider() {
    for id in ["corp", "github"] {
        let (server, stub) = start(false).await;
        let mut browser = server.browser();
        stub.trip(&mut browser, id).await;
        assert!(
            asks(&browser.get(LINK).await),
            "silence is no proof for them either"
        );
        let back = again(&stub, &mut browser, id, LINK).await;
        assert_eq!(back.location(), LINK, "{}", back.text);
        assert!(!asks(&browser.get(LINK).await), "{id}");
    }
    // Nor has an account that begins with it.
    let open = |settings: &mut crate::settings::Settings| {
        settings.sign_up = SignUp::ByProvider(Vec::new());
    };
    let (server, stub) = (TestServer::with(open).await, Stub::start().await);
    stub.add(&server, "corp", "openid").await;
    stub.add(&server, "other", "openid").await;
    let mut browser = server.browser();
    assert_eq!(
        stub.trip(&mut browser, "corp").await.location(),
        "/dashboard"
    );
    assert!(!asks(&browser.get(LINK).await));
    assert!(asks(&{
        let mut later = server.browser();
        stub.trip(&mut later, "corp").await;
        later.get(LINK).await
    }));
}
