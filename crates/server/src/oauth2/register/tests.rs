use axum::body::Body;
use axum::http::Method;
use keywright_domain::people::{NewClient, OAuthScopes};
use serde_json::{Value, json};

use super::*;
use crate::clients::new_registration_token;
use crate::oauth2::testing::{self, text};
use crate::test_support::{Answer, START, TestServer};

async fn send(
    server: &TestServer,
    method: Method,
    path: &str,
    token: &str,
    body: &Value,
) -> Answer {
    let authorization = format!("Bearer {token}");
    let headers = [
        ("content-type", "application/json"),
        ("authorization", authorization.as_str()),
    ];
    let mut client = server.browser();
    client
        .send(method, path, &headers, Body::from(body.to_string()))
        .await
}

async fn initial(server: &TestServer) -> String {
    let (token, new) = new_registration_token("test", 60_000, 2);
    let actor = Actor::person("test");
    let made = server.registry().add_registration_token(&actor, &new).await;
    made.unwrap();
    token.expose().to_owned()
}

async fn register(server: &TestServer, body: &Value) -> Answer {
    send(
        server,
        Method::POST,
        "/oauth2/register",
        &initial(server).await,
        body,
    )
    .await
}

fn good() -> Value {
    json!({
        "client_name": "Robot",
        "redirect_uris": ["https://robot.example.com/callback"],
        "grant_types": ["authorization_code", "refresh_token"],
        "scope": "openid email",
        "logo_uri": "https://robot.example.com/unknown.png",
    })
}

#[tokio::test]
async fn s60_a_client_is_registered_with_its_secret_and_its_management() {
    let server = TestServer::start().await;
    let answer = register(&server, &good()).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    let body = answer.json();
    assert_eq!(body["client_id_issued_at"], START / 1000);
    assert_eq!(body["client_secret_expires_at"], 0);
    assert_eq!(body["token_endpoint_auth_method"], "client_secret_basic");
    assert_eq!(body["scope"], "email openid");
    assert!(body.get("logo_uri").is_none());
    let id = text(&answer, "client_id");
    let secret = text(&answer, "client_secret");
    assert_eq!(secret.len(), 43, "256 bits");
    let address = text(&answer, "registration_client_uri");
    assert_eq!(address, format!("{}/oauth2/register/{id}", testing::ISSUER));
    assert!(!text(&answer, "registration_access_token").is_empty());
    // The secret works.
    let authorization = testing::basic(&id, &secret);
    let headers = [("authorization", authorization.as_str())];
    let form = "grant_type=authorization_code&code=x&redirect_uri=y".to_owned();
    let used = testing::token_request(&server, &headers, form).await;
    assert_eq!(testing::error(&used), "invalid_grant");
}

#[tokio::test]
async fn s60_only_with_an_initial_access_token_and_in_its_time() {
    let server = TestServer::start().await;
    let path = "/oauth2/register";
    let token = initial(&server).await;
    let mut changed = token.clone();
    changed.replace_range(8..9, if &token[8..9] == "A" { "B" } else { "A" });
    for bad in ["", "x", "kw_reg_", changed.as_str()] {
        let answer = send(&server, Method::POST, path, bad, &good()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{bad}");
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
    // What is refused uses nothing up.
    let broken = send(&server, Method::POST, path, &token, &json!({})).await;
    assert_eq!(broken.status, StatusCode::BAD_REQUEST);
    let mut made = Vec::new();
    for _ in 0..2 {
        let answer = send(&server, Method::POST, path, &token, &good()).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        made.push(text(&answer, "client_id"));
    }
    let thrice = send(&server, Method::POST, path, &token, &good()).await;
    assert_eq!(thrice.status, StatusCode::UNAUTHORIZED, "for two clients");
    let late = initial(&server).await;
    server.pass(60_000);
    let late = send(&server, Method::POST, path, &late, &good()).await;
    assert_eq!(late.status, StatusCode::UNAUTHORIZED);

    // The trail and the client name the token that made it.
    let registry = server.registry();
    let tokens = registry.list_registration_tokens(None, 10).await.unwrap();
    let used = tokens.items.iter().find(|one| one.uses == 2).unwrap();
    let client = registry.find_client(&made[0]).await.unwrap();
    assert_eq!(client.registered_by.as_ref(), Some(&used.id));
    let query = keywright_registry::AuditQuery {
        limit: 100,
        ..Default::default()
    };
    let trail = registry.list_audit_events(query).await.unwrap().items;
    let by = format!("registration-token:{}", used.id);
    let named = trail
        .iter()
        .filter(|one| one.action == "client.added" && one.actor == by);
    assert_eq!(named.count(), 2);
}

#[tokio::test]
async fn s60_an_initial_access_token_is_ended_and_its_clients_stay() {
    let server = TestServer::start().await;
    let token = initial(&server).await;
    let path = "/oauth2/register";
    let made = send(&server, Method::POST, path, &token, &good()).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let registry = server.registry();
    let tokens = registry.list_registration_tokens(None, 10).await.unwrap();
    let actor = Actor::person("test");
    let ended = registry.end_registration_token(&actor, &tokens.items[0].id);
    assert!(ended.await.unwrap().ended_at.is_some());
    let refused = send(&server, Method::POST, path, &token, &good()).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let address = format!("{path}/{}", text(&made, "client_id"));
    let own = text(&made, "registration_access_token");
    let read = send(&server, Method::GET, &address, &own, &Value::Null).await;
    assert_eq!(read.status, StatusCode::OK, "{}", read.text);
}

#[tokio::test]
async fn s2_s6_s60_what_cannot_be_registered() {
    let server = TestServer::start().await;
    for uri in [
        "https://robot.example.com/#f",
        "http://robot.example.com/",
        "https://*.example.com/",
        "robot:/callback",
        "javascript:alert(1)",
        "/callback",
    ] {
        let mut body = good();
        body["redirect_uris"] = json!([uri]);
        let answer = register(&server, &body).await;
        assert_eq!(testing::error(&answer), "invalid_redirect_uri", "{uri}");
        server.pass(6_000);
    }
    let server = TestServer::start().await;
    for (name, value) in [
        ("grant_types", json!(["implicit"])),
        ("grant_types", json!(["client_credentials"])),
        ("response_types", json!(["token"])),
        ("scope", json!("openid users:write")),
        ("scope", json!("account")),
        ("token_endpoint_auth_method", json!("client_secret_jwt")),
        ("token_endpoint_auth_method", json!("private_key_jwt")),
        ("jwks_uri", json!("https://robot.example.com/keys")),
        ("jwks", json!({"keys": [{"kty": "oct", "k": "AAAA"}]})),
        ("id_token_signed_response_alg", json!("none")),
        ("id_token_signed_response_alg", json!("PS256")),
        ("redirect_uris", json!("https://robot.example.com/")),
        ("client_name", json!("x".repeat(5_000))),
        (
            "post_logout_redirect_uris",
            json!(vec!["https://r.example/"; 11]),
        ),
    ] {
        let mut body = good();
        body[name] = value.clone();
        let answer = register(&server, &body).await;
        assert_eq!(
            testing::error(&answer),
            "invalid_client_metadata",
            "{name}: {value}"
        );
    }
    let mut native = good();
    native["redirect_uris"] = json!(["com.example.robot:/callback", "http://127.0.0.1/cb"]);
    native["token_endpoint_auth_method"] = json!("none");
    let answer = register(&server, &native).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert!(answer.json().get("client_secret").is_none(), "S1");
}

#[tokio::test]
async fn s60_registrations_are_limited() {
    let server = TestServer::start().await;
    for _ in 0..20 {
        assert_eq!(
            register(&server, &json!({})).await.status,
            StatusCode::BAD_REQUEST
        );
    }
    let many = register(&server, &good()).await;
    assert_eq!(many.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn s60_a_client_manages_itself_and_nobody_else() {
    let server = TestServer::start().await;
    let mine = register(&server, &good()).await;
    let other = register(&server, &good()).await;
    let (id, token) = (
        text(&mine, "client_id"),
        text(&mine, "registration_access_token"),
    );
    let path = format!("/oauth2/register/{id}");
    let got = send(&server, Method::GET, &path, &token, &Value::Null).await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.json()["client_name"], "Robot");
    assert!(
        got.json().get("client_secret").is_none(),
        "we do not have it"
    );
    let foreign = text(&other, "registration_access_token");
    for bad in ["", "x", foreign.as_str(), &initial(&server).await] {
        let refused = send(&server, Method::GET, &path, bad, &Value::Null).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{bad}");
    }
    server.add_client("app", None, |_| {}).await;
    let fixed = server.registry().find_client("app").await.unwrap();
    let made = management_token(server.server.app(), &fixed);
    let path_fixed = "/oauth2/register/app";
    let refused = send(&server, Method::DELETE, path_fixed, &made, &Value::Null).await;
    assert_eq!(
        refused.status,
        StatusCode::UNAUTHORIZED,
        "an administrator's client"
    );

    // PUT replaces everything.
    let mut body = good();
    body["client_id"] = json!(id);
    body["client_name"] = json!("Other name");
    body.as_object_mut().unwrap().remove("scope");
    let put = send(&server, Method::PUT, &path, &token, &body).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    assert_eq!(put.json()["client_name"], "Other name");
    assert_eq!(put.json()["scope"], "email offline_access openid profile");
    body["client_secret"] = json!("chosen by the client");
    let chosen = send(&server, Method::PUT, &path, &token, &body).await;
    assert_eq!(testing::error(&chosen), "invalid_client_metadata");
    body["client_secret"] = json!(text(&mine, "client_secret"));
    let same = send(&server, Method::PUT, &path, &token, &body).await;
    assert_eq!(same.status, StatusCode::OK);
    body["client_id"] = json!("dyn-other");
    let wrong = send(&server, Method::PUT, &path, &token, &body).await;
    assert_eq!(testing::error(&wrong), "invalid_client_metadata");

    // DELETE ends it, its token and its tokens.
    let gone = send(&server, Method::DELETE, &path, &token, &Value::Null).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    let after = send(&server, Method::GET, &path, &token, &Value::Null).await;
    assert_eq!(after.status, StatusCode::UNAUTHORIZED);
    let authorization = testing::basic(&id, &text(&mine, "client_secret"));
    let headers = [("authorization", authorization.as_str())];
    let form = "grant_type=authorization_code&code=x&redirect_uri=y".to_owned();
    let used = testing::token_request(&server, &headers, form).await;
    assert_eq!(testing::error(&used), "invalid_client");
}

#[tokio::test]
async fn s60_a_secret_is_returned_where_it_is_new() {
    let server = TestServer::start().await;
    let key = crate::oauth2::dpop::tests::ClientKey::new();
    let mut body = good();
    body["token_endpoint_auth_method"] = json!("private_key_jwt");
    body["jwks"] = json!({"keys": [key.jwk]});
    let mine = register(&server, &body).await;
    assert_eq!(mine.status, StatusCode::CREATED, "{}", mine.text);
    assert!(mine.json().get("client_secret").is_none());
    let mut body = good();
    body["client_id"] = mine.json()["client_id"].clone();
    let path = format!("/oauth2/register/{}", text(&mine, "client_id"));
    let token = text(&mine, "registration_access_token");
    let put = send(&server, Method::PUT, &path, &token, &body).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    let secret = text(&put, "client_secret");
    assert_eq!(secret.len(), 43);
    let authorization = testing::basic(&text(&put, "client_id"), &secret);
    let headers = [("authorization", authorization.as_str())];
    let form = "grant_type=authorization_code&code=x&redirect_uri=y".to_owned();
    let used = testing::token_request(&server, &headers, form).await;
    assert_eq!(testing::error(&used), "invalid_grant");
}

/// What an administrator changes of a client.
async fn by_admin(server: &TestServer, id: &str, change: impl FnOnce(&mut NewClient)) {
    let registry = server.registry();
    let mut new = registry.find_client(id).await.unwrap().settings.clone();
    change(&mut new);
    let actor = Actor::person("admin");
    registry.change_client(&actor, id, &new).await.unwrap();
}

#[tokio::test]
async fn s60_what_an_administrator_set_stays_and_what_was_read_can_be_sent_back() {
    let server = TestServer::start().await;
    let key = crate::oauth2::dpop::tests::ClientKey::new();
    let mut body = good();
    body["token_endpoint_auth_method"] = json!("private_key_jwt");
    body["jwks"] = json!({"keys": [key.jwk]});
    let mine = register(&server, &body).await;
    let (id, token) = (
        text(&mine, "client_id"),
        text(&mine, "registration_access_token"),
    );
    by_admin(&server, &id, |new| {
        new.signing_alg = "ES256".into();
        (new.fapi, new.require_dpop) = (true, true);
        new.grant_types.push("client_credentials".into());
        new.scopes = OAuthScopes::parse("openid email orders:read").unwrap();
        new.redirect_uris = (0..12).map(|n| format!("https://r.example/{n}")).collect();
    })
    .await;
    let path = format!("/oauth2/register/{id}");
    let read = send(&server, Method::GET, &path, &token, &Value::Null).await;
    let shown = read.json();
    let before = server.registry().find_client(&id).await.unwrap();
    let same = send(&server, Method::PUT, &path, &token, &shown).await;
    assert_eq!(same.status, StatusCode::OK, "{}", same.text);
    let after = server.registry().find_client(&id).await.unwrap();
    assert_eq!(after, before, "nothing changed");

    // It says less of itself, and cannot say what is not its own to say.
    let mut less = shown.clone();
    less["client_name"] = json!("Other name");
    less["scope"] = json!("openid orders:read");
    less["dpop_bound_access_tokens"] = json!(false);
    let put = send(&server, Method::PUT, &path, &token, &less).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    assert_eq!(put.json()["dpop_bound_access_tokens"], true);
    let after = server.registry().find_client(&id).await.unwrap();
    assert!(after.settings.fapi && after.settings.require_dpop);
    assert_eq!(after.settings.scopes.to_string(), "openid orders:read");
    // What it let go of is an administrator's to give again, and so is all else.
    for (name, value) in [
        ("scope", json!("openid users:write")),
        ("grant_types", json!(["password"])),
        ("token_endpoint_auth_method", json!("client_secret_basic")),
    ] {
        let mut more = less.clone();
        more[name] = value;
        let refused = send(&server, Method::PUT, &path, &token, &more).await;
        assert_eq!(
            testing::error(&refused),
            "invalid_client_metadata",
            "{name}"
        );
    }
    // Without PKCE only because an administrator said so.
    let plain = register(&server, &good()).await;
    let id = text(&plain, "client_id");
    by_admin(&server, &id, |new| new.require_pkce = false).await;
    let mut body = good();
    body["client_id"] = json!(id);
    let token = text(&plain, "registration_access_token");
    let path = format!("/oauth2/register/{id}");
    let put = send(&server, Method::PUT, &path, &token, &body).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    let after = server.registry().find_client(&id).await.unwrap();
    assert!(!after.settings.require_pkce);
}
