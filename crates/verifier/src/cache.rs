//! Answers of the issuer, remembered by the token's hash: at most so many, each for so long.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// SHA-256 of a token; the token itself is not kept.
pub(crate) type TokenHash = [u8; 32];

struct Entry<T> {
    value: T,
    until: Duration,
    turn: u64,
}

/// A map that drops what came first.
pub(crate) struct Cache<T> {
    most: usize,
    turn: u64,
    entries: HashMap<TokenHash, Entry<T>>,
    /// One place per insertion, so at most `most` of them; those of replaced entries are passed over.
    order: VecDeque<(TokenHash, u64)>,
}

impl<T: Clone> Cache<T> {
    /// Room for so many.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            turn: 0,
            entries: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// What is remembered and still good.
    pub(crate) fn get(&mut self, key: &TokenHash, now: Duration) -> Option<T> {
        let entry = self.entries.get(key)?;
        if now < entry.until {
            return Some(entry.value.clone());
        }
        self.entries.remove(key);
        None
    }

    /// Remembers something until then.
    pub(crate) fn put(&mut self, key: TokenHash, value: T, until: Duration) {
        if self.most == 0 {
            return;
        }
        while self.order.len() >= self.most {
            let Some((oldest, turn)) = self.order.pop_front() else {
                break;
            };
            if self
                .entries
                .get(&oldest)
                .is_some_and(|entry| entry.turn == turn)
            {
                self.entries.remove(&oldest);
            }
        }
        self.turn += 1;
        let turn = self.turn;
        self.order.push_back((key, turn));
        self.entries.insert(key, Entry { value, until, turn });
    }

    /// How many are kept.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len().max(self.order.len())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Cache;

    const LATER: Duration = Duration::from_secs(9);

    #[test]
    fn it_never_holds_more_than_it_may_and_drops_what_came_first() {
        let mut cache = Cache::new(3);
        for number in 0..=255_u8 {
            cache.put([number; 32], number, LATER);
            // The same again and again must not fill it either.
            cache.put([number; 32], number, LATER);
            assert!(cache.len() <= 3);
        }
        assert_eq!(cache.get(&[255; 32], Duration::ZERO), Some(255));
        assert_eq!(cache.get(&[253; 32], Duration::ZERO), None);
    }

    #[test]
    fn an_entry_that_was_replaced_lives_by_its_second_life() {
        let mut cache = Cache::new(2);
        cache.put([1; 32], "first", LATER);
        cache.put([1; 32], "second", LATER * 2);
        cache.put([2; 32], "other", LATER);
        assert_eq!(cache.get(&[1; 32], LATER), Some("second"));
        assert_eq!(cache.get(&[2; 32], LATER), None);
        assert_eq!(cache.get(&[1; 32], LATER * 2), None);
    }

    #[test]
    fn without_room_nothing_is_remembered() {
        let mut cache = Cache::new(0);
        cache.put([1; 32], 1, LATER);
        assert_eq!(cache.get(&[1; 32], Duration::ZERO), None);
        assert_eq!(cache.len(), 0);
    }
}
