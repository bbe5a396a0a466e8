//! Kids that the database was asked for and did not know: remembered for a moment, in a fixed
//! amount of memory, so that a flood of made-up keys does not become a flood of queries.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::packed::PackedKid;

const SHARDS: usize = 64;
const PLACES: usize = 256;
/// A time (ms) from which no kid is remembered.
const NEVER: i64 = i64::MIN;

/// A question to the database under way; see [`crate::Index::ask`].
#[derive(Clone, Copy, Debug)]
pub struct Question {
    kid: PackedKid,
    hash: u64,
    generation: u64,
}

#[derive(Debug, Default)]
struct Shard {
    /// Grows with every kid that came to be: an answer from before says nothing.
    generation: u64,
    /// By hash; a newer kid takes the place of an older one.
    places: Vec<(u128, i64)>,
}

#[derive(Debug)]
pub(crate) struct Absent {
    shards: Box<[Mutex<Shard>]>,
    hits: AtomicU64,
}

impl Absent {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hits: AtomicU64::new(0),
        }
    }

    pub(crate) fn ask(&self, kid: PackedKid, hash: u64) -> Question {
        let generation = self.shard(hash).lock().generation;
        Question {
            kid,
            hash,
            generation,
        }
    }

    pub(crate) fn note(&self, question: Question, until_ms: i64) {
        let mut shard = self.shard(question.hash).lock();
        if shard.generation == question.generation {
            if shard.places.is_empty() {
                shard.places = vec![(0, NEVER); PLACES];
            }
            shard.places[place(question.hash)] = (question.kid.bits(), until_ms);
        }
    }

    pub(crate) fn is_absent(&self, kid: PackedKid, hash: u64, now_ms: i64) -> bool {
        let shard = self.shard(hash).lock();
        let known = shard.places.get(place(hash));
        let is_absent = known.is_some_and(|(one, until)| *one == kid.bits() && now_ms < *until);
        if is_absent {
            self.hits.fetch_add(1, Ordering::Relaxed);
        }
        is_absent
    }

    /// The kid has come to be.
    pub(crate) fn forget(&self, kid: PackedKid, hash: u64) {
        let mut shard = self.shard(hash).lock();
        shard.generation += 1;
        if let Some(known) = shard.places.get_mut(place(hash))
            && known.0 == kid.bits()
        {
            known.1 = NEVER;
        }
    }

    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> usize {
        let places =
            |shard: &Mutex<Shard>| shard.lock().places.capacity() * size_of::<(u128, i64)>();
        size_of_val(&*self.shards) + self.shards.iter().map(places).sum::<usize>()
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        &self.shards[(hash >> 8) as usize % SHARDS]
    }
}

fn place(hash: u64) -> usize {
    (hash >> 32) as usize % PLACES
}
