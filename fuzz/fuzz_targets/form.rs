//! Parameters of a query or a form: each name once, as another parser reads them, and nothing twice.
#![no_main]

// The file by itself: the whole server would have to be built.
#[path = "../../crates/server/src/http/pairs.rs"]
mod pairs;

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use pairs::Params;

fuzz_target!(|text: &str| {
    let all: Vec<(String, String)> = url::form_urlencoded::parse(text.as_bytes())
        .into_owned()
        .collect();
    let names: BTreeSet<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let read = Params::parse(text);
    assert_eq!(read.is_ok(), names.len() == all.len() && all.len() <= 200);
    let Ok(params) = read else {
        return;
    };
    for (name, value) in &all {
        assert_eq!(params.get(name).unwrap_or(""), value);
        let secret = params.secret(name);
        assert_eq!(secret.is_none(), value.is_empty());
    }
    let shown: Vec<(&str, &str)> = params.iter().collect();
    assert_eq!(shown.len(), all.len());
    // Once more behind it, and it is refused.
    if let Some((name, _)) = all.first() {
        let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        assert!(Params::parse(&format!("{text}&{name}=")).is_err());
    }
});
