//! What many keys have in common, kept once; and how large all of it is.

use keywright_domain::scopes::Scope;

use super::*;

/// What an allocator keeps beside each of its pieces, and the counts of an `Arc`.
const ALLOCATION: usize = 16;

/// How large the index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Keys held.
    pub keys: usize,
    /// Secrets held.
    pub records: usize,
    /// Principals named.
    pub principals: usize,
    /// Bytes taken, estimated.
    pub bytes: usize,
    /// Keys and principals in doubt.
    pub doubts: usize,
    /// Lookups answered from the memory of kids that do not exist.
    pub absent_hits: u64,
    /// Whether every key is held.
    pub complete: bool,
}

impl Index {
    /// The number of a scope set; `None` only beyond 134 million of them.
    pub fn intern_scopes(&self, scopes: &ScopeSet) -> Option<ScopesId> {
        let text = scopes.to_string();
        let count = scopes.as_slice().len();
        // The name, and each scope with its own text.
        let beside = 2 * text.len() + ALLOCATION + count * (size_of::<Scope>() + ALLOCATION);
        let make = || (Arc::new(scopes.clone()), beside);
        self.scopes.intern(text, make).map(ScopesId)
    }

    /// The number of a set of rules; `None` only beyond 134 million of them.
    pub fn intern_rules(&self, rules: &Rules) -> Option<RulesId> {
        let text = rules.text();
        let beside = text.len() + size_of::<Rules>() + rules.bytes_beside() + 2 * ALLOCATION;
        let make = || (Arc::new(rules.clone()), beside);
        self.rules.intern(text, make).map(RulesId)
    }

    /// The number of an environment or of a pepper's id.
    pub fn intern_text(&self, text: &str) -> Option<TextId> {
        let make = || (text.into(), 2 * (text.len() + ALLOCATION));
        self.texts.intern(text.to_owned(), make).map(TextId)
    }

    /// The number of a principal. A new one is in doubt until [`Index::apply_principal`].
    pub fn intern_principal(&self, id: &str) -> Option<PrincipalId> {
        self.principals.number(id)
    }

    /// A scope set by its number; takes no lock.
    #[must_use]
    pub fn scopes(&self, id: ScopesId) -> Option<&Arc<ScopeSet>> {
        self.scopes.get(id.0)
    }

    /// Rules by their number; takes no lock.
    #[must_use]
    pub fn rules(&self, id: RulesId) -> Option<&Arc<Rules>> {
        self.rules.get(id.0)
    }

    /// A text by its number; takes no lock.
    #[must_use]
    pub fn text(&self, id: TextId) -> Option<&Arc<str>> {
        self.texts.get(id.0)
    }

    /// The id of a principal by its number; takes no lock.
    #[must_use]
    pub fn principal_id(&self, id: PrincipalId) -> Option<&Arc<str>> {
        self.principals.id(id)
    }

    /// How many values keys have in common, or had, and the bytes that they take.
    #[must_use]
    pub fn in_common(&self) -> (usize, usize) {
        let values = self.scopes.len() + self.rules.len() + self.texts.len() + self.profiles.len();
        (values, self.bytes_in_common())
    }

    fn bytes_in_common(&self) -> usize {
        self.profiles.bytes() + self.scopes.bytes() + self.rules.bytes() + self.texts.bytes()
    }

    /// How large it is.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let tables = self.kids.iter().chain(&self.macs);
        let mut bytes: usize = tables
            .map(|table| size_of::<RwLock<SlotTable>>() + table.read().bytes())
            .sum();
        let mut doubts = self.principals.doubts();
        for shard in &self.ids {
            let shard = shard.lock();
            bytes += size_of::<Mutex<IdShard>>() + shard.heads.bytes();
            bytes += shard.families.capacity() * 33
                + shard
                    .families
                    .values()
                    .map(|slots| slots.capacity() * 4)
                    .sum::<usize>();
            bytes += shard.doubts.capacity() * 49 + shard.tombstones.capacity() * 33;
            doubts += shard.doubts.len();
        }
        for shard in &self.extended {
            bytes += shard.read().capacity() * (size_of::<(u32, Extended)>() + 1);
        }
        bytes += self.rows.bytes() + self.free.lock().capacity() * 4 + self.counters.bytes();
        bytes += self.bytes_in_common() + self.principals.bytes() + self.absent.bytes();
        Statistics {
            keys: self.keys.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
            principals: self.principals.len(),
            bytes,
            doubts,
            absent_hits: self.absent.hits(),
            complete: self.is_complete(),
        }
    }
}
