//! The index itself: records by kid, by mac and by key id, and who may write them when.
//!
//! All writes of one key happen under the lock of its id; readers never take that lock. A reader
//! holds the read lock of one shard of the kid table while it reads the record, so that a record is
//! never given to another key under its eyes.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use keywright_domain::api_keys::KeyMac;
use keywright_domain::scopes::ScopeSet;
use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::absent::{Absent, Question};
use crate::counters::{Counters, LimitAnswer};
use crate::image::{
    Applied, KeyImage, KidOfMac, Lookup, PrincipalFacts, PrincipalId, PrincipalImage, Rules,
    RulesId, ScopesId, SecretImage, Snapshot, TextId,
};
use crate::intern::Interner;
use crate::packed::{KeyId, PackedKid};
use crate::principals::Principals;
use crate::record::{self, ELSEWHERE, Extended, Profile, Record};
use crate::row::{Control, DOUBT, FIRST_USED, LIVE, Row, VERSION_END};
use crate::slab::{SLOT_END, Slab};
use crate::table::SlotTable;

mod records;
mod shared;
#[cfg(test)]
mod tests;

pub use shared::Statistics;

const SHARDS: usize = 1024;
const RARE_SHARDS: usize = 64;
/// The doubt in a key that could not be held; any image that can be settles it.
const HELD_BACK: i64 = i64::MAX;

/// What belongs to the ids of one shard; its lock is the lock of their records.
#[derive(Debug, Default)]
struct IdShard {
    /// First record of each key.
    heads: SlotTable,
    /// All records of the keys that have several.
    families: HashMap<u32, Vec<u32>>,
    /// Versions about to be committed.
    doubts: HashMap<KeyId, Vec<i64>>,
    /// Keys that are gone, and the version at which they went.
    tombstones: HashMap<KeyId, i64>,
}

/// All keys, for verification.
#[derive(Debug)]
pub struct Index {
    hasher: RandomState,
    kids: Box<[RwLock<SlotTable>]>,
    macs: Box<[RwLock<SlotTable>]>,
    ids: Box<[Mutex<IdShard>]>,
    rows: Slab<Row<{ record::WORDS }>>,
    extended: Box<[RwLock<HashMap<u32, Extended>>]>,
    /// First slot that was never used; and slots that were given back.
    next: AtomicU32,
    free: Mutex<Vec<u32>>,
    counters: Counters,
    principals: Principals,
    profiles: Interner<Profile, Profile>,
    scopes: Interner<String, Arc<ScopeSet>>,
    rules: Interner<String, Arc<Rules>>,
    texts: Interner<String, Arc<str>>,
    absent: Absent,
    complete: AtomicBool,
    /// Some key could not be held, so that not being here means nothing.
    leaky: AtomicBool,
    keys: AtomicUsize,
    records: AtomicUsize,
    /// Writers of keys share it; [`Index::clear`] has it alone.
    shape: RwLock<()>,
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

impl Index {
    /// An empty index that knows to be incomplete.
    #[must_use]
    pub fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            kids: (0..SHARDS).map(|_| RwLock::default()).collect(),
            macs: (0..RARE_SHARDS).map(|_| RwLock::default()).collect(),
            ids: (0..SHARDS).map(|_| Mutex::default()).collect(),
            rows: Slab::new(),
            extended: (0..RARE_SHARDS).map(|_| RwLock::default()).collect(),
            next: AtomicU32::new(0),
            free: Mutex::default(),
            counters: Counters::new(),
            principals: Principals::new(),
            profiles: Interner::new(),
            scopes: Interner::new(),
            rules: Interner::new(),
            texts: Interner::new(),
            absent: Absent::new(),
            complete: AtomicBool::new(false),
            leaky: AtomicBool::new(false),
            keys: AtomicUsize::new(0),
            records: AtomicUsize::new(0),
            shape: RwLock::new(()),
        }
    }

    // ---- writing ---------------------------------------------------------------------------

    /// Takes in a key as the database has it. Nothing older overwrites anything newer, and a
    /// removed key does not come back.
    pub fn apply_key(&self, image: &KeyImage) -> Applied {
        let _shape = self.shape.read();
        self.apply_in_shape(image)
    }

    /// Takes in many keys, as [`Index::apply_key`] does; gives how many were not older.
    pub fn load_chunk(&self, images: impl IntoIterator<Item = KeyImage>) -> usize {
        let _shape = self.shape.read();
        let applied = images.into_iter().map(|image| self.apply_in_shape(&image));
        applied.filter(|applied| *applied != Applied::Older).count()
    }

    fn apply_in_shape(&self, image: &KeyImage) -> Applied {
        let mut shard = self.id_shard(image.id);
        if shard
            .tombstones
            .get(&image.id)
            .is_some_and(|gone| *gone >= image.version)
        {
            return Applied::Older;
        }
        let id_hash = self.hash(image.id.bits());
        let head = self.head(&shard, image.id, id_hash);
        let version = head.and_then(|head| self.version(head));
        if version.is_some_and(|version| version > image.version) {
            return Applied::Older;
        }
        if !(0..VERSION_END).contains(&image.version) || !self.kids_are_free(image) {
            return self.give_up(&mut shard, image.id, head);
        }
        let profiles: Option<Vec<u32>> = image
            .secrets
            .iter()
            .map(|secret| {
                let profile = Profile::of(image, secret);
                self.profiles.intern(profile, || (profile, 0))
            })
            .collect();
        let Some(profiles) = profiles else {
            return self.give_up(&mut shard, image.id, head);
        };

        let flags = record::flags(image) | self.settle_up_to(&mut shard, image.id, image.version);
        let mut family = match head {
            Some(head) => shard.families.remove(&head).unwrap_or_else(|| vec![head]),
            None => Vec::new(),
        };
        // Secrets that are not in the image any more: the database has them no more. The first record is
        // what finds the others and what the key is counted by, so it stays as long as the key.
        let is_gone = |slot: u32| {
            let kid = self.kid_at(slot);
            !image.secrets.iter().any(|secret| Some(secret.kid) == kid)
        };
        let mut is_head = true;
        family.retain(|slot| {
            let is_kept = is_head || !is_gone(*slot);
            if !is_kept {
                self.take_out(*slot);
            } else if is_head && is_gone(*slot) {
                self.hide(*slot, image.version, flags);
            }
            is_head = false;
            is_kept
        });
        for (secret, profile) in image.secrets.iter().zip(profiles) {
            let place = family
                .iter()
                .copied()
                .find(|slot| self.kid_at(*slot) == Some(secret.kid));
            let Some(slot) = place.or_else(|| self.take_slot()) else {
                shard.put_family(family);
                let head = self.head(&shard, image.id, id_hash);
                return self.give_up(&mut shard, image.id, head);
            };
            let head = family.first().copied().unwrap_or(slot);
            let record = Record::of(image, secret, profile, head, slot);
            let was_hidden = place.is_some() && self.is_hidden(slot);
            self.write(slot, &record, image.version, flags, secret);
            if was_hidden {
                self.publish(secret.kid, slot);
            }
            if place.is_none() {
                if head == slot {
                    shard
                        .heads
                        .insert(id_hash, slot, shard_of(id_hash) % 16, |slot| {
                            self.id_hash_at(slot)
                        });
                    self.keys.fetch_add(1, Ordering::Relaxed);
                }
                family.push(slot);
                self.publish(secret.kid, slot);
            }
        }
        if family.is_empty() {
            // Nothing to hold: what is kept is that older images say nothing any more.
            shard.tombstones.insert(image.id, image.version - 1);
        }
        shard.put_family(family);
        Applied::Applied
    }

    /// Takes in a principal; nothing older overwrites anything newer.
    pub fn apply_principal(&self, image: &PrincipalImage) -> Applied {
        self.principals.apply(image)
    }

    /// Says, before the commit, that a key is about to get `version`. Its secrets answer
    /// [`Lookup::AskDatabase`] until an image at least as new is applied, or until
    /// [`Index::settle_key`].
    pub fn doubt_key(&self, id: KeyId, version: i64) {
        let mut shard = self.id_shard(id);
        let head = self.head(&shard, id, self.hash(id.bits()));
        if head
            .and_then(|head| self.version(head))
            .is_some_and(|held| held >= version)
            || shard
                .tombstones
                .get(&id)
                .is_some_and(|gone| *gone >= version)
        {
            return;
        }
        shard.doubts.entry(id).or_default().push(version);
        self.mark_doubt(&shard, head);
    }

    /// Takes back one [`Index::doubt_key`] of this version, after a commit that certainly failed.
    /// If it may have succeeded, read the key and apply it instead.
    pub fn settle_key(&self, id: KeyId, version: i64) {
        let mut shard = self.id_shard(id);
        let Some(versions) = shard.doubts.get_mut(&id) else {
            return;
        };
        if let Some(at) = versions.iter().position(|one| *one == version) {
            versions.swap_remove(at);
        }
        if versions.is_empty() {
            shard.doubts.remove(&id);
            if let Some(head) = self.head(&shard, id, self.hash(id.bits())) {
                shard.each_of(head, |slot| {
                    if let Some(row) = self.rows.get(slot) {
                        row.unset(DOUBT);
                    }
                });
            }
        }
    }

    /// As [`Index::doubt_key`], for a principal: all keys it owns or made.
    pub fn doubt_principal(&self, id: PrincipalId, version: i64) {
        self.principals.doubt(id, version);
    }

    /// As [`Index::settle_key`], for a principal.
    pub fn settle_principal(&self, id: PrincipalId, version: i64) {
        self.principals.settle(id, version);
    }

    /// Takes a key out that was deleted at `version`; images up to that version are ignored from
    /// then on.
    pub fn remove_key(&self, id: KeyId, version: i64) -> Applied {
        let _shape = self.shape.read();
        let mut shard = self.id_shard(id);
        let id_hash = self.hash(id.bits());
        let head = self.head(&shard, id, id_hash);
        if head
            .and_then(|head| self.version(head))
            .is_some_and(|held| held > version)
        {
            return Applied::Older;
        }
        let gone = shard.tombstones.entry(id).or_insert(version);
        *gone = (*gone).max(version);
        self.settle_up_to(&mut shard, id, version);
        if let Some(head) = head {
            shard
                .heads
                .remove(id_hash, head, |slot| self.id_hash_at(slot));
            self.counters.forget(id, self.owner_at(head));
            for slot in shard.families.remove(&head).unwrap_or_else(|| vec![head]) {
                self.take_out(slot);
            }
            self.keys.fetch_sub(1, Ordering::Relaxed);
        }
        Applied::Applied
    }

    /// Forgets tombstones up to `version`: no load that began before it is still under way.
    pub fn forget_tombstones(&self, version: i64) {
        for shard in &self.ids {
            shard.lock().tombstones.retain(|_, gone| *gone > version);
        }
    }

    /// Says whether every key of the database is here: only then does not being here mean
    /// [`Lookup::Unknown`].
    pub fn set_complete(&self, complete: bool) {
        self.complete.store(complete, Ordering::Release);
    }

    /// Whether every key of the database is here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire) && !self.leaky.load(Ordering::Acquire)
    }

    /// Makes room for so many keys with one secret each, so that loading them grows nothing.
    pub fn reserve(&self, keys: usize) {
        // Shards differ by chance: four standard deviations more than the mean.
        let mean = keys / SHARDS;
        let share = mean + 4 * mean.isqrt() + 1;
        for shard in &self.kids {
            shard.write().reserve(share, |slot| self.kid_hash_at(slot));
        }
        for shard in &self.ids {
            shard
                .lock()
                .heads
                .reserve(share, |slot| self.id_hash_at(slot));
        }
    }

    /// Forgets all keys and what is known of principals, and that it was complete. What is in
    /// doubt or removed stays so. Of rate limits, the first of each key begins anew.
    pub fn clear(&self) {
        let _shape = self.shape.write();
        self.set_complete(false);
        self.leaky.store(false, Ordering::Release);
        for table in self.kids.iter().chain(&self.macs) {
            table.write().clear();
        }
        for shard in &self.ids {
            let mut shard = shard.lock();
            shard.heads.clear();
            shard.families = HashMap::new();
        }
        for shard in &self.extended {
            *shard.write() = HashMap::new();
        }
        for slot in 0..self.next.load(Ordering::Acquire) {
            if let Some(row) = self.rows.get(slot) {
                row.write(Control::new(0, 0, 0), &[0; record::WORDS], || ());
            }
            self.counters.reset(slot);
        }
        self.free.lock().clear();
        self.next.store(0, Ordering::Release);
        self.keys.store(0, Ordering::Relaxed);
        self.records.store(0, Ordering::Relaxed);
        self.principals.clear();
    }

    // ---- reading ---------------------------------------------------------------------------

    /// What is known of a kid at `now_ms` (which matters only for kids that do not exist).
    #[must_use]
    pub fn lookup(&self, kid: PackedKid, now_ms: i64) -> Lookup {
        let hash = self.hash(kid.bits());
        {
            let table = self.kids[shard_of(hash)].read();
            if let Some(slot) = table.find(hash, |slot| self.kid_at(slot) == Some(kid)) {
                return self.snapshot(slot);
            }
        }
        self.missing(kid, hash, now_ms)
    }

    /// What it means that a look found nothing.
    fn missing(&self, kid: PackedKid, hash: u64, now_ms: i64) -> Lookup {
        if self.is_complete() {
            // The last keys may have come between that look and now: only what is missing while all are here
            // does not exist.
            let table = self.kids[shard_of(hash)].read();
            if let Some(slot) = table.find(hash, |slot| self.kid_at(slot) == Some(kid)) {
                return self.snapshot(slot);
            }
            drop(table);
            // Still: they may have been forgotten.
            if self.is_complete() {
                return Lookup::Unknown;
            }
        }
        if self.absent.is_absent(kid, hash, now_ms) {
            Lookup::Unknown
        } else {
            Lookup::AskDatabase
        }
    }

    /// Whose an imported hash is: the kid to look up, which may be in doubt, and whose mac may have changed
    /// since.
    #[must_use]
    pub fn kid_of_mac(&self, mac: &KeyMac) -> KidOfMac {
        let hash = self.mac_hash(mac.as_bytes());
        let find = || {
            let table = self.macs[shard_of(hash) % RARE_SHARDS].read();
            let slot = table.find(hash, |slot| self.mac_at(slot) == Some(*mac.as_bytes()))?;
            self.kid_at(slot)
        };
        if let Some(kid) = find() {
            return KidOfMac::Is(kid);
        }
        if !self.is_complete() {
            return KidOfMac::AskDatabase;
        }
        // As for kids: see `missing`.
        match find() {
            Some(kid) => KidOfMac::Is(kid),
            None if self.is_complete() => KidOfMac::Unknown,
            None => KidOfMac::AskDatabase,
        }
    }

    /// What is known of a principal; `None` if it is in doubt or was never applied.
    #[must_use]
    pub fn principal(&self, id: PrincipalId) -> Option<PrincipalFacts> {
        self.principals.facts(id.0)
    }

    /// Begins a question to the database for a kid that is not here.
    #[must_use]
    pub fn ask(&self, kid: PackedKid) -> Question {
        self.absent.ask(kid, self.hash(kid.bits()))
    }

    /// The database did not know the kid: until `until_ms` it is not to be asked again. Ignored if
    /// the kid may have come to be since the question began.
    pub fn note_absent(&self, question: Question, until_ms: i64) {
        self.absent.note(question, until_ms);
    }

    /// Claims the first use of a secret; `true` for exactly one caller, who then writes it. `false`
    /// too if the key has changed since the snapshot: look it up again.
    #[must_use]
    pub fn claim_first_use(&self, snapshot: &Snapshot) -> bool {
        // The table's lock keeps the record from being given to another key meanwhile.
        let hash = self.hash(snapshot.kid.bits());
        let table = self.kids[shard_of(hash)].read();
        let slot = table.find(hash, |slot| self.kid_at(slot) == Some(snapshot.kid));
        let row = slot.and_then(|slot| self.rows.get(slot));
        row.is_some_and(|row| row.claim(FIRST_USED, snapshot.version))
    }

    /// Takes a claim back whose writing failed, so that the next use claims it again.
    pub fn unclaim_first_use(&self, snapshot: &Snapshot) {
        let _shard = self.id_shard(snapshot.key_id);
        let hash = self.hash(snapshot.kid.bits());
        let table = self.kids[shard_of(hash)].read();
        if let Some(slot) = table.find(hash, |slot| self.kid_at(slot) == Some(snapshot.kid))
            && let Some(row) = self.rows.get(slot)
            && row.control().version() == snapshot.version
        {
            row.unset(FIRST_USED);
        }
    }

    /// The same where the snapshot is gone: whatever the key is by now, the next use claims again. Writing
    /// a first use a second time must do nothing.
    pub fn unclaim_first_use_of(&self, kid: PackedKid) {
        let hash = self.hash(kid.bits());
        let find = || {
            let table = self.kids[shard_of(hash)].read();
            table.find(hash, |slot| self.kid_at(slot) == Some(kid))
        };
        let Some(id) = find().and_then(|slot| self.id_at(slot)) else {
            return;
        };
        // The lock of the id comes before those of the tables.
        let _shard = self.id_shard(id);
        let slot = find().filter(|slot| self.id_at(*slot) == Some(id));
        if let Some(row) = slot.and_then(|slot| self.rows.get(slot)) {
            row.unset(FIRST_USED);
        }
    }

    /// Counts a request of `cost` at `now_us` against all of the key's limits, or against none of
    /// them if one refuses.
    #[must_use]
    pub fn gcra(&self, snapshot: &Snapshot, now_us: i64, cost: u32) -> LimitAnswer {
        let Some(rules) = snapshot.rules.and_then(|id| self.rules.get(id.0)) else {
            return LimitAnswer::Allowed {
                limit: 0,
                remaining: None,
                reset_ms: 0,
            };
        };
        let owner = snapshot.owner.map(|owner| owner.id.0);
        self.counters
            .take(snapshot.head, &snapshot.key_id, owner, rules, now_us, cost)
    }
}

impl IdShard {
    /// Keeps the records of a key, the head first; one alone needs no list.
    fn put_family(&mut self, family: Vec<u32>) {
        if let [head, _, ..] = family.as_slice() {
            self.families.insert(*head, family);
        }
    }

    fn each_of(&self, head: u32, act: impl Fn(u32)) {
        match self.families.get(&head) {
            Some(family) => family.iter().copied().for_each(act),
            None => act(head),
        }
    }
}

/// The shard of a hash: bits that neither the place nor the mark in a table uses.
fn shard_of(hash: u64) -> usize {
    (hash >> 5) as usize % SHARDS
}
