//! The system of record: API keys, scopes, accounts and their audit, in one SQLite file.
//! One method = one transaction = one audit row. SQL lives in `store/` and nowhere else;
//! this room has no network, no keychain and no face.

mod accounts;
mod api_keys;
mod audit;
pub mod audit_export;
mod error;
mod listing;
mod open;
mod scopes;
mod store;
mod uses;
mod verification;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use api_keys::{
    ApiKeyCounts, ApiKeyFilter, ApiKeyOrder, ApiKeyPage, ApiKeyQuery, ApiKeySummary, Issued,
    PepperKey, StateFilter,
};
pub use audit::{AuditEvent, AuditPage, AuditQuery, SubjectFilter};
pub use error::RegistryError;
pub use open::Clock;
pub use verification::Verification;

use sqlx::Any;
use sqlx::pool::PoolConnection;
use tokio::sync::Mutex;

/// The registry of this device. Cheap to clone; all clones share one pool.
#[derive(Clone, Debug)]
pub struct LocalRegistry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    pool: sqlx::AnyPool,
    clock: Clock,
    /// One writer at a time inside this process, so that none of them spins on SQLite's lock.
    writer: Mutex<()>,
    /// Held by verifications: a checkout from the pool costs more than their one read.
    reader: Mutex<Option<PoolConnection<Any>>>,
    uses: uses::UseRecorder,
}

impl LocalRegistry {
    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    fn now(&self) -> i64 {
        self.shared.clock.now()
    }
}
