//! Signing keys and what they sign. Keys are made here, kept sealed in the registry, published before
//! they sign and until the last token they signed has expired.

mod check;
mod key;
mod keys;

pub use check::{KeyFinding, check_signing_keys};
pub(crate) use key::{Alg, Signer};
pub(crate) use keys::{ACCESS_TYPE, ID_TYPE, KeySet, LOGOUT_TYPE, SigningKeys, TokenProblem};
