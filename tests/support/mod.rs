//! Parts of the whole-system tests: an app, a browser without a window, providers, sessions.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "what goes wrong in a test's parts is a failed test"
)]

pub(crate) mod app;
pub(crate) mod bad_issuer;
pub(crate) mod browser;
pub(crate) mod certificates;
pub(crate) mod older;
pub(crate) mod peer;
pub(crate) mod postgres;
pub(crate) mod session;

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks again and again until the answer is there; time-outs on a busy machine are generous.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("waited in vain for: {what}")
}
