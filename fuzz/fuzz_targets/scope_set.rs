//! Reading scopes never panics; what is read is sorted, reads back the same, and covers what a
//! second reading of the rule says.
#![no_main]

use keywright_domain::scopes::{Scope, ScopeSet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let Ok(set) = ScopeSet::parse(text) else {
        assert!(!words.iter().all(|word| is_scope(word)), "refused: {text}");
        return;
    };
    assert!(words.iter().all(|word| is_scope(word)), "taken: {text}");
    let scopes = set.as_slice();
    assert!(
        scopes
            .windows(2)
            .all(|pair| pair[0].as_str() < pair[1].as_str())
    );
    assert!(
        words
            .iter()
            .all(|word| scopes.iter().any(|scope| scope.as_str() == *word))
    );
    assert_eq!(ScopeSet::parse(&set.to_string()).as_ref(), Ok(&set));
    // A few are enough: the rule looks at two at a time.
    for required in scopes.iter().take(20) {
        assert!(set.covers(required), "a set covers what is in it");
        for held in scopes.iter().take(20) {
            assert_eq!(held.covers(required), is_covered(held, required));
        }
    }
});

fn is_scope(word: &str) -> bool {
    let sides: Vec<&str> = word.split(':').collect();
    sides.len() == 2 && sides.iter().all(|side| *side == "*" || is_plain(side))
}

fn is_plain(side: &str) -> bool {
    let allowed = "abcdefghijklmnopqrstuvwxyz0123456789-_.";
    !side.is_empty() && side.len() <= 40 && side.chars().all(|c| allowed.contains(c))
}

fn is_covered(held: &Scope, required: &Scope) -> bool {
    held.as_str()
        .split(':')
        .zip(required.as_str().split(':'))
        .all(|(held, required)| held == "*" || held == required)
}
