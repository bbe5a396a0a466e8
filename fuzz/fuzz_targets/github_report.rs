//! What GitHub reports: no key but a P-256 one is read, a body counts as signed only if it is the very one
//! that was signed, and a report is what another reader finds in it.
#![no_main]

// The file by itself: the whole server would have to be built.
#[path = "../../crates/server/src/leaks/github_form.rs"]
mod github_form;

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use github_form::{BadReport, MOST_TOKENS, is_signed, read_keys, read_report};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// A key's document, its signature, what it signed: each on a line.
const SEED: &str = include_str!("../corpus/github_report/0");

/// The seed's key, signature and body.
static SIGNED: LazyLock<(Vec<u8>, &str, &[u8])> = LazyLock::new(|| {
    let mut seed = SEED.splitn(3, '\n');
    let mut next = || seed.next().expect("three lines");
    let (published, signature, body) = (next(), next(), next());
    let points = read_keys(published.as_bytes()).expect("a key");
    let point = points.into_values().next().expect("a key");
    (point, signature, body.as_bytes())
});

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let mut next = || parts.next().unwrap_or_default();
    let (document, signature, body) = (next(), next(), next());
    keys(document);
    report(body);

    let (point, signed, signed_body) = &*SIGNED;
    if read_report(body).is_ok() {
        assert_eq!(is_signed(point, signed, body), body == *signed_body);
    }
    if let Ok(signature) = std::str::from_utf8(signature)
        && is_signed(point, signature, signed_body)
    {
        // Of ECDSA's two signatures with the same first number one is as good as the other.
        let first = |text: &str| {
            let der = STANDARD.decode(text).expect("base64");
            let length = usize::from(der[3]);
            der[4..4 + length].to_vec()
        };
        assert_eq!(first(signature), first(signed));
        let mut other = point.clone();
        other[64] ^= 1;
        assert!(!is_signed(&other, signature, signed_body));
    }
});

fn keys(document: &[u8]) {
    let Some(points) = read_keys(document) else {
        return;
    };
    let loose: Value = serde_json::from_slice(document).expect("JSON");
    // A list in place of an object is read by order.
    let member = |one: &Value, name: &str, at: usize| match one {
        Value::Array(list) => list.get(at).cloned().unwrap_or_default(),
        _ => one[name].clone(),
    };
    let all = member(&loose, "public_keys", 0);
    let all = all.as_array().expect("keys");
    assert!((1..=50.min(all.len())).contains(&points.len()));
    for (id, point) in &points {
        assert!(point.len() == 65 && point[0] == 4);
        // In somebody's PEM of this name: base64 of 91 bytes, at the end.
        let ends = |text: &str| {
            let lines = text.lines().filter(|line| !line.starts_with("-----"));
            let base64: String = lines.map(str::trim).collect();
            STANDARD
                .decode(base64)
                .is_ok_and(|der| der.len() == 91 && der.ends_with(point))
        };
        let named = all
            .iter()
            .filter(|one| member(one, "key_identifier", 0) == **id);
        assert!(
            named
                .map(|one| member(one, "key", 1))
                .any(|key| key.as_str().is_some_and(ends)),
            "{id}"
        );
    }
}

fn report(body: &[u8]) {
    let loose = serde_json::from_slice::<Value>(body);
    match read_report(body) {
        Ok(matches) => {
            let loose = loose.expect("JSON");
            let all = loose.as_array().expect("a list");
            assert!(matches.len() == all.len() && matches.len() <= MOST_TOKENS);
            for (found, one) in matches.iter().zip(all) {
                // A list in place of an object is read by order.
                let member = |name: &str, at: usize| match one {
                    Value::Array(list) => list.get(at).cloned().unwrap_or_default(),
                    _ => one[name].clone(),
                };
                assert_eq!(member("token", 0), *found.token);
                assert_eq!(member("type", 1), *found.kind);
                assert_eq!(member("url", 2).as_str(), found.url.as_deref());
                assert_eq!(member("source", 3).as_str(), found.source.as_deref());
            }
        }
        Err(BadReport::TooMany) => {
            assert!(
                loose
                    .expect("JSON")
                    .as_array()
                    .is_some_and(|all| all.len() > MOST_TOKENS)
            );
        }
        Err(BadReport::Malformed) => {}
    }
}
