//! Changes that were doubted for a commit of which nothing is known yet.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::writer::Subject;

type Changes = Vec<(i64, Subject)>;

/// The changes of such commits, in the order in which they were given up. Whoever reads the log counts them
/// before and takes so many after it: what is added meanwhile may be newer than what was read.
#[derive(Debug, Default)]
pub(super) struct Unsettled(Mutex<Vec<Changes>>);

impl Unsettled {
    fn open(&self) -> MutexGuard<'_, Vec<Changes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the changes of one commit.
    pub(super) fn add(&self, changes: &[(i64, Subject)]) {
        if !changes.is_empty() {
            self.open().push(changes.to_vec());
        }
    }

    /// How many commits these are.
    pub(super) fn count(&self) -> usize {
        self.open().len()
    }

    /// Takes the first `count` out. One reading at a time does.
    pub(super) fn take(&self, count: usize) -> Vec<Changes> {
        let mut all = self.open();
        let count = count.min(all.len());
        all.drain(..count).collect()
    }
}
