//! The words that rate limits count in. The first limit of a key has a word beside its record and
//! is counted by compare-and-swap; further ones and those that an owner's keys share lie in a table.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;

use crate::image::{Limit, Rules};
use crate::slab::Slab;

const STRIPES: u32 = 64;

/// What the limits of a key say to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitAnswer {
    /// All allow it, and it is counted.
    Allowed {
        /// Requests of cost 1 that may still come at once, by the narrowest limit; none without limits.
        remaining: Option<u64>,
        /// Time until that limit is whole again (ms, rounded up).
        reset_ms: u64,
    },
    /// At least one refuses; nothing was counted anywhere.
    Refused {
        /// Which of [`Rules::limits`]: the one to wait longest for.
        limit: usize,
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
    /// A further limit of a key, by its place.
    Key(u32, usize),
    /// A limit that all keys of an owner share, by its name.
    Owner(u32, std::sync::Arc<str>),
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

    /// Forgets the further words of a key that goes.
    pub(crate) fn forget(&self, head: u32, owner: Option<u32>) {
        self.reset(head);
        let mut stripe = self.stripe(head, owner).lock();
        if !stripe.words.is_empty() {
            stripe
                .words
                .retain(|key, _| !matches!(key, WordKey::Key(slot, _) if *slot == head));
        }
    }

    fn stripe(&self, head: u32, owner: Option<u32>) -> &Mutex<Stripe> {
        // All words of a key lie in one stripe: that of its owner, if it has one.
        &self.stripes[(owner.unwrap_or(head) % STRIPES) as usize]
    }

    /// Counts a request of `cost` at `now_us` against all limits or against none.
    pub(crate) fn take(
        &self,
        head: u32,
        owner: Option<u32>,
        rules: &Rules,
        now_us: i64,
        cost: u32,
    ) -> LimitAnswer {
        match rules.limits.as_slice() {
            [] => LimitAnswer::Allowed {
                remaining: None,
                reset_ms: 0,
            },
            [limit] if !(limit.shared_by_owner && owner.is_some()) => {
                let Some(word) = self.first.make(head) else {
                    return refuse_all();
                };
                let mut tat = word.load(Ordering::Relaxed);
                loop {
                    let peek = Peek::new(limit, tat, now_us, cost);
                    let Some(after) = peek.after else {
                        return peek.refused(0);
                    };
                    match word.compare_exchange_weak(
                        tat,
                        after,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    ) {
                        Ok(_) => return peek.allowed(),
                        Err(current) => tat = current,
                    }
                }
            }
            limits => self.take_all(head, owner, limits, now_us, cost),
        }
    }

    fn take_all(
        &self,
        head: u32,
        owner: Option<u32>,
        limits: &[Limit],
        now_us: i64,
        cost: u32,
    ) -> LimitAnswer {
        let Some(first) = self.first.make(head) else {
            return refuse_all();
        };
        let mut stripe = self.stripe(head, owner).lock();
        loop {
            // A key whose limits just changed may still be counted by the way without a lock.
            let first_tat = first.load(Ordering::Relaxed);
            let mut peeks = Vec::with_capacity(limits.len());
            for (place, limit) in limits.iter().enumerate() {
                let key = match owner {
                    Some(owner) if limit.shared_by_owner => {
                        Some(WordKey::Owner(owner, limit.name.clone()))
                    }
                    _ if place == 0 => None,
                    _ => Some(WordKey::Key(head, place)),
                };
                let tat = match &key {
                    None => first_tat,
                    Some(key) => stripe.words.get(key).copied().unwrap_or(0),
                };
                peeks.push((key, Peek::new(limit, tat, now_us, cost)));
            }
            let refusing = peeks
                .iter()
                .enumerate()
                .filter(|(_, (_, peek))| peek.after.is_none());
            if let Some((place, (_, peek))) = refusing.max_by_key(|(_, (_, peek))| peek.wait_us()) {
                return peek.refused(place);
            }
            let own = peeks.iter().find(|(key, _)| key.is_none());
            if let Some(after) = own.and_then(|(_, peek)| peek.after)
                && first
                    .compare_exchange(first_tat, after, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            let narrowest = peeks
                .iter()
                .map(|(_, peek)| *peek)
                .min_by_key(Peek::remaining);
            for (key, peek) in peeks {
                if let (Some(key), Some(after)) = (key, peek.after) {
                    stripe.words.insert(key, after);
                }
            }
            stripe.prune(now_us);
            return narrowest.map_or_else(refuse_all, |peek| peek.allowed());
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

/// One limit and one request, before anything is counted.
#[derive(Clone, Copy, Debug)]
struct Peek {
    emission_us: i64,
    tolerance_us: i64,
    /// How far the theoretical arrival time lies ahead.
    ahead_us: i64,
    needed_us: i64,
    /// The word if the request is counted; none if it is refused.
    after: Option<i64>,
}

impl Peek {
    fn new(limit: &Limit, tat: i64, now_us: i64, cost: u32) -> Self {
        let needed_us = limit.emission_us.saturating_mul(i64::from(cost));
        // Never further ahead than the limit allows: its terms may have changed, or the clock.
        let ahead_us = tat.saturating_sub(now_us).clamp(0, limit.tolerance_us);
        let then = ahead_us.saturating_add(needed_us);
        let after = (then <= limit.tolerance_us).then(|| now_us.saturating_add(then));
        Self {
            emission_us: limit.emission_us,
            tolerance_us: limit.tolerance_us,
            ahead_us,
            needed_us,
            after,
        }
    }

    fn wait_us(&self) -> i64 {
        if self.needed_us > self.tolerance_us {
            i64::MAX
        } else {
            self.ahead_us + self.needed_us - self.tolerance_us
        }
    }

    fn remaining(&self) -> u64 {
        let left = self.tolerance_us - self.ahead_us - self.needed_us;
        left.max(0).cast_unsigned() / self.emission_us.max(1).cast_unsigned()
    }

    fn allowed(&self) -> LimitAnswer {
        LimitAnswer::Allowed {
            remaining: Some(self.remaining()),
            reset_ms: whole_ms(self.ahead_us + self.needed_us),
        }
    }

    fn refused(&self, limit: usize) -> LimitAnswer {
        let wait_us = self.wait_us();
        LimitAnswer::Refused {
            limit,
            retry_after_ms: (wait_us != i64::MAX).then(|| whole_ms(wait_us)),
            reset_ms: whole_ms(self.ahead_us),
        }
    }
}

fn whole_ms(us: i64) -> u64 {
    us.max(0).cast_unsigned().div_ceil(1000)
}

/// There is no place to count in: nothing is allowed that cannot be counted.
fn refuse_all() -> LimitAnswer {
    LimitAnswer::Refused {
        limit: 0,
        retry_after_ms: None,
        reset_ms: 0,
    }
}
