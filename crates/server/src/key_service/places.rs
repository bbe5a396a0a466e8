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
/// Of them so many of people who may change their own keys alone: the rest is for those who may end anybody's.
const MOST_BULK_OF_OWN: usize = 2;
/// Imports that are answered later: each holds its file.
const MOST_IMPORTS: usize = 2;
/// Checks and counts that are answered later: each goes through a whole registry.
const MOST_READS: usize = 2;

/// All places of a node.
#[derive(Debug)]
pub(super) struct Places {
    bulk: Arc<Semaphore>,
    bulk_of_own: Arc<Semaphore>,
    imports: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    /// Whose operations over their own keys run.
    owners: Actors,
    /// Whose checks and counts run.
    readers: Actors,
}

type Actors = Arc<Mutex<HashSet<String>>>;

impl Default for Places {
    fn default() -> Self {
        Self {
            bulk: Arc::new(Semaphore::new(MOST_BULK)),
            bulk_of_own: Arc::new(Semaphore::new(MOST_BULK_OF_OWN)),
            imports: Arc::new(Semaphore::new(MOST_IMPORTS)),
            reads: Arc::new(Semaphore::new(MOST_READS)),
            owners: Arc::default(),
            readers: Arc::default(),
        }
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    /// The one among those of the same kind, where they have fewer.
    _among: Option<OwnedSemaphorePermit>,
    _only: Option<Only>,
}

/// The only work of its kind of an actor.
#[derive(Debug)]
struct Only {
    actors: Actors,
    actor: String,
}

impl Only {
    fn of(actors: &Actors, actor: &Actor, detail: &str) -> Result<Self, Problem> {
        let actor = actor.as_str().to_owned();
        let locked = actors.lock();
        let is_first = locked
            .unwrap_or_else(PoisonError::into_inner)
            .insert(actor.clone());
        if !is_first {
            return Err(too_many(detail));
        }
        let actors = Arc::clone(actors);
        Ok(Self { actors, actor })
    }
}

impl Drop for Only {
    fn drop(&mut self) {
        let actors = self.actors.lock();
        actors
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.actor);
    }
}

impl Places {
    /// For an operation over many keys. `own`: who may do it to their own keys alone; one for each, and never all.
    ///
    /// # Errors
    /// 503 `too_many_operations`.
    pub(super) fn of_bulk(&self, own: Option<&Actor>) -> Result<Place, Problem> {
        let Some(actor) = own else {
            return place(&self.bulk, None);
        };
        let detail = "an operation that you asked for runs already: wait for it, or end it";
        let only = Only::of(&self.owners, actor, detail)?;
        let among = permit(&self.bulk_of_own)?;
        Ok(Place {
            _among: Some(among),
            ..place(&self.bulk, Some(only))?
        })
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
        let detail = "a check or a count that you asked for runs already: wait for it, or end it";
        let only = Only::of(&self.readers, actor, detail)?;
        place(&self.reads, Some(only))
    }
}

fn permit(of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Problem> {
    let permit = Arc::clone(of).try_acquire_owned();
    permit.map_err(|_| too_many("too many operations run already: wait for one of them"))
}

fn place(of: &Arc<Semaphore>, only: Option<Only>) -> Result<Place, Problem> {
    Ok(Place {
        _permit: permit(of)?,
        _among: None,
        _only: only,
    })
}

fn too_many(detail: &str) -> Problem {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut problem = Problem::new(status, "too_many_operations", detail);
    problem.retry_after_s = Some(10);
    problem
}
