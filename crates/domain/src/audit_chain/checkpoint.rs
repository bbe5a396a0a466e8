//! Checkpoints: "the hash of this registry's event N is H", signed with Ed25519 (RFC 8032).
//! Whoever holds the public key can check a trail without trusting the machine that holds it.

use core::fmt;
use core::str::FromStr;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rand::CryptoRng;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::hex_text::{self, HexError};
use super::{EventHash, length_of};

/// Begins what is signed, so that a signature over a checkpoint can pass for nothing else.
const CHECKPOINT_TAG: &[u8] = b"keywright/audit-checkpoint/v1\0";

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose trail: a checkpoint of one registry says nothing of another.
    pub registry_id: String,
    /// The event it stands after; 0 for a trail without events.
    pub sequence: i64,
    /// That event's hash; [`EventHash::GENESIS`] at 0.
    pub hash: EventHash,
    /// When it was signed, Unix ms, by the signer's clock.
    pub at: i64,
    /// The key that signed it.
    pub key_id: CheckpointKeyId,
}

impl Checkpoint {
    /// What is signed: the tag `keywright/audit-checkpoint/v1` and a zero byte; the registry id as
    /// its length in bytes (8 bytes, big-endian) and its UTF-8; sequence (8 bytes, big-endian);
    /// hash (32 bytes); time (8 bytes, big-endian); key id (8 bytes).
    fn message(&self) -> Vec<u8> {
        [
            CHECKPOINT_TAG,
            &length_of(&self.registry_id),
            self.registry_id.as_bytes(),
            &self.sequence.to_be_bytes(),
            self.hash.as_bytes(),
            &self.at.to_be_bytes(),
            &self.key_id.0,
        ]
        .concat()
    }
}

/// A checkpoint and its signature. Not verified by being held: see [`SignedCheckpoint::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// Over its canonical encoding.
    pub signature: CheckpointSignature,
}

impl SignedCheckpoint {
    /// Checks the signature, strictly: no second signature of the same text passes (RFC 8032
    /// section 8.4), nor one of a key of small order.
    ///
    /// # Errors
    /// [`CheckpointError`] if the checkpoint names another key, or this key did not sign it.
    pub fn verify(&self, key: &CheckpointPublicKey) -> Result<(), CheckpointError> {
        if self.checkpoint.key_id != key.key_id() {
            return Err(CheckpointError::OtherKey);
        }
        key.0
            .verify_strict(
                &self.checkpoint.message(),
                &Signature::from_bytes(&self.signature.0),
            )
            .map_err(|_| CheckpointError::Signature)
    }
}

/// Why a checkpoint or its key is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The checkpoint names another key.
    #[error("the checkpoint was signed with another key")]
    OtherKey,
    /// The signature does not fit what the checkpoint says.
    #[error("the checkpoint's signature is not valid")]
    Signature,
    /// Not a public key that can vouch for anything.
    #[error("this is not an Ed25519 public key")]
    PublicKey,
    /// Not the text of a public key.
    #[error(transparent)]
    Hex(#[from] HexError),
}

/// The secret key that signs checkpoints; it lives where the registry's other secrets live. Never
/// in `Debug`, wiped when dropped.
pub struct CheckpointKey(SigningKey);

impl CheckpointKey {
    /// Makes a new key.
    #[must_use]
    pub fn generate(entropy: &mut impl CryptoRng) -> Self {
        let mut seed = [0_u8; 32];
        entropy.fill_bytes(&mut seed);
        let key = Self::from_bytes(&seed);
        seed.zeroize();
        key
    }

    /// Takes a key by the seed that was kept (RFC 8032 section 5.1.5). The caller wipes its copy.
    #[must_use]
    pub fn from_bytes(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, to be kept secret. Its name is meant to be searched for in reviews.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The key that verifies.
    #[must_use]
    pub fn public_key(&self) -> CheckpointPublicKey {
        CheckpointPublicKey(self.0.verifying_key())
    }

    /// Signs that the event `sequence` of this registry has this hash, at `at` (Unix ms). Sign only
    /// what was just verified or written: a signature over a broken trail makes it look whole.
    #[must_use]
    pub fn sign(
        &self,
        registry_id: &str,
        sequence: i64,
        hash: EventHash,
        at: i64,
    ) -> SignedCheckpoint {
        let checkpoint = Checkpoint {
            registry_id: registry_id.to_owned(),
            sequence,
            hash,
            at,
            key_id: self.public_key().key_id(),
        };
        let signature = CheckpointSignature(self.0.sign(&checkpoint.message()).to_bytes());
        SignedCheckpoint {
            checkpoint,
            signature,
        }
    }
}

impl ZeroizeOnDrop for CheckpointKey {}

impl fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckpointKey(redacted)")
    }
}

/// The public key that verifies checkpoints. Its text is 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CheckpointPublicKey(VerifyingKey);

impl CheckpointPublicKey {
    /// Takes a public key.
    ///
    /// # Errors
    /// [`CheckpointError::PublicKey`] if the bytes are no point of the curve, one of small order
    /// (which "signs" nearly everything), or not the one canonical encoding of theirs.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, CheckpointError> {
        match VerifyingKey::from_bytes(bytes) {
            // One key has one encoding, and so one id.
            Ok(key) if !key.is_weak() && key.to_edwards().compress().as_bytes() == bytes => {
                Ok(Self(key))
            }
            _ => Err(CheckpointError::PublicKey),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// How checkpoints name this key: the first 8 bytes of its SHA-256.
    #[must_use]
    pub fn key_id(&self) -> CheckpointKeyId {
        let digest: [u8; 32] = Sha256::digest(self.as_bytes()).into();
        let mut id = [0_u8; 8];
        id.copy_from_slice(&digest[..8]);
        CheckpointKeyId(id)
    }
}

impl FromStr for CheckpointPublicKey {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        Self::from_bytes(&hex_text::parse("a checkpoint's public key", text)?)
    }
}

impl fmt::Display for CheckpointPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex_text::write(self.as_bytes(), f)
    }
}

impl fmt::Debug for CheckpointPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointPublicKey({self})")
    }
}

/// Names a checkpoint key. Its text is 16 lower-case hex digits. A name, not a proof: two keys may
/// be made to share one, so the signature decides.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CheckpointKeyId([u8; 8]);

impl FromStr for CheckpointKeyId {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        hex_text::parse("a checkpoint's key id", text).map(Self)
    }
}

impl fmt::Display for CheckpointKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex_text::write(&self.0, f)
    }
}

impl fmt::Debug for CheckpointKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointKeyId({self})")
    }
}

/// An Ed25519 signature. Its text is 128 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CheckpointSignature([u8; 64]);

impl CheckpointSignature {
    /// Takes a signature as it was stored.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl FromStr for CheckpointSignature {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        hex_text::parse("a checkpoint's signature", text).map(Self)
    }
}

impl fmt::Display for CheckpointSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex_text::write(&self.0, f)
    }
}

impl fmt::Debug for CheckpointSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointSignature({self})")
    }
}
