use axum::body::Body;
use axum::http::{HeaderMap, Method, StatusCode};
use keywright_domain::people::OAuthScopes;
use serde_json::Value;

use super::*;
use crate::Server;
use crate::oauth2::dpop::tests::ClientKey;
use crate::oauth2::{dpop, testing};
use crate::test_support::{Answer, START, TestServer};

const HOUR_MS: i64 = 3_600_000;
const TOKEN: &str = "/oauth2/token";

/// A proof for the token endpoint, made at a moment (Unix ms).
fn proof(key: &ClientKey, jti: &str, at_ms: i64, nonce: Option<&str>) -> String {
    let mut claims = serde_json::json!({
        "jti": jti, "htm": "POST", "htu": format!("{}{TOKEN}", testing::ISSUER), "iat": at_ms / 1000,
    });
    if let Some(nonce) = nonce {
        claims["nonce"] = Value::from(nonce);
    }
    key.sign(&key.header(), &claims)
}

/// Uses a proof: "used", or what it is refused with.
async fn show(server: &Server, proof: &str) -> String {
    let mut headers = HeaderMap::new();
    headers.insert("dpop", proof.parse().unwrap());
    let checked = dpop::check(server.app(), &headers, &Method::POST, TOKEN, None);
    match checked.await {
        Ok(_) => "used".to_owned(),
        Err(error) => error.error.to_owned(),
    }
}

async fn nonce_of(server: &Server) -> String {
    let mut headers = HeaderMap::new();
    let old = proof(
        &ClientKey::new(),
        "n",
        START - HOUR_MS,
        Some("none of ours"),
    );
    headers.insert("dpop", old.parse().unwrap());
    let refused = dpop::check(server.app(), &headers, &Method::POST, TOKEN, None)
        .await
        .unwrap_err();
    refused.dpop_nonce.unwrap().into()
}

#[tokio::test]
async fn s58_after_a_restart_no_proof_of_before_is_taken_and_a_nonce_makes_a_new_one_good() {
    let server = TestServer::start().await;
    let key = ClientKey::new();
    let nonce = nonce_of(&server.server).await;
    let plain = proof(&key, "plain", START, None);
    let ahead = proof(&key, "ahead", START + 10_000, None);
    let by_nonce = proof(&key, "by nonce", START, Some(&nonce));
    for proof in [&plain, &ahead, &by_nonce] {
        assert_eq!(show(&server.server, proof).await, "used");
    }
    server.pass(1000);
    let server = server.again().await;
    for proof in [&plain, &ahead, &by_nonce] {
        assert_eq!(show(&server.server, proof).await, "use_dpop_nonce");
    }
    // One that was used nowhere cannot be told from those. With a nonce of this process it can.
    let unused = proof(&key, "unused", START + 1000, None);
    assert_eq!(show(&server.server, &unused).await, "use_dpop_nonce");
    let new = nonce_of(&server.server).await;
    assert_ne!(nonce, new);
    let fresh = proof(&key, "fresh", START + 1000, Some(&new));
    assert_eq!(show(&server.server, &fresh).await, "used");
    assert_eq!(show(&server.server, &fresh).await, "invalid_dpop_proof");
    // A minute later nobody needs one.
    server.pass(60_000 + 10_000);
    let later = proof(&key, "later", START + 71_000, None);
    assert_eq!(show(&server.server, &later).await, "used");
    assert_eq!(show(&server.server, &later).await, "invalid_dpop_proof");
}

/// The database tells nothing: it is an older copy, or a version of before wrote it.
#[tokio::test]
async fn s58_without_a_word_of_the_database_what_was_before_the_start_is_not_taken() {
    let server = TestServer::start().await.again().await;
    let key = ClientKey::new();
    for (at, expected) in [
        (-50, "use_dpop_nonce"),
        (10, "use_dpop_nonce"),
        (11, "used"),
    ] {
        server.pass(1000);
        let proof = proof(&key, &at.to_string(), START + at * 1000, None);
        assert_eq!(show(&server.server, &proof).await, expected, "{at}");
    }
}

#[tokio::test]
async fn s58_a_server_that_runs_for_long_asks_nobody_for_a_nonce() {
    let server = TestServer::start().await;
    let key = ClientKey::new();
    for at in (0..1800).step_by(7) {
        for slow in [0, 60, -10] {
            let jti = format!("{at} {slow}");
            let proof = proof(&key, &jti, START + (at - slow) * 1000, None);
            assert_eq!(show(&server.server, &proof).await, "used", "{jti}");
            assert_eq!(show(&server.server, &proof).await, "invalid_dpop_proof");
        }
        server.pass(7000);
    }
}

#[tokio::test]
async fn s58_what_was_used_under_a_clock_that_was_ahead_is_not_taken_after_a_restart() {
    let server = TestServer::start().await;
    let key = ClientKey::new();
    server.pass(3 * HOUR_MS);
    let then = proof(&key, "then", START + 3 * HOUR_MS, None);
    assert_eq!(show(&server.server, &then).await, "used");
    // The clock is mended, and the process started under the right one.
    server.pass(-3 * HOUR_MS);
    let server = server.again().await;
    server.pass(3 * HOUR_MS - 1000);
    assert_eq!(show(&server.server, &then).await, "use_dpop_nonce");
    server.pass(120_000);
    let later = proof(&key, "later", START + 3 * HOUR_MS + 119_000, None);
    assert_eq!(show(&server.server, &later).await, "used");
}

#[tokio::test]
async fn s58_a_clock_that_was_days_ahead_asks_nobody_for_nonces_for_days() {
    const AHEAD_MS: i64 = 72 * HOUR_MS;
    let server = TestServer::start().await;
    let key = ClientKey::new();
    server.pass(AHEAD_MS);
    let then = proof(&key, "then", START + AHEAD_MS, None);
    assert_eq!(show(&server.server, &then).await, "used");
    // Started under the wrong clock, which is mended later: by it, the one it was started at, and what it claimed.
    let server = server.again().await;
    server.pass(80_000);
    let then = proof(&key, "then, once more", START + AHEAD_MS + 80_000, None);
    assert_eq!(show(&server.server, &then).await, "used");
    server.pass(-AHEAD_MS);
    let server = server.again().await;
    server.pass(20_000);
    let now = proof(&key, "now", START + 100_000, None);
    assert_eq!(show(&server.server, &now).await, "used");
    assert_eq!(show(&server.server, &now).await, "invalid_dpop_proof");
}

#[tokio::test]
async fn s58_a_process_that_began_days_ahead_goes_on_when_its_clock_is_mended() {
    const AHEAD_MS: i64 = 72 * HOUR_MS;
    let server = TestServer::start().await;
    let key = ClientKey::new();
    server.pass(AHEAD_MS);
    let before = proof(&key, "before", START + AHEAD_MS, None);
    assert_eq!(show(&server.server, &before).await, "used");
    let server = server.again().await;
    server.pass(80_000);
    let then = proof(&key, "then", START + AHEAD_MS + 80_000, None);
    assert_eq!(show(&server.server, &then).await, "used");
    server.pass(-AHEAD_MS);
    let now = proof(&key, "now", START + 80_000, None);
    assert_eq!(show(&server.server, &now).await, "used");
    assert_eq!(show(&server.server, &now).await, "invalid_dpop_proof");
}

#[tokio::test]
async fn s58_two_processes_over_one_file_take_no_proof_twice() {
    let server = TestServer::start().await;
    let (beside, _) = server.beside().await;
    let key = ClientKey::new();
    let mut taken = [0, 0];
    for at in 0..600 {
        let proof = proof(&key, &at.to_string(), START + at * 1000, None);
        let mut both = [&server.server, &beside];
        // Now one has more to do, now the other.
        if at / 130 % 2 == 1 {
            both.reverse();
        }
        let mut times = 0;
        for one in both {
            if show(one, &proof).await == "used" {
                times += 1;
                taken[usize::from(std::ptr::eq(one, &beside))] += 1;
            }
        }
        assert!(times <= 1, "{at}");
        server.pass(1000);
    }
    assert!(taken.iter().all(|taken| *taken > 50), "{taken:?}");
}

#[tokio::test]
async fn s58_who_goes_away_while_seconds_are_claimed_leaves_them_to_the_server() {
    let server = TestServer::start().await;
    let app = server.server.app();
    let second = START / 1000;
    let gone = tokio::time::timeout(std::time::Duration::ZERO, has(app, second)).await;
    assert!(gone.is_err(), "it was answered: this shows nothing");
    assert!(has(app, second).await);
    assert!(has(app, second + STEP_S).await);
}

#[tokio::test]
async fn s58_a_database_that_takes_no_writes_leaves_proofs_with_a_nonce() {
    let server = TestServer::start().await;
    let key = ClientKey::new();
    server.registry().close().await;
    let plain = proof(&key, "plain", START, None);
    assert_eq!(show(&server.server, &plain).await, "use_dpop_nonce");
    let nonce = nonce_of(&server.server).await;
    let with = proof(&key, "with", START, Some(&nonce));
    assert_eq!(show(&server.server, &with).await, "used");
    assert_eq!(show(&server.server, &with).await, "invalid_dpop_proof");
}

async fn keys(server: &TestServer, token: &str, proof: &str) -> Answer {
    let authorization = format!("DPoP {token}");
    let headers = [("authorization", authorization.as_str()), ("dpop", proof)];
    let mut client = server.browser();
    client
        .send(Method::GET, "/api/v1/keys", &headers, Body::empty())
        .await
}

#[tokio::test]
async fn s58_s26_a_bound_token_goes_on_after_a_restart_by_our_nonce() {
    let server = TestServer::start().await;
    let secret = "secret-of-the-machine";
    server
        .add_client("machine", Some(secret), |new| {
            new.grant_types = vec!["client_credentials".into()];
            new.scopes = OAuthScopes::parse("keys:read").unwrap();
            new.require_dpop = true;
        })
        .await;
    let key = ClientKey::new();
    let basic = testing::basic("machine", secret);
    let ask = async |server: &TestServer, proof: &str| {
        let headers = [("authorization", basic.as_str()), ("dpop", proof)];
        let form = "grant_type=client_credentials".to_owned();
        testing::token_request(server, &headers, form).await
    };
    let at_token = proof(&key, "t", START, None);
    let answer = ask(&server, &at_token).await;
    assert_eq!(answer.json()["token_type"], "DPoP", "{}", answer.text);
    let token = testing::text(&answer, "access_token");
    let at_keys = key.proof("k", "GET", "/api/v1/keys", Some(&token));
    assert_eq!(keys(&server, &token, &at_keys).await.status, StatusCode::OK);

    let server = server.again().await;
    // The token endpoint (RFC 9449 §8), and a resource (§9).
    let refused = ask(&server, &at_token).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    assert_eq!(testing::error(&refused), "use_dpop_nonce");
    let nonce = refused.header("dpop-nonce").to_owned();
    let again = proof(&key, "t2", START, Some(&nonce));
    assert_eq!(ask(&server, &again).await.status, StatusCode::OK);
    let refused = keys(&server, &token, &at_keys).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{}", refused.text);
    let challenge = refused.header("www-authenticate");
    assert!(
        challenge.contains("error=\"use_dpop_nonce\""),
        "{challenge}"
    );
    assert_eq!(refused.header("dpop-nonce"), nonce);
    let claims = serde_json::json!({
        "jti": "k2", "htm": "GET", "htu": format!("{}/api/v1/keys", testing::ISSUER), "iat": START / 1000,
        "ath": hash(&token), "nonce": nonce,
    });
    let again = key.sign(&key.header(), &claims);
    assert_eq!(keys(&server, &token, &again).await.status, StatusCode::OK);
    let twice = keys(&server, &token, &again).await;
    assert_eq!(twice.status, StatusCode::UNAUTHORIZED);
    assert_eq!(twice.json()["code"], "invalid_dpop_proof");
}

/// RFC 9449 §4.2, `ath`.
fn hash(token: &str) -> String {
    use base64::Engine as _;
    use sha2::Digest as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(token))
}
