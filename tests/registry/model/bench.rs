//! One database, two registries over it, a clock, and a stranger who reads the rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context, Result, ensure};
use keywright_domain::audit_chain::{ChainVerifier, ChainedEvent, EventHash, Verdict};
use keywright_registry::{Clock, LocalRegistry};
use sqlx::{AnyConnection, Connection};
use tokio::sync::Mutex;

use super::super::{Kind, pepper};
use crate::support::postgres::Database;

pub(super) struct Bench {
    pub(super) kind: Kind,
    pub(super) nodes: [LocalRegistry; 2],
    /// In a lock so that the bench may be borrowed across tasks.
    pub(super) stranger: Mutex<AnyConnection>,
    clock: Arc<AtomicI64>,
    folder: tempfile::TempDir,
    database: Option<Database>,
}

/// In memory where there is such a folder: what is tested here is not the disk.
pub(crate) fn folder() -> Result<tempfile::TempDir> {
    Ok(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?)
}

impl Bench {
    pub(super) async fn new(kind: Kind, now: i64) -> Result<Self> {
        let folder = folder()?;
        let database = match kind {
            Kind::Sqlite => None,
            Kind::Postgres => Some(Database::create().await?),
        };
        let clock = Arc::new(AtomicI64::new(now));
        let file = folder.path().join("registry.db");
        let url = match &database {
            None => format!("sqlite://{}", file.display()),
            Some(database) => database.url().to_owned(),
        };
        let first = open(&file, database.as_ref(), &clock).await?;
        let second = open(&file, database.as_ref(), &clock).await?;
        let actor = keywright_domain::audit::Actor::person("tester");
        first.adopt_pepper(&actor, "pepper-1").await?;
        sqlx::any::install_default_drivers();
        let stranger = AnyConnection::connect(&url)
            .await
            .context("a connection of its own")?;
        Ok(Self {
            kind,
            nodes: [first, second],
            stranger: Mutex::new(stranger),
            clock,
            folder,
            database,
        })
    }

    pub(super) fn peppers() -> keywright_registry::Peppers {
        keywright_registry::Peppers::new(pepper("pepper-1", 7))
    }

    pub(super) fn set_clock(&self, now: i64) {
        self.clock.store(now, Ordering::SeqCst);
    }

    pub(super) async fn reopen(&mut self, node: usize) -> Result<()> {
        self.nodes[node].close().await;
        let file = self.folder.path().join("registry.db");
        self.nodes[node] = open(&file, self.database.as_ref(), &self.clock).await?;
        Ok(())
    }

    /// Newest event and newest change.
    pub(super) async fn heads(&mut self) -> Result<(i64, i64)> {
        Ok(
            sqlx::query_as("SELECT audit_sequence, change_version FROM heads WHERE id = 1")
                .fetch_one(self.stranger.get_mut())
                .await?,
        )
    }

    /// The whole trail, from its first event.
    pub(super) async fn check_chain(&mut self) -> Result<()> {
        check_chain(self.stranger.get_mut()).await
    }

    pub(super) async fn close(self) -> Result<()> {
        for node in &self.nodes {
            node.close().await;
        }
        self.stranger.into_inner().close().await?;
        match self.database {
            Some(database) => database.close().await,
            None => Ok(()),
        }
    }
}

/// The trail is whole, from its first event to the one that the head names.
pub(crate) async fn check_chain(connection: &mut AnyConnection) -> Result<()> {
    type Row = (
        i64,
        i64,
        String,
        String,
        String,
        String,
        String,
        String,
        String,
        Vec<u8>,
    );
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT sequence, at, action, actor, target_kind, target_id, target_name, summary, details, hash \
         FROM audit_events ORDER BY sequence",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut verifier = ChainVerifier::from_genesis("", &[]);
    for row in &rows {
        let event = ChainedEvent {
            sequence: row.0,
            at: row.1,
            action: &row.2,
            actor: &row.3,
            target_kind: &row.4,
            target_id: &row.5,
            target_name: &row.6,
            summary: &row.7,
            details: &row.8,
        };
        let hash = row.9.as_slice().try_into().context("a hash of 32 bytes")?;
        verifier.event(&event, &EventHash::from_bytes(hash));
    }
    let (newest, hash): (i64, Vec<u8>) =
        sqlx::query_as("SELECT audit_sequence, audit_hash FROM heads WHERE id = 1")
            .fetch_one(&mut *connection)
            .await?;
    verifier.expect_through(newest);
    match verifier.finish() {
        Verdict::Intact {
            last, hash: found, ..
        } => {
            ensure!(last.unwrap_or(0) == newest, "{last:?} and not {newest}");
            ensure!(
                found.as_bytes().as_slice() == hash,
                "the head has another hash"
            );
        }
        broken => anyhow::bail!("the trail is broken: {broken:?}"),
    }
    let changes: (i64, i64, i64) = sqlx::query_as(
        "SELECT COUNT(*), COALESCE(MAX(version), 0), COALESCE(MIN(version), 1) FROM changes",
    )
    .fetch_one(connection)
    .await?;
    ensure!(
        changes.0 == changes.1 - changes.2 + 1,
        "the log of changes has a gap: {changes:?}"
    );
    Ok(())
}

async fn open(
    file: &std::path::Path,
    database: Option<&Database>,
    clock: &Arc<AtomicI64>,
) -> Result<LocalRegistry> {
    let clock = Arc::clone(clock);
    let clock = Clock::from_fn(move || clock.load(Ordering::SeqCst));
    Ok(match database {
        None => LocalRegistry::open(file, clock).await?,
        Some(database) => LocalRegistry::open_postgres(database.url(), clock).await?,
    })
}
