//! The issuer's metadata (OpenID Connect Discovery, RFC 8414): where its keys are and where it is
//! asked. Its own name must be, byte for byte, the one that was configured.

use std::sync::{Arc, Mutex, PoisonError};

use crate::fetch::{Fetch, NoAnswer};
use crate::issuer::{Issuer, Metadata};

/// Metadata, read once and again after [`Discovery::forget`].
#[derive(Debug)]
pub(crate) struct Discovery {
    pub(crate) issuer: Issuer,
    pub(crate) fetch: Fetch,
    known: Mutex<Option<Arc<Metadata>>>,
}

impl Discovery {
    /// Nothing read yet.
    pub(crate) fn new(issuer: Issuer, fetch: Fetch) -> Self {
        Self {
            issuer,
            fetch,
            known: Mutex::new(None),
        }
    }

    /// The metadata, fetched where they are not known.
    pub(crate) async fn find(&self) -> Result<Arc<Metadata>, NoAnswer> {
        if let Some(known) = self.known().clone() {
            return Ok(known);
        }
        let url = self
            .issuer
            .discovery_url()
            .ok_or("the issuer has no address for its metadata")?;
        let document = self.fetch.get(&url).await?;
        let metadata = self.issuer.metadata(&document);
        let metadata = Arc::new(metadata.ok_or("its metadata are of another issuer")?);
        *self.known() = Some(Arc::clone(&metadata));
        Ok(metadata)
    }

    /// Something named there did not answer: it may have moved.
    pub(crate) fn forget(&self) {
        *self.known() = None;
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<Arc<Metadata>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
