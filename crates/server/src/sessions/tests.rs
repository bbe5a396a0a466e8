mod beside;
mod bodies;
mod elsewhere;
mod examples;
mod shared;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_domain::people::{EndReason, OAuthScopes, TokenDigest};
use keywright_domain::pkce::random_token;
use keywright_registry::AuditQuery;
use keywright_registry::people::{
    CodeOutcome, CodeRequest, NewCode, NewSignIn, PeopleRetention, User,
};
use serde_json::{Value, json};

use crate::oauth2::access_token::{self, NewAccessToken};
use crate::signing::Alg;
use crate::test_support::{Answer, Browser, START, TestServer};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What an application got.
pub(crate) struct Access {
    pub(crate) token: String,
    pub(crate) refresh: SecretText,
    pub(crate) grant: String,
}

/// Gives an application access to somebody's account, in a session or without one, by their consent.
pub(crate) async fn give_access(
    server: &TestServer,
    user: &User,
    session: Option<&str>,
    client: &str,
    scopes: &str,
) -> Access {
    let allowed = OAuthScopes::parse(scopes).unwrap();
    server
        .registry()
        .give_consent(&Actor::person(&user.id), &user.id, client, None, &allowed)
        .await
        .unwrap();
    give_grant(server, user, session, client, scopes).await
}

/// The same for a client that people need not be asked about.
async fn give_grant(
    server: &TestServer,
    user: &User,
    session: Option<&str>,
    client: &str,
    scopes: &str,
) -> Access {
    let app = server.server.app();
    let scopes = OAuthScopes::parse(scopes).unwrap();
    let (code, refresh) = (
        random_token(&mut rand::rng()),
        random_token(&mut rand::rng()),
    );
    let redirect_uri = "http://127.0.0.1/callback".to_owned();
    let challenge = Some("c".repeat(43));
    let new = NewCode {
        digest: TokenDigest::of(&code),
        client_id: client.to_owned(),
        user_id: user.id.clone(),
        session_id: session.map(str::to_owned),
        redirect_uri: redirect_uri.clone(),
        scopes: scopes.clone(),
        nonce: None,
        code_challenge: challenge.clone(),
        dpop_jkt: None,
        resource: None,
        authenticated_at: app.now(),
        acr: "aal1".into(),
        amr: "pwd".into(),
        offline: true,
        lifetime_ms: 60_000,
    };
    let actor = Actor::person(&user.id);
    app.registry.issue_code(&actor, &new).await.unwrap();
    let jti = access_token::new_jti();
    let request = CodeRequest {
        digest: TokenDigest::of(&code),
        client_id: client.to_owned(),
        redirect_uri,
        code_challenge: challenge,
        dpop_jkt: None,
        refresh_token: TokenDigest::of(&refresh),
        access_jti: jti.clone(),
        access_expires_at: app.now() + 900_000,
        lives: app.settings.refresh,
        user_agent: "curl/8.5.0".into(),
        network: "192.0.2.7".into(),
    };
    let outcome = app.registry.redeem_code(&request).await.unwrap();
    let CodeOutcome::Redeemed { grant, .. } = outcome else {
        panic!("{outcome:?}")
    };
    let (token, _) = access_token::issue(
        app,
        NewAccessToken {
            subject: user.id.clone(),
            resource: None,
            client_id: client,
            scopes: &scopes,
            jti,
            sid: session.map(str::to_owned),
            gid: Some(grant.id.clone()),
            auth_time_ms: None,
            acr: None,
            amr: None,
            roles: Vec::new(),
            jkt: None,
            alg: Alg::Rs256,
        },
    )
    .unwrap();
    Access {
        token,
        refresh,
        grant: grant.id.clone(),
    }
}

/// A request with an access token and nothing else.
pub(crate) async fn by_token(
    server: &TestServer,
    token: &str,
    method: Method,
    path: &str,
) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    server
        .browser()
        .send(method, path, &headers, Body::empty())
        .await
}

async fn session_id(browser: &mut Browser) -> String {
    let list = browser.get("/api/v1/sessions").await.json();
    let items = list["items"].as_array().unwrap();
    let own = items.iter().find(|one| one["current"] == true).unwrap();
    own["id"].as_str().unwrap().to_owned()
}

async fn person(server: &TestServer) -> (User, Browser) {
    let user = server.add_user("ada@example.org", &["member"]).await;
    let browser = server.sign_in_as(&user).await;
    (user, browser)
}

async fn count(browser: &mut Browser) -> usize {
    let list = browser.get("/api/v1/sessions").await.json();
    list["items"].as_array().unwrap().len()
}

fn set_cookies(answer: &Answer) -> Vec<&str> {
    let values = answer.headers.get_all("set-cookie").iter();
    values.map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test]
async fn s2_18_s2_26_s2_27_the_session_says_who_and_until_when() {
    let server = TestServer::start().await;
    let (user, mut browser) = person(&server).await;
    let answer = browser.get("/auth/session").await;
    assert_eq!(answer.status, StatusCode::OK);
    let body = answer.json();
    assert_eq!(body["user"]["id"], user.id.as_str());
    assert_eq!(body["user"]["email"], "ada@example.org");
    assert_eq!(body["expires"], "2027-01-22T08:00:00Z", "the idle life");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("vary"), "Cookie");
    assert!(set_cookies(&answer).is_empty());
}

#[tokio::test]
async fn ac_110_without_a_cookie_401_and_nothing_is_set() {
    let server = TestServer::start().await;
    let answer = server.browser().get("/auth/session").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.json()["code"], "session_missing");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("vary"), "Cookie");
    assert!(set_cookies(&answer).is_empty());
}

#[tokio::test]
async fn ac_109_s2_21_s2_22_wrong_methods_get_405_allow_and_json() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    for (method, path, allowed) in [
        (Method::PUT, "/auth/session", "GET"),
        (Method::GET, "/auth/signOut", "POST"),
        (Method::POST, "/auth/csrfToken", "GET"),
        (Method::PATCH, "/api/v1/sessions", "GET"),
        (Method::GET, "/api/v1/sessions/revoke-all", "POST"),
        (Method::PUT, "/api/v1/users", "POST"),
    ] {
        let answer = browser.send(method, path, &[], Body::empty()).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert!(answer.header("allow").contains(allowed), "{path}");
        assert_eq!(answer.json()["code"], "method_not_allowed");
        assert!(answer.header("content-type").contains("json"));
    }
}

#[tokio::test]
async fn s2_31_s2_32_s2_33_a_csrf_token_is_made_once_and_reused() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    let first = browser.get("/auth/csrfToken").await;
    let token = first.json()["csrfToken"].as_str().unwrap().to_owned();
    assert_eq!(browser.cookie("csrf_token"), Some(token.as_str()));
    assert_eq!(first.header("cache-control"), "no-store");
    assert_eq!(first.header("vary"), "Cookie", "S2-26");
    let again = browser.get("/auth/csrfToken").await;
    assert_eq!(again.json()["csrfToken"], token.as_str());
    assert!(set_cookies(&again).is_empty());
    // One that is not ours is replaced.
    let (_, mut browser) = person(&server).await;
    let own = browser.cookie("csrf_token").unwrap().to_owned();
    assert_eq!(
        browser.get("/auth/csrfToken").await.json()["csrfToken"],
        own.as_str()
    );
    browser.cookies.retain(|(name, _)| name != "csrf_token");
    browser.cookies.push(("csrf_token".into(), token.clone()));
    let fresh = browser.get("/auth/csrfToken").await;
    assert_ne!(fresh.json()["csrfToken"], token.as_str());
    assert_eq!(set_cookies(&fresh).len(), 1);
}

#[tokio::test]
async fn s2_19_s2_34_s3_51_s3_52_ac_108_sign_out_ends_and_clears() {
    let server = TestServer::start().await;
    let (user, mut browser) = person(&server).await;
    server.add_client("app", None, |_| {}).await;
    let sid = session_id(&mut browser).await;
    let access = give_access(&server, &user, Some(&sid), "app", "openid account").await;
    let mut old = browser.clone();
    let path = "/auth/signOut?token_type_hint=session_token&redirectTo=%2Faccount%2Fended";
    let answer = browser.post(path, &[]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    assert_eq!(answer.location(), "/account/ended");
    assert!(browser.cookie("session").is_none());
    let cleared = set_cookies(&answer);
    for name in ["session=", "csrf_token=", "refresh_token="] {
        let found = cleared.iter().find(|one| one.starts_with(name)).unwrap();
        assert!(found.contains("Max-Age=0"), "{found}");
    }
    let answer = old.get("/auth/session").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.json()["code"], "session_revoked");
    let denied = by_token(&server, &access.token, Method::GET, "/api/v1/sessions").await;
    assert_eq!(denied.json()["code"], "token_revoked");
    // Again: nothing is wrong with it.
    let again = old.post("/auth/signOut", &[]).await;
    assert_eq!(
        (again.status, again.json()),
        (StatusCode::OK, json!({"signedOut": false}))
    );
    let kept = server
        .registry()
        .list_sessions(&user.id, false, None, 10)
        .await
        .unwrap();
    assert_eq!(kept.items[0].end_reason, Some(EndReason::SignedOut));
}

#[tokio::test]
async fn s2_29_s2_30_sign_out_without_a_csrf_token_is_refused() {
    let server = TestServer::start().await;
    let (_, mut browser) = person(&server).await;
    let mut bare = browser.clone();
    bare.cookies.retain(|(name, _)| name != "csrf_token");
    let answer = bare.post("/auth/signOut", &[]).await;
    assert_eq!(
        (answer.status, answer.json()["code"].clone()),
        (StatusCode::FORBIDDEN, json!("csrf_missing"))
    );
    let answer = bare.post("/auth/signOut", &[("csrf_token", "AAAA")]).await;
    assert_eq!(answer.json()["code"], "csrf_invalid");
    let token = browser.cookie("csrf_token").unwrap().to_owned();
    let headers = [
        ("x-csrf-token", token.as_str()),
        ("origin", "https://evil.example"),
    ];
    let answer = browser
        .send(Method::POST, "/auth/signOut", &headers, Body::empty())
        .await;
    assert_eq!(answer.json()["code"], "origin_rejected");
    assert_eq!(browser.get("/auth/session").await.status, StatusCode::OK);
    let headers = [("x-csrf-token", token.as_str())];
    let answer = browser
        .send(Method::POST, "/auth/signOut", &headers, Body::empty())
        .await;
    assert_eq!(answer.json(), json!({"signedOut": true}));
}

#[tokio::test]
async fn s2_34_ac_119_parameters_of_sign_out() {
    let server = TestServer::start().await;
    let (_, mut browser) = person(&server).await;
    for (query, code) in [
        ("token_type_hint=refresh_token", "unsupported_token_type"),
        ("redirectto=/x", "unknown_parameter"),
        ("redirect_to=/x", "unknown_parameter"),
        ("tokenTypeHint=session_token", "unknown_parameter"),
        ("redirectTo=https://evil.example", "invalid_redirect"),
        ("redirectTo=//evil.example", "invalid_redirect"),
        ("redirectTo=/a&redirectTo=/b", "repeated_parameter"),
    ] {
        let answer = browser.post(&format!("/auth/signOut?{query}"), &[]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(answer.json()["code"], code, "{query}");
    }
    let answer = browser.post("/auth/signOut?redirectto=/x", &[]).await;
    assert_eq!(answer.json()["suggestion"], "redirectTo");
    assert_eq!(browser.get("/auth/session").await.status, StatusCode::OK);
    let answer = browser.post("/auth/signOut?state=1", &[]).await;
    assert_eq!(answer.status, StatusCode::OK, "others are ignored");
}

#[tokio::test]
async fn ac_106_ac_118_both_ages_end_a_session_and_the_reason_is_kept() {
    let server = TestServer::start().await;
    let (user, mut browser) = person(&server).await;
    let mut idle = server.sign_in_as(&user).await;
    // Used every six days, it goes on to its absolute age and no further.
    for _ in 0..4 {
        server.pass(6 * DAY_MS);
        let answer = browser.get("/auth/session").await;
        assert_eq!(answer.status, StatusCode::OK);
        let expires = answer.json()["expires"].as_str().unwrap().to_owned();
        assert!(*"2027-02-14T08:00:00Z" >= *expires, "{expires}");
    }
    let expires = browser.get("/auth/session").await.json()["expires"].clone();
    assert_eq!(expires, "2027-02-14T08:00:00Z");
    let answer = idle.get("/auth/session").await;
    assert_eq!(answer.json()["code"], "session_expired");
    assert!(idle.cookie("session").is_none(), "cleared");
    server.pass(6 * DAY_MS);
    let answer = browser.get("/api/v1/sessions").await;
    assert_eq!(
        (answer.status, answer.json()["code"].clone()),
        (StatusCode::UNAUTHORIZED, json!("session_expired"))
    );
    server
        .registry()
        .prune_people(&PeopleRetention::default())
        .await
        .unwrap();
    let kept = server
        .registry()
        .list_sessions(&user.id, false, None, 10)
        .await
        .unwrap();
    assert_eq!(kept.items.len(), 2);
    for session in kept.items {
        assert_eq!(session.end_reason, Some(EndReason::Expired));
    }
}

#[tokio::test]
async fn ac_107_a_sign_in_in_the_same_browser_ends_the_session_before() {
    let server = TestServer::start().await;
    let (user, browser) = person(&server).await;
    let mut old = browser.clone();
    let app = server.server.app();
    let mut headers = axum::http::HeaderMap::new();
    let cookie = format!("session={}", browser.cookie("session").unwrap());
    headers.insert("cookie", cookie.parse().unwrap());
    let peer = crate::http::Peer {
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        user_agent: "Test browser".into(),
    };
    let proof = crate::browser_session::Proof {
        amr: "pwd",
        acr: "aal1",
        method: "password",
        identifier: "ada",
        proven_at: Some(app.now()),
    };
    let cookies = crate::http::Cookies::read(&headers);
    let begun = crate::browser_session::begin(app, &cookies, &peer, &user.id, &proof)
        .await
        .unwrap();
    let fresh = begun.headers.get_all("set-cookie").iter().next().unwrap();
    assert!(!fresh.to_str().unwrap().contains(&cookie));
    assert_eq!(
        old.get("/auth/session").await.json()["code"],
        "session_revoked"
    );
}

#[tokio::test]
async fn ac_116_last_use_is_written_every_five_minutes() {
    let server = TestServer::start().await;
    let (_, mut browser) = person(&server).await;
    let mut seen = Vec::new();
    for pass in [299_000, 2_000, 298_000, 301_000] {
        server.pass(pass);
        let list = browser.get("/api/v1/sessions").await.json();
        seen.push(list["items"][0]["last_used_at"].as_i64().unwrap() - START);
    }
    assert_eq!(seen, [0, 301_000, 301_000, 900_000]);
}

#[tokio::test]
async fn ac_113_a_person_sees_their_own_sessions_with_all_facts() {
    let server = TestServer::start().await;
    let (user, mut browser) = person(&server).await;
    server.pass(1_000);
    let mut other = server.sign_in_as(&user).await;
    let stranger = server.add_user("eve@example.org", &["member"]).await;
    let mut eve = server.sign_in_as(&stranger).await;
    server.add_client("app", None, |_| {}).await;
    let sid = session_id(&mut browser).await;
    give_access(&server, &user, Some(&sid), "app", "openid").await;

    let list = browser.get("/api/v1/sessions").await;
    assert_eq!(list.header("cache-control"), "no-store");
    let items = list.json()["items"].as_array().unwrap().clone();
    assert_eq!(items.len(), 2);
    let own = items.iter().find(|one| one["current"] == true).unwrap();
    assert_eq!(own["id"], sid.as_str());
    assert_eq!(own["browser"], "Test browser");
    assert_eq!(
        (own["device"].clone(), own["os"].clone()),
        (json!("program"), json!("unknown"))
    );
    assert_eq!(own["address"], "127.0.0.1");
    assert_eq!(own["signed_in_at"], START);
    assert_eq!(own["expires_at"], START + 7 * DAY_MS);
    assert_eq!(own["ends_at"], START + 30 * DAY_MS);
    assert_eq!(own["amr"], json!(["pwd"]));
    assert_eq!(own["clients"], json!([{"id": "app", "name": "Client app"}]));

    // Pages.
    let first = browser.get("/api/v1/sessions?limit=1").await.json();
    assert_eq!(first["items"][0]["current"], false, "newest first");
    let next = first["next_cursor"].as_str().unwrap();
    let second = browser
        .get(&format!("/api/v1/sessions?limit=1&cursor={next}"))
        .await
        .json();
    assert_eq!(second["items"][0]["id"], sid.as_str());
    assert_eq!(second["next_cursor"], Value::Null);
    let bad = browser.get("/api/v1/sessions?cursor=x").await;
    assert_eq!(bad.json()["code"], "invalid_cursor");

    // Somebody else's is not there.
    let path = format!("/api/v1/sessions/{sid}");
    let answer = eve.json(Method::DELETE, &path, &Value::Null).await;
    assert_eq!(
        (answer.status, answer.json()["code"].clone()),
        (StatusCode::NOT_FOUND, json!("session_not_found"))
    );
    assert_eq!(other.get("/auth/session").await.status, StatusCode::OK);
    assert_eq!(browser.get("/auth/session").await.status, StatusCode::OK);
}

#[tokio::test]
async fn ac_114_ending_a_session_ends_its_access_at_once_and_leaves_others() {
    let server = TestServer::start().await;
    let (user, mut browser) = person(&server).await;
    let mut other = server.sign_in_as(&user).await;
    server.add_client("app", None, |_| {}).await;
    let (own, theirs) = (session_id(&mut browser).await, session_id(&mut other).await);
    let mine = give_access(&server, &user, Some(&own), "app", "openid account").await;
    let ended = give_access(&server, &user, Some(&theirs), "app", "openid account").await;
    let ask = async |token: &str| by_token(&server, token, Method::GET, "/api/v1/sessions").await;
    assert_eq!(ask(&ended.token).await.status, StatusCode::OK);

    let path = format!("/api/v1/sessions/{theirs}");
    let mut bare = browser.clone();
    bare.cookies.retain(|(name, _)| name != "csrf_token");
    let refused = bare.json(Method::DELETE, &path, &Value::Null).await;
    assert_eq!(refused.json()["code"], "csrf_missing");
    assert_eq!(ask(&ended.token).await.status, StatusCode::OK);

    for _ in 0..2 {
        let answer = browser.json(Method::DELETE, &path, &Value::Null).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "also again");
    }
    assert_eq!(ask(&ended.token).await.json()["code"], "token_revoked");
    let refresh = |access: &Access| {
        let token = access.refresh.expose().to_owned();
        let mut program = server.browser();
        async move {
            let fields = [
                ("grant_type", "refresh_token"),
                ("client_id", "app"),
                ("refresh_token", token.as_str()),
            ];
            program.post("/oauth2/token", &fields).await
        }
    };
    assert_eq!(refresh(&ended).await.json()["error"], "invalid_grant");
    assert_eq!(refresh(&mine).await.status, StatusCode::OK);
    assert_eq!(
        other.get("/auth/session").await.json()["code"],
        "session_revoked"
    );
    assert_eq!(browser.get("/auth/session").await.status, StatusCode::OK);
    assert_eq!(ask(&mine.token).await.status, StatusCode::OK);
    let reason = server
        .registry()
        .list_sessions(&user.id, false, None, 10)
        .await
        .unwrap()
        .items
        .into_iter()
        .find(|one| one.id == theirs)
        .unwrap()
        .end_reason;
    assert_eq!(reason, Some(EndReason::EndedByUser));
}

#[tokio::test]
async fn ac_114_revoke_others_leaves_exactly_one_and_all_leaves_none() {
    let server = TestServer::start().await;
    let (user, mut browser) = person(&server).await;
    for _ in 0..4 {
        server.sign_in_as(&user).await;
    }
    server.add_client("app", None, |_| {}).await;
    let own = session_id(&mut browser).await;
    let mine = give_access(&server, &user, Some(&own), "app", "openid account").await;
    let device = give_access(&server, &user, None, "app", "openid account").await;
    assert_eq!(count(&mut browser).await, 5);

    let path = "/api/v1/sessions/revoke-others";
    let refused = by_token(&server, &device.token, Method::POST, path).await;
    assert_eq!(refused.json()["code"], "no_session");
    let answer = browser.json(Method::POST, path, &Value::Null).await.json();
    assert_eq!(
        (answer["sessions"].clone(), answer["access_ends_at"].clone()),
        (json!(4), json!(START + 900_000))
    );
    // Everywhere else is everywhere else: what no session stands for ends too.
    assert_eq!(answer["grants"], 1);
    let ended = by_token(&server, &device.token, Method::GET, "/api/v1/sessions").await;
    assert_eq!(ended.json()["code"], "token_revoked");
    assert_eq!(count(&mut browser).await, 1);
    assert_eq!(
        by_token(&server, &mine.token, Method::GET, "/api/v1/sessions")
            .await
            .status,
        StatusCode::OK
    );

    let path = "/api/v1/sessions/revoke-all";
    let answer = browser.json(Method::POST, path, &Value::Null).await.json();
    assert_eq!(
        (answer["sessions"].clone(), answer["grants"].clone()),
        (json!(1), json!(1))
    );
    assert_eq!(
        browser.get("/auth/session").await.json()["code"],
        "session_revoked"
    );
    for token in [&mine.token, &device.token] {
        let answer = by_token(&server, token, Method::GET, "/api/v1/sessions").await;
        assert_eq!(answer.json()["code"], "token_revoked");
    }
}

#[tokio::test]
async fn ac_114_fifty_parallel_ends_end_once_and_deny_before_they_answer() {
    let server = TestServer::start().await;
    let (user, mut browser) = person(&server).await;
    server.add_client("app", None, |_| {}).await;
    let mut other = server.sign_in_as(&user).await;
    let sid = session_id(&mut other).await;
    let access = give_access(&server, &user, Some(&sid), "app", "openid account").await;
    let path = format!("/api/v1/sessions/{sid}");
    let tries: Vec<_> = (0..50)
        .map(|_| {
            let (mut browser, path) = (browser.clone(), path.clone());
            let (router, token) = (server.browser(), access.token.clone());
            tokio::spawn(async move {
                let ended = browser.json(Method::DELETE, &path, &Value::Null).await;
                let bearer = format!("Bearer {token}");
                let headers = [("authorization", bearer.as_str())];
                let mut router = router;
                let asked = router
                    .send(Method::GET, "/api/v1/sessions", &headers, Body::empty())
                    .await;
                (ended.status, asked.status)
            })
        })
        .collect();
    for one in tries {
        let expected = (StatusCode::NO_CONTENT, StatusCode::UNAUTHORIZED);
        assert_eq!(one.await.unwrap(), expected);
    }
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
    let ends = events
        .iter()
        .filter(|event| event.action == "session.ended");
    assert_eq!(ends.count(), 1);
    assert_eq!(count(&mut browser).await, 1);
}

#[tokio::test]
async fn ac_115_one_session_too_many_ends_the_oldest() {
    let server = TestServer::with(|settings| settings.max_sessions = 5).await;
    let (user, mut first) = person(&server).await;
    for _ in 0..4 {
        server.pass(1_000);
        server.sign_in_as(&user).await;
    }
    assert_eq!(first.get("/auth/session").await.status, StatusCode::OK);
    server.pass(1_000);
    let mut last = server.sign_in_as(&user).await;
    assert_eq!(
        first.get("/auth/session").await.json()["code"],
        "session_revoked"
    );
    assert_eq!(count(&mut last).await, 5);
    let kept = server
        .registry()
        .list_sessions(&user.id, false, None, 10)
        .await
        .unwrap();
    let oldest = kept.items.last().unwrap();
    assert_eq!(oldest.end_reason.unwrap().as_str(), "max_sessions_exceeded");
}

#[tokio::test]
async fn ac_117_another_password_ends_all_other_sessions_and_their_access() {
    let server = TestServer::start().await;
    let (user, mut browser) = person(&server).await;
    let mut other = server.sign_in_as(&user).await;
    server.add_client("app", None, |_| {}).await;
    let (own, theirs) = (session_id(&mut browser).await, session_id(&mut other).await);
    let access = give_access(&server, &user, Some(&theirs), "app", "openid account").await;
    let app = server.server.app();
    let hash = app
        .passwords
        .hash(&SecretText::new("another password".into()))
        .await
        .unwrap();
    let actor = Actor::person(&user.id);
    let ended = app
        .registry
        .set_password_hash(&actor, &user.id, Some(&hash), Some(&own))
        .await
        .unwrap();
    super::ended_elsewhere(app, &ended).await.unwrap();
    assert_eq!(
        other.get("/auth/session").await.json()["code"],
        "session_revoked"
    );
    assert_eq!(browser.get("/auth/session").await.status, StatusCode::OK);
    let denied = by_token(&server, &access.token, Method::GET, "/api/v1/sessions").await;
    assert_eq!(denied.json()["code"], "token_revoked");
}
