//! Roles: named sets of permissions. What a person may do is the union of their roles.

use core::fmt;

use super::PeopleError;
use crate::scopes::ScopeSet;

/// The role that may do everything. Somebody always has it.
pub const OWNER: &str = "owner";

/// A role's name: 1 to 40 small letters, digits, `-` or `_`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleName(String);

impl RoleName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`PeopleError::RoleName`].
    pub fn new(text: &str) -> Result<Self, PeopleError> {
        if is_slug(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PeopleError::RoleName)
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the owner's.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.0 == OWNER
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 1 to 40 small letters, digits, `-` or `_`.
pub(super) fn is_slug(text: &str) -> bool {
    let plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
    };
    (1..=40).contains(&text.len()) && text.bytes().all(plain)
}

/// What several roles allow together, in the fewest scopes.
#[must_use]
pub fn union_of<'a>(permissions: impl IntoIterator<Item = &'a ScopeSet>) -> ScopeSet {
    let all = permissions
        .into_iter()
        .flat_map(|set| set.as_slice().iter().cloned());
    ScopeSet::new(all.collect()).minimal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ac_131_roles_add_up_to_the_fewest_scopes() {
        let set = |text: &str| ScopeSet::parse(text).unwrap();
        let union = union_of(&[
            set("keys:read audit:read"),
            set("keys:*"),
            set("users:read"),
        ]);
        assert_eq!(union.to_string(), "audit:read keys:* users:read");
        assert_eq!(union_of(&[set("*:*"), set("keys:*")]).to_string(), "*:*");
        assert_eq!(union_of(&[]).to_string(), "");
    }

    #[test]
    fn names_of_roles_are_plain() {
        assert!(RoleName::new("key-admin_2").is_ok());
        for bad in ["", "Owner", "a b", "ä", &"a".repeat(41)] {
            assert_eq!(RoleName::new(bad), Err(PeopleError::RoleName), "{bad}");
        }
    }
}
