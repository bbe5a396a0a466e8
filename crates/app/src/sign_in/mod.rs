//! Signing in with the system's browser: authorization code with PKCE for a native application
//! (RFC 8252, OpenID Connect Core). Protocol words are the RFCs'. Tokens leave this room only
//! towards the keychain and `tokens`.

mod answers;
mod authorization;
mod callback;
mod discovery;
pub mod error;
mod exchange;
mod flow;
mod github;
mod id_token;
mod jwks;
mod loopback;
mod pages;
mod pending;
mod presets;
mod profile;
mod redeem;
mod request;

pub use error::{ReauthReason, SignInError};

pub(crate) use error::tame;

pub(crate) use callback::{Verdict, pasted_query};
pub(crate) use discovery::{Metadata, MetadataCache};
pub(crate) use exchange::{TokenEndpoint, Tokens, is_invalid_grant};
pub(crate) use flow::{SignedIn, run as run_sign_in};
pub(crate) use id_token::{IdTokenContext, verify_id_token};
pub(crate) use jwks::KeyCache;
pub(crate) use pending::{PendingSignIns, new_id};
#[cfg(test)]
pub(crate) use profile::Profile;

pub(crate) use presets::{KEYWRIGHT, PRESETS, Preset, Provider};
