//! API keys: a key (stable id, name, scopes) has many secrets (kid, mac, state).
//! Which secret verifies, and until when, is decided here and nowhere else.

pub mod digest;
pub mod format;
pub mod lifecycle;
pub mod rotation;
pub mod verification;

pub use digest::{KeyDigest, KeyMac, Pepper};
pub use format::{FormatError, Kid, PlainKey, Prefix};
pub use lifecycle::{ApiKey, ApiKeyState, KeyError, NewApiKey, Secret, SecretState};
pub use rotation::RotationRequest;
pub use verification::{Refusal, Verdict};

/// One day in milliseconds.
pub const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Longest life a secret may be given.
pub const MAX_LIFETIME_MS: i64 = 365 * DAY_MS;
/// Shortest life a secret may be given.
pub const MIN_LIFETIME_MS: i64 = DAY_MS;
/// Longest overlap of a rotation.
pub const MAX_OVERLAP_MS: i64 = 30 * DAY_MS;
