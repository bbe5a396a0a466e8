use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::body::Body;
use serde_json::{Value, json};

use super::*;
use crate::oauth2::testing;
use crate::test_support::{Answer, START, TestServer};

/// A client's key.
pub(crate) struct ClientKey {
    pair: EcdsaKeyPair,
    pub(crate) jwk: Value,
}

impl ClientKey {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let how = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(how, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(how, pkcs8.as_ref()).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)});
        Self { pair, jwk }
    }

    pub(crate) fn jkt(&self) -> String {
        client_jws::thumbprint(self.jwk.as_object().unwrap()).unwrap()
    }

    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(header), encode(claims));
        let random = SystemRandom::new();
        let signature = self.pair.sign(&random, message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    pub(crate) fn header(&self) -> Value {
        json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk})
    }

    /// A proof at the start of the tests' time.
    pub(crate) fn proof(&self, jti: &str, method: &str, path: &str, token: Option<&str>) -> String {
        let mut claims = claims(jti, method, path);
        if let Some(token) = token {
            claims["ath"] = URL_SAFE_NO_PAD.encode(Sha256::digest(token)).into();
        }
        self.sign(&self.header(), &claims)
    }
}

fn claims(jti: &str, method: &str, path: &str) -> Value {
    let htu = format!("{}{path}", testing::ISSUER);
    json!({"jti": jti, "htm": method, "htu": htu, "iat": START / 1000})
}

async fn try_proof(server: &TestServer, proof: &str) -> Result<Option<String>, OAuthError> {
    let mut headers = HeaderMap::new();
    headers.insert("dpop", proof.parse().unwrap());
    check(
        server.server.app(),
        &headers,
        &Method::POST,
        "/oauth2/token",
        None,
    )
    .await
}

fn change(value: &mut Value, name: &str, to: Value) {
    if to.is_null() {
        value.as_object_mut().unwrap().remove(name);
    } else {
        value[name] = to;
    }
}

#[tokio::test]
async fn s58_every_check_of_a_proof() {
    let server = TestServer::start().await;
    let key = ClientKey::new();
    let other = ClientKey::new();
    let good = key.proof("good", "POST", "/oauth2/token", None);
    assert_eq!(try_proof(&server, &good).await.unwrap(), Some(key.jkt()));
    // Replay.
    let again = try_proof(&server, &good).await.unwrap_err();
    assert_eq!(again.error, "invalid_dpop_proof");
    let now = START / 1000;
    let mut private = key.jwk.clone();
    private["d"] = "AAAA".into();
    let symmetric = json!({"kty": "oct", "k": "AAAA"});
    let headers = [
        ("typ", Value::Null),
        ("typ", "JWT".into()),
        ("alg", "none".into()),
        ("alg", "HS256".into()),
        ("alg", "RS256".into()),
        ("jwk", Value::Null),
        ("jwk", private),
        ("jwk", symmetric),
        ("jwk", other.jwk.clone()),
        ("crit", json!(["x"])),
    ];
    for (at, (name, value)) in headers.into_iter().enumerate() {
        let mut header = key.header();
        change(&mut header, name, value.clone());
        let proof = key.sign(&header, &claims(&format!("h{at}"), "POST", "/oauth2/token"));
        let refused = try_proof(&server, &proof).await.expect_err(name);
        assert_eq!(refused.error, "invalid_dpop_proof", "{name}: {value}");
    }
    let bad = [
        ("jti", Value::Null),
        ("jti", "".into()),
        ("jti", "j".repeat(201).into()),
        ("htm", Value::Null),
        ("htm", "GET".into()),
        ("htu", Value::Null),
        ("htu", format!("{}/oauth2/userinfo", testing::ISSUER).into()),
        ("htu", "https://evil.example/oauth2/token".into()),
        ("iat", Value::Null),
    ];
    for (at, (name, value)) in bad.into_iter().enumerate() {
        let mut claims = claims(&format!("c{at}"), "POST", "/oauth2/token");
        change(&mut claims, name, value.clone());
        let proof = key.sign(&key.header(), &claims);
        let refused = try_proof(&server, &proof).await.expect_err(name);
        assert_eq!(refused.error, "invalid_dpop_proof", "{name}: {value}");
    }
    let fine = [
        ("iat", json!(now - 60)),
        ("iat", json!(now + 10)),
        (
            "htu",
            json!(format!("{}/oauth2/token?a=b#c", testing::ISSUER)),
        ),
        ("htu", json!("HTTP://127.0.0.1:8377/oauth2/token")),
    ];
    for (at, (name, value)) in fine.into_iter().enumerate() {
        let mut claims = claims(&format!("f{at}"), "POST", "/oauth2/token");
        change(&mut claims, name, value.clone());
        let proof = key.sign(&key.header(), &claims);
        assert!(try_proof(&server, &proof).await.is_ok(), "{name}: {value}");
    }
    // One header.
    let mut headers = HeaderMap::new();
    for jti in ["d1", "d2"] {
        let proof = key.proof(jti, "POST", "/oauth2/token", None);
        headers.append("dpop", proof.parse().unwrap());
    }
    let app = server.server.app();
    assert!(
        check(app, &headers, &Method::POST, "/oauth2/token", None)
            .await
            .is_err()
    );
    for bad in ["", "a.b", "a.b.c", "\u{e9}"] {
        assert!(try_proof(&server, bad).await.is_err(), "{bad}");
    }
    let none = check(app, &HeaderMap::new(), &Method::POST, "/oauth2/token", None).await;
    assert_eq!(none.unwrap(), None);
}

#[tokio::test]
async fn s58_our_nonce_stands_for_the_clock() {
    let server = TestServer::start().await;
    let key = ClientKey::new();
    let late = |jti: &str, nonce: &str| {
        let mut claims = claims(jti, "POST", "/oauth2/token");
        claims["iat"] = (START / 1000 - 5_000).into();
        if !nonce.is_empty() {
            claims["nonce"] = nonce.into();
        }
        key.sign(&key.header(), &claims)
    };
    let refused = try_proof(&server, &late("1", "")).await.unwrap_err();
    // RFC 9449 §8: this is what clients try again after.
    assert_eq!(refused.error, "use_dpop_nonce");
    let nonce = refused
        .dpop_nonce
        .expect("a nonce for clients with a wrong clock");
    assert!(try_proof(&server, &late("2", &nonce)).await.is_ok());
    assert!(
        try_proof(&server, &late("2", &nonce)).await.is_err(),
        "replay"
    );
    let foreign = try_proof(&server, &late("3", "foreign")).await.unwrap_err();
    assert_eq!(foreign.error, "use_dpop_nonce");
    assert_eq!(foreign.dpop_nonce.as_deref(), Some(&*nonce));
    server.pass(300_000);
    let old = try_proof(&server, &late("4", &nonce)).await.unwrap_err();
    assert_eq!(old.error, "use_dpop_nonce");
}

#[tokio::test]
async fn s58_a_clock_put_forward_and_back_takes_no_proof_a_second_time() {
    const AHEAD_MS: i64 = 3 * 3_600_000;
    let server = TestServer::start().await;
    let (app, key) = (server.server.app(), ClientKey::new());
    let sign = |jti: &str, at_ms: i64, nonce: Option<&str>| {
        let mut claims = claims(jti, "POST", "/oauth2/token");
        claims["iat"] = (at_ms / 1000).into();
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.into();
        }
        key.sign(&key.header(), &claims)
    };
    let show = async |used: &Used, proof: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("dpop", proof.parse().unwrap());
        let proof = read(app, &headers, &Method::POST, "/oauth2/token", None)
            .await?
            .unwrap();
        proof.check_unused(app, used)?;
        proof.use_up(app, used).await
    };
    let nonce = nonce_at(app, START / 1000 / NONCE_S);
    // By its own time, and by a nonce of ours; the ends of both are theirs, whenever they are shown.
    for (nonce, end_ms) in [(None, 61_000), (Some(nonce.as_str()), 2 * NONCE_S * 1000)] {
        let used = Used::new(8);
        let kept = ["kept", "kept too"].map(|jti| sign(jti, START, nonce));
        server.pass(5000);
        for proof in &kept {
            show(&used, proof).await.unwrap();
        }
        server.pass(AHEAD_MS);
        for number in 0..7 {
            let other = sign(&number.to_string(), START + AHEAD_MS, None);
            show(&used, &other).await.unwrap();
        }
        assert_eq!(used.len(), 7, "the first two are forgotten");
        server.pass(-AHEAD_MS);
        for proof in &kept {
            let refused = show(&used, proof).await.unwrap_err();
            assert_eq!(refused.error, "invalid_dpop_proof", "{nonce:?}");
        }
        // A proof that was made at the same time may be one that was forgotten; later ones are none.
        let refused = show(&used, &sign("unseen", START, nonce)).await;
        assert_eq!(refused.unwrap_err().error, "invalid_dpop_proof");
        server.pass(end_ms - 61_000);
        let later = sign("later", START + end_ms - 60_000, None);
        show(&used, &later).await.unwrap();
        server.pass(-(end_ms - 61_000) - 5000);
    }
}

#[tokio::test]
async fn s58_a_clock_that_is_wrong_beside_another_fault_gets_no_nonce() {
    let server = TestServer::start().await;
    let key = ClientKey::new();
    let now = START / 1000;
    let (app, path) = (server.server.app(), "/oauth2/userinfo");
    let with = async |jti: &str, iat: i64, ath: &str| {
        let mut claims = claims(jti, "GET", path);
        claims["iat"] = iat.into();
        claims["ath"] = URL_SAFE_NO_PAD.encode(Sha256::digest(ath)).into();
        let mut headers = HeaderMap::new();
        let proof = key.sign(&key.header(), &claims);
        headers.insert("dpop", proof.parse().unwrap());
        check(app, &headers, &Method::GET, path, Some("token")).await
    };
    assert!(with("1", now, "token").await.is_ok());
    for (jti, iat) in [("2", now - 61), ("3", now + 11)] {
        let refused = with(jti, iat, "token").await.unwrap_err();
        assert_eq!(refused.error, "use_dpop_nonce");
        assert!(refused.dpop_nonce.is_some());
        let refused = with(jti, iat, "another").await.unwrap_err();
        assert_eq!(refused.error, "invalid_dpop_proof");
        assert!(refused.dpop_nonce.is_none());
    }
}

#[tokio::test]
async fn s58_proofs_that_come_with_nothing_good_are_not_remembered() {
    let server = TestServer::start().await;
    server.add_client("app", None, |_| {}).await;
    let user = server.add_user("ann@example.org", &[]).await;
    let mut browser = server.sign_in_as(&user).await;
    let memory = &server.server.app().oauth2.extensions;
    let key = ClientKey::new();
    let exchange = async |jti: &str, code: &str| {
        let form = format!(
            "grant_type=authorization_code&client_id=app&code={code}&redirect_uri={}&code_verifier={}",
            testing::REDIRECT,
            testing::VERIFIER
        );
        let proof = key.proof(jti, "POST", "/oauth2/token", None);
        testing::token_request(&server, &[("dpop", &proof)], form).await
    };
    for number in 0..5 {
        let refused = exchange(&format!("bad {number}"), "none").await;
        assert_eq!(testing::error(&refused), "invalid_grant");
    }
    assert_eq!(memory.proofs.len(), 0);
    // Those of pushed requests, which anybody may send, have a room of their own.
    let proof = key.proof("pushed", "POST", "/oauth2/par", None);
    let headers = [
        ("dpop", proof.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let mut pushed = Vec::new();
    for _ in 0..2 {
        let body = Body::from(testing::request(&[]));
        let sent = server
            .browser()
            .send(Method::POST, "/oauth2/par", &headers, body)
            .await;
        pushed.push(sent.status);
    }
    assert_eq!(pushed, [StatusCode::CREATED, StatusCode::BAD_REQUEST]);
    assert_eq!((memory.proofs.len(), memory.pushed_proofs.len()), (0, 1));
    // What is good is good once, and a proof that was used costs nobody their code.
    let code = testing::code(&mut browser, &[]).await;
    let given = exchange("good", &code).await;
    assert_eq!(given.status, StatusCode::OK, "{}", given.text);
    assert_eq!(memory.proofs.len(), 1);
    let second = testing::code(&mut browser, &[]).await;
    let refused = exchange("good", &second).await;
    assert_eq!(testing::error(&refused), "invalid_dpop_proof");
    let given = exchange("better", &second).await;
    assert_eq!(given.status, StatusCode::OK, "{}", given.text);
}

async fn userinfo(server: &TestServer, scheme: &str, token: &str, proof: &str) -> Answer {
    let authorization = format!("{scheme} {token}");
    let headers = [("authorization", authorization.as_str()), ("dpop", proof)];
    let mut client = server.browser();
    client
        .send(Method::GET, "/oauth2/userinfo", &headers, Body::empty())
        .await
}

#[tokio::test]
async fn s58_s26_a_bound_token_needs_its_proof_and_is_no_bearer_token() {
    let server = TestServer::start().await;
    server.add_client("app", None, |_| {}).await;
    let user = server.add_user("ann@example.org", &[]).await;
    let mut browser = server.sign_in_as(&user).await;
    let key = ClientKey::new();
    let code = testing::code(&mut browser, &[]).await;
    let form = format!(
        "grant_type=authorization_code&client_id=app&code={code}&redirect_uri={}&code_verifier={}",
        testing::REDIRECT,
        testing::VERIFIER
    );
    let proof = key.proof("t1", "POST", "/oauth2/token", None);
    let answer = testing::token_request(&server, &[("dpop", &proof)], form).await;
    assert_eq!(answer.json()["token_type"], "DPoP", "{}", answer.text);
    let token = testing::text(&answer, "access_token");
    assert_eq!(testing::part(&token, 1)["cnf"]["jkt"], key.jkt());

    let path = "/oauth2/userinfo";
    let good = key.proof("u1", "GET", path, Some(&token));
    let allowed = userinfo(&server, "DPoP", &token, &good).await;
    assert_eq!(allowed.status, StatusCode::OK, "{}", allowed.text);
    let other = ClientKey::new();
    for (scheme, proof, what) in [
        ("DPoP", good, "a proof that was used"),
        ("DPoP", String::new(), "no proof"),
        ("Bearer", String::new(), "as a bearer token"),
        (
            "Bearer",
            key.proof("u2", "GET", path, Some(&token)),
            "bearer with proof",
        ),
        ("DPoP", key.proof("u3", "GET", path, None), "no ath"),
        (
            "DPoP",
            key.proof("u4", "GET", path, Some("x")),
            "another ath",
        ),
        (
            "DPoP",
            other.proof("u5", "GET", path, Some(&token)),
            "another key",
        ),
        (
            "DPoP",
            key.proof("u6", "POST", path, Some(&token)),
            "another method",
        ),
    ] {
        let refused = userinfo(&server, scheme, &token, &proof).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{what}");
        let challenge = refused.header("www-authenticate");
        assert!(challenge.starts_with("DPoP error="), "{what}: {challenge}");
        assert!(challenge.contains("algs="), "{what}");
    }
    // S26: its refresh token is bound as well.
    let refresh_token = testing::text(&answer, "refresh_token");
    let form = format!("grant_type=refresh_token&client_id=app&refresh_token={refresh_token}");
    let without = testing::token_request(&server, &[], form.clone()).await;
    assert_eq!(testing::error(&without), "invalid_grant");
    let proof = other.proof("t2", "POST", "/oauth2/token", None);
    let foreign = testing::token_request(&server, &[("dpop", &proof)], form.clone()).await;
    assert_eq!(testing::error(&foreign), "invalid_grant");
    let proof = key.proof("t3", "POST", "/oauth2/token", None);
    let own = testing::token_request(&server, &[("dpop", &proof)], form).await;
    assert_eq!(own.status, StatusCode::OK, "{}", own.text);
}

#[tokio::test]
async fn s58_an_unbound_token_is_no_dpop_token() {
    let server = TestServer::start().await;
    server.add_client("app", None, |_| {}).await;
    let user = server.add_user("ann@example.org", &[]).await;
    let mut browser = server.sign_in_as(&user).await;
    let code = testing::code(&mut browser, &[]).await;
    let answer = testing::exchange(&server, &code, &[]).await;
    let token = testing::text(&answer, "access_token");
    let proof = ClientKey::new().proof("u", "GET", "/oauth2/userinfo", Some(&token));
    let refused = userinfo(&server, "DPoP", &token, &proof).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
}
