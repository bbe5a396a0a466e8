//! Memory of what is good for one use and was used: proofs (RFC 9449 §11.1) and assertions (RFC 7523 §3).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

/// A clock that is put back by more than this was never right: what was forgotten by it is no measure.
const DAY_MS: i64 = 86_400_000;

/// Tokens that were used. Bounded: those that ended first are forgotten for new ones; when it is full of good
/// ones, more are refused, since one that is forgotten could come again. What ended before anything that was
/// forgotten counts as used: only a clock that was put back makes it good once more.
#[derive(Debug)]
pub(crate) struct Used {
    most: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// When each ends, in Unix ms.
    until: HashMap<[u8; 32], i64>,
    /// The latest end of anything that was forgotten, in Unix ms.
    forgotten_to: i64,
}

impl Known {
    /// Whether a token was used, or may have been.
    fn has(&mut self, name: &[u8; 32], until: i64, now: i64) -> bool {
        if self.forgotten_to > now.saturating_add(DAY_MS) {
            self.forgotten_to = 0;
        }
        // The same token has the same end. It is used, though it be over: the clock may have been put since the
        // caller looked. Another of that name is new when the first one is over.
        let same = |end: &i64| until <= *end || *end >= now;
        self.until.get(name).is_some_and(same) || until <= self.forgotten_to
    }

    /// Forgets those that ended first, and not all that are over: a clock that is put forward for a while makes
    /// everything over. True if there is room then.
    fn make_room(&mut self, most: usize, now: i64) -> bool {
        let over = self.until.values().copied().filter(|until| *until < now);
        let mut over: Vec<i64> = over.collect();
        let share = (most / 4).clamp(1, over.len().max(1));
        let Some(last) = share.checked_sub(1).filter(|last| *last < over.len()) else {
            return false;
        };
        let (_, end, _) = over.select_nth_unstable(last);
        let end = *end;
        self.until.retain(|_, until| *until > end);
        self.forgotten_to = self.forgotten_to.max(end);
        true
    }
}

impl Used {
    /// How many it remembers.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.known.lock().unwrap().until.len()
    }

    /// Room for so many.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            known: Mutex::default(),
        }
    }

    fn name(owner: &str, jti: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update((owner.len() as u64).to_be_bytes());
        hash.update(owner);
        hash.update(jti);
        hash.finalize().into()
    }

    /// Whether a token was here before, or could have been, without taking it in. `until`: when it ends, which is
    /// the token's own and not the request's. Times in Unix ms.
    pub(crate) fn knows(&self, owner: &str, jti: &str, until: i64, now: i64) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.has(&Self::name(owner, jti), until, now)
    }

    /// Takes a token in; false if it was here before, or could have been, or there is no room. As
    /// [`Used::knows`].
    pub(crate) fn first_time(&self, owner: &str, jti: &str, until: i64, now: i64) -> bool {
        let name = Self::name(owner, jti);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.has(&name, until, now) {
            return false;
        }
        if known.until.len() >= self.most && !known.make_room(self.most, now) {
            return false;
        }
        // What made the room may have been this one's time.
        if until <= known.forgotten_to {
            return false;
        }
        known.until.insert(name, until);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s58_what_was_used_is_remembered_and_memory_is_bounded() {
        let used = Used::new(2);
        assert!(used.first_time("k", "a", 10, 0));
        assert!(!used.first_time("k", "a", 10, 10));
        assert!(used.first_time("l", "a", 20, 0), "another key's");
        assert!(!used.first_time("k", "b", 20, 5), "full: refused");
        assert!(
            !used.first_time("k", "a", 10, 11),
            "the same, when it is over"
        );
        assert!(used.first_time("k", "b", 20, 11), "room again");
        assert_eq!(used.len(), 2);
        // Also where there is room, and nothing was forgotten.
        let used = Used::new(8);
        assert!(used.first_time("k", "a", 10, 0));
        assert!(used.knows("k", "a", 10, 11), "over");
        assert!(!used.first_time("k", "a", 10, 11), "over");
    }

    #[test]
    fn s58_what_was_forgotten_under_a_clock_that_was_ahead_is_not_new_again() {
        const HOUR: i64 = 3_600_000;
        let used = Used::new(8);
        for (at, jti) in ["a", "b", "c", "d"].into_iter().enumerate() {
            assert!(used.first_time("k", jti, 1000 + at as i64, 0));
        }
        // Three hours ahead all of them are over. As few as can be are forgotten, those that ended first.
        let ahead = 3 * HOUR;
        for jti in ["e", "f", "g", "h", "i"] {
            assert!(used.first_time("k", jti, ahead + 1000, ahead));
        }
        assert_eq!(used.len(), 7);
        for (at, jti) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let until = 1000 + at as i64;
            assert!(used.knows("k", jti, until, 500), "{jti}");
            assert!(!used.first_time("k", jti, until, 500), "{jti}");
        }
        // What ends after them is nothing that was forgotten, and goes on being taken.
        assert!(!used.knows("k", "new", 1002, 500));
        assert!(used.first_time("k", "new", 1002, 500));
        // The clock stays ahead for as long as those of then live, and they are forgotten too: until the clock
        // comes there, nothing tells what was used then from what was not.
        for round in 0..8 {
            let jti = format!("later {round}");
            let _ = used.first_time("k", &jti, ahead + 9000, ahead + 2000);
        }
        assert!(used.knows("k", "e", ahead + 1000, ahead - 1));
        assert!(used.knows("k", "unseen", 7000, 6000));
        assert!(!used.knows("k", "unseen", ahead + 1001, ahead));
    }

    #[test]
    fn a_clock_that_was_days_ahead_refuses_nothing_for_days() {
        let used = Used::new(2);
        let ahead = 3 * DAY_MS;
        assert!(used.first_time("k", "a", ahead, ahead - 1000));
        assert!(used.first_time("k", "b", ahead + 9000, ahead + 1000));
        assert!(used.first_time("k", "c", ahead + 9000, ahead + 1000));
        assert!(used.knows("k", "d", 2 * DAY_MS + 2, 2 * DAY_MS + 1));
        assert!(!used.knows("k", "d", 1000, 0), "refused for three days");
    }
}
