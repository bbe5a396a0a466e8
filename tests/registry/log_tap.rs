//! The process's log at TRACE, of the registry and of the database's driver, on every thread: for
//! the sweeps that look for secrets in it.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// How many sweeps run: other tests of this process write into the same log.
static SWEEPS: AtomicUsize = AtomicUsize::new(0);

/// While it lives, the log is kept.
pub(crate) struct LogTap(());

impl LogTap {
    pub(crate) fn open() -> Self {
        static ONCE: OnceLock<()> = OnceLock::new();
        ONCE.get_or_init(|| {
            let filter = "off,keywright_registry=trace,keywright_index=trace,keywright_domain=trace,\
                          sqlx=trace,sqlx_core=trace,sqlx_sqlite=trace,sqlx_postgres=trace";
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_ansi(false)
                .with_writer(|| Sink)
                .init();
        });
        SWEEPS.fetch_add(1, Ordering::SeqCst);
        Self(())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A line as a careless hand would write it.
    pub(crate) fn plant(&self, text: &str) -> std::io::Result<()> {
        Sink.write_all(text.as_bytes())
    }
}

impl Drop for LogTap {
    fn drop(&mut self) {
        SWEEPS.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if SWEEPS.load(Ordering::SeqCst) > 0 {
            let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
            log.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
