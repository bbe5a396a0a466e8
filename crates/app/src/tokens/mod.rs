//! Tokens of signed-in accounts while the app runs. Access tokens are in memory only; refresh
//! tokens are in the keychain, and here just while they are on their way.

mod lock;
mod refresh;
mod schedule;
mod sessions;

#[cfg(test)]
mod tests;

pub(crate) use lock::RefreshLock;
pub(crate) use refresh::{
    client_secret_entry, provider_of, refresh_entry, refresh_for_a_call, refresh_now,
};
pub(crate) use schedule::keep_fresh;
pub(crate) use sessions::{Session, Sessions, TokenLife, Trouble};

use std::fmt;

use keywright_domain::SecretText;

/// An access token. Never parsed, logged, stored or put into an address.
#[derive(Clone)]
pub(crate) struct AccessToken(SecretText);

impl AccessToken {
    pub(crate) fn new(token: SecretText) -> Self {
        Self(token)
    }

    pub(crate) fn secret(&self) -> &SecretText {
        &self.0
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(redacted)")
    }
}
