//! Revocations that wait for their server: on disk before a person is told so, without any secret,
//! and gone only when the server has done them or the person took one back (AC-152).

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::error::RemoteError;
use super::kept::replace;

/// Nobody revokes more keys in a hurry.
const MOST: usize = 1_000;
const FILE: &str = "revocations.json";

/// A revocation that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// The key.
    pub(crate) key_id: String,
    /// Its name when it was asked for.
    pub(crate) name: String,
    /// Why.
    pub(crate) reason: String,
    /// When it was asked for (Unix ms).
    pub(crate) queued_at: i64,
    /// What the server said when it refused; none while it was not reached.
    pub(crate) refused: Option<Refused>,
}

/// Why a server did not revoke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    /// Stable code.
    pub(crate) code: String,
    /// For people.
    pub(crate) message: String,
}

/// All that wait for one server.
#[derive(Debug)]
pub(crate) struct Queue {
    file: Option<PathBuf>,
    state: Mutex<State>,
    /// One call about a revocation at a time, and none while one is taken back.
    pub(super) turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Waiting>,
    /// Why the file could not be read: what waits is not known, and nothing is written over it.
    unread: Option<String>,
}

impl Queue {
    /// A file that cannot be understood is kept beside: somebody wanted those keys to end.
    pub(super) fn open(folder: Option<&Path>) -> Self {
        let file = folder.map(|folder| folder.join(FILE));
        let mut state = State::default();
        if let Some(file) = &file {
            state.read(file);
        }
        Self {
            file,
            state: Mutex::new(state),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// All of them, oldest first.
    pub(crate) fn all(&self) -> Vec<Waiting> {
        self.lock().waiting.clone()
    }

    /// The one of a key, if it still waits.
    pub(super) fn find(&self, key_id: &str) -> Option<Waiting> {
        let state = self.lock();
        let found = state.waiting.iter().find(|one| one.key_id == key_id);
        found.cloned()
    }

    /// When the revocation of a key was asked for, if it waits.
    pub(crate) fn queued_at(&self, key_id: &str) -> Option<i64> {
        self.find(key_id).map(|one| one.queued_at)
    }

    /// Writes one down. A key that waits already keeps its place and its first reason.
    ///
    /// # Errors
    /// [`RemoteError::QueueNotWritten`], [`RemoteError::QueueFull`]: it does not wait then.
    pub(crate) fn add(&self, new: Waiting) -> Result<Waiting, RemoteError> {
        let mut state = self.lock();
        state.check()?;
        if let Some(known) = state.waiting.iter().find(|one| one.key_id == new.key_id) {
            return Ok(known.clone());
        }
        if state.waiting.len() >= MOST {
            return Err(RemoteError::QueueFull(MOST));
        }
        let mut changed = state.waiting.clone();
        changed.push(new.clone());
        self.write(&changed)?;
        state.waiting = changed;
        Ok(new)
    }

    /// Takes one out: it was done, or is not wanted any more.
    ///
    /// # Errors
    /// [`RemoteError::QueueNotWritten`]: it would come back after a restart.
    pub(crate) fn remove(&self, key_id: &str) -> Result<(), RemoteError> {
        self.change(|waiting| waiting.retain(|one| one.key_id != key_id))
    }

    /// Notes that the server refused one.
    ///
    /// # Errors
    /// [`RemoteError::QueueNotWritten`].
    pub(super) fn refuse(&self, key_id: &str, refused: Refused) -> Result<(), RemoteError> {
        self.change(|waiting| {
            if let Some(one) = waiting.iter_mut().find(|one| one.key_id == key_id) {
                one.refused = Some(refused);
            }
        })
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Waiting>)) -> Result<(), RemoteError> {
        let mut state = self.lock();
        state.check()?;
        let mut changed = state.waiting.clone();
        change(&mut changed);
        if changed != state.waiting {
            self.write(&changed)?;
            state.waiting = changed;
        }
        Ok(())
    }

    fn write(&self, waiting: &[Waiting]) -> Result<(), RemoteError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let failed = |error: String| RemoteError::QueueNotWritten(error);
        let folder = file
            .parent()
            .ok_or_else(|| failed("no folder".to_owned()))?;
        let bytes =
            serde_json::to_vec_pretty(waiting).map_err(|error| failed(error.to_string()))?;
        replace(folder, FILE, &bytes).map_err(|error| failed(error.to_string()))
    }

    /// What could not be read is read again each time somebody asks.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(_), Some(file)) = (&state.unread, &self.file) {
            state.read(file);
        }
        state
    }
}

impl State {
    fn read(&mut self, file: &Path) {
        match read(file) {
            Ok(waiting) => {
                *self = Self {
                    waiting,
                    unread: None,
                };
            }
            Err(error) => {
                if self.unread.is_none() {
                    tracing::error!(%error, "waiting revocations cannot be read");
                }
                self.unread = Some(error.to_string());
            }
        }
    }

    fn check(&self) -> Result<(), RemoteError> {
        match &self.unread {
            None => Ok(()),
            Some(error) => Err(RemoteError::QueueNotWritten(format!(
                "those that wait already cannot be read: {error}"
            ))),
        }
    }
}

/// Only a file that is not there says that nothing waits.
fn read(file: &Path) -> std::io::Result<Vec<Waiting>> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        // A file stands where the folder would be: then there is none in it either.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    serde_json::from_slice(&bytes).or_else(|error| {
        let aside = file.with_extension("json.not-understood");
        std::fs::rename(file, &aside)?;
        tracing::error!(%error, "waiting revocations were not understood, and are kept beside");
        Ok(Vec::new())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key_id: &str, reason: &str) -> Waiting {
        Waiting {
            key_id: key_id.to_owned(),
            name: "a key".to_owned(),
            reason: reason.to_owned(),
            queued_at: 7,
            refused: None,
        }
    }

    #[test]
    fn ac_152_waiting_revocations_survive_a_restart() -> Result<(), anyhow::Error> {
        let folder = tempfile::tempdir()?;
        let queue = Queue::open(Some(folder.path()));
        queue.add(one("a", "leaked"))?;
        queue.add(one("b", ""))?;
        let again = queue.add(one("a", "another reason"))?;
        assert_eq!(again.reason, "leaked", "once is enough");
        queue.refuse(
            "b",
            Refused {
                code: "insufficient_scope".into(),
                message: "no".into(),
            },
        )?;
        let queue = Queue::open(Some(folder.path()));
        assert_eq!(queue.all().len(), 2);
        assert!(queue.all()[1].refused.is_some());
        assert_eq!(queue.queued_at("a"), Some(7));
        queue.remove("a")?;
        assert_eq!(Queue::open(Some(folder.path())).queued_at("a"), None);
        Ok(())
    }

    #[test]
    fn what_is_not_understood_is_kept() -> Result<(), anyhow::Error> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join(FILE), "{ not json")?;
        assert!(Queue::open(Some(folder.path())).is_empty());
        let kept = folder.path().join("revocations.json.not-understood");
        assert_eq!(std::fs::read_to_string(kept)?, "{ not json");
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn what_cannot_be_read_is_not_written_over() -> Result<(), anyhow::Error> {
        let folder = tempfile::tempdir()?;
        let (file, away) = (folder.path().join(FILE), folder.path().join("away"));
        Queue::open(Some(folder.path())).add(one("a", "leaked"))?;
        std::fs::rename(&file, &away)?;
        // A read of it fails, and not because nothing is there.
        std::os::unix::fs::symlink(&file, &file)?;
        let queue = Queue::open(Some(folder.path()));
        for refused in [queue.add(one("b", "")).map(drop), queue.remove("b")] {
            let refused = refused.expect_err("what waits is not known");
            assert_eq!(refused.code(), "revocation_not_queued");
        }
        std::fs::rename(&away, &file)?;
        assert_eq!(queue.queued_at("a"), Some(7), "read again");
        queue.add(one("b", ""))?;
        assert_eq!(Queue::open(Some(folder.path())).all().len(), 2);
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn what_cannot_be_written_does_not_wait() -> Result<(), anyhow::Error> {
        let folder = tempfile::tempdir()?;
        // A file stands where the folder would be.
        let place = folder.path().join("taken");
        std::fs::write(&place, "")?;
        let queue = Queue::open(Some(&place));
        let refused = queue.add(one("a", "")).expect_err("no place");
        assert_eq!(refused.code(), "revocation_not_queued");
        assert!(queue.is_empty());
        Ok(())
    }
}
