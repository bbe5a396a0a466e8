//! Applications, history, administrators, and what goes wrong.

use super::*;

#[tokio::test]
async fn a_token_without_the_account_scope_sees_nothing_of_the_account() {
    let server = TestServer::start().await;
    let (user, mut browser) = person(&server).await;
    server.add_client("app", None, |_| {}).await;
    let sid = session_id(&mut browser).await;
    let access = give_access(&server, &user, Some(&sid), "app", "openid profile").await;
    for (method, path) in [
        (Method::GET, "/api/v1/sessions"),
        (Method::GET, "/api/v1/applications"),
        (Method::GET, "/api/v1/sign-ins"),
        (Method::POST, "/api/v1/sessions/revoke-all"),
        (Method::POST, "/api/v1/sessions/revoke-others"),
        (Method::DELETE, "/api/v1/applications/app"),
        (Method::DELETE, "/api/v1/sessions/x"),
    ] {
        let answer = by_token(&server, &access.token, method, path).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(answer.json()["code"], "insufficient_scope");
    }
    assert_eq!(count(&mut browser).await, 1);
}

#[tokio::test]
async fn ac_105_a_token_needs_no_csrf_and_two_credentials_are_refused() {
    let server = TestServer::start().await;
    let (user, mut browser) = person(&server).await;
    server.add_client("app", None, |_| {}).await;
    let sid = session_id(&mut browser).await;
    let access = give_access(&server, &user, Some(&sid), "app", "openid account").await;
    let path = "/api/v1/sessions/revoke-others";
    let answer = by_token(&server, &access.token, Method::POST, path).await;
    assert_eq!(answer.status, StatusCode::OK);
    let bearer = format!("Bearer {}", access.token);
    let both = browser
        .send(
            Method::GET,
            "/api/v1/sessions",
            &[("authorization", &bearer)],
            Body::empty(),
        )
        .await;
    assert_eq!(
        (both.status, both.json()["code"].clone()),
        (StatusCode::BAD_REQUEST, json!("ambiguous_credentials"))
    );
}

#[tokio::test]
async fn an_application_is_listed_and_removed_with_all_its_access() {
    let server = TestServer::start().await;
    let (user, mut browser) = person(&server).await;
    server.add_client("app", None, |_| {}).await;
    server.add_client("bpp", None, |_| {}).await;
    let one = give_access(&server, &user, None, "app", "openid account").await;
    let two = give_access(&server, &user, None, "app", "openid profile").await;
    let other = give_access(&server, &user, None, "bpp", "openid account").await;

    let first = browser.get("/api/v1/applications?limit=1").await.json();
    let view = &first["items"][0];
    assert_eq!(
        (view["client_id"].clone(), view["name"].clone()),
        (json!("app"), json!("Client app"))
    );
    assert_eq!(view["scopes"], json!(["account", "openid", "profile"]));
    let grants = view["grants"].as_array().unwrap();
    let ids: Vec<_> = grants
        .iter()
        .map(|grant| grant["id"].as_str().unwrap())
        .collect();
    assert!(ids.contains(&one.grant.as_str()) && ids.contains(&two.grant.as_str()));
    assert_eq!(
        (grants[0]["browser"].clone(), grants[0]["address"].clone()),
        (json!("curl 8"), json!("192.0.2.7"))
    );
    let next = first["next_cursor"].as_str().unwrap();
    let second = browser
        .get(&format!("/api/v1/applications?limit=1&cursor={next}"))
        .await
        .json();
    assert_eq!(second["items"][0]["client_id"], "bpp");
    assert_eq!(second["next_cursor"], Value::Null);

    // What one person removes, another keeps.
    let eve = server.add_user("eve@example.org", &[]).await;
    let hers = give_access(&server, &eve, None, "app", "openid account").await;
    let path = "/api/v1/applications/app";
    let answer = browser.json(Method::DELETE, path, &Value::Null).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    let ask = async |access: &Access| {
        let answer = by_token(&server, &access.token, Method::GET, "/api/v1/sessions").await;
        answer.json()["code"].clone()
    };
    assert_eq!(ask(&one).await, "token_revoked");
    assert_eq!(ask(&two).await, "token_revoked");
    assert_eq!(ask(&other).await, Value::Null);
    assert_eq!(ask(&hers).await, Value::Null);
    let again = browser.json(Method::DELETE, path, &Value::Null).await;
    assert_eq!(again.status, StatusCode::NO_CONTENT, "it has no access");
    let events = removals(&server).await;
    assert_eq!(events, 1, "again is no change");
    let never = "/api/v1/applications/keywright-desktop";
    let never = browser.json(Method::DELETE, never, &Value::Null).await;
    assert_eq!(
        (never.status, never.json()["code"].clone()),
        (StatusCode::NOT_FOUND, json!("application_not_found"))
    );
    let trusted = give_grant(&server, &user, None, "app", "openid account").await;
    assert_eq!(ask(&trusted).await, Value::Null);
    let answer = browser.json(Method::DELETE, path, &Value::Null).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(ask(&trusted).await, "token_revoked");
    assert!(
        server
            .registry()
            .find_consent(&user.id, "app")
            .await
            .unwrap()
            .is_none()
    );
}

/// How often something was taken away from an application.
async fn removals(server: &TestServer) -> usize {
    let query = AuditQuery {
        limit: 200,
        ..AuditQuery::default()
    };
    let events = server.registry().list_audit_events(query).await.unwrap();
    let removed = events.items.iter();
    removed
        .filter(|event| event.action == "consent.revoked")
        .count()
}

#[tokio::test]
async fn ac_184_the_history_has_failures_and_nobody_elses() {
    let server = TestServer::start().await;
    let (user, mut browser) = person(&server).await;
    let failed = NewSignIn {
        user_id: Some(user.id.clone()),
        identifier: "ada@example.org".into(),
        method: "password".into(),
        failure: Some("wrong_password".into()),
        network: "192.0.2.9".into(),
        user_agent: "<script>alert(1)</script>".into(),
        session_id: None,
        device: None,
    };
    server.pass(1);
    server.registry().record_sign_in(&failed).await.unwrap();
    let eve = server.add_user("eve@example.org", &[]).await;
    server.sign_in_as(&eve).await;
    let list = browser.get("/api/v1/sign-ins").await.json();
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!(
        (items[0]["succeeded"].clone(), items[0]["outcome"].clone()),
        (json!(false), json!("wrong_password"))
    );
    assert_eq!(items[0]["address"], "192.0.2.9");
    assert_eq!(items[1]["succeeded"], true);
    let page = browser.get("/api/v1/sign-ins?limit=1").await.json();
    assert!(page["next_cursor"].is_string());
}

#[tokio::test]
async fn ac_182_administrators_see_and_end_sessions_and_others_are_refused_and_written_down() {
    let server = TestServer::start().await;
    let (user, mut member) = person(&server).await;
    let auditor = server.add_user("audrey@example.org", &["auditor"]).await;
    let mut auditor = server.sign_in_as(&auditor).await;
    let admin = server.add_user("adam@example.org", &["admin"]).await;
    let mut admin = server.sign_in_as(&admin).await;
    let sid = session_id(&mut member).await;
    let list = format!("/api/v1/users/{}/sessions", user.id);
    let one = format!("{list}/{sid}");

    let refused = member.get(&list).await;
    assert_eq!(
        (refused.status, refused.json()["scope"].clone()),
        (StatusCode::FORBIDDEN, json!("sessions:read"))
    );
    let items = auditor.get(&list).await.json()["items"].clone();
    assert_eq!(
        (items[0]["id"].clone(), items[0]["current"].clone()),
        (json!(sid), json!(false))
    );
    let refused = auditor.json(Method::DELETE, &one, &Value::Null).await;
    assert_eq!(refused.json()["scope"], "sessions:write");
    assert_eq!(
        admin.get("/api/v1/users/nobody/sessions").await.status,
        StatusCode::NOT_FOUND
    );
    let foreign = format!("/api/v1/users/nobody/sessions/{sid}");
    let answer = admin.json(Method::DELETE, &foreign, &Value::Null).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let answer = admin.json(Method::DELETE, &one, &Value::Null).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(
        member.get("/auth/session").await.json()["code"],
        "session_revoked"
    );
    let all = format!("{list}/revoke-all");
    let answer = admin.json(Method::POST, &all, &Value::Null).await;
    assert_eq!(
        (answer.status, answer.json()["sessions"].clone()),
        (StatusCode::OK, json!(0))
    );
    let history = admin
        .get(&format!("/api/v1/users/{}/sign-ins", user.id))
        .await;
    assert_eq!(history.json()["items"].as_array().unwrap().len(), 1);

    let query = AuditQuery {
        limit: 200,
        ..AuditQuery::default()
    };
    let events = server
        .registry()
        .list_audit_events(query)
        .await
        .unwrap()
        .items;
    let refused = events
        .iter()
        .filter(|event| event.action == "user.access_refused");
    assert_eq!(refused.count(), 2);
}

#[tokio::test]
async fn ac_204_a_database_that_is_gone_lets_nobody_through() {
    let server = TestServer::start().await;
    let (user, mut browser) = person(&server).await;
    server.add_client("app", None, |_| {}).await;
    let access = give_access(&server, &user, None, "app", "openid account").await;
    server.server.close().await;
    let answer = browser.get("/auth/session").await;
    assert_eq!(
        (answer.status, answer.json()["code"].clone()),
        (StatusCode::SERVICE_UNAVAILABLE, json!("store_unavailable"))
    );
    let answer = by_token(&server, &access.token, Method::GET, "/api/v1/sessions").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(super::super::catch_up(server.server.app()).await.is_err());
}

#[tokio::test]
async fn a_clock_that_is_set_back_forgets_no_denial() {
    let server = TestServer::start().await;
    let (user, mut browser) = person(&server).await;
    server.add_client("app", None, |_| {}).await;
    let mut other = server.sign_in_as(&user).await;
    let sid = session_id(&mut other).await;
    let access = give_access(&server, &user, Some(&sid), "app", "openid account").await;
    let path = format!("/api/v1/sessions/{sid}");
    browser.json(Method::DELETE, &path, &Value::Null).await;
    let app = server.server.app();
    for step in [-30_000, 60_000, -20_000] {
        server.pass(step);
        super::super::catch_up(app).await.unwrap();
        let answer = by_token(&server, &access.token, Method::GET, "/api/v1/sessions").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{step}");
    }
    // What is denied at an earlier moment than the last is known too.
    server.pass(-20_000);
    let second = give_access(&server, &user, None, "app", "openid account").await;
    let end = EndReason::EndedByUser;
    let actor = Actor::person("test");
    app.registry
        .revoke_grant(&actor, &second.grant, end)
        .await
        .unwrap();
    super::super::catch_up(app).await.unwrap();
    server.pass(30_000);
    let answer = by_token(&server, &second.token, Method::GET, "/api/v1/sessions").await;
    assert_eq!(answer.json()["code"], "token_revoked");
}

#[tokio::test]
async fn ac_080_s3_13_an_access_token_past_its_end_says_so() {
    let server = TestServer::start().await;
    let (user, mut browser) = person(&server).await;
    let id = session_id(&mut browser).await;
    server.add_client("app", None, |_| {}).await;
    let access = give_access(&server, &user, Some(&id), "app", "openid account").await;
    let path = "/api/v1/sessions";
    let good = by_token(&server, &access.token, Method::GET, path).await;
    assert_eq!(good.status, StatusCode::OK, "{}", good.text);
    // 15 minutes, and what clocks may differ by.
    server.pass(900_000 + 31_000);
    let late = by_token(&server, &access.token, Method::GET, path).await;
    assert_eq!(late.status, StatusCode::UNAUTHORIZED);
    assert_eq!(late.json()["code"], "token_expired");
    assert!(
        late.header("www-authenticate")
            .contains("error=\"invalid_token\"")
    );
}

#[tokio::test]
async fn ac_102_s2_29_an_empty_body_is_no_error_and_a_malformed_one_is() {
    let server = TestServer::start().await;
    let (_, mut browser) = person(&server).await;
    let csrf = browser.cookie("csrf_token").unwrap().to_owned();
    let json = [
        ("x-csrf-token", csrf.as_str()),
        ("content-type", "application/json"),
    ];
    let malformed = Body::from("{\"name\": ");
    let answer = browser
        .send(Method::POST, "/api/v1/keys", &json, malformed)
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
    assert_eq!(answer.json()["code"], "invalid_body");
    // No body and no content type: it signs out.
    let answer = browser
        .send(Method::POST, "/auth/signOut", &json[..1], Body::empty())
        .await;
    assert_eq!(
        (answer.status, answer.json()),
        (StatusCode::OK, json!({ "signedOut": true }))
    );
}
