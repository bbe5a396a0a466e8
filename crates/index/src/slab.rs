//! Numbered places in chunks that never move: growth copies nothing and readers take no lock.

use std::sync::OnceLock;

const CHUNK_BITS: u32 = 12;
const GROUP_BITS: u32 = 8;
const OUTER_BITS: u32 = 7;
/// Slots from here on do not exist: 134 million.
pub(crate) const SLOT_END: u32 = (1 << (CHUNK_BITS + GROUP_BITS + OUTER_BITS)) - 1;

type Chunk<T> = OnceLock<Box<[T]>>;
type Group<T> = OnceLock<Box<[Chunk<T>]>>;

/// Places of type `T`, made by chunks of 4,096 when first touched.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    groups: Box<[Group<T>]>,
}

impl<T: Default> Slab<T> {
    pub(crate) fn new() -> Self {
        Self {
            groups: (0..1 << OUTER_BITS).map(|_| OnceLock::new()).collect(),
        }
    }

    /// The place, if its chunk was made.
    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        let (group, chunk, place) = split(slot);
        self.groups.get(group)?.get()?.get(chunk)?.get()?.get(place)
    }

    /// The place, made if need be; `None` from [`SLOT_END`] on.
    pub(crate) fn make(&self, slot: u32) -> Option<&T> {
        let (group, chunk, place) = split(slot);
        self.groups
            .get(group)?
            .get_or_init(|| (0..1 << GROUP_BITS).map(|_| OnceLock::new()).collect())
            .get(chunk)?
            .get_or_init(|| (0..1 << CHUNK_BITS).map(|_| T::default()).collect())
            .get(place)
    }

    /// Bytes taken.
    pub(crate) fn bytes(&self) -> usize {
        let mut bytes = size_of_val(&*self.groups);
        for group in self.groups.iter().filter_map(OnceLock::get) {
            bytes += size_of_val(&**group);
            let chunks = group.iter().filter_map(OnceLock::get);
            bytes += chunks.map(|chunk| size_of_val(&**chunk)).sum::<usize>();
        }
        bytes
    }
}

fn split(slot: u32) -> (usize, usize, usize) {
    let group = slot >> (CHUNK_BITS + GROUP_BITS);
    let chunk = (slot >> CHUNK_BITS) & ((1 << GROUP_BITS) - 1);
    let place = slot & ((1 << CHUNK_BITS) - 1);
    (group as usize, chunk as usize, place as usize)
}
