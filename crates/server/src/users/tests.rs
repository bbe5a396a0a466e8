mod programs;
mod receipts;

use axum::http::{Method, StatusCode};
use keywright_registry::AuditQuery;
use keywright_registry::people::User;
use serde_json::{Value, json};

use crate::sessions::tests::{by_token, give_access};
use crate::test_support::{Answer, Browser, OWNER_EMAIL, START, TestServer};

const HOUR_MS: i64 = 60 * 60 * 1000;

async fn signed_in(server: &TestServer, email: &str, role: &str) -> (User, Browser) {
    let user = server.add_user(email, &[role]).await;
    let browser = server.sign_in_as(&user).await;
    (user, browser)
}

async fn admin(server: &TestServer) -> Browser {
    signed_in(server, "adam@example.org", "admin").await.1
}

async fn owner(server: &TestServer) -> (String, Browser) {
    let email = keywright_domain::people::Email::new(OWNER_EMAIL).unwrap();
    let found = server
        .registry()
        .find_credentials(&email)
        .await
        .unwrap()
        .unwrap();
    let user = server.registry().find_user(&found.user_id).await.unwrap();
    let browser = server.sign_in_as(&user).await;
    (user.id.clone(), browser)
}

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status.as_u16(), answer.json()["code"].clone()),
        (status, json!(code)),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn ac_182_people_are_managed_with_permissions_only() {
    let server = TestServer::start().await;
    let (user, mut member) = signed_in(&server, "mia@example.org", "member").await;
    let one = format!("/api/v1/users/{}", user.id);
    for (method, path) in [
        (Method::GET, "/api/v1/users".to_owned()),
        (Method::GET, one.clone()),
        (Method::DELETE, one.clone()),
        (Method::POST, format!("{one}/enable")),
        (Method::GET, format!("{one}/roles")),
        (Method::GET, "/api/v1/roles".to_owned()),
        (Method::DELETE, "/api/v1/roles/x".to_owned()),
        (Method::GET, "/api/v1/invitations".to_owned()),
        (Method::DELETE, "/api/v1/invitations/x".to_owned()),
    ] {
        let answer = member.json(method, &path, &Value::Null).await;
        refused(&answer, 403, "insufficient_scope");
    }
    for (method, path, body) in [
        (
            Method::POST,
            "/api/v1/users".to_owned(),
            json!({"name": "x"}),
        ),
        (Method::PATCH, one.clone(), json!({"name": "x"})),
        (Method::POST, format!("{one}/disable"), json!({})),
        (
            Method::PUT,
            format!("{one}/roles"),
            json!({"roles": ["owner"]}),
        ),
        (
            Method::PUT,
            "/api/v1/roles/x".to_owned(),
            json!({"permissions": []}),
        ),
        (
            Method::POST,
            "/api/v1/invitations".to_owned(),
            json!({"email": "a@b.example"}),
        ),
    ] {
        refused(
            &member.json(method, &path, &body).await,
            403,
            "insufficient_scope",
        );
    }
    // A role that is taken away is gone at the next request.
    let (_, mut boss) = owner(&server).await;
    let (second, mut adam) = signed_in(&server, "adam@example.org", "admin").await;
    assert_eq!(adam.get("/api/v1/users").await.status, StatusCode::OK);
    let path = format!("/api/v1/users/{}/roles", second.id);
    let answer = boss
        .json(Method::PUT, &path, &json!({"roles": ["member"]}))
        .await;
    assert_eq!(answer.json()["roles"], json!(["member"]));
    refused(&adam.get("/api/v1/users").await, 403, "insufficient_scope");
    let query = AuditQuery {
        limit: 500,
        ..AuditQuery::default()
    };
    let events = server
        .registry()
        .list_audit_events(query)
        .await
        .unwrap()
        .items;
    assert!(
        events
            .iter()
            .any(|event| event.action == "user.access_refused")
    );
}

#[tokio::test]
async fn people_are_added_listed_changed_and_deleted() {
    let server = TestServer::start().await;
    let mut admin = admin(&server).await;
    let body = json!({"name": "Ada", "email": "Ada@Example.org", "roles": ["member"], "password": "correct horse"});
    let made = admin.json(Method::POST, "/api/v1/users", &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let view = made.json();
    assert_eq!(
        (view["email"].clone(), view["email_verified"].clone()),
        (json!("ada@example.org"), json!(false))
    );
    assert_eq!(
        (view["has_password"].clone(), view["created_at"].clone()),
        (json!(true), json!(START))
    );
    assert!(!made.text.contains("correct horse") && !made.text.contains("argon2"));
    refused(
        &admin.json(Method::POST, "/api/v1/users", &body).await,
        409,
        "email_taken",
    );
    for (bad, code) in [
        (json!({"name": ""}), "invalid_name"),
        (json!({"name": "x", "email": "nobody"}), "invalid_email"),
        (json!({"name": "x", "roles": ["nothing"]}), "role_not_found"),
        (
            json!({"name": "x", "roles": ["No Role"]}),
            "invalid_role_name",
        ),
        (
            json!({"name": "x", "password": "short"}),
            "password_too_short",
        ),
        (json!({"name": "x", "admin": true}), "invalid_body"),
        (json!([]), "invalid_body"),
    ] {
        refused(
            &admin.json(Method::POST, "/api/v1/users", &bad).await,
            400,
            code,
        );
    }

    let list = admin.get("/api/v1/users?text=ada@&limit=1").await.json();
    assert_eq!(list["items"][0]["name"], "Ada");
    refused(
        &admin.get("/api/v1/users?order=x").await,
        400,
        "invalid_order",
    );
    let all = admin.get("/api/v1/users?order=newest&limit=2").await.json();
    assert!(all["next_cursor"].is_string());

    let path = format!("/api/v1/users/{}", view["id"].as_str().unwrap());
    let changed = admin
        .json(
            Method::PATCH,
            &path,
            &json!({"email_verified": true, "name": "Ada L."}),
        )
        .await
        .json();
    assert_eq!(
        (changed["name"].clone(), changed["email_verified"].clone()),
        (json!("Ada L."), json!(true))
    );
    let changed = admin
        .json(Method::PATCH, &path, &json!({"email": "l@example.org"}))
        .await
        .json();
    assert_eq!(
        changed["email_verified"], false,
        "another address is not verified by the one before"
    );
    let taken = admin
        .json(Method::PATCH, &path, &json!({"email": OWNER_EMAIL}))
        .await;
    refused(&taken, 409, "email_taken");
    assert_eq!(admin.get(&path).await.json()["email"], "l@example.org");

    let gone = admin.json(Method::DELETE, &path, &Value::Null).await;
    assert_eq!(gone.status, StatusCode::OK, "{}", gone.text);
    refused(&admin.get(&path).await, 404, "user_not_found");
}

#[tokio::test]
async fn a_disabled_person_is_out_at_once_and_stays_signed_out() {
    let server = TestServer::start().await;
    let mut admin = admin(&server).await;
    let (user, mut ada) = signed_in(&server, "ada@example.org", "member").await;
    server.add_client("app", None, |_| {}).await;
    let access = give_access(&server, &user, None, "app", "openid account").await;
    let path = format!("/api/v1/users/{}", user.id);
    let view = admin
        .json(
            Method::POST,
            &format!("{path}/disable"),
            &json!({"reason": "left"}),
        )
        .await
        .json();
    assert_eq!(
        (view["disabled_at"].clone(), view["disabled_reason"].clone()),
        (json!(START), json!("left"))
    );
    refused(
        &ada.clone().get("/auth/session").await,
        401,
        "session_revoked",
    );
    let denied = by_token(&server, &access.token, Method::GET, "/api/v1/sessions").await;
    refused(&denied, 401, "token_revoked");
    let view = admin
        .json(Method::POST, &format!("{path}/enable"), &Value::Null)
        .await
        .json();
    assert_eq!(view["disabled_at"], Value::Null);
    refused(&ada.get("/auth/session").await, 401, "session_revoked");
    let denied = by_token(&server, &access.token, Method::GET, "/api/v1/sessions").await;
    refused(&denied, 401, "token_revoked");
    assert_eq!(
        server
            .sign_in_as(&user)
            .await
            .get("/auth/session")
            .await
            .status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn ac_183_the_last_owner_stays() {
    let server = TestServer::start().await;
    let (id, mut boss) = owner(&server).await;
    let path = format!("/api/v1/users/{id}");
    refused(
        &boss.json(Method::DELETE, &path, &Value::Null).await,
        409,
        "last_owner",
    );
    let disable = format!("{path}/disable");
    refused(
        &boss.json(Method::POST, &disable, &json!({})).await,
        409,
        "last_owner",
    );
    let roles = format!("{path}/roles");
    refused(
        &boss
            .json(Method::PUT, &roles, &json!({"roles": ["admin"]}))
            .await,
        409,
        "last_owner",
    );
    assert_eq!(
        boss.get("/auth/session").await.status,
        StatusCode::OK,
        "and stays signed in"
    );
    let (second, _) = signed_in(&server, "two@example.org", "owner").await;
    let path = format!("/api/v1/users/{}", second.id);
    assert_eq!(
        boss.json(Method::DELETE, &path, &Value::Null).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn ac_131_nobody_grants_or_takes_over_more_than_they_hold() {
    let server = TestServer::start().await;
    let mut admin = admin(&server).await;
    let (boss_id, mut boss) = owner(&server).await;
    let (user, _) = signed_in(&server, "mia@example.org", "member").await;
    let roles = format!("/api/v1/users/{}/roles", user.id);
    let owner_role = json!({"roles": ["owner"]});
    let exceeds = "exceeds_own_permissions";
    refused(
        &admin.json(Method::PUT, &roles, &owner_role).await,
        403,
        exceeds,
    );
    let body = json!({"name": "x", "roles": ["owner"]});
    refused(
        &admin.json(Method::POST, "/api/v1/users", &body).await,
        403,
        exceeds,
    );
    let body = json!({"email": "x@example.org", "roles": ["owner"]});
    refused(
        &admin.json(Method::POST, "/api/v1/invitations", &body).await,
        403,
        exceeds,
    );
    assert_eq!(
        server.registry().find_user(&user.id).await.unwrap().roles[0].as_str(),
        "member"
    );

    let path = format!("/api/v1/users/{boss_id}");
    let above = "person_may_do_more";
    refused(
        &admin
            .json(Method::PATCH, &path, &json!({"email": "adam2@example.org"}))
            .await,
        403,
        above,
    );
    refused(
        &admin.json(Method::DELETE, &path, &Value::Null).await,
        403,
        above,
    );
    let disable = format!("{path}/disable");
    refused(
        &admin.json(Method::POST, &disable, &json!({})).await,
        403,
        above,
    );
    let theirs = format!("{path}/roles");
    refused(
        &admin
            .json(Method::PUT, &theirs, &json!({"roles": ["member"]}))
            .await,
        403,
        above,
    );

    // Roles: what an owner defines, an administrator gives as far as they hold it.
    let all = json!({"description": "All", "permissions": ["*:*"]});
    refused(
        &admin.json(Method::PUT, "/api/v1/roles/all", &all).await,
        403,
        "insufficient_scope",
    );
    let lead = server.add_user("lea@example.org", &[]).await;
    let definer = json!({"permissions": ["roles:*", "keys:*"]});
    let answer = boss
        .json(Method::PUT, "/api/v1/roles/definer", &definer)
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let path = format!("/api/v1/users/{}/roles", lead.id);
    boss.json(Method::PUT, &path, &json!({"roles": ["definer"]}))
        .await;
    let mut lead = server.sign_in_as(&lead).await;
    refused(
        &lead.json(Method::PUT, "/api/v1/roles/all", &all).await,
        403,
        exceeds,
    );
    let keys = json!({"permissions": ["keys:read"]});
    assert_eq!(
        lead.json(Method::PUT, "/api/v1/roles/reader", &keys)
            .await
            .status,
        StatusCode::OK
    );
    boss.json(Method::PUT, "/api/v1/roles/all", &all).await;
    refused(
        &lead.json(Method::PUT, "/api/v1/roles/all", &keys).await,
        403,
        exceeds,
    );
    let bad = json!({"permissions": ["nothing"]});
    refused(
        &boss.json(Method::PUT, "/api/v1/roles/bad", &bad).await,
        400,
        "invalid_scope",
    );
    refused(
        &boss.json(Method::PUT, "/api/v1/roles/owner", &keys).await,
        409,
        "role_built_in",
    );
    refused(
        &boss
            .json(Method::DELETE, "/api/v1/roles/definer", &Value::Null)
            .await,
        409,
        "role_in_use",
    );
    assert_eq!(
        boss.json(Method::DELETE, "/api/v1/roles/reader", &Value::Null)
            .await
            .status,
        StatusCode::NO_CONTENT
    );
    refused(
        &boss
            .json(Method::DELETE, "/api/v1/roles/reader", &Value::Null)
            .await,
        404,
        "role_not_found",
    );
    let names: Vec<_> = boss.get("/api/v1/roles").await.json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|role| role["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(names.contains(&"definer".to_owned()) && !names.contains(&"reader".to_owned()));
}

#[tokio::test]
async fn a_token_does_what_its_scopes_and_its_person_allow_together() {
    let server = TestServer::start().await;
    let (adam, _) = signed_in(&server, "adam@example.org", "admin").await;
    let (mia, _) = signed_in(&server, "mia@example.org", "member").await;
    let scopes = "openid users:read users:write";
    server
        .add_client("app", None, |new| {
            new.scopes = keywright_domain::people::OAuthScopes::parse(scopes).unwrap();
        })
        .await;
    let reads = give_access(&server, &adam, None, "app", "openid users:read").await;
    let member = give_access(&server, &mia, None, "app", scopes).await;
    let list = by_token(&server, &reads.token, Method::GET, "/api/v1/users").await;
    assert_eq!(list.status, StatusCode::OK);
    let path = format!("/api/v1/users/{}", mia.id);
    refused(
        &by_token(&server, &reads.token, Method::DELETE, &path).await,
        403,
        "insufficient_scope",
    );
    refused(
        &by_token(&server, &member.token, Method::GET, "/api/v1/users").await,
        403,
        "insufficient_scope",
    );
}

#[tokio::test]
async fn an_invitation_and_a_reset_link_do_not_outlive_whoever_gave_them() {
    let server = TestServer::start().await;
    let (_, mut boss) = owner(&server).await;
    let mia = server.add_user("mia@example.org", &["member"]).await;
    let (adam, mut admin) = signed_in(&server, "adam@example.org", "admin").await;
    let body = json!({"email": "own@example.org", "roles": ["admin"], "expires_in_hours": 720});
    let made = admin.json(Method::POST, "/api/v1/invitations", &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let path = format!("/api/v1/users/{}/password-reset", mia.id);
    let reset = admin.json(Method::POST, &path, &json!({})).await;
    assert_eq!(reset.status, StatusCode::CREATED, "{}", reset.text);
    let paths = [&made, &reset].map(|answer| {
        let link = answer.json()["link"].as_str().unwrap().to_owned();
        link.replace("http://127.0.0.1:8377", "")
    });
    let mut browsers = [server.browser(), server.browser()];
    for (browser, path) in browsers.iter_mut().zip(&paths) {
        assert_eq!(browser.get(path).await.status, StatusCode::OK, "{path}");
    }
    let path = format!("/api/v1/users/{}/disable", adam.id);
    let disabled = boss.json(Method::POST, &path, &json!({})).await;
    assert_eq!(disabled.status, StatusCode::OK, "{}", disabled.text);
    let fields = [("name", "Adam"), ("password", "correct horse battery")];
    for (browser, path) in browsers.iter_mut().zip(&paths) {
        let used = browser.post(path, &fields).await;
        assert_eq!(used.status, StatusCode::NOT_FOUND, "{}", used.text);
        assert!(browser.cookie("session").is_none());
    }
    let list = boss.get("/api/v1/invitations").await;
    assert!(
        list.json()["items"][0]["withdrawn_at"].is_i64(),
        "{}",
        list.text
    );
}

#[tokio::test]
async fn an_invitation_is_made_shown_once_and_withdrawn() {
    let server = TestServer::start().await;
    let mut admin = admin(&server).await;
    let body = json!({"email": "new@example.org", "roles": ["member"], "expires_in_hours": 2});
    let made = admin.json(Method::POST, "/api/v1/invitations", &body).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let link = made.json()["link"].as_str().unwrap().to_owned();
    assert!(
        link.starts_with("http://127.0.0.1:8377/invitations/"),
        "{link}"
    );
    assert_eq!(made.json()["invitation"]["expires_at"], START + 2 * HOUR_MS);
    let list = admin.get("/api/v1/invitations").await;
    assert_eq!(list.json()["items"][0]["email"], "new@example.org");
    let token = link.rsplit('/').next().unwrap();
    assert!(!list.text.contains(token), "the link is shown once");
    assert_eq!(
        server
            .browser()
            .get(&format!("/invitations/{token}"))
            .await
            .status,
        StatusCode::OK
    );
    let path = format!(
        "/api/v1/invitations/{}",
        made.json()["invitation"]["id"].as_str().unwrap()
    );
    for _ in 0..2 {
        assert_eq!(
            admin.json(Method::DELETE, &path, &Value::Null).await.status,
            StatusCode::NO_CONTENT
        );
    }
    let gone = server.browser().get(&format!("/invitations/{token}")).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    refused(
        &admin
            .json(Method::DELETE, "/api/v1/invitations/x", &Value::Null)
            .await,
        404,
        "invitation_invalid",
    );
    for (bad, status, code) in [
        (json!({"email": OWNER_EMAIL}), 409, "email_taken"),
        (json!({"email": "x"}), 400, "invalid_email"),
        (
            json!({"email": "x@example.org", "expires_in_hours": 721}),
            400,
            "invalid_lifetime",
        ),
        (
            json!({"email": "x@example.org", "expires_in_hours": 0}),
            400,
            "invalid_lifetime",
        ),
    ] {
        refused(
            &admin.json(Method::POST, "/api/v1/invitations", &bad).await,
            status,
            code,
        );
    }
}
