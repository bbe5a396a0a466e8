//! Signed tokens that others made, for every face that has to believe one: strict JSON, the compact
//! form, published keys, a provider's metadata, ID tokens.
//!
//! This room has no IO and no clock: fetching keys and knowing the time are the caller's. What claims
//! must say is `domain`'s. `verifier` keeps its own copy of the form, since it is for other people's
//! services and depends on none of our rooms.

pub mod compact;
pub mod id_token;
pub mod jwk;
pub mod keys;
pub mod metadata;
pub mod numeric_date;
pub mod strict_json;

pub use compact::Compact;
pub use id_token::{UncheckedIdToken, VerifiedIdToken};
pub use keys::{VerificationKey, choose_key, read_keys};
pub use metadata::{MetadataProblem, ProviderMetadata};
