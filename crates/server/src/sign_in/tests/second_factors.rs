use axum::body::Body;
use axum::http::{Method, StatusCode};
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;

use super::{code, give_codes, history, is_signed_in, sign_in};
use crate::oauth2::testing::{authorize_path, consent};
use crate::sign_in::recovery;
use crate::test_support::{PASSWORD, TestServer};

const ADA: &str = "ada@example.org";

#[tokio::test]
async fn a_password_alone_is_not_enough_and_a_code_counts_once() {
    let server = TestServer::start().await;
    let ada = server.add_user(ADA, &[]).await;
    give_codes(&server, &ada).await;
    let mut browser = server.browser();
    let answer = sign_in(&mut browser, ADA, PASSWORD).await;
    assert_eq!(answer.location(), "/sign-in/code?return_to=%2Faccount");
    assert!(browser.cookie("session").is_none());
    assert!(!is_signed_in(&mut browser).await);
    assert_eq!(browser.get("/sign-in/code").await.status, StatusCode::OK);
    let right = code(&server, 0);
    for wrong in ["", "000000", &code(&server, 3), &code(&server, -2)] {
        let answer = browser.post("/sign-in/code", &[("code", wrong)]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{wrong}");
    }
    let mut copy = browser.clone();
    let answer = browser.post("/sign-in/code", &[("code", &right)]).await;
    assert_eq!(
        (answer.status.as_u16(), answer.location()),
        (303, "/account")
    );
    assert!(browser.cookie("pending_sign_in").is_none());
    assert!(is_signed_in(&mut browser).await);
    let sessions = server
        .registry()
        .list_sessions(&ada.id, true, None, 9)
        .await
        .unwrap();
    let session = &sessions.items[0];
    assert_eq!((&*session.acr, &*session.amr), ("aal2", "pwd otp mfa"));
    // The same step again, and an older one, are used up. The history is in the order of time.
    server.pass(1);
    for used in [right, code(&server, -1)] {
        let answer = copy.post("/sign-in/code", &[("code", &used)]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(history(&server).await[0].outcome, "code_invalid");
    let next = code(&server, 1);
    assert_eq!(
        copy.post("/sign-in/code", &[("code", &next)]).await.status,
        303
    );
}

#[tokio::test]
async fn fifty_uses_of_one_code_at_once_sign_in_once() {
    let server = TestServer::start().await;
    let ada = server.add_user(ADA, &[]).await;
    give_codes(&server, &ada).await;
    let mut browser = server.browser();
    sign_in(&mut browser, ADA, PASSWORD).await;
    let right = code(&server, 0);
    let tries = (0..50).map(|_| {
        let (mut browser, right) = (browser.clone(), right.clone());
        let body = format!(
            "csrf_token={}&code={right}",
            browser.cookie("csrf_token").unwrap()
        );
        tokio::spawn(async move {
            let kind = [("content-type", "application/x-www-form-urlencoded")];
            let sent = browser.send(Method::POST, "/sign-in/code", &kind, Body::from(body));
            sent.await.status
        })
    });
    let mut good = 0;
    for one in tries.collect::<Vec<_>>() {
        good += usize::from(one.await.unwrap() == StatusCode::SEE_OTHER);
    }
    assert_eq!(good, 1);
}

#[tokio::test]
async fn codes_are_not_guessed_from_anywhere() {
    let server = TestServer::start().await;
    let ada = server.add_user(ADA, &[]).await;
    give_codes(&server, &ada).await;
    let mut browser = server.browser();
    sign_in(&mut browser, ADA, PASSWORD).await;
    for _ in 0..10 {
        let answer = browser.post("/sign-in/code", &[("code", "000000")]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    let right = code(&server, 0);
    let answer = browser.post("/sign-in/code", &[("code", &right)]).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn what_is_pending_ends_with_time_password_and_person() {
    let server = TestServer::start().await;
    let ada = server.add_user(ADA, &[]).await;
    give_codes(&server, &ada).await;
    let mut browser = server.browser();
    sign_in(&mut browser, ADA, PASSWORD).await;
    let early = browser.clone();
    server.pass(10 * 60 * 1000);
    let right = code(&server, 0);
    let answer = browser.post("/sign-in/code", &[("code", &right)]).await;
    assert_eq!(answer.location(), "/sign-in");
    // Changed: not ours.
    let mut forged = early.clone();
    for (name, value) in &mut forged.cookies {
        if name == "pending_sign_in" {
            value.replace_range(40..41, if &value[40..41] == "A" { "B" } else { "A" });
        }
    }
    let answer = forged.post("/sign-in/code", &[("code", &right)]).await;
    assert_eq!(answer.location(), "/sign-in");
    // Disabled in between.
    let mut browser = server.browser();
    sign_in(&mut browser, ADA, PASSWORD).await;
    let actor = Actor::person("test");
    server
        .registry()
        .disable_user(&actor, &ada.id, "left")
        .await
        .unwrap();
    let answer = browser.post("/sign-in/code", &[("code", &right)]).await;
    assert_eq!(answer.location(), "/sign-in");
    assert!(!is_signed_in(&mut browser).await);
    server
        .registry()
        .enable_user(&actor, &ada.id)
        .await
        .unwrap();
    // Another password in between.
    let mut browser = server.browser();
    sign_in(&mut browser, ADA, PASSWORD).await;
    server.pass(1000);
    let new = SecretText::new("another password".into());
    let hash = server.server.app().passwords.hash(&new).await.unwrap();
    server
        .registry()
        .set_password_hash(&actor, &ada.id, Some(&hash), None)
        .await
        .unwrap();
    let answer = browser
        .post("/sign-in/code", &[("code", &code(&server, 0))])
        .await;
    assert_eq!(answer.location(), "/sign-in");
}

#[tokio::test]
async fn a_recovery_code_stands_in_once() {
    let server = TestServer::start().await;
    let ada = server.add_user(ADA, &[]).await;
    give_codes(&server, &ada).await;
    let app = server.server.app();
    let actor = Actor::person(&ada.id);
    let codes = recovery::give(app, &actor, &ada.id).await.unwrap();
    assert_eq!(codes.len(), 10);
    for stored in server
        .registry()
        .list_recovery_codes(&ada.id)
        .await
        .unwrap()
    {
        assert!(stored.hash.expose().starts_with("$argon2id$"));
    }
    let typed = recovery::shown(&codes[3]).to_uppercase();
    let mut browser = server.browser();
    sign_in(&mut browser, ADA, PASSWORD).await;
    let mut copy = browser.clone();
    let answer = browser.post("/sign-in/code", &[("code", &typed)]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert!(is_signed_in(&mut browser).await);
    let answer = copy.post("/sign-in/code", &[("code", &typed)]).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        server
            .registry()
            .list_recovery_codes(&ada.id)
            .await
            .unwrap()
            .len(),
        9
    );
}

#[tokio::test]
async fn ac_107_a_step_up_makes_the_same_session_stronger_under_another_token() {
    let server = TestServer::start().await;
    let ada = server.add_user(ADA, &[]).await;
    let mut browser = server.sign_in_as(&ada).await;
    // Without a second factor the page says so, and nothing loops.
    let page = browser.get("/sign-in?return_to=/x&acr=aal2").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(
        page.text
            .contains("Set up one-time codes or a passkey first")
    );
    give_codes(&server, &ada).await;
    let answer = browser.get("/sign-in?return_to=/x%3Fy&acr=aal2").await;
    assert_eq!(answer.location(), "/sign-in/code?return_to=%2Fx%3Fy");
    let page = browser.get("/sign-in/code?return_to=%2Fx%3Fy").await;
    assert_eq!(page.field("return_to").unwrap(), "/x?y");
    let mut stale = browser.clone();
    let fields = [("code", code(&server, 0)), ("return_to", "/x?y".to_owned())];
    let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let answer = browser.post("/sign-in/code", &fields).await;
    // A place that is not ours may lead on to another site at once: a page goes there.
    assert_eq!((answer.status.as_u16(), answer.location()), (200, ""));
    assert_eq!(answer.leads_to(), "http://127.0.0.1:8377/x?y");
    assert!(!is_signed_in(&mut stale).await && is_signed_in(&mut browser).await);
    let sessions = server
        .registry()
        .list_sessions(&ada.id, true, None, 9)
        .await
        .unwrap();
    assert_eq!(sessions.items.len(), 1);
    assert_eq!(sessions.items[0].acr, "aal2");
    let answer = browser.get("/sign-in?return_to=/x&acr=aal2").await;
    assert_eq!(answer.location(), "/x");
}

#[tokio::test]
async fn a_long_authorization_request_comes_through_a_second_factor() {
    let server = TestServer::start().await;
    server.add_client("app", None, |_| {}).await;
    let ada = server.add_user(ADA, &[]).await;
    give_codes(&server, &ada).await;
    let mut browser = server.browser();
    let state = "s".repeat(1_800);
    let asked = browser.get(&authorize_path(&[("state", &state)])).await;
    let page = browser.get(asked.location()).await;
    let return_to = page.field("return_to").unwrap();
    assert!(return_to.starts_with("/oauth2/authorize/resume?request="));
    let fields = [
        ("email", ADA),
        ("password", PASSWORD),
        ("return_to", return_to.as_str()),
    ];
    let answer = browser.post("/sign-in", &fields).await;
    // What browsers keep (RFC 6265bis §5.6: name and value, 4096 bytes).
    for cookie in answer.headers.get_all("set-cookie") {
        assert!(cookie.len() < 1_000, "{}", cookie.len());
    }
    let page = browser.get(answer.location()).await;
    assert_eq!(page.field("return_to").as_deref(), Some(&*return_to));
    // A code that is wrong loses nothing either.
    let typed = |code: &str| [("code", code.to_owned()), ("return_to", return_to.clone())];
    let wrong = typed("000000");
    let wrong: Vec<_> = wrong.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let page = browser.post("/sign-in/code", &wrong).await;
    assert_eq!(page.field("return_to").as_deref(), Some(&*return_to));
    let right = typed(&code(&server, 0));
    let right: Vec<_> = right.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let answer = browser.post("/sign-in/code", &right).await;
    assert_eq!(answer.location(), return_to);
    let page = browser.get(answer.location()).await;
    let answer = consent(&mut browser, &page, "allow").await;
    assert_eq!(answer.location_param("state"), Some(state));
    assert!(answer.location_param("code").is_some());
}

#[tokio::test]
async fn ac_075_a_code_leads_nowhere_else() {
    let server = TestServer::start().await;
    let ada = server.add_user(ADA, &[]).await;
    give_codes(&server, &ada).await;
    let mut browser = server.browser();
    sign_in(&mut browser, ADA, PASSWORD).await;
    let page = browser.get("/sign-in/code?return_to=https://evil").await;
    assert_eq!(page.field("return_to").as_deref(), Some("/account"));
    let right = code(&server, 0);
    let fields = [("code", right.as_str()), ("return_to", "//evil")];
    let answer = browser.post("/sign-in/code", &fields).await;
    assert_eq!(answer.location(), "/account");
}

#[tokio::test]
async fn a_step_up_asks_for_the_code_of_whoever_is_signed_in() {
    let server = TestServer::start().await;
    let ada = server.add_user(ADA, &[]).await;
    let ben = server.add_user("ben@example.org", &[]).await;
    let mut browser = server.sign_in_as(&ada).await;
    for user in [&ada, &ben] {
        give_codes(&server, user).await;
    }
    // Ben's password was proven here, and his code was never given.
    let given_up = sign_in(&mut browser, "ben@example.org", PASSWORD).await;
    assert!(given_up.location().starts_with("/sign-in/code"));
    assert!(browser.cookie("pending_sign_in").is_some());
    let asked = browser.get("/sign-in?return_to=/x&acr=aal2").await;
    assert_eq!(asked.location(), "/sign-in/code?return_to=%2Fx");
    for (given, status) in [("000000".to_owned(), 401), (code(&server, 0), 200)] {
        let fields = [("code", given.as_str()), ("return_to", "/x")];
        let answer = browser.post("/sign-in/code", &fields).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
    let newest = &history(&server).await;
    assert!(
        newest
            .iter()
            .all(|one| one.user_id.as_ref() != Some(&ben.id))
    );
    let sessions = async |id: &str| {
        let page = server.registry().list_sessions(id, true, None, 9).await;
        page.unwrap().items
    };
    assert_eq!(sessions(&ada.id).await[0].acr, "aal2");
    assert!(sessions(&ben.id).await.is_empty());
    // Whoever goes on as somebody else after all is asked for that one's.
    sign_in(&mut browser, "ben@example.org", PASSWORD).await;
    let other = code(&server, 1);
    browser.post("/sign-in/code", &[("code", &other)]).await;
    assert_eq!(sessions(&ben.id).await.len(), 1);
}
