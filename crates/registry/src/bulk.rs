//! Operations over many keys: what was asked for, how far it came, what failed. Whoever carries one
//! out says so every few seconds; one that nobody speaks for was interrupted, and shows it. Each key
//! is changed by a use case of its own, so that what was done stands.

use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::base62::random_id;
use serde::{Deserialize, Serialize};

use crate::later::{LaterAnswer, LaterRequest};
use crate::people::page::{self, Page, Position};
use crate::store::audit::NewEvent;
use crate::{LocalRegistry, RegistryError, store};

/// One that nobody spoke for in this time was interrupted.
const SILENT_MS: i64 = 30_000;
/// They are remembered for so long.
const KEPT_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// Answers, which may be long and name keys, for so long as those under an idempotency key.
const ANSWERS_KEPT_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// Answers to what only reads that are kept for one actor: whoever may only read makes them.
const MOST_READS: i64 = 100;
/// Failures that stand with an operation itself; all of them are [`LocalRegistry::bulk_failures`].
const SHOWN_FAILURES: usize = 100;

/// How an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkState {
    /// Somebody carries it out.
    Running,
    /// It came to its end.
    Done,
    /// Somebody had it stopped: what was done stands.
    Cancelled,
    /// It could not go on: whoever asked may not do this any more, or the registry failed.
    Stopped,
    /// The server that carried it out is gone: what was done stands, the rest was not looked at.
    Interrupted,
}

impl BulkState {
    const ALL: [Self; 5] = [
        Self::Running,
        Self::Done,
        Self::Cancelled,
        Self::Stopped,
        Self::Interrupted,
    ];

    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Stopped => "stopped",
            Self::Interrupted => "interrupted",
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// A key that an operation could not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkFailure {
    /// The key.
    pub key_id: String,
    /// Stable.
    pub code: String,
    /// In plain words.
    pub message: String,
}

/// Why an operation ended before its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkProblem {
    /// Stable.
    pub code: String,
    /// In plain words; empty where none were written down.
    #[serde(default)]
    pub detail: String,
}

/// An operation that is about to begin.
#[derive(Clone, Debug)]
pub struct NewBulk {
    /// What is done, as a stable word.
    pub operation: String,
    /// To how many keys.
    pub total: i64,
    /// Why, for the audit trail.
    pub reason: String,
}

/// How far an operation came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BulkProgress {
    /// Keys that were looked at.
    pub done: i64,
    /// Keys that were changed, or were so already.
    pub changed: i64,
    /// Keys that could not be changed.
    pub failed: i64,
    /// The first 100 of them.
    pub failures: Vec<BulkFailure>,
    /// The last of them, which no report has told yet; [`Self::told`] empties it.
    pub untold: Vec<BulkFailure>,
    /// Number of the newest change that was made; 0 for none. Who knows of it knows of all of them.
    pub last_change: i64,
}

impl BulkProgress {
    /// Counts a key: the number of its last change, or why it could not be changed.
    pub fn count(&mut self, outcome: Result<i64, BulkFailure>) {
        self.done += 1;
        match outcome {
            Ok(change) => {
                self.changed += 1;
                self.last_change = self.last_change.max(change);
            }
            Err(failure) => {
                self.failed += 1;
                if self.failures.len() < SHOWN_FAILURES {
                    self.failures.push(failure.clone());
                }
                self.untold.push(failure);
            }
        }
    }

    /// After a report that was written down: what it told is not told again.
    pub fn told(&mut self) {
        self.untold.clear();
    }

    /// The place of the first failure that no report has told, counted from 0.
    pub(crate) fn first_untold(&self) -> i64 {
        let untold = i64::try_from(self.untold.len()).unwrap_or(i64::MAX);
        self.failed.saturating_sub(untold)
    }
}

/// An operation over many keys.
#[derive(Clone, Debug)]
pub struct BulkOperation {
    /// Stable id.
    pub id: String,
    /// Who asked for it.
    pub actor: String,
    /// What is done.
    pub operation: String,
    /// To how many keys.
    pub total: i64,
    /// How far it came.
    pub progress: BulkProgress,
    /// How it stands.
    pub state: BulkState,
    /// Whether somebody asked for its end.
    pub cancel_asked: bool,
    /// When it began (Unix ms).
    pub created_at: i64,
    /// When somebody last spoke for it (Unix ms).
    pub seen_at: i64,
    /// When it ended (Unix ms).
    pub finished_at: Option<i64>,
    /// Why it ended before its end.
    pub problem: Option<BulkProblem>,
    /// It is a request that is answered later.
    pub later: bool,
}

impl BulkOperation {
    pub(crate) fn at(mut self, now: i64) -> Self {
        if self.state == BulkState::Running && now.saturating_sub(self.seen_at) > SILENT_MS {
            self.state = BulkState::Interrupted;
        }
        self
    }
}

impl LocalRegistry {
    /// Writes down that an operation begins. Older ones than thirty days are forgotten.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn begin_bulk(
        &self,
        actor: &Actor,
        new: &NewBulk,
    ) -> Result<BulkOperation, RegistryError> {
        self.begin_operation(actor, new, None).await
    }

    pub(crate) async fn begin_operation(
        &self,
        actor: &Actor,
        new: &NewBulk,
        later: Option<LaterRequest>,
    ) -> Result<BulkOperation, RegistryError> {
        let id = random_id(&mut rand::rng());
        let input = (actor.clone(), new.clone(), id);
        self.write(input, move |unit, (actor, new, id)| {
            Box::pin(async move {
                let now = unit.now();
                let operation = BulkOperation {
                    id: id.clone(),
                    actor: actor.as_str().to_owned(),
                    operation: new.operation.clone(),
                    total: new.total,
                    progress: BulkProgress::default(),
                    state: BulkState::Running,
                    cancel_asked: false,
                    created_at: now,
                    seen_at: now,
                    finished_at: None,
                    problem: None,
                    later: later.is_some(),
                };
                let (before, answers) = (
                    now.saturating_sub(KEPT_MS),
                    now.saturating_sub(ANSWERS_KEPT_MS),
                );
                store::bulk::prune(unit.write(), before, answers).await?;
                let only_reads = later.is_some_and(LaterRequest::only_reads);
                if only_reads {
                    let actor = actor.as_str();
                    store::bulk::prune_reads(unit.write(), actor, MOST_READS - 1).await?;
                }
                store::bulk::insert(unit.write(), &operation).await?;
                unit.made(id);
                if only_reads {
                    return Ok(operation);
                }
                let (operation_of, total) = (&new.operation, new.total);
                let (action, summary) = if later.is_some() {
                    let summary = format!("“{operation_of}” was begun, to be answered later");
                    (AuditAction::OperationBegun, summary)
                } else {
                    let summary = format!("“{operation_of}” was begun for {total} keys");
                    (AuditAction::BulkBegun, summary)
                };
                let reason: String = new.reason.chars().take(500).collect();
                let event = NewEvent {
                    details: vec![("operation", id.clone()), ("reason", reason)],
                    ..NewEvent::about_registry(action, summary)
                };
                unit.audit(actor, event);
                Ok(operation)
            })
        })
        .await
    }

    /// Says how far an operation came; with a state it has ended. Returns whether somebody asked for
    /// its end. Told twice, a failure is there once.
    ///
    /// # Errors
    /// [`RegistryError::OperationNotFound`].
    pub async fn report_bulk(
        &self,
        id: &str,
        progress: &BulkProgress,
        ended: Option<BulkState>,
    ) -> Result<bool, RegistryError> {
        let input = (id.to_owned(), progress.clone(), ended);
        self.write(input, |unit, (id, progress, ended)| {
            Box::pin(async move {
                let now = unit.now();
                store::bulk::report(unit.write(), id, progress, *ended, now).await?;
                let found = store::bulk::find(unit.read(), id).await?;
                Ok(found.ok_or(RegistryError::OperationNotFound)?.cancel_asked)
            })
        })
        .await
    }

    /// Says that an operation has ended, how, and why where that was before its end.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn end_bulk(
        &self,
        id: &str,
        progress: &BulkProgress,
        state: BulkState,
        problem: Option<BulkProblem>,
    ) -> Result<(), RegistryError> {
        let problem = problem.map(|problem| serde_json::to_string(&problem));
        let problem = problem.transpose();
        let came = LaterAnswer {
            answer: None,
            problem: problem.map_err(|error| RegistryError::Store(error.to_string()))?,
        };
        self.end_later(id, progress, state, came).await
    }

    /// One page of the keys that an operation could not change, in the order in which it came to them.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`].
    pub async fn bulk_failures(
        &self,
        id: &str,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<BulkFailure>, RegistryError> {
        let (after, limit) = (Position::read(cursor, false)?, page::limit(limit));
        let mut connection = self.shared.pool.acquire().await?;
        let found = store::bulk::failures(&mut connection, id, after.number, limit + 1).await?;
        let page = page::cut(found, limit, |(number, _)| Position::of(*number, ""));
        Ok(Page {
            items: page.items.into_iter().map(|(_, failure)| failure).collect(),
            next_cursor: page.next_cursor,
        })
    }

    /// Asks for the end of an operation. Whoever carries it out stops after the key that is its turn.
    ///
    /// # Errors
    /// [`RegistryError::OperationNotFound`].
    pub async fn cancel_bulk(
        &self,
        actor: &Actor,
        id: &str,
    ) -> Result<BulkOperation, RegistryError> {
        let input = (actor.clone(), id.to_owned());
        let cancelled = self.write(input, |unit, (actor, id)| {
            Box::pin(async move {
                let mut operation = store::bulk::find(unit.read(), id)
                    .await?
                    .ok_or(RegistryError::OperationNotFound)?;
                if operation.cancel_asked || operation.state != BulkState::Running {
                    return Ok(operation);
                }
                operation.cancel_asked = true;
                store::bulk::ask_cancel(unit.write(), id).await?;
                let of = &operation.operation;
                let only_reads = LaterRequest::parse(of).is_some_and(LaterRequest::only_reads);
                // Its begin was no event either.
                if operation.later && only_reads && operation.actor == actor.as_str() {
                    return Ok(operation);
                }
                let (action, summary) = if operation.later {
                    let summary = format!("“{of}” was cancelled");
                    (AuditAction::OperationCancelled, summary)
                } else {
                    let summary = format!("“{of}” over many keys was cancelled");
                    (AuditAction::BulkCancelled, summary)
                };
                let event = NewEvent {
                    details: vec![("operation", id.clone())],
                    ..NewEvent::about_registry(action, summary)
                };
                unit.audit(actor, event);
                Ok(operation)
            })
        });
        Ok(cancelled.await?.at(self.now()))
    }

    /// An operation as it stands.
    ///
    /// # Errors
    /// [`RegistryError::OperationNotFound`].
    pub async fn find_bulk(&self, id: &str) -> Result<BulkOperation, RegistryError> {
        let found = store::bulk::find(&mut *self.shared.pool.acquire().await?, id).await?;
        Ok(found
            .filter(|found| !found.later)
            .ok_or(RegistryError::OperationNotFound)?
            .at(self.now()))
    }

    /// One page of operations, newest first, of everybody or of one actor.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`].
    pub async fn list_bulk(
        &self,
        actor: Option<&str>,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<BulkOperation>, RegistryError> {
        let (after, limit) = (Position::read(cursor, true)?, page::limit(limit));
        let mut connection = self.shared.pool.acquire().await?;
        let place = (after.number, after.id.as_str());
        let actor = actor.unwrap_or("");
        let found = store::bulk::list(&mut connection, actor, place, limit + 1).await?;
        let now = self.now();
        let found = found.into_iter().map(|one| one.at(now)).collect();
        Ok(page::cut(found, limit, |one: &BulkOperation| {
            Position::of(one.created_at, &one.id)
        }))
    }
}
