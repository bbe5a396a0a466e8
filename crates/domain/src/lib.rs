//! The rules of Keywright: keys, secrets, rotation, scopes, tokens.
//!
//! This room has no IO, no async, no clock, no randomness of its own and no serde: time and
//! entropy are passed in, and nothing here can fail for outside reasons.

pub mod accounts;
pub mod api_keys;
pub mod audit;
pub mod audit_chain;
pub mod base62;
pub mod flows;
pub mod id_token;
pub mod issuer;
pub mod people;
pub mod pkce;
pub mod schedules;
pub mod scopes;
pub mod secret_text;

pub use secret_text::SecretText;
