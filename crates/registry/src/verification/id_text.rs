//! Ids of keys and secrets where they are handed about with every verification: copied, not allocated.

use core::fmt;
use core::ops::Deref;

use serde::{Serialize, Serializer};

/// Text of an id of `N` base62 characters: 12 of a kid, 20 of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdText<const N: usize>([u8; N]);

impl<const N: usize> IdText<N> {
    /// Of characters that are known to be ASCII.
    pub(super) fn of(text: [u8; N]) -> Self {
        Self(text)
    }

    /// A text of just this length; none if it has another one, or letters that no id has.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let is_base62 = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let bytes = is_base62.then_some(text.as_bytes())?;
        bytes.try_into().ok().map(Self)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Made from ASCII alone: there is no other case.
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl<const N: usize> Deref for IdText<N> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl<const N: usize> fmt::Display for IdText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl<const N: usize> fmt::Debug for IdText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<const N: usize> Serialize for IdText<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}
