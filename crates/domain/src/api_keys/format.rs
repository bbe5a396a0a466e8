//! The text of a key: `{prefix}_{kid:12}KYWRT1{secret:32}{crc:6}`, base62 after the prefix.
//! Parsed from the right by fixed widths, so that `_` in a prefix is harmless.

use core::fmt;

use rand::CryptoRng;

use crate::SecretText;
use crate::base62::{encode_u32, is_base62, random_text};

/// Marks every key of every registry, and the version of the format.
pub const MARKER: &str = "KYWRT1";
const KID_LENGTH: usize = 12;
const SECRET_LENGTH: usize = 32;
const CHECKSUM_LENGTH: usize = 6;
const TAIL_LENGTH: usize = KID_LENGTH + MARKER.len() + SECRET_LENGTH + CHECKSUM_LENGTH;
/// Longest key there can be.
pub const MAX_KEY_LENGTH: usize = MAX_PREFIX_LENGTH + 1 + TAIL_LENGTH;
const MAX_PREFIX_LENGTH: usize = 16;

/// The prefixes offered by name: secret and publishable, live and test.
pub const PRESET_PREFIXES: [&str; 4] = ["sk_live", "sk_test", "pk_live", "pk_test"];
/// Reserved for management keys.
pub const ROOT_PREFIX: &str = "kw_root";

/// What stands before the key: `^[A-Za-z][A-Za-z0-9_]{0,14}[A-Za-z0-9]$`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix(String);

impl Prefix {
    /// Checks a prefix.
    ///
    /// # Errors
    /// [`FormatError::Prefix`] if it is not 2 to 16 letters, digits or `_`, starting with a letter
    /// and not ending with `_`.
    pub fn new(text: &str) -> Result<Self, FormatError> {
        if Self::is_well_formed(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(FormatError::Prefix)
        }
    }

    fn is_well_formed(text: &str) -> bool {
        let bytes = text.as_bytes();
        (2..=MAX_PREFIX_LENGTH).contains(&bytes.len())
            && bytes[0].is_ascii_alphabetic()
            && bytes[bytes.len() - 1].is_ascii_alphanumeric()
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Publishable keys may be seen by anyone and hold low-risk scopes only.
    #[must_use]
    pub fn is_publishable(&self) -> bool {
        self.0.starts_with("pk_")
    }
}

/// Public id of one secret; safe in logs, addresses and the window.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kid(String);

impl Kid {
    /// A new kid, for a secret whose text was made elsewhere and has none.
    #[must_use]
    pub fn generate(entropy: &mut impl CryptoRng) -> Self {
        Self(random_text(KID_LENGTH, entropy))
    }

    /// Checks a kid.
    ///
    /// # Errors
    /// [`FormatError::Kid`] if it is not 12 base62 characters.
    pub fn new(text: &str) -> Result<Self, FormatError> {
        if text.len() == KID_LENGTH && is_base62(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(FormatError::Kid)
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A whole key in plain text. It lives as short as possible and is never stored.
#[derive(Clone, Debug)]
pub struct PlainKey {
    text: SecretText,
    prefix: Prefix,
    kid: Kid,
}

impl PlainKey {
    /// Makes a new key: 190 bits of secret by rejection sampling, from the generator passed in.
    #[must_use]
    pub fn generate(prefix: &Prefix, entropy: &mut impl CryptoRng) -> Self {
        let kid = random_text(KID_LENGTH, entropy);
        let secret = SecretText::new(random_text(SECRET_LENGTH, entropy));
        let mut text = String::with_capacity(MAX_KEY_LENGTH);
        for part in [prefix.as_str(), "_", &kid, MARKER, secret.expose()] {
            text.push_str(part);
        }
        let checksum = encode_u32(crc32c::crc32c(text.as_bytes()));
        text.extend(checksum.map(char::from));
        Self {
            text: SecretText::new(text),
            prefix: prefix.clone(),
            kid: Kid(kid),
        }
    }

    /// Reads a key as somebody presented it. Needs no database and tells nothing about validity.
    ///
    /// # Errors
    /// [`FormatError`], in the order: length, alphabet, marker, checksum.
    pub fn parse(presented: &str) -> Result<Self, FormatError> {
        let read = PresentedKey::parse(presented)?;
        Ok(Self {
            text: SecretText::new(presented.to_owned()),
            prefix: Prefix(read.prefix.to_owned()),
            kid: Kid(read.kid.to_owned()),
        })
    }

    /// The whole key. The one accessor of the plain text.
    #[must_use]
    pub fn text(&self) -> &SecretText {
        &self.text
    }

    /// What stands before the key.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// Public id of this secret.
    #[must_use]
    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    /// The last four characters (of the checksum), for people to recognise the key by.
    #[must_use]
    pub fn last_four(&self) -> &str {
        let text = self.text.expose();
        &text[text.len() - 4..]
    }
}

/// A key as somebody presented it, read where it stands: verification keeps no copy of it.
#[derive(Clone, Copy)]
pub struct PresentedKey<'a> {
    text: &'a str,
    prefix: &'a str,
    kid: &'a str,
}

impl<'a> PresentedKey<'a> {
    /// Reads a key. Needs no database and tells nothing about validity.
    ///
    /// # Errors
    /// [`FormatError`], in the order: length, alphabet, marker, checksum.
    pub fn parse(presented: &'a str) -> Result<Self, FormatError> {
        let shortest = 2 + 1 + TAIL_LENGTH;
        if !(shortest..=MAX_KEY_LENGTH).contains(&presented.len()) {
            return Err(FormatError::Length);
        }
        if !presented.is_ascii() {
            return Err(FormatError::Alphabet);
        }
        let (head, tail) = presented.split_at(presented.len() - TAIL_LENGTH);
        let prefix = head.strip_suffix('_').ok_or(FormatError::Alphabet)?;
        if !is_base62(tail) {
            return Err(FormatError::Alphabet);
        }
        if !Prefix::is_well_formed(prefix) {
            return Err(FormatError::Prefix);
        }
        let (kid, rest) = tail.split_at(KID_LENGTH);
        if !rest.starts_with(MARKER) {
            return Err(FormatError::Marker);
        }
        let (body, checksum) = presented.split_at(presented.len() - CHECKSUM_LENGTH);
        if encode_u32(crc32c::crc32c(body.as_bytes())) != *checksum.as_bytes() {
            return Err(FormatError::Checksum);
        }
        Ok(Self {
            text: presented,
            prefix,
            kid,
        })
    }

    /// The text of [`PlainKey::kid`].
    #[must_use]
    pub fn kid(&self) -> &'a str {
        self.kid
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }
}

impl fmt::Debug for PresentedKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresentedKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// Why a text is not a key of ours. Says nothing about whether it would be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Too short or too long.
    #[error("a key is 59 to 73 characters long")]
    Length,
    /// A character that no key has.
    #[error("a key holds only letters and digits after its prefix")]
    Alphabet,
    /// The marker is missing.
    #[error("the marker {MARKER} is not where it belongs")]
    Marker,
    /// The checksum does not fit: mistyped or cut.
    #[error("the checksum does not fit: at least one character was changed or lost")]
    Checksum,
    /// The prefix is not allowed.
    #[error(
        "a prefix has 2 to 16 letters, digits or underscores, begins with a letter and does not end with an underscore"
    )]
    Prefix,
    /// The kid is not 12 base62 characters.
    #[error("a kid has 12 letters or digits")]
    Kid,
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(prefix: &str) -> PlainKey {
        PlainKey::generate(&Prefix::new(prefix).expect("a prefix"), &mut rand::rng())
    }

    #[test]
    fn ac_120_a_live_secret_key_has_the_published_format() {
        let key = key("sk_live");
        let text = key.text().expose();
        let tail = text.strip_prefix("sk_live_").expect("its prefix");
        assert_eq!(tail.len(), 56);
        assert!(is_base62(tail));
        assert_eq!(&tail[..12], key.kid().as_str());
        assert_eq!(&tail[12..18], "KYWRT1");
        assert!(text.ends_with(key.last_four()));
    }

    #[test]
    fn ac_126_every_one_character_change_is_refused() {
        let key = key("acme_live");
        let text = key.text().expose();
        for position in 0..text.len() {
            for replacement in ['0', 'a', 'Z', '_', '-', ' ', '\u{0}'] {
                let mut changed: Vec<char> = text.chars().collect();
                if changed[position] == replacement {
                    continue;
                }
                changed[position] = replacement;
                let changed: String = changed.into_iter().collect();
                assert!(
                    PlainKey::parse(&changed).is_err(),
                    "{position} {replacement:?}"
                );
            }
        }
    }

    #[test]
    fn ac_126_every_truncation_is_refused() {
        let key = key("sk_test");
        let text = key.text().expose();
        for length in 0..text.len() {
            assert!(PlainKey::parse(&text[..length]).is_err());
            assert!(PlainKey::parse(&text[text.len() - length..]).is_err());
        }
        assert!(PlainKey::parse(&format!("{text}x")).is_err());
        assert!(PlainKey::parse(&format!(" {text}")).is_err());
    }

    #[test]
    fn hostile_text_is_refused_without_a_panic() {
        let long = "ä".repeat(40_000);
        for text in [
            "",
            "_",
            "sk_live_",
            "ключ_ключ_ключ",
            "\u{202e}sk_live_",
            &long,
        ] {
            assert!(PlainKey::parse(text).is_err());
        }
        // 73 bytes whose cut falls inside a character
        assert!(PlainKey::parse(&("ä".repeat(36) + "a")).is_err());
    }

    #[test]
    fn prefixes_follow_their_rule() {
        for good in [
            "sk_live",
            "pk_test",
            "kw_root",
            "ab",
            "a1",
            "acme_live",
            "A234567890123456",
        ] {
            assert!(Prefix::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "1a",
            "_a",
            "a_",
            "a-b",
            "a b",
            "A2345678901234567",
            "ä1",
            "sk_",
        ] {
            assert_eq!(Prefix::new(bad), Err(FormatError::Prefix), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn parsing_undoes_making(prefix in "[A-Za-z][A-Za-z0-9_]{0,14}[A-Za-z0-9]") {
            let made = key(&prefix);
            let read = PlainKey::parse(made.text().expose()).expect("a key that was just made");
            prop_assert_eq!(made.text().expose(), read.text().expose());
            prop_assert_eq!(made.prefix(), read.prefix());
            prop_assert_eq!(made.kid(), read.kid());
        }

        #[test]
        fn noise_is_refused(text in ".{0,90}") {
            prop_assert!(PlainKey::parse(&text).is_err());
        }
    }
}
