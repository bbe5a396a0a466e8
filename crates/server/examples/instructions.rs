//! The paths that run in process, for an instruction counter: `instructions CASE N` does the same N times.
//! `cargo xtask bench registry-instructions` runs it under valgrind.
use std::hint::black_box;

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_domain::SecretText;
use keywright_domain::api_keys::{KeyDigest, Pepper, PlainKey, Prefix};
use keywright_domain::id_token::Expected;
use keywright_domain::issuer::{Issuer, IssuerRule};
use keywright_jose::{UncheckedIdToken, choose_key, read_keys};
use serde_json::{Value, json};

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let case = words.next().context("instructions CASE N")?;
    let calls: u32 = words.next().context("instructions CASE N")?.parse()?;
    match case.as_str() {
        "parse" => parse(calls),
        "hmac" => hmac(calls),
        "jwt_verify_eddsa" => jwt_verify(calls, &ed25519()?),
        "jwt_verify_es256" => jwt_verify(calls, &p256()?),
        _ => bail!("there is no case `{case}`"),
    }
}

fn a_key() -> Result<PlainKey> {
    Ok(PlainKey::generate(
        &Prefix::new("sk_live")?,
        &mut rand::rng(),
    ))
}

fn pepper() -> Pepper {
    Pepper::from_bytes([7; 32])
}

/// Format and checksum of a key.
fn parse(calls: u32) -> Result<()> {
    let key = a_key()?;
    for _ in 0..calls {
        black_box(PlainKey::parse(black_box(key.text().expose()))?);
    }
    Ok(())
}

/// HMAC-SHA-256 of a key's SHA-256, and its comparison.
fn hmac(calls: u32) -> Result<()> {
    let (key, pepper) = (a_key()?, pepper());
    let stored = pepper.mac(&KeyDigest::of(&key));
    for _ in 0..calls {
        let mac = black_box(&pepper).mac(&KeyDigest::of(black_box(&key)));
        ensure!(mac.matches(&stored), "another mac");
    }
    Ok(())
}

/// A token, the set of keys that has its key, and who issued it.
struct Signed {
    token: String,
    keys: Vec<u8>,
}

const ISSUER: &str = "https://issuer.example";
const CLIENT: &str = "client";
const NOW_S: i64 = 1_800_000_000;

fn signed(
    alg: &str,
    mut jwk: Value,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>>,
) -> Result<Signed> {
    (jwk["alg"], jwk["use"], jwk["kid"]) = (json!(alg), json!("sig"), json!("k1"));
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(&json!({"alg": alg, "kid": "k1", "typ": "JWT"}));
    let claims = part(&json!({
        "iss": ISSUER, "aud": CLIENT, "sub": "somebody", "iat": NOW_S - 5, "exp": NOW_S + 300,
        "name": "Somebody", "email": "somebody@example.org",
    }));
    let text = format!("{header}.{claims}");
    let signature = URL_SAFE_NO_PAD.encode(sign(text.as_bytes())?);
    Ok(Signed {
        token: format!("{text}.{signature}"),
        keys: json!({ "keys": [jwk] }).to_string().into_bytes(),
    })
}

fn ed25519() -> Result<Signed> {
    let key = Ed25519KeyPair::generate()?;
    let x = URL_SAFE_NO_PAD.encode(key.public_key().as_ref());
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
    signed("EdDSA", jwk, |text| Ok(key.sign(text).as_ref().to_vec()))
}

fn p256() -> Result<Signed> {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    // Uncompressed: 4, then both coordinates (SEC 1, 2.3.3).
    let point = key.public_key().as_ref().get(1..).context("no point")?;
    let (x, y) = point.split_at(32);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
    signed("ES256", jwk, |text| {
        Ok(key.sign(&SystemRandom::new(), text)?.as_ref().to_vec())
    })
}

/// Form, signature and claims of an ID token, with keys that are read already.
fn jwt_verify(calls: u32, signed: &Signed) -> Result<()> {
    let keys = read_keys(&signed.keys).context("no keys")?;
    let issuer = IssuerRule::Exact(Issuer::parse(ISSUER)?);
    let access_token = SecretText::new("unused".into());
    for _ in 0..calls {
        let token = UncheckedIdToken::parse(black_box(&signed.token))?;
        let key = choose_key(&keys, token.key_id.as_deref(), token.algorithm)?;
        let expected = Expected {
            issuer: &issuer,
            client_id: CLIENT,
            nonce: None,
            access_token: None,
            now_s: NOW_S,
        };
        black_box(token.verify(key, expected, &access_token)?);
    }
    Ok(())
}
