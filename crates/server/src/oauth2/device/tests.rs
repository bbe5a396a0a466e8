use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use keywright_registry::people::User;

use super::*;
use crate::oauth2::dpop::tests::ClientKey;
use crate::oauth2::testing::{self, text};
use crate::test_support::{Answer, Browser, TestServer};

async fn start() -> (TestServer, User, Browser) {
    let server = TestServer::start().await;
    for id in ["tv", "tv2"] {
        server
            .add_client(id, None, |new| new.grant_types.push(DEVICE.into()))
            .await;
    }
    server.add_client("app", None, |_| {}).await;
    let user = server.add_user("ann@example.org", &[]).await;
    let browser = server.sign_in_as(&user).await;
    (server, user, browser)
}

async fn ask(server: &TestServer, fields: &[(&str, &str)]) -> Answer {
    let path = "/oauth2/device_authorization";
    server.browser().post(path, fields).await
}

async fn begin(server: &TestServer) -> (String, String) {
    let fields = [("client_id", "tv"), ("scope", "openid email")];
    let answer = ask(server, &fields).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    (text(&answer, "device_code"), text(&answer, "user_code"))
}

async fn poll_as(server: &TestServer, client: &str, code: &str) -> Answer {
    let form = format!("grant_type={DEVICE}&client_id={client}&device_code={code}");
    testing::token_request(server, &[], form).await
}

async fn poll(server: &TestServer, code: &str) -> Answer {
    poll_as(server, "tv", code).await
}

async fn decide(browser: &mut Browser, user_code: &str, decision: &str) -> Answer {
    let fields = [("user_code", user_code), ("decision", decision)];
    browser.post("/device", &fields).await
}

#[tokio::test]
async fn s52_s53_the_code_is_shown_and_confirmed_and_gives_tokens_once() {
    let (server, _user, mut browser) = start().await;
    let fields = [
        ("client_id", "tv"),
        ("scope", "openid email offline_access"),
        ("unknown", "x"),
    ];
    let answer = ask(&server, &fields).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let body = answer.json();
    assert_eq!(body["verification_uri"], "http://127.0.0.1:8377/device");
    assert_eq!(
        (body["interval"].as_i64(), body["expires_in"].as_i64()),
        (Some(5), Some(600))
    );
    let user_code = text(&answer, "user_code");
    let device_code = text(&answer, "device_code");
    assert_eq!(device_code.len(), 43, "256 bits");
    let complete = text(&answer, "verification_uri_complete");
    let path = complete.strip_prefix("http://127.0.0.1:8377").unwrap();

    assert_eq!(
        testing::error(&poll(&server, &device_code).await),
        "authorization_pending"
    );
    // From verification_uri: a form.
    let entry = browser.get("/device").await;
    assert!(entry.text.contains("name=\"user_code\""));
    // By the link: shown and asked, nothing decided.
    let page = browser.get(path).await;
    assert_eq!(page.status, StatusCode::OK);
    // S54: facts about client and device.
    for fact in [
        user_code.as_str(),
        "Client tv",
        "0.0.0.0",
        "See your e-mail address",
    ] {
        assert!(page.text.contains(fact), "{fact}");
    }
    server.pass(5_000);
    assert_eq!(
        testing::error(&poll(&server, &device_code).await),
        "authorization_pending"
    );
    let done = decide(&mut browser, &user_code.to_lowercase(), "allow").await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text);
    assert_eq!(done.location(), "/device/done?it=allowed");
    assert!(
        browser
            .get(done.location())
            .await
            .text
            .contains("connected")
    );
    server.pass(5_000);
    // Another client's code is none (and does not use it up).
    assert_eq!(
        testing::error(&poll_as(&server, "tv2", &device_code).await),
        "invalid_grant"
    );
    let tokens = poll(&server, &device_code).await;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.text);
    let access = text(&tokens, "access_token");
    assert_eq!(
        testing::userinfo(&server, &access).await.json()["email"],
        "ann@example.org"
    );
    assert!(text(&tokens, "id_token").contains('.'));
    // S56.
    assert_eq!(
        testing::error(&poll(&server, &device_code).await),
        "invalid_grant"
    );
    let refresh = text(&tokens, "refresh_token");
    let refreshed = testing::refresh(&server, &refresh, &[("client_id", "tv")]).await;
    assert_eq!(refreshed.status, StatusCode::OK, "{}", refreshed.text);
    // The code cannot be decided again.
    let again = decide(&mut browser, &user_code, "deny").await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s56_fifty_uses_of_one_device_code_give_tokens_once() {
    let (server, _user, mut browser) = start().await;
    let (device_code, user_code) = begin(&server).await;
    decide(&mut browser, &user_code, "allow").await;
    let server = Arc::new(server);
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (server, code) = (Arc::clone(&server), device_code.clone());
        running.spawn(async move { poll(&server, &code).await });
    }
    let answers = running.join_all().await;
    let good = answers
        .iter()
        .filter(|answer| answer.status == StatusCode::OK);
    assert_eq!(good.count(), 1);
    for answer in answers
        .iter()
        .filter(|answer| answer.status != StatusCode::OK)
    {
        assert_eq!(testing::error(answer), "invalid_grant");
    }
}

#[tokio::test]
async fn s55_denied_expired_and_too_fast() {
    let (server, _user, mut browser) = start().await;
    let (device_code, user_code) = begin(&server).await;
    assert_eq!(
        testing::error(&poll(&server, &device_code).await),
        "authorization_pending"
    );
    let fast = poll(&server, &device_code).await;
    assert_eq!(testing::error(&fast), "slow_down");
    // Persistently: five seconds are too few now, ten are enough.
    server.pass(5_000);
    assert_eq!(
        testing::error(&poll(&server, &device_code).await),
        "slow_down"
    );
    server.pass(15_000);
    assert_eq!(
        testing::error(&poll(&server, &device_code).await),
        "authorization_pending"
    );
    let denied = decide(&mut browser, &user_code, "deny").await;
    assert_eq!(denied.location(), "/device/done?it=denied");
    assert_eq!(
        testing::error(&poll(&server, &device_code).await),
        "access_denied"
    );

    let (device_code, user_code) = begin(&server).await;
    server.pass(600_000);
    assert_eq!(
        testing::error(&poll(&server, &device_code).await),
        "expired_token"
    );
    let late = decide(&mut browser, &user_code, "allow").await;
    assert_eq!(late.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        testing::error(&poll(&server, "unknown").await),
        "invalid_grant"
    );
}

#[tokio::test]
async fn s51_s56_who_may_ask_and_for_what() {
    let (server, _user, _browser) = start().await;
    for (fields, error) in [
        (vec![("client_id", "app")], "unauthorized_client"),
        (vec![("client_id", "nobody")], "invalid_client"),
        (vec![("scope", "openid")], "invalid_client"),
        (
            vec![("client_id", "tv"), ("scope", "users:write")],
            "invalid_scope",
        ),
        (
            vec![("client_id", "tv"), ("resource", "https://x.example")],
            "invalid_target",
        ),
        (
            vec![("client_id", "tv"), ("scope", "a"), ("scope", "b")],
            "invalid_request",
        ),
    ] {
        assert_eq!(
            testing::error(&ask(&server, &fields).await),
            error,
            "{fields:?}"
        );
    }
    // S56: a confidential client proves itself.
    server
        .add_client("box", Some("a secret of 128 bits"), |new| {
            new.grant_types.push(DEVICE.into());
        })
        .await;
    let refused = ask(&server, &[("client_id", "box")]).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    for _ in 0..60 {
        ask(&server, &[("client_id", "tv"), ("scope", "users:write")]).await;
    }
    let many = ask(&server, &[("client_id", "tv")]).await;
    assert_eq!(many.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn ac_171_s54_codes_are_guessed_by_people_who_are_signed_in_and_slowly() {
    let (server, _user, mut browser) = start().await;
    let (_, user_code) = begin(&server).await;
    let mut nobody = server.browser();
    let path = format!("/device?user_code={user_code}");
    let sent = nobody.get(&path).await;
    assert_eq!(sent.status, StatusCode::SEE_OTHER);
    assert!(
        sent.location().starts_with("/sign-in?"),
        "{}",
        sent.location()
    );
    assert_eq!(
        sent.location_param("return_to").as_deref(),
        Some(path.as_str())
    );
    let sent = decide(&mut nobody, &user_code, "allow").await;
    assert!(sent.location().starts_with("/sign-in?"));
    for typed in ["", "nonsense", "%3Cscript%3E"] {
        let page = browser.get(&format!("/device?user_code={typed}")).await;
        assert!(page.text.contains("name=\"user_code\""));
        assert!(!page.text.contains("<script>"));
    }
    for _ in 0..5 {
        let wrong = browser.get("/device?user_code=BBBB-BBBB").await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    }
    let waits = browser.get(&path).await;
    assert_eq!(waits.status, StatusCode::TOO_MANY_REQUESTS);
    let waits = decide(&mut browser, &user_code, "allow").await;
    assert_eq!(waits.status, StatusCode::TOO_MANY_REQUESTS);
    // Codes that are none cost nothing, and in ten minutes the right one is right.
    server.pass(600_000);
    let (_, user_code) = begin(&server).await;
    for _ in 0..4 {
        let wrong = decide(&mut browser, "BBBB-BBBB", "allow").await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    }
    let done = decide(&mut browser, &user_code, "allow").await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text);
}

/// Counted before they are looked up: many at once find out no more than one after the other.
#[tokio::test]
async fn ac_171_s54_codes_guessed_at_once_are_no_more_and_right_ones_cost_nothing() {
    let (server, _user, browser) = start().await;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut browser = browser.clone();
        running.spawn(async move { browser.get("/device?user_code=BBBB-BBBB").await.status });
    }
    let statuses = running.join_all().await;
    let wrong = statuses
        .iter()
        .filter(|one| **one == StatusCode::BAD_REQUEST);
    assert_eq!(wrong.count(), 5, "{statuses:?}");
    let waits = statuses
        .iter()
        .filter(|one| **one == StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(waits.count(), 15, "{statuses:?}");
    // One less than too many, and then right ones, as often as they are looked at.
    server.pass(600_000);
    let mut browser = browser;
    for _ in 0..4 {
        let wrong = browser.get("/device?user_code=BBBB-BBBB").await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    }
    for _ in 0..3 {
        let (_, user_code) = begin(&server).await;
        for _ in 0..3 {
            let page = browser.get(&format!("/device?user_code={user_code}")).await;
            assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        }
        let done = decide(&mut browser, &user_code, "allow").await;
        assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text);
    }
    // Right ones forget nothing either.
    let wrong = browser.get("/device?user_code=BBBB-BBBB").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    let waits = browser.get("/device?user_code=BBBB-BBBB").await;
    assert_eq!(waits.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn s14_s53_nothing_is_decided_without_our_page() {
    let (server, _user, browser) = start().await;
    let (device_code, user_code) = begin(&server).await;
    let mut forged = browser.clone();
    let fields = [
        ("user_code", user_code.as_str()),
        ("decision", "allow"),
        ("csrf_token", "AAAA"),
    ];
    let refused = forged.post("/device", &fields).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let mut undecided = browser.clone();
    let unclear = decide(&mut undecided, &user_code, "maybe").await;
    assert_eq!(unclear.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        testing::error(&poll(&server, &device_code).await),
        "authorization_pending"
    );
}

#[tokio::test]
async fn ac_117_a_device_let_in_before_the_password_was_changed_gets_nothing() {
    let (server, user, mut browser) = start().await;
    let actor = keywright_domain::audit::Actor::person(&user.id);
    let hash = server
        .server
        .app()
        .passwords
        .hash(&keywright_domain::SecretText::new(
            "another good password".into(),
        ))
        .await
        .unwrap();
    let (device_code, user_code) = begin(&server).await;
    decide(&mut browser, &user_code, "allow").await;
    server.pass(1_000);
    // In the very session that let the device in, which goes on.
    let sessions = server.registry().list_sessions(&user.id, true, None, 10);
    let sessions = sessions.await.unwrap().items;
    let keep = sessions.first().map(|one| one.id.as_str());
    server
        .registry()
        .set_password_hash(&actor, &user.id, Some(&hash), keep)
        .await
        .unwrap();
    server.pass(5_000);
    let refused = poll(&server, &device_code).await;
    assert_eq!(testing::error(&refused), "invalid_grant");

    // One that is let in afterwards gets its tokens, also if the person signs out meanwhile.
    let mut browser = server.sign_in_as(&user).await;
    let (device_code, user_code) = begin(&server).await;
    decide(&mut browser, &user_code, "allow").await;
    let out = browser.post("/auth/signOut", &[]).await;
    assert_eq!(out.status, StatusCode::OK, "{}", out.text);
    server.pass(5_000);
    let tokens = poll(&server, &device_code).await;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.text);
}

#[tokio::test]
async fn a_device_let_in_by_a_session_that_was_ended_for_safety_gets_nothing() {
    let (server, user, mut browser) = start().await;
    let (device_code, user_code) = begin(&server).await;
    decide(&mut browser, &user_code, "allow").await;
    // Ended by its person elsewhere: whoever let the device in was perhaps not them.
    let mut other = server.sign_in_as(&user).await;
    let ended = other
        .json(
            axum::http::Method::POST,
            "/api/v1/sessions/revoke-others",
            &serde_json::json!({}),
        )
        .await;
    assert_eq!(ended.status, StatusCode::OK, "{}", ended.text);
    server.pass(5_000);
    let refused = poll(&server, &device_code).await;
    assert_eq!(testing::error(&refused), "invalid_grant");
}

/// What a device gets that was let in by this browser.
async fn let_in(server: &TestServer, browser: &mut Browser, client: &str, scope: &str) -> Answer {
    let answer = ask(server, &[("client_id", client), ("scope", scope)]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    decide(browser, &text(&answer, "user_code"), "allow").await;
    poll_as(server, client, &text(&answer, "device_code")).await
}

#[tokio::test]
async fn a_device_gets_a_refresh_token_only_where_it_was_allowed_one() {
    let (server, user, mut browser) = start().await;
    server
        .add_client("once", None, |new| new.grant_types = vec![DEVICE.into()])
        .await;
    for (client, scope, granted, refreshes) in [
        ("tv", "openid email", "openid email", false),
        ("tv", "openid offline_access", "openid offline_access", true),
        ("once", "openid offline_access", "openid", false),
    ] {
        let tokens = let_in(&server, &mut browser, client, scope).await.json();
        let scopes: Vec<_> = tokens["scope"].as_str().unwrap().split(' ').collect();
        let mut wanted: Vec<_> = granted.split(' ').collect();
        wanted.sort_unstable();
        assert_eq!(scopes, wanted, "{client} {scope}");
        assert_eq!(
            tokens["refresh_token"].is_string(),
            refreshes,
            "{client} {scope}"
        );
    }
    // Nothing of it is left in the registry either: the grant cannot be refreshed by anybody.
    let grants = server.registry().list_grants(&user.id, None, 10).await;
    assert_eq!(
        grants.unwrap().items.len(),
        3,
        "access tokens end with them"
    );
}

#[tokio::test]
async fn the_tokens_of_a_device_say_how_its_person_proved_who_they_are() {
    let (server, user, _) = start().await;
    let mut browser = server.sign_in_by(&user, "pwd otp mfa").await;
    let proven_s = server.server.app().now() / 1000;
    server.pass(60_000);
    let tokens = let_in(&server, &mut browser, "tv", "openid").await;
    for name in ["id_token", "access_token"] {
        let claims = testing::part(&text(&tokens, name), 1);
        assert_eq!(claims["auth_time"], proven_s, "{name}");
        assert_eq!(claims["acr"], "aal1", "{name}");
        assert!(
            claims["amr"].to_string().contains("otp"),
            "{name}: {claims}"
        );
        // It is in no session: it goes on when the browser signs out.
        assert!(claims.get("sid").is_none(), "{name}");
    }
    let access = text(&tokens, "access_token");
    let out = browser.post("/auth/signOut", &[]).await;
    assert_eq!(out.status, StatusCode::OK);
    assert_eq!(
        testing::userinfo(&server, &access).await.status,
        StatusCode::OK
    );

    // Proven again between the yes and the tokens: that is another sign-in than the one that said yes.
    let mut browser = server.sign_in_as(&user).await;
    let (device_code, user_code) = begin(&server).await;
    decide(&mut browser, &user_code, "allow").await;
    server.pass(1_000);
    let old = TokenDigest::of(&keywright_domain::SecretText::new(
        browser.cookie("session").unwrap().to_owned(),
    ));
    let new = TokenDigest::of(&random_token(&mut rand::rng()));
    let actor = keywright_domain::audit::Actor::person(&user.id);
    server
        .registry()
        .renew_session(&actor, &old, &new, ("aal2", "pwd otp mfa"), None)
        .await
        .unwrap();
    let tokens = poll(&server, &device_code).await;
    let claims = testing::part(&text(&tokens, "id_token"), 1);
    for name in ["auth_time", "acr", "amr"] {
        assert!(claims.get(name).is_none(), "{name}: {claims}");
    }
}

#[tokio::test]
async fn the_refreshed_tokens_of_a_device_say_it_too() {
    let (server, user, _) = start().await;
    let mut browser = server.sign_in_by(&user, "pwd otp mfa").await;
    let proven_s = server.server.app().now() / 1000;
    server.pass(60_000);
    let tokens = let_in(&server, &mut browser, "tv", "openid offline_access").await;
    let first = testing::part(&text(&tokens, "id_token"), 1);
    let mut token = text(&tokens, "refresh_token");
    // Whatever becomes of the browser that let it in: its sign-in was the one it was.
    let out = browser.post("/auth/signOut", &[]).await;
    assert_eq!(out.status, StatusCode::OK);
    server.sign_in_by(&user, "hwk").await;
    for _ in 0..2 {
        server.pass(3_600_000);
        let next = testing::refresh(&server, &token, &[("client_id", "tv")]).await;
        assert_eq!(next.status, StatusCode::OK, "{}", next.text);
        token = text(&next, "refresh_token");
        for name in ["id_token", "access_token"] {
            let claims = testing::part(&text(&next, name), 1);
            assert_eq!(claims["auth_time"], proven_s, "{name}: {claims}");
            assert_eq!(claims["acr"], first["acr"], "{name}: {claims}");
            assert_eq!(claims["amr"], first["amr"], "{name}: {claims}");
            assert!(claims.get("sid").is_none(), "{name}: {claims}");
        }
    }
}

#[tokio::test]
async fn everywhere_else_is_devices_too_and_those_that_are_still_to_come() {
    let (server, _, mut browser) = start().await;
    let tokens = let_in(&server, &mut browser, "tv", "openid offline_access").await;
    let (waiting, user_code) = begin(&server).await;
    decide(&mut browser, &user_code, "allow").await;
    let ended = browser.post("/account/end-others", &[]).await;
    assert_eq!(ended.status, StatusCode::SEE_OTHER, "{}", ended.text);
    let access = text(&tokens, "access_token");
    let refused = testing::userinfo(&server, &access).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let refresh = text(&tokens, "refresh_token");
    let refused = testing::refresh(&server, &refresh, &[("client_id", "tv")]).await;
    assert_eq!(testing::error(&refused), "invalid_grant");
    assert_eq!(
        testing::error(&poll(&server, &waiting).await),
        "invalid_grant"
    );
    assert_eq!(browser.get("/auth/session").await.status, StatusCode::OK);
}
#[tokio::test]
async fn s59_a_device_names_the_resource_that_it_asked_for_or_none() {
    const API: &str = "https://api.example.com/v1";
    const OTHER: &str = "https://other.example.com";
    let server = TestServer::with(|settings| {
        settings.resources = vec![API.into(), OTHER.into()];
    })
    .await;
    server
        .add_client("tv", None, |new| new.grant_types.push(DEVICE.into()))
        .await;
    let user = server.add_user("ann@example.org", &[]).await;
    let mut browser = server.sign_in_as(&user).await;
    for (asked, wrong, right) in [
        (API, [OTHER, testing::ISSUER, "https://x.example"], API),
        (API, [OTHER, testing::ISSUER, "nothing"], ""),
        ("", [API, OTHER, "nothing"], testing::ISSUER),
    ] {
        let mut fields = vec![("client_id", "tv"), ("scope", "openid")];
        fields.extend((!asked.is_empty()).then_some(("resource", asked)));
        let begun = ask(&server, &fields).await;
        let code = text(&begun, "device_code");
        let poll = async |resource: &str| {
            let mut form = format!("grant_type={DEVICE}&client_id=tv&device_code={code}");
            if !resource.is_empty() {
                form.push_str("&resource=");
                form.push_str(resource);
            }
            testing::token_request(&server, &[], form).await
        };
        decide(&mut browser, &text(&begun, "user_code"), "allow").await;
        for other in wrong {
            let refused = testing::error(&poll(other).await);
            assert_eq!(refused, "invalid_target", "{asked}: {other}");
        }
        // Nothing was used up.
        let tokens = poll(right).await;
        assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.text);
        let aud = if asked.is_empty() {
            testing::ISSUER
        } else {
            asked
        };
        assert_eq!(testing::part(&text(&tokens, "access_token"), 1)["aud"], aud);
    }
}

#[tokio::test]
async fn s26_tokens_of_a_confidential_device_are_bound_to_the_key_that_asks() {
    let (server, _user, mut browser) = start().await;
    let secret = "secret-of-the-kiosk";
    server
        .add_client("kiosk", Some(secret), |new| {
            new.grant_types.push(DEVICE.into());
        })
        .await;
    let authorization = testing::basic("kiosk", secret);
    let ask = async |path: &str, key: &ClientKey, jti: &str, form: String| {
        let proof = key.proof(jti, "POST", path, None);
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
            ("dpop", proof.as_str()),
        ];
        let mut client = server.browser();
        client
            .send(Method::POST, path, &headers, Body::from(form))
            .await
    };
    let (first, second) = (ClientKey::new(), ClientKey::new());
    let form = "scope=openid+offline_access".to_owned();
    let begun = ask("/oauth2/device_authorization", &first, "d", form).await;
    decide(&mut browser, &text(&begun, "user_code"), "allow").await;
    let code = text(&begun, "device_code");
    let mut form = format!("grant_type={DEVICE}&device_code={code}");
    for (key, jti) in [(&first, "1"), (&second, "2")] {
        let given = ask("/oauth2/token", key, jti, form).await;
        assert_eq!(given.status, StatusCode::OK, "{}", given.text);
        let access = text(&given, "access_token");
        assert_eq!(testing::part(&access, 1)["cnf"]["jkt"], key.jkt());
        let token = text(&given, "refresh_token");
        form = format!("grant_type=refresh_token&refresh_token={token}");
    }
}
