//! What many keys have in common is kept once and named by a small number.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::slab::Slab;

/// Values of type `T`, told apart by `K`. Nothing is forgotten before the whole goes.
#[derive(Debug)]
pub(crate) struct Interner<K, T> {
    numbers: Mutex<HashMap<K, u32>>,
    values: Slab<OnceLock<T>>,
    /// Bytes that names and values point to.
    beside: AtomicUsize,
}

impl<K: Eq + Hash, T> Interner<K, T> {
    pub(crate) fn new() -> Self {
        Self {
            numbers: Mutex::new(HashMap::new()),
            values: Slab::new(),
            beside: AtomicUsize::new(0),
        }
    }

    /// The number of the value of this name, from 1; `make` makes it if it is new, and says how many bytes
    /// name and value point to. `None` when there are 134 million.
    pub(crate) fn intern(&self, name: K, make: impl FnOnce() -> (T, usize)) -> Option<u32> {
        let mut numbers = self.numbers.lock();
        if let Some(number) = numbers.get(&name) {
            return Some(*number);
        }
        let number = u32::try_from(numbers.len()).ok()?.checked_add(1)?;
        let (value, beside) = make();
        self.values.make(number)?.get_or_init(|| value);
        self.beside.fetch_add(beside, Ordering::Relaxed);
        numbers.insert(name, number);
        Some(number)
    }

    /// The value; takes no lock.
    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.values.get(number)?.get()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.numbers.lock().len()
    }

    /// Bytes taken, with what the values point to.
    pub(crate) fn bytes(&self) -> usize {
        let numbers = self.numbers.lock().capacity() * (size_of::<(K, u32)>() + 1);
        self.values.bytes() + numbers + self.beside.load(Ordering::Relaxed)
    }
}
