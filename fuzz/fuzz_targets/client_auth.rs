//! What a client sends as `Authorization: Basic` is read as RFC 6749 §2.3.1 says, and by the first
//! colon only.
#![no_main]

// The file by itself: the whole server would have to be built.
#[path = "../../crates/server/src/oauth2/basic.rs"]
mod basic;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = basic::read_basic(text);
    assert!(basic::read_basic(&format!("Bearer {text}")).is_none());
    // As the credentials themselves.
    let read = basic::read_basic(&format!("bAsIc {}", STANDARD.encode(text)));
    match &read {
        // No client has a name or a secret with U+0000, said plainly or encoded.
        Some((id, secret)) => {
            assert!(text.contains(':'), "{text:?}");
            assert!(!id.contains('\0') && !secret.expose().contains('\0'));
        }
        None => assert!(
            !text.contains(':') || text.contains('\0') || text.contains("%00"),
            "{text:?}"
        ),
    }
    // As id and secret, encoded as a client does it.
    let encode =
        |part: &str| url::form_urlencoded::byte_serialize(part.as_bytes()).collect::<String>();
    let middle = text
        .char_indices()
        .nth(text.chars().count() / 2)
        .map_or(0, |(at, _)| at);
    let (id, secret) = text.split_at(middle);
    let header = STANDARD.encode(format!("{}:{}", encode(id), encode(secret)));
    let read = basic::read_basic(&format!("Basic {header}"));
    if text.contains('\0') {
        assert!(read.is_none(), "{text:?}");
        return;
    }
    let (read_id, read_secret) = read.expect("it is well-formed");
    assert_eq!((read_id.as_str(), read_secret.expose()), (id, secret));
});
