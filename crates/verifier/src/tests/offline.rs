//! Tokens as an attacker would write them, and an issuer on its bad days.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

use super::issuer::{AUDIENCE, Mood, TestIssuer, TestKey, now};
use crate::clock::Clock;
use crate::{Offline, SetupError, TokenError};

const HOUR: Duration = Duration::from_secs(3600);

fn verifier(issuer: &TestIssuer) -> anyhow::Result<(Offline, Clock)> {
    let clock = Clock::new();
    Ok((
        Offline::with(issuer.url(), AUDIENCE, HOUR, clock.clone())?,
        clock,
    ))
}

async fn refusal(verifier: &Offline, token: &str) -> Option<TokenError> {
    verifier.check(token).await.err()
}

#[tokio::test]
async fn good_tokens_of_every_algorithm_are_accepted_with_their_claims() -> anyhow::Result<()> {
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let key = TestKey::new(algorithm, "k1")?;
        let issuer = TestIssuer::start(&[&key]).await?;
        let (offline, _) = verifier(&issuer)?;
        let claims = offline.check(&key.sign(&issuer.claims())).await?;
        assert_eq!(claims.sub, "u1");
        assert_eq!(claims.person(), Some("u1"));
        assert_eq!(claims.client_id, "app");
        assert_eq!(claims.scopes, ["read", "write"]);
        assert!(claims.has_role("admin") && !claims.has_role("owner"));
        assert_eq!(claims.sid.as_deref(), Some("s1"));
        let mut of_client = issuer.claims();
        of_client["sub"] = "client:app".into();
        of_client["aud"] = json!(["https://other.example", AUDIENCE]);
        let claims = offline.check(&key.sign(&of_client)).await?;
        assert_eq!(claims.person(), None);
        // All from one fetch.
        assert_eq!(issuer.fetches(), 1);
    }
    Ok(())
}

#[tokio::test]
async fn claims_that_are_wrong_or_missing_are_refused_by_name() -> anyhow::Result<()> {
    let key = TestKey::new(Algorithm::ES256, "k1")?;
    let issuer = TestIssuer::start(&[&key]).await?;
    let (offline, _) = verifier(&issuer)?;
    let now = now();
    let slash = format!("{}/", issuer.url());
    let changes: Vec<(&str, Value, TokenError)> = vec![
        ("iss", slash.into(), TokenError::IssuerMismatch),
        (
            "aud",
            "https://other.example".into(),
            TokenError::WrongAudience,
        ),
        ("aud", json!([]), TokenError::WrongAudience),
        (
            "aud",
            json!([format!("{AUDIENCE}/")]),
            TokenError::WrongAudience,
        ),
        ("exp", (now - 31).into(), TokenError::Expired),
        ("exp", json!(1e300), TokenError::Malformed),
        ("exp", "2099".into(), TokenError::Malformed),
        ("exp", i64::MIN.into(), TokenError::Expired),
        ("nbf", (now + 90).into(), TokenError::NotYetValid),
        ("iat", (now + 90).into(), TokenError::NotYetValid),
        ("iat", i64::MAX.into(), TokenError::NotYetValid),
        ("scope", json!(["read"]), TokenError::Malformed),
        ("cnf", json!({"jkt": "x"}), TokenError::Bound),
    ];
    for (name, value, wanted) in changes {
        let mut claims = issuer.claims();
        claims[name] = value.clone();
        let got = refusal(&offline, &key.sign(&claims)).await;
        assert_eq!(got, Some(wanted), "{name} {value}");
    }
    for name in ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"] {
        let mut claims = issuer.claims();
        claims.as_object_mut().unwrap().remove(name);
        let got = refusal(&offline, &key.sign(&claims)).await;
        assert_eq!(got, Some(TokenError::ClaimMissing), "{name}");
    }
    // Within the leeway.
    let mut claims = issuer.claims();
    claims["exp"] = (now - 20).into();
    claims["nbf"] = (now + 20).into();
    assert_eq!(refusal(&offline, &key.sign(&claims)).await, None);
    let strict = offline.leeway(Duration::ZERO);
    assert_eq!(
        refusal(&strict, &key.sign(&claims)).await,
        Some(TokenError::Expired)
    );
    Ok(())
}

#[tokio::test]
async fn s4_10_claims_that_nobody_knows_do_no_harm() -> anyhow::Result<()> {
    let key = TestKey::new(Algorithm::ES256, "k1")?;
    let issuer = TestIssuer::start(&[&key]).await?;
    let (offline, _) = verifier(&issuer)?;
    let mut claims = issuer.claims();
    claims["role"] = "admin".into();
    claims["https://example.com/own"] = json!({"a": [1, {"b": null}]});
    let read = offline.check(&key.sign(&claims)).await?;
    assert_eq!(read.sub, "u1");
    // `role` is none of ours: what counts is `roles`.
    assert!(read.has_role("admin") && !read.has_role("role"));
    claims["roles"] = json!([]);
    assert!(!offline.check(&key.sign(&claims)).await?.has_role("admin"));
    Ok(())
}

#[tokio::test]
async fn a_token_ends_when_the_clock_says_so() -> anyhow::Result<()> {
    let key = TestKey::new(Algorithm::ES256, "k1")?;
    let issuer = TestIssuer::start(&[&key]).await?;
    let (offline, clock) = verifier(&issuer)?;
    let token = key.sign(&issuer.claims());
    assert_eq!(refusal(&offline, &token).await, None);
    clock.pass(Duration::from_secs(625));
    assert_eq!(refusal(&offline, &token).await, None);
    clock.pass(Duration::from_secs(6));
    assert_eq!(refusal(&offline, &token).await, Some(TokenError::Expired));
    Ok(())
}

#[tokio::test]
async fn headers_that_are_wrong_are_refused_by_name() -> anyhow::Result<()> {
    let key = TestKey::new(Algorithm::RS256, "k1")?;
    let issuer = TestIssuer::start(&[&key]).await?;
    let (offline, _) = verifier(&issuer)?;
    let claims = issuer.claims().to_string();
    let typ = |typ: Value| {
        let mut header = key.header();
        header["typ"] = typ;
        key.sign_text(&header.to_string(), &claims)
    };
    for good in ["at+jwt", "AT+JWT", "application/at+jwt"] {
        assert_eq!(refusal(&offline, &typ(good.into())).await, None, "{good}");
    }
    // Another kind of token of the same issuer (AC-040).
    for bad in ["JWT", "logout+jwt", "at+jwtx", "", "application/jwt"] {
        let got = refusal(&offline, &typ(bad.into())).await;
        assert_eq!(got, Some(TokenError::WrongUse), "{bad}");
    }
    let mut no_type = key.header();
    no_type.as_object_mut().unwrap().remove("typ");
    let token = key.sign_text(&no_type.to_string(), &claims);
    assert_eq!(refusal(&offline, &token).await, Some(TokenError::WrongUse));
    assert_eq!(
        refusal(&offline, &typ(json!(1))).await,
        Some(TokenError::Malformed)
    );
    // What a token brings along is never used (AC-042).
    for extra in ["crit", "jku", "x5u", "jwk", "x5c"] {
        let mut header = key.header();
        header[extra] = json!(["exp"]);
        let token = key.sign_text(&header.to_string(), &claims);
        let got = refusal(&offline, &token).await;
        assert_eq!(got, Some(TokenError::Malformed), "{extra}");
    }
    let twice = r#"{"alg":"RS256","kid":"k1","typ":"at+jwt","typ":"at+jwt"}"#;
    let token = key.sign_text(twice, &claims);
    assert_eq!(refusal(&offline, &token).await, Some(TokenError::Malformed));
    let sub_twice = claims.replacen('{', r#"{"sub":"u2","#, 1);
    let token = key.sign_text(&key.header().to_string(), &sub_twice);
    assert_eq!(refusal(&offline, &token).await, Some(TokenError::Malformed));
    Ok(())
}

#[tokio::test]
async fn the_key_decides_the_algorithm() -> anyhow::Result<()> {
    let key = TestKey::new(Algorithm::RS256, "k1")?;
    let issuer = TestIssuer::start(&[&key]).await?;
    let (offline, _) = verifier(&issuer)?;
    let claims = issuer.claims();
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    for none in ["none", "None", "NONE", "nOnE", "", "HS384", "rs256"] {
        let header = json!({"alg": none, "kid": "k1", "typ": "at+jwt"}).to_string();
        let unsigned = format!("{}.{}", encode(&header), encode(&claims.to_string()));
        let signature = encode("signature");
        for token in [format!("{unsigned}."), format!("{unsigned}.{signature}")] {
            let got = refusal(&offline, &token).await;
            assert_eq!(got, Some(TokenError::AlgorithmNotAllowed), "{none}");
        }
    }
    // The public key, which everybody has, as the secret of an HMAC.
    let secrets = [
        key.public_pem.clone().into_bytes(),
        key.public_pem.trim().as_bytes().to_vec(),
        key.jwk.to_string().into_bytes(),
        URL_SAFE_NO_PAD.decode(key.jwk["n"].as_str().unwrap())?,
    ];
    for secret in secrets {
        let header = json!({"alg": "HS256", "kid": "k1", "typ": "at+jwt"}).to_string();
        let signed = format!("{}.{}", encode(&header), encode(&claims.to_string()));
        let signing = EncodingKey::from_secret(&secret);
        let signature = crypto::sign(signed.as_bytes(), &signing, Algorithm::HS256)?;
        let got = refusal(&offline, &format!("{signed}.{signature}")).await;
        assert_eq!(got, Some(TokenError::AlgorithmNotAllowed));
    }
    // An algorithm that the same key could do, but is not published for.
    let pss = TestKey {
        signing: key.signing.clone(),
        algorithm: Algorithm::PS256,
        jwk: key.jwk.clone(),
        public_pem: String::new(),
    };
    assert_eq!(
        refusal(&offline, &pss.sign(&claims)).await,
        Some(TokenError::AlgorithmNotAllowed)
    );
    Ok(())
}

#[tokio::test]
async fn another_key_under_the_same_name_signs_nothing() -> anyhow::Result<()> {
    let key = TestKey::new(Algorithm::ES256, "k1")?;
    let forger = TestKey::new(Algorithm::ES256, "k1")?;
    let issuer = TestIssuer::start(&[&key]).await?;
    let (offline, _) = verifier(&issuer)?;
    let got = refusal(&offline, &forger.sign(&issuer.claims())).await;
    assert_eq!(got, Some(TokenError::InvalidSignature));
    assert_eq!(issuer.fetches(), 1);
    Ok(())
}

#[tokio::test]
async fn keys_that_must_not_sign_tokens_do_not() -> anyhow::Result<()> {
    let key = TestKey::new(Algorithm::RS256, "k1")?;
    let issuer = TestIssuer::start(&[&key]).await?;
    let token = key.sign(&issuer.claims());
    let mut for_encryption = key.jwk.clone();
    for_encryption["use"] = "enc".into();
    let mut private = key.jwk.clone();
    private["d"] = "AQAB".into();
    let mut short = key.jwk.clone();
    short["n"] = URL_SAFE_NO_PAD.encode([0xff_u8; 128]).into();
    let symmetric = json!({"kty": "oct", "k": "AAAA", "kid": "k1", "alg": "HS256"});
    for bad in [for_encryption, private, short, symmetric, json!(1)] {
        *issuer.inside.keys.lock().unwrap() = vec![bad.clone()];
        let (offline, _) = verifier(&issuer)?;
        let got = refusal(&offline, &token).await;
        assert_eq!(got, Some(TokenError::UnknownKey), "{bad}");
    }
    Ok(())
}

#[tokio::test]
async fn every_flipped_bit_is_noticed_and_makes_no_flood_of_fetches() -> anyhow::Result<()> {
    let key = TestKey::new(Algorithm::ES256, "k1")?;
    let issuer = TestIssuer::start(&[&key]).await?;
    let (offline, _) = verifier(&issuer)?;
    let token = key.sign(&issuer.claims());
    assert_eq!(refusal(&offline, &token).await, None);
    let mut tried = 0;
    for place in 0..token.len() {
        for bit in 0..8 {
            let mut bytes = token.clone().into_bytes();
            bytes[place] ^= 1 << bit;
            let Ok(flipped) = String::from_utf8(bytes) else {
                continue;
            };
            tried += 1;
            let got = refusal(&offline, &flipped).await;
            assert!(got.is_some(), "bit {bit} of byte {place}");
        }
    }
    assert!(tried > 2000);
    assert_eq!(issuer.fetches(), 1);
    Ok(())
}

#[tokio::test]
async fn what_is_no_token_is_malformed_and_asks_nobody() -> anyhow::Result<()> {
    let key = TestKey::new(Algorithm::ES256, "k1")?;
    let issuer = TestIssuer::start(&[&key]).await?;
    let (offline, _) = verifier(&issuer)?;
    let good = key.sign(&issuer.claims());
    let enormous = format!("{}.{}.{}", "A".repeat(50_000), "A", "A");
    let bad = [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "a.b.c".to_owned(),
        format!("{good}.x"),
        format!("{good}="),
        format!("{good} "),
        good.rsplit_once('.').unwrap().0.to_owned(),
        format!("{}.", good.rsplit_once('.').unwrap().0),
        enormous,
    ];
    for token in bad {
        let got = refusal(&offline, &token).await;
        assert_eq!(got, Some(TokenError::Malformed), "{:.40}", token);
    }
    assert_eq!(issuer.inside.discoveries.load(Ordering::SeqCst), 0);
    Ok(())
}

#[tokio::test]
async fn fifty_first_requests_share_one_fetch() -> anyhow::Result<()> {
    let key = TestKey::new(Algorithm::ES256, "k1")?;
    let issuer = TestIssuer::start(&[&key]).await?;
    let (offline, _) = verifier(&issuer)?;
    let token = key.sign(&issuer.claims());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (offline, token) = (offline.clone(), token.clone());
        tasks.spawn(async move { offline.check(&token).await });
    }
    for outcome in tasks.join_all().await {
        outcome?;
    }
    assert_eq!(issuer.fetches(), 1);
    assert_eq!(issuer.inside.discoveries.load(Ordering::SeqCst), 1);
    Ok(())
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_undo_the_fetch() -> anyhow::Result<()> {
    let key = TestKey::new(Algorithm::ES256, "k1")?;
    let issuer = TestIssuer::start(&[&key]).await?;
    let (offline, _) = verifier(&issuer)?;
    let token = key.sign(&issuer.claims());
    for _ in 0..5 {
        let impatient = tokio::time::timeout(Duration::from_millis(1), offline.check(&token));
        let _gone = impatient.await;
    }
    offline.check(&token).await?;
    assert_eq!(issuer.fetches(), 1);
    Ok(())
}

#[tokio::test]
async fn ac_038_an_unknown_key_is_looked_for_once_in_a_while() -> anyhow::Result<()> {
    let old = TestKey::new(Algorithm::ES256, "k1")?;
    let new = TestKey::new(Algorithm::ES256, "k2")?;
    let issuer = TestIssuer::start(&[&old]).await?;
    let (offline, clock) = verifier(&issuer)?;
    let (old_token, new_token) = (old.sign(&issuer.claims()), new.sign(&issuer.claims()));
    offline.check(&old_token).await?;
    // AC-039: rotated at the issuer.
    issuer.publish(&[&old, &new]);
    clock.pass(Duration::from_secs(29));
    let too_soon = refusal(&offline, &new_token).await;
    assert_eq!(too_soon, Some(TokenError::UnknownKey));
    assert_eq!(issuer.fetches(), 1);
    clock.pass(Duration::from_secs(2));
    offline.check(&new_token).await?;
    offline.check(&old_token).await?;
    assert_eq!(issuer.fetches(), 2);
    let stranger = TestKey::new(Algorithm::ES256, "k3")?.sign(&issuer.claims());
    clock.pass(Duration::from_secs(31));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (offline, stranger) = (offline.clone(), stranger.clone());
        tasks.spawn(async move { offline.check(&stranger).await.err() });
    }
    for got in tasks.join_all().await {
        assert_eq!(got, Some(TokenError::UnknownKey));
    }
    assert_eq!(issuer.fetches(), 3);
    Ok(())
}

#[tokio::test]
async fn a_withdrawn_key_is_good_for_ten_minutes_at_most() -> anyhow::Result<()> {
    let old = TestKey::new(Algorithm::ES256, "k1")?;
    let new = TestKey::new(Algorithm::ES256, "k2")?;
    let issuer = TestIssuer::start(&[&old]).await?;
    let (offline, clock) = verifier(&issuer)?;
    let mut claims = issuer.claims();
    claims["exp"] = (now() + 9000).into();
    let token = old.sign(&claims);
    offline.check(&token).await?;
    issuer.publish(&[&new]);
    clock.pass(Duration::from_secs(601));
    let got = refusal(&offline, &token).await;
    assert_eq!(got, Some(TokenError::UnknownKey));
    Ok(())
}

#[tokio::test]
async fn keys_grow_old_while_the_machine_sleeps() -> anyhow::Result<()> {
    let old = TestKey::new(Algorithm::ES256, "k1")?;
    let new = TestKey::new(Algorithm::ES256, "k2")?;
    let issuer = TestIssuer::start(&[&old]).await?;
    let (offline, clock) = verifier(&issuer)?;
    let mut claims = issuer.claims();
    claims["exp"] = (now() + 9000).into();
    let token = old.sign(&claims);
    offline.check(&token).await?;
    issuer.publish(&[&new]);
    clock.sleep(Duration::from_secs(601));
    let got = refusal(&offline, &token).await;
    assert_eq!(got, Some(TokenError::UnknownKey));
    Ok(())
}

#[tokio::test]
async fn old_keys_serve_while_the_issuer_is_down_but_not_for_ever() -> anyhow::Result<()> {
    let key = TestKey::new(Algorithm::ES256, "k1")?;
    let issuer = TestIssuer::start(&[&key]).await?;
    let (offline, clock) = verifier(&issuer)?;
    let mut claims = issuer.claims();
    claims["exp"] = (now() + 90_000).into();
    let token = key.sign(&claims);
    offline.check(&token).await?;
    issuer.be(Mood::Failing);
    clock.pass(Duration::from_secs(1800));
    offline.check(&token).await?;
    // A key that nobody can ask for now is not called unknown.
    let other = TestKey::new(Algorithm::ES256, "k2")?.sign(&claims);
    assert_eq!(
        refusal(&offline, &other).await,
        Some(TokenError::Unavailable)
    );
    clock.pass(Duration::from_secs(1801));
    assert_eq!(
        refusal(&offline, &token).await,
        Some(TokenError::Unavailable)
    );
    issuer.be(Mood::Fine);
    clock.pass(Duration::from_secs(6));
    offline.check(&token).await?;
    Ok(())
}

#[tokio::test]
async fn an_issuer_that_cannot_be_trusted_lets_nobody_in() -> anyhow::Result<()> {
    let key = TestKey::new(Algorithm::ES256, "k1")?;
    for mood in [
        Mood::Failing,
        Mood::Redirecting,
        Mood::OtherIssuer,
        Mood::Enormous,
        Mood::Html,
    ] {
        let issuer = TestIssuer::start(&[&key]).await?;
        issuer.be(mood);
        let (offline, clock) = verifier(&issuer)?;
        let token = key.sign(&issuer.claims());
        for _ in 0..3 {
            let got = refusal(&offline, &token).await;
            assert_eq!(got, Some(TokenError::Unavailable));
        }
        // It is left alone for a moment.
        assert_eq!(issuer.inside.discoveries.load(Ordering::SeqCst), 1);
        issuer.be(Mood::Fine);
        clock.pass(Duration::from_secs(6));
        offline.check(&token).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_issuer_that_hangs_is_waited_for_five_seconds_by_all_together() -> anyhow::Result<()> {
    let key = TestKey::new(Algorithm::ES256, "k1")?;
    let issuer = TestIssuer::start(&[&key]).await?;
    issuer.be(Mood::Hanging);
    let (offline, clock) = verifier(&issuer)?;
    let token = key.sign(&issuer.claims());
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (offline, token) = (offline.clone(), token.clone());
        tasks.spawn(async move { offline.check(&token).await.err() });
    }
    for got in tasks.join_all().await {
        assert_eq!(got, Some(TokenError::Unavailable));
    }
    assert!(started.elapsed() < Duration::from_secs(9));
    assert_eq!(issuer.inside.discoveries.load(Ordering::SeqCst), 1);
    issuer.be(Mood::Fine);
    clock.pass(Duration::from_secs(6));
    offline.check(&token).await?;
    Ok(())
}

#[test]
fn issuers_must_be_https_or_on_this_machine() {
    for good in [
        "https://id.example.com",
        "https://id.example.com/tenant/",
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
        "http://localhost:8080",
    ] {
        assert!(Offline::new(good, AUDIENCE).is_ok(), "{good}");
    }
    for bad in [
        "http://id.example.com",
        "http://127.0.0.1.example.com",
        "https://user@id.example.com",
        "https://id.example.com?x=1",
        "https://id.example.com#x",
        "ftp://id.example.com",
        "id.example.com",
        "HTTPS://id.example.com",
        " https://id.example.com",
        "https://id.example.com/\n",
        "http://127.0.0.1\u{0}",
        "",
    ] {
        let refused = Offline::new(bad, AUDIENCE).err();
        assert_eq!(refused, Some(SetupError::Issuer), "{bad}");
    }
    let refused = Offline::new("https://id.example.com", "").err();
    assert_eq!(refused, Some(SetupError::Audience));
}
