//! The JavaScript side: packages from the lock file, and the built interface.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

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

/// The folder with a package that is compiled where it is installed, against Node's headers.
const BUILT: &str = "tests/peers/better-auth";

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
                // Without them they are downloaded.
                if let Some(folder) = tools::find("node").and_then(|node| with_headers(&node)) {
                    npm.env("npm_config_nodedir", folder);
                }
            }
            process::run(npm.arg("ci").stdout(std::io::stderr()))
        })?;
    }
    stamp::write(&note, &wanted)
}

/// The folder that has this Node's headers, where its `bin` is: all but some packages of Linux distributions bring them.
fn with_headers(node: &Path) -> Option<PathBuf> {
    let node = fs::canonicalize(node).ok()?;
    let folder = node.parent()?.parent()?;
    let found = folder.join("include/node/node.h").is_file();
    found.then(|| folder.to_path_buf())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_are_those_of_the_node_that_runs_wherever_it_is_unpacked() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let root = fs::canonicalize(folder.path())?;
        let (unpacked, bin) = (root.join("node-v22"), root.join("bin"));
        for made in [&unpacked.join("bin"), &unpacked.join("include/node"), &bin] {
            fs::create_dir_all(made)?;
        }
        fs::write(unpacked.join("bin/node"), "")?;
        // A version manager leads to it by a link.
        std::os::unix::fs::symlink(unpacked.join("bin/node"), bin.join("node"))?;
        assert_eq!(with_headers(&bin.join("node")), None);
        fs::write(unpacked.join("include/node/node.h"), "")?;
        assert_eq!(with_headers(&bin.join("node")), Some(unpacked));
        Ok(())
    }
}
