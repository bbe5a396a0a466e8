//! A wall clock of a process's own, which can be put forward and back while it runs (Debian's libfaketime).
//! What counts from the start of the machine goes on as it does.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

/// The clock of one process.
#[derive(Debug)]
pub(crate) struct WallClock {
    library: PathBuf,
    /// How far it is ahead of this machine's, as the library reads it.
    file: PathBuf,
    ahead_s: AtomicI64,
}

impl WallClock {
    /// One that is right. `folder`: for what it says.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let library = std::fs::read_dir("/usr/lib")?
            .flatten()
            .map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"))
            .find(|path| path.is_file())
            .context("libfaketime is missing: `cargo xtask test` installs it")?;
        let clock = Self {
            library,
            file: folder.join("clock"),
            ahead_s: AtomicI64::new(0),
        };
        clock.put(0)?;
        Ok(clock)
    }

    /// Puts it, from one moment to the next, so many seconds before this machine's clock.
    pub(crate) fn put(&self, ahead_s: i64) -> Result<()> {
        // Whoever reads the file reads it whole.
        let next = self.file.with_extension("next");
        std::fs::write(&next, format!("{ahead_s:+}\n"))?;
        std::fs::rename(&next, &self.file)?;
        self.ahead_s.store(ahead_s, Ordering::SeqCst);
        Ok(())
    }

    /// What it says, in Unix milliseconds.
    pub(crate) fn now_ms(&self) -> Result<i64> {
        let here = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        Ok(i64::try_from(here)? + self.ahead_s.load(Ordering::SeqCst) * 1000)
    }

    /// What a process that has this clock is started with.
    pub(crate) fn variables(&self) -> Vec<(&'static str, &Path)> {
        let one = Path::new("1");
        vec![
            ("LD_PRELOAD", self.library.as_path()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.as_path()),
            ("FAKETIME_NO_CACHE", one),
            ("FAKETIME_DONT_FAKE_MONOTONIC", one),
            // Times of files are this machine's.
            ("NO_FAKE_STAT", one),
        ]
    }
}
