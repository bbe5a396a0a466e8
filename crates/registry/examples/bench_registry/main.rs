//! Measures the registry in process, each figure beside a bare baseline of the same round.
//! `cargo xtask bench registry` runs it in release, with a PostgreSQL of its own in
//! `KEYWRIGHT_TEST_POSTGRES`. One JSON object a line; rounds alternate, medians are printed.
//!
//! `bench_registry [--racing SECONDS] [1k] [1m] [10m] [durable] [cold] [flood]`: without words, everything. `--racing` is how long
//! verifications race with revocations at each size; a minute without it.
//! `bench_registry fill PLACE SIZE` only makes a registry of a size, for the server's bench: a file, or the
//! address of a PostgreSQL database.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench, not the product"
)]

mod cold;
mod durable;
mod fill;
mod flood;
mod race;
mod report;
mod warm;

use std::time::Duration;

use anyhow::{Context as _, Result};

fn main() -> Result<()> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let mut racing = race::LONG;
    if let Some(at) = words.iter().position(|word| word == "--racing") {
        let seconds = words.get(at + 1).context("--racing SECONDS")?;
        racing = Duration::from_secs(seconds.parse()?);
        words.drain(at..at + 2);
    }
    let wanted = |word: &str| words.is_empty() || words.iter().any(|given| given == word);
    // One worker: figures are those of one core.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        if let [word, file, size] = words.as_slice()
            && word == "fill"
        {
            return fill::place(file, size.parse()?).await;
        }
        for (label, size) in [("1k", 1_000), ("1m", 1_000_000), ("10m", 10_000_000)] {
            if wanted(label) {
                warm::measure(label, size, racing).await?;
            }
        }
        if wanted("durable") {
            durable::measure().await?;
        }
        if wanted("cold") {
            cold::measure().await?;
        }
        if wanted("flood") {
            flood::measure().await?;
        }
        Ok(())
    })
}
