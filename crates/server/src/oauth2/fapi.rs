//! The rules of the FAPI 2.0 Security Profile (final, 2025) for clients that follow it: a test for each, at
//! the endpoints. What is said of them for all clients has tests of its own elsewhere too.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use axum::body::Body;
use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_domain::people::{AuthMethod, ClientType, NewClient, OAuthScopes};
use keywright_registry::people::User;
use serde_json::{Value, json};

use super::client_assertion::TYPE;
use super::dpop::tests::ClientKey;
use super::testing::{CHALLENGE, ISSUER, REDIRECT, VERIFIER, consent, error, part, text, userinfo};
use crate::settings::Settings;
use crate::test_support::{Answer, Browser, START, TestServer};

/// What is signed by PKCS #1 v1.5 and by PSS.
const RSA: [(&str, &dyn RsaEncoding); 2] =
    [("RS256", &RSA_PKCS1_SHA256), ("PS256", &RSA_PSS_SHA256)];

struct Bank {
    server: TestServer,
    user: User,
    browser: Browser,
    /// It signs assertions.
    key: ClientKey,
    /// It signs proofs.
    device: ClientKey,
    count: u32,
}

fn follows(key: &ClientKey) -> impl Fn(&mut NewClient) {
    let keys = json!({ "keys": [key.jwk] }).to_string();
    move |new| {
        new.client_type = ClientType::Confidential;
        new.auth_method = AuthMethod::PrivateKeyJwt;
        new.jwks = Some(keys.clone());
        new.signing_alg = "ES256".into();
        new.grant_types.push("client_credentials".into());
        new.fapi = true;
    }
}

/// A client's description that is good.
fn described(key: &ClientKey) -> NewClient {
    let mut new = NewClient {
        name: "Bank".into(),
        client_type: ClientType::Confidential,
        auth_method: AuthMethod::PrivateKeyJwt,
        jwks: None,
        redirect_uris: vec!["https://bank.example/cb".into()],
        post_logout_redirect_uris: Vec::new(),
        backchannel_logout_uri: None,
        grant_types: vec!["authorization_code".into()],
        scopes: OAuthScopes::parse("openid").unwrap(),
        signing_alg: "ES256".into(),
        require_pkce: false,
        require_dpop: false,
        fapi: true,
    };
    follows(key)(&mut new);
    new
}

impl Bank {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let server = TestServer::with(change).await;
        let (key, device) = (ClientKey::new(), ClientKey::new());
        server.add_client("bank", None, follows(&key)).await;
        let user = server.add_user("ada@example.org", &[]).await;
        let browser = server.sign_in_as(&user).await;
        Self {
            server,
            user,
            browser,
            key,
            device,
            count: 0,
        }
    }

    fn name(&mut self) -> String {
        self.count += 1;
        format!("n{}", self.count)
    }

    fn now(&self) -> i64 {
        self.server.server.app().now() / 1000
    }

    fn claims(&mut self) -> Value {
        let (jti, now) = (self.name(), self.now());
        json!({
            "iss": "bank", "sub": "bank", "aud": ISSUER, "jti": jti, "iat": now, "exp": now + 60,
        })
    }

    fn assertion(&mut self) -> String {
        let claims = self.claims();
        self.key.sign(&json!({ "alg": "ES256" }), &claims)
    }

    fn proof(&mut self, path: &str) -> String {
        let claims = json!({
            "jti": self.name(), "htm": "POST", "htu": format!("{ISSUER}{path}"), "iat": self.now(),
        });
        self.device.sign(&self.device.header(), &claims)
    }

    /// A form by a client that proves itself with `assertion`, if there is one, with a proof if there is one.
    async fn post(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        assertion: &str,
        proof: &str,
    ) -> Answer {
        let body = {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.extend_pairs(fields.iter().filter(|(_, value)| !value.is_empty()));
            if !assertion.is_empty() {
                form.append_pair("client_assertion_type", TYPE);
                form.append_pair("client_assertion", assertion);
            }
            form.finish()
        };
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("dpop", proof),
        ];
        let mut client = self.server.browser();
        client
            .send(Method::POST, path, &headers, Body::from(body))
            .await
    }

    /// Pushes a request with changes; an empty value leaves one out.
    async fn push_by(&self, changes: &[(&str, &str)], assertion: &str, proof: &str) -> Answer {
        let base = [
            ("client_id", "bank"),
            ("redirect_uri", REDIRECT),
            ("response_type", "code"),
            ("scope", "openid offline_access"),
            ("state", "s"),
            ("nonce", "n"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        let kept = base
            .iter()
            .filter(|(name, _)| !changes.iter().any(|(own, _)| own == name));
        let fields: Vec<_> = kept.chain(changes).copied().collect();
        self.post("/oauth2/par", &fields, assertion, proof).await
    }

    async fn push(&mut self, changes: &[(&str, &str)]) -> Answer {
        let assertion = self.assertion();
        self.push_by(changes, &assertion, "").await
    }

    /// The answer of the authorization endpoint to what was pushed, after a yes where that is asked for.
    async fn answer(&mut self, pushed: &Answer) -> Answer {
        assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.text);
        let uri = text(pushed, "request_uri");
        let path = format!("/oauth2/authorize?client_id=bank&request_uri={uri}");
        let answer = self.browser.get(&path).await;
        match answer.leads_to() {
            "" => consent(&mut self.browser, &answer, "allow").await,
            _ => answer,
        }
    }

    async fn code(&mut self) -> String {
        let pushed = self.push(&[]).await;
        let answer = self.answer(&pushed).await;
        answer
            .location_param("code")
            .unwrap_or_else(|| panic!("{}", answer.text))
    }

    async fn redeem_by(&mut self, code: &str, proof: &str) -> Answer {
        let assertion = self.assertion();
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        self.post("/oauth2/token", &fields, &assertion, proof).await
    }

    async fn redeem(&mut self, code: &str) -> Answer {
        let proof = self.proof("/oauth2/token");
        self.redeem_by(code, &proof).await
    }

    async fn tokens(&mut self) -> Answer {
        let code = self.code().await;
        let answer = self.redeem(&code).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answer
    }

    async fn refresh(&mut self, token: &str) -> Answer {
        let (assertion, proof) = (self.assertion(), self.proof("/oauth2/token"));
        let fields = [("grant_type", "refresh_token"), ("refresh_token", token)];
        self.post("/oauth2/token", &fields, &assertion, &proof)
            .await
    }
}

/// A key of another kind, with its public half.
fn rsa() -> (RsaKeyPair, Value) {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let part = |number: &[u8]| URL_SAFE_NO_PAD.encode(number);
    let public = pair.public_key();
    let jwk = json!({
        "kty": "RSA",
        "n": part(public.modulus().big_endian_without_leading_zero()),
        "e": part(public.exponent().big_endian_without_leading_zero()),
    });
    (pair, jwk)
}

fn sign(
    pair: &RsaKeyPair,
    how: &'static dyn RsaEncoding,
    header: &Value,
    claims: &Value,
) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let mut signature = vec![0; pair.public_modulus_len()];
    let random = SystemRandom::new();
    pair.sign(how, &random, message.as_bytes(), &mut signature)
        .unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn fapi_5_3_2_1_clients_are_confidential_and_have_keys() {
    let key = ClientKey::new();
    let good = || described(&key);
    assert!(good().check().unwrap().require_pkce, "PKCE always");
    let bad: [fn(&mut NewClient); 5] = [
        |new| new.auth_method = AuthMethod::ClientSecretBasic,
        |new| new.auth_method = AuthMethod::ClientSecretPost,
        |new| (new.client_type, new.auth_method) = (ClientType::Public, AuthMethod::None),
        |new| new.jwks = None,
        // 5.4.1: what we sign for it.
        |new| new.signing_alg = "RS256".into(),
    ];
    for (at, change) in bad.into_iter().enumerate() {
        let mut new = good();
        change(&mut new);
        assert!(new.check().is_err(), "{at}");
    }
}

#[tokio::test]
async fn fapi_5_3_2_1_assertions_are_for_the_issuer_as_one_text() {
    let mut bank = Bank::start().await;
    for (aud, good) in [
        (json!(ISSUER), true),
        (json!([ISSUER]), false),
        (json!([ISSUER, "https://evil.example"]), false),
        (json!(format!("{ISSUER}/")), false),
        (json!(format!("{ISSUER}/oauth2/token")), false),
        (json!(format!("{ISSUER}/oauth2/par")), false),
    ] {
        let mut claims = bank.claims();
        claims["aud"] = aud.clone();
        let assertion = bank.key.sign(&json!({ "alg": "ES256" }), &claims);
        let answer = bank.push_by(&[], &assertion, "").await;
        assert_eq!(
            answer.status == StatusCode::CREATED,
            good,
            "{aud}: {}",
            answer.text
        );
        assert!(good || error(&answer) == "invalid_client");
    }
}

#[tokio::test]
async fn fapi_5_3_2_1_clocks_may_differ_by_ten_seconds_and_not_by_sixty() {
    let mut bank = Bank::start().await;
    for (claim, ahead, good) in [
        ("iat", 10, true),
        ("nbf", 10, true),
        ("iat", 61, false),
        ("nbf", 61, false),
    ] {
        let mut claims = bank.claims();
        claims[claim] = (bank.now() + ahead).into();
        let assertion = bank.key.sign(&json!({ "alg": "ES256" }), &claims);
        let answer = bank.push_by(&[], &assertion, "").await;
        assert_eq!(
            answer.status == StatusCode::CREATED,
            good,
            "{claim} {ahead}"
        );
    }
}

#[tokio::test]
async fn fapi_5_3_2_1_tokens_are_bound_to_a_key() {
    let mut bank = Bank::start().await;
    let code = bank.code().await;
    assert_eq!(
        error(&bank.redeem_by(&code, "").await),
        "invalid_dpop_proof"
    );
    let tokens = bank.redeem(&code).await;
    assert_eq!(text(&tokens, "token_type"), "DPoP", "{}", tokens.text);
    let access = text(&tokens, "access_token");
    assert_eq!(part(&access, 1)["cnf"]["jkt"], bank.device.jkt());
    // As a bearer token it is good for nothing.
    let refused = userinfo(&bank.server, &access).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let headers = [
        ("authorization", format!("DPoP {access}")),
        (
            "dpop",
            bank.device
                .proof("u", "GET", "/oauth2/userinfo", Some(&access)),
        ),
    ];
    let headers = headers
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let mut client = bank.server.browser();
    let info = client
        .send(Method::GET, "/oauth2/userinfo", &headers, Body::empty())
        .await;
    assert_eq!(info.status, StatusCode::OK, "{}", info.text);
    // Its own tokens too.
    let assertion = bank.assertion();
    let own = [("grant_type", "client_credentials")];
    let refused = bank.post("/oauth2/token", &own, &assertion, "").await;
    assert_eq!(error(&refused), "invalid_dpop_proof");
}

#[tokio::test]
async fn fapi_5_3_2_1_codes_live_for_a_minute_at_most() {
    let mut bank = Bank::with(|settings| settings.code_ms = 600_000).await;
    for (waits, good) in [(59_999, true), (60_000, false)] {
        let code = bank.code().await;
        bank.server.pass(waits);
        let answer = bank.redeem(&code).await;
        assert_eq!(
            answer.status == StatusCode::OK,
            good,
            "{waits}: {}",
            answer.text
        );
    }
    // Others have what is set.
    let server = &bank.server;
    server.add_client("app", None, |_| {}).await;
    let code = super::testing::code(&mut bank.browser, &[]).await;
    server.pass(60_000);
    let answer = super::testing::exchange(server, &code, &[]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    // And a shorter time stays shorter.
    let mut bank = Bank::with(|settings| settings.code_ms = 10_000).await;
    let code = bank.code().await;
    bank.server.pass(10_000);
    assert_eq!(error(&bank.redeem(&code).await), "invalid_grant");
}

#[tokio::test]
async fn fapi_5_3_2_1_codes_are_bound_to_the_key_of_the_pushed_request() {
    let mut bank = Bank::start().await;
    let (assertion, proof) = (bank.assertion(), bank.proof("/oauth2/par"));
    let pushed = bank.push_by(&[], &assertion, &proof).await;
    let answer = bank.answer(&pushed).await;
    let code = answer.location_param("code").unwrap();
    let own = std::mem::replace(&mut bank.device, ClientKey::new());
    assert_eq!(error(&bank.redeem(&code).await), "invalid_grant");
    bank.device = own;
    let (assertion, proof) = (bank.assertion(), bank.proof("/oauth2/par"));
    let pushed = bank.push_by(&[], &assertion, &proof).await;
    let answer = bank.answer(&pushed).await;
    let code = answer.location_param("code").unwrap();
    assert_eq!(bank.redeem(&code).await.status, StatusCode::OK);
}

#[tokio::test]
async fn fapi_5_3_2_1_refresh_tokens_are_not_rotated() {
    let mut bank = Bank::start().await;
    let tokens = bank.tokens().await;
    let token = text(&tokens, "refresh_token");
    let day = 24 * 3_600_000;
    // Each use keeps it alive; the family's end stays.
    for round in 0..5 {
        bank.server.pass(6 * day - 1_000);
        let answer = bank.refresh(&token).await;
        assert_eq!(answer.status, StatusCode::OK, "{round} {}", answer.text);
        assert!(
            answer.json().get("refresh_token").is_none(),
            "{}",
            answer.text
        );
        assert_eq!(text(&answer, "token_type"), "DPoP");
        // The same again at once is no theft.
        assert_eq!(bank.refresh(&token).await.status, StatusCode::OK);
    }
    bank.server.pass(day);
    assert_eq!(
        error(&bank.refresh(&token).await),
        "invalid_grant",
        "thirty days"
    );
    bank.browser = bank.server.sign_in_as(&bank.user).await;
    // With a new key of its proofs it goes on (RFC 9449 §5). By nobody it is good for nothing, and nothing
    // ends by that.
    let tokens = bank.tokens().await;
    let token = text(&tokens, "refresh_token");
    bank.device = ClientKey::new();
    let next = bank.refresh(&token).await;
    assert_eq!(next.status, StatusCode::OK, "{}", next.text);
    let access = text(&next, "access_token");
    assert_eq!(part(&access, 1)["cnf"]["jkt"], bank.device.jkt());
    let fields = [
        ("grant_type", "refresh_token"),
        ("refresh_token", token.as_str()),
        ("client_id", "bank"),
    ];
    let proof = bank.proof("/oauth2/token");
    let stranger = bank.post("/oauth2/token", &fields, "", &proof).await;
    assert_eq!(error(&stranger), "invalid_client");
    assert_eq!(bank.refresh(&token).await.status, StatusCode::OK);
    // Revoked is revoked.
    let assertion = bank.assertion();
    let revoked = bank
        .post("/oauth2/revoke", &[("token", &token)], &assertion, "")
        .await;
    assert_eq!(revoked.status, StatusCode::OK);
    assert_eq!(error(&bank.refresh(&token).await), "invalid_grant");
}

#[tokio::test]
async fn fapi_5_3_2_1_there_is_no_password_grant() {
    let mut bank = Bank::start().await;
    let (assertion, proof) = (bank.assertion(), bank.proof("/oauth2/token"));
    let fields = [
        ("grant_type", "password"),
        ("username", "ada@example.org"),
        ("password", crate::test_support::PASSWORD),
    ];
    let answer = bank
        .post("/oauth2/token", &fields, &assertion, &proof)
        .await;
    assert_eq!(error(&answer), "unsupported_grant_type");
}

#[tokio::test]
async fn fapi_5_3_2_2_requests_are_pushed_by_a_client_that_proved_itself() {
    let mut bank = Bank::start().await;
    let plain = super::testing::authorize_path(&[("client_id", "bank")]);
    let answer = bank.browser.get(&plain).await;
    assert_eq!(
        answer.location_param("error").as_deref(),
        Some("invalid_request")
    );
    assert_eq!(answer.location_param("code"), None);
    // Without a proof of who it is, or by somebody else's.
    assert_eq!(error(&bank.push_by(&[], "", "").await), "invalid_client");
    let claims = bank.claims();
    let stranger = ClientKey::new().sign(&json!({ "alg": "ES256" }), &claims);
    assert_eq!(
        error(&bank.push_by(&[], &stranger, "").await),
        "invalid_client"
    );
    let pushed = bank.push(&[]).await;
    assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.text);
    let life = pushed.json()["expires_in"].as_i64().unwrap();
    assert!(life < 600, "{life}");
    // Once, and in its time.
    let uri = text(&pushed, "request_uri");
    bank.answer(&pushed).await;
    let path = format!("/oauth2/authorize?client_id=bank&request_uri={uri}");
    let again = bank.browser.get(&path).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST);
    let late = bank.push(&[]).await;
    bank.server.pass(life * 1000);
    let path = format!(
        "/oauth2/authorize?client_id=bank&request_uri={}",
        text(&late, "request_uri")
    );
    assert_eq!(
        bank.browser.get(&path).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn fapi_5_3_2_2_pushed_requests_ask_for_a_code_with_pkce_and_an_address() {
    let mut bank = Bank::start().await;
    let changes: [&[(&str, &str)]; 9] = [
        &[("redirect_uri", "")],
        &[("redirect_uri", "https://evil.example/cb")],
        &[("response_type", "")],
        &[("response_type", "token")],
        &[("response_type", "code id_token")],
        &[("code_challenge", "")],
        &[("code_challenge_method", "plain")],
        &[("code_challenge_method", "")],
        &[("request_uri", "urn:ietf:params:oauth:request_uri:x")],
    ];
    for changes in changes {
        let answer = bank.push(changes).await;
        assert_eq!(
            answer.status,
            StatusCode::BAD_REQUEST,
            "{changes:?}: {}",
            answer.text
        );
    }
    // 5.3.2.3: nonces of 64 characters at least.
    let nonce = "n".repeat(64);
    let pushed = bank.push(&[("nonce", &nonce)]).await;
    let answer = bank.answer(&pushed).await;
    let tokens = bank.redeem(&answer.location_param("code").unwrap()).await;
    assert_eq!(part(&text(&tokens, "id_token"), 1)["nonce"], nonce.as_str());
}

#[tokio::test]
async fn fapi_5_3_2_2_answers_go_to_addresses_that_nobody_reads_on_the_way() {
    let key = ClientKey::new();
    for (uri, good) in [
        ("https://bank.example/cb", true),
        // A program on the same machine (RFC 8252 §7.3).
        ("http://127.0.0.1/cb", true),
        ("http://bank.example/cb", false),
        ("http://localhost.bank.example/cb", false),
        ("http://192.0.2.1/cb", false),
    ] {
        let mut new = described(&key);
        new.redirect_uris = vec![uri.into()];
        assert_eq!(new.check().is_ok(), good, "{uri}");
    }
}

#[tokio::test]
async fn fapi_5_3_2_2_answers_name_their_issuer_and_are_never_307() {
    let mut bank = Bank::start().await;
    let pushed = bank.push(&[]).await;
    // After the person's yes, which is a form with their session: a page, from which the browser goes by GET.
    let answer = bank.answer(&pushed).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.location_param("iss").as_deref(), Some(ISSUER));
    // Where nobody is asked.
    let pushed = bank.push(&[]).await;
    let answer = bank.answer(&pushed).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    assert_eq!(answer.location_param("iss").as_deref(), Some(ISSUER));
    // Errors too.
    let pushed = bank
        .push(&[("prompt", "none"), ("scope", "openid email")])
        .await;
    let answer = bank.answer(&pushed).await;
    assert_eq!(
        answer.location_param("error").as_deref(),
        Some("consent_required")
    );
    assert_eq!(answer.location_param("iss").as_deref(), Some(ISSUER));
    // No script of another site reads an answer.
    let origin = [("origin", "https://bank.example")];
    let path = super::testing::authorize_path(&[("client_id", "bank")]);
    let answer = bank
        .browser
        .send(Method::GET, &path, &origin, Body::empty())
        .await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn fapi_5_4_1_nobody_signs_with_pkcs1_or_with_nothing() {
    let mut bank = Bank::start().await;
    let (pair, jwk) = rsa();
    // Assertions.
    let own = json!({ "keys": [jwk] }).to_string();
    let server = &bank.server;
    server
        .add_client("rsa", None, |new| {
            follows(&bank.key)(new);
            new.jwks = Some(own);
        })
        .await;
    for (alg, how) in RSA {
        let mut claims = bank.claims();
        claims["iss"] = "rsa".into();
        claims["sub"] = "rsa".into();
        let assertion = sign(&pair, how, &json!({ "alg": alg }), &claims);
        let answer = bank.push_by(&[("client_id", "rsa")], &assertion, "").await;
        assert_eq!(
            answer.status == StatusCode::CREATED,
            alg == "PS256",
            "{alg}: {}",
            answer.text
        );
    }
    let claims = bank.claims();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = format!("{}.{}.", encode(&json!({ "alg": "none" })), encode(&claims));
    assert_eq!(
        error(&bank.push_by(&[], &unsigned, "").await),
        "invalid_client"
    );
    // Proofs, where they bind a code and where they bind tokens.
    for (alg, how) in RSA {
        let proof = |bank: &mut Bank, path: &str| {
            let header = json!({ "typ": "dpop+jwt", "alg": alg, "jwk": jwk });
            let claims = json!({
                "jti": bank.name(), "htm": "POST", "htu": format!("{ISSUER}{path}"), "iat": bank.now(),
            });
            sign(&pair, how, &header, &claims)
        };
        let (at_par, assertion) = (proof(&mut bank, "/oauth2/par"), bank.assertion());
        let pushed = bank.push_by(&[], &assertion, &at_par).await;
        assert_eq!(
            pushed.status == StatusCode::CREATED,
            alg == "PS256",
            "{alg}: {}",
            pushed.text
        );
        let code = bank.code().await;
        let at_token = proof(&mut bank, "/oauth2/token");
        let tokens = bank.redeem_by(&code, &at_token).await;
        assert_eq!(
            tokens.status == StatusCode::OK,
            alg == "PS256",
            "{alg}: {}",
            tokens.text
        );
        if alg == "RS256" {
            assert_eq!(error(&pushed), "invalid_dpop_proof");
            assert_eq!(error(&tokens), "invalid_dpop_proof");
        }
    }
    // And we do not either.
    let tokens = bank.tokens().await;
    for name in ["access_token", "id_token"] {
        assert_eq!(part(&text(&tokens, name), 0)["alg"], "ES256", "{name}");
    }
    assert!(
        part(&text(&tokens, "access_token"), 1)["iat"]
            .as_i64()
            .unwrap()
            >= START / 1000
    );
}

#[tokio::test]
async fn fapi_5_3_4_tokens_are_read_from_the_header_alone() {
    let mut bank = Bank::start().await;
    let access = text(&bank.tokens().await, "access_token");
    let proof = bank
        .device
        .proof("q", "GET", "/oauth2/userinfo", Some(&access));
    let path = format!("/oauth2/userinfo?access_token={access}");
    let mut client = bank.server.browser();
    let answer = client
        .send(Method::GET, &path, &[("dpop", &proof)], Body::empty())
        .await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text);
}
