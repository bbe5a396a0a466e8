//! The system's browser. The app never shows a provider's page itself (RFC 8252 §8.12).

use std::sync::Arc;
use std::time::Duration;

/// How long a launcher may take to say that it failed; a slower one counts as started.
const LAUNCH_LIMIT: Duration = Duration::from_secs(3);

/// Shows an address to the person.
pub trait OpenBrowser: Send + Sync + 'static {
    /// Starts the browser and comes back without waiting for it.
    ///
    /// # Errors
    /// Why no browser could be started, in a few words and without the address.
    fn open(&self, url: &str) -> Result<(), String>;
}

/// What the desktop has set as its browser.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemBrowser;

impl OpenBrowser for SystemBrowser {
    fn open(&self, url: &str) -> Result<(), String> {
        open::that_detached_with_timeout(url, LAUNCH_LIMIT).map_err(|error| match error.kind() {
            // The launcher's own text repeats the address.
            std::io::ErrorKind::NotFound => "no program to open a browser was found".to_owned(),
            _ => "the browser could not be started".to_owned(),
        })
    }
}

/// Opens without blocking the runtime.
pub(crate) async fn open_url(browser: Arc<dyn OpenBrowser>, url: String) -> Result<(), String> {
    let opened = tokio::task::spawn_blocking(move || browser.open(&url)).await;
    opened.unwrap_or_else(|_panic| Err("the browser could not be started".to_owned()))
}
