//! Every type that crosses a wire: what a face may ask (`…Request`) and what it may show (`…View`).
//! No secret is in any of them, except [`api_keys::RevealedSecretView`], the one show-once path,
//! and what a person typed or pasted, on its way in.
//!
//! All times are Unix milliseconds, all durations milliseconds, unless the name says otherwise.

pub mod accounts;
pub mod activity;
pub mod api_keys;
pub mod closing;
pub mod error;
pub mod flows;
pub mod notices;
pub mod promotion;
pub mod registries;
pub mod sessions;
pub mod settings;

pub use error::ErrorView;
