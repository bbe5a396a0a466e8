//! What is kept of a registry on a server while it cannot be asked: its last answers, in memory and in
//! a file of the app's folder. No secret is in any of them.

use std::collections::{HashMap, VecDeque};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use keywright_domain::api_keys::PlainKey;
use keywright_protocol::api_keys::ApiKeyView;
use serde::{Deserialize, Serialize};

use super::permissions::Asked;
use super::queue::Queue;

/// So many answers, and so many bytes of them, are kept; the longest unused go first.
const MOST: usize = 64;
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// A longer one is not kept. 500 keys with many scopes are no longer.
const LONGEST: usize = MOST_BYTES / 4;
/// So many keys that were listed are known by their id; those that were listed first go first.
const MOST_SEEN: usize = 50_000;
/// After a failure what is known is shown at once for so long.
const REST: Duration = Duration::from_secs(5);
/// That a server answers again is told no more often: whoever is told asks it, and one that answers some things and
/// fails at others would be asked in a circle.
const TELL_AGAIN: Duration = Duration::from_secs(30);
/// So long, and so many of them, new secrets wait for the outcome of their rotation to be known.
const WAIT_FOR_OUTCOME: Duration = Duration::from_secs(600);
const MOST_ROTATING: usize = 16;
const FILE: &str = "answers.json";

/// The memory of one registry. Shared by all that talk to it.
#[derive(Debug)]
pub(crate) struct Kept {
    folder: Option<PathBuf>,
    state: Mutex<State>,
    /// One writer of the file at a time.
    saving: Arc<tokio::sync::Mutex<()>>,
    /// New secrets of rotations whose outcome is not known.
    rotating: Mutex<Vec<Rotating>>,
    /// Revocations that wait for the server.
    pub(crate) queue: Queue,
    /// What the account may do, as it was said a moment ago.
    pub(super) permissions: Asked,
}

#[derive(Debug, Default)]
struct State {
    answers: HashMap<String, Remembered>,
    seen: Seen,
    counter: u64,
    /// Counts up when something is forgotten or changed: what was asked before is not kept any more.
    generation: u64,
    answered_at: Option<i64>,
    offline_since: Option<i64>,
    failed: Option<Instant>,
    told_back: Option<Instant>,
    /// It came back and nobody was told yet.
    owes_word: bool,
}

/// Keys as a list showed them last, in memory alone: whoever sees one can revoke it while the server is away, however
/// far down it is (AC-152).
#[derive(Debug, Default)]
struct Seen {
    keys: HashMap<String, ApiKeyView>,
    order: VecDeque<String>,
}

impl Seen {
    fn put(&mut self, key: ApiKeyView) {
        let id = key.id.clone();
        if self.keys.insert(id.clone(), key).is_none() {
            self.order.push_back(id);
        }
        while self.keys.len() > MOST_SEEN
            && let Some(first) = self.order.pop_front()
        {
            self.keys.remove(&first);
        }
    }

    /// Forgets what a path is about: one key, or all of them.
    fn forget(&mut self, path: &str) {
        let Some((_, rest)) = path.rsplit_once("/keys") else {
            return;
        };
        match rest.strip_prefix('/') {
            None if rest.is_empty() => *self = Self::default(),
            Some(id) if self.keys.remove(id).is_some() => self.order.retain(|one| one != id),
            _ => {}
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Remembered {
    at: i64,
    text: String,
    #[serde(skip)]
    used: u64,
}

/// A secret that a server may have taken. It is in memory alone.
#[derive(Debug)]
struct Rotating {
    key_id: String,
    rotation_id: String,
    plain: PlainKey,
    since: Instant,
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
            saving: Arc::default(),
            rotating: Mutex::default(),
            permissions: Asked::default(),
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

    /// Which one it is now, for [`Self::remember`]: asked for before the question is sent.
    pub(super) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Keeps an answer, unless something was forgotten or changed since the question.
    pub(super) async fn remember(&self, generation: u64, name: &str, body: &[u8], now: i64) {
        let Ok(text) = std::str::from_utf8(body) else {
            return;
        };
        if text.len() > LONGEST || !self.put(generation, name, text, now) {
            return;
        }
        if let Err(error) = self.save(generation).await {
            tracing::warn!(%error, "what a server answered is not kept on disk");
        }
    }

    /// Keeps what something is now that it was changed. What was asked before that is not kept any more.
    pub(super) async fn renew(&self, name: &str, body: &[u8], now: i64) {
        let generation = {
            let mut state = self.lock();
            state.generation += 1;
            state.generation
        };
        self.remember(generation, name, body, now).await;
    }

    /// Forgets what was answered about this path and what is below it, here and on disk, and what is on
    /// its way.
    pub(super) async fn forget(&self, path: &str) {
        let is_of = |name: &String| {
            let rest = name.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
        };
        let generation = {
            let mut state = self.lock();
            state.seen.forget(path);
            let before = state.answers.len();
            state.answers.retain(|name, _| !is_of(name));
            if state.answers.len() == before {
                return;
            }
            state.generation += 1;
            state.generation
        };
        if let Err(error) = self.save(generation).await {
            tracing::warn!(%error, "what a server took back is still on disk");
        }
    }

    /// Says whether it is something new.
    fn put(&self, generation: u64, name: &str, text: &str, now: i64) -> bool {
        let mut state = self.lock();
        if state.generation != generation {
            return false;
        }
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

    /// Forgets every answer, here and on disk, and those that are on their way.
    pub(crate) async fn forget_answers(&self) -> std::io::Result<()> {
        // Whoever writes the file finishes first; whoever comes after sees that it is over.
        let _turn = self.saving.lock().await;
        self.permissions.set(None);
        {
            let mut state = self.lock();
            state.generation += 1;
            state.answers.clear();
            state.seen = Seen::default();
        }
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        match std::fs::remove_file(folder.join(FILE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Notes keys that a list showed, unless something was forgotten or changed since the question.
    pub(super) fn see(&self, generation: u64, keys: impl Iterator<Item = ApiKeyView>) {
        let mut state = self.lock();
        if state.generation == generation {
            for key in keys {
                state.seen.put(key);
            }
        }
    }

    /// A key as a list showed it last.
    pub(super) fn seen(&self, id: &str) -> Option<ApiKeyView> {
        self.lock().seen.keys.get(id).cloned()
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

    async fn save(&self, generation: u64) -> std::io::Result<()> {
        let Some(folder) = self.folder.clone() else {
            return Ok(());
        };
        let turn = Arc::clone(&self.saving).lock_owned().await;
        let answers = {
            let state = self.lock();
            if state.generation != generation {
                return Ok(());
            }
            state.answers.clone()
        };
        let written = tokio::task::spawn_blocking(move || {
            // Until it is written, though whoever waited for it may be gone.
            let _turn = turn;
            let bytes = serde_json::to_vec(&answers).map_err(std::io::Error::other)?;
            replace(&folder, FILE, &bytes)
        });
        written.await.map_err(std::io::Error::other)?
    }

    /// The new secret of a rotation that was asked for before, or this one from now on.
    pub(super) fn secret_of_rotation(
        &self,
        key_id: &str,
        rotation_id: &str,
        made: impl FnOnce() -> PlainKey,
    ) -> PlainKey {
        self.forget_old_rotations();
        let mut rotating = self.rotating();
        let known = rotating
            .iter()
            .find(|one| one.key_id == key_id && one.rotation_id == rotation_id);
        if let Some(known) = known {
            return known.plain.clone();
        }
        if rotating.len() >= MOST_ROTATING {
            rotating.remove(0);
        }
        let plain = made();
        rotating.push(Rotating {
            key_id: key_id.to_owned(),
            rotation_id: rotation_id.to_owned(),
            plain: plain.clone(),
            since: Instant::now(),
        });
        plain
    }

    /// What came of the rotation is known.
    pub(super) fn forget_rotation(&self, key_id: &str, rotation_id: &str) {
        self.rotating()
            .retain(|one| one.key_id != key_id || one.rotation_id != rotation_id);
    }

    fn forget_old_rotations(&self) {
        self.rotating()
            .retain(|one| one.since.elapsed() < WAIT_FOR_OUTCOME);
    }

    /// What came of a rotation is not known: its secret is forgotten later, if nobody asks again.
    pub(super) fn forget_rotations_later(self: &Arc<Self>) {
        let kept = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(WAIT_FOR_OUTCOME).await;
            if let Some(kept) = kept.upgrade() {
                kept.forget_old_rotations();
            }
        });
    }

    fn rotating(&self) -> MutexGuard<'_, Vec<Rotating>> {
        self.rotating.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether somebody is to be told that it is back: what is shown of it was said before it went away.
    pub(super) fn answered(&self, now: i64) -> bool {
        let mut state = self.lock();
        state.answered_at = Some(now);
        state.failed = None;
        // Not again and again, and not never: a page that was loaded meanwhile waits for the word.
        state.owes_word |= state.offline_since.take().is_some();
        let told = state.told_back.is_some_and(|at| at.elapsed() < TELL_AGAIN);
        if !state.owes_word || told {
            return false;
        }
        state.owes_word = false;
        state.told_back = Some(Instant::now());
        true
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
            kept.remember(0, &format!("/{index}"), b"[1]", 7).await;
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

    #[tokio::test]
    async fn ac_152_what_was_taken_back_is_not_on_disk_either() -> Result<(), anyhow::Error> {
        let folder = tempfile::tempdir()?;
        let kept = Kept::new(Some(folder.path().to_owned()));
        for name in ["/keys/a", "/keys/a/rotations", "/keys/ab"] {
            kept.remember(kept.generation(), name, b"[1]", 7).await;
        }
        kept.forget("/keys/a").await;
        let again = Kept::new(Some(folder.path().to_owned()));
        assert!(again.recall("/keys/a").is_none() && again.recall("/keys/a/rotations").is_none());
        assert!(again.recall("/keys/ab").is_some(), "another's stays");
        Ok(())
    }

    #[tokio::test]
    async fn an_answer_that_comes_after_the_sign_out_is_not_kept() -> Result<(), anyhow::Error> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join(FILE);
        let kept = Kept::new(Some(folder.path().to_owned()));
        let before = kept.generation();
        kept.remember(before, "/a", b"[1]", 7).await;
        assert!(file.exists());
        // One has come and waits for its turn at the file, one is on its way.
        let turn = Arc::clone(&kept.saving).lock_owned().await;
        let mut saving = Box::pin(kept.remember(before, "/b", b"[2]", 7));
        let mut forgetting = Box::pin(kept.forget_answers());
        tokio::select! {
            biased;
            () = &mut saving => anyhow::bail!("it did not wait"),
            _ = &mut forgetting => anyhow::bail!("it did not wait for the file"),
            () = std::future::ready(()) => {}
        }
        drop(turn);
        let ((), forgotten) = tokio::join!(saving, forgetting);
        forgotten?;
        kept.remember(before, "/c", b"[3]", 7).await;
        assert!(!file.exists());
        assert!(kept.recall("/a").is_none() && kept.recall("/c").is_none());
        kept.remember(kept.generation(), "/d", b"[4]", 7).await;
        assert!(file.exists() && kept.recall("/d").is_some());
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
        assert!(kept.answered(10), "it is back");
        assert_eq!(kept.offline_since(), None);
        assert!(!kept.answered(11), "it was there");
        kept.failed(12);
        assert!(!kept.answered(13), "not again and again");
        kept.lock().told_back = Instant::now().checked_sub(TELL_AGAIN);
        assert!(kept.answered(14), "it was away since it was told last");
        assert!(!kept.answered(15), "once");
        assert_eq!(kept.offline_since(), None);
    }
}
