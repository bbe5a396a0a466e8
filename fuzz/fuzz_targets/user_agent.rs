//! What a browser says it is becomes a few short words without control characters.
#![no_main]

// The file by itself: the whole server would have to be built.
#[path = "../../crates/server/src/sessions/user_agent.rs"]
mod user_agent;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let device = user_agent::read(text);
    let kinds = ["computer", "phone", "tablet", "program", "unknown"];
    assert!(kinds.contains(&device.device.as_str()));
    for words in [&device.browser, &device.os, &device.shown()] {
        assert!(!words.is_empty());
        assert!(words.chars().count() <= 60, "{words}");
        assert!(!words.chars().any(char::is_control), "{words:?}");
    }
});
