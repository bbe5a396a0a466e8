//! `traceparent` of strangers is read exactly as the standard writes it, and nothing else is.
#![no_main]

// The file by itself: the whole server would have to be built.
#[path = "../../crates/server/src/operations/telemetry/traceparent.rs"]
mod traceparent;

use libfuzzer_sys::fuzz_target;
use traceparent::{TraceParent, is_among};

fuzz_target!(|text: &str| {
    let Some(read) = TraceParent::parse(text) else {
        return;
    };
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert_eq!(&text[3..35], hex(&read.trace_id));
    assert_eq!(&text[36..52], hex(&read.parent_id));
    assert!(text.len() == 55 || (text.len() > 55 && &text[..2] != "00" && &text[55..56] == "-"));
    assert!(
        text.is_char_boundary(55)
            && text[..55]
                .bytes()
                .all(|byte| b"0123456789abcdef-".contains(&byte))
    );
    assert!(read.trace_id != [0; 16] && read.parent_id != [0; 8] && &text[..2] != "ff");
    assert_eq!(
        read.sampled,
        u8::from_str_radix(&text[53..55], 16).expect("digits") & 1 == 1
    );
    assert!(is_among(&read.trace_id, 100) && !is_among(&read.trace_id, 0));
});
