//! Several nodes over one PostgreSQL database: who is there, who has read what, and that a change
//! which takes something away reaches the others at once.
//!
//! What holds without any of this: memory is trusted for 0.9 s after the log of changes was read
//! (`freshness`). A node trusts its memory only while its row here is fresh as well, so that whoever
//! asks which nodes have read a change misses none that could still answer from before it.

pub(crate) mod jobs;
mod listen;
mod receipts;
pub(crate) mod used;
pub(crate) mod wakes;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use keywright_domain::base62::random_id;
use sqlx::AnyConnection;
use tokio::sync::watch;

pub use self::receipts::{NodeReceipt, RECEIPT_BOUND, Receipt};
use self::wakes::Wake;
use crate::store::Kind;
use crate::writer::Subject;
use crate::{LocalRegistry, RegistryError, Shared, freshness, store};

/// How often a node says that it is there.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// A node whose row is older cannot trust its memory: it confirms both at least every two seconds.
/// The rest is room for a database whose clock is put forward.
const LIVE_MS: i64 = 5000;
/// So many groups of changes are remembered, for their receipts.
const COMMITS: usize = 4096;
/// So long a node's name is at most.
const LONGEST_NAME: usize = 100;

/// What a process knows of itself as a node, and of what it committed.
#[derive(Debug)]
pub(crate) struct Nodes {
    me: OnceLock<Me>,
    /// When the row was last written, on the clock of [`freshness::moment`]; none before.
    beat_at: Mutex<Option<Duration>>,
    /// This clock ahead of the database's (ms).
    skew_ms: AtomicI64,
    measured: AtomicBool,
    listening: AtomicBool,
    /// How often the connection that listens was lost.
    lost: AtomicU64,
    /// Hints that were heard.
    heard: AtomicU64,
    commits: Mutex<VecDeque<Commit>>,
    board: receipts::Board,
    /// Counts up when somebody's access ended early, here or elsewhere.
    denials: watch::Sender<u64>,
    /// True from when the registry closes.
    stop: watch::Sender<bool>,
}

#[derive(Debug)]
struct Me {
    id: String,
    name: String,
    /// Unix ms.
    since: i64,
}

/// Changes of one group of ours.
#[derive(Clone, Debug)]
struct Commit {
    first: i64,
    last: i64,
    /// Right after the database answered.
    at: Instant,
    /// The same, Unix ms.
    at_ms: i64,
    /// Until our own memory had them.
    own_after: Duration,
    /// Which nodes were seen to have them, and after how long.
    seen: Vec<(String, Duration)>,
}

/// What a node knows of itself and of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeStatistics {
    /// Whether hints of other nodes' changes are listened for. Without them changes are seen at the
    /// next look at the log.
    pub listening: bool,
    /// How often that connection was lost.
    pub lost: u64,
    /// Hints that were heard.
    pub heard: u64,
    /// How far this clock is ahead of the database's (ms); none before the first comparison, and for
    /// a file, which has none.
    pub clock_skew_ms: Option<i64>,
}

/// A node, as the others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id, new with each start.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it started (Unix ms, by the database's clock).
    pub started_at: i64,
    /// When it last said that it is there (the same).
    pub heartbeat_at: i64,
    /// The newest change that it has in its memory.
    pub applied: i64,
    /// Whether it was heard of within five seconds: receipts count it.
    pub is_there: bool,
    /// Whether it is this process.
    pub is_this: bool,
}

/// More than anybody runs.
const MOST_NODES: i64 = 1000;

impl Nodes {
    pub(crate) fn new() -> Self {
        Self {
            me: OnceLock::new(),
            beat_at: Mutex::default(),
            skew_ms: AtomicI64::new(0),
            measured: AtomicBool::new(false),
            listening: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            commits: Mutex::default(),
            board: receipts::Board::default(),
            denials: watch::Sender::new(0),
            stop: watch::Sender::new(false),
        }
    }

    /// Keeps what receipts of these changes need.
    pub(crate) fn committed(&self, changes: &[(i64, Subject)], at: Instant, at_ms: i64) {
        let (Some((first, _)), Some((last, _))) = (changes.first(), changes.last()) else {
            return;
        };
        if self.me.get().is_none() {
            return;
        }
        let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        if commits.len() >= COMMITS {
            commits.pop_front();
        }
        commits.push_back(Commit {
            first: *first,
            last: *last,
            at,
            at_ms,
            own_after: at.elapsed(),
            seen: Vec::new(),
        });
    }

    /// Forgets them: their numbers are given anew.
    pub(crate) fn forget_commits(&self) {
        let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        commits.clear();
    }

    /// Whether this process wrote a change itself: its memory had it before anybody was told.
    fn is_own(&self, version: i64) -> bool {
        let commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        commits
            .iter()
            .rev()
            .take(64)
            .any(|commit| (commit.first..=commit.last).contains(&version))
    }

    /// Wakes who looks after denials in this process.
    fn heard_denials(&self) {
        self.denials.send_modify(|count| *count += 1);
    }

    fn hear(&self, wake: Wake) {
        self.heard.fetch_add(1, Ordering::Relaxed);
        if wake.denials {
            self.heard_denials();
        }
    }
}

/// Writes this node's row, where it is one and the last time was a second ago. Part of every reading
/// of the log that memory's lease is renewed by.
pub(crate) async fn beat(
    shared: &Shared,
    connection: &mut AnyConnection,
    applied: i64,
) -> Result<(), RegistryError> {
    let nodes = &shared.nodes;
    let Some(me) = nodes.me.get().filter(|_| shared.kind == Kind::Postgres) else {
        return Ok(());
    };
    let begun = freshness::moment();
    let last = *nodes.beat_at.lock().unwrap_or_else(PoisonError::into_inner);
    if last.is_some_and(|last| begun.saturating_sub(last) < BEAT_EVERY) {
        return Ok(());
    }
    let before = shared.clock.now();
    let database = match store::nodes::beat(connection, &me.id, &me.name, applied).await {
        Ok(now) => now,
        // Nobody can write, so nobody can revoke either: there is nothing to be missed.
        Err(error @ (RegistryError::ReadOnly | RegistryError::DiskFull)) => {
            tracing::warn!(
                code = error.code(),
                "this node cannot say that it is there: the database takes no writes"
            );
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let after = shared.clock.now();
    let middle = before.saturating_add(after.saturating_sub(before) / 2);
    nodes
        .skew_ms
        .store(middle.saturating_sub(database), Ordering::Relaxed);
    nodes.measured.store(true, Ordering::Release);
    *nodes.beat_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
    Ok(())
}

impl LocalRegistry {
    /// Makes this process one of the nodes that serve from this database, before it serves: its row
    /// is kept fresh, it hears of what others commit, and receipts count it. `name` is for people.
    /// Returns its id, which is new with each start. A second call changes nothing.
    ///
    /// # Errors
    /// [`RegistryError`] if the database cannot be written.
    pub async fn join_nodes(&self, name: &str) -> Result<String, RegistryError> {
        let shared = &self.shared;
        let mut is_new = false;
        let me = shared.nodes.me.get_or_init(|| {
            is_new = true;
            Me {
                id: random_id(&mut rand::rng()),
                name: name.chars().take(LONGEST_NAME).collect(),
                since: shared.clock.now(),
            }
        });
        if is_new && let crate::Place::Postgres(address) = &shared.place {
            let mut connection = shared.pool.acquire().await?;
            store::nodes::forget_gone(&mut connection).await?;
            freshness::catch_up_on(shared, &mut connection).await?;
            drop(connection);
            // From the first receipt on it is known who was there.
            shared.nodes.board.read(shared, BEAT_EVERY * 5).await?;
            listen::start(shared, address.clone());
        }
        Ok(me.id.clone())
    }

    /// The nodes that serve from this database, by name; one that is gone is told for about a minute. Over a file
    /// it is this process, if it is one.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn list_nodes(&self) -> Result<Vec<Node>, RegistryError> {
        let shared = &self.shared;
        let Some(me) = shared.nodes.me.get() else {
            return Ok(Vec::new());
        };
        if !self.is_shared() {
            return Ok(vec![Node {
                id: me.id.clone(),
                name: me.name.clone(),
                started_at: me.since,
                heartbeat_at: shared.clock.now(),
                applied: freshness::seen(shared),
                is_there: true,
                is_this: true,
            }]);
        }
        let mut connection = shared.pool.acquire().await?;
        let rows = store::nodes::all(&mut connection, MOST_NODES).await?;
        let nodes = rows.into_iter().map(|row| Node {
            is_there: row.now.saturating_sub(row.heartbeat_at) < LIVE_MS,
            is_this: row.id == me.id,
            id: row.id,
            name: row.name,
            started_at: row.started_at,
            heartbeat_at: row.heartbeat_at,
            applied: row.applied,
        });
        Ok(nodes.collect())
    }

    /// This node's id, if it is one.
    #[must_use]
    pub fn node_id(&self) -> Option<&str> {
        self.shared.nodes.me.get().map(|me| me.id.as_str())
    }

    /// What this node knows of itself.
    #[must_use]
    pub fn node_statistics(&self) -> NodeStatistics {
        let nodes = &self.shared.nodes;
        let measured = nodes.measured.load(Ordering::Acquire);
        NodeStatistics {
            listening: nodes.listening.load(Ordering::Relaxed),
            lost: nodes.lost.load(Ordering::Relaxed),
            heard: nodes.heard.load(Ordering::Relaxed),
            clock_skew_ms: measured.then(|| nodes.skew_ms.load(Ordering::Relaxed)),
        }
    }

    /// Whether other processes may serve from the same database.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared.kind == Kind::Postgres
    }

    /// Whether replicas follow the database while no commit waits for one. What was committed last is lost
    /// then when a replica takes over: what it ended works again. False for a file.
    ///
    /// # Errors
    /// [`RegistryError`] if the database does not say.
    pub async fn may_lose_commits(&self) -> Result<bool, RegistryError> {
        if !self.is_shared() {
            return Ok(false);
        }
        let mut connection = self.shared.pool.acquire().await?;
        let (replicas, waited_for) = store::postgres::replication(&mut connection).await?;
        Ok(replicas > 0 && !waited_for)
    }

    /// Counts up when access tokens, sessions or grants may have ended early on another node. A hint:
    /// what ended is to be looked up, and now and then without a hint as well.
    #[must_use]
    pub fn watch_denials(&self) -> watch::Receiver<u64> {
        self.shared.nodes.denials.subscribe()
    }

    /// Takes this node's row away and ends what it does in the background.
    pub(crate) async fn leave_nodes(&self) {
        let shared: &Arc<Shared> = &self.shared;
        let _ = shared.nodes.stop.send(true);
        let Some(me) = shared.nodes.me.get().filter(|_| self.is_shared()) else {
            return;
        };
        let left = async {
            let mut connection = shared.pool.acquire().await?;
            store::nodes::leave(&mut connection, &me.id).await
        };
        // The row is forgotten within a minute otherwise.
        if let Err(error) = left.await {
            tracing::debug!(code = error.code(), "this node's row stays behind");
        }
    }
}
