//! Nobody hands out more than they hold, by whichever way they ask.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use keywright_domain::people::OAuthScopes;
use keywright_registry::people::User;
use serde_json::{Value, json};

use super::{Program, root, wish};
use crate::sessions::tests::give_access;
use crate::test_support::{Answer, TestServer};

/// An application with an access token of a person that says these scopes.
pub(crate) async fn app_of(server: &TestServer, person: &User, scopes: &str) -> Program {
    let client = format!("app-{}", scopes.replace([':', '*', ' '], "-"));
    server
        .add_client(&client, None, |new| {
            new.scopes = OAuthScopes::parse(scopes).unwrap();
        })
        .await;
    let access = give_access(server, person, None, &client, scopes).await;
    Program {
        browser: server.browser(),
        key: access.token,
    }
}

/// A root key with these scopes.
pub(super) async fn program(server: &TestServer, root: &mut Program, scopes: &[&str]) -> Program {
    let wish = json!({ "name": "Narrow", "prefix": "kw_root", "scopes": scopes });
    let issued = root.issue(wish).await;
    Program {
        browser: server.browser(),
        key: issued["secret"].as_str().unwrap().to_owned(),
    }
}

/// A server whose catalogue has scopes that open more than keys.
async fn server_and_root() -> (TestServer, Program) {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    for name in ["webhooks:write", "policies:write", "registry:write"] {
        let scope = json!({ "name": name });
        let known = root.send(Method::PUT, "/api/v1/scopes", scope).await;
        assert_eq!(known.status, StatusCode::OK, "{}", known.text);
    }
    (server, root)
}

fn root_with(scopes: &[&str]) -> Value {
    json!({ "name": "Mint", "prefix": "kw_root", "scopes": scopes })
}

#[track_caller]
fn exceeds(answer: &Answer) {
    let found = (answer.status, answer.json()["code"].clone());
    let expected = (StatusCode::FORBIDDEN, json!("scope_exceeds_creator"));
    assert_eq!(found, expected, "{}", answer.text);
}

#[tokio::test]
async fn an_access_token_makes_no_key_that_may_do_more_than_it_says() {
    let (server, _) = server_and_root().await;
    let owner = server.add_user("boss@example.org", &["owner"]).await;
    let mut app = app_of(&server, &owner, "keys:*").await;
    for scope in [
        "webhooks:*",
        "policies:*",
        "registry:write",
        "*:*",
        "*:read",
        "orders:read",
    ] {
        let made = app
            .send(
                Method::POST,
                "/api/v1/keys",
                root_with(&[scope, "keys:read"]),
            )
            .await;
        exceeds(&made);
    }
    let list = app.send(Method::GET, "/api/v1/keys?text=Mint", Value::Null);
    assert_eq!(list.await.json()["items"], json!([]));
    // What it holds it may hand on.
    let made = app
        .send(Method::POST, "/api/v1/keys", root_with(&["keys:verify"]))
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    // Other keys open other services: there the person's roles decide.
    let made = app.send(Method::POST, "/api/v1/keys", wish()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let admin = server.add_user("keys@example.org", &["key-admin"]).await;
    let mut admins = app_of(&server, &admin, "keys:* scopes:read").await;
    let made = admins.send(Method::POST, "/api/v1/keys", wish()).await;
    exceeds(&made);
    // The person may do more than the application.
    let mut browser = server.sign_in_as(&owner).await;
    let made = browser
        .json(Method::POST, "/api/v1/keys", &root_with(&["webhooks:*"]))
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
}

#[tokio::test]
async fn a_change_adds_no_scope_that_the_caller_does_not_hold_whoever_made_the_key() {
    let (server, mut root) = server_and_root().await;
    let owner = server.add_user("boss@example.org", &["owner"]).await;
    let admin = server.add_user("keys@example.org", &["key-admin"]).await;
    let mut app = app_of(&server, &owner, "keys:*").await;
    let mut narrow = program(&server, &mut root, &["keys:*"]).await;
    let by_nobody = root.issue(root_with(&["keys:read", "keys:verify"])).await;
    let mut browser = server.sign_in_as(&owner).await;
    let by_owner = browser
        .json(
            Method::POST,
            "/api/v1/keys",
            &root_with(&["keys:read", "keys:verify"]),
        )
        .await
        .json();
    let mut admins = server.sign_in_as(&admin).await;
    for key in [&by_nobody, &by_owner] {
        let path = format!("/api/v1/keys/{}", key["key"]["id"].as_str().unwrap());
        let wider = json!({ "scopes": ["keys:read", "webhooks:*"] });
        exceeds(&app.send(Method::PATCH, &path, wider.clone()).await);
        exceeds(&narrow.send(Method::PATCH, &path, wider.clone()).await);
        exceeds(&admins.json(Method::PATCH, &path, &wider).await);
        let read = root.send(Method::GET, &path, Value::Null).await.json();
        assert_eq!(read["scopes"], json!(["keys:read", "keys:verify"]));
        let held = json!({ "scopes": ["keys:read"] });
        let changed = app.send(Method::PATCH, &path, held).await;
        assert_eq!(changed.status, StatusCode::OK, "{}", changed.text);
    }
    // To take away needs no more than the permission: nothing is handed out.
    let mut both = wish();
    both["scopes"] = json!(["orders:read", "orders:write"]);
    let issued = root.issue(both).await;
    let path = format!("/api/v1/keys/{}", issued["key"]["id"].as_str().unwrap());
    let fewer = json!({ "scopes": ["orders:read"] });
    let changed = narrow.send(Method::PATCH, &path, fewer).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.text);
    let back = json!({ "scopes": ["orders:read", "orders:write"] });
    exceeds(&narrow.send(Method::PATCH, &path, back).await);
}

#[tokio::test]
async fn the_secret_of_a_stronger_root_key_is_given_to_nobody_who_holds_less() {
    let (server, mut root) = server_and_root().await;
    let owner = server.add_user("boss@example.org", &["owner"]).await;
    let mut app = app_of(&server, &owner, "keys:*").await;
    let mut narrow = program(&server, &mut root, &["keys:*"]).await;
    let strong = root.issue(root_with(&["keys:*", "webhooks:*"])).await;
    let id = strong["key"]["id"].as_str().unwrap();
    let path = format!("/api/v1/keys/{id}/rotations");
    let rotated = root.send(Method::POST, &path, json!({})).await.json();
    let rotation = rotated["rotation_id"].as_str().unwrap().to_owned();
    let made = keywright_domain::api_keys::PlainKey::generate(
        &keywright_domain::api_keys::Prefix::new("kw_root").unwrap(),
        &mut rand::rng(),
    );
    let own = json!({
        "kid": made.kid().as_str(), "last_four": made.last_four(), "digest": "ab".repeat(32),
    });
    for caller in [&mut app, &mut narrow] {
        exceeds(&caller.send(Method::POST, &path, json!({})).await);
        let body = json!({ "client_secret": own });
        exceeds(&caller.send(Method::POST, &path, body).await);
        let again = format!("{path}/{rotation}/reissue");
        exceeds(&caller.send(Method::POST, &again, Value::Null).await);
        let bulk = json!({ "operation": "rotate", "client_secrets": { id: own } });
        let begun = caller.send(Method::POST, "/api/v1/bulk", bulk).await;
        assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.text);
        let bulk = format!("/api/v1/bulk/{}", begun.json()["id"].as_str().unwrap());
        let ended = loop {
            let view = caller.send(Method::GET, &bulk, Value::Null).await.json();
            if view["state"] != "running" {
                break view;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        };
        let failure = &ended["failures"][0]["code"];
        assert_eq!(failure, "scope_exceeds_creator", "{ended}");
    }
    let rotations = root.send(Method::GET, &path, Value::Null).await.json();
    assert_eq!(rotations["items"].as_array().unwrap().len(), 1);
    // An ordinary key is rotated by whoever has the permission.
    let issued = root.issue(wish()).await;
    let id = issued["key"]["id"].as_str().unwrap();
    let path = format!("/api/v1/keys/{id}/rotations");
    let rotated = narrow.send(Method::POST, &path, json!({})).await;
    assert_eq!(rotated.status, StatusCode::CREATED, "{}", rotated.text);
}

#[tokio::test]
async fn an_import_takes_no_key_that_may_do_more_than_the_caller() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let admin = server.add_user("keys@example.org", &["key-admin"]).await;
    let mut callers = [
        app_of(&server, &admin, "keys:*").await,
        program(&server, &mut root, &["keys:*"]).await,
    ];
    let line = |scope: &str, hash: &str| {
        let line = json!({
            "name": "Old", "hash": hash.repeat(32), "scopes": [scope], "prefix": "sk_live",
            "expires_at": crate::test_support::START + 30 * 24 * 60 * 60 * 1000_i64,
        });
        format!("{line}\n")
    };
    let file = line("orders:read", "ab") + &line("keys:verify", "cd");
    for caller in &mut callers {
        let bearer = format!("Bearer {}", caller.key);
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/x-ndjson"),
        ];
        let answer = caller
            .browser
            .send(
                Method::POST,
                "/api/v1/import",
                &headers,
                Body::from(file.clone()),
            )
            .await;
        let report = answer.json();
        assert_eq!(
            report["refused"][0]["code"], "scope_exceeds_creator",
            "{report}"
        );
        assert_eq!(report["refused"].as_array().unwrap().len(), 1, "{report}");
        assert_eq!(report["imported"][0]["line"], 2, "{report}");
    }
}
