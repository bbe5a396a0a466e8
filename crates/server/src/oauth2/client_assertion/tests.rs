use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_domain::people::{AuthMethod, ClientType};
use serde_json::{Value, json};

use super::*;
use crate::oauth2::dpop::tests::ClientKey;
use crate::test_support::{Answer, START, TestServer};

async fn start(key: &ClientKey) -> TestServer {
    let server = TestServer::start().await;
    for id in ["svc", "other"] {
        let mut jwk = key.jwk.clone();
        jwk["kid"] = "k1".into();
        server
            .add_client(id, None, |new| {
                new.client_type = ClientType::Confidential;
                new.auth_method = AuthMethod::PrivateKeyJwt;
                new.jwks = Some(json!({"keys": [{"kty": "oct", "k": "AAAA"}, jwk]}).to_string());
            })
            .await;
    }
    server
}

fn claims(jti: &str) -> Value {
    json!({
        "iss": "svc", "sub": "svc", "aud": "http://127.0.0.1:8377", "jti": jti,
        "iat": START / 1000, "exp": START / 1000 + 300,
    })
}

async fn introspect(server: &TestServer, assertion: &str) -> Answer {
    let fields = [
        ("token", "x"),
        ("client_assertion_type", TYPE),
        ("client_assertion", assertion),
    ];
    server.browser().post("/oauth2/introspect", &fields).await
}

#[tokio::test]
async fn ac_063_private_key_jwt_is_good_once_for_us_and_in_time() {
    let key = ClientKey::new();
    let server = start(&key).await;
    let header = json!({"alg": "ES256", "kid": "k1"});
    let good = key.sign(&header, &claims("1"));
    let answer = introspect(&server, &good).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(introspect(&server, &good).await.status, 401, "replay");
    let fine = [
        ("aud", json!("http://127.0.0.1:8377/oauth2/token")),
        ("aud", json!(["x", "http://127.0.0.1:8377"])),
        ("exp", json!(START / 1000 - 9)),
        ("exp", json!(START / 1000 + 3_600)),
        ("iat", Value::Null),
    ];
    for (at, (name, value)) in fine.into_iter().enumerate() {
        let mut claims = claims(&format!("f{at}"));
        claims[name] = value.clone();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        }
        let answer = introspect(&server, &key.sign(&header, &claims)).await;
        assert_eq!(answer.status, 200, "{name}: {value}");
    }
    let bad = [
        ("iss", json!("other")),
        ("sub", json!("other")),
        ("aud", json!("https://evil.example")),
        ("aud", json!([])),
        ("aud", Value::Null),
        ("exp", json!(START / 1000 - 10)),
        ("exp", json!(START / 1000 + 3_601)),
        ("exp", Value::Null),
        ("nbf", json!(START / 1000 + 11)),
        ("jti", Value::Null),
        ("jti", json!("")),
    ];
    for (at, (name, value)) in bad.into_iter().enumerate() {
        let mut claims = claims(&format!("b{at}"));
        claims[name] = value.clone();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        }
        let answer = introspect(&server, &key.sign(&header, &claims)).await;
        assert_eq!(answer.status, 401, "{name}: {value}");
        assert_eq!(answer.json()["error"], "invalid_client");
    }
    server.pass(61_000);
    let stranger = ClientKey::new().sign(&header, &claims("s"));
    assert_eq!(introspect(&server, &stranger).await.status, 401);
    let no_kid = key.sign(&json!({"alg": "ES256"}), &claims("n"));
    assert_eq!(introspect(&server, &no_kid).await.status, 200);
}

#[tokio::test]
async fn ac_063_s58_an_assertion_that_was_used_before_a_restart_is_not_taken_after_it() {
    let key = ClientKey::new();
    let mut server = start(&key).await;
    let header = json!({"alg": "ES256", "kid": "k1"});
    let for_an_hour = |jti: &str| {
        let mut claims = claims(jti);
        claims["exp"] = (START / 1000 + 3_600).into();
        claims.as_object_mut().unwrap().remove("iat");
        key.sign(&header, &claims)
    };
    let (used, kept) = (for_an_hour("used"), for_an_hour("kept"));
    assert_eq!(introspect(&server, &used).await.status, 200);
    for ahead in [1000, 1_800_000, 1_790_000] {
        server.pass(ahead);
        server = server.again().await;
        let again = introspect(&server, &used).await;
        assert_eq!(again.status, 401, "{}", again.text);
        assert_eq!(again.json()["error"], "invalid_client");
    }
    // One that was not used is good for as long as it says, once.
    assert_eq!(introspect(&server, &kept).await.status, 200);
    assert_eq!(introspect(&server, &kept).await.status, 401);
}

#[tokio::test]
async fn ac_063_ac_204_an_assertion_whose_use_cannot_be_written_down_is_not_taken() {
    let key = ClientKey::new();
    let server = start(&key).await;
    let app = server.server.app();
    let client = server.registry().find_client("svc").await.unwrap();
    server.registry().close().await;
    let assertion = SecretText::new(key.sign(&json!({"alg": "ES256"}), &claims("1")));
    let refused = verify(app, &client, &assertion).await.unwrap_err();
    assert_eq!(refused.error, "temporarily_unavailable");
    assert_eq!(refused.status, 503);
}

#[tokio::test]
async fn ac_063_no_symmetric_no_none_and_no_other_method() {
    let key = ClientKey::new();
    let server = start(&key).await;
    for (at, header) in [
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
        json!({"alg": "RS256", "kid": "k1"}),
        json!({"alg": "ES256", "kid": "k2"}),
    ]
    .into_iter()
    .enumerate()
    {
        let assertion = key.sign(&header, &claims(&format!("{at}")));
        let answer = introspect(&server, &assertion).await;
        assert_eq!(answer.status, 401, "{header}");
    }
    // `client_id` beside it must be the same client's.
    let assertion = key.sign(&json!({"alg": "ES256"}), &claims("x"));
    let fields = [
        ("token", "x"),
        ("client_id", "other"),
        ("client_assertion_type", TYPE),
        ("client_assertion", assertion.as_str()),
    ];
    let answer = server.browser().post("/oauth2/introspect", &fields).await;
    assert_eq!(answer.status, 401);
    // And whoever it names itself by is that client, too, whichever is named beside it.
    for claim in ["iss", "sub"] {
        let mut claims = claims(claim);
        claims[claim] = "other".into();
        let half = key.sign(&json!({"alg": "ES256"}), &claims);
        let fields = [
            ("token", "x"),
            ("client_id", "svc"),
            ("client_assertion_type", TYPE),
            ("client_assertion", half.as_str()),
        ];
        let answer = server.browser().post("/oauth2/introspect", &fields).await;
        assert_eq!(answer.status, 401, "{claim}");
    }
    assert_eq!(issuer_of(&assertion).as_deref(), Some("svc"));
    assert_eq!(issuer_of("x"), None);
}

/// An assertion by an RSA key, with the padding that `alg` names.
fn sign_by_rsa(pair: &RsaKeyPair, alg: &str, jti: &str) -> SecretText {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let header = json!({"alg": alg}).to_string();
    let claims = claims(jti).to_string();
    let message = format!(
        "{}.{}",
        encode(header.as_bytes()),
        encode(claims.as_bytes())
    );
    let padding: &dyn RsaEncoding = if alg == "RS256" {
        &RSA_PKCS1_SHA256
    } else {
        &RSA_PSS_SHA256
    };
    let mut signature = vec![0; pair.public_modulus_len()];
    let random = SystemRandom::new();
    pair.sign(padding, &random, message.as_bytes(), &mut signature)
        .unwrap();
    SecretText::new(format!("{message}.{}", encode(&signature)))
}

#[tokio::test]
async fn ac_063_fapi_clients_do_not_sign_with_pkcs1() {
    let server = start(&ClientKey::new()).await;
    let app = server.server.app();
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let part = |number: &[u8]| URL_SAFE_NO_PAD.encode(number);
    let public = pair.public_key();
    let jwk = json!({
        "kty": "RSA",
        "n": part(public.modulus().big_endian_without_leading_zero()),
        "e": part(public.exponent().big_endian_without_leading_zero()),
    });
    let mut client = (*server.registry().find_client("svc").await.unwrap()).clone();
    client.settings.jwks = Some(json!({"keys": [jwk]}).to_string());
    for (fapi, alg, good) in [
        (false, "RS256", true),
        (false, "PS256", true),
        (true, "RS256", false),
        (true, "PS256", true),
    ] {
        client.settings.fapi = fapi;
        let assertion = sign_by_rsa(&pair, alg, &format!("{alg} {fapi}"));
        let taken = verify(app, &client, &assertion).await.unwrap();
        assert_eq!(taken, good, "{alg}, FAPI: {fapi}");
    }
}
