use proptest::prelude::*;

use super::*;

fn requirement(text: &str) -> ScopeRequirement {
    ScopeRequirement::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn granted(text: &str) -> ScopeSet {
    ScopeSet::parse(text).expect("scopes")
}

#[test]
fn and_binds_tighter_than_or() {
    let need = requirement("a:read or b:read and c:read");
    assert!(need.is_met_by(&granted("a:read")));
    assert!(need.is_met_by(&granted("b:read c:read")));
    assert!(!need.is_met_by(&granted("b:read")) && !need.is_met_by(&granted("c:read")));
    let need = requirement("(a:read or b:read) and c:read");
    assert!(!need.is_met_by(&granted("a:read")));
    assert!(need.is_met_by(&granted("a:read c:read")));
    assert!(need.is_met_by(&granted("*:read")), "wildcards are granted");
}

#[test]
fn keywords_in_any_case_and_blanks_as_you_like() {
    let need = requirement("  (a:x)AND( b:x\tOr\nc:x )  ");
    assert_eq!(need.to_string(), "a:x and (b:x or c:x)");
    assert_eq!(
        requirement("a:x and (b:x and c:x)").to_string(),
        "a:x and b:x and c:x"
    );
    assert_eq!(
        requirement("((a:x))").as_scope().map(Scope::as_str),
        Some("a:x")
    );
    // Keywords are words of their own only.
    let need = requirement("and:or or or:and");
    assert_eq!(need.to_string(), "and:or or or:and");
}

#[test]
fn mistakes_are_named_with_their_place() {
    use RequirementError::{Ended, Not, TooDeep, TooLong, TooManyScopes, Unexpected, Wildcard};
    let unexpected = |position, word: &str| Unexpected {
        position,
        word: word.to_owned(),
    };
    let cases = [
        ("", Ended { position: 0 }),
        ("   ", Ended { position: 3 }),
        ("a:x and", Ended { position: 7 }),
        ("(a:x", Ended { position: 4 }),
        ("a:x)", unexpected(3, ")")),
        ("a:x b:x", unexpected(4, "b:x")),
        ("and a:x", unexpected(0, "and")),
        ("a:x or or b:x", unexpected(7, "or")),
        ("()", unexpected(1, ")")),
        ("(a:x b:x)", unexpected(5, "b:x")),
        ("a:x and NOT b:x", Not { position: 8 }),
        ("a:x or b:*", Wildcard { position: 7 }),
        ("*:*", Wildcard { position: 0 }),
    ];
    for (text, error) in cases {
        assert_eq!(ScopeRequirement::parse(text), Err(error), "{text}");
    }
    for (text, at) in [
        ("a:x or ä:b", 7),
        ("a:x && b:x", 4),
        ("a:x or A:b", 7),
        ("a", 0),
    ] {
        match ScopeRequirement::parse(text) {
            Err(RequirementError::Scope { position, .. }) | Err(Unexpected { position, .. }) => {
                assert_eq!(position, at, "{text}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    let deep = |depth: usize| format!("{}a:x{}", "(".repeat(depth), ")".repeat(depth));
    assert!(ScopeRequirement::parse(&deep(16)).is_ok());
    assert_eq!(
        ScopeRequirement::parse(&deep(17)),
        Err(TooDeep { position: 16 })
    );
    let wide = |count: usize| vec!["a:x"; count].join(" and ");
    assert!(ScopeRequirement::parse(&wide(64)).is_ok());
    assert_eq!(
        ScopeRequirement::parse(&wide(65)),
        Err(TooManyScopes { position: 64 * 8 })
    );
    assert_eq!(ScopeRequirement::parse(&" ".repeat(1001)), Err(TooLong));
    assert_eq!(
        ScopeRequirement::parse(&"(".repeat(1000)),
        Err(TooDeep { position: 16 })
    );
    // Shown with blanks it would no longer read back.
    let side = "a".repeat(39);
    let tight = vec![format!("({side}:x or {side}:y)"); 11].join("and");
    assert!(tight.len() <= 1000, "{}", tight.len());
    let longer = format!("{tight}{}", " ".repeat(1000 - tight.len()));
    assert_eq!(ScopeRequirement::parse(&longer), Err(TooLong));
}

#[test]
fn ac_129_what_is_missing_is_a_short_list() {
    let missing = |need: &str, have: &str| -> Vec<String> {
        let list = requirement(need).missing(&granted(have));
        list.iter().map(|scope| scope.as_str().to_owned()).collect()
    };
    assert_eq!(missing("a:x and b:x", "a:x"), ["b:x"]);
    assert_eq!(missing("(a:x and b:x) or c:x", ""), ["c:x"]);
    assert_eq!(missing("(a:x and b:x) or (c:x and d:x)", "c:x"), ["d:x"]);
    assert_eq!(missing("a:x and a:x", ""), ["a:x"]);
    assert_eq!(missing("(a:x or b:x) and b:x", ""), ["b:x"]);
    assert!(missing("a:x or b:x", "b:*").is_empty());
}

/// A formula of its own, so that the code under test does not judge itself.
#[derive(Clone, Debug)]
enum Formula {
    Letter(usize),
    And(Vec<Formula>),
    Or(Vec<Formula>),
}

const LETTERS: [&str; 4] = ["a:x", "b:x", "c:x", "d:x"];

impl Formula {
    fn is_true(&self, held: u32) -> bool {
        match self {
            Self::Letter(index) => held & (1 << index) != 0,
            Self::And(parts) => parts.iter().all(|part| part.is_true(held)),
            Self::Or(parts) => parts.iter().any(|part| part.is_true(held)),
        }
    }

    fn text(&self) -> String {
        let join = |parts: &[Self], word: &str| {
            let texts: Vec<_> = parts
                .iter()
                .map(|part| format!("({})", part.text()))
                .collect();
            texts.join(word)
        };
        match self {
            Self::Letter(index) => LETTERS[*index].to_owned(),
            Self::And(parts) => join(parts, " AND "),
            Self::Or(parts) => join(parts, "or"),
        }
    }
}

fn formula() -> impl Strategy<Value = Formula> {
    (0..LETTERS.len())
        .prop_map(Formula::Letter)
        .prop_recursive(4, 24, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(Formula::And),
                prop::collection::vec(inner, 1..4).prop_map(Formula::Or),
            ]
        })
}

fn held_set(held: u32) -> ScopeSet {
    let letters = LETTERS
        .iter()
        .enumerate()
        .filter(|(index, _)| held & (1 << index) != 0);
    ScopeSet::new(
        letters
            .map(|(_, text)| Scope::new(text).expect("a scope"))
            .collect(),
    )
}

proptest! {
    #[test]
    fn a_requirement_agrees_with_its_truth_table(formula in formula()) {
        let Ok(need) = ScopeRequirement::parse(&formula.text()) else {
            prop_assume!(false, "over the bounds");
            return Ok(());
        };
        prop_assert_eq!(&requirement(&need.to_string()), &need, "what is shown reads back");
        for held in 0..16 {
            let granted = held_set(held);
            prop_assert_eq!(need.is_met_by(&granted), formula.is_true(held), "{} with {}", need, granted);
            let missing = need.missing(&granted);
            prop_assert_eq!(missing.is_empty(), formula.is_true(held));
            let with = |list: &[Scope]| {
                let mut all = granted.as_slice().to_vec();
                all.extend_from_slice(list);
                need.is_met_by(&ScopeSet::new(all))
            };
            prop_assert!(with(&missing), "{} with {} lacks {:?}", need, granted, missing);
            for index in 0..missing.len() {
                let mut fewer = missing.clone();
                fewer.remove(index);
                prop_assert!(!with(&fewer), "{} with {}: {:?} is too much", need, granted, missing);
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "[ ()a:xndorNOT*ä\\n]{0,60}") {
        if let Ok(need) = ScopeRequirement::parse(&text) {
            prop_assert_eq!(requirement(&need.to_string()), need);
        }
    }
}
