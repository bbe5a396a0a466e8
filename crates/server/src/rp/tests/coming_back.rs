use std::sync::atomic::Ordering;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::stub::{SECRET, Stub, UPSTREAM_TOKEN, callback};
use crate::test_support::{Answer, TestServer};

fn set_cookies(answer: &Answer) -> Vec<String> {
    let all = answer.headers.get_all("set-cookie").iter();
    all.map(|value| value.to_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn ac_070_a_login_by_github_ends_at_the_dashboard_with_a_session() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    let ada = server.add_user("ada@example.org", &[]).await;
    stub.add(&server, "github", "github").await;
    let mut browser = server.browser();
    let sent = stub.begin(&mut browser, "github").await;
    assert!(
        sent.location()
            .starts_with(&format!("{}/login/oauth/authorize?", stub.0.base))
    );
    let param = |name: &str| sent.location_param(name).unwrap_or_default();
    assert_eq!(param("client_id"), "our-client");
    assert_eq!(
        param("redirect_uri"),
        "http://127.0.0.1:8377/rp/callback/github"
    );
    assert_eq!(param("scope"), "read:user user:email");
    assert_eq!(
        (
            param("state").len(),
            param("code_challenge_method").as_str()
        ),
        (43, "S256")
    );
    let login = &set_cookies(&sent)[0];
    assert!(login.starts_with("login="), "{login}");
    for part in [
        "HttpOnly",
        "SameSite=Lax",
        "Secure",
        "Path=/",
        "Max-Age=600",
    ] {
        assert!(login.split("; ").any(|own| own == part), "{login}");
    }
    assert!(!login.contains(&param("state")));

    let back = browser.get(&callback("github", &sent, "&code=good")).await;
    assert_eq!(
        (back.status, back.location()),
        (StatusCode::SEE_OTHER, "/dashboard"),
        "{}",
        back.text
    );
    let cookies = set_cookies(&back);
    let session = cookies
        .iter()
        .find(|one| one.starts_with("session="))
        .unwrap();
    for part in ["HttpOnly", "SameSite=Lax", "Secure", "Path=/"] {
        assert!(session.split("; ").any(|own| own == part), "{session}");
    }
    // GitHub needs a User-Agent, and takes the secret in the body.
    assert!(stub.0.user_agent.lock().unwrap().starts_with("Keywright/"));
    let form = stub.0.form.lock().unwrap().clone();
    let field = |name: &str| {
        form.iter()
            .find(|(own, _)| own == name)
            .map(|(_, v)| v.as_str())
    };
    assert_eq!(field("client_secret"), Some(SECRET));
    assert_eq!(
        field("redirect_uri"),
        Some("http://127.0.0.1:8377/rp/callback/github")
    );
    let sessions = server.registry().list_identities(&ada.id).await.unwrap();
    assert_eq!(
        (sessions.len(), sessions[0].subject.as_str()),
        (1, "583231")
    );
    // S67: what the provider gave goes nowhere.
    assert!(!format!("{:?}{}", back.headers, back.text).contains(UPSTREAM_TOKEN));
}

#[tokio::test]
async fn s64_a_login_by_any_openid_issuer_and_by_the_alias() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    server.add_user("ada@example.org", &[]).await;
    stub.add(&server, "corp", "openid").await;
    let mut browser = server.browser();
    let sent = browser
        .get("/auth/signIn/corp?redirectTo=/here%3Fa=1")
        .await;
    stub.note(&sent);
    assert_eq!(
        sent.location_param("redirect_uri").unwrap(),
        "http://127.0.0.1:8377/auth/callback/corp"
    );
    assert_eq!(
        sent.location_param("scope").unwrap(),
        "openid profile email"
    );
    let path = callback("corp", &sent, "&code=good").replace("/rp/", "/auth/");
    let back = browser.get(&path).await;
    assert_eq!(
        (back.status, back.location()),
        (StatusCode::SEE_OTHER, "/here?a=1"),
        "{}",
        back.text
    );
    let header = stub.0.authorization.lock().unwrap().clone();
    let plain = STANDARD
        .decode(header.strip_prefix("Basic ").unwrap())
        .unwrap();
    // RFC 6749 §2.3.1: encoded before base64.
    assert_eq!(
        String::from_utf8(plain).unwrap(),
        "our-client:s3cret%3A%26%2B+of+ours"
    );
    let form = stub.0.form.lock().unwrap().clone();
    assert!(
        !form
            .iter()
            .any(|(name, _)| name == "client_secret" || name == "client_id")
    );
    // Again: the same person, whatever the address says now.
    stub.plan(|plan| {
        plan.claims.insert("email".into(), json!("new@example.org"));
    });
    let back = stub.trip(&mut server.browser(), "corp").await;
    assert_eq!(back.location(), "/dashboard", "{}", back.text);
}

#[tokio::test]
async fn s64_a_public_client_has_pkce_alone() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    server.add_user("ada@example.org", &[]).await;
    stub.add_with(&server, "corp", "openid", |one| one.client_secret = None)
        .await;
    let back = stub.trip(&mut server.browser(), "corp").await;
    assert_eq!(back.location(), "/dashboard", "{}", back.text);
    assert_eq!(*stub.0.authorization.lock().unwrap(), "");
    let form = stub.0.form.lock().unwrap().clone();
    assert!(
        form.iter()
            .any(|(name, value)| name == "client_id" && value == "our-client")
    );
}

#[tokio::test]
async fn ac_071_s62_a_state_in_another_browser_is_refused_and_stays_good_for_its_own() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    server.add_user("ada@example.org", &[]).await;
    stub.add(&server, "corp", "openid").await;
    let mut browser = server.browser();
    let sent = stub.begin(&mut browser, "corp").await;
    let path = callback("corp", &sent, "&code=good");
    let mut victim = server.browser();
    let refused = victim.get(&path).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.text.contains("state_mismatch"), "{}", refused.text);
    assert!(victim.cookie("session").is_none());
    victim.cookies.push(("login".into(), "A".repeat(43)));
    assert!(victim.get(&path).await.text.contains("state_mismatch"));
    assert_eq!(stub.0.exchanges.load(Ordering::SeqCst), 0);
    assert_eq!(browser.get(&path).await.location(), "/dashboard");
}

#[tokio::test]
async fn ac_072_a_state_that_is_unknown_or_ten_minutes_old_is_refused() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    stub.add(&server, "corp", "openid").await;
    let mut browser = server.browser();
    let sent = stub.begin(&mut browser, "corp").await;
    let made_up = browser.get("/rp/callback/corp?code=good&state=none").await;
    assert_eq!(made_up.status, StatusCode::BAD_REQUEST);
    assert!(made_up.text.contains("state_unknown"));
    let missing = browser.get("/rp/callback/corp?code=good").await;
    assert!(missing.text.contains("state_missing"));
    server.pass(600_000);
    let late = browser.get(&callback("corp", &sent, "&code=good")).await;
    assert_eq!(late.status, StatusCode::BAD_REQUEST);
    assert!(late.text.contains("state_unknown"), "{}", late.text);
    assert_eq!(stub.0.exchanges.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ac_073_s62_fifty_parallel_uses_of_one_state_make_one_session() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    server.add_user("ada@example.org", &[]).await;
    stub.add(&server, "corp", "openid").await;
    let mut browser = server.browser();
    let sent = stub.begin(&mut browser, "corp").await;
    let path = callback("corp", &sent, "&code=good");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (mut browser, path) = (browser.clone(), path.clone());
        tasks.spawn(async move { browser.get(&path).await });
    }
    let answers = tasks.join_all().await;
    let good = answers
        .iter()
        .filter(|one| one.status == StatusCode::SEE_OTHER);
    assert_eq!(good.count(), 1);
    let rest = answers
        .iter()
        .filter(|one| one.text.contains("state_unknown"));
    assert_eq!(rest.count(), 49);
    assert_eq!(stub.0.exchanges.load(Ordering::SeqCst), 1);
    // AC-007 of this side: later, too.
    assert!(browser.get(&path).await.text.contains("state_unknown"));
}

#[tokio::test]
async fn ac_074_a_state_of_one_provider_is_refused_at_another() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    stub.add(&server, "github", "github").await;
    stub.add(&server, "google", "openid").await;
    let mut browser = server.browser();
    let sent = stub.begin(&mut browser, "github").await;
    let answer = browser.get(&callback("google", &sent, "&code=good")).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.text.contains("provider_mismatch"), "{}", answer.text);
    assert_eq!(stub.0.exchanges.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn ac_075_a_target_elsewhere_becomes_ours_and_is_written_down() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    server.add_user("ada@example.org", &[]).await;
    stub.add(&server, "corp", "openid").await;
    let targets = [
        "//evil",
        "https://evil",
        "/%5Cevil",
        "javascript:alert(1)",
        "/%255cevil",
    ];
    for target in targets {
        let mut browser = server.browser();
        let sent = browser
            .get(&format!("/rp/authorize?idp=corp&redirect_uri={target}"))
            .await;
        stub.note(&sent);
        let back = browser.get(&callback("corp", &sent, "&code=good")).await;
        assert_eq!(back.location(), "/account", "{target}");
    }
    let history = server
        .registry()
        .list_sign_ins(None, None, 100)
        .await
        .unwrap();
    let refused = history
        .items
        .iter()
        .filter(|one| one.outcome == "redirect_refused");
    assert_eq!(refused.count(), targets.len());
}

#[tokio::test]
async fn ac_079_an_unknown_and_a_disabled_provider_look_alike() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    stub.add_with(&server, "off", "openid", |one| one.enabled = false)
        .await;
    let mut texts = Vec::new();
    for id in ["none", "off"] {
        for path in [
            format!("/rp/authorize?idp={id}"),
            format!("/rp/callback/{id}?state=x&code=y"),
            format!("/auth/signIn/{id}"),
        ] {
            let answer = server.browser().get(&path).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
            texts.push(answer.text.replace(id, "ID"));
        }
    }
    assert_eq!(texts[..3], texts[3..]);
    assert_eq!(
        server.browser().get("/rp/authorize").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn two_tabs_do_not_end_each_others_trip() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    server.add_user("ada@example.org", &[]).await;
    stub.add(&server, "corp", "openid").await;
    let mut browser = server.browser();
    let first = stub.begin(&mut browser, "corp").await;
    let second = browser.get("/rp/authorize?idp=corp").await;
    assert_ne!(
        first.location_param("state"),
        second.location_param("state")
    );
    assert_ne!(
        first.location_param("nonce"),
        second.location_param("nonce")
    );
    let back = browser.get(&callback("corp", &first, "&code=good")).await;
    assert_eq!(back.location(), "/dashboard", "{}", back.text);
    stub.note(&second);
    let back = browser.get(&callback("corp", &second, "&code=good")).await;
    assert_eq!(back.location(), "/account", "{}", back.text);
    // Each once.
    for sent in [&first, &second] {
        let again = browser.get(&callback("corp", sent, "&code=good")).await;
        assert_eq!(again.status, StatusCode::BAD_REQUEST);
        assert!(again.text.contains("state_unknown"), "{}", again.text);
    }
    // Nor does one that was given up.
    let mut browser = server.browser();
    let first = stub.begin(&mut browser, "corp").await;
    let second = stub.begin(&mut browser, "corp").await;
    let given_up = browser
        .get(&callback("corp", &first, "&error=access_denied"))
        .await;
    assert!(given_up.text.contains("idp_access_denied"));
    let back = browser.get(&callback("corp", &second, "&code=good")).await;
    assert_eq!(back.location(), "/dashboard", "{}", back.text);
}

#[tokio::test]
async fn trips_of_one_source_are_limited() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    stub.add(&server, "corp", "openid").await;
    let mut browser = server.browser();
    for _ in 0..120 {
        stub.begin(&mut browser, "corp").await;
    }
    let answer = browser.get("/rp/authorize?idp=corp").await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    let told = format!("Wait {seconds} seconds");
    assert!(
        seconds > 0 && answer.text.contains(&told),
        "{}",
        answer.text
    );
    server.pass(600_000);
    stub.begin(&mut browser, "corp").await;
}

#[tokio::test]
async fn trips_that_fail_are_counted() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    stub.add(&server, "github", "github").await;
    let mut browser = server.browser();
    let sent = stub.begin(&mut browser, "github").await;
    let more = "&error=access_denied";
    browser.get(&callback("github", &sent, more)).await;
    let text = server.server.app().operations.metrics.text();
    let line = |line: &&str| line.contains("provider") && line.contains("failure");
    let line = text.lines().find(line).unwrap_or_default();
    assert!(line.ends_with(" 1"), "{text}");
}

#[tokio::test]
async fn a_trip_without_a_target_and_one_that_fails_end_at_pages_that_are_there() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    server.add_user("ada@example.org", &[]).await;
    stub.add(&server, "corp", "openid").await;
    let mut browser = server.browser();
    let sent = browser.get("/rp/authorize?idp=corp").await;
    stub.note(&sent);
    let back = browser.get(&callback("corp", &sent, "&code=good")).await;
    assert_eq!(back.location(), "/account", "{}", back.text);
    let page = browser.get(back.location()).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    // No transaction, no provider: the way back is the sign-in page, and from there the same page.
    for path in ["/rp/callback/corp?state=x&code=y", "/rp/authorize?idp=none"] {
        let failed = server.browser().get(path).await;
        assert!(failed.status.is_client_error(), "{path}");
        let way = "href=\"/sign-in?return_to=%2Faccount\"";
        assert!(failed.text.contains(way), "{path} {}", failed.text);
    }
}
