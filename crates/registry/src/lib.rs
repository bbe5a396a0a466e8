//! The system of record: API keys, scopes, principals, accounts and their audit, in one SQLite file
//! or a PostgreSQL database. One method = one transaction = one audit row. SQL lives in `store/` and
//! nowhere else; this room has no network of its own, no keychain and no face.

mod accounts;
mod api_keys;
mod audit;
pub mod audit_export;
mod audit_trail;
mod error;
mod flush;
mod freshness;
mod listing;
mod open;
pub mod people;
mod peppers;
mod policies;
mod principals;
mod reader;
mod rotation;
mod scopes;
mod store;
mod uses;
mod verification;
mod writer;

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

pub use api_keys::{
    ApiKeyChange, ApiKeyCounts, ApiKeyFilter, ApiKeyOrder, ApiKeyPage, ApiKeyQuery, ApiKeySummary,
    ClientSecret, Issued, LOCAL_PRINCIPAL, StateFilter,
};
pub use audit::{AuditEvent, AuditPage, AuditQuery, SubjectFilter};
pub use error::RegistryError;
pub use open::{Clock, Place};
pub use peppers::{PepperKey, PepperUse, Peppers};
pub use principals::{Principal, PrincipalChange};
pub use rotation::RotationStep;
pub use uses::{AlertKind, Caller, UseStatistics};
pub use verification::{Verification, VerifyRequest};

/// A registry: the one of this device, or one that nodes of a server share. Cheap to clone; all
/// clones share one pool and one index.
#[derive(Clone, Debug)]
pub struct LocalRegistry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    place: Place,
    kind: store::Kind,
    pool: sqlx::AnyPool,
    clock: Clock,
    writer: writer::Writer,
    reader: reader::Reader,
    index: keywright_index::Index,
    freshness: freshness::Freshness,
    throttle: keywright_index::FailureThrottle,
    uses: uses::UseRecorder,
    /// Kids whose rows are being stored under a newer pepper.
    rewrites: Mutex<HashSet<String>>,
}

impl LocalRegistry {
    /// Where the file is; none for a database elsewhere.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.shared.place {
            Place::File(path) => Some(path),
            Place::Postgres(_) => None,
        }
    }

    fn now(&self) -> i64 {
        self.shared.clock.now()
    }
}
