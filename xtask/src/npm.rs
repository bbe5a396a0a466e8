//! The JavaScript side: packages from the lock file, and the built interface.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, bail};

use crate::{process, stamp, tools};

/// What decides how the built interface looks.
const UI_SOURCES: &[&str] = &[
    "src",
    "public",
    "index.html",
    "package.json",
    "package-lock.json",
    "vite.config.ts",
    "svelte.config.js",
    "tsconfig.json",
];

/// The folder with a package that is compiled where it is installed, and where Node's headers are if the system
/// has them.
const BUILT: &str = "tests/peers/better-auth";
const HEADERS: &str = "/usr/include/node/node.h";

/// npm, to be run in a folder of the repository.
pub(crate) fn npm(folder: &str) -> Command {
    let mut npm = process::command("npm");
    npm.current_dir(crate::root().join(folder));
    npm.env("NO_UPDATE_NOTIFIER", "1")
        .env("npm_config_fund", "false")
        .env("npm_config_audit", "false");
    npm
}

/// Installs a folder's packages exactly as its lock file says, if that changed.
pub(crate) fn ensure_packages(folder: &str) -> Result<()> {
    let path = crate::root().join(folder);
    if !path.join("package.json").is_file() {
        bail!("{folder}/package.json is missing");
    }
    tools::ensure_node()?;
    let wanted = stamp::of(&path, &["package.json", "package-lock.json"])?;
    // Inside node_modules, so that removing that folder removes the note as well.
    let note = path.join("node_modules/.keywright-stamp");
    if stamp::is_current(&note, &wanted) {
        return Ok(());
    }
    if !by_hand(&path) {
        process::step(&format!("install npm packages of {folder}/"), || {
            let mut npm = npm(folder);
            if folder == BUILT {
                // From the source that the lock file knows the hash of, not from somebody's download.
                npm.env("npm_config_build_from_source", "true");
                if Path::new(HEADERS).exists() {
                    npm.env("npm_config_nodedir", "/usr");
                }
            }
            process::run(npm.arg("ci").stdout(std::io::stderr()))
        })?;
    }
    stamp::write(&note, &wanted)
}

/// Whether somebody installed the packages after the lock file was last changed.
fn by_hand(path: &Path) -> bool {
    let changed = |file: &str| {
        fs::metadata(path.join(file))
            .and_then(|meta| meta.modified())
            .ok()
    };
    let installed = changed("node_modules/.package-lock.json");
    installed.is_some() && installed >= changed("package-lock.json")
}

/// Builds the interface into ui/dist if its sources changed. Tauri embeds that folder, so every
/// cargo command that compiles the desktop crate needs it.
pub(crate) fn ensure_ui() -> Result<()> {
    ensure_packages("ui")?;
    let ui = crate::root().join("ui");
    let wanted = stamp::of(&ui, UI_SOURCES)?;
    let note = crate::target().join("xtask/ui.stamp");
    if ui.join("dist/index.html").is_file() && stamp::is_current(&note, &wanted) {
        return Ok(());
    }
    process::step("build the interface", || {
        process::run(npm("ui").args(["run", "build"]).stdout(std::io::stderr()))
    })?;
    stamp::write(&note, &wanted)
}
