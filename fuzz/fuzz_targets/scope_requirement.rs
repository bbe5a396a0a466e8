//! Reading a requirement never panics; what is read reads back as itself, is met as a second
//! reading of its text says, and what it calls missing is enough and has nothing to spare.
#![no_main]

use keywright_domain::scopes::{Scope, ScopeRequirement, ScopeSet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((seed, text)) = data.split_first_chunk::<4>() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let Ok(requirement) = ScopeRequirement::parse(text) else {
        return;
    };
    let shown = requirement.to_string();
    assert_eq!(ScopeRequirement::parse(&shown).as_ref(), Ok(&requirement));
    let named: Vec<Scope> = requirement.scopes().into_iter().cloned().collect();
    assert!(!named.is_empty());
    let mut bits = u32::from_le_bytes(*seed);
    for _ in 0..8 {
        let mut granted = Vec::new();
        for scope in &named {
            // xorshift32: a set that the seed decides.
            bits = bits.max(1);
            bits ^= bits << 13;
            bits ^= bits >> 17;
            bits ^= bits << 5;
            match bits % 4 {
                0 => granted.push(scope.clone()),
                1 if bits % 7 == 1 => {
                    let (resource, _) = scope.as_str().split_once(':').expect("a scope");
                    granted.push(Scope::new(&format!("{resource}:*")).expect("a wildcard"));
                }
                _ => {}
            }
        }
        let granted = ScopeSet::new(granted);
        let mut words = words(&shown);
        let expected = any(&mut words, &granted);
        assert!(words.is_empty());
        assert_eq!(
            requirement.is_met_by(&granted),
            expected,
            "{shown} by {granted}"
        );
        let missing = requirement.missing(&granted);
        assert_eq!(missing.is_empty(), expected);
        let with = |parts: &[Scope]| {
            let all = granted.as_slice().iter().chain(parts).cloned().collect();
            requirement.is_met_by(&ScopeSet::new(all))
        };
        assert!(with(&missing), "{shown}: what is missing is not enough");
        for index in 0..missing.len() {
            let mut fewer = missing.clone();
            fewer.remove(index);
            assert!(!with(&fewer), "{shown}: one of the missing is not needed");
        }
    }
});

/// The words of a shown requirement, last one first.
fn words(shown: &str) -> Vec<String> {
    let spaced = shown.replace('(', " ( ").replace(')', " ) ");
    spaced.split_whitespace().rev().map(str::to_owned).collect()
}

/// Both sides are always read: what stands there is to be taken.
fn any(words: &mut Vec<String>, granted: &ScopeSet) -> bool {
    let mut met = all(words, granted);
    while words.last().is_some_and(|word| word == "or") {
        words.pop();
        met |= all(words, granted);
    }
    met
}

fn all(words: &mut Vec<String>, granted: &ScopeSet) -> bool {
    let mut met = one(words, granted);
    while words.last().is_some_and(|word| word == "and") {
        words.pop();
        met &= one(words, granted);
    }
    met
}

fn one(words: &mut Vec<String>, granted: &ScopeSet) -> bool {
    let word = words.pop().expect("a scope or a parenthesis");
    if word == "(" {
        let met = any(words, granted);
        assert_eq!(words.pop().as_deref(), Some(")"));
        return met;
    }
    granted.covers(&Scope::new(&word).expect("a scope"))
}
