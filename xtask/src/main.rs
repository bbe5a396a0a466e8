//! The developer's commands: `cargo xtask help` lists them.
//!
//! One module a command; `tools`, `npm`, `process` and `session` are what commands share.
//! Talk goes to standard error, results to standard output. Nothing here ships.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool for developers: printing is its purpose"
)]

mod args;
mod bench;
mod bench_desktop;
mod bench_registry;
mod bench_rows;
mod bench_server;
mod bindings;
mod bundle;
mod bundle_server;
mod check;
mod count;
mod foreign;
mod fuzz;
mod git;
mod house;
mod instructions;
mod memory;
mod npm;
mod postgres;
mod process;
mod reap;
mod requirements;
mod run;
mod run_server;
mod scenarios;
mod session;
mod set_up;
mod smoke;
mod space;
mod stamp;
mod stream;
mod test;
mod tools;
mod webdriver;
mod xauth;

use std::{path::PathBuf, process::ExitCode};

use args::Command;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let command = match args::parse(&words) {
        Ok(command) => command,
        Err(wrong) => {
            eprintln!("error: {wrong}\nhint: `cargo xtask help` lists commands and flags");
            return ExitCode::from(2);
        }
    };
    let result = process::listen_for_signals().and_then(|()| match command {
        Command::Help => {
            print!("{}", args::HELP);
            Ok(())
        }
        Command::Run(options) if options.server => run_server::run(options.release),
        Command::Run(options) => run::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Check { fix } => check::run(fix),
        Command::Bindings => bindings::write(),
        Command::Scenarios => scenarios::write(),
        Command::Bundle {
            verify,
            server: true,
        } => bundle_server::run(verify),
        Command::Bundle { verify, .. } => bundle::run(verify),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Postgres => postgres::run(),
        Command::Bench(options) => bench::run(&options),
        Command::BenchHelp => {
            print!("{}\n{}", args::HELP, bench_rows::list());
            Ok(())
        }
    });
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    if let Some(signal) = process::interrupted() {
        reap::end_marked(process::run_mark());
        eprintln!("stopped");
        return ExitCode::from(u8::try_from(128 + signal).unwrap_or(130));
    }
    // A failed run has said what failed already: `test` must end with its counts.
    if !error.is::<Said>() {
        eprintln!("error: {error:#}");
    }
    ExitCode::FAILURE
}

/// The command failed and has already told why.
#[derive(Debug)]
pub(crate) struct Said;

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Said {}

/// The repository's root folder.
pub(crate) fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// Where cargo puts what it builds; what xtask makes lies beside it.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |dir| root().join(dir))
}
