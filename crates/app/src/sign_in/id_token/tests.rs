//! Tokens as an attacker would write them. Keys are made afresh for each run.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use keywright_domain::SecretText;
use keywright_domain::id_token::{Expected, IdTokenProblem};
use keywright_domain::issuer::{Issuer, IssuerRule};
use keywright_jose::{UncheckedIdToken, VerificationKey, choose_key, read_keys};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000;

struct TestKey {
    signing: EncodingKey,
    algorithm: Algorithm,
    jwk: Value,
}

impl TestKey {
    fn new(algorithm: Algorithm, kid: &str) -> Result<Self, anyhow::Error> {
        let pair = match algorithm {
            Algorithm::ES256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
            Algorithm::EdDSA => KeyPair::generate_for(&PKCS_ED25519)?,
            _ => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?,
        };
        let pem = pair.serialize_pem();
        let signing = match algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes())?,
            Algorithm::EdDSA => EncodingKey::from_ed_der(pair.serialized_der()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes())?,
        };
        let public = match algorithm {
            // The one kind of key whose public half jsonwebtoken does not find by itself.
            Algorithm::EdDSA => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key_raw())})
            }
            _ => serde_json::to_value(Jwk::from_encoding_key(&signing, algorithm)?)?,
        };
        let mut jwk = public;
        jwk["kid"] = kid.into();
        jwk["use"] = "sig".into();
        jwk["alg"] = format!("{algorithm:?}").into();
        Ok(Self {
            signing,
            algorithm,
            jwk,
        })
    }

    fn sign(&self, header: &str, payload: &str) -> Result<String, anyhow::Error> {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let signature = crypto::sign(signed.as_bytes(), &self.signing, self.algorithm)?;
        Ok(format!("{signed}.{signature}"))
    }

    fn header(&self) -> String {
        json!({"alg": format!("{:?}", self.algorithm), "kid": self.jwk["kid"], "typ": "JWT"})
            .to_string()
    }

    fn good(&self) -> Result<String, anyhow::Error> {
        self.sign(&self.header(), &payload().to_string())
    }

    fn keys(&self) -> Result<Vec<VerificationKey>, anyhow::Error> {
        keys(&[&self.jwk])
    }
}

fn keys(jwks: &[&Value]) -> Result<Vec<VerificationKey>, anyhow::Error> {
    let document = json!({"keys": jwks}).to_string();
    read_keys(document.as_bytes()).ok_or_else(|| anyhow::anyhow!("no keys"))
}

fn payload() -> Value {
    json!({"iss": "https://id.example.com", "sub": "ada", "aud": "app", "exp": NOW + 300, "iat": NOW, "nonce": "n-1"})
}

fn verify(token: &str, keys: &[VerificationKey]) -> Result<(), IdTokenProblem> {
    let token = UncheckedIdToken::parse(token)?;
    let key = choose_key(keys, token.key_id.as_deref(), token.algorithm)?;
    let issuer =
        Issuer::parse("https://id.example.com").map_err(|_| IdTokenProblem::IssuerMismatch)?;
    let rule = IssuerRule::Exact(issuer);
    let (nonce, access) = (
        SecretText::new("n-1".to_owned()),
        SecretText::new("access".to_owned()),
    );
    let expected = Expected {
        issuer: &rule,
        client_id: "app",
        nonce: Some(&nonce),
        access_token: None,
        now_s: NOW,
    };
    token.verify(key, expected, &access).map(drop)
}

fn code(token: &str, keys: &[VerificationKey]) -> &'static str {
    verify(token, keys).map_or_else(|problem| problem.code(), |()| "ok")
}

#[test]
fn every_allowed_algorithm_verifies() -> Result<(), anyhow::Error> {
    for algorithm in [
        Algorithm::RS256,
        Algorithm::PS256,
        Algorithm::ES256,
        Algorithm::EdDSA,
    ] {
        let key = TestKey::new(algorithm, "k1")?;
        assert_eq!(code(&key.good()?, &key.keys()?), "ok", "{algorithm:?}");
    }
    Ok(())
}

#[test]
fn s4_10_claims_and_header_members_that_nobody_knows_do_no_harm() -> Result<(), anyhow::Error> {
    let key = TestKey::new(Algorithm::ES256, "k1")?;
    let mut payload = payload();
    payload["role"] = "admin".into();
    payload["https://example.com/own"] = json!({"a": [1, {"b": null}]});
    payload["iat"] = (NOW - 5).into();
    let mut header: Value = serde_json::from_str(&key.header())?;
    header["x-own"] = json!([true]);
    let token = key.sign(&header.to_string(), &payload.to_string())?;
    assert_eq!(code(&token, &key.keys()?), "ok");
    Ok(())
}

#[test]
fn ac_030_none_is_not_allowed_however_it_is_written() -> Result<(), anyhow::Error> {
    let key = TestKey::new(Algorithm::ES256, "k1")?;
    let body = URL_SAFE_NO_PAD.encode(payload().to_string());
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": alg, "kid": "k1"}).to_string());
        for signature in ["", "AAAA"] {
            assert_eq!(
                code(&format!("{header}.{body}.{signature}"), &key.keys()?),
                "alg_not_allowed",
                "{alg}"
            );
        }
    }
    let no_alg = URL_SAFE_NO_PAD.encode(r#"{"kid":"k1"}"#);
    assert_eq!(
        code(&format!("{no_alg}.{body}."), &key.keys()?),
        "alg_not_allowed"
    );
    Ok(())
}

#[test]
fn ac_031_a_public_key_is_no_shared_secret() -> Result<(), anyhow::Error> {
    let rsa = TestKey::new(Algorithm::RS256, "k1")?;
    let n = rsa.jwk["n"].as_str().unwrap_or("").to_owned();
    let modulus = URL_SAFE_NO_PAD.decode(&n)?;
    for secret in [
        n.into_bytes(),
        modulus.clone(),
        STANDARD.encode(modulus).into_bytes(),
        rsa.jwk.to_string().into_bytes(),
    ] {
        let forger = TestKey {
            signing: EncodingKey::from_secret(&secret),
            algorithm: Algorithm::HS256,
            jwk: rsa.jwk.clone(),
        };
        assert_eq!(code(&forger.good()?, &rsa.keys()?), "alg_not_allowed");
    }
    Ok(())
}

#[test]
fn ac_031_the_key_decides_the_algorithm() -> Result<(), anyhow::Error> {
    let rsa = TestKey::new(Algorithm::RS256, "k1")?;
    let relabelled = TestKey {
        signing: rsa.signing.clone(),
        algorithm: Algorithm::PS256,
        jwk: rsa.jwk.clone(),
    };
    assert_eq!(
        code(&relabelled.good()?, &rsa.keys()?),
        "alg_not_allowed",
        "published for RS256 only"
    );
    // A shared secret, a private key and an encryption key in the document are not used at all.
    for bad in [json!({"kty": "oct", "k": "c2VjcmV0", "kid": "k1"}), {
        let mut encryption = rsa.jwk.clone();
        encryption["use"] = "enc".into();
        encryption
    }] {
        assert_eq!(code(&rsa.good()?, &keys(&[&bad])?), "unknown_key");
    }
    Ok(())
}

#[test]
fn ac_032_every_flipped_bit_is_noticed() -> Result<(), anyhow::Error> {
    for algorithm in [Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA] {
        let key = TestKey::new(algorithm, "k1")?;
        let (token, keys) = (key.good()?, key.keys()?);
        assert_eq!(code(&token, &keys), "ok");
        for at in 0..token.len() {
            for bit in 0..8 {
                let mut bytes = token.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                // What is no UTF-8 does not even get out of the JSON it came in.
                let Ok(flipped) = String::from_utf8(bytes) else {
                    continue;
                };
                assert!(
                    verify(&flipped, &keys).is_err(),
                    "{algorithm:?} byte {at} bit {bit}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn ac_038_keys_are_chosen_by_name() -> Result<(), anyhow::Error> {
    let (old, new) = (
        TestKey::new(Algorithm::ES256, "old")?,
        TestKey::new(Algorithm::ES256, "new")?,
    );
    let both = keys(&[&old.jwk, &new.jwk])?;
    // AC-039: both verify while both are published.
    assert_eq!(
        (code(&old.good()?, &both), code(&new.good()?, &both)),
        ("ok", "ok")
    );
    assert_eq!(code(&new.good()?, &old.keys()?), "unknown_key");
    let nameless = new.sign(r#"{"alg":"ES256"}"#, &payload().to_string())?;
    assert_eq!(
        code(&nameless, &both),
        "unknown_key",
        "two keys could be meant"
    );
    assert_eq!(code(&nameless, &new.keys()?), "ok");
    let impostor = TestKey::new(Algorithm::ES256, "new")?;
    assert_eq!(code(&impostor.good()?, &both), "invalid_signature");
    Ok(())
}

#[test]
fn ac_042_what_is_malformed_is_refused() -> Result<(), anyhow::Error> {
    let key = TestKey::new(Algorithm::ES256, "k1")?;
    let keys = key.keys()?;
    let good = key.good()?;
    let header = |more: Value| {
        let mut header: Value = serde_json::from_str(&key.header()).unwrap_or_default();
        if let (Some(header), Some(more)) = (header.as_object_mut(), more.as_object()) {
            header.extend(more.clone());
        }
        header.to_string()
    };
    let body = payload().to_string();
    let duplicate = body.replacen('{', r#"{"sub":"eve","#, 1);
    let nested = body.replacen('{', r#"{"act":{"sub":"a","sub":"b"},"#, 1);
    let enormous = format!(
        "{}{}",
        body.trim_end_matches('}'),
        format_args!(r#","x":"{}"}}"#, "x".repeat(100_000))
    );
    for (why, token) in [
        ("four segments", format!("{good}.AAAA")),
        (
            "two segments",
            good.rsplit_once('.')
                .map(|(start, _)| start.to_owned())
                .unwrap_or_default(),
        ),
        ("one segment", "AAAA".to_owned()),
        ("nothing", String::new()),
        ("padding", format!("{good}=")),
        ("padding inside", good.replacen('.', "=.", 1)),
        ("white space", format!("{good} ")),
        ("standard alphabet", good.replace(['-', '_'], "+")),
        (
            "no signature",
            format!("{}.", good.rsplit_once('.').map_or("", |(start, _)| start)),
        ),
        ("duplicate claim", key.sign(&key.header(), &duplicate)?),
        ("duplicate nested claim", key.sign(&key.header(), &nested)?),
        (
            "duplicate header",
            key.sign(r#"{"alg":"ES256","alg":"ES256","kid":"k1"}"#, &body)?,
        ),
        ("100 kB", key.sign(&key.header(), &enormous)?),
        ("payload is no object", key.sign(&key.header(), "[]")?),
        ("payload is no JSON", key.sign(&key.header(), "{")?),
        ("header is no JSON", key.sign("{", &body)?),
        (
            "crit",
            key.sign(&header(json!({"crit": ["x"], "x": 1})), &body)?,
        ),
        (
            "jku",
            key.sign(
                &header(json!({"jku": "https://evil.example.com/jwks"})),
                &body,
            )?,
        ),
        (
            "x5u",
            key.sign(
                &header(json!({"x5u": "https://evil.example.com/cert"})),
                &body,
            )?,
        ),
        ("jwk", key.sign(&header(json!({"jwk": key.jwk})), &body)?),
        (
            "kid is a number",
            key.sign(&header(json!({"kid": 1})), &body)?,
        ),
    ] {
        // Replacing characters may leave the token as it was, which proves nothing.
        if token != good {
            let refused = code(&token, &keys);
            assert!(
                matches!(refused, "id_token_malformed" | "alg_not_allowed"),
                "{why}: {refused}"
            );
        }
    }
    Ok(())
}

#[test]
fn ac_041_claims_of_a_wrong_type_do_not_pass() -> Result<(), anyhow::Error> {
    let key = TestKey::new(Algorithm::ES256, "k1")?;
    let with = |name: &str, value: Value| -> Result<&'static str, anyhow::Error> {
        let mut claims = payload();
        claims[name] = value;
        Ok(code(
            &key.sign(&key.header(), &claims.to_string())?,
            &key.keys()?,
        ))
    };
    assert_eq!(with("exp", json!("soon"))?, "claim_missing");
    assert_eq!(with("exp", json!(NOW as f64 + 300.5))?, "ok");
    assert_eq!(with("sub", json!(7))?, "claim_missing");
    assert_eq!(with("iss", Value::Null)?, "claim_missing");
    assert_eq!(with("aud", json!({"app": true}))?, "claim_missing");
    assert_eq!(with("aud", json!(["app", 7]))?, "wrong_audience");
    assert_eq!(with("nonce", json!(["n-1"]))?, "id_token_malformed");
    assert_eq!(with("at_hash", json!(7))?, "id_token_malformed");
    assert_eq!(with("azp", json!(["app"]))?, "id_token_malformed");
    assert_eq!(with("nbf", json!("x"))?, "id_token_malformed");
    Ok(())
}
