//! The log file in the app's folder. `KEYWRIGHT_LOG` sets what is written (default `info`).

use std::fs::OpenOptions;
use std::sync::Mutex;

use anyhow::Context;
use keywright_app::Home;
use tracing_subscriber::EnvFilter;

/// A log larger than this is put aside at the next start; one older log is kept.
const MAX_BYTES: u64 = 5 * 1024 * 1024;

pub(crate) fn start(home: &Home) -> anyhow::Result<()> {
    let file = home.log_file();
    let cannot = || format!("the log file {} cannot be written", file.display());
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(cannot)?;
    }
    if std::fs::metadata(&file).is_ok_and(|metadata| metadata.len() > MAX_BYTES) {
        std::fs::rename(&file, file.with_extension("old.log")).with_context(cannot)?;
    }
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&file)
        .with_context(cannot)?;
    let filter =
        EnvFilter::try_from_env("KEYWRIGHT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(Mutex::new(log))
        .try_init()
        .map_err(|error| anyhow::anyhow!("{error}"))
}
