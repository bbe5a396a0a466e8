//! The `Cookie` header: what a browser was given comes back whatever stands around it, and a name that comes
//! twice is no cookie at all.
#![no_main]

// The file by itself: the whole server would have to be built.
#[path = "../../crates/server/src/http/cookie_header.rs"]
mod cookie_header;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cookie_header::Cookies;
use libfuzzer_sys::fuzz_target;

const OURS: &str = "__Host-session";

fuzz_target!(|text: &str| {
    // As `HeaderValue` lets it through as text.
    if !text
        .bytes()
        .all(|byte| matches!(byte, b'\n' | b'\t' | b' '..=b'~'))
    {
        return;
    }
    let lines: Vec<&str> = text.split('\n').collect();
    let read = Cookies::of(lines.iter().copied());
    // RFC 6265 §4.2.1, read once more: the first `=` parts a name from its value.
    let pairs = lines.iter().flat_map(|line| line.split(';'));
    let all: Vec<(&str, &str)> = pairs
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.trim(), value.trim()))
        .filter(|(name, _)| !name.is_empty())
        .collect();
    for (name, value) in &all {
        let count = all.iter().filter(|(other, _)| other == name).count();
        let expected = (count == 1 && !value.is_empty()).then_some(*value);
        assert_eq!(
            read.named(name).map(|value| value.expose()),
            expected,
            "{text:?}"
        );
    }
    // Ours among them: found as it was written, unless somebody planted another of its name.
    let value = URL_SAFE_NO_PAD.encode(text);
    if value.is_empty() {
        return;
    }
    let ours = format!("{OURS}={value}");
    let planted = all.iter().any(|(name, _)| *name == OURS);
    let expected = (!planted).then_some(value.as_str());
    let before = Cookies::of([ours.as_str()].into_iter().chain(lines.iter().copied()));
    let after = Cookies::of(lines.iter().copied().chain([ours.as_str()]));
    let one = format!("{}; {ours}", lines.join("; "));
    let within = Cookies::of([one.as_str()].into_iter());
    for cookies in [before, after, within] {
        assert_eq!(
            cookies.named(OURS).map(|value| value.expose()),
            expected,
            "{text:?}"
        );
    }
    assert!(
        Cookies::of([ours.as_str(), ours.as_str()].into_iter())
            .named(OURS)
            .is_none()
    );
});
