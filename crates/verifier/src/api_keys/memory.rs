//! Accepted answers, and what the stream of changes said since. Bounded in every direction.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::request::VerifiedKey;

/// Changes that are remembered, for answers that are on their way meanwhile.
const CHANGES: usize = 1024;

/// Names a question.
type Name = [u8; 32];

struct Entry {
    key: Arc<VerifiedKey>,
    until: Duration,
    turn: u64,
}

/// Where the stream stood when a question was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    change: u64,
    connection: u64,
}

/// What is remembered.
pub(super) struct Memory {
    most: usize,
    turn: u64,
    entries: HashMap<Name, Entry>,
    order: VecDeque<(Name, u64)>,
    /// Which answers are about a key.
    by_key: HashMap<String, HashSet<Name>>,
    /// How many changes came, and the last of them; none for one that is about everything.
    change: u64,
    changes: VecDeque<Option<String>>,
    /// Everything up to this version was told.
    version: Option<i64>,
    /// Goes up whenever the stream is lost.
    connection: u64,
    /// When the stream last said that everything was told: by a clock that does not run while the
    /// machine sleeps, and by one that does.
    heard: Option<(Duration, SystemTime)>,
}

impl Memory {
    /// Room for so many answers.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            turn: 0,
            entries: HashMap::new(),
            order: VecDeque::new(),
            by_key: HashMap::new(),
            change: 0,
            changes: VecDeque::new(),
            version: None,
            connection: 0,
            heard: None,
        }
    }

    /// Whether the stream was heard within `silence`.
    pub(super) fn is_live(&self, now: Duration, silence: Duration) -> bool {
        self.heard.is_some_and(|(at, wall)| {
            let asleep = SystemTime::now().duration_since(wall);
            now.saturating_sub(at) < silence && asleep.is_ok_and(|time| time < silence)
        })
    }

    /// An answer that still counts.
    pub(super) fn get(
        &mut self,
        name: &Name,
        now: Duration,
        silence: Duration,
    ) -> Option<Arc<VerifiedKey>> {
        if !self.is_live(now, silence) {
            return None;
        }
        let entry = self.entries.get(name)?;
        if now < entry.until {
            return Some(Arc::clone(&entry.key));
        }
        self.remove(name);
        None
    }

    /// Before a question is asked: none if its answer will not be remembered.
    pub(super) fn begin(&self, now: Duration, silence: Duration) -> Option<Place> {
        (self.most > 0 && self.is_live(now, silence)).then_some(Place {
            change: self.change,
            connection: self.connection,
        })
    }

    /// Remembers an answer that takes everything up to the version `as_of` into account, unless its key
    /// was changed since the question was asked.
    pub(super) fn fill(
        &mut self,
        name: Name,
        key: Arc<VerifiedKey>,
        until: Duration,
        place: Place,
        as_of: i64,
    ) {
        // What the answer did not know yet, but was told here before it was asked, is told only once.
        if place.connection != self.connection || self.version.is_none_or(|told| as_of < told) {
            return;
        }
        let since = usize::try_from(self.change - place.change).unwrap_or(usize::MAX);
        if since > self.changes.len() {
            return;
        }
        let mut newer = self.changes.iter().rev().take(since);
        if newer.any(|changed| changed.as_ref().is_none_or(|id| *id == key.key_id)) {
            return;
        }
        self.remove(&name);
        while self.order.len() >= self.most {
            let Some((oldest, turn)) = self.order.pop_front() else {
                break;
            };
            if self
                .entries
                .get(&oldest)
                .is_some_and(|entry| entry.turn == turn)
            {
                self.remove(&oldest);
            }
        }
        self.turn += 1;
        let turn = self.turn;
        self.order.push_back((name, turn));
        let about = self.by_key.entry(key.key_id.clone()).or_default();
        about.insert(name);
        self.entries.insert(name, Entry { key, until, turn });
    }

    fn remove(&mut self, name: &Name) {
        let Some(entry) = self.entries.remove(name) else {
            return;
        };
        if let Some(names) = self.by_key.get_mut(&entry.key.key_id) {
            names.remove(name);
            if names.is_empty() {
                self.by_key.remove(&entry.key.key_id);
            }
        }
    }

    fn note(&mut self, changed: Option<String>) {
        self.change += 1;
        if self.changes.len() == CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(changed);
    }

    /// A key was changed.
    pub(super) fn key_changed(&mut self, id: &str, version: i64) {
        for name in self.by_key.remove(id).unwrap_or_default() {
            self.entries.remove(&name);
        }
        self.note(Some(id.to_owned()));
        self.told(version);
    }

    /// Something was changed that many keys may depend on.
    pub(super) fn everything_changed(&mut self, version: i64) {
        self.entries.clear();
        self.by_key.clear();
        self.order.clear();
        self.note(None);
        self.told(version);
    }

    fn told(&mut self, version: i64) {
        // Never backwards, except after the registry was put back: then `reset` begins anew.
        self.version = Some(self.version.map_or(version, |known| known.max(version)));
    }

    /// The stream says that everything up to this version was told.
    pub(super) fn heard(&mut self, version: i64, now: Duration) {
        self.told(version);
        self.heard = Some((now, SystemTime::now()));
    }

    /// The stream begins anew at this version.
    pub(super) fn reset(&mut self, version: i64) {
        self.everything_changed(version);
        self.version = Some(version);
    }

    /// The stream is lost: until it is heard again, nothing counts.
    pub(super) fn lost(&mut self) {
        self.connection += 1;
        self.heard = None;
    }

    /// Where to go on.
    pub(super) fn version(&self) -> Option<i64> {
        self.version
    }

    /// How many answers are kept.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The most that any of its parts holds.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.entries
            .len()
            .max(self.order.len())
            .max(self.by_key.len())
    }
}
