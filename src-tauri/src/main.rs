//! Starts the desktop app.
#![cfg_attr(not(debug_assertions), windows_subsystem = "windows")]

use std::process::ExitCode;
use std::time::Instant;

#[expect(clippy::print_stderr, reason = "there is no window to tell it in")]
fn main() -> ExitCode {
    match keywright_desktop::run(Instant::now()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keywright: {error:#}");
            ExitCode::FAILURE
        }
    }
}
