//! What is stored of a key: `HMAC-SHA-256(pepper, SHA-256(whole key))`. Never the key.

use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use rand::CryptoRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::format::{PlainKey, PresentedKey};

/// SHA-256 of a whole key: what a client hands over when it made the secret itself.
#[derive(Clone)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Digests a key.
    #[must_use]
    pub fn of(key: &PlainKey) -> Self {
        Self(Sha256::digest(key.text().expose().as_bytes()).into())
    }

    /// Digests a key that somebody presents.
    #[must_use]
    pub fn of_presented(key: &PresentedKey<'_>) -> Self {
        Self(Sha256::digest(key.text().as_bytes()).into())
    }

    /// Takes a digest that somebody else computed: of a key that never came here in plain text.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// For the way to a registry elsewhere. Nobody can present it in place of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// 32 random bytes that live in the keychain, never in the database or its backups.
/// Every copy is wiped when it is dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Pepper([u8; 32]);

impl Pepper {
    /// Makes a new pepper.
    #[must_use]
    pub fn generate(entropy: &mut impl CryptoRng) -> Self {
        let mut bytes = [0_u8; 32];
        entropy.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// Takes a pepper as it was kept.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be kept in the keychain.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// What is stored of a key.
    #[must_use]
    pub fn mac(&self, digest: &KeyDigest) -> KeyMac {
        // The block is padded by hand because `new_from_slice` can fail by its type, though not for us.
        let mut block = [0_u8; 64];
        block[..32].copy_from_slice(&self.0);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        block.zeroize();
        mac.update(&digest.0);
        KeyMac(mac.finalize().into_bytes().into())
    }
}

/// The stored value; compared in constant time only.
#[derive(Clone)]
pub struct KeyMac([u8; 32]);

impl KeyMac {
    /// Takes a stored value.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Compares without telling, by time, where the values differ.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(redacted)")
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(redacted)")
    }
}

impl fmt::Debug for KeyMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyMac(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mac_is_hmac_sha_256_of_pepper_and_digest() {
        // Computed by another implementation (Python's hmac module): pepper of 32 bytes 0x0b,
        // digest of 32 zero bytes.
        let pepper = Pepper::from_bytes([0x0b; 32]);
        let mac = pepper.mac(&KeyDigest([0; 32]));
        let text: String = mac
            .as_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            text,
            "abf0195cf7a503e61897b7bb6f36beb7713f7bbf6a6c68ad4b5059da47670135"
        );
    }

    #[test]
    fn another_pepper_or_digest_gives_another_mac() {
        let (one, two) = (Pepper::from_bytes([1; 32]), Pepper::from_bytes([2; 32]));
        let (a, b) = (KeyDigest([3; 32]), KeyDigest([4; 32]));
        assert!(one.mac(&a).matches(&one.mac(&a)));
        assert!(!one.mac(&a).matches(&two.mac(&a)));
        assert!(!one.mac(&a).matches(&one.mac(&b)));
    }
}
