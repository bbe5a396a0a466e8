//! The words that rate limits count in. The first limit of a key has a word beside its record and
//! is counted by compare-and-swap; further ones and those that an owner's keys share lie in a table.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use keywright_domain::api_keys::{Gcra, GcraAnswer};
use parking_lot::Mutex;

use crate::image::{CountedLimit, Rules};
use crate::packed::KeyId;
use crate::slab::Slab;

const STRIPES: u32 = 64;

/// What the limits of a key say to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitAnswer {
    /// All allow it, and it is counted.
    Allowed {
        /// Which of the limits is the narrowest, by its place.
        limit: usize,
        /// Requests of cost 1 that may still come at once, by the narrowest limit; none without
        /// limits.
        remaining: Option<u32>,
        /// Time until that limit is whole again (ms, rounded up).
        reset_ms: u64,
    },
    /// At least one refuses; nothing was counted anywhere.
    Refused {
        /// Which of the limits, by its place: the one to wait longest for.
        limit: usize,
        /// Requests of cost 1 that may still come at once.
        remaining: u32,
        /// Time until the same request is allowed if nothing else comes (ms, rounded up); none if
        /// its cost is above what the limit ever allows.
        retry_after_ms: Option<u64>,
        /// Time until the limit is whole again (ms, rounded up).
        reset_ms: u64,
    },
}

/// Whose word it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum WordKey {
    /// A further limit of a key, by its place. Never by the record's slot, which another key may get.
    Key(KeyId, usize),
    /// A limit that all keys of an owner share, by its name and terms: one word has one arithmetic, or
    /// a key with a shorter limit of the same name would bring back what a longer one has counted.
    Owner(u32, Arc<str>, Gcra),
}

#[derive(Debug)]
struct Stripe {
    words: HashMap<WordKey, i64>,
    /// When so many words are there, those that say nothing any more are dropped.
    prune_at: usize,
}

#[derive(Debug)]
pub(crate) struct Counters {
    first: Slab<AtomicI64>,
    stripes: Box<[Mutex<Stripe>]>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        let stripe = || Stripe {
            words: HashMap::new(),
            prune_at: 64,
        };
        Self {
            first: Slab::new(),
            stripes: (0..STRIPES).map(|_| Mutex::new(stripe())).collect(),
        }
    }

    /// A new key lies at `head`: nothing is counted yet. Without limits nothing is kept.
    pub(crate) fn reset(&self, head: u32) {
        if let Some(word) = self.first.get(head) {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Forgets the further words of a key that goes. Those from the time of another owner lie elsewhere:
    /// they say nothing of any other key, and go once they are in the past.
    pub(crate) fn forget(&self, gone: KeyId, owner: Option<u32>) {
        let mut stripe = self.stripe(&gone, owner).lock();
        if !stripe.words.is_empty() {
            stripe
                .words
                .retain(|key, _| !matches!(key, WordKey::Key(id, _) if *id == gone));
        }
    }

    fn stripe(&self, key: &KeyId, owner: Option<u32>) -> &Mutex<Stripe> {
        // All words of a key lie in one stripe: that of its owner, if it has one.
        let number = owner.unwrap_or(key.bits() as u32);
        &self.stripes[(number % STRIPES) as usize]
    }

    /// Counts a request of `cost` at `now_us` against all limits or against none.
    pub(crate) fn take(
        &self,
        head: u32,
        key: &KeyId,
        owner: Option<u32>,
        rules: &Rules,
        now_us: i64,
        cost: u32,
    ) -> LimitAnswer {
        match rules.counted() {
            [] => LimitAnswer::Allowed {
                limit: 0,
                remaining: None,
                reset_ms: 0,
            },
            [limit] if owner.is_none() || !limit.is_shared => {
                let Some(word) = self.first.make(head) else {
                    return NO_PLACE;
                };
                let mut tat = word.load(Ordering::Relaxed);
                loop {
                    let near = limit.no_further(tat, now_us);
                    let answer = limit.gcra.check(near, now_us, cost);
                    let new_tat_us = match answer {
                        GcraAnswer::Allowed { new_tat_us, .. } => new_tat_us,
                        _ if near == tat => return refused(0, answer),
                        _ => near,
                    };
                    match word.compare_exchange_weak(
                        tat,
                        new_tat_us,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    ) {
                        Ok(_) if wait(&answer) > 0 => return refused(0, answer),
                        Ok(_) => return allowed([answer]),
                        Err(current) => tat = current,
                    }
                }
            }
            limits => self.take_all(head, key, owner, limits, now_us, cost),
        }
    }

    fn take_all(
        &self,
        head: u32,
        key: &KeyId,
        owner: Option<u32>,
        limits: &[CountedLimit],
        now_us: i64,
        cost: u32,
    ) -> LimitAnswer {
        let Some(first) = self.first.make(head) else {
            return NO_PLACE;
        };
        let mut stripe = self.stripe(key, owner).lock();
        loop {
            // A key whose limits just changed may still be counted by the way without a lock.
            let first_tat = first.load(Ordering::Relaxed);
            let peeks: Vec<_> = limits
                .iter()
                .enumerate()
                .map(|(place, limit)| {
                    let word = WordKey::of(key, owner, place, limit);
                    let tat = match &word {
                        None => first_tat,
                        Some(word) => stripe.words.get(word).copied().unwrap_or(0),
                    };
                    let near = limit.no_further(tat, now_us);
                    (word, near, limit.gcra.check(near, now_us, cost))
                })
                .collect();
            let refusing = peeks.iter().enumerate().filter(|(_, one)| wait(&one.2) > 0);
            let refusing = refusing
                .max_by_key(|(_, one)| wait(&one.2))
                .map(|(place, one)| refused(place, one.2));
            let answer = refusing.unwrap_or_else(|| allowed(peeks.iter().map(|one| one.2)));
            // What each word becomes: counted if all allow, else only brought near.
            let after = |near: i64, one: GcraAnswer| match (refusing, one) {
                (None, GcraAnswer::Allowed { new_tat_us, .. }) => new_tat_us,
                _ => near,
            };
            let own = peeks.iter().find(|(word, ..)| word.is_none());
            if let Some((_, near, one)) = own
                && first
                    .compare_exchange(
                        first_tat,
                        after(*near, *one),
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    )
                    .is_err()
            {
                continue;
            }
            for (word, near, one) in peeks {
                if let Some(word) = word {
                    stripe.words.insert(word, after(near, one));
                }
            }
            stripe.prune(now_us);
            return answer;
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let further: usize = self
            .stripes
            .iter()
            .map(|stripe| stripe.lock().words.capacity() * (size_of::<(WordKey, i64)>() + 1))
            .sum();
        self.first.bytes() + further
    }
}

impl Stripe {
    /// A word in the past says the same as no word.
    fn prune(&mut self, now_us: i64) {
        if self.words.len() >= self.prune_at {
            self.words.retain(|_, tat| *tat > now_us);
            self.prune_at = (self.words.len() * 2).max(64);
        }
    }
}

impl WordKey {
    /// None for the word beside the record.
    fn of(key: &KeyId, owner: Option<u32>, place: usize, limit: &CountedLimit) -> Option<Self> {
        match owner {
            Some(owner) if limit.is_shared => {
                Some(Self::Owner(owner, limit.name.clone(), limit.gcra))
            }
            _ if place == 0 => None,
            _ => Some(Self::Key(*key, place)),
        }
    }
}

impl CountedLimit {
    /// The state `tat`, but never further ahead than the limit itself can get: its terms may have
    /// changed since, or the clock.
    fn no_further(&self, tat: i64, now_us: i64) -> i64 {
        tat.min(now_us.saturating_add(self.gcra.tolerance_us))
    }
}

/// How long a refusal asks to wait; 0 for no refusal.
fn wait(answer: &GcraAnswer) -> u64 {
    match answer {
        GcraAnswer::Allowed { .. } => 0,
        GcraAnswer::Refused { retry_after_ms, .. } => *retry_after_ms,
        GcraAnswer::CostTooHigh => u64::MAX,
    }
}

/// The narrowest of several that allow.
fn allowed(answers: impl IntoIterator<Item = GcraAnswer>) -> LimitAnswer {
    let answers = answers.into_iter().enumerate();
    let narrowest = answers.filter_map(|(limit, answer)| match answer {
        GcraAnswer::Allowed {
            remaining,
            reset_ms,
            ..
        } => Some((limit, remaining, reset_ms)),
        _ => None,
    });
    let narrowest = narrowest.min_by_key(|(_, remaining, _)| *remaining);
    LimitAnswer::Allowed {
        limit: narrowest.map_or(0, |(limit, ..)| limit),
        remaining: narrowest.map(|(_, remaining, _)| remaining),
        reset_ms: narrowest.map_or(0, |(_, _, reset_ms)| reset_ms),
    }
}

fn refused(limit: usize, answer: GcraAnswer) -> LimitAnswer {
    match answer {
        GcraAnswer::Refused {
            retry_after_ms,
            remaining,
            reset_ms,
        } => LimitAnswer::Refused {
            limit,
            remaining,
            retry_after_ms: Some(retry_after_ms),
            reset_ms,
        },
        _ => LimitAnswer::Refused {
            limit,
            remaining: 0,
            retry_after_ms: None,
            reset_ms: 0,
        },
    }
}

/// There is no place to count in: nothing is allowed that cannot be counted.
const NO_PLACE: LimitAnswer = LimitAnswer::Refused {
    limit: 0,
    remaining: 0,
    retry_after_ms: None,
    reset_ms: 0,
};

#[cfg(test)]
mod tests {
    use keywright_domain::api_keys::{NetworkList, OriginList, RateLimit, RateLimits};

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn rules(limits: &[(&str, u32, bool)]) -> Rules {
        let limit = |(name, count, shared): &(&str, u32, bool)| {
            RateLimit::new(name, *count, 60_000, 0, *shared).unwrap()
        };
        let limits = RateLimits::new(limits.iter().map(limit).collect()).unwrap();
        Rules::new(limits, NetworkList::default(), OriginList::default(), false)
    }

    fn key(number: u32) -> KeyId {
        KeyId::from_bits(number.into())
    }

    /// The rules of one shared limit of so many in a time.
    fn shared(name: &str, count: u32, period_ms: u32) -> Rules {
        let limit = RateLimit::new(name, count, period_ms, 0, true).unwrap();
        let limits = RateLimits::one(limit);
        Rules::new(limits, NetworkList::default(), OriginList::default(), false)
    }

    fn allowed_of(counters: &Counters, head: u32, rules: &Rules, tries: u32, now_us: i64) -> u32 {
        let take = |_: &u32| {
            let answer = counters.take(head, &key(head), Some(1), rules, now_us, 1);
            matches!(answer, LimitAnswer::Allowed { .. })
        };
        (0..tries).filter(take).count() as u32
    }

    #[test]
    fn ac_132_one_limit_allows_its_count_and_then_says_how_long_to_wait() {
        let (counters, rules) = (Counters::new(), rules(&[("requests", 60, false)]));
        assert_eq!(allowed_of(&counters, 0, &rules, 100, SECOND), 60);
        let refused = counters.take(0, &key(0), Some(1), &rules, SECOND, 1);
        assert_eq!(
            refused,
            LimitAnswer::Refused {
                limit: 0,
                remaining: 0,
                retry_after_ms: Some(1000),
                reset_ms: 60_000
            }
        );
        assert_eq!(
            allowed_of(&counters, 0, &rules, 9, 2 * SECOND),
            1,
            "one more a second"
        );
        assert_eq!(
            allowed_of(&counters, 1, &rules, 9, SECOND),
            9,
            "another key has its own"
        );
    }

    #[test]
    fn a_refusal_by_one_limit_consumes_nothing_of_the_others() {
        let counters = Counters::new();
        let both = rules(&[("wide", 50, false), ("narrow", 5, false)]);
        assert_eq!(allowed_of(&counters, 0, &both, 1000, SECOND), 5);
        let answer = counters.take(0, &key(0), Some(1), &both, SECOND, 1);
        assert!(
            matches!(answer, LimitAnswer::Refused { limit: 1, .. }),
            "{answer:?}"
        );
        let wide = rules(&[("wide", 50, false)]);
        assert_eq!(
            allowed_of(&counters, 0, &wide, 1000, SECOND),
            45,
            "only what passed was counted"
        );
    }

    #[test]
    fn a_shared_limit_is_one_for_all_keys_of_an_owner() {
        let counters = Counters::new();
        for shared in [
            rules(&[("all", 10, true)]),
            rules(&[("own", 50, false), ("all", 10, true)]),
        ] {
            let now = SECOND * if shared.counted().len() == 1 { 1 } else { 1000 };
            assert_eq!(allowed_of(&counters, 0, &shared, 6, now), 6);
            assert_eq!(allowed_of(&counters, 1, &shared, 100, now), 4);
        }
    }

    #[test]
    fn a_narrower_limit_does_not_inherit_a_wait_beyond_its_own_terms() {
        let counters = Counters::new();
        let month = RateLimit::new("requests", 1000, 30 * 86_400_000, 0, false).unwrap();
        let month = Rules::new(
            RateLimits::one(month),
            NetworkList::default(),
            OriginList::default(),
            false,
        );
        assert_eq!(allowed_of(&counters, 0, &month, 2000, SECOND), 1000);
        let minute = rules(&[("requests", 60, false)]);
        assert_eq!(allowed_of(&counters, 0, &minute, 1, SECOND), 0);
        assert_eq!(allowed_of(&counters, 0, &minute, 100, 61 * SECOND), 60);
    }

    #[test]
    fn a_shared_limit_is_not_shortened_by_one_of_the_same_name_and_other_terms() {
        let counters = Counters::new();
        let month = shared("requests", 1000, 30 * 86_400_000);
        let minute = shared("requests", 60, 60_000);
        assert_eq!(allowed_of(&counters, 0, &month, 2000, SECOND), 1000);
        assert_eq!(allowed_of(&counters, 1, &minute, 100, SECOND), 60);
        assert_eq!(
            allowed_of(&counters, 0, &month, 2000, 61 * SECOND),
            0,
            "its month is not over"
        );
        assert_eq!(allowed_of(&counters, 1, &minute, 100, 61 * SECOND), 60);
        assert_eq!(
            allowed_of(&counters, 2, &month, 2000, 61 * SECOND),
            0,
            "equal terms are one limit"
        );
    }

    #[test]
    fn further_words_belong_to_the_key_and_not_to_its_slot() {
        let both = rules(&[("wide", 50, false), ("narrow", 5, false)]);
        let take = |counters: &Counters, number: u32, owner: u32| {
            let answer = counters.take(0, &key(number), Some(owner), &both, SECOND, 1);
            matches!(answer, LimitAnswer::Allowed { .. })
        };
        let counters = Counters::new();
        assert_eq!((0..9).filter(|_| take(&counters, 7, 1)).count(), 5);
        // It got another owner and went; the next key in its slot has the owner that it had.
        counters.forget(key(7), Some(2));
        counters.reset(0);
        assert!(take(&counters, 8, 1), "another key");
        assert!(!take(&counters, 7, 1), "the same key");
        counters.forget(key(7), Some(1));
        assert!(take(&counters, 7, 1), "forgotten");
    }

    #[test]
    fn a_cost_above_the_capacity_is_told_apart() {
        let counters = Counters::new();
        let five = rules(&[("requests", 5, true)]);
        let answer = counters.take(0, &key(0), None, &five, SECOND, 6);
        assert!(matches!(
            answer,
            LimitAnswer::Refused {
                retry_after_ms: None,
                ..
            }
        ));
    }

    #[test]
    fn threads_together_get_no_more_than_one_would() {
        for rules in [
            rules(&[("one", 500, false)]),
            rules(&[("one", 800, false), ("two", 500, false), ("all", 600, true)]),
        ] {
            let counters = Counters::new();
            let passed: u32 = std::thread::scope(|scope| {
                let take = || allowed_of(&counters, 7, &rules, 1000, SECOND);
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .sum()
            });
            assert_eq!(passed, 500);
        }
    }

    #[test]
    fn words_in_the_past_are_dropped() {
        let counters = Counters::new();
        let both = rules(&[("one", 60, false), ("two", 60, false)]);
        for head in 0..20_000 {
            let now = SECOND * i64::from(head) * 120;
            counters.take(head, &key(head), None, &both, now, 1);
        }
        let words: usize = counters
            .stripes
            .iter()
            .map(|one| one.lock().words.len())
            .sum();
        assert!(words < 64 * 65, "{words}");
    }
}
