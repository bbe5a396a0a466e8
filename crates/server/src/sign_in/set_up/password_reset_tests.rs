use axum::http::{Method, StatusCode};
use keywright_registry::people::User;
use serde_json::json;

use crate::test_support::{Answer, Browser, PASSWORD, TestServer};

const NEW: &str = "an altogether different phrase";

async fn reset(browser: &mut Browser, user: &User) -> Answer {
    let path = format!("/api/v1/users/{}/password-reset", user.id);
    browser.json(Method::POST, &path, &json!({})).await
}

fn path_of(answer: &Answer) -> String {
    let link = answer.json()["link"].as_str().unwrap().to_owned();
    link.strip_prefix("http://127.0.0.1:8377")
        .unwrap()
        .to_owned()
}

async fn choose(server: &TestServer, path: &str, password: &str) -> Answer {
    let mut browser = server.browser();
    // Also where the page of the link is none.
    browser.get("/auth/csrfToken").await;
    browser.post(path, &[("password", password)]).await
}

async fn may_sign_in(server: &TestServer, password: &str) -> bool {
    let body = json!({ "email": "mia@example.org", "password": password });
    let mut browser = server.browser();
    browser
        .json(Method::POST, "/auth/login", &body)
        .await
        .status
        == StatusCode::OK
}

async fn start() -> (TestServer, User, Browser) {
    let server = TestServer::start().await;
    let mia = server.add_user("mia@example.org", &["member"]).await;
    let admin = server.add_user("adam@example.org", &["admin"]).await;
    let admin = server.sign_in_as(&admin).await;
    server.pass(1_000);
    (server, mia, admin)
}

#[tokio::test]
async fn ac_117_an_administrator_resets_a_password_and_a_link_chooses_another_once() {
    let (server, mia, mut admin) = start().await;
    let mut hers = server.sign_in_as(&mia).await;
    assert!(may_sign_in(&server, PASSWORD).await);
    let made = reset(&mut admin, &mia).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert_eq!(made.header("cache-control"), "no-store");
    // Hers, and the one of the sign-in that was tried just now.
    assert_eq!(made.json()["ended_sessions"], 2, "{}", made.text);
    // At once, and not when the link is used.
    assert!(!may_sign_in(&server, PASSWORD).await);
    let over = hers.get("/auth/session").await;
    assert_eq!(over.status, StatusCode::UNAUTHORIZED);
    let path = path_of(&made);
    assert!(!path.contains(&mia.id), "the link tells nothing");

    let mut browser = server.browser();
    let page = browser.get(&path).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("mia@example.org"));
    // Not without our page's token, and not a short one.
    let bare = server.browser().post(&path, &[("password", NEW)]).await;
    assert_eq!(bare.status, StatusCode::FORBIDDEN);
    let short = browser.post(&path, &[("password", "short")]).await;
    assert_eq!(short.status, StatusCode::BAD_REQUEST);
    let done = browser.post(&path, &[("password", NEW)]).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text);
    assert!(done.location().starts_with("/sign-in?"));
    assert!(
        browser.cookie("session").is_none(),
        "nobody is signed in by a link"
    );
    assert!(may_sign_in(&server, NEW).await && !may_sign_in(&server, PASSWORD).await);
    // Once.
    let again = choose(&server, &path, "yet another password").await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    assert!(may_sign_in(&server, NEW).await);
}

#[tokio::test]
async fn fifty_uses_of_one_link_choose_one_password() {
    let (server, mia, mut admin) = start().await;
    let path = path_of(&reset(&mut admin, &mia).await);
    let mut browser = server.browser();
    browser.get(&path).await;
    // Hashing takes its time; the registry decides who is first.
    let tries = (0..8).map(|n| {
        let (mut browser, path) = (browser.clone(), path.clone());
        tokio::spawn(async move {
            let password = format!("{NEW} {n}");
            browser.post(&path, &[("password", &password)]).await.status
        })
    });
    let mut chosen = 0;
    for one in tries.collect::<Vec<_>>() {
        chosen += usize::from(one.await.unwrap() == StatusCode::SEE_OTHER);
    }
    assert_eq!(chosen, 1);
}

#[tokio::test]
async fn links_are_replaced_grow_old_and_are_for_who_may() {
    let (server, mia, mut admin) = start().await;
    let first = path_of(&reset(&mut admin, &mia).await);
    // In the same millisecond.
    let second = path_of(&reset(&mut admin, &mia).await);
    assert_eq!(
        choose(&server, &first, NEW).await.status,
        StatusCode::NOT_FOUND
    );
    // Its day begins with its own moment, a millisecond after the first one's.
    server.pass(24 * 60 * 60 * 1000 + 1);
    assert_eq!(
        choose(&server, &second, NEW).await.status,
        StatusCode::NOT_FOUND
    );
    let forged = format!("{}A", &second[..second.len() - 1]);
    for path in [forged.as_str(), "/password-reset/x", "/password-reset/"] {
        assert_eq!(
            server.browser().get(path).await.status,
            StatusCode::NOT_FOUND
        );
    }

    let mut admin = {
        let adam = server.add_user("eve@example.org", &["admin"]).await;
        server.sign_in_as(&adam).await
    };
    let third = path_of(&reset(&mut admin, &mia).await);
    let actor = keywright_domain::audit::Actor::person("test");
    server
        .registry()
        .disable_user(&actor, &mia.id, "")
        .await
        .unwrap();
    assert_eq!(
        choose(&server, &third, NEW).await.status,
        StatusCode::NOT_FOUND
    );
    let refused = reset(&mut admin, &mia).await;
    assert_eq!(refused.json()["code"], "user_disabled", "{}", refused.text);

    // Nobody takes over an owner, and members reset nobody.
    let owner = server.add_user("olga@example.org", &["owner"]).await;
    let refused = reset(&mut admin, &owner).await;
    assert_eq!(
        refused.json()["code"],
        "person_may_do_more",
        "{}",
        refused.text
    );
    let noah = server.add_user("noah@example.org", &["member"]).await;
    let mut member = server.sign_in_as(&noah).await;
    let refused = reset(&mut member, &owner).await;
    assert_eq!(
        refused.json()["code"],
        "insufficient_scope",
        "{}",
        refused.text
    );
    let path = format!("/api/v1/users/{}/password-reset", noah.id);
    for hours in [0, 73, -1] {
        let body = json!({ "expires_in_hours": hours });
        let refused = admin.json(Method::POST, &path, &body).await;
        assert_eq!(refused.json()["code"], "invalid_lifetime");
    }
}
