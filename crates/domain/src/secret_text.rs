//! Text that must not leak: keys, tokens, verifiers, passphrases.
//! This room knows nothing of where such text is kept.

use core::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A secret string: redacted `Debug`, no `Display`, no `Serialize`, no `PartialEq`; wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretText(String);

impl SecretText {
    /// Takes ownership of the text; the caller keeps no copy.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The one accessor. Its name is meant to be searched for in reviews.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares without telling, by time, where two equally long texts differ.
    #[must_use]
    pub fn matches(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use zeroize::{Zeroize as _, ZeroizeOnDrop};

    use super::SecretText;

    #[test]
    fn debug_is_redacted() {
        let secret = SecretText::new("canary-9f2".to_owned());
        assert!(!format!("{secret:?} {:?}", Some(&secret)).contains("canary"));
    }

    #[test]
    fn s1_23_it_is_wiped_when_it_is_dropped() {
        fn is_wiped_on_drop<T: ZeroizeOnDrop>(_: &T) {}
        let mut secret = SecretText::new("canary-9f2".to_owned());
        is_wiped_on_drop(&secret);
        // What a drop does.
        secret.zeroize();
        assert!(secret.matches(""));
    }

    #[test]
    fn matches_compares_the_whole_text() {
        let secret = SecretText::new("abc".to_owned());
        assert!(secret.matches("abc"));
        assert!(!secret.matches("abd") && !secret.matches("ab") && !secret.matches("abcd"));
    }
}
