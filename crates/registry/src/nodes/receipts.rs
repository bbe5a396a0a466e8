//! Receipts: which nodes are known to refuse what a change took away, and since when. Times are
//! measured by this process, on one monotonic clock, from the answer of the COMMIT to the moment the
//! other node's word was read here: never shorter than it took.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::{Commit, LIVE_MS, Nodes};
use crate::store::Kind;
use crate::store::nodes::NodeRow;
use crate::{LocalRegistry, RegistryError, Shared, freshness, store};

/// So long after a change was committed no node answers from what it knew before it, whether it was
/// heard of or not: memory is trusted for that long after the log was read.
pub const RECEIPT_BOUND: Duration = freshness::lease();

/// A reading of the rows may take this long, however little of the wait is left.
const READ_WITHIN: Duration = Duration::from_millis(250);
/// The same for one that nothing waits for.
const READ_LATER_WITHIN: Duration = Duration::from_secs(5);
/// Pauses between readings: other nodes answer within a few milliseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(16);
/// A change of another node is older than the bound for certain then, though its clock may be wrong.
const OLD_MS: i64 = 60_000;

/// Who refuses what a change took away.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    /// The change.
    pub version: i64,
    /// When it was committed (Unix ms, by the clock of the node that wrote it).
    pub committed_at: i64,
    /// The nodes that were there, by name.
    pub nodes: Vec<NodeReceipt>,
    /// Whether no node lets anything through any more that the change took away: all have
    /// acknowledged it, or their memory's time is over.
    pub complete: bool,
}

/// One node's part.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeReceipt {
    /// Its id, new with each start.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it said that the change is in its memory.
    pub acknowledged: bool,
    /// How long after the commit that was known here; none where it was not measured.
    pub acknowledged_after: Option<Duration>,
    /// For one that did not say so: when its memory's time was over (Unix ms). From then on it asks
    /// the database, or refuses. None while that time runs.
    pub refuses_from_memory_since: Option<i64>,
}

/// The rows of nodes as they were read last; those who wait together share a reading.
#[derive(Debug, Default)]
pub(super) struct Board(tokio::sync::Mutex<Option<(Instant, Vec<NodeRow>)>>);

impl Board {
    pub(super) async fn read(
        &self,
        shared: &Shared,
        within: Duration,
    ) -> Result<Vec<NodeRow>, RegistryError> {
        let asked = Instant::now();
        let mut last = self.0.lock().await;
        if let Some((begun, rows)) = &*last
            && *begun > asked
        {
            return Ok(rows.clone());
        }
        let begun = Instant::now();
        let read = async {
            let mut connection = shared.pool.acquire().await?;
            store::nodes::live(&mut connection, LIVE_MS).await
        };
        let rows = tokio::time::timeout(within, read)
            .await
            .map_err(|_| RegistryError::Store("the nodes cannot be read in time".into()))??;
        *last = Some((begun, rows.clone()));
        Ok(rows)
    }

    /// The rows as they were read last, however long ago.
    async fn last(&self) -> Vec<NodeRow> {
        let last = self.0.lock().await;
        last.as_ref()
            .map(|(_, rows)| rows.clone())
            .unwrap_or_default()
    }
}

impl Nodes {
    fn commit_of(&self, version: i64) -> Option<Commit> {
        let commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |commit: &&Commit| (commit.first..=commit.last).contains(&version);
        commits.iter().rev().find(is_it).cloned()
    }

    /// Keeps when nodes were seen to have a change, for whoever asks later.
    fn keep_seen(&self, version: i64, seen: &[(String, Duration)]) {
        let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        let commit = commits
            .iter_mut()
            .rev()
            .find(|commit| (commit.first..=commit.last).contains(&version));
        if let Some(commit) = commit {
            for (id, after) in seen {
                if !commit.seen.iter().any(|(known, _)| known == id) {
                    commit.seen.push((id.clone(), *after));
                }
            }
        }
    }
}

impl LocalRegistry {
    /// Who refuses what the change `version` (the epoch of a key after it was revoked) took away.
    /// Waits until every node that is there has acknowledged it, at most `wait` and never longer
    /// than [`RECEIPT_BOUND`] after the commit. None for a change that the log does not hold.
    ///
    /// # Errors
    /// [`RegistryError`] if a change of another node cannot be read. For one of ours there is a
    /// receipt always: without the database its nodes are unknown, and it is complete when the bound
    /// has passed.
    pub async fn receipt(
        &self,
        version: i64,
        wait: Duration,
    ) -> Result<Option<Receipt>, RegistryError> {
        let shared = &self.shared;
        match shared.nodes.commit_of(version) {
            Some(commit) => Ok(Some(self.wait_for(version, commit, wait).await)),
            None => self.receipt_of_others(version).await,
        }
    }

    async fn wait_for(&self, version: i64, commit: Commit, wait: Duration) -> Receipt {
        let shared = &self.shared;
        let over = commit.at + RECEIPT_BOUND;
        let until = over.min(Instant::now() + wait);
        let mut seen = commit.seen.clone();
        let mut pause = FIRST_PAUSE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let rows = match shared.kind {
                Kind::Sqlite => Ok(Vec::new()),
                Kind::Postgres => shared.nodes.board.read(shared, left.max(READ_WITHIN)).await,
            };
            let now = Instant::now();
            let is_over = now >= over;
            let known = rows.is_ok();
            let rows = match rows {
                Ok(rows) => rows,
                // Who was there is named all the same.
                Err(_) => shared.nodes.board.last().await,
            };
            for row in &rows {
                if row.applied >= version && !seen.iter().any(|(id, _)| *id == row.id) {
                    seen.push((row.id.clone(), now.saturating_duration_since(commit.at)));
                }
            }
            let mut nodes = self.own_part(&commit, version);
            nodes.extend(
                rows.into_iter()
                    .filter(|row| Some(row.id.as_str()) != self.node_id())
                    .map(|row| {
                        let after = seen.iter().find(|(id, _)| *id == row.id);
                        let after = after.map(|(_, after)| *after);
                        part(row.id, row.name, after, is_over, commit.at_ms)
                    }),
            );
            let all = known && nodes.iter().all(|node| node.acknowledged);
            if all || now >= until {
                shared.nodes.keep_seen(version, &seen);
                nodes.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
                return Receipt {
                    version,
                    committed_at: commit.at_ms,
                    nodes,
                    complete: all || is_over,
                };
            }
            let left = until.saturating_duration_since(now);
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }

    /// This node: its memory has a change before whoever made it is answered.
    fn own_part(&self, commit: &Commit, version: i64) -> Vec<NodeReceipt> {
        let Some(me) = self.shared.nodes.me.get() else {
            return Vec::new();
        };
        let has_it = freshness::seen(&self.shared) >= version;
        let after = has_it.then_some(commit.own_after);
        let is_over = commit.at.elapsed() >= RECEIPT_BOUND;
        vec![part(
            me.id.clone(),
            me.name.clone(),
            after,
            is_over,
            commit.at_ms,
        )]
    }

    /// Of a change that another process made, or that is too long ago to be remembered here.
    async fn receipt_of_others(&self, version: i64) -> Result<Option<Receipt>, RegistryError> {
        let shared = &self.shared;
        let mut connection = shared.pool.acquire().await?;
        let Some(at) = store::nodes::changed_at(&mut connection, version).await? else {
            return Ok(None);
        };
        drop(connection);
        let is_over = self.now().saturating_sub(at) > OLD_MS;
        let mut nodes: Vec<NodeReceipt> = match shared.kind {
            Kind::Sqlite => Vec::new(),
            Kind::Postgres => shared.nodes.board.read(shared, READ_LATER_WITHIN).await?,
        }
        .into_iter()
        .map(|row| {
            let acknowledged = row.applied >= version;
            NodeReceipt {
                acknowledged,
                ..part(row.id, row.name, None, is_over, at)
            }
        })
        .collect();
        if let (Kind::Sqlite, Some(me)) = (shared.kind, shared.nodes.me.get()) {
            nodes.push(NodeReceipt {
                acknowledged: true,
                ..part(me.id.clone(), me.name.clone(), None, false, at)
            });
        }
        for node in &mut nodes {
            if node.acknowledged {
                node.refuses_from_memory_since = None;
            }
        }
        Ok(Some(Receipt {
            version,
            committed_at: at,
            complete: is_over || nodes.iter().all(|node| node.acknowledged),
            nodes,
        }))
    }
}

fn part(
    id: String,
    name: String,
    after: Option<Duration>,
    is_over: bool,
    committed_at: i64,
) -> NodeReceipt {
    let bound = i64::try_from(RECEIPT_BOUND.as_millis()).unwrap_or(i64::MAX);
    NodeReceipt {
        id,
        name,
        acknowledged: after.is_some(),
        acknowledged_after: after,
        refuses_from_memory_since: (after.is_none() && is_over)
            .then(|| committed_at.saturating_add(bound)),
    }
}
