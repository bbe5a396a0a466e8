//! A key of ours is found in a URL wherever it stands and however it is encoded, and what is found is
//! one.
#![no_main]

// The file by itself: the whole server would have to be built.
#[path = "../../crates/server/src/keys/in_url.rs"]
mod in_url;

use keywright_domain::api_keys::{PlainKey, find_keys};
use libfuzzer_sys::fuzz_target;

/// A key by its format; nobody has it.
const KEY: &str = concat!(
    "sk_live_7Hq2mXw4KdPz",
    "KYWRT1",
    "AbCdEfGhIjKlMnOpQrStUvWxYz012345",
    "2EB8HD"
);

fuzz_target!(|text: &str| {
    for found in in_url::in_url(text).unwrap_or_default() {
        // One of ours, or what stands under the name of one.
        let foreign = || find_keys(found.expose()).next().is_none();
        assert!(PlainKey::parse(found.expose()).is_ok() || foreign());
    }
    if find_keys(text).next().is_some() && !text.contains('%') && !text.contains('+') {
        assert!(in_url::in_url(text).is_some(), "{text:?}");
    }
    // Where a person would paste one; the rest of the URL is anything.
    let encoded: String = KEY.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for url in [
        format!("/v1/things?a={KEY}&b={text}"),
        format!("/v1/{encoded}/{text}"),
    ] {
        let found = in_url::in_url(&url).expect("it is there");
        assert!(found.iter().any(|one| one.expose() == KEY), "{url}");
        let own = in_url::in_own_url(&url).expect("it is there");
        assert!(own.iter().any(|one| one.expose() == KEY), "{url}");
    }
});
