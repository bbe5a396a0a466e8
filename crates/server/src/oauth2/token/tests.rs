mod at_rest;
mod kept;
mod refresh;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use keywright_domain::audit::Actor;
use keywright_domain::people::{AuthMethod, EndReason, OAuthScopes, RoleName};
use keywright_registry::AuditQuery;
use keywright_registry::people::User;
use serde_json::json;

use crate::oauth2::testing::*;
use crate::signing::{ACCESS_TYPE, Alg};
use crate::test_support::{Answer, Browser, START, TestServer};

const DAY: i64 = 24 * 60 * 60 * 1000;
const OTHER_VERIFIER: &str = "aBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

async fn start() -> (TestServer, User, Browser) {
    let server = TestServer::start().await;
    server.add_client("app", None, |_| {}).await;
    let user = server.add_user("ada@example.org", &["auditor"]).await;
    let browser = server.sign_in_as(&user).await;
    (server, user, browser)
}

async fn signed_in_tokens(server: &TestServer, browser: &mut Browser) -> Answer {
    let code = code(browser, &[]).await;
    let answer = exchange(server, &code, &[]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer
}

async fn actions(server: &TestServer) -> Vec<String> {
    let query = AuditQuery {
        limit: 200,
        ..AuditQuery::default()
    };
    let page = server.registry().list_audit_events(query).await.unwrap();
    page.items.into_iter().map(|event| event.action).collect()
}

#[tokio::test]
async fn s17_s20_s21_s40_ac_044_ac_065_the_answer_of_a_code() {
    let (server, user, mut browser) = start().await;
    let answer = signed_in_tokens(&server, &mut browser).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("pragma"), "no-cache");
    let body = answer.json();
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"], 900);
    assert_eq!(body["scope"], "email offline_access openid profile");
    assert_eq!(text(&answer, "refresh_token").len(), 43, "S21");
    // Access token: RFC 9068, nothing personal (AC-044, S1-07).
    let access = text(&answer, "access_token");
    assert_eq!(part(&access, 0)["typ"], ACCESS_TYPE);
    assert_eq!(part(&access, 0)["alg"], "RS256", "s0_26");
    let claims = part(&access, 1);
    let mut names: Vec<_> = claims.as_object().unwrap().keys().cloned().collect();
    names.sort();
    assert_eq!(
        names.join(" "),
        "acr amr aud auth_time client_id exp gid iat iss jti nbf roles scope sid sub",
        "ac_044"
    );
    assert_eq!(
        (&claims["iss"], &claims["aud"]),
        (&json!(ISSUER), &json!(ISSUER))
    );
    assert_eq!(claims["sub"], user.id.as_str());
    assert_eq!(claims["roles"], json!(["auditor"]));
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        900
    );
    // ID token (S40).
    let id_token = text(&answer, "id_token");
    assert_eq!(part(&id_token, 0)["alg"], "RS256");
    let id = part(&id_token, 1);
    assert_eq!(id["iss"], ISSUER);
    assert_eq!(id["sub"], claims["sub"]);
    assert_eq!(id["aud"], "app");
    assert_eq!(id["nonce"], "n-1");
    assert_eq!(id["auth_time"], START / 1000);
    assert_eq!(id["acr"], "aal1");
    assert_eq!(id["amr"], json!(["pwd"]));
    assert_eq!(id["sid"], claims["sid"]);
    assert_eq!(id["at_hash"], Alg::Rs256.half_hash(&access));
    assert_eq!(id["email"], "ada@example.org");
    assert_eq!(id["email_verified"], true);
    assert_eq!(id["name"], "ada");
}

#[tokio::test]
async fn claims_follow_the_scopes_and_the_algorithm_the_client() {
    let (server, _user, mut browser) = start().await;
    for alg in ["ES256", "EdDSA"] {
        server
            .add_client(alg, None, |new| new.signing_alg = alg.into())
            .await;
        let changes = [("client_id", alg), ("scope", "openid"), ("nonce", "")];
        let code = code(&mut browser, &changes).await;
        let answer = exchange(&server, &code, &[("client_id", alg)]).await;
        let token = text(&answer, "id_token");
        assert_eq!(part(&token, 0)["alg"], alg);
        let claims = part(&token, 1);
        for absent in ["name", "email", "email_verified", "nonce", "roles"] {
            assert!(claims.get(absent).is_none(), "{absent}");
        }
        let access = text(&answer, "access_token");
        assert_eq!(
            claims["at_hash"],
            Alg::parse(alg).unwrap().half_hash(&access)
        );
        assert_eq!(userinfo(&server, &access).await.status, StatusCode::OK);
        assert!(
            answer.json().get("refresh_token").is_none(),
            "without offline_access"
        );
    }
    // No openid, no ID token.
    let plain = code(&mut browser, &[("scope", "email")]).await;
    let answer = exchange(&server, &plain, &[]).await;
    assert!(answer.json().get("id_token").is_none());
}

#[tokio::test]
async fn ac_053_s9_a_code_that_comes_twice_takes_back_what_it_gave() {
    let (server, _user, mut browser) = start().await;
    let code = code(&mut browser, &[]).await;
    let first = exchange(&server, &code, &[]).await;
    let access = text(&first, "access_token");
    assert_eq!(userinfo(&server, &access).await.status, StatusCode::OK);
    assert_eq!(error(&exchange(&server, &code, &[]).await), "invalid_grant");
    let after = userinfo(&server, &access).await;
    assert_eq!(after.status, StatusCode::UNAUTHORIZED);
    assert_eq!(after.json()["code"], "token_revoked");
    let refreshed = refresh(&server, &text(&first, "refresh_token"), &[]).await;
    assert_eq!(error(&refreshed), "invalid_grant");
    assert!(
        actions(&server)
            .await
            .contains(&"grant.code_replay".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ac_054_fifty_uses_of_one_code_give_one_set_of_tokens() {
    let (server, _user, mut browser) = start().await;
    let code = code(&mut browser, &[]).await;
    let server = std::sync::Arc::new(server);
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (server, code) = (std::sync::Arc::clone(&server), code.clone());
        running.spawn(async move { exchange(&server, &code, &[]).await });
    }
    let answers = running.join_all().await;
    let good: Vec<_> = answers
        .iter()
        .filter(|one| one.status == StatusCode::OK)
        .collect();
    assert_eq!(good.len(), 1);
    let others = answers.iter().filter(|one| one.status != StatusCode::OK);
    for other in others {
        assert_eq!(error(other), "invalid_grant");
    }
    // Somebody else had the code too: nobody keeps anything.
    let access = text(good[0], "access_token");
    assert_eq!(
        userinfo(&server, &access).await.json()["code"],
        "token_revoked"
    );
}

#[tokio::test]
async fn ac_050_ac_051_s10_the_verifier_decides_and_a_wrong_one_burns_the_code() {
    let (server, _user, mut browser) = start().await;
    let first = code(&mut browser, &[]).await;
    let wrong = exchange(&server, &first, &[("code_verifier", OTHER_VERIFIER)]).await;
    assert_eq!(error(&wrong), "invalid_grant");
    assert_eq!(
        error(&exchange(&server, &first, &[]).await),
        "invalid_grant"
    );
    let second = code(&mut browser, &[]).await;
    let none = exchange(&server, &second, &[("code_verifier", "")]).await;
    assert_eq!(error(&none), "invalid_grant");
    // AC-050: a verifier of 42 or 129 characters is none, and costs nothing.
    let third = code(&mut browser, &[]).await;
    for length in [42, 129] {
        let text = "a".repeat(length);
        let answer = exchange(&server, &third, &[("code_verifier", &text)]).await;
        assert_eq!(error(&answer), "invalid_request", "ac_050 {length}");
    }
    assert_eq!(exchange(&server, &third, &[]).await.status, StatusCode::OK);
    // The downgrade: a verifier without a challenge.
    let secret = "secret-of-the-old-client";
    server
        .add_client("old", Some(secret), |new| new.require_pkce = false)
        .await;
    let none = [
        ("client_id", "old"),
        ("code_challenge", ""),
        ("code_challenge_method", ""),
    ];
    let without = code(&mut browser, &none).await;
    let form = format!(
        "grant_type=authorization_code&code={without}&code_verifier={VERIFIER}&redirect_uri={}",
        REDIRECT.replace(':', "%3A")
    );
    let header = basic("old", secret);
    let answer = token_request(&server, &[("authorization", &header)], form).await;
    assert_eq!(error(&answer), "invalid_grant", "s10");
}

#[tokio::test]
async fn ac_052_a_code_lives_a_minute() {
    let (server, _user, mut browser) = start().await;
    let late = code(&mut browser, &[]).await;
    server.pass(60_000);
    assert_eq!(error(&exchange(&server, &late, &[]).await), "invalid_grant");
    let soon = code(&mut browser, &[]).await;
    server.pass(59_999);
    assert_eq!(exchange(&server, &soon, &[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn ac_055_a_code_is_for_its_client_its_address_and_its_session() {
    let (server, user, mut browser) = start().await;
    server.add_client("other", None, |_| {}).await;
    let bound = code(&mut browser, &[]).await;
    let answer = exchange(&server, &bound, &[("client_id", "other")]).await;
    assert_eq!(error(&answer), "invalid_grant");
    for uri in [
        "http://127.0.0.1:4001/callback",
        "http://127.0.0.1/callback",
    ] {
        let bound = code(&mut browser, &[]).await;
        let answer = exchange(&server, &bound, &[("redirect_uri", uri)]).await;
        assert_eq!(error(&answer), "invalid_grant", "{uri}");
    }
    let bound = code(&mut browser, &[]).await;
    let answer = exchange(&server, &bound, &[("redirect_uri", "")]).await;
    assert_eq!(error(&answer), "invalid_request");
    let session = part(&text(&exchange(&server, &bound, &[]).await, "id_token"), 1)["sid"].clone();
    let bound = code(&mut browser, &[]).await;
    let actor = Actor::person("test");
    let session = session.as_str().unwrap();
    server
        .registry()
        .end_session(&actor, &user.id, session, EndReason::EndedByUser)
        .await
        .unwrap();
    assert_eq!(
        error(&exchange(&server, &bound, &[]).await),
        "invalid_grant"
    );
    assert_eq!(
        error(&exchange(&server, "made-up", &[]).await),
        "invalid_grant"
    );
}

#[tokio::test]
async fn ac_063_s5_s18_clients_prove_themselves_as_they_are_registered() {
    let (server, _user, mut browser) = start().await;
    let secret = "secret-of-the-web-client";
    server.add_client("web", Some(secret), |_| {}).await;
    server
        .add_client("post", Some(secret), |new| {
            new.auth_method = AuthMethod::ClientSecretPost
        })
        .await;
    let own = code(&mut browser, &[]).await;
    // A public client that sends a secret, a confidential one that sends none, or the wrong one.
    let answer = exchange(&server, &own, &[("client_secret", "x")]).await;
    assert_eq!(
        (error(&answer).as_str(), answer.status.as_u16()),
        ("invalid_client", 401)
    );
    let form = "grant_type=authorization_code&code=x&redirect_uri=x".to_owned();
    let answer = token_request(&server, &[], format!("{form}&client_id=web")).await;
    assert_eq!(error(&answer), "invalid_client");
    let wrong = basic("web", "wrong");
    let answer = token_request(&server, &[("authorization", &wrong)], form.clone()).await;
    assert_eq!(
        (error(&answer).as_str(), answer.status.as_u16()),
        ("invalid_client", 401)
    );
    assert!(answer.header("www-authenticate").starts_with("Basic "));
    // By another method than the registered one.
    let right = basic("post", secret);
    let answer = token_request(&server, &[("authorization", &right)], form.clone()).await;
    assert_eq!(error(&answer), "invalid_client");
    let by_form = format!("{form}&client_id=web&client_secret={secret}");
    assert_eq!(
        error(&token_request(&server, &[], by_form).await),
        "invalid_client"
    );
    // The right way: the code is what is wrong then.
    let right = basic("web", secret);
    let answer = token_request(&server, &[("authorization", &right)], form.clone()).await;
    assert_eq!(error(&answer), "invalid_grant");
    let by_form = format!("{form}&client_id=post&client_secret={secret}");
    assert_eq!(
        error(&token_request(&server, &[], by_form).await),
        "invalid_grant"
    );
    // None of this cost the public client its code.
    assert_eq!(exchange(&server, &own, &[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn s16_s17_s19_only_posts_of_known_grant_types() {
    let (server, _user, _browser) = start().await;
    let mut client = server.browser();
    let got = client
        .get("/oauth2/token?grant_type=refresh_token&client_id=app")
        .await;
    assert_eq!(got.status, StatusCode::METHOD_NOT_ALLOWED);
    for grant_type in ["password", "implicit", "x"] {
        let form = format!("grant_type={grant_type}&client_id=app&username=a&password=b");
        let answer = token_request(&server, &[], form).await;
        assert_eq!(error(&answer), "unsupported_grant_type", "s16");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    let none = token_request(&server, &[], "client_id=app".into()).await;
    assert_eq!(error(&none), "invalid_request");
    let twice = token_request(
        &server,
        &[],
        "client_id=app&grant_type=x&grant_type=x".into(),
    )
    .await;
    assert_eq!(error(&twice), "invalid_request");
    // What stands in the address is not read.
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let path = "/oauth2/token?client_id=app&grant_type=refresh_token&refresh_token=x";
    let answer = client
        .send(Method::POST, path, &headers, Body::empty())
        .await;
    assert_eq!(error(&answer), "invalid_request", "s19");
    let device = token_request(
        &server,
        &[],
        format!(
            "client_id=app&grant_type={}&device_code=x",
            super::DEVICE.replace(':', "%3A")
        ),
    )
    .await;
    assert_eq!(error(&device), "unauthorized_client");
}

#[tokio::test]
async fn s25_ac_064_a_clients_own_token_is_no_persons() {
    let (server, _user, _browser) = start().await;
    let secret = "secret-of-the-machine";
    server
        .add_client("machine", Some(secret), |new| {
            new.grant_types = vec!["client_credentials".into()];
            new.scopes = OAuthScopes::parse("openid email keys:read keys:write").unwrap();
        })
        .await;
    server.add_client("web", Some(secret), |_| {}).await;
    let header = basic("machine", secret);
    let headers = [("authorization", header.as_str())];
    let ask = async |more: &str| {
        let form = format!("grant_type=client_credentials{more}");
        token_request(&server, &headers, form).await
    };
    let answer = ask("").await;
    assert_eq!(text(&answer, "scope"), "keys:read keys:write");
    for absent in ["refresh_token", "id_token"] {
        assert!(answer.json().get(absent).is_none(), "{absent}");
    }
    let access = text(&answer, "access_token");
    let claims = part(&access, 1);
    assert_eq!(claims["sub"], "client:machine");
    assert_eq!(claims["client_id"], "machine");
    // By which all of the client's own end together.
    let gid = claims["gid"].as_str().unwrap();
    assert!(gid.starts_with("client:machine:"), "{gid}");
    for absent in ["sid", "auth_time", "roles"] {
        assert!(claims.get(absent).is_none(), "{absent}");
    }
    assert!(
        actions(&server)
            .await
            .contains(&"client.token_issued".to_owned())
    );
    assert_eq!(text(&ask("&scope=keys%3Aread").await, "scope"), "keys:read");
    for bad in ["openid", "audit%3Aread", "%22"] {
        assert_eq!(
            error(&ask(&format!("&scope={bad}")).await),
            "invalid_scope",
            "{bad}"
        );
    }
    assert_eq!(
        error(&ask("&resource=https%3A%2F%2Fx.example").await),
        "invalid_target"
    );
    assert!(userinfo(&server, &access).await.status.is_client_error());
    // AC-064: neither a client without the grant type nor a public one.
    let header = basic("web", secret);
    let form = "grant_type=client_credentials".to_owned();
    let answer = token_request(&server, &[("authorization", &header)], form.clone()).await;
    assert_eq!(error(&answer), "unauthorized_client");
    let answer = token_request(&server, &[], format!("{form}&client_id=app")).await;
    assert_eq!(error(&answer), "unauthorized_client");
}

#[tokio::test]
async fn s28_s59_ac_033_a_token_is_for_the_resource_that_was_granted() {
    const API: &str = "https://api.example.com/v1";
    let server = TestServer::with(|settings| {
        settings.resources = vec![API.into(), "https://other.example.com".into()];
    })
    .await;
    server.add_client("app", None, |_| {}).await;
    let user = server.add_user("ada@example.org", &[]).await;
    let mut browser = server.sign_in_as(&user).await;
    let first = code(&mut browser, &[("resource", API)]).await;
    let answer = exchange(&server, &first, &[("resource", API)]).await;
    let access = text(&answer, "access_token");
    assert_eq!(part(&access, 1)["aud"], API);
    // It opens nothing of ours.
    let info = userinfo(&server, &access).await;
    assert_eq!(
        (info.status.as_u16(), info.json()["code"].as_str()),
        (401, Some("wrong_audience"))
    );
    let own = text(&answer, "refresh_token");
    for other in [
        "https://other.example.com",
        ISSUER,
        "https://unknown.example.com",
        "x",
    ] {
        let answer = refresh(&server, &own, &[("resource", other)]).await;
        assert_eq!(error(&answer), "invalid_target", "{other}");
    }
    let next = refresh(&server, &own, &[("resource", API)]).await;
    assert_eq!(part(&text(&next, "access_token"), 1)["aud"], API);
    let grants = async || {
        let grants = server.registry().list_grants(&user.id, None, 10).await;
        grants.unwrap().items.len()
    };
    let before = grants().await;
    // More than was granted costs the code what it gave.
    let second = code(&mut browser, &[]).await;
    assert_eq!(
        error(&exchange(&server, &second, &[("resource", API)]).await),
        "invalid_target"
    );
    assert_eq!(grants().await, before, "an access is left of it");
    assert_eq!(
        error(&exchange(&server, &second, &[]).await),
        "invalid_grant"
    );
    // Our own API by its name.
    let third = code(&mut browser, &[("resource", ISSUER)]).await;
    let answer = exchange(&server, &third, &[("resource", ISSUER)]).await;
    assert_eq!(
        userinfo(&server, &text(&answer, "access_token"))
            .await
            .status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_client_that_has_to_bind_its_tokens_gets_none_without_a_proof() {
    let (server, _user, mut browser) = start().await;
    server
        .add_client("bound", None, |new| new.require_dpop = true)
        .await;
    let code = code(&mut browser, &[("client_id", "bound")]).await;
    let answer = exchange(&server, &code, &[("client_id", "bound")]).await;
    assert_eq!(error(&answer), "invalid_dpop_proof");
}

#[tokio::test]
async fn programs_in_browsers_read_answers_at_their_own_origin_only() {
    let (server, _user, mut browser) = start().await;
    server
        .add_client("spa", None, |new| {
            new.redirect_uris = vec!["https://spa.example.com/cb".into()];
        })
        .await;
    server
        .add_client("web", Some("secret-of-the-web"), |new| {
            new.redirect_uris = vec!["https://spa.example.com/cb".into()];
        })
        .await;
    let preflight = browser
        .send(
            Method::OPTIONS,
            "/oauth2/token",
            &[("origin", "https://spa.example.com")],
            Body::empty(),
        )
        .await;
    assert_eq!(preflight.status, StatusCode::NO_CONTENT);
    assert_eq!(preflight.header("access-control-allow-credentials"), "");
    for (client, origin, allowed) in [
        ("spa", "https://spa.example.com", true),
        ("spa", "https://evil.example.com", false),
        ("spa", "null", false),
        ("web", "https://spa.example.com", false),
        ("app", "https://spa.example.com", false),
    ] {
        let form = format!("grant_type=refresh_token&refresh_token=x&client_id={client}");
        let answer = token_request(&server, &[("origin", origin)], form).await;
        let seen = answer.header("access-control-allow-origin");
        assert_eq!(seen, if allowed { origin } else { "" }, "{client} {origin}");
    }
}

#[tokio::test]
async fn ac_201_ac_039_old_tokens_verify_after_the_key_was_replaced() {
    let (server, _user, mut browser) = start().await;
    let before = signed_in_tokens(&server, &mut browser).await;
    let app = server.server.app();
    let keys = &app.keys;
    keys.rotate(
        &app.registry,
        &app.secrets,
        &app.settings,
        (Alg::Rs256, None),
    )
    .await
    .unwrap();
    let after = signed_in_tokens(&server, &mut browser).await;
    let (old, new) = (text(&before, "access_token"), text(&after, "access_token"));
    assert_ne!(part(&old, 0)["kid"], part(&new, 0)["kid"]);
    for token in [&old, &new] {
        assert_eq!(userinfo(&server, token).await.status, StatusCode::OK);
        let kid = part(token, 0)["kid"].as_str().unwrap().to_owned();
        let key = browser.get(&format!("/oauth2/jwks/{kid}")).await;
        assert_eq!(key.json()["kid"], kid.as_str());
    }
    // The refresh token of before goes on, with the new key.
    let next = refresh(&server, &text(&before, "refresh_token"), &[]).await;
    assert_eq!(
        part(&text(&next, "id_token"), 0)["kid"],
        part(&new, 0)["kid"]
    );
}

#[tokio::test]
async fn ac_032_no_bit_of_a_token_can_be_flipped() {
    let (server, _user, mut browser) = start().await;
    let token = text(
        &signed_in_tokens(&server, &mut browser).await,
        "access_token",
    );
    let last = token.len() - 1;
    for at in (0..last).step_by(7).chain([last]) {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = match bytes[at] {
            b'.' => continue,
            b'A' => b'Q',
            _ => b'A',
        };
        let changed = String::from_utf8(bytes).unwrap();
        if changed == token {
            continue;
        }
        let answer = userinfo(&server, &changed).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ac_201_no_token_fails_while_keys_are_replaced_under_load() {
    let (server, _user, mut browser) = start().await;
    let mut newest = text(
        &signed_in_tokens(&server, &mut browser).await,
        "refresh_token",
    );
    let server = std::sync::Arc::new(server);
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (tokens, known) = tokio::sync::watch::channel(String::new());
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (server, done) = (std::sync::Arc::clone(&server), std::sync::Arc::clone(&done));
        let known = known.clone();
        readers.spawn(async move {
            let mut asked = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let token = known.borrow().clone();
                if token.is_empty() {
                    tokio::task::yield_now().await;
                    continue;
                }
                let answer = userinfo(&server, &token).await;
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
                asked += 1;
            }
            asked
        });
    }
    let mut kids = std::collections::HashSet::new();
    for _ in 0..6 {
        let answer = refresh(&server, &newest, &[]).await;
        newest = text(&answer, "refresh_token");
        let access = text(&answer, "access_token");
        kids.insert(part(&access, 0)["kid"].as_str().unwrap().to_owned());
        tokens.send(access).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        let app = server.server.app();
        app.keys
            .rotate(
                &app.registry,
                &app.secrets,
                &app.settings,
                (Alg::Rs256, None),
            )
            .await
            .unwrap();
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    let asked: u32 = readers.join_all().await.into_iter().sum();
    assert_eq!(kids.len(), 6, "every rotation signs with another key");
    assert!(asked > 50, "{asked}");
}

#[tokio::test]
async fn ac_201_a_token_of_a_node_that_read_the_keys_late_is_good_to_its_end() {
    let server = TestServer::with(|settings| settings.access_ms = 3_600_000).await;
    server.add_client("app", None, |_| {}).await;
    let user = server.add_user("ada@example.org", &[]).await;
    let mut browser = server.sign_in_as(&user).await;
    let tokens = signed_in_tokens(&server, &mut browser).await;
    let access = text(&tokens, "access_token");
    let app = server.server.app();
    // Another node signs with the key before until it reads the keys: within a minute.
    let late = app.keys.current();
    app.keys
        .rotate(
            &app.registry,
            &app.secrets,
            &app.settings,
            (Alg::Rs256, None),
        )
        .await
        .unwrap();
    server.pass(59_000);
    let mut claims = part(&access, 1);
    for (name, at) in [("iat", 0), ("nbf", 0), ("exp", 3_600)] {
        claims[name] = (app.now() / 1000 + at).into();
    }
    let signer = late.signer(Alg::Rs256).unwrap();
    let token = signer.sign(ACCESS_TYPE, &claims).unwrap();
    let settle = async || {
        let settled = app
            .keys
            .settle(&app.registry, &app.secrets, &app.settings, app.now());
        settled.await.unwrap();
    };
    server.pass(3_600_000 + 29_000);
    settle().await;
    let answer = userinfo(&server, &token).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    server.pass(2_000);
    settle().await;
    let kid = part(&token, 0)["kid"].as_str().unwrap().to_owned();
    let key = browser.get(&format!("/oauth2/jwks/{kid}")).await;
    assert_eq!(key.status, StatusCode::NOT_FOUND, "and no longer");
}
