//! Strict JSON reads what the ordinary parser reads, less objects with a name twice; and those are
//! found by another rule: there are as many colons as names.
#![no_main]

// The file by itself: what it stands in would have to be built.
#[path = "../../crates/jose/src/strict_json.rs"]
mod strict_json;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let strict = strict_json::read_object(data).map(Value::Object);
    match serde_json::from_slice::<Value>(data) {
        Ok(loose @ Value::Object(_)) if colons(data) == names(&loose) => {
            assert_eq!(strict, Some(loose));
        }
        _ => assert_eq!(strict, None),
    }
});

/// Colons outside of texts.
fn colons(data: &[u8]) -> usize {
    let (mut count, mut in_text, mut escaped) = (0, false, false);
    for byte in data {
        match (byte, in_text) {
            _ if escaped => escaped = false,
            (b'\\', true) => escaped = true,
            (b'"', _) => in_text = !in_text,
            (b':', false) => count += 1,
            _ => {}
        }
    }
    count
}

/// Names in an object and all that is in it.
fn names(value: &Value) -> usize {
    match value {
        Value::Object(map) => map.len() + map.values().map(names).sum::<usize>(),
        Value::Array(items) => items.iter().map(names).sum(),
        _ => 0,
    }
}
