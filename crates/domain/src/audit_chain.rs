//! The hash chain of the audit trail: each event's hash covers the event and the hash before it,
//! and signed checkpoints vouch for the hashes. Pure rules; rows, files and clocks are elsewhere.
//!
//! What this proves. A change, removal or addition in the middle breaks the chain at a sequence
//! that [`ChainVerifier`] names. The hashes hold no secret: someone who may write the whole trail
//! can compute them anew, and can cut its end. Only a [`SignedCheckpoint`] whose key the verifier
//! trusts shows that; what comes after the last checkpoint is linked, but nothing vouches for it.

mod checkpoint;
mod hex_text;
#[cfg(test)]
mod tests;
mod verdict;
mod verifier;

use core::fmt;
use core::str::FromStr;

use sha2::{Digest, Sha256};

pub use checkpoint::{
    Checkpoint, CheckpointError, CheckpointKey, CheckpointKeyId, CheckpointPublicKey,
    CheckpointSignature, SignedCheckpoint,
};
pub use hex_text::HexError;
pub use verdict::{Fault, Verdict};
pub use verifier::ChainVerifier;

/// Begins what is hashed for an event. Another encoding gets another version, never this one's.
const EVENT_TAG: &[u8] = b"keywright/audit-event/v1\0";

/// One event as it is stored, borrowed. None of its fields holds a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainedEvent<'event> {
    /// Position, from 1, without gaps.
    pub sequence: i64,
    /// Unix ms.
    pub at: i64,
    /// For example `api_key.issued`.
    pub action: &'event str,
    /// Who.
    pub actor: &'event str,
    /// `api_key`, `account`, `scope` or `registry`.
    pub target_kind: &'event str,
    /// Its id.
    pub target_id: &'event str,
    /// Its name when it happened.
    pub target_name: &'event str,
    /// One sentence.
    pub summary: &'event str,
    /// The stored JSON text, byte for byte: hashed as text, never parsed and written anew.
    pub details: &'event str,
}

/// SHA-256 over an event and the hash before it. Public; its text is 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventHash([u8; 32]);

impl EventHash {
    /// What stands before event 1: SHA-256 of `keywright/audit-genesis/v1` and a zero byte. Not all
    /// zeros, so that a hash column nobody filled cannot pass for a beginning.
    pub const GENESIS: Self = Self([
        164, 169, 98, 196, 17, 187, 0, 190, 214, 254, 230, 116, 111, 65, 162, 148, 107, 174, 138,
        5, 251, 162, 211, 84, 72, 80, 255, 27, 78, 150, 160, 22,
    ]);

    /// Takes a hash as it was stored.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for EventHash {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        hex_text::parse("an event hash", text).map(Self)
    }
}

impl fmt::Display for EventHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex_text::write(&self.0, f)
    }
}

impl fmt::Debug for EventHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventHash({self})")
    }
}

/// The hash of an event that stands after `previous` ([`EventHash::GENESIS`] before event 1).
///
/// SHA-256 over, in this order: the tag `keywright/audit-event/v1` and a zero byte; the 32 bytes of
/// `previous`; `sequence` and `at` as 8 bytes each, big-endian; then action, actor, target kind,
/// target id, target name, summary and details, each as its length in bytes (8 bytes, big-endian)
/// and its UTF-8. Every part has a fixed or a written length, so no two events encode alike.
#[must_use]
pub fn hash(previous: &EventHash, event: &ChainedEvent<'_>) -> EventHash {
    let mut digest = Sha256::new();
    digest.update(EVENT_TAG);
    digest.update(previous.0);
    digest.update(event.sequence.to_be_bytes());
    digest.update(event.at.to_be_bytes());
    for text in [
        event.action,
        event.actor,
        event.target_kind,
        event.target_id,
        event.target_name,
        event.summary,
        event.details,
    ] {
        digest.update(length_of(text));
        digest.update(text);
    }
    EventHash(digest.finalize().into())
}

/// Length in bytes, as 8 bytes on every machine.
fn length_of(text: &str) -> [u8; 8] {
    (text.len() as u64).to_be_bytes()
}
