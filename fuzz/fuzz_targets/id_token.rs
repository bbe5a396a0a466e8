//! An ID token and the keys of the provider that made it: nothing private, nothing symmetric, and nothing
//! that this provider did not sign.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_domain::SecretText;
use keywright_domain::id_token::Expected;
use keywright_domain::issuer::{Issuer, IssuerRule};
use keywright_jose::id_token::read_claims;
use keywright_jose::{UncheckedIdToken, choose_key, read_keys, strict_json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // A key set, a header, claims; each on a line.
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let mut next = || parts.next().unwrap_or_default();
    let (set, header, claims) = (next(), next(), next());
    let keys = read_keys(set);
    if let Some(keys) = &keys {
        let loose: serde_json::Value = serde_json::from_slice(set).expect("JSON");
        let all = loose["keys"].as_array().expect("keys");
        assert!(keys.len() <= all.len().min(100));
        let private = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
        let is_private =
            |key: &serde_json::Value| private.iter().any(|name| key.get(name).is_some());
        let public = all.iter().filter(|key| !is_private(key)).count();
        assert!(keys.len() <= public);
    }
    if let Some(read) = strict_json::read_object(claims)
        && let Ok(checked) = read_claims(&read)
    {
        let text = |name: &str| read.get(name).and_then(|value| value.as_str());
        assert_eq!(checked.iss.as_deref(), text("iss"));
        assert_eq!(checked.sub.as_deref(), text("sub"));
        assert_eq!(checked.nonce.as_deref(), text("nonce"));
        assert!(read.get("nonce").is_none_or(|nonce| nonce.is_string()));
    }
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    let token = format!("{}.{}.AAAA", encode(header), encode(claims));
    if let Ok(unchecked) = UncheckedIdToken::parse(&token)
        && let Some(keys) = &keys
        && let Ok(key) = choose_key(keys, unchecked.key_id.as_deref(), unchecked.algorithm)
    {
        let expected = Expected {
            issuer: &IssuerRule::Exact(Issuer::parse("https://id.example.com").expect("an issuer")),
            client_id: "app",
            nonce: None,
            access_token: None,
            now_s: 1_800_000_000,
        };
        // Three bytes are nobody's signature.
        let access_token = SecretText::new("token".into());
        assert!(unchecked.verify(key, expected, &access_token).is_err());
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = UncheckedIdToken::parse(text);
    }
});
