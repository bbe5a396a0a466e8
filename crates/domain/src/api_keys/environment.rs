//! Where a key belongs (live, test or another environment), what type it is, and who owns it.

use core::fmt;
use std::borrow::Cow;

use super::format::{Prefix, ROOT_PREFIX};

/// An environment: 1 to 32 small letters, digits or `-`, a letter first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Environment(Cow<'static, str>);

impl Environment {
    /// The environment of real data.
    pub const LIVE: Self = Self(Cow::Borrowed("live"));
    /// The environment for trying things out.
    pub const TEST: Self = Self(Cow::Borrowed("test"));

    /// Checks an environment's name.
    ///
    /// # Errors
    /// [`EnvironmentError`] unless it is 1 to 32 of `a`–`z`, `0`–`9`, `-`, a letter first.
    pub fn new(text: &str) -> Result<Self, EnvironmentError> {
        // Nearly all of them: no copy is made.
        for known in [Self::LIVE, Self::TEST] {
            if known.0 == text {
                return Ok(known);
            }
        }
        let bytes = text.as_bytes();
        let well_formed = (1..=32).contains(&bytes.len())
            && bytes[0].is_ascii_lowercase()
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-');
        if well_formed {
            Ok(Self(Cow::Owned(text.to_owned())))
        } else {
            Err(EnvironmentError)
        }
    }

    /// The environment that a prefix names: its last part, where that is `live` or `test`.
    #[must_use]
    pub fn of_prefix(prefix: &Prefix) -> Option<Self> {
        match prefix.as_str().rsplit('_').next()? {
            "live" => Some(Self::LIVE),
            "test" => Some(Self::TEST),
            _ => None,
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text is not the name of an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an environment has 1 to 32 small letters, digits or hyphens and begins with a letter")]
pub struct EnvironmentError;

impl EnvironmentError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "invalid_environment"
    }
}

/// What a key is for, by its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// `sk_…`: stays on servers.
    Secret,
    /// `pk_…`: may be seen by anyone and holds low-risk scopes only.
    Publishable,
    /// `kw_root`: manages the registry itself.
    Root,
    /// Any other prefix.
    Custom,
}

impl KeyType {
    /// The type that a prefix stands for.
    #[must_use]
    pub fn of(prefix: &Prefix) -> Self {
        match prefix.as_str() {
            ROOT_PREFIX => Self::Root,
            text if text.starts_with("sk_") => Self::Secret,
            _ if prefix.is_publishable() => Self::Publishable,
            _ => Self::Custom,
        }
    }

    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Publishable => "publishable",
            Self::Root => "root",
            Self::Custom => "custom",
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Secret, Self::Publishable, Self::Root, Self::Custom];
        all.into_iter().find(|one| one.as_str() == text)
    }
}

/// Characters of the id of an owner that is made here.
const LONGEST_NEW_ID: usize = 64;

/// Who answers for a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// What they are.
    pub kind: OwnerKind,
    /// Their id where they are kept: 1 to 200 characters, no blanks or control characters.
    pub id: String,
}

/// What an owner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OwnerKind {
    /// A person.
    Person,
    /// A program that acts for itself.
    Service,
    /// Several people.
    Team,
}

impl OwnerKind {
    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Service => "service",
            Self::Team => "team",
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Person, Self::Service, Self::Team];
        all.into_iter().find(|one| one.as_str() == text)
    }
}

impl Owner {
    /// Checks an owner's id.
    ///
    /// # Errors
    /// [`OwnerError::Id`].
    pub fn new(kind: OwnerKind, id: &str) -> Result<Self, OwnerError> {
        let is_bad = |letter: char| letter.is_control() || letter.is_whitespace();
        if id.is_empty() || id.chars().count() > 200 || id.contains(is_bad) {
            return Err(OwnerError::Id);
        }
        Ok(Self {
            kind,
            id: id.to_owned(),
        })
    }

    /// Checks the id of one that is to be made here. It stands in addresses, filters and files, so it has only what
    /// means nothing there: 1 to 64 ASCII letters, digits, `.`, `-` and `_`, the first a letter or a digit.
    ///
    /// # Errors
    /// [`OwnerError::NewId`].
    pub fn to_be_made(kind: OwnerKind, id: &str) -> Result<Self, OwnerError> {
        let inner = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
        if id.len() > LONGEST_NEW_ID
            || !id.starts_with(|letter: char| letter.is_ascii_alphanumeric())
            || !id.chars().all(inner)
        {
            return Err(OwnerError::NewId);
        }
        Ok(Self {
            kind,
            id: id.to_owned(),
        })
    }

    /// Reads `kind:id`, as [`Owner::to_text`] writes it. The id may hold colons.
    ///
    /// # Errors
    /// [`OwnerError`].
    pub fn parse(text: &str) -> Result<Self, OwnerError> {
        let (kind, id) = text.split_once(':').ok_or(OwnerError::Kind)?;
        Self::new(OwnerKind::parse(kind).ok_or(OwnerError::Kind)?, id)
    }

    /// The text to store: `person:7Hq2mXw4KdPz`.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}:{}", self.kind.as_str(), self.id)
    }
}

/// Why a text does not name an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// Neither person, service nor team.
    #[error("an owner is written person:id, service:id or team:id")]
    Kind,
    /// The id breaks its rule.
    #[error("an owner's id has 1 to 200 characters, without blanks or control characters")]
    Id,
    /// The id of one that is to be made breaks its rule.
    #[error(
        "the id of a service or team has 1 to 64 letters, digits, dots, dashes and underscores, and begins with a \
         letter or a digit"
    )]
    NewId,
}

impl OwnerError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "invalid_owner"
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        Prefix::new(text).expect("a prefix")
    }

    #[test]
    fn environments_follow_their_rule() {
        let longest = format!("a{}", "9".repeat(31));
        for good in ["a", "live", "test", "staging-2", longest.as_str()] {
            assert_eq!(Environment::new(good).expect(good).as_str(), good);
        }
        let too_long = format!("{longest}9");
        for bad in [
            "",
            "1a",
            "-a",
            "Live",
            "a_b",
            "a b",
            "ä",
            "*",
            too_long.as_str(),
        ] {
            assert_eq!(Environment::new(bad), Err(EnvironmentError), "{bad}");
        }
        assert_eq!(Environment::new("live"), Ok(Environment::LIVE));
        assert_eq!(Environment::new("test"), Ok(Environment::TEST));
    }

    #[test]
    fn ac_141_a_prefix_names_its_type_and_environment() {
        use KeyType::{Custom, Publishable, Root, Secret};
        let (live, test) = (Some(Environment::LIVE), Some(Environment::TEST));
        let cases = [
            ("sk_live", Secret, live.clone()),
            ("sk_test", Secret, test.clone()),
            ("sk_acme", Secret, None),
            ("pk_live", Publishable, live.clone()),
            ("pk_test", Publishable, test.clone()),
            ("kw_root", Root, None),
            ("kw_roots", Custom, None),
            ("acme_live", Custom, live),
            ("acme_livery", Custom, None),
            ("live_acme", Custom, None),
            ("sk", Custom, None),
            ("test", Custom, test),
        ];
        for (text, key_type, environment) in cases {
            assert_eq!(KeyType::of(&prefix(text)), key_type, "{text}");
            assert_eq!(Environment::of_prefix(&prefix(text)), environment, "{text}");
        }
    }

    #[test]
    fn stable_texts_read_back() {
        use KeyType::{Custom, Publishable, Root, Secret};
        for one in [Secret, Publishable, Root, Custom] {
            assert_eq!(KeyType::parse(one.as_str()), Some(one));
        }
        for one in [OwnerKind::Person, OwnerKind::Service, OwnerKind::Team] {
            assert_eq!(OwnerKind::parse(one.as_str()), Some(one));
        }
        assert_eq!(KeyType::parse("Secret"), None);
        assert_eq!(OwnerKind::parse(""), None);
    }

    #[test]
    fn owners_are_checked() {
        let owner = Owner::parse("service:ci:deploy").expect("an owner");
        assert_eq!(
            (owner.kind, owner.id.as_str()),
            (OwnerKind::Service, "ci:deploy")
        );
        assert_eq!(Owner::parse("robot:x"), Err(OwnerError::Kind));
        assert_eq!(Owner::parse("person"), Err(OwnerError::Kind));
        let long = format!("person:{}", "x".repeat(201));
        for bad in ["person:", "person:a b", "team:a\nb", long.as_str()] {
            assert_eq!(Owner::parse(bad), Err(OwnerError::Id), "{bad}");
        }
    }

    #[test]
    fn the_id_of_one_that_is_made_means_nothing_in_an_address() {
        let longest = "x".repeat(64);
        for good in ["a", "7", "billing", "Billing_2.eu-west", longest.as_str()] {
            let made = Owner::to_be_made(OwnerKind::Service, good).expect(good);
            assert_eq!(Ok(made), Owner::new(OwnerKind::Service, good));
        }
        let too_long = format!("{longest}x");
        for bad in [
            "",
            ".",
            "..",
            "-a",
            "_a",
            "a/b",
            "a:b",
            "a b",
            "a?b",
            "a%2Fb",
            "a\0b",
            "ä",
            too_long.as_str(),
        ] {
            let refused = Owner::to_be_made(OwnerKind::Team, bad);
            assert_eq!(refused, Err(OwnerError::NewId), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn an_owner_reads_back(id in "[!-~ä]{1,200}") {
            let owner = Owner::new(OwnerKind::Team, &id).expect("an owner");
            prop_assert_eq!(Owner::parse(&owner.to_text()), Ok(owner));
        }
    }
}
