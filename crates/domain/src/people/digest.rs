//! What is stored of a token that we made: its SHA-256, never the token. What must be read again
//! comes sealed.

use core::fmt;

use sha2::{Digest as _, Sha256};

use crate::SecretText;

/// SHA-256 of a session id, code, refresh token or other text of at least 128 random bits. A fast
/// digest is right for those, and only for those: what people choose needs argon2id.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Of the token's text.
    #[must_use]
    pub fn of(token: &SecretText) -> Self {
        Self(Sha256::digest(token.expose().as_bytes()).into())
    }

    /// As it was stored; none unless it is 32 bytes.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes to store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest")
    }
}

/// Bytes that the caller encrypted, with a key that the registry does not have: a private key, the
/// secret of one-time codes, a successor. Opaque here.
#[derive(Clone)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// Takes encrypted bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The encrypted bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_and_shows_nothing() {
        let digest = TokenDigest::of(&SecretText::new("canary".into()));
        assert_eq!(TokenDigest::from_slice(digest.as_bytes()), Some(digest));
        assert_eq!(TokenDigest::from_slice(&[1; 31]), None);
        assert_eq!(format!("{digest:?}"), "TokenDigest");
        assert_ne!(digest, TokenDigest::of(&SecretText::new("canarz".into())));
    }
}
