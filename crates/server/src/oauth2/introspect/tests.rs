use axum::body::Body;
use axum::http::{Method, StatusCode};
use keywright_domain::audit::Actor;
use keywright_domain::people::OAuthScopes;

use crate::oauth2::testing::{self, basic, text};
use crate::test_support::{Answer, Browser, TestServer};

pub(crate) const SECRET: &str = "a secret of 128 bits";

/// A server with a public client `app`, its own resource server `api`, a stranger `other`, and tokens
/// of a person.
pub(crate) async fn start() -> (TestServer, Browser, Answer) {
    let server = TestServer::start().await;
    server.add_client("app", None, |_| {}).await;
    server
        .add_client("api", Some(SECRET), |new| {
            new.scopes = OAuthScopes::parse("tokens:introspect").unwrap();
        })
        .await;
    server.add_client("other", Some(SECRET), |_| {}).await;
    let user = server.add_user("ann@example.org", &[]).await;
    let mut browser = server.sign_in_as(&user).await;
    let code = testing::code(&mut browser, &[]).await;
    let answer = testing::exchange(&server, &code, &[]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    (server, browser, answer)
}

/// A form as a client with [`SECRET`].
pub(crate) async fn post_as(
    server: &TestServer,
    client: &str,
    path: &str,
    fields: &[(&str, &str)],
) -> Answer {
    let authorization = basic(client, SECRET);
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("authorization", authorization.as_str()),
    ];
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let mut browser = server.browser();
    browser
        .send(Method::POST, path, &headers, Body::from(form))
        .await
}

pub(crate) async fn introspect(server: &TestServer, client: &str, token: &str) -> Answer {
    post_as(server, client, "/oauth2/introspect", &[("token", token)]).await
}

pub(crate) async fn is_active(server: &TestServer, token: &str) -> bool {
    let answer = introspect(server, "api", token).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json()["active"].as_bool().unwrap()
}

const INACTIVE: &str = "{\"active\":false}";

#[tokio::test]
async fn s33_s35_ac_096_who_may_know_hears_what_the_token_is() {
    let (server, _, tokens) = start().await;
    let token = text(&tokens, "access_token");
    let answer = introspect(&server, "api", &token).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let body = answer.json();
    assert_eq!(body["active"], true);
    assert_eq!(body["client_id"], "app");
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["iss"], testing::ISSUER);
    assert_eq!(body["scope"], "email offline_access openid profile");
    for member in ["sub", "aud", "exp", "iat", "jti"] {
        assert!(!body[member].is_null(), "{member}");
    }
    // AC-096, S5: no proof, no answer.
    let fields = [("token", token.as_str())];
    let nobody = server.browser().post("/oauth2/introspect", &fields).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    let fields = [("token", token.as_str()), ("client_id", "app")];
    let public = server.browser().post("/oauth2/introspect", &fields).await;
    assert_eq!(public.status, StatusCode::UNAUTHORIZED);
    assert_eq!(public.json()["error"], "invalid_client");
    let get = server.browser().get("/oauth2/introspect?token=x").await;
    assert_eq!(get.status, StatusCode::METHOD_NOT_ALLOWED);
    let without = post_as(&server, "api", "/oauth2/introspect", &[]).await;
    assert_eq!(testing::error(&without), "invalid_request");
}

#[tokio::test]
async fn s34_s36_all_others_hear_that_it_is_not_active_and_nothing_else() {
    let (server, _, tokens) = start().await;
    let token = text(&tokens, "access_token");
    let refresh = text(&tokens, "refresh_token");
    let id_token = text(&tokens, "id_token");
    let mut changed = token.clone();
    changed.replace_range(token.len() - 6.., "AAAAAA");
    for (client, token) in [
        ("other", token.as_str()),
        ("other", refresh.as_str()),
        ("api", refresh.as_str()),
        ("api", id_token.as_str()),
        ("api", "unknown"),
        ("api", "a.b.c"),
        ("api", changed.as_str()),
    ] {
        let answer = introspect(&server, client, token).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.text, INACTIVE, "{client} {token}");
    }
    assert!(is_active(&server, &token).await);
    server.pass(900_000);
    assert_eq!(
        introspect(&server, "api", &token).await.text,
        INACTIVE,
        "expired"
    );
}

#[tokio::test]
async fn ac_093_what_a_disabled_person_or_client_holds_is_nothing() {
    let (server, _, tokens) = start().await;
    let token = text(&tokens, "access_token");
    let sub = testing::part(&token, 1)["sub"].as_str().unwrap().to_owned();
    let actor = Actor::person("test");
    assert!(is_active(&server, &token).await);
    server
        .registry()
        .disable_user(&actor, &sub, "test")
        .await
        .unwrap();
    assert!(!is_active(&server, &token).await);

    let (server, _, tokens) = start().await;
    let token = text(&tokens, "access_token");
    server
        .registry()
        .disable_client(&actor, "app")
        .await
        .unwrap();
    assert!(!is_active(&server, &token).await);
}

#[tokio::test]
async fn s34_a_refresh_token_is_active_for_its_client_until_it_was_used() {
    let server = TestServer::start().await;
    server.add_client("conf", Some(SECRET), |_| {}).await;
    let user = server.add_user("ann@example.org", &[]).await;
    let mut browser = server.sign_in_as(&user).await;
    let code = testing::code(&mut browser, &[("client_id", "conf")]).await;
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", testing::REDIRECT),
        ("code_verifier", testing::VERIFIER),
    ];
    let tokens = post_as(&server, "conf", "/oauth2/token", &fields).await;
    let first = text(&tokens, "refresh_token");
    let body = introspect(&server, "conf", &first).await.json();
    assert_eq!(body["active"], true);
    assert_eq!(body["client_id"], "conf");
    let fields = [
        ("grant_type", "refresh_token"),
        ("refresh_token", first.as_str()),
    ];
    let refreshed = post_as(&server, "conf", "/oauth2/token", &fields).await;
    assert_eq!(refreshed.status, StatusCode::OK, "{}", refreshed.text);
    assert_eq!(introspect(&server, "conf", &first).await.text, INACTIVE);
    let second = text(&refreshed, "refresh_token");
    assert_eq!(
        introspect(&server, "conf", &second).await.json()["active"],
        true
    );
    server.pass(31 * 24 * 3_600_000);
    assert_eq!(introspect(&server, "conf", &second).await.text, INACTIVE);
}

#[tokio::test]
async fn s38_a_token_that_was_opened_before_ends_with_its_key() {
    let (server, _, tokens) = start().await;
    let token = text(&tokens, "access_token");
    let header = testing::part(&token, 0);
    let (kid, alg) = (
        header["kid"].as_str().unwrap(),
        header["alg"].as_str().unwrap(),
    );
    let first = introspect(&server, "api", &token).await.text;
    let again = introspect(&server, "api", &token).await.text;
    assert!(first.contains("\"active\":true") && first == again);
    server.server.rotate_signing_key(alg, true).await.unwrap();
    assert!(is_active(&server, &token).await, "its key is published");
    let actor = Actor::keywright();
    let registry = server.registry();
    registry.retire_signing_key(&actor, kid).await.unwrap();
    crate::server::settle_keys(server.server.app())
        .await
        .unwrap();
    assert_eq!(introspect(&server, "api", &token).await.text, INACTIVE);
}

#[tokio::test]
async fn ac_093_a_disabled_client_is_none_with_its_right_secret_at_every_endpoint() {
    let (server, _, answer) = start().await;
    let token = text(&answer, "access_token");
    let actor = Actor::person("test");
    let endpoints = [
        ("/oauth2/introspect", 200),
        ("/oauth2/revoke", 200),
        ("/oauth2/par", 400),
        ("/oauth2/token", 400),
    ];
    for is_disabled in [false, true] {
        if is_disabled {
            let done = server.registry().disable_client(&actor, "other").await;
            done.unwrap();
        }
        for (path, usual) in endpoints {
            let fields = [("token", token.as_str()), ("grant_type", "none")];
            let answer = post_as(&server, "other", path, &fields).await;
            let expected = if is_disabled { 401 } else { usual };
            assert_eq!(answer.status.as_u16(), expected, "{path}: {}", answer.text);
        }
    }
    assert!(is_active(&server, &token).await, "the others are let in");
}

#[tokio::test]
async fn s18_secrets_of_clients_are_not_guessed_at_speed() {
    let server = TestServer::start().await;
    for id in ["api", "other"] {
        server.add_client(id, Some(SECRET), |_| {}).await;
    }
    let at_once = async |secret: &str| {
        let authorization = basic("api", secret);
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("authorization", authorization.as_str()),
        ];
        let body = Body::from("token=x");
        let mut browser = server.browser();
        let path = "/oauth2/introspect";
        browser.send(Method::POST, path, &headers, body).await
    };
    for guess in 0..20 {
        let answer = at_once(&format!("guess {guess}")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{guess}");
    }
    // The right one as well: it would tell the guesser that it is right.
    for secret in ["another guess", SECRET] {
        let answer = at_once(secret).await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{secret}");
    }
    // So does whoever says nothing under that name, which guesses as well.
    let mut browser = server.browser();
    let fields = [("token", "x"), ("client_id", "api")];
    let answer = browser.post("/oauth2/introspect", &fields).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    // Another client does not wait for it, and all of it is over some time.
    assert_eq!(
        introspect(&server, "other", "x").await.status,
        StatusCode::OK
    );
    server.pass(60_001);
    assert_eq!(at_once(SECRET).await.status, StatusCode::OK);
}
