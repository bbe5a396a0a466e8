//! Levels of a sign-in (`acr`): what a request asks for, and whether a session has it.

use crate::browser_session::{ACR_ONE, ACR_TWO};

/// Levels that we know, lowest first.
pub(crate) const LEVELS: [&str; 2] = [ACR_ONE, ACR_TWO];

/// The level that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AcrWish {
    /// Any of these will do.
    pub(crate) values: Vec<String>,
    /// Without one of them there is no answer (OpenID Connect Core §5.5.1.1).
    pub(crate) essential: bool,
}

impl AcrWish {
    /// `acr_values`.
    pub(crate) fn voluntary(values: &str) -> Self {
        Self {
            values: values
                .split(' ')
                .filter(|value| !value.is_empty())
                .take(20)
                .map(str::to_owned)
                .collect(),
            essential: false,
        }
    }

    /// The lowest level that is enough; none if we know none of the values.
    pub(crate) fn needed(&self) -> Option<usize> {
        self.values.iter().filter_map(|value| level(value)).min()
    }

    /// Whether a session is enough.
    pub(crate) fn is_met_by(&self, acr: &str) -> bool {
        self.needed()
            .is_some_and(|needed| level(acr).is_some_and(|own| own >= needed))
    }

    /// What is said of a session: its own level, or the highest one that was asked for below it, so
    /// that who asked reads a value of their own.
    pub(crate) fn said_of<'a>(&'a self, acr: &'a str) -> &'a str {
        if self.values.iter().any(|value| value == acr) {
            return acr;
        }
        let own = level(acr);
        self.values
            .iter()
            .filter(|value| level(value).is_some_and(|asked| Some(asked) <= own))
            .max_by_key(|value| level(value))
            .map_or(acr, String::as_str)
    }
}

fn level(acr: &str) -> Option<usize> {
    LEVELS.iter().position(|own| *own == acr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_level_is_enough_for_a_lower_wish() {
        let one = AcrWish::voluntary("urn:x aal1");
        assert!(one.is_met_by(ACR_ONE) && one.is_met_by(ACR_TWO));
        assert_eq!(one.said_of(ACR_TWO), ACR_ONE);
        let two = AcrWish::voluntary("aal2");
        assert!(!two.is_met_by(ACR_ONE) && two.is_met_by(ACR_TWO));
        assert_eq!(two.said_of(ACR_ONE), ACR_ONE);
        let strange = AcrWish::voluntary("urn:x");
        assert_eq!(strange.needed(), None);
        assert!(!strange.is_met_by(ACR_TWO));
        assert_eq!(strange.said_of(ACR_TWO), ACR_TWO);
    }
}
