//! Uses of secrets, counted in memory and written once a second: a verification writes nothing,
//! except the first use of a secret, which is written at once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// At most this many secrets wait for the next flush; more are counted as dropped.
const CAPACITY: usize = 100_000;

#[derive(Debug, Default)]
pub(crate) struct UseRecorder {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    uses: HashMap<String, Uses>,
    dropped: u64,
}

/// What happened to one secret since the last flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Uses {
    pub(crate) count: i64,
    pub(crate) last_at: i64,
}

impl UseRecorder {
    pub(crate) fn record(&self, kid: &str, at: i64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(uses) = waiting.uses.get_mut(kid) {
            uses.count += 1;
            uses.last_at = uses.last_at.max(at);
        } else if waiting.uses.len() < CAPACITY {
            waiting.uses.insert(
                kid.to_owned(),
                Uses {
                    count: 1,
                    last_at: at,
                },
            );
        } else {
            waiting.dropped += 1;
        }
    }

    pub(crate) fn take(&self) -> HashMap<String, Uses> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.dropped > 0 {
            tracing::warn!(dropped = waiting.dropped, "uses of keys were not counted");
            waiting.dropped = 0;
        }
        std::mem::take(&mut waiting.uses)
    }

    /// Puts back what could not be written.
    pub(crate) fn give_back(&self, uses: HashMap<String, Uses>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for (kid, old) in uses {
            let entry = waiting.uses.entry(kid).or_insert(Uses {
                count: 0,
                last_at: old.last_at,
            });
            entry.count += old.count;
            entry.last_at = entry.last_at.max(old.last_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_add_up_and_survive_a_failed_flush() {
        let recorder = UseRecorder::default();
        recorder.record("a", 5);
        recorder.record("a", 3);
        let taken = recorder.take();
        assert_eq!(
            taken["a"],
            Uses {
                count: 2,
                last_at: 5
            }
        );
        recorder.record("a", 9);
        recorder.give_back(taken);
        assert_eq!(
            recorder.take()["a"],
            Uses {
                count: 3,
                last_at: 9
            }
        );
        assert!(recorder.take().is_empty());
    }
}
