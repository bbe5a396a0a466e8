use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::json;

use super::stub::{Stub, UPSTREAM_TOKEN, callback};
use crate::oauth2::testing;
use crate::settings::SameSite;
use crate::test_support::{Answer, Browser, START, TestServer};

/// Where the sign-in page, asked to prove it again, sends a browser that goes by a provider.
async fn again(stub: &Stub, browser: &mut Browser, id: &str) -> Answer {
    let page = browser.get("/sign-in?return_to=/dashboard&again=1").await;
    let link = format!("/rp/authorize?idp={id}&amp;redirect_uri=%2Fdashboard&amp;again=1");
    assert!(page.text.contains(&link), "{}", page.text);
    let sent = browser.get(&link.replace("&amp;", "&")).await;
    stub.note(&sent);
    sent
}

#[tokio::test]
async fn s41_a_new_proof_is_asked_for_at_the_provider_too() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    let ada = server.add_user("ada@example.org", &[]).await;
    stub.add(&server, "corp", "openid").await;
    stub.add(&server, "github", "github").await;
    let mut browser = server.sign_in_as(&ada).await;
    let sent = again(&stub, &mut browser, "corp").await;
    assert_eq!(sent.location_param("prompt").as_deref(), Some("login"));
    assert_eq!(sent.location_param("max_age").as_deref(), Some("0"));
    let sent = again(&stub, &mut browser, "github").await;
    assert_eq!(
        sent.location_param("prompt").as_deref(),
        Some("select_account")
    );
    assert_eq!(sent.location_param("max_age"), None);
    // An ordinary trip asks for nothing of the kind.
    let sent = stub.begin(&mut server.browser(), "corp").await;
    assert_eq!(sent.location_param("prompt"), None);

    let now = START / 1000;
    for (auth_time, good) in [
        (json!(now), true),
        (json!(now - 20), true),
        (json!(now - 3_600), false),
        // It does not say, and was asked.
        (json!(null), true),
    ] {
        stub.plan(|plan| {
            plan.claims.insert("auth_time".into(), auth_time.clone());
        });
        let mut browser = server.sign_in_as(&ada).await;
        let sent = again(&stub, &mut browser, "corp").await;
        let back = browser.get(&callback("corp", &sent, "&code=good")).await;
        assert_eq!(
            back.location() == "/dashboard",
            good,
            "{auth_time} {}",
            back.text
        );
        assert_eq!(
            back.text.contains("idp_proof_too_old"),
            !good,
            "{}",
            back.text
        );
    }
    // Where no new proof was asked for, an old one is what it always was.
    stub.plan(|plan| {
        plan.claims.insert("auth_time".into(), json!(now - 3_600));
    });
    let back = stub.trip(&mut server.browser(), "corp").await;
    assert_eq!(back.location(), "/dashboard", "{}", back.text);
}

#[tokio::test]
async fn s65_linking_works_with_strict_cookies_too() {
    let server = TestServer::with(|settings| settings.same_site = SameSite::Strict).await;
    let stub = Stub::start().await;
    let ben = server.add_user("ben@example.org", &[]).await;
    stub.add(&server, "corp", "openid").await;
    let mut browser = server.sign_in_as(&ben).await;
    let asked = browser.get("/rp/link?idp=corp").await;
    let token = asked.field("csrf_token").unwrap();
    let page = browser
        .post("/rp/link", &[("idp", "corp"), ("csrf_token", &token)])
        .await;
    let to_provider = page
        .header("refresh")
        .split_once("url=")
        .unwrap()
        .1
        .to_owned();
    let mut headers = page.headers.clone();
    headers.insert("location", to_provider.parse().unwrap());
    let sent = Answer {
        status: page.status,
        headers,
        text: String::new(),
    };
    stub.note(&sent);
    let path = callback("corp", &sent, "&code=good");
    // From the provider the browser comes without its strict cookies.
    let mut from_elsewhere = browser.clone();
    from_elsewhere.cookies.retain(|(name, _)| name == "login");
    let cross = [("sec-fetch-site", "cross-site")];
    let first = from_elsewhere
        .send(Method::GET, &path, &cross, Body::empty())
        .await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text);
    let next = first.header("refresh").split_once("url=").unwrap().1;
    assert_eq!(next, format!("http://127.0.0.1:8377{path}"));
    assert_eq!(first.header("cache-control"), "no-store");
    // From our own page it comes with them, and the state is good still.
    let own = [("sec-fetch-site", "same-origin")];
    let back = browser.send(Method::GET, &path, &own, Body::empty()).await;
    assert_eq!(back.location(), "/account/sign-in", "{}", back.text);
    let linked = server.registry().list_identities(&ben.id).await.unwrap();
    assert_eq!(linked.len(), 1);
    // And never a second time.
    let again = browser.send(Method::GET, &path, &own, Body::empty()).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn s67_what_a_provider_gave_goes_to_nobody() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    server.add_user("ada@example.org", &[]).await;
    server.add_client("app", None, |_| {}).await;
    stub.add(&server, "corp", "openid").await;
    stub.add(&server, "github", "github").await;
    for id in ["corp", "github"] {
        let mut browser = server.browser();
        let mut seen = Vec::new();
        let back = stub.trip(&mut browser, id).await;
        assert_eq!(back.location(), "/dashboard", "{}", back.text);
        let upstream_id_token = {
            let plan = stub.0.plan.lock().unwrap().clone();
            stub.id_token(&plan)
        };
        seen.push(back);
        // A client of ours gets our tokens, about the same person, and nothing of the provider's.
        let code = testing::code(&mut browser, &[]).await;
        let tokens = testing::exchange(&server, &code, &[]).await;
        assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.text);
        let access = testing::text(&tokens, "access_token");
        let claims = testing::part(&testing::text(&tokens, "id_token"), 1);
        assert_eq!(claims["iss"], testing::ISSUER);
        assert_ne!(claims["sub"], "sub-1", "a subject of ours");
        let claims = format!("{claims}{}", testing::part(&access, 1));
        seen.push(testing::userinfo(&server, &access).await);
        seen.push(tokens);
        for path in [
            "/auth/session",
            "/account",
            "/account/sign-in",
            "/account/history",
        ] {
            seen.push(browser.get(path).await);
        }
        for answer in &seen {
            let text = format!("{:?} {}", answer.headers, answer.text);
            for secret in [UPSTREAM_TOKEN, &upstream_id_token] {
                assert!(!text.contains(secret), "{id}: {text}");
            }
        }
        assert!(!claims.contains("upstream"), "{claims}");
    }
    // Nor is it kept: neither the database nor its log holds it.
    server.registry().close().await;
    let mut bytes = 0;
    for file in server.files() {
        let content = std::fs::read(&file).unwrap();
        bytes += content.len();
        let found = content
            .windows(UPSTREAM_TOKEN.len())
            .any(|part| part == UPSTREAM_TOKEN.as_bytes());
        assert!(!found, "{}", file.display());
    }
    assert!(bytes > 10_000, "nothing was looked at");
}

#[tokio::test]
async fn a_new_proof_by_a_provider_goes_on_in_the_session_that_is_there() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    server.add_client("app", None, |_| {}).await;
    let ada = server.add_user("ada@example.org", &[]).await;
    let ben = server.add_user("ben@example.org", &[]).await;
    stub.add(&server, "corp", "openid").await;
    let mut browser = server.sign_in_as(&ada).await;
    let code = testing::code(&mut browser, &[]).await;
    let tokens = testing::exchange(&server, &code, &[]).await;
    let before = browser.cookie("session").unwrap().to_owned();
    server.pass(1_000);
    let sent = again(&stub, &mut browser, "corp").await;
    let back = browser.get(&callback("corp", &sent, "&code=good")).await;
    assert_eq!(back.location(), "/dashboard", "{}", back.text);
    assert_ne!(browser.cookie("session").unwrap(), before, "AC-107");
    let sessions = server.registry().list_sessions(&ada.id, true, None, 9);
    let sessions = sessions.await.unwrap().items;
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].authenticated_at, START + 1_000);
    assert_eq!(&*sessions[0].amr, "fed");
    // What the application was given in it is good still.
    let token = testing::text(&tokens, "refresh_token");
    let next = testing::refresh(&server, &token, &[]).await;
    assert_eq!(next.status, StatusCode::OK, "{}", next.text);
    // Another person's session ends.
    let mut other = server.sign_in_as(&ben).await;
    let sent = again(&stub, &mut other, "corp").await;
    other.get(&callback("corp", &sent, "&code=good")).await;
    let left = server.registry().list_sessions(&ben.id, false, None, 9);
    assert!(
        left.await
            .unwrap()
            .items
            .iter()
            .all(|one| one.ended_at.is_some())
    );
}
