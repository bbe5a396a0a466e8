//! The metadata and keys that the verifier reads of its issuer: its own copy says what `jose` says, and takes
//! no key that is private, short or no point.
#![no_main]

// The files by themselves: what they stand in brings a network along.
#[path = "../../crates/verifier/src/error.rs"]
pub mod error;
#[path = "../../crates/verifier/src/issuer.rs"]
mod issuer;
#[expect(dead_code, reason = "what reads is thrown at")]
#[path = "../../crates/verifier/src/jwk.rs"]
mod jwk;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use keywright_domain::issuer::{Issuer, IssuerRule, is_loopback_host};
use keywright_jose::{ProviderMetadata, choose_key};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::RS256,
    Algorithm::PS256,
    Algorithm::ES256,
    Algorithm::EdDSA,
];

fuzz_target!(|data: &[u8]| {
    // An issuer and its metadata, each on a line; then its keys.
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let mut next = || parts.next().unwrap_or_default();
    let (issuer, document, keys) = (next(), next(), next());
    if let Ok(issuer) = std::str::from_utf8(issuer) {
        metadata(issuer, document);
    }
    key_set(keys);
});

fn metadata(text: &str, document: &[u8]) {
    let Ok(issuer) = issuer::Issuer::parse(text) else {
        return;
    };
    assert_eq!(issuer.as_str(), text);
    assert!(
        !text.contains(|c: char| c.is_whitespace() || c.is_control()),
        "{text:?}"
    );
    let discovery = issuer.discovery_url().expect("an address");
    assert!(
        discovery
            .path()
            .ends_with("/.well-known/openid-configuration")
    );
    let Ok(loose) = serde_json::from_slice::<Map<String, Value>>(document) else {
        return;
    };
    let read = issuer.metadata(&loose);
    assert_eq!(
        read.is_some(),
        loose.get("issuer").and_then(Value::as_str) == Some(text)
    );
    let Some(read) = read else { return };
    for url in [&read.jwks_uri, &read.introspection_endpoint]
        .into_iter()
        .flatten()
    {
        let host = url.host_str().expect("a host");
        assert!(url.scheme() == "https" || (issuer.is_loopback() && is_loopback_host(host)));
        assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
    }
    // The same address as the other reader finds, where both take the issuer.
    let Ok(same) = Issuer::parse(text) else {
        return;
    };
    let rule = IssuerRule::Exact(same.clone());
    let other = ProviderMetadata::read(document, &same, &rule, |url| {
        let here = url.host_str().is_some_and(is_loopback_host);
        (url.scheme() == "https" || here).then_some(()).ok_or(())
    });
    if let Ok(other) = other {
        assert_eq!(read.jwks_uri, Some(other.jwks_uri), "{text}");
    }
}

fn key_set(document: &[u8]) {
    let theirs = keywright_jose::read_keys(document);
    let loose = serde_json::from_slice::<Map<String, Value>>(document);
    let own = loose.as_ref().ok().and_then(jwk::read_keys);
    // A set is an object.
    assert_eq!(own.is_some(), theirs.is_some());
    let (Some(own), Some(theirs), Ok(loose)) = (own, theirs, loose) else {
        return;
    };
    assert_eq!(own.len(), theirs.len());
    let all = loose["keys"].as_array().expect("keys");
    assert!(own.len() <= all.iter().take(100).filter(|key| is_strict(key)).count());
    let kid = |key: &Value| key.get("kid").and_then(Value::as_str).map(str::to_owned);
    let ids = all
        .iter()
        .take(100)
        .map(kid)
        .chain([None, Some("another".to_owned())]);
    for id in ids {
        for algorithm in ALGORITHMS {
            let chosen = jwk::choose(&own, id.as_deref(), algorithm);
            let other = choose_key(&theirs, id.as_deref(), algorithm);
            assert_eq!(chosen.is_some(), other.is_ok(), "{id:?} {algorithm:?}");
            assert!(id.is_some() || chosen.is_none_or(|key| key.allows(algorithm)));
        }
    }
}

/// RFC 7517 §4, RFC 7518 §6, RFC 8037 §2: a public key for signatures, long enough.
fn is_strict(key: &Value) -> bool {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let octets = |name: &str| text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let is_point = |name: &str| octets(name).is_some_and(|octets| octets.len() == 32);
    let private = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
    if private.iter().any(|name| key.get(name).is_some()) || text("use").unwrap_or("sig") != "sig" {
        return false;
    }
    match text("kty") {
        Some("RSA") => octets("n").is_some_and(|n| {
            let first = n.iter().position(|octet| *octet != 0).unwrap_or(n.len());
            (256..=1024).contains(&(n.len() - first)) && octets("e").is_some()
        }),
        Some("EC") => text("crv") == Some("P-256") && is_point("x") && is_point("y"),
        Some("OKP") => text("crv") == Some("Ed25519") && is_point("x"),
        _ => false,
    }
}
