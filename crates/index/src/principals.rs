//! Owners and creators: one record for each, so that revoking all keys of one is one write.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use crate::image::{Applied, PrincipalFacts, PrincipalId, PrincipalImage, ScopesId};
use crate::row::{Control, DISABLED, DOUBT, LIVE, Row, VERSION_END};
use crate::slab::Slab;

/// `keys_revoked_at` of a principal whose keys nobody revoked.
const NEVER: i64 = i64::MIN;

/// The doubt in a principal that could not be held; any image that can be settles it.
const HELD_BACK: i64 = i64::MAX;

#[derive(Debug, Default)]
struct Entry {
    id: OnceLock<Arc<str>>,
    /// Permissions, keys_revoked_at.
    row: Row<2>,
}

#[derive(Debug)]
pub(crate) struct Principals {
    numbers: RwLock<HashMap<Arc<str>, u32>>,
    entries: Slab<Entry>,
    /// Versions about to be committed. Its lock is also the one of all writes here.
    doubts: Mutex<HashMap<u32, Vec<i64>>>,
}

impl Principals {
    pub(crate) fn new() -> Self {
        Self {
            numbers: RwLock::new(HashMap::new()),
            entries: Slab::new(),
            doubts: Mutex::new(HashMap::new()),
        }
    }

    /// The number of a principal; a new one is unknown until its image is applied.
    pub(crate) fn number(&self, id: &str) -> Option<PrincipalId> {
        if let Some(number) = self.numbers.read().get(id) {
            return Some(PrincipalId(*number));
        }
        let mut numbers = self.numbers.write();
        if let Some(number) = numbers.get(id) {
            return Some(PrincipalId(*number));
        }
        let number = u32::try_from(numbers.len()).ok()?.checked_add(1)?;
        let id: Arc<str> = id.into();
        let _ = self.entries.make(number)?.id.set(id.clone());
        numbers.insert(id, number);
        Some(PrincipalId(number))
    }

    pub(crate) fn id(&self, number: PrincipalId) -> Option<&Arc<str>> {
        self.entries.get(number.0)?.id.get()
    }

    /// What is known; `None` if nothing is, or a change is under way.
    #[inline]
    pub(crate) fn facts(&self, number: u32) -> Option<PrincipalFacts> {
        let (control, [permissions, revoked], ()) =
            self.entries.get(number)?.row.read(|_, _| ())?;
        if !control.has(LIVE) || control.has(DOUBT) {
            return None;
        }
        let revoked = revoked.cast_signed();
        Some(PrincipalFacts {
            id: PrincipalId(number),
            version: control.version(),
            disabled: control.has(DISABLED),
            permissions: ScopesId(permissions as u32),
            keys_revoked_at: (revoked != NEVER).then_some(revoked),
        })
    }

    pub(crate) fn apply(&self, image: &PrincipalImage) -> Applied {
        let Some(entry) = self.entries.get(image.id.0) else {
            return Applied::NotHeld;
        };
        let mut doubts = self.doubts.lock();
        let before = entry.row.control();
        if before.has(LIVE) && before.version() > image.version {
            return Applied::Older;
        }
        if !(0..VERSION_END).contains(&image.version) {
            let doubts = doubts.entry(image.id.0).or_default();
            if !doubts.contains(&HELD_BACK) {
                doubts.push(HELD_BACK);
            }
            entry.row.set(DOUBT);
            return Applied::NotHeld;
        }
        let mut flags = LIVE;
        if let Some(versions) = doubts.get_mut(&image.id.0) {
            versions.retain(|one| *one > image.version && *one != HELD_BACK);
            if versions.is_empty() {
                doubts.remove(&image.id.0);
            } else {
                flags |= DOUBT;
            }
        }
        if image.disabled {
            flags |= DISABLED;
        }
        let revoked = image.keys_revoked_at.unwrap_or(NEVER);
        let words = [u64::from(image.permissions.0), revoked.cast_unsigned()];
        entry
            .row
            .write(Control::new(image.version, 0, flags), &words, || ());
        Applied::Applied
    }

    pub(crate) fn doubt(&self, id: PrincipalId, version: i64) {
        let Some(entry) = self.entries.get(id.0) else {
            return;
        };
        let mut doubts = self.doubts.lock();
        let control = entry.row.control();
        if !control.has(LIVE) || control.version() < version {
            doubts.entry(id.0).or_default().push(version);
            entry.row.set(DOUBT);
        }
    }

    pub(crate) fn settle(&self, id: PrincipalId, version: i64) {
        let Some(entry) = self.entries.get(id.0) else {
            return;
        };
        let mut doubts = self.doubts.lock();
        if let Some(versions) = doubts.get_mut(&id.0) {
            if let Some(at) = versions.iter().position(|one| *one == version) {
                versions.swap_remove(at);
            }
            if versions.is_empty() {
                doubts.remove(&id.0);
                entry.row.unset(DOUBT);
            }
        }
    }

    /// Forgets what is known of everyone; numbers, ids and doubts stay.
    pub(crate) fn clear(&self) {
        let doubts = self.doubts.lock();
        let last = u32::try_from(self.numbers.read().len()).unwrap_or(u32::MAX);
        for number in 1..=last {
            if let Some(entry) = self.entries.get(number) {
                let doubt = if doubts.contains_key(&number) {
                    DOUBT
                } else {
                    0
                };
                entry.row.write(Control::new(0, 0, doubt), &[0, 0], || ());
            }
        }
    }

    pub(crate) fn doubts(&self) -> usize {
        self.doubts.lock().len()
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers.read().len()
    }

    pub(crate) fn bytes(&self) -> usize {
        let numbers = self.numbers.read();
        let texts: usize = numbers.keys().map(|id| id.len() + 16).sum();
        self.entries.bytes() + texts + numbers.capacity() * (size_of::<(Arc<str>, u32)>() + 1)
    }
}
