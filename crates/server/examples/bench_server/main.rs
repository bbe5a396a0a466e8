//! The server under load, as ratios: one core serves, the other asks, over 32 connections that stay
//! open. Every case takes turns of 250 ms with a bare axum route of the same process. One JSON object a
//! line.
//!
//! `bench_server [--registry FILE] [--beside FILE] [--cold] [--small] [--server PROGRAM] [--rounds N] [--requests N] [--alone]
//! [CASE…]`: cases by the beginning of their names; without any, all. `--alone` leaves the baselines out, for a
//! profiler. FILE is a registry of a wanted size (`bench_registry fill FILE SIZE`, or that of a server's folder: its
//! secrets are then taken from beside it); without one it has 100,000 keys. Each run adds to FILE
//! a root key and the keys that it asks for: a tenth of what is there, at least 1,000 and at most 100,000. `--beside` measures the processor time of a verification at both sizes too. `--cold` keeps the memory of
//! keys empty: every verification asks the database (twenty thousand more keys). `--small` makes do with a thousand keys. `--server` asks the serving half of
//! another build: before and after, by the same asking side. `--requests` is how long the soak is. Needs `taskset`.
//!
//! With `KEYWRIGHT_BENCH_PEER`, the address of another provider (tests/peers/bench-provider.mjs), token requests are
//! measured beside it too; with `KEYWRIGHT_BENCH_BETTER_AUTH` (tests/peers/better-auth/bench.mjs) verification and
//! sessions beside that.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench, not the product"
)]

mod better_auth;
mod browser;
mod cases;
mod cold;
mod overload;
mod refused;
mod serving;
mod soak;
mod whole;
mod wire;

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use mimalloc::MiMalloc;

/// The one that the program has.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Keeps the memory of keys empty.
const COLD: &str = "--cold";
/// A thousand keys of its own, not a hundred thousand.
const SMALL: &str = "--small";
/// With the log that the program writes without settings.
const LOGGED: &str = "--logged";

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "serve") {
        let has = |flag: &str| words.iter().any(|word| word == flag);
        if has(LOGGED) {
            serving::start_log()?;
        }
        let file = words.get(1).filter(|word| !word.starts_with("--"));
        let how = serving::How {
            file: file.map(PathBuf::from),
            cold: has(COLD),
            small: has(SMALL),
        };
        return runtime()?.block_on(serving::serve(how));
    }
    let (mut file, mut rounds, mut wanted, mut alone) = (None, 5, Vec::new(), false);
    let (mut flags, mut requests) = (Vec::new(), soak::REQUESTS);
    let (mut beside, mut program) = (None, None);
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--registry" => file = Some(words.next().context("--registry FILE")?),
            "--beside" => beside = Some(words.next().context("--beside FILE")?),
            "--server" => program = Some(words.next().context("--server PROGRAM")?),
            "--rounds" => rounds = words.next().context("--rounds N")?.parse()?,
            "--requests" => requests = words.next().context("--requests N")?.parse()?,
            "--alone" => alone = true,
            COLD | SMALL => flags.push(word),
            _ => wanted.push(word),
        }
    }
    let server = Serving::start(file.as_deref(), program.as_deref(), &flags)?;
    let there = beside.map(|file| Serving::start(Some(&file), program.as_deref(), &[]));
    let there = there.transpose()?;
    pin_to("1")?;
    let how = cases::How {
        rounds,
        requests,
        wanted: &wanted,
        alone,
    };
    runtime()?.block_on(cases::run(&server, there.as_ref(), how))
}

/// One worker: it has one core.
fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .event_interval(keywright_server::EVENT_INTERVAL)
        .enable_all()
        .build()?)
}

fn pin_to(core: &str) -> Result<()> {
    let own = std::process::id().to_string();
    let status = Command::new("taskset")
        .args(["-cp", core, &own])
        .stdout(Stdio::null())
        .status()
        .context("taskset is needed (util-linux)")?;
    if !status.success() {
        bail!("cannot stay on one core: {status}");
    }
    Ok(())
}

/// The server, on a core of its own, until this is dropped.
struct Serving {
    child: Child,
    facts: serving::Facts,
}

impl Serving {
    /// With a registry's file, or one of its own; this program's serving half, or another's.
    fn start(file: Option<&str>, program: Option<&str>, flags: &[String]) -> Result<Self> {
        Self::start_telling(file, program, flags, Stdio::inherit())
    }

    /// With a registry of its own, and the log in this file.
    fn logged(file: std::fs::File, is_small: bool) -> Result<Self> {
        let flags = [Some(LOGGED), is_small.then_some(SMALL)];
        let flags: Vec<String> = flags.into_iter().flatten().map(str::to_owned).collect();
        Self::start_telling(None, None, &flags, file.into())
    }

    fn start_telling(
        file: Option<&str>,
        program: Option<&str>,
        flags: &[String],
        errors: Stdio,
    ) -> Result<Self> {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]);
        match program {
            Some(program) => command.arg(program),
            None => command.arg(std::env::current_exe()?),
        };
        command.arg("serve").args(file).args(flags);
        // It ends when its input does, however this process ends.
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(errors);
        let mut child = command.spawn().context("taskset is needed (util-linux)")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        let facts = serde_json::from_str(&line).context("the server did not start")?;
        Ok(Self { child, facts })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
