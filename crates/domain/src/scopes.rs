//! Scopes: `resource:action`, either side may be `*` in what is granted.

use core::fmt;

pub mod requirement;

pub use requirement::{RequirementError, ScopeRequirement};

/// One scope, granted or required.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    text: String,
    colon: usize,
}

impl Scope {
    /// Checks a scope.
    ///
    /// # Errors
    /// [`ScopeError::Malformed`] unless it is `resource:action`, each side 1 to 40 small letters,
    /// digits, `-`, `_`, `.`, or a single `*`.
    pub fn new(text: &str) -> Result<Self, ScopeError> {
        let malformed = || ScopeError::Malformed(text.chars().take(90).collect());
        let (resource, action) = text.split_once(':').ok_or_else(malformed)?;
        if !is_side(resource) || !is_side(action) {
            return Err(malformed());
        }
        Ok(Self {
            text: text.to_owned(),
            colon: resource.len(),
        })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn sides(&self) -> (&str, &str) {
        (&self.text[..self.colon], &self.text[self.colon + 1..])
    }

    /// Whether it holds a wildcard.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.sides().0 == "*" || self.sides().1 == "*"
    }

    /// Whether holding `self` satisfies a need for `required`. `keys:*` covers `keys:read`;
    /// `keys:read` does not cover `keys:*`.
    #[must_use]
    pub fn covers(&self, required: &Self) -> bool {
        let (resource, action) = self.sides();
        let (needed_resource, needed_action) = required.sides();
        (resource == "*" || resource == needed_resource)
            && (action == "*" || action == needed_action)
    }

    /// What both cover, where there is something: `keys:*` and `*:read` meet in `keys:read`.
    fn meet(&self, other: &Self) -> Option<Self> {
        let (mine, theirs) = (self.sides(), other.sides());
        let resource = meet_side(mine.0, theirs.0)?;
        let action = meet_side(mine.1, theirs.1)?;
        Some(Self {
            text: format!("{resource}:{action}"),
            colon: resource.len(),
        })
    }
}

fn meet_side<'a>(one: &'a str, other: &'a str) -> Option<&'a str> {
    match (one, other) {
        ("*", side) | (side, "*") => Some(side),
        _ => (one == other).then_some(one),
    }
}

fn is_side(side: &str) -> bool {
    let plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
    };
    side == "*" || ((1..=40).contains(&side.len()) && side.bytes().all(plain))
}

/// What a key may do: sorted, without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeSet(Vec<Scope>);

impl ScopeSet {
    /// Sorts and removes duplicates.
    #[must_use]
    pub fn new(mut scopes: Vec<Scope>) -> Self {
        scopes.sort();
        scopes.dedup();
        Self(scopes)
    }

    /// Reads scopes as they are stored: separated by single spaces.
    ///
    /// # Errors
    /// [`ScopeError::Malformed`] for the first that is not a scope.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        let scopes: Result<_, _> = text.split_ascii_whitespace().map(Scope::new).collect();
        Ok(Self::new(scopes?))
    }

    /// The scopes, sorted.
    #[must_use]
    pub fn as_slice(&self) -> &[Scope] {
        &self.0
    }

    /// Whether any of them satisfies a need for `required`.
    #[must_use]
    pub fn covers(&self, required: &Scope) -> bool {
        self.0.iter().any(|scope| scope.covers(required))
    }

    /// The set that covers every scope: `*:*`.
    #[must_use]
    pub fn everything() -> Self {
        Self(vec![Scope {
            text: "*:*".to_owned(),
            colon: 1,
        }])
    }

    /// Whether `self` covers every scope of `other`, wildcards included: what somebody holds must
    /// cover all of what they grant (AC-131). Nothing is covered by everyone.
    #[must_use]
    pub fn covers_all(&self, other: &Self) -> bool {
        other.0.iter().all(|scope| self.covers(scope))
    }

    /// The set that covers exactly what both cover, without scopes that another one covers: what
    /// is left of a key's scopes once its creator has lost some of theirs (AC-131).
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let pairs = self
            .0
            .iter()
            .flat_map(|mine| other.0.iter().filter_map(|theirs| mine.meet(theirs)));
        Self::new(pairs.collect()).minimal()
    }

    /// The same rights in the fewest scopes: `keys:read` goes when `keys:*` is there.
    #[must_use]
    pub fn minimal(&self) -> Self {
        // Two different scopes never cover each other, so nothing is dropped twice.
        let needed = |scope: &&Scope| {
            !self
                .0
                .iter()
                .any(|other| other != *scope && other.covers(scope))
        };
        Self(self.0.iter().filter(needed).cloned().collect())
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(f, "{separator}{}", scope.text)?;
        }
        Ok(())
    }
}

/// Why a text is not a scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// Not `resource:action`.
    #[error(
        "“{0}” is not a scope: write resource:action in small letters, for example orders:read"
    )]
    Malformed(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope(text: &str) -> Scope {
        Scope::new(text).expect("a scope")
    }

    #[test]
    fn ac_130_wildcards_cover_and_plain_scopes_do_not() {
        assert!(scope("keys:*").covers(&scope("keys:read")));
        assert!(scope("*:*").covers(&scope("keys:read")));
        assert!(scope("*:read").covers(&scope("keys:read")));
        assert!(!scope("keys:read").covers(&scope("keys:write")));
        assert!(!scope("keys:read").covers(&scope("keys:*")));
        assert!(!scope("keys:*").covers(&scope("keysets:read")));
    }

    #[test]
    fn malformed_scopes_are_refused() {
        for bad in [
            "", ":", "a:", ":b", "a", "a:b:c", "A:b", "a b:c", "a:**", "ä:b", "a:b ",
        ] {
            assert!(Scope::new(bad).is_err(), "{bad}");
        }
        assert!(Scope::new(&format!("{}:b", "a".repeat(41))).is_err());
    }

    #[test]
    fn a_set_is_sorted_unique_and_reads_back() {
        let set = ScopeSet::parse("b:x a:y b:x").expect("scopes");
        assert_eq!(set.to_string(), "a:y b:x");
        assert_eq!(ScopeSet::parse(&set.to_string()), Ok(set));
    }

    #[test]
    fn ac_131_nobody_grants_more_than_they_hold() {
        let creator = ScopeSet::parse("keys:* users:read").expect("scopes");
        let covers = |text| creator.covers_all(&ScopeSet::parse(text).expect("scopes"));
        assert!(covers("keys:read keys:write users:read") && covers("keys:*") && covers(""));
        assert!(!covers("users:write"));
        assert!(!covers("keys:read users:write"));
        assert!(!covers("users:*"), "a wildcard is more than its parts");
        assert!(!covers("*:read") && !covers("*:*"));
        assert!(ScopeSet::everything().covers_all(&creator));
        assert_eq!(ScopeSet::everything().to_string(), "*:*");
    }

    #[test]
    fn ac_131_what_the_creator_lost_is_lost_to_the_key() {
        let meet = |one: &str, other: &str| {
            let (one, other) = (ScopeSet::parse(one), ScopeSet::parse(other));
            one.expect("scopes")
                .intersect(&other.expect("scopes"))
                .to_string()
        };
        assert_eq!(meet("keys:*", "*:read"), "keys:read");
        assert_eq!(meet("*:*", "a:b c:*"), "a:b c:*");
        assert_eq!(meet("keys:read keys:*", "*:*"), "keys:*");
        assert_eq!(meet("a:b", "b:a"), "");
        assert_eq!(meet("a:b", ""), "");
    }

    const SCOPE: &str = "(\\*|[abc]):(\\*|[xyz])";

    fn set(texts: &[String]) -> ScopeSet {
        ScopeSet::new(texts.iter().map(|text| scope(text)).collect())
    }

    /// Every scope over the letters that the sets use and one more a side, wildcards included.
    fn every_scope() -> Vec<Scope> {
        let sides = |letters: [&'static str; 5]| letters.into_iter();
        sides(["*", "a", "b", "c", "d"])
            .flat_map(|left| sides(["*", "x", "y", "z", "w"]).map(move |right| (left, right)))
            .map(|(left, right)| scope(&format!("{left}:{right}")))
            .collect()
    }

    proptest! {
        #[test]
        fn an_intersection_covers_exactly_what_both_cover(
            one in prop::collection::vec(SCOPE, 0..6), other in prop::collection::vec(SCOPE, 0..6),
        ) {
            let (one, other) = (set(&one), set(&other));
            let both = one.intersect(&other);
            for needed in every_scope() {
                prop_assert_eq!(
                    both.covers(&needed), one.covers(&needed) && other.covers(&needed),
                    "{} ∩ {} = {}: {:?}", one, other, both, needed
                );
            }
            prop_assert!(one.covers_all(&both) && other.covers_all(&both));
            prop_assert_eq!(&both, &other.intersect(&one));
            prop_assert_eq!(&both, &both.minimal());
            prop_assert_eq!(one.intersect(&one), one.minimal());
        }

        #[test]
        fn a_minimal_set_has_the_same_rights_and_no_scope_to_spare(
            texts in prop::collection::vec(SCOPE, 0..8),
        ) {
            let set = set(&texts);
            let minimal = set.minimal();
            for needed in every_scope() {
                prop_assert_eq!(set.covers(&needed), minimal.covers(&needed));
            }
            for one in minimal.as_slice() {
                prop_assert!(!minimal.as_slice().iter().any(|other| other != one && other.covers(one)));
            }
        }

        #[test]
        fn covering_all_means_covering_each(
            holder in prop::collection::vec(SCOPE, 0..6), granted in prop::collection::vec(SCOPE, 0..6),
        ) {
            let (holder, granted) = (set(&holder), set(&granted));
            let beyond = every_scope().iter().any(|one| granted.covers(one) && !holder.covers(one));
            prop_assert_eq!(holder.covers_all(&granted), !beyond);
        }

        #[test]
        fn covering_is_reflexive_and_transitive(
            a in "(\\*|[ab]):(\\*|[xy])", b in "(\\*|[ab]):(\\*|[xy])", c in "(\\*|[ab]):(\\*|[xy])",
        ) {
            let (a, b, c) = (scope(&a), scope(&b), scope(&c));
            prop_assert!(a.covers(&a));
            if a.covers(&b) && b.covers(&c) {
                prop_assert!(a.covers(&c));
            }
        }
    }
}
