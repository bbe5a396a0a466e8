use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_domain::audit::Actor;
use serde_json::{Value, json};

use super::stub::{Stub, Trick, callback};
use crate::test_support::{START, TestServer};

async fn ready() -> (TestServer, Stub) {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    server.add_user("ada@example.org", &[]).await;
    stub.add(&server, "corp", "openid").await;
    stub.add(&server, "github", "github").await;
    (server, stub)
}

/// A trip that must come to nothing.
async fn refused(server: &TestServer, stub: &Stub, code: &str) {
    let mut browser = server.browser();
    let back = stub.trip(&mut browser, "corp").await;
    assert!(
        back.text.contains(&format!("<code>{code}</code>")),
        "{code}: {}",
        back.text
    );
    assert!(back.status.is_client_error() || back.status.is_server_error());
    assert!(browser.cookie("session").is_none(), "{code}");
}

#[tokio::test]
async fn s64_id_tokens_that_lie_are_refused() {
    let (server, stub) = ready().await;
    let now = START / 1000;
    for (claim, value, code) in [
        ("iss", json!("https://evil.example"), "issuer_mismatch"),
        ("iss", json!(format!("{}/", stub.0.base)), "issuer_mismatch"),
        ("iss", Value::Null, "claim_missing"),
        ("aud", json!("somebody-else"), "wrong_audience"),
        ("aud", json!(["our-client", "other"]), "wrong_audience"),
        ("aud", json!([1]), "wrong_audience"),
        ("azp", json!("other"), "wrong_audience"),
        ("azp", json!(1), "id_token_malformed"),
        ("nonce", json!("another"), "nonce_mismatch"),
        ("nonce", Value::Null, "nonce_mismatch"),
        ("exp", json!(now - 31), "token_expired"),
        ("exp", Value::Null, "claim_missing"),
        ("iat", json!(now + 31), "token_not_yet_valid"),
        ("nbf", json!(now + 31), "token_not_yet_valid"),
        ("at_hash", json!("AAAA"), "at_hash_mismatch"),
        ("sub", json!(""), "claim_missing"),
        ("sub", Value::Null, "claim_missing"),
        ("sub", json!("somebody-else"), "subject_mismatch"),
    ] {
        stub.plan(|plan| {
            plan.claims.clear();
            plan.claims.insert(claim.to_owned(), value);
        });
        refused(&server, &stub, code).await;
    }
    let history = server
        .registry()
        .list_sign_ins(None, None, 100)
        .await
        .unwrap();
    assert!(
        history
            .items
            .iter()
            .any(|one| one.outcome == "nonce_mismatch" && one.method == "corp")
    );
    // And without the lie all is well.
    stub.plan(|plan| plan.claims.clear());
    assert_eq!(
        stub.trip(&mut server.browser(), "corp").await.location(),
        "/dashboard"
    );
}

#[tokio::test]
async fn s64_a_signature_is_by_the_providers_key_and_its_algorithm() {
    let (server, stub) = ready().await;
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let payload = json!({ "iss": stub.0.base, "sub": "sub-1", "aud": "our-client",
        "iat": START / 1000, "exp": START / 1000 + 60 });
    let kid = stub.jwk()["kid"].clone();
    let made = |header: Value, signature: &str| {
        format!("{}.{}.{signature}", part(header), part(payload.clone()))
    };
    for (token, code) in [
        (made(json!({ "alg": "none" }), ""), "alg_not_allowed"),
        (
            made(json!({ "alg": "HS256", "kid": kid }), "AAAA"),
            "alg_not_allowed",
        ),
        // The key is Ed25519: what the header says does not make it another.
        (
            made(json!({ "alg": "RS256", "kid": kid }), "AAAA"),
            "alg_not_allowed",
        ),
        (
            made(json!({ "alg": "EdDSA", "kid": kid }), "AAAA"),
            "invalid_signature",
        ),
        (
            made(json!({ "alg": "EdDSA", "kid": kid }), ""),
            "id_token_malformed",
        ),
        (
            made(json!({ "alg": "EdDSA", "jwk": stub.jwk() }), "AAAA"),
            "id_token_malformed",
        ),
        (
            made(json!({ "alg": "EdDSA", "crit": ["x"] }), "AAAA"),
            "id_token_malformed",
        ),
        ("a.b".into(), "id_token_malformed"),
    ] {
        stub.plan(|plan| plan.id_token = Some(token));
        refused(&server, &stub, code).await;
    }
    stub.plan(|plan| {
        plan.id_token = None;
        plan.forged = true;
    });
    refused(&server, &stub, "invalid_signature").await;
}

#[tokio::test]
async fn s64_an_unknown_key_is_asked_for_once_and_at_most_once_a_minute() {
    let (server, stub) = ready().await;
    let fetches = || stub.0.key_fetches.load(Ordering::SeqCst);
    let mut other = stub.jwk();
    other["kid"] = json!("another");
    stub.plan(|plan| plan.keys = Some(vec![other]));
    refused(&server, &stub, "unknown_key").await;
    assert_eq!(fetches(), 1, "what was just fetched is not fetched again");
    refused(&server, &stub, "unknown_key").await;
    assert_eq!(fetches(), 2);
    refused(&server, &stub, "unknown_key").await;
    assert_eq!(fetches(), 2, "it rests");
    // The provider publishes its new key.
    stub.plan(|plan| plan.keys = None);
    server.pass(60_000);
    // The token is a minute older than the clock, and still good.
    assert_eq!(
        stub.trip(&mut server.browser(), "corp").await.location(),
        "/dashboard"
    );
    assert_eq!(fetches(), 3);
    server.pass(600_000);
    stub.trip(&mut server.browser(), "corp").await;
    assert_eq!(fetches(), 4, "ten minutes later all is fetched anew");
}

#[tokio::test]
async fn s63_an_answer_of_another_issuer_is_refused() {
    let (server, stub) = ready().await;
    let mut browser = server.browser();
    let sent = stub.begin(&mut browser, "corp").await;
    let path = callback("corp", &sent, "&code=good&iss=https://evil.example");
    let back = browser.get(&path).await;
    assert!(back.text.contains("issuer_mismatch"), "{}", back.text);
    assert_eq!(
        stub.0.exchanges.load(Ordering::SeqCst),
        0,
        "no code goes to the wrong place"
    );
    let sent = stub.begin(&mut browser, "corp").await;
    let path = callback("corp", &sent, &format!("&code=good&iss={}", stub.0.base));
    assert_eq!(browser.get(&path).await.location(), "/dashboard");
}

#[tokio::test]
async fn s63_an_issuer_that_always_says_who_it_is_must() {
    let (server, stub) = ready().await;
    stub.plan(|plan| {
        let name = "authorization_response_iss_parameter_supported";
        plan.metadata.insert(name.into(), json!(true));
    });
    refused(&server, &stub, "issuer_mismatch").await;
}

#[tokio::test]
async fn s64_metadata_is_of_the_issuer_byte_for_byte() {
    for (name, value, code) in [
        (
            "issuer",
            json!("https://evil.example"),
            "idp_issuer_mismatch",
        ),
        ("issuer", Value::Null, "idp_issuer_mismatch"),
        ("token_endpoint", Value::Null, "idp_metadata_unusable"),
        (
            "token_endpoint",
            json!("http://id.example.com/token"),
            "idp_address_insecure",
        ),
        (
            "token_endpoint",
            json!("https://0.0.0.0/token"),
            "idp_address_forbidden",
        ),
        (
            "jwks_uri",
            json!("file:///etc/passwd"),
            "idp_address_insecure",
        ),
        (
            "userinfo_endpoint",
            json!("https://a:b@id.example.com/"),
            "idp_metadata_unusable",
        ),
    ] {
        let (server, stub) = ready().await;
        stub.plan(|plan| {
            plan.metadata.insert(name.to_owned(), value);
        });
        let answer = server.browser().get("/rp/authorize?idp=corp").await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{name}");
        assert!(answer.text.contains(code), "{name} {}", answer.text);
    }
}

#[tokio::test]
async fn ac_078_a_token_endpoint_that_hangs_is_left_after_five_seconds() {
    let (server, stub) = ready().await;
    stub.plan(|plan| plan.trick = Trick::Hang);
    let started = Instant::now();
    let back = stub.trip(&mut server.browser(), "github").await;
    let took = started.elapsed();
    assert_eq!(back.status, StatusCode::GATEWAY_TIMEOUT);
    assert!(back.text.contains("idp_timeout") && back.text.contains("Back to sign-in"));
    assert!(
        took >= Duration::from_secs(4) && took < Duration::from_secs(20),
        "{took:?}"
    );
}

#[tokio::test]
async fn s66_redirects_and_enormous_answers_are_not_taken() {
    let (server, stub) = ready().await;
    stub.plan(|plan| plan.trick = Trick::Redirect);
    refused(&server, &stub, "idp_redirect").await;
    assert_eq!(stub.0.elsewhere.load(Ordering::SeqCst), 0);
    stub.plan(|plan| plan.trick = Trick::Enormous);
    refused(&server, &stub, "idp_answer_too_large").await;
}

#[tokio::test]
async fn s66_a_provider_on_this_machine_is_not_asked_unless_the_settings_say_so() {
    let server = TestServer::with(|settings| settings.allow_private_addresses = false).await;
    let stub = Stub::start().await;
    stub.add(&server, "corp", "openid").await;
    let answer = server.browser().get("/rp/authorize?idp=corp").await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert!(
        answer.text.contains("idp_address_insecure"),
        "{}",
        answer.text
    );
    // GitHub's kind asks nobody before the browser goes, and nobody afterwards either.
    stub.add(&server, "github", "github").await;
    let back = stub.trip(&mut server.browser(), "github").await;
    assert!(back.text.contains("idp_address_insecure"), "{}", back.text);
    assert_eq!(stub.0.exchanges.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn s0_42_what_the_token_endpoint_says_is_not_shown_and_errors_of_status_200_count() {
    let (server, stub) = ready().await;
    for (status, body, code) in [
        (
            200,
            json!({ "error": "bad_verification_code", "access_token": "x", "token_type": "bearer" }),
            "idp_refused_code",
        ),
        (400, json!({ "error": "invalid_grant" }), "idp_refused_code"),
        (500, json!({}), "idp_refused_code"),
        (200, json!([]), "idp_tokens_unusable"),
        (200, json!({ "access_token": "x" }), "idp_tokens_unusable"),
        (
            200,
            json!({ "access_token": "x", "token_type": "mac" }),
            "idp_tokens_unusable",
        ),
        (
            200,
            json!({ "access_token": "x", "token_type": "Bearer" }),
            "idp_tokens_unusable",
        ),
    ] {
        stub.plan(|plan| plan.token = Some((status, body)));
        refused(&server, &stub, code).await;
    }
    stub.plan(|plan| plan.token = Some((200, json!({ "error": "bad_verification_code" }))));
    let back = stub.trip(&mut server.browser(), "github").await;
    assert!(back.text.contains("idp_refused_code"), "{}", back.text);
}

#[tokio::test]
async fn s0_43_userinfo_that_is_down_fails_nobody() {
    let (server, stub) = ready().await;
    stub.plan(|plan| plan.userinfo = None);
    assert_eq!(
        stub.trip(&mut server.browser(), "corp").await.location(),
        "/dashboard"
    );
}

#[tokio::test]
async fn a_refusal_of_the_provider_is_shown_escaped_and_ends_the_trip() {
    let (server, stub) = ready().await;
    let mut browser = server.browser();
    let sent = stub.begin(&mut browser, "corp").await;
    let path = callback(
        "corp",
        &sent,
        "&error=server_error&error_description=%3Cscript%3Eoh",
    );
    let back = browser.get(&path).await;
    assert_eq!(back.status, StatusCode::BAD_REQUEST);
    assert!(back.text.contains("&lt;script&gt;oh") && !back.text.contains("<script>oh"));
    assert!(
        back.text.contains("return_to=%2Fdashboard"),
        "{}",
        back.text
    );
    assert!(browser.get(&path).await.text.contains("state_unknown"));
    let sent = stub.begin(&mut browser, "corp").await;
    let back = browser
        .get(&callback("corp", &sent, "&error=access_denied"))
        .await;
    assert!(back.text.contains("idp_access_denied"));
    let twice = browser.get("/rp/callback/corp?state=a&state=b").await;
    assert!(twice.text.contains("repeated_parameter"));
}

#[tokio::test]
async fn a_secret_under_another_name_does_not_open() {
    let (server, stub) = ready().await;
    let app = server.server.app();
    let (_, sealed) = app.registry.find_identity_provider("corp").await.unwrap();
    let mut new = crate::rp::ProviderDescription {
        id: "copy".into(),
        kind: "openid".into(),
        issuer: Some(stub.0.base.clone()),
        client_id: "c".into(),
        enabled: true,
        ..Default::default()
    }
    .into_provider(&app.secrets, true)
    .unwrap();
    new.sealed_secret = sealed;
    app.registry
        .put_identity_provider(&Actor::person("test"), &new)
        .await
        .unwrap();
    let answer = server.browser().get("/rp/authorize?idp=copy").await;
    assert!(answer.text.contains("provider_unusable"), "{}", answer.text);
}
