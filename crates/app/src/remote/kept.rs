//! What is kept of a registry on a server while it cannot be asked: its last answers, in memory and in
//! a file of the app's folder. No secret is in any of them.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::queue::Queue;

/// So many answers, and so many bytes of them, are kept; the longest unused go first.
const MOST: usize = 64;
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// After a failure what is known is shown at once for so long.
const REST: Duration = Duration::from_secs(5);
const FILE: &str = "answers.json";

/// The memory of one registry. Shared by all that talk to it.
#[derive(Debug)]
pub(crate) struct Kept {
    folder: Option<PathBuf>,
    state: Mutex<State>,
    /// One writer of the file at a time.
    saving: tokio::sync::Mutex<()>,
    /// Revocations that wait for the server.
    pub(crate) queue: Queue,
}

#[derive(Debug, Default)]
struct State {
    answers: HashMap<String, Remembered>,
    counter: u64,
    answered_at: Option<i64>,
    offline_since: Option<i64>,
    failed: Option<Instant>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Remembered {
    at: i64,
    text: String,
    #[serde(skip)]
    used: u64,
}

impl Kept {
    /// In a folder, or in memory alone. A file that cannot be read is as good as none.
    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        let answers = folder
            .as_deref()
            .and_then(|folder| std::fs::read(folder.join(FILE)).ok())
            .filter(|bytes| bytes.len() <= 2 * MOST_BYTES)
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        Self {
            queue: Queue::open(folder.as_deref()),
            folder,
            state: Mutex::new(State {
                answers,
                ..State::default()
            }),
            saving: tokio::sync::Mutex::new(()),
        }
    }

    /// The last answer under this name, and when it came.
    pub(super) fn recall(&self, name: &str) -> Option<(i64, String)> {
        let mut state = self.lock();
        state.counter += 1;
        let used = state.counter;
        let answer = state.answers.get_mut(name)?;
        answer.used = used;
        Some((answer.at, answer.text.clone()))
    }

    /// Keeps an answer.
    pub(super) async fn remember(&self, name: &str, body: &[u8], now: i64) {
        let Ok(text) = std::str::from_utf8(body) else {
            return;
        };
        if text.len() > MOST_BYTES / 8 || !self.put(name, text, now) {
            return;
        }
        if let Err(error) = self.save().await {
            tracing::warn!(%error, "what a server answered is not kept on disk");
        }
    }

    /// Says whether it is something new.
    fn put(&self, name: &str, text: &str, now: i64) -> bool {
        let mut state = self.lock();
        state.counter += 1;
        let used = state.counter;
        let fresh = Remembered {
            at: now,
            text: text.to_owned(),
            used,
        };
        let before = state.answers.insert(name.to_owned(), fresh);
        while state.answers.len() > MOST || bytes(&state.answers) > MOST_BYTES {
            let oldest = state.answers.iter().min_by_key(|(_, one)| one.used);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else {
                break;
            };
            state.answers.remove(&oldest);
        }
        // The file's time of an answer that stayed the same may lag a minute behind.
        before.is_none_or(|before| before.text != text || now - before.at > 60_000)
    }

    /// Forgets every answer, here and on disk.
    pub(crate) fn forget_answers(&self) -> std::io::Result<()> {
        self.lock().answers.clear();
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        match std::fs::remove_file(folder.join(FILE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Every answer whose name contains this, the newest first.
    pub(super) fn recall_all(&self, part: &str) -> Vec<String> {
        let state = self.lock();
        let mut found: Vec<_> = state
            .answers
            .iter()
            .filter(|(name, _)| name.contains(part))
            .map(|(_, answer)| answer)
            .collect();
        found.sort_by_key(|answer| std::cmp::Reverse(answer.at));
        found.into_iter().map(|one| one.text.clone()).collect()
    }

    async fn save(&self) -> std::io::Result<()> {
        let Some(folder) = self.folder.clone() else {
            return Ok(());
        };
        let _turn = self.saving.lock().await;
        let answers = self.lock().answers.clone();
        let written = tokio::task::spawn_blocking(move || {
            let bytes = serde_json::to_vec(&answers).map_err(std::io::Error::other)?;
            replace(&folder, FILE, &bytes)
        });
        written.await.map_err(std::io::Error::other)?
    }

    pub(super) fn answered(&self, now: i64) {
        let mut state = self.lock();
        state.answered_at = Some(now);
        state.offline_since = None;
        state.failed = None;
    }

    pub(super) fn failed(&self, now: i64) {
        let mut state = self.lock();
        state.offline_since.get_or_insert(now);
        state.failed = Some(Instant::now());
    }

    /// Whether the server did not answer a moment ago.
    pub(super) fn is_resting(&self) -> bool {
        self.lock().failed.is_some_and(|at| at.elapsed() < REST)
    }

    /// Somebody wants to know now.
    pub(crate) fn wake(&self) {
        self.lock().failed = None;
    }

    /// Since when the server has not answered; none if it did, or was not asked yet.
    pub(crate) fn offline_since(&self) -> Option<i64> {
        self.lock().offline_since
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes(answers: &HashMap<String, Remembered>) -> usize {
    answers.values().map(|answer| answer.text.len()).sum()
}

/// Writes a file whole or not at all, for this user only.
pub(super) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(folder.join(name))
        .map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ac_152_answers_survive_a_restart_and_are_few() -> Result<(), anyhow::Error> {
        let folder = tempfile::tempdir()?;
        let place = folder.path().join("registry");
        let kept = Kept::new(Some(place.clone()));
        for index in 0..=MOST {
            kept.remember(&format!("/{index}"), b"[1]", 7).await;
            assert!(kept.recall("/0").is_some(), "what is used stays");
        }
        assert!(kept.recall("/1").is_none(), "the longest unused goes");
        let again = Kept::new(Some(place.clone()));
        assert_eq!(again.recall("/0"), Some((7, "[1]".to_owned())));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| std::fs::metadata(path).map(|meta| meta.permissions().mode());
            assert_eq!(mode(&place)? & 0o777, 0o700);
            assert_eq!(mode(&place.join(FILE))? & 0o777, 0o600);
        }
        std::fs::write(place.join(FILE), "{ not json")?;
        assert!(Kept::new(Some(place)).recall("/0").is_none());
        Ok(())
    }

    #[test]
    fn a_failure_rests_and_an_answer_ends_it() {
        let kept = Kept::new(None);
        assert!(!kept.is_resting());
        kept.failed(5);
        kept.failed(9);
        assert!(kept.is_resting());
        assert_eq!(kept.offline_since(), Some(5), "since the first one");
        kept.wake();
        assert!(!kept.is_resting() && kept.offline_since().is_some());
        kept.answered(10);
        assert_eq!(kept.offline_since(), None);
    }
}
