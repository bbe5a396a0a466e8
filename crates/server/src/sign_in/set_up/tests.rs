use axum::http::StatusCode;
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_domain::people::{Email, RoleName, TokenDigest};
use keywright_domain::pkce::random_token;
use keywright_registry::people::NewInvitation;

use crate::test_support::{Answer, Browser, PASSWORD, TestServer};

const HOUR_MS: i64 = 60 * 60 * 1000;

fn fields(code: &str) -> [(&'static str, String); 4] {
    [
        ("code", code.to_owned()),
        ("name", "Olive Owner".to_owned()),
        ("email", "olive@example.org".to_owned()),
        ("password", PASSWORD.to_owned()),
    ]
}

async fn post(browser: &mut Browser, path: &str, fields: &[(&'static str, String)]) -> Answer {
    let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
    browser.post(path, &fields).await
}

#[tokio::test]
async fn an_empty_server_is_set_up_once_by_the_code_of_the_terminal() {
    let server = TestServer::empty().await;
    let mut browser = server.browser();
    assert_eq!(
        browser.get("/set-up").await.status,
        StatusCode::NOT_FOUND,
        "not opened"
    );
    let code = server.server.open_set_up().await.unwrap().unwrap();
    assert!(code.expose().len() >= 20);
    let page = browser.get("/set-up").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(!page.text.contains(code.expose()));

    // Without the code, the CSRF token, or what makes a person: nothing.
    let mut bare = server.browser();
    let answer = post(&mut bare, "/set-up", &fields(code.expose())).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let answer = post(&mut browser, "/set-up", &fields("wrong")).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(
        answer.field("email").as_deref(),
        Some("olive@example.org"),
        "kept"
    );
    assert!(!answer.text.contains(PASSWORD));
    for (name, bad) in [("name", " "), ("email", "olive"), ("password", "short")] {
        let mut given = fields(code.expose());
        for (own, value) in &mut given {
            if *own == name {
                *value = bad.to_owned();
            }
        }
        let answer = post(&mut browser, "/set-up", &given).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}");
        assert!(answer.text.contains("role=\"alert\""));
    }
    assert!(crate::is_empty(server.registry()).await.unwrap());

    let done = post(&mut browser, "/set-up", &fields(code.expose())).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    assert!(done.text.contains("kw_root_"));
    assert_eq!(done.header("cache-control"), "no-store");
    let session = browser.get("/auth/session").await.json();
    assert_eq!(session["user"]["roles"], serde_json::json!(["owner"]));
    for answer in [
        browser.get("/set-up").await,
        post(&mut browser, "/set-up", &fields(code.expose())).await,
    ] {
        assert!(matches!(
            answer.status,
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN
        ));
        assert!(!answer.text.contains("kw_root_"), "shown once");
    }
    assert!(server.server.open_set_up().await.unwrap().is_none());
    // The root key works without a restart: the pepper was there before the server.
    assert!(server.server.app().peppers().is_some());
}

#[tokio::test]
async fn a_server_with_people_has_no_set_up() {
    let server = TestServer::start().await;
    assert!(server.server.open_set_up().await.unwrap().is_none());
    assert_eq!(
        server.browser().get("/set-up").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn the_code_cannot_be_guessed_at_speed() {
    let server = TestServer::empty().await;
    let code = server.server.open_set_up().await.unwrap().unwrap();
    let mut browser = server.browser();
    browser.get("/set-up").await;
    for _ in 0..10 {
        post(&mut browser, "/set-up", &fields("wrong")).await;
    }
    let answer = post(&mut browser, "/set-up", &fields(code.expose())).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(crate::is_empty(server.registry()).await.unwrap());
    server.pass(60_001);
    let answer = post(&mut browser, "/set-up", &fields(code.expose())).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn two_who_have_the_code_do_not_both_set_up() {
    let server = TestServer::empty().await;
    let code = server.server.open_set_up().await.unwrap().unwrap();
    let mut browser = server.browser();
    browser.get("/set-up").await;
    let tries: Vec<_> = (0..6)
        .map(|n| {
            let (mut browser, mut given) = (browser.clone(), fields(code.expose()));
            given[2].1 = format!("owner{n}@example.org");
            tokio::spawn(async move { post(&mut browser, "/set-up", &given).await })
        })
        .collect();
    let mut shown = 0;
    for one in tries {
        shown += usize::from(one.await.unwrap().text.contains("kw_root_"));
    }
    assert_eq!(shown, 1);
}

async fn invite(server: &TestServer, email: &str) -> (SecretText, String) {
    let token = random_token(&mut rand::rng());
    let new = NewInvitation {
        digest: TokenDigest::of(&token),
        email: Email::new(email).unwrap(),
        roles: vec![RoleName::new("member").unwrap()],
        lifetime_ms: HOUR_MS,
    };
    let actor = Actor::person("test");
    server.registry().invite_user(&actor, &new).await.unwrap();
    let path = format!("/invitations/{}", token.expose());
    (token, path)
}

#[tokio::test]
async fn somebody_invited_gives_name_and_password_and_is_signed_in() {
    let server = TestServer::start().await;
    let (_, path) = invite(&server, "new@example.org").await;
    let mut browser = server.browser();
    let page = browser.get(&path).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("new@example.org"));
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    let good = [("name", "New"), ("password", PASSWORD)];
    let refused = server.browser().post(&path, &good).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "no CSRF token");
    for bad in [
        [("name", ""), ("password", PASSWORD)],
        [("name", "New"), ("password", "short")],
    ] {
        let answer = browser.post(&path, &bad).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(!answer.text.contains(PASSWORD));
    }
    // Address and roles are the invitation's, whatever the form says.
    let more = [
        ("name", "New"),
        ("password", PASSWORD),
        ("email", "evil@example.org"),
        ("roles", "owner"),
    ];
    let answer = browser.post(&path, &more).await;
    assert_eq!(
        (answer.status, answer.location()),
        (StatusCode::SEE_OTHER, "/account"),
        "{}",
        answer.text
    );
    let session = browser.get("/auth/session").await.json();
    assert_eq!(session["user"]["email"], "new@example.org");
    assert_eq!(session["user"]["email_verified"], true);
    assert_eq!(session["user"]["roles"], serde_json::json!(["member"]));
    assert_eq!(browser.get("/account").await.status, StatusCode::OK);
    let again = server.browser().get(&path).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND, "once");
}

#[tokio::test]
async fn an_invitation_that_is_none_is_refused() {
    let server = TestServer::start().await;
    let (_, path) = invite(&server, "late@example.org").await;
    let mut browser = server.browser();
    browser.get(&path).await;
    server.pass(HOUR_MS);
    let long = format!("/invitations/{}", "a".repeat(5_000));
    for path in [path.as_str(), "/invitations/unknown", &long] {
        let page = browser.get(path).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{path:.40}");
        assert!(page.text.contains("invitation_invalid"));
        let answer = browser
            .post(path, &[("name", "x"), ("password", PASSWORD)])
            .await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path:.40}");
    }
}

#[tokio::test]
async fn of_many_who_accept_at_once_one_gets_the_account() {
    let server = TestServer::start().await;
    let (_, path) = invite(&server, "new@example.org").await;
    let mut browser = server.browser();
    browser.get(&path).await;
    let tries: Vec<_> = (0..8)
        .map(|n| {
            let (mut browser, path) = (browser.clone(), path.clone());
            tokio::spawn(async move {
                let name = format!("New {n}");
                let fields = [("name", name.as_str()), ("password", PASSWORD)];
                browser.post(&path, &fields).await.status
            })
        })
        .collect();
    let mut accepted = 0;
    for one in tries {
        accepted += usize::from(one.await.unwrap() == StatusCode::SEE_OTHER);
    }
    assert_eq!(accepted, 1);
}
