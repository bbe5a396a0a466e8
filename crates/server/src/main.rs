//! `keywright-server`: sets a server up, serves it, and looks after its clients and people.

mod commands;

use std::process::ExitCode;

use clap::Parser as _;
use mimalloc::MiMalloc;

/// Why not the system's: docs/decisions/0018-before-the-router.md.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let arguments = commands::Arguments::parse();
    match commands::run(arguments) {
        Ok(code) => code,
        Err(error) => {
            commands::complain(&error);
            ExitCode::FAILURE
        }
    }
}
