use axum::http::{Method, StatusCode};
use keywright_registry::people::UserQuery;
use serde_json::{Value, json};

use super::stub::Stub;
use crate::rp;
use crate::test_support::{Browser, OWNER_EMAIL, TestServer};

const LIST: &str = "/api/v1/identity-providers";

async fn owner(server: &TestServer) -> Browser {
    let query = UserQuery {
        text: OWNER_EMAIL.into(),
        limit: 1,
        ..UserQuery::default()
    };
    let owner = server
        .registry()
        .list_users(&query)
        .await
        .unwrap()
        .items
        .remove(0);
    server.sign_in_as(&owner).await
}

fn path(id: &str) -> String {
    format!("{LIST}/{id}")
}

#[tokio::test]
async fn s0_51_providers_are_put_listed_and_taken_out_of_use_and_secrets_never_come_out() {
    let server = TestServer::start().await;
    let mut browser = owner(&server).await;
    let body = json!({ "kind": "github", "client_id": "Iv1.x", "client_secret": "canary-secret" });
    let stored = browser.json(Method::PUT, &path("github"), &body).await;
    assert_eq!(stored.status, StatusCode::OK, "{}", stored.text);
    let view = stored.json();
    assert_eq!(
        (view["name"].as_str(), view["issuer"].as_str()),
        (Some("GitHub"), Some("https://github.com"))
    );
    assert_eq!(
        view["redirect_uri"],
        "http://127.0.0.1:8377/rp/callback/github"
    );
    assert_eq!(
        (view["trusts_email"].clone(), view["enabled"].clone()),
        (json!(true), json!(true))
    );
    assert_eq!(stored.header("cache-control"), "no-store");
    let body = json!({ "kind": "microsoft", "client_id": "m" });
    let stored = browser.json(Method::PUT, &path("microsoft"), &body).await;
    assert_eq!(stored.json()["trusts_email"], false);
    let list = browser.get(LIST).await;
    assert_eq!(list.json()["items"].as_array().unwrap().len(), 2);
    assert!(!list.text.contains("canary-secret") && !list.text.contains("secret\""));
    // Without a secret the one before stays; it is sealed.
    let body = json!({ "kind": "github", "client_id": "Iv1.y" });
    browser.json(Method::PUT, &path("github"), &body).await;
    let (provider, sealed) = server
        .registry()
        .find_identity_provider("github")
        .await
        .unwrap();
    assert_eq!(provider.client_id, "Iv1.y");
    let sealed = sealed.unwrap();
    assert!(!String::from_utf8_lossy(sealed.as_bytes()).contains("canary"));
    let gone = browser
        .json(Method::DELETE, &path("github"), &Value::Null)
        .await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(
        browser.get("/rp/authorize?idp=github").await.status,
        StatusCode::NOT_FOUND
    );
    let none = browser
        .json(Method::DELETE, &path("none"), &Value::Null)
        .await;
    assert_eq!(
        (none.status, none.json()["code"].as_str()),
        (StatusCode::NOT_FOUND, Some("provider_not_found"))
    );
}

#[tokio::test]
async fn s66_what_does_not_fit_is_refused_by_name() {
    let server = TestServer::with(|settings| settings.allow_private_addresses = false).await;
    let mut browser = owner(&server).await;
    for (change, field) in [
        (json!({ "kind": "myspace" }), "kind"),
        (json!({ "issuer": null }), "issuer"),
        (json!({ "issuer": "http://id.example.com" }), "issuer"),
        (json!({ "issuer": "https://169.254.169.254" }), "issuer"),
        (json!({ "issuer": "https://[::ffff:127.0.0.1]" }), "issuer"),
        (json!({ "issuer": "http://127.0.0.1:1" }), "issuer"),
        (json!({ "client_id": "" }), "client_id"),
        (json!({ "client_secret": "a\nb" }), "client_secret"),
        (json!({ "scopes": ["profile"] }), "scopes"),
        (json!({ "scopes": ["openid", "a b"] }), "scopes"),
        (json!({ "hosted_domain": "example.org" }), "hosted_domain"),
    ] {
        let mut body =
            json!({ "kind": "openid", "issuer": "https://id.example.com", "client_id": "c" });
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        let answer = browser.json(Method::PUT, &path("x"), &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer.json()["field"], field, "{body} {}", answer.text);
    }
    let body = json!({ "kind": "openid", "issuer": "https://id.example.com", "client_id": "c" });
    assert_eq!(
        browser
            .json(Method::PUT, &path("Bad.Id"), &body)
            .await
            .json()["code"],
        "invalid_provider_id"
    );
    assert_eq!(
        browser.json(Method::PUT, &path("x"), &body).await.status,
        StatusCode::OK
    );
    let mut other = body.clone();
    other["issuer"] = json!("https://other.example.com");
    let taken = browser.json(Method::PUT, &path("x"), &other).await;
    assert_eq!(
        (taken.status, taken.json()["code"].as_str()),
        (StatusCode::CONFLICT, Some("provider_taken"))
    );
    other["surprise"] = json!(1);
    assert_eq!(
        browser.json(Method::PUT, &path("x"), &other).await.json()["code"],
        "invalid_body"
    );
}

#[tokio::test]
async fn providers_are_for_who_may_see_and_change_them() {
    let server = TestServer::start().await;
    let ada = server.add_user("ada@example.org", &[]).await;
    let mut browser = server.sign_in_as(&ada).await;
    let body = json!({ "kind": "github", "client_id": "c" });
    assert_eq!(browser.get(LIST).await.status, StatusCode::FORBIDDEN);
    assert_eq!(
        browser.json(Method::PUT, &path("x"), &body).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        browser.json(Method::DELETE, &path("x"), &body).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        server.browser().get(LIST).await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn s2_41_buttons_are_plain_links_to_what_is_in_use() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    let ada = server.add_user("ada@example.org", &[]).await;
    let app = server.server.app();
    assert_eq!(
        rp::buttons(app, "/", false).await.unwrap().into_string(),
        ""
    );
    stub.add(&server, "corp", "openid").await;
    stub.add_with(&server, "off", "openid", |one| one.enabled = false)
        .await;
    let text = rp::buttons(app, "/a?b=c&d", false)
        .await
        .unwrap()
        .into_string();
    assert!(
        text.contains("href=\"/rp/authorize?idp=corp&amp;redirect_uri=%2Fa%3Fb%3Dc%26d\""),
        "{text}"
    );
    assert!(text.contains("Continue with Stub corp") && !text.contains("Stub off"));
    let text = rp::buttons_to_link(app, &ada.id)
        .await
        .unwrap()
        .into_string();
    assert!(text.contains("/rp/link?idp=corp") && !text.contains("off"));
    stub.trip(&mut server.browser(), "corp").await;
    assert_eq!(
        rp::buttons_to_link(app, &ada.id)
            .await
            .unwrap()
            .into_string(),
        ""
    );
}
