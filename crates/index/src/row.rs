//! One record that many read while one writes, without a lock: a control word that holds the
//! version, and data words. A reader takes the control word before and after the data and starts
//! again if it changed, so that state and version always belong together.

#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering, fence};

/// Bits of the control word that hold the version.
const VERSION_BITS: u32 = 40;
/// Versions from here on cannot be held.
pub(crate) const VERSION_END: i64 = 1 << VERSION_BITS;
const VERSION_MASK: u64 = (1 << VERSION_BITS) - 1;
/// A counter of writes: two writes of one version must not look like none.
const SEQUENCE_SHIFT: u32 = VERSION_BITS;
const SEQUENCE_MASK: u64 = 0x1fff << SEQUENCE_SHIFT;
/// Somebody is writing.
const BUSY: u64 = 1 << 53;
/// A newer version is about to be committed: ask the database.
pub(crate) const DOUBT: u64 = 1 << 54;
const STATE_SHIFT: u32 = 55;
const STATE_MASK: u64 = 7 << STATE_SHIFT;
pub(crate) const REVOKED: u64 = 1 << 58;
pub(crate) const DISABLED: u64 = 1 << 59;
pub(crate) const EXPOSED: u64 = 1 << 60;
pub(crate) const FIRST_USED: u64 = 1 << 61;
/// Rare facts lie in a side table.
pub(crate) const EXTENDED: u64 = 1 << 62;
/// It holds something.
pub(crate) const LIVE: u64 = 1 << 63;

/// A reader that meets a writer this often gives up; the caller then asks the database. It happens
/// only when the writer lost its core in the middle.
#[cfg(not(loom))]
const PATIENCE: u32 = 200;
#[cfg(loom)]
const PATIENCE: u32 = 2;

/// A control word as it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Control(u64);

impl Control {
    /// A control word for [`Row::write`].
    pub(crate) fn new(version: i64, state: u64, flags: u64) -> Self {
        Self((version.cast_unsigned() & VERSION_MASK) | (state << STATE_SHIFT) | flags)
    }

    pub(crate) fn version(self) -> i64 {
        (self.0 & VERSION_MASK).cast_signed()
    }

    pub(crate) fn state(self) -> u64 {
        (self.0 & STATE_MASK) >> STATE_SHIFT
    }

    pub(crate) fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }
}

/// A record of `N` data words.
#[derive(Debug)]
pub(crate) struct Row<const N: usize> {
    control: AtomicU64,
    words: [AtomicU64; N],
}

impl<const N: usize> Default for Row<N> {
    fn default() -> Self {
        Self {
            control: AtomicU64::new(0),
            words: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl<const N: usize> Row<N> {
    /// Reads everything of one moment, and `aside` (what lies in side tables) of the same moment.
    /// `None` if a writer was in the way for too long.
    pub(crate) fn read<T>(
        &self,
        aside: impl Fn(Control, &[u64; N]) -> T,
    ) -> Option<(Control, [u64; N], T)> {
        for _ in 0..PATIENCE {
            let before = self.control.load(Ordering::Acquire);
            if before & BUSY == 0 {
                let words = core::array::from_fn(|index| self.words[index].load(Ordering::Relaxed));
                let extra = aside(Control(before), &words);
                fence(Ordering::Acquire);
                if self.control.load(Ordering::Relaxed) == before {
                    return Some((Control(before), words, extra));
                }
            }
            pause();
        }
        None
    }

    /// The control word at this moment.
    pub(crate) fn control(&self) -> Control {
        Control(self.control.load(Ordering::Acquire))
    }

    /// A data word that does not change while the row is reachable.
    pub(crate) fn fixed_word(&self, index: usize) -> u64 {
        self.words[index].load(Ordering::Relaxed)
    }

    /// Writes everything; `aside` is called while readers wait. Only one writer at a time: the
    /// caller holds the lock of the record's id.
    pub(crate) fn write(&self, control: Control, words: &[u64; N], aside: impl FnOnce()) {
        let before = self.update(|before| before | BUSY);
        fence(Ordering::Release);
        for (word, value) in self.words.iter().zip(words) {
            word.store(*value, Ordering::Relaxed);
        }
        aside();
        let sequence = before.wrapping_add(1 << SEQUENCE_SHIFT) & SEQUENCE_MASK;
        self.control.store(control.0 | sequence, Ordering::Release);
    }

    /// Sets a flag. The caller holds the lock of the record's id.
    pub(crate) fn set(&self, flag: u64) {
        self.update(|before| before | flag);
    }

    /// Takes a flag away. The caller holds the lock of the record's id.
    pub(crate) fn unset(&self, flag: u64) {
        self.update(|before| before & !flag);
    }

    /// Sets a flag if it is not set and `version` is still the row's; needs no lock. Tells whether
    /// this call set it.
    pub(crate) fn claim(&self, flag: u64, version: i64) -> bool {
        loop {
            let before = self.control.load(Ordering::Acquire);
            if before & BUSY == 0 {
                let is_free = before & flag == 0 && Control(before).version() == version;
                if !is_free {
                    return false;
                }
                let after = before | flag;
                if self.exchange(before, after) {
                    return true;
                }
            }
            pause();
        }
    }

    /// Changes the control word when nobody writes; gives what it was.
    fn update(&self, change: impl Fn(u64) -> u64) -> u64 {
        loop {
            let before = self.control.load(Ordering::Acquire);
            if before & BUSY == 0 && self.exchange(before, change(before)) {
                return before;
            }
            pause();
        }
    }

    fn exchange(&self, before: u64, after: u64) -> bool {
        self.control
            .compare_exchange(before, after, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }
}

fn pause() {
    #[cfg(not(loom))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// Every interleaving of the version word's protocol:
/// `RUSTFLAGS="--cfg loom" cargo test -p keywright-index --release --lib loom_`.
#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    use super::*;

    /// One key as the index keeps it: a row, and its doubts under the lock of its id.
    struct Cell {
        row: Row<2>,
        doubts: Mutex<Vec<i64>>,
    }

    impl Cell {
        /// As the index does: older images do nothing; a doubt goes with an image as new as it.
        fn apply(&self, version: i64) {
            let mut doubts = self.doubts.lock().unwrap();
            if self.row.control().version() > version {
                return;
            }
            doubts.retain(|doubt| *doubt > version);
            let doubt = if doubts.is_empty() { 0 } else { DOUBT };
            let words = [version.cast_unsigned(), version.cast_unsigned() + 10];
            let control = Control::new(version, 0, LIVE | doubt);
            self.row.write(control, &words, || ());
        }

        fn doubt(&self, version: i64) {
            let mut doubts = self.doubts.lock().unwrap();
            if self.row.control().version() < version {
                doubts.push(version);
                self.row.set(DOUBT);
            }
        }

        /// The version found; none for “ask the database”.
        fn lookup(&self) -> Option<i64> {
            let (control, words, ()) = self.row.read(|_, _| ())?;
            let version = control.version();
            assert_eq!(words[0], version.cast_unsigned(), "torn");
            assert_eq!(words[1], version.cast_unsigned() + 10, "torn");
            (!control.has(DOUBT)).then_some(version)
        }
    }

    /// All interleavings with up to three preemptions: more take minutes and show nothing new.
    fn model(check: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(check);
    }

    fn cell() -> Arc<Cell> {
        let cell = Arc::new(Cell {
            row: Row::default(),
            doubts: Mutex::new(Vec::new()),
        });
        cell.apply(1);
        cell
    }

    #[test]
    fn loom_a_doubt_is_never_overlooked_whatever_loads_meanwhile() {
        model(|| {
            let cell = cell();
            let loading = cell.clone();
            let load = thread::spawn(move || loading.apply(2));
            let reading = cell.clone();
            let read = thread::spawn(move || {
                if let Some(version) = reading.lookup() {
                    assert!(version == 1 || version == 2);
                }
            });
            cell.doubt(3);
            // From here on version 3 may be committed: nothing older may be found.
            assert_eq!(cell.lookup(), None);
            load.join().unwrap();
            assert_eq!(cell.lookup(), None);
            read.join().unwrap();
        });
    }

    #[test]
    fn loom_what_was_applied_is_seen_and_never_undone_by_an_older_image() {
        model(|| {
            let cell = cell();
            cell.doubt(3);
            let loading = cell.clone();
            let load = thread::spawn(move || loading.apply(2));
            let reading = cell.clone();
            let read = thread::spawn(move || {
                if let Some(version) = reading.lookup() {
                    assert_eq!(version, 3, "nothing that is in doubt");
                }
            });
            cell.apply(3);
            let found = cell.lookup();
            // None only while the other writer is in the middle, and it writes nothing here.
            assert!(found == Some(3), "{found:?}");
            load.join().unwrap();
            assert_eq!(cell.lookup(), Some(3));
            read.join().unwrap();
        });
    }

    #[test]
    fn loom_a_first_use_is_claimed_by_one_and_not_lost_in_a_write() {
        model(|| {
            let cell = cell();
            let claiming = cell.clone();
            let claim = thread::spawn(move || claiming.row.claim(FIRST_USED, 1));
            let doubting = cell.clone();
            let doubt = thread::spawn(move || doubting.doubt(2));
            let mine = cell.row.claim(FIRST_USED, 1);
            let theirs = claim.join().unwrap();
            doubt.join().unwrap();
            assert!(mine != theirs);
            assert!(cell.row.control().has(FIRST_USED) && cell.row.control().has(DOUBT));
        });
    }
}
