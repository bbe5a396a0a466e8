//! A registry on a Keywright server: the same keys, the same rules and the same codes as the one of
//! this device, over HTTP. Secrets are made here: of a new key only its kid and digest are sent.
//!
//! While the server cannot be asked, reads answer what it said last, with the time of that
//! ([`Known`]); changes are refused (`registry_offline`), and revocations wait in a file until it is
//! back ([`queue`]).

mod any;
mod call;
mod changes;
mod error;
mod insight;
mod kept;
mod keys;
mod promotion;
mod queue;
mod schedules;
mod slot;
mod verify;
mod wire;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use keywright_domain::issuer::Issuer;
use url::Url;

pub use call::Credentials;
pub use error::RemoteError;

pub(crate) use any::AnyRegistry;
pub(crate) use error::is_offline;
pub(crate) use slot::RemoteSlots;

use kept::Kept;

use crate::AppError;
use crate::http::HttpClient;
use crate::sign_in::SignInError;

/// Something that was read: as it is, or as it was when the server answered last.
#[derive(Clone, Debug)]
pub struct Known<T> {
    /// What.
    pub value: T,
    /// Unix ms of the last answer, where there was none now; none for what is fresh.
    pub as_of: Option<i64>,
}

impl<T> Known<T> {
    /// The same with another value.
    pub(crate) fn with<U>(self, change: impl FnOnce(T) -> U) -> Known<U> {
        Known {
            value: change(self.value),
            as_of: self.as_of,
        }
    }

    pub(crate) fn fresh(value: T) -> Self {
        Self { value, as_of: None }
    }
}

/// A registry on a server, asked with somebody's credentials. Cheap to clone.
#[derive(Clone)]
pub struct RemoteRegistry<C> {
    credentials: C,
    http: HttpClient,
    /// `{issuer}/api/v1`.
    base: Url,
    /// For errors: scheme and authority.
    host: String,
    kept: Arc<Kept>,
}

impl<C> std::fmt::Debug for RemoteRegistry<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteRegistry")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl<C: Credentials> RemoteRegistry<C> {
    /// The registry of a server, by its issuer; nothing is asked yet. Certificates of `extra_ca` (PEM)
    /// are trusted besides the system's.
    ///
    /// # Errors
    /// `invalid_issuer`; `insecure_endpoint` for plain http to another machine; `extra_ca_invalid`.
    pub fn new(issuer: &str, extra_ca: Option<&Path>, credentials: C) -> Result<Self, AppError> {
        let http = HttpClient::new(extra_ca).map_err(SignInError::from)?;
        Self::over(issuer, http, Arc::new(Kept::new(None)), credentials)
    }

    pub(crate) fn over(
        issuer: &str,
        http: HttpClient,
        kept: Arc<Kept>,
        credentials: C,
    ) -> Result<Self, AppError> {
        // The same check as for a sign-in.
        let checked = Issuer::parse(issuer).map_err(SignInError::InvalidIssuer)?;
        let checked = checked.as_str().trim_end_matches('/');
        let base = Url::parse(&format!("{checked}/api/v1"))
            .map_err(|_| RemoteError::NotKeywright(checked.to_owned()))?;
        Ok(Self {
            credentials,
            http,
            host: base.origin().ascii_serialization(),
            base,
            kept,
        })
    }

    /// What is kept of it.
    pub(crate) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Where it is.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }
}
