//! The display's clipboard, seen from another program.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::session::Desktop;

const CLIPBOARD: [&str; 2] = ["-selection", "clipboard"];

/// What a paste would bring; empty where nothing was copied.
pub(crate) fn read(desktop: &Desktop) -> Result<String> {
    desktop.output("xclip", &[CLIPBOARD[0], CLIPBOARD[1], "-o"])
}

/// What the owner says about its content, by target.
pub(crate) fn read_target(desktop: &Desktop, target: &str) -> Result<String> {
    desktop.output("xclip", &[CLIPBOARD[0], CLIPBOARD[1], "-o", "-t", target])
}

/// Copies from another program, which then owns the clipboard.
pub(crate) fn write(desktop: &Desktop, text: &str) -> Result<()> {
    let mut command = desktop.command("xclip");
    let mut child = command
        .args(CLIPBOARD)
        .arg("-i")
        .stdin(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("no input")?
        .write_all(text.as_bytes())?;
    // It stays behind in the background, as the owner.
    ensure!(child.wait()?.success(), "xclip failed");
    Ok(())
}
