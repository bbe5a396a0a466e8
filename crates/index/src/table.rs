//! A hash table of slots: four bytes an entry, dense, growing by small steps. The records hold the
//! keys; the table holds where they are, and five bits of the hash so that few wrong ones are read.

const SLOT_BITS: u32 = 27;
const SLOT_MASK: u32 = (1 << SLOT_BITS) - 1;
/// No slot is [`SLOT_MASK`], so no entry is this.
const EMPTY: u32 = u32::MAX;

/// One shard of a table.
#[derive(Debug, Default)]
pub(crate) struct SlotTable {
    entries: Box<[u32]>,
    len: u32,
}

impl SlotTable {
    /// The slot of this hash that `is_it`.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let mark = mark(hash);
        let (tail, head) = (self.home(hash)..self.entries.len(), 0..self.home(hash));
        for index in tail.chain(head) {
            let entry = self.entries[index];
            if entry == EMPTY {
                return None;
            }
            if entry & !SLOT_MASK == mark && is_it(entry & SLOT_MASK) {
                return Some(entry & SLOT_MASK);
            }
        }
        None
    }

    /// Adds a slot that is not there. `hash_of` gives the hash of what lies at a slot. `growth`
    /// (0 to 15) makes the steps of the shards differ, so that they do not all grow at once.
    pub(crate) fn insert(
        &mut self,
        hash: u64,
        slot: u32,
        growth: usize,
        hash_of: impl Fn(u32) -> u64,
    ) {
        // At most eight ninths full.
        if (self.len as usize + 1) * 9 > self.entries.len() * 8 {
            let capacity = self.entries.len() + self.entries.len() * (32 + growth * 3) / 256;
            self.resize(capacity.max(self.entries.len() + 4), hash_of);
        }
        self.place(mark(hash) | slot, hash);
        self.len += 1;
    }

    /// Takes a slot away; tells whether it was there.
    pub(crate) fn remove(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) -> bool {
        let capacity = self.entries.len();
        let wanted = mark(hash) | slot;
        let Some(mut hole) = (0..capacity)
            .map(|step| (self.home(hash) + step) % capacity)
            .take_while(|index| self.entries[*index] != EMPTY)
            .find(|index| self.entries[*index] == wanted)
        else {
            return false;
        };
        // What stands behind moves up, unless that would put it before its own home.
        let mut index = (hole + 1) % capacity;
        while self.entries[index] != EMPTY && index != hole {
            let home = self.home(hash_of(self.entries[index] & SLOT_MASK));
            let (walked, gap) = (
                (index + capacity - home) % capacity,
                (index + capacity - hole) % capacity,
            );
            if walked >= gap {
                self.entries[hole] = self.entries[index];
                hole = index;
            }
            index = (index + 1) % capacity;
        }
        self.entries[hole] = EMPTY;
        self.len -= 1;
        true
    }

    /// Makes room for `len` entries in all, so that a known number is inserted without growth.
    pub(crate) fn reserve(&mut self, len: usize, hash_of: impl Fn(u32) -> u64) {
        let capacity = len * 9 / 8 + 1;
        if capacity > self.entries.len() {
            self.resize(capacity, hash_of);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.len as usize
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.entries)
    }

    fn resize(&mut self, capacity: usize, hash_of: impl Fn(u32) -> u64) {
        let fresh = vec![EMPTY; capacity].into_boxed_slice();
        let old = core::mem::replace(&mut self.entries, fresh);
        for entry in old.iter().filter(|entry| **entry != EMPTY) {
            self.place(*entry, hash_of(entry & SLOT_MASK));
        }
    }

    fn place(&mut self, entry: u32, hash: u64) {
        let home = self.home(hash);
        let (head, tail) = self.entries.split_at_mut(home);
        if let Some(free) = tail.iter_mut().chain(head).find(|free| **free == EMPTY) {
            *free = entry;
        }
    }

    /// Where the search for a hash begins: its upper half, spread over any capacity.
    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.entries.len() as u64) >> 32) as usize
    }
}

/// The five lowest bits of a hash, where an entry keeps them.
fn mark(hash: u64) -> u32 {
    ((hash & 31) as u32) << SLOT_BITS
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Hashes that collide often: few homes, few marks.
    fn poor_hash(slot: u32) -> u64 {
        (u64::from(slot % 7) << 61) | u64::from(slot % 2)
    }

    proptest! {
        #[test]
        fn it_answers_like_a_map(steps in prop::collection::vec((0_u32..60, any::<bool>()), 1..300), good in any::<bool>()) {
            let hash_of = |slot: u32| if good { u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15) } else { poor_hash(slot) };
            let mut table = SlotTable::default();
            let mut model = HashMap::new();
            for (slot, adds) in steps {
                if adds && !model.contains_key(&slot) {
                    table.insert(hash_of(slot), slot, slot as usize % 16, hash_of);
                    model.insert(slot, ());
                } else if !adds {
                    prop_assert_eq!(table.remove(hash_of(slot), slot, hash_of), model.remove(&slot).is_some());
                }
                prop_assert_eq!(table.len(), model.len());
                for slot in 0..60 {
                    prop_assert_eq!(table.find(hash_of(slot), |found| found == slot).is_some(), model.contains_key(&slot));
                }
            }
        }
    }

    #[test]
    fn a_reserved_table_does_not_grow() {
        let mut table = SlotTable::default();
        table.reserve(1000, poor_hash);
        let bytes = table.bytes();
        for slot in 0..1000 {
            table.insert(poor_hash(slot), slot, 0, poor_hash);
        }
        assert_eq!(table.bytes(), bytes);
        assert!(bytes <= 1000 * 9 / 2 + 8);
    }
}
