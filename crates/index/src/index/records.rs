//! Single records: read whole, written, put into the tables and taken out. Who may write when is
//! decided in the room above.

use super::*;

impl Index {
    pub(super) fn snapshot(&self, slot: u32) -> Lookup {
        let read = self.rows.get(slot).and_then(|row| {
            row.read(|control, _| record::is_extended(control).then(|| self.extended_at(slot)))
        });
        let Some((control, words, extended)) = read else {
            return Lookup::AskDatabase;
        };
        if !control.has(LIVE) || control.has(DOUBT) || control.state() == ELSEWHERE {
            return Lookup::AskDatabase;
        }
        let record = Record::read(&words, extended.flatten(), slot);
        let facts = self.profiles.get(record.profile).and_then(|profile| {
            let owner = self.facts(record.owner)?;
            let creator = self.facts(profile.creator.number(record.owner))?;
            record.snapshot(control, profile, owner, creator)
        });
        facts.map_or(Lookup::AskDatabase, Lookup::Found)
    }

    /// The facts of a principal that is there: `Some(None)` for no principal, `None` to ask.
    #[expect(
        clippy::option_option,
        reason = "no principal and an unknown one are different things"
    )]
    pub(super) fn facts(&self, number: u32) -> Option<Option<PrincipalFacts>> {
        if number == 0 {
            return Some(None);
        }
        self.principals.facts(number).map(Some)
    }

    pub(super) fn write(
        &self,
        slot: u32,
        record: &Record,
        version: i64,
        flags: u64,
        secret: &SecretImage,
    ) {
        let Some(row) = self.rows.get(slot) else {
            return;
        };
        let (words, extended) = record.words();
        let before = row.control();
        let old_mac = if before.has(LIVE) {
            self.mac_at(slot)
        } else {
            None
        };
        let moved = old_mac.is_some_and(|old| old != *secret.mac.as_bytes());
        if let Some(old) = old_mac.filter(|_| moved || !secret.foreign) {
            self.unpublish_mac(&old, slot);
        }
        let mut flags = flags;
        if secret.first_used || (before.has(LIVE) && before.has(FIRST_USED)) {
            flags |= FIRST_USED;
        }
        if extended.is_some() {
            flags |= crate::row::EXTENDED;
        }
        let control = Control::new(version, record::state_bits(secret.state), flags);
        row.write(control, &words, || self.set_extended(slot, extended));
        if secret.foreign
            && (moved || old_mac.is_none() || !self.has_mac(secret.mac.as_bytes(), slot))
        {
            self.publish_mac(secret.mac.as_bytes(), slot);
        }
    }

    /// The first record of a key whose secret is gone: nobody finds it by that secret any more.
    pub(super) fn hide(&self, slot: u32, version: i64, flags: u64) {
        let (Some(row), Some(kid)) = (self.rows.get(slot), self.kid_at(slot)) else {
            return;
        };
        self.unpublish(kid, slot);
        if let Some(mac) = self.mac_at(slot) {
            self.unpublish_mac(&mac, slot);
        }
        let words = core::array::from_fn(|index| row.fixed_word(index));
        let kept = row.control();
        let kept = if record::is_extended(kept) {
            crate::row::EXTENDED
        } else {
            0
        };
        row.write(
            Control::new(version, ELSEWHERE, flags | kept),
            &words,
            || (),
        );
    }

    /// Whether a record is a key's first one, without a secret.
    pub(super) fn is_hidden(&self, slot: u32) -> bool {
        let row = self.rows.get(slot);
        row.is_some_and(|row| row.control().state() == ELSEWHERE)
    }

    pub(super) fn publish(&self, kid: PackedKid, slot: u32) {
        let hash = self.hash(kid.bits());
        let number = shard_of(hash);
        self.kids[number]
            .write()
            .insert(hash, slot, number % 16, |slot| self.kid_hash_at(slot));
        self.absent.forget(kid, hash);
        self.records.fetch_add(1, Ordering::Relaxed);
    }

    fn unpublish(&self, kid: PackedKid, slot: u32) {
        let hash = self.hash(kid.bits());
        let mut table = self.kids[shard_of(hash)].write();
        if table.remove(hash, slot, |slot| self.kid_hash_at(slot)) {
            self.records.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes a record out of all tables and gives its slot back.
    pub(super) fn take_out(&self, slot: u32) {
        let (Some(row), Some(kid)) = (self.rows.get(slot), self.kid_at(slot)) else {
            return;
        };
        self.unpublish(kid, slot);
        if let Some(mac) = self.mac_at(slot) {
            self.unpublish_mac(&mac, slot);
        }
        self.counters.reset(slot);
        row.write(Control::new(0, 0, 0), &[0; record::WORDS], || {
            self.set_extended(slot, None)
        });
        self.free.lock().push(slot);
    }

    pub(super) fn take_slot(&self) -> Option<u32> {
        if let Some(slot) = self.free.lock().pop() {
            return Some(slot);
        }
        let next = |next: u32| (next < SLOT_END).then_some(next + 1);
        let slot = self
            .next
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
            .ok()?;
        self.rows.make(slot)?;
        Some(slot)
    }

    /// The key cannot be held: it stays in doubt, and not being here means nothing any more.
    pub(super) fn give_up(&self, shard: &mut IdShard, id: KeyId, head: Option<u32>) -> Applied {
        self.leaky.store(true, Ordering::Release);
        let doubts = shard.doubts.entry(id).or_default();
        if !doubts.contains(&HELD_BACK) {
            doubts.push(HELD_BACK);
        }
        self.mark_doubt(shard, head);
        Applied::NotHeld
    }

    pub(super) fn mark_doubt(&self, shard: &IdShard, head: Option<u32>) {
        if let Some(head) = head {
            shard.each_of(head, |slot| {
                if let Some(row) = self.rows.get(slot) {
                    row.set(DOUBT);
                }
            });
        }
    }

    /// Drops the doubts that `version` answers; [`DOUBT`] if some are left.
    pub(super) fn settle_up_to(&self, shard: &mut IdShard, id: KeyId, version: i64) -> u64 {
        let Some(versions) = shard.doubts.get_mut(&id) else {
            return 0;
        };
        versions.retain(|doubt| *doubt > version && *doubt != HELD_BACK);
        if versions.is_empty() {
            shard.doubts.remove(&id);
            return 0;
        }
        DOUBT
    }

    /// Whether no kid of an image belongs to another key.
    pub(super) fn kids_are_free(&self, image: &KeyImage) -> bool {
        image.secrets.iter().enumerate().all(|(place, secret)| {
            let hash = self.hash(secret.kid.bits());
            let table = self.kids[shard_of(hash)].read();
            let found = table.find(hash, |slot| self.kid_at(slot) == Some(secret.kid));
            let twice = image
                .secrets
                .iter()
                .take(place)
                .any(|one| one.kid == secret.kid);
            !twice && found.is_none_or(|slot| self.id_at(slot) == Some(image.id))
        })
    }

    pub(super) fn id_shard(&self, id: KeyId) -> MutexGuard<'_, IdShard> {
        self.ids[shard_of(self.hash(id.bits()))].lock()
    }

    pub(super) fn head(&self, shard: &IdShard, id: KeyId, hash: u64) -> Option<u32> {
        shard.heads.find(hash, |slot| self.id_at(slot) == Some(id))
    }

    pub(super) fn version(&self, slot: u32) -> Option<i64> {
        Some(self.rows.get(slot)?.control().version())
    }

    /// The owner that a record names.
    pub(super) fn owner_at(&self, slot: u32) -> Option<u32> {
        let row = self.rows.get(slot)?;
        let (_, words, extended) =
            row.read(|control, _| record::is_extended(control).then(|| self.extended_at(slot)))?;
        let owner = Record::read(&words, extended.flatten(), slot).owner;
        (owner != 0).then_some(owner)
    }

    pub(super) fn kid_at(&self, slot: u32) -> Option<PackedKid> {
        self.rows.get(slot).map(record::kid_of)
    }

    pub(super) fn id_at(&self, slot: u32) -> Option<KeyId> {
        self.rows.get(slot).map(record::id_of)
    }

    pub(super) fn mac_at(&self, slot: u32) -> Option<[u8; 32]> {
        self.rows.get(slot).map(record::mac_of)
    }

    pub(super) fn kid_hash_at(&self, slot: u32) -> u64 {
        self.kid_at(slot).map_or(0, |kid| self.hash(kid.bits()))
    }

    pub(super) fn id_hash_at(&self, slot: u32) -> u64 {
        self.id_at(slot).map_or(0, |id| self.hash(id.bits()))
    }

    pub(super) fn mac_hash_at(&self, slot: u32) -> u64 {
        self.mac_at(slot).map_or(0, |mac| self.mac_hash(&mac))
    }

    pub(super) fn publish_mac(&self, mac: &[u8; 32], slot: u32) {
        let hash = self.mac_hash(mac);
        let number = shard_of(hash) % RARE_SHARDS;
        self.macs[number]
            .write()
            .insert(hash, slot, number % 16, |slot| self.mac_hash_at(slot));
    }

    pub(super) fn unpublish_mac(&self, mac: &[u8; 32], slot: u32) {
        let hash = self.mac_hash(mac);
        let table = &self.macs[shard_of(hash) % RARE_SHARDS];
        if self.has_mac(mac, slot) {
            table
                .write()
                .remove(hash, slot, |slot| self.mac_hash_at(slot));
        }
    }

    pub(super) fn has_mac(&self, mac: &[u8; 32], slot: u32) -> bool {
        let hash = self.mac_hash(mac);
        let table = self.macs[shard_of(hash) % RARE_SHARDS].read();
        table.find(hash, |one| one == slot).is_some()
    }

    pub(super) fn extended_at(&self, slot: u32) -> Option<Extended> {
        self.extended[slot as usize % RARE_SHARDS]
            .read()
            .get(&slot)
            .copied()
    }

    pub(super) fn set_extended(&self, slot: u32, extended: Option<Extended>) {
        let shard = &self.extended[slot as usize % RARE_SHARDS];
        match extended {
            Some(extended) => {
                shard.write().insert(slot, extended);
            }
            None if shard.read().contains_key(&slot) => {
                shard.write().remove(&slot);
            }
            None => {}
        }
    }

    pub(super) fn hash(&self, bits: u128) -> u64 {
        self.hasher.hash_one(bits)
    }

    pub(super) fn mac_hash(&self, mac: &[u8; 32]) -> u64 {
        self.hasher.hash_one(mac)
    }
}
