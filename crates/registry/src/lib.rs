//! The system of record: API keys, scopes, principals, accounts and their audit, in one SQLite file
//! or a PostgreSQL database. One method = one transaction = one audit row. SQL lives in `store/` and
//! nowhere else; this room has no network of its own, no keychain and no face.

mod accounts;
mod alerts;
mod api_keys;
mod audit;
pub mod audit_export;
mod audit_trail;
mod board;
mod bulk;
mod campaigns;
mod changes;
mod conditions;
mod ended_again;
mod error;
mod flush;
mod found_keys;
mod freshness;
mod idempotency;
mod insight;
mod later;
mod limits;
mod listing;
mod lost_peppers;
mod narrowing;
mod nodes;
mod open;
pub mod outbox;
pub mod people;
mod peppers;
mod policies;
mod pool;
mod portable;
mod principals;
mod reader;
mod remembered;
mod retention;
mod rotation;
mod rotations;
mod schedules;
mod scopes;
mod search;
mod store;
mod uses;
mod verification;
mod watching;
mod writer;

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

pub use alerts::{Alert, AlertPage, AlertQuery};
pub use api_keys::{
    ApiKeyChange, ApiKeyCounts, ApiKeyFilter, ApiKeyOrder, ApiKeyPage, ApiKeyQuery, ApiKeySummary,
    ApiKeyTotal, ClientSecret, Issued, LOCAL_PRINCIPAL, StateFilter,
};
pub use audit::{AuditEvent, AuditPage, AuditQuery, SubjectFilter};
pub use audit_trail::AuditCheck;
pub use board::{BoardKind, BoardNotice, BoardQuery, BoardReader};
pub use bulk::{BulkFailure, BulkOperation, BulkProblem, BulkProgress, BulkState, NewBulk};
pub use campaigns::{
    Answer, Answered, Campaign, CampaignFilter, CampaignProgress, Candidate, MOST_QUESTIONS,
    NewCampaign, Question, QuestionQuery, QuestionState, Told, Unanswered, UntoldQuestions,
    asked_event,
};
pub use changes::{Change, ChangedSubject, Changes};
pub use conditions::{Conditions, Seen, Thing};
pub use ended_again::{EndedAgain, NotEnded};
pub use error::RegistryError;
pub use idempotency::{
    Claim, ClaimedRequest, IdempotencyKey, IssuedOnce, RotatedOnce, RotationWish,
};
pub use insight::CallerIdentity;
pub use insight::hygiene::{
    HygieneCount, HygieneCounts, HygieneFinding, HygieneItem, HygienePage, HygieneQuery,
    HygieneRules, ScopeProposal,
};
pub use insight::preview::{Preview, PreviewEffect, PreviewLine, ProposedChange};
pub use insight::stragglers::{LateCaller, OverlapWarning, Progress, Straggler, Stragglers, Trend};
pub use keywright_index::LimitAnswer;
pub use later::{LaterAnswer, LaterRequest};
pub use limits::{LimitAsk, LimitWord, LimitsAnswer, SharedLimits};
pub use narrowing::NarrowScopes;
pub use nodes::{Node, NodeReceipt, NodeStatistics, RECEIPT_BOUND, Receipt};
pub use open::{Clock, Place};
pub use peppers::{PepperKey, PepperUse, Peppers};
pub use portable::{
    AcceptOptions, AcceptReport, BackupError, BackupManifest, Escrow, EscrowError, ExportSummary,
    Import, ImportError, ImportFormat, ImportOptions, ImportReport, ImportedKey, MAX_ARCHIVE,
    MAX_IMPORT_BYTES, MIN_PASSPHRASE, PromotionBundle, PromotionError, PromotionRefused,
    RefusedLine, RegistryExportError, RestoreReport, TransferIdentity, TransferRecipient,
    moved_pepper_id, open_archive, open_escrow, open_transfer, seal_archive, seal_escrow,
};
pub use principals::{NewOwner, Principal, PrincipalChange};
pub use retention::{RetentionPolicy, RetentionReport};
pub use rotation::RotationStep;
pub use schedules::KeySchedule;
pub use schedules::deliveries::{AfterFailure, Delivery, DeliveryOutcome};
pub use schedules::notices::{Notice, NoticeSubject};
pub use schedules::run::{ScheduleRun, ScheduleWork};
pub use store::postgres::{PostgresTransport, postgres_transport};
pub use uses::{AlertKind, Caller, OTHER_CALLERS, UseStatistics};
pub use verification::{IdText, Verification, VerifyRequest};
pub use watching::{ConnectionStatistics, Waits};

/// A registry: the one of this device, or one that nodes of a server share. Cheap to clone; all
/// clones share one pool and one index.
#[derive(Clone, Debug)]
pub struct LocalRegistry {
    shared: Arc<Shared>,
    /// Of the one write that this handle is for; see [`LocalRegistry::under`].
    conditions: Option<Arc<conditions::ForOneWrite>>,
}

#[derive(Debug)]
struct Shared {
    place: Place,
    kind: store::Kind,
    pool: pool::Pool,
    clock: Clock,
    writer: writer::Writer,
    /// The writer's own connection.
    kept: tokio::sync::Mutex<writer::Kept>,
    reader: reader::Reader,
    remembered: remembered::Remembered,
    client_tokens: people::client_tokens::ClientTokens,
    index: keywright_index::Index,
    freshness: freshness::Freshness,
    throttle: keywright_index::FailureThrottle,
    /// Wrong secrets of kids that are there, from places that are throttled already.
    guesses: keywright_index::FailureThrottle,
    uses: uses::UseRecorder,
    /// Kids whose rows are being stored under a newer pepper.
    rewrites: Mutex<HashSet<String>>,
    /// Counts by state that took long.
    counts: Mutex<Option<listing::KnownCounts>>,
    /// How common the trigrams of keys' texts were, and when that was looked at.
    common: Mutex<Option<(std::time::Instant, std::sync::Arc<store::search::Common>)>>,
    /// When the ages of all keys were looked at here, in Unix ms, and by which policies.
    aged: Mutex<Option<(i64, Vec<keywright_domain::api_keys::Policy>)>>,
    nodes: nodes::Nodes,
    /// Where rate limits are counted for all nodes together, if anywhere.
    limits: limits::Limits,
    /// Places for exports: each has a connection for as long as its reader takes.
    exports: tokio::sync::Semaphore,
    flushing: flush::Flushing,
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

    /// Does work in the background that asks the registry, unless the database falls silent meanwhile:
    /// then its connections are given up, and what waited on one would wait for many minutes.
    ///
    /// # Errors
    /// [`RegistryError::Store`] when that happened.
    pub async fn while_reachable<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, RegistryError> {
        self.shared.pool.while_reachable(work).await
    }
}
