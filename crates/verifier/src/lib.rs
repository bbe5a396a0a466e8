//! Checks access tokens of a Keywright server (or of any issuer that follows RFC 9068 or RFC 7662)
//! in your own service.
//!
//! [`Offline`] checks a token by the issuer's published keys: no request per token, and a token that
//! was revoked is good until it ends. [`Online`] asks the issuer: revocation is seen at once, or
//! after the few seconds that answers are remembered. [`Gate`] puts either of them before any
//! `tower` service. [`ApiKeys`] and [`KeyGate`] do the same for API keys. [`WebSessions`] tells web
//! applications who is signed in. No token or key is ever written to a log or into an error.

mod access_token;
mod api_keys;
#[cfg(feature = "axum")]
mod axum;
mod cache;
mod claims;
mod clock;
mod error;
mod fetch;
mod gate;
mod introspection;
mod issuer;
mod jwk;
mod jwks;
mod jws;
mod metadata;
mod strict_json;
mod web_session;

#[cfg(test)]
mod tests;

pub use self::access_token::Offline;
pub use self::api_keys::{
    ApiKeys, ClientAddress, KeyError, KeyGate, KeyGated, KeyLimit, KeyMemory, KeyRequest,
    VerifiedKey,
};
#[cfg(feature = "axum")]
pub use self::axum::{ApiKey, Authorized};
pub use self::claims::Claims;
pub use self::error::{SetupError, TokenError};
pub use self::gate::{Check, Gate, Gated, Refusal};
pub use self::introspection::Online;
pub use self::web_session::{CsrfToken, WebSession, WebSessionError, WebSessions, WebUser};
