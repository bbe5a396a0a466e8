use keywright_domain::scopes::ScopeSet;
use proptest::prelude::*;

use super::*;

fn set(text: &str) -> ScopeSet {
    ScopeSet::parse(text).expect("scopes")
}

fn used(requirement: &str) -> UsageRow {
    ("key".to_owned(), String::new(), requirement.to_owned(), 1)
}

fn proposal(granted: &str, requirements: &[&str]) -> Option<String> {
    let used: Vec<_> = requirements.iter().map(|one| used(one)).collect();
    right_size(&set(granted), &used).map(|proposal| proposal.scopes.to_string())
}

#[test]
fn a_wildcard_is_narrowed_to_what_was_used() {
    let narrowed = proposal(
        "keys:* users:read",
        &["keys:read", "keys:read and keys:write"],
    );
    assert_eq!(narrowed.as_deref(), Some("keys:read keys:write"));
    assert_eq!(proposal("keys:read", &["keys:read"]), None);
    assert_eq!(proposal("*:*", &["a:b"]).as_deref(), Some("a:b"));
}

#[test]
fn nothing_is_proposed_on_what_is_not_known() {
    assert_eq!(proposal("keys:*", &[]), None);
    assert_eq!(proposal("keys:*", &[""]), None, "no use named a scope");
    assert_eq!(proposal("keys:*", &["keys:read", "(redacted)"]), None);
    let long = vec!["keys:read"; 22].join(" and ");
    assert_eq!(proposal("keys:*", &[&long]), None, "it may have been cut");
    let known = right_size(&set("keys:*"), &[used("keys:read"), used("")]);
    assert_eq!(known.map(|proposal| proposal.unnamed_uses), Some(1));
}

#[test]
fn cursors_of_other_lists_are_refused() {
    assert_eq!(decode("5~abc").expect("our own"), (5, "abc".to_owned()));
    for foreign in ["", "abc", "x~a"] {
        assert_eq!(
            decode(foreign).expect_err("foreign").code(),
            "invalid_cursor"
        );
    }
}

proptest! {
    #[test]
    fn a_proposal_never_holds_less_than_was_used_and_never_more_than_was_granted(
        granted in prop::collection::vec("(\\*|[ab]):(\\*|[xy])", 1..4),
        asked in prop::collection::vec("[ab]:[xy]( (and|or) [ab]:[xy]){0,2}", 1..5),
    ) {
        let granted = set(&granted.join(" "));
        let rows: Vec<_> = asked
            .iter()
            .filter(|text| ScopeRequirement::parse(text).is_ok_and(|need| need.is_met_by(&granted)))
            .map(|text| used(text))
            .collect();
        if let Some(proposal) = right_size(&granted, &rows) {
            prop_assert!(granted.covers_all(&proposal.scopes));
            prop_assert!(!proposal.scopes.covers_all(&granted));
            for (_, _, requirement, _) in &rows {
                let need = ScopeRequirement::parse(requirement).expect("it was read before");
                prop_assert!(need.is_met_by(&proposal.scopes), "{requirement} by {}", proposal.scopes);
            }
        }
    }
}
