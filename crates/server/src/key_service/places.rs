//! Places for what one node carries out behind its answers. Each kind has its own: whoever may only
//! read keeps nobody from revoking keys.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use keywright_domain::audit::Actor;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::Problem;

/// Operations over many keys at the same time.
const MOST_BULK: usize = 4;
/// Imports that are answered later: each holds its file.
const MOST_IMPORTS: usize = 2;
/// Checks and counts that are answered later: each goes through a whole registry.
const MOST_READS: usize = 2;

/// All places of a node.
#[derive(Debug)]
pub(super) struct Places {
    bulk: Arc<Semaphore>,
    imports: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    /// Whose checks and counts run.
    readers: Arc<Mutex<HashSet<String>>>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            bulk: Arc::new(Semaphore::new(MOST_BULK)),
            imports: Arc::new(Semaphore::new(MOST_IMPORTS)),
            reads: Arc::new(Semaphore::new(MOST_READS)),
            readers: Arc::default(),
        }
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    _reader: Option<Reader>,
}

/// Whose only check or count it is.
#[derive(Debug)]
struct Reader {
    readers: Arc<Mutex<HashSet<String>>>,
    actor: String,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let readers = self.readers.lock();
        readers
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.actor);
    }
}

impl Places {
    /// For an operation over many keys.
    ///
    /// # Errors
    /// 503 `too_many_operations`.
    pub(super) fn of_bulk(&self) -> Result<Place, Problem> {
        place(&self.bulk, None)
    }

    /// For an import.
    ///
    /// # Errors
    /// 503 `too_many_operations`.
    pub(super) fn of_import(&self) -> Result<Place, Problem> {
        place(&self.imports, None)
    }

    /// For a check or a count: one for each actor, so that nobody takes them all.
    ///
    /// # Errors
    /// 503 `too_many_operations`.
    pub(super) fn of_read(&self, actor: &Actor) -> Result<Place, Problem> {
        let actor = actor.as_str().to_owned();
        let readers = self.readers.lock();
        let is_first = readers
            .unwrap_or_else(PoisonError::into_inner)
            .insert(actor.clone());
        if !is_first {
            let detail =
                "a check or a count that you asked for runs already: wait for it, or end it";
            return Err(too_many(detail));
        }
        let readers = Arc::clone(&self.readers);
        place(&self.reads, Some(Reader { readers, actor }))
    }
}

fn place(of: &Arc<Semaphore>, reader: Option<Reader>) -> Result<Place, Problem> {
    let permit = Arc::clone(of).try_acquire_owned();
    let permit =
        permit.map_err(|_| too_many("too many operations run already: wait for one of them"))?;
    Ok(Place {
        _permit: permit,
        _reader: reader,
    })
}

fn too_many(detail: &str) -> Problem {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut problem = Problem::new(status, "too_many_operations", detail);
    problem.retry_after_s = Some(10);
    problem
}
