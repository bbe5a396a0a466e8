//! A signed token of a stranger is taken apart in one way only: what the signature covers and what is
//! read are the same bytes. And a DPoP proof has all it must have, and shows nothing private.
#![no_main]

// The files by themselves: the whole server would have to be built.
#[path = "../../crates/jose/src/compact.rs"]
mod compact;
#[path = "../../crates/server/src/oauth2/dpop/form.rs"]
mod form;
#[path = "../../crates/jose/src/jwk.rs"]
pub mod jwk;
#[path = "../../crates/jose/src/numeric_date.rs"]
pub mod numeric_date;
#[path = "../../crates/jose/src/strict_json.rs"]
mod strict_json;

extern crate self as keywright_jose;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use compact::Compact;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const LONGEST: usize = 8 * 1024;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        check(text);
        let _ = form::is_same_address(text, "https://id.example.com/oauth2/token");
    }
    // As header and claims: nobody guesses base64url of JSON.
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let encode = |part: Option<&[u8]>| URL_SAFE_NO_PAD.encode(part.unwrap_or_default());
    let (header, claims) = (encode(parts.next()), encode(parts.next()));
    check(&format!("{header}.{claims}.AAAA"));
});

fn check(token: &str) {
    let Ok(read) = Compact::read(token, LONGEST) else {
        return;
    };
    assert!(token.len() <= LONGEST && token.matches('.').count() == 2);
    assert_eq!(format!("{}.{}", read.signed, read.signature_text), token);
    let part = |n: usize| URL_SAFE_NO_PAD.decode(token.split('.').nth(n).unwrap_or(""));
    let loose = |n: usize| serde_json::from_slice::<Value>(&part(n).expect("base64url")).ok();
    assert_eq!(loose(0), Some(Value::Object(read.header.clone())));
    if let Ok(signature) = read.signature() {
        assert!(!signature.is_empty());
        assert_eq!(URL_SAFE_NO_PAD.encode(signature), read.signature_text);
    }
    let Ok(claims) = read.claims() else {
        return;
    };
    assert_eq!(loose(1), Some(Value::Object(claims.clone())));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    assert_eq!(
        read.algorithm().map(str::to_owned),
        read.header.get("alg").and_then(text)
    );
    if let Ok(proof) = form::read(&read.header, &claims) {
        assert_eq!(Some(proof.htm.to_owned()), text(&claims["htm"]));
        for (part, name) in [(proof.nonce, "nonce"), (proof.ath, "ath")] {
            assert_eq!(part.map(str::to_owned), claims.get(name).and_then(text));
        }
        assert!((1..=200).contains(&proof.jti.len()));
        assert_eq!(read.header["typ"], "dpop+jwt");
        assert!(read.brings_its_own());
        assert!((0..=253_402_300_799).contains(&proof.iat) || claims["iat"].is_i64());
        for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            assert!(!proof.jwk.contains_key(private));
        }
        let own = "https://id.example.com/oauth2/token";
        if form::is_same_address(proof.htu, own) {
            let url = url::Url::parse(proof.htu).expect("a URL");
            assert_eq!(
                (url.scheme(), url.host_str()),
                ("https", Some("id.example.com"))
            );
            assert_eq!((url.port(), url.path()), (None, "/oauth2/token"));
            assert!(url.username().is_empty() && url.password().is_none());
        }
    }
}
