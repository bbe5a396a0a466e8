use axum::http::StatusCode;

use crate::oauth2::dpop::tests::ClientKey;
use crate::oauth2::introspect::tests::{SECRET, post_as};
use crate::oauth2::testing::{self, text};
use crate::test_support::{Answer, TestServer};

fn fields<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let base = [
        ("client_id", "conf"),
        ("redirect_uri", testing::REDIRECT),
        ("response_type", "code"),
        ("scope", "openid email"),
        ("state", "abc"),
        ("code_challenge", testing::CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    let kept = base
        .into_iter()
        .filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    kept.chain(
        changes
            .iter()
            .copied()
            .filter(|(_, value)| !value.is_empty()),
    )
    .collect()
}

async fn push(server: &TestServer, changes: &[(&str, &str)]) -> Answer {
    post_as(server, "conf", "/oauth2/par", &fields(changes)).await
}

async fn start() -> TestServer {
    let server = TestServer::start().await;
    server.add_client("conf", Some(SECRET), |_| {}).await;
    server.add_client("app", None, |_| {}).await;
    server
}

fn authorize_path(client: &str, uri: &str) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", client)
        .append_pair("request_uri", uri)
        .finish();
    format!("/oauth2/authorize?{query}")
}

#[tokio::test]
async fn s57_a_pushed_request_is_good_once_and_for_its_client() {
    let server = start().await;
    let answer = push(&server, &[]).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.json()["expires_in"], 90);
    let uri = text(&answer, "request_uri");
    assert!(uri.starts_with("urn:ietf:params:oauth:request_uri:") && uri.len() > 70);
    let user = server.add_user("ann@example.org", &[]).await;
    let mut browser = server.sign_in_as(&user).await;
    let foreign = browser.get(&authorize_path("app", &uri)).await;
    assert_eq!(foreign.status, StatusCode::BAD_REQUEST, "another client's");
    let page = browser.get(&authorize_path("conf", &uri)).await;
    let sent = testing::consent(&mut browser, &page, "allow").await;
    assert!(sent.location_param("code").is_some(), "{}", sent.location());
    assert_eq!(sent.location_param("state").as_deref(), Some("abc"));
    let again = browser.get(&authorize_path("conf", &uri)).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST, "used");
    let late = text(&push(&server, &[]).await, "request_uri");
    server.pass(90_000);
    let late = browser.get(&authorize_path("conf", &late)).await;
    assert_eq!(late.status, StatusCode::BAD_REQUEST, "expired");
}

#[tokio::test]
async fn s57_a_pushed_request_is_checked_as_any_other() {
    let server = start().await;
    for (changes, error) in [
        (("request_uri", "urn:x"), "invalid_request"),
        (("request", "x.y.z"), "request_not_supported"),
        (("redirect_uri", "https://evil.example/"), "invalid_request"),
        (("redirect_uri", ""), "invalid_request"),
        (("response_type", "token"), "unsupported_response_type"),
        (("code_challenge", ""), "invalid_request"),
        (("scope", "users:write"), "invalid_scope"),
        (("client_id", "app"), "invalid_request"),
    ] {
        let answer = push(&server, &[changes]).await;
        assert_eq!(testing::error(&answer), error, "{changes:?}");
    }
    let nobody = server.browser().post("/oauth2/par", &fields(&[])).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn s57_s58_a_proof_with_it_binds_the_code() {
    let server = start().await;
    let key = ClientKey::new();
    let push = async |jti: &str, jkt: &str| {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields(&[("client_id", "app"), ("dpop_jkt", jkt)]));
        let proof = key.proof(jti, "POST", "/oauth2/par", None);
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("dpop", proof.as_str()),
        ];
        let body = axum::body::Body::from(form.finish());
        let mut client = server.browser();
        client
            .send(axum::http::Method::POST, "/oauth2/par", &headers, body)
            .await
    };
    let other = ClientKey::new().jkt();
    let mixed = push("1", &other).await;
    assert_eq!(testing::error(&mixed), "invalid_dpop_proof");
    assert_eq!(push("2", &key.jkt()).await.status, StatusCode::CREATED);
    let uri = text(&push("3", "").await, "request_uri");
    let user = server.add_user("ann@example.org", &[]).await;
    let mut browser = server.sign_in_as(&user).await;
    let page = browser.get(&authorize_path("app", &uri)).await;
    let sent = testing::consent(&mut browser, &page, "allow").await;
    let code = sent.location_param("code").unwrap();
    let unproven = testing::exchange(&server, &code, &[]).await;
    assert_eq!(testing::error(&unproven), "invalid_grant");
}

#[tokio::test]
async fn s57_in_a_public_clients_name_so_many_are_pushed_and_no_more() {
    let server = start().await;
    let as_app = [("client_id", "app")];
    let push_public = async || {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields(&as_app));
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let body = axum::body::Body::from(form.finish());
        let mut client = server.browser();
        let method = axum::http::Method::POST;
        client.send(method, "/oauth2/par", &headers, body).await
    };
    for _ in 0..60 {
        assert_eq!(push_public().await.status, StatusCode::CREATED);
    }
    let many = push_public().await;
    assert_eq!(many.status, StatusCode::TOO_MANY_REQUESTS, "{}", many.text);
    // Who proves itself is known, and one of its servers pushes for all its people.
    for _ in 0..61 {
        assert_eq!(push(&server, &[]).await.status, StatusCode::CREATED);
    }
    server.pass(60_000);
    assert_eq!(push_public().await.status, StatusCode::CREATED);
}
