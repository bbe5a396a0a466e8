//! What the verifier reads of an issuer and of whoever calls: its own copy of strict JSON and of the compact
//! form says what the server's says, and what nobody signed is believed with no key.
#![no_main]

// The files by themselves: what they stand in brings a network along.
#[path = "../../crates/verifier/src/error.rs"]
pub mod error;
#[expect(dead_code, reason = "the keys of a document are thrown at elsewhere")]
#[path = "../../crates/verifier/src/jwk.rs"]
mod jwk;
#[path = "../../crates/verifier/src/jws.rs"]
mod jws;
#[path = "../../crates/verifier/src/strict_json.rs"]
mod strict_json;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_jose::Compact;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, json};

fuzz_target!(|data: &[u8]| {
    let theirs = keywright_jose::strict_json::read_object(data);
    assert_eq!(strict_json::read_object(data), theirs);
    if let Ok(text) = std::str::from_utf8(data) {
        check(text);
    }
    // As header and claims: nobody guesses base64url of JSON.
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let encode = |part: Option<&[u8]>| URL_SAFE_NO_PAD.encode(part.unwrap_or_default());
    let (header, claims) = (encode(parts.next()), encode(parts.next()));
    check(&format!("{header}.{claims}.AAAA"));
});

fn check(token: &str) {
    let Ok(read) = jws::UncheckedJws::parse(token) else {
        return;
    };
    let other = Compact::read(token, jws::LONGEST).expect("both read the same");
    assert!(!other.brings_its_own());
    let typ = other.header.get("typ").and_then(|typ| typ.as_str());
    let wanted = typ.is_some_and(|typ| {
        let typ = typ.to_ascii_lowercase();
        typ == "at+jwt" || typ == "application/at+jwt"
    });
    assert_eq!(read.is_of_type("at+jwt"), wanted);
    assert_eq!(
        other.algorithm(),
        Some(format!("{:?}", read.algorithm).as_str())
    );
    assert_eq!(
        read.key_id.as_deref(),
        other.header.get("kid").and_then(|kid| kid.as_str())
    );
    assert!(other.claims().is_ok() && other.signature().is_ok());
    // Nobody has signed anything with this key.
    let mut set = Map::new();
    set.insert(
        "keys".into(),
        json!([{ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([7; 32]) }]),
    );
    let keys = jwk::read_keys(&set).expect("a set");
    let [key] = keys.as_slice() else {
        panic!("one key")
    };
    assert!(read.verify(key).is_err());
}
