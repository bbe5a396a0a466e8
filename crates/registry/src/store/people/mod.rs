//! SQL about people and what acts for them. Rules are the domain's; one statement consumes what may
//! be used once, so that of many parallel uses one wins.

pub(crate) mod clients;
pub(crate) mod codes;
pub(crate) mod credentials;
pub(crate) mod devices;
pub(crate) mod grants;
pub(crate) mod invitations;
pub(crate) mod providers;
pub(crate) mod registration_tokens;
pub(crate) mod requests;
pub(crate) mod retention;
pub(crate) mod roles;
pub(crate) mod sessions;
pub(crate) mod sign_ins;
pub(crate) mod signing_keys;
pub(crate) mod users;

use keywright_domain::people::{OAuthScopes, TokenDigest};

use super::secrets::damaged;
use crate::RegistryError;

fn blob(digest: &TokenDigest) -> Vec<u8> {
    digest.as_bytes().to_vec()
}

fn digest(bytes: &[u8]) -> Result<TokenDigest, RegistryError> {
    TokenDigest::from_slice(bytes).ok_or_else(|| damaged("digest of a token"))
}

fn scopes(text: &str) -> Result<OAuthScopes, RegistryError> {
    OAuthScopes::parse(text).ok_or_else(|| damaged("scopes of a grant"))
}

/// Texts without white space in one text, and back.
fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
