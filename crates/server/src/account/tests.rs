use axum::http::{Method, StatusCode};
use keywright_registry::people::NewSignIn;
use serde_json::json;

use crate::browser_session::{self, Proof};
use crate::http::{Cookies, Peer};
use crate::sessions::tests::give_access;
use crate::test_support::{Browser, TestServer};
use crate::webhooks::testing::verdict;

async fn session_id(browser: &mut Browser) -> String {
    let list = browser.get("/api/v1/sessions").await.json();
    let items = list["items"].as_array().unwrap();
    let own = items.iter().find(|one| one["current"] == true).unwrap();
    own["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn whoever_is_not_signed_in_signs_in_first_and_comes_back() {
    let server = TestServer::with(|settings| {
        let folder = settings.data.clone();
        *settings = crate::settings::Settings::new("http://127.0.0.1:8377/id", folder).unwrap();
    })
    .await;
    let mut browser = server.browser();
    for path in ["/id/account", "/id/account/history?cursor=x"] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}");
        assert!(
            answer.location().starts_with("/id/sign-in?"),
            "{}",
            answer.location()
        );
        assert_eq!(answer.location_param("return_to").as_deref(), Some(path));
    }
    let answer = browser.post("/id/account/end-others", &[]).await;
    assert_eq!(
        answer.location_param("return_to").as_deref(),
        Some("/id/account")
    );
}

#[tokio::test]
async fn ac_113_the_page_shows_where_one_is_signed_in_and_escapes_what_browsers_say() {
    let server = TestServer::start().await;
    let user = server.add_user("ada@example.org", &["member"]).await;
    let mut browser = server.sign_in_as(&user).await;
    server.pass(1_000);
    let peer = Peer {
        address: "192.0.2.9".parse().unwrap(),
        user_agent: "<script>alert(1)</script>".into(),
    };
    let proof = Proof {
        amr: "pwd otp mfa",
        acr: "aal2",
        method: "password",
        identifier: "ada",
        proven_at: Some(server.server.app().now()),
    };
    let app = server.server.app();
    browser_session::begin(app, &Cookies::default(), &peer, &user.id, &proof)
        .await
        .unwrap();
    let page = browser.get("/account").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(
        page.header("content-security-policy")
            .contains("frame-ancestors 'none'")
    );
    for text in [
        "This device",
        "&lt;script&gt;",
        "192.0.2.9",
        "15 Jan 2027, 08:00",
        "password, one-time code, two factors",
        "A new device signed in",
        "aria-current=\"page\"",
    ] {
        assert!(page.text.contains(text), "{text}");
    }
    assert!(!page.text.contains("<script>alert"));
    assert_eq!(page.text.matches("<h1").count(), 1);
    let own = server
        .sign_in_as(&server.add_user("eve@example.org", &[]).await)
        .await
        .get("/account")
        .await;
    assert!(!own.text.contains("192.0.2.9"));
}

#[tokio::test]
async fn ac_114_sessions_end_from_the_page() {
    let server = TestServer::start().await;
    let user = server.add_user("ada@example.org", &[]).await;
    let mut browser = server.sign_in_as(&user).await;
    let (mut two, mut three) = (
        server.sign_in_as(&user).await,
        server.sign_in_as(&user).await,
    );
    let mut eve = server
        .sign_in_as(&server.add_user("eve@example.org", &[]).await)
        .await;
    let id = session_id(&mut two).await;
    let path = format!("/account/sessions/{id}/end");
    assert_eq!(eve.post(&path, &[]).await.status, StatusCode::NOT_FOUND);
    let mut bare = browser.clone();
    bare.cookies.retain(|(name, _)| name != "csrf_token");
    for target in [
        path.as_str(),
        "/account/end-others",
        "/account/end-everything",
        "/account/applications/x/remove",
    ] {
        assert_eq!(
            bare.post(target, &[]).await.status,
            StatusCode::FORBIDDEN,
            "{target}"
        );
    }
    assert_eq!(two.get("/auth/session").await.status, StatusCode::OK);

    let answer = browser.post(&path, &[]).await;
    assert_eq!(
        (answer.status, answer.location()),
        (StatusCode::SEE_OTHER, "/account?done=session")
    );
    let page = browser.get(answer.location()).await;
    assert!(
        page.text.contains("15 Jan 2027, 08:15 UTC at the latest"),
        "when access really ends"
    );
    assert_eq!(
        two.get("/auth/session").await.json()["code"],
        "session_revoked"
    );
    assert_eq!(three.get("/auth/session").await.status, StatusCode::OK);

    browser.post("/account/end-others", &[]).await;
    assert_eq!(
        three.get("/auth/session").await.json()["code"],
        "session_revoked"
    );
    let page = browser.get("/account/end-everything").await;
    assert!(page.text.contains("End everything?"));
    assert_eq!(
        browser.get("/auth/session").await.status,
        StatusCode::OK,
        "asked first"
    );
    let mut old = browser.clone();
    let answer = browser.post("/account/end-everything", &[]).await;
    assert_eq!(answer.location(), "/account/ended");
    assert!(browser.cookie("session").is_none());
    assert_eq!(
        old.get("/auth/session").await.json()["code"],
        "session_revoked"
    );
    assert_eq!(browser.get("/account/ended").await.status, StatusCode::OK);
}

#[tokio::test]
async fn applications_are_shown_and_removed() {
    let server = TestServer::start().await;
    let user = server.add_user("ada@example.org", &[]).await;
    let mut browser = server.sign_in_as(&user).await;
    let page = browser.get("/account/applications").await;
    assert!(page.text.contains("No application has access"));
    server
        .add_client("app", None, |new| new.name = "<b>Sheets".into())
        .await;
    give_access(&server, &user, None, "app", "openid account").await;
    let page = browser.get("/account/applications").await;
    assert!(page.text.contains("&lt;b&gt;Sheets") && page.text.contains("account, openid"));
    let answer = browser.post("/account/applications/app/remove", &[]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let page = browser.get(answer.location()).await;
    assert!(page.text.contains("No application has access") && page.text.contains("08:15 UTC"));
}

#[tokio::test]
async fn ac_184_the_history_shows_failures_and_goes_on() {
    let server = TestServer::start().await;
    let user = server.add_user("ada@example.org", &[]).await;
    let mut browser = server.sign_in_as(&user).await;
    for n in 0..60 {
        server.pass(1_000);
        let failed = NewSignIn {
            user_id: Some(user.id.clone()),
            identifier: "ada@example.org".into(),
            method: "password".into(),
            failure: Some("wrong_password".into()),
            network: format!("192.0.2.{n}"),
            user_agent: "Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0".into(),
            session_id: None,
            device: None,
        };
        server.registry().record_sign_in(&failed).await.unwrap();
    }
    let page = browser.get("/account/history").await;
    assert_eq!(page.text.matches("Refused").count(), 50);
    assert!(page.text.contains("Firefox 128 on Linux") && page.text.contains("192.0.2.59"));
    let link = page.text.split("/account/history?cursor=").nth(1).unwrap();
    let cursor = link.split('"').next().unwrap();
    let older = browser
        .get(&format!("/account/history?cursor={cursor}"))
        .await;
    assert_eq!(older.text.matches("Refused").count(), 10);
    assert!(older.text.contains("Signed in"));
}

/// A key of whoever is signed in: its id and its text.
async fn issue(browser: &mut Browser, name: &str) -> (String, String) {
    let body = json!({ "name": name, "prefix": "sk_live", "scopes": ["keys:read"] });
    let made = browser.json(Method::POST, "/api/v1/keys", &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let made = made.json();
    let text = made["secret"].as_str().unwrap().to_owned();
    (made["key"]["id"].as_str().unwrap().to_owned(), text)
}

#[tokio::test]
async fn ones_own_keys_are_listed_and_revoked_with_a_reason() {
    let server = TestServer::start().await;
    let user = server.add_user("ada@example.org", &["member"]).await;
    let mut browser = server.sign_in_as(&user).await;
    let empty = browser.get("/account/api-keys").await;
    assert!(
        empty.text.contains("You have no API keys"),
        "{}",
        empty.text
    );
    let (id, text) = issue(&mut browser, "<b>Nightly").await;
    let (other, kept) = issue(&mut browser, "Kept").await;
    // An administrator sees everybody's keys elsewhere, and only their own here.
    let admin = server.add_user("adam@example.org", &["owner"]).await;
    let mut admin = server.sign_in_as(&admin).await;
    assert!(
        admin
            .get("/account/api-keys")
            .await
            .text
            .contains("You have no API keys")
    );

    server.pass(60_000);
    assert_eq!(verdict(&server, &kept).await, "valid");
    let page = browser.get("/account/api-keys").await;
    assert_eq!(page.status, StatusCode::OK);
    let four = &text[text.len() - 4..];
    for shown in [
        "&lt;b&gt;Nightly",
        four,
        "keys:read",
        "Active",
        "15 Jan 2027, 08:00",
        "15 Apr 2027",
    ] {
        assert!(page.text.contains(shown), "{shown}: {}", page.text);
    }
    assert!(!page.text.contains(&text), "the secret itself is nowhere");
    assert!(page.text.contains("aria-current=\"page\">API keys"));

    let path = format!("/account/api-keys/{id}/revoke");
    let asked = browser.get(&path).await;
    assert!(
        asked.text.contains("Revoke “&lt;b&gt;Nightly”?"),
        "{}",
        asked.text
    );
    let reason = [("reason", "laptop <stolen>")];
    for (who, fields, status) in [
        (&mut admin.clone(), &reason[..], StatusCode::NOT_FOUND),
        (
            &mut browser.clone(),
            &[("reason", "  ")][..],
            StatusCode::BAD_REQUEST,
        ),
        (&mut browser.clone(), &[][..], StatusCode::BAD_REQUEST),
        (
            &mut browser.clone(),
            &[("reason", "x"), ("csrf_token", "AAAA")][..],
            StatusCode::FORBIDDEN,
        ),
    ] {
        let refused = who.post(&path, fields).await;
        assert_eq!(refused.status, status, "{}", refused.text);
    }
    assert_eq!(admin.get(&path).await.status, StatusCode::NOT_FOUND);
    let long = "x".repeat(501);
    let refused = browser.post(&path, &[("reason", &long)]).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(verdict(&server, &text).await, "valid");

    for _ in 0..2 {
        let done = browser.post(&path, &reason).await;
        assert_eq!(
            (done.status, done.location()),
            (StatusCode::SEE_OTHER, "/account/api-keys?done=revoked")
        );
    }
    assert_eq!(verdict(&server, &text).await, "key_revoked");
    assert_eq!(verdict(&server, &kept).await, "valid");
    let page = browser.get("/account/api-keys?done=revoked").await;
    assert!(
        page.text.contains("laptop &lt;stolen&gt;") && page.text.contains("The key is revoked")
    );
    assert!(!page.text.contains(&path), "nothing is left to revoke");
    assert!(
        page.text
            .contains(&format!("/account/api-keys/{other}/revoke"))
    );
}

#[tokio::test]
async fn many_keys_are_shown_by_the_page() {
    let server = TestServer::start().await;
    let user = server.add_user("ada@example.org", &["member"]).await;
    let mut browser = server.sign_in_as(&user).await;
    for n in 0..53 {
        server.pass(1);
        issue(&mut browser, &format!("key {n:02}")).await;
    }
    let page = browser.get("/account/api-keys").await;
    assert!(page.text.contains("key 52") && !page.text.contains("key 02"));
    let link = page.text.split("/account/api-keys?cursor=").nth(1).unwrap();
    let cursor = link.split('"').next().unwrap().replace("&amp;", "&");
    let older = browser
        .get(&format!("/account/api-keys?cursor={cursor}"))
        .await;
    assert!(
        older.text.contains("key 02") && !older.text.contains("key 03"),
        "{}",
        older.text
    );
}
