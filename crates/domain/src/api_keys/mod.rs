//! API keys: a key (stable id, name, scopes) has many secrets (kid, mac, state).
//! Which secret verifies, and until when, is decided here and nowhere else.

pub mod credits;
pub mod delivery;
pub mod digest;
pub mod environment;
pub mod exposure;
pub mod format;
pub mod imports;
pub mod labels;
pub mod lifecycle;
pub mod limits;
pub mod networks;
pub mod origins;
pub mod policy;
pub mod rotation;
pub mod settings;
pub mod verification;

pub use credits::{CreditPlan, CreditState, CreditsError, CreditsExhausted, Refill};
pub use digest::{KeyDigest, KeyMac, Pepper};
pub use environment::{Environment, EnvironmentError, KeyType, Owner, OwnerError, OwnerKind};
pub use exposure::{Found, find_keys, redact};
pub use format::{FormatError, Kid, PlainKey, Prefix, PresentedKey};
pub use imports::{ForeignAlgorithm, ForeignHash, HashRefused, PrefixedToken, PresentedForeignKey};
pub use labels::{Metadata, MetadataError, Note, NoteError, TagError, Tags};
pub use lifecycle::{ApiKey, ApiKeyState, KeyError, NewApiKey, Secret, SecretState};
pub use limits::{Gcra, GcraAnswer, LimitError, RateLimit, RateLimits};
pub use networks::{NetworkError, NetworkList, network_of};
pub use origins::{OriginError, OriginList};
pub use policy::{OverlapClock, Policy, PolicyEnvironment, PolicyError, PolicyViolation};
pub use rotation::{Rotation, RotationRequest, RotationState};
pub use settings::{KeySettings, SettingsError};
pub use verification::{Ask, Facts, Refusal, Verdict};

/// One day in milliseconds.
pub const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Longest life a secret may be given.
pub const MAX_LIFETIME_MS: i64 = 365 * DAY_MS;
/// Shortest life a secret may be given.
pub const MIN_LIFETIME_MS: i64 = DAY_MS;
/// Longest overlap of a rotation.
pub const MAX_OVERLAP_MS: i64 = 30 * DAY_MS;
