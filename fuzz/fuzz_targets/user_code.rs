//! A user code as a person types it (RFC 8628 §6.1): read in one way, shown as it is read.
#![no_main]

use keywright_domain::people::UserCode;
use libfuzzer_sys::fuzz_target;

const LETTERS: &str = "BCDFGHJKLMNPQRSTVWXZ";

fuzz_target!(|text: &str| {
    let letters: String = text
        .chars()
        .filter(|letter| !matches!(letter, ' ' | '-'))
        .map(|letter| letter.to_ascii_uppercase())
        .collect();
    let is_code = letters.chars().count() == 8 && letters.chars().all(|one| LETTERS.contains(one));
    let read = UserCode::parse(text);
    assert_eq!(read.is_some(), is_code, "{text:?}");
    let Some(code) = read else { return };
    assert_eq!(code.as_str(), letters);
    let shown = code.to_string();
    assert_eq!(shown.len(), 9);
    assert_eq!(UserCode::parse(&shown), Some(code.clone()));
    assert_eq!(UserCode::parse(&shown.to_lowercase()), Some(code));
});
