//! A stream of changes as a verifier follows it: it says the same however the network cuts it, and what it
//! keeps is bounded.
#![no_main]

// The file by itself.
#[path = "../../crates/verifier/src/api_keys/sse.rs"]
mod sse;

use libfuzzer_sys::fuzz_target;

fn read(pieces: &[&[u8]]) -> Option<Vec<(String, String)>> {
    let mut reader = sse::Reader::default();
    let mut events = Vec::new();
    for piece in pieces {
        let found = reader.take(piece).ok()?.into_iter();
        events.extend(found.map(|event| (event.name, event.data)));
    }
    Some(events)
}

fuzz_target!(|data: &[u8]| {
    let whole = read(&[data]);
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(read(&bytes), whole);
    let (left, right) = data.split_at(data.len() / 2);
    assert_eq!(read(&[left, right]), whole);
    for (name, data) in whole.into_iter().flatten() {
        assert!(name.len() <= 8 * 1024 && data.len() <= 9 * 1024);
        assert!(!data.is_empty() && !name.contains('\n'));
    }
});
