//! Packages of the release build, made by Tauri's own bundler (pinned in packaging/).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};

use crate::{
    npm, process, run, smoke, stream,
    tools::{self, Need},
};

/// Name of the Debian package.
const PACKAGE: &str = "keywright";

/// The AppImage's parts are downloaded; a silent network must not hold us.
const APPIMAGE_LIMIT: Duration = Duration::from_secs(300);

/// What a Debian package without would not be one.
const CONTENTS: &[&str] = &[
    "/usr/bin/keywright-desktop",
    "/usr/share/applications/Keywright.desktop",
    "/usr/share/doc/keywright/copyright",
    "/usr/share/icons/hicolor/128x128/apps/keywright-desktop.png",
    "/usr/share/metainfo/dev.keywright.desktop.metainfo.xml",
];

/// `cargo xtask bundle`.
pub(crate) fn run(verify: bool) -> Result<()> {
    tools::ensure(&[Need::Build, Need::Pack])?;
    npm::ensure_packages("packaging")?;
    run::build(true)?;
    let package = process::step("make the Debian package", || {
        process::run(bundler("deb").stdout(std::io::stderr()))?;
        let package = newest("deb", "deb")?;
        check_contents(&package)?;
        Ok(package)
    })?;
    println!("made {}", package.display());
    process::step("make the AppImage", make_appimage)?;
    if verify {
        check_installed(&package)?;
        println!("ok: {PACKAGE} installs and starts");
    }
    Ok(())
}

fn bundler(kind: &str) -> Command {
    let mut node = process::command("node");
    node.args([
        "packaging/node_modules/@tauri-apps/cli/tauri.js",
        "bundle",
        "--ci",
    ]);
    node.args(["--bundles", kind, "--config", "packaging/linux.json"]);
    node
}

/// Its runtime comes from the network, so a machine without one makes no AppImage and says so.
fn make_appimage() -> Result<()> {
    let mut said = Vec::new();
    let status = stream::watch(&mut bundler("appimage"), APPIMAGE_LIMIT, |line| {
        eprintln!("{line}");
        said.push(line.trim().to_owned());
    })?;
    if status.is_some_and(|status| status.success()) {
        println!("made {}", newest("appimage", "AppImage")?.display());
    } else {
        let why = said.last().map_or("it took too long", String::as_str);
        println!("NOT MADE: AppImage (its tools are downloaded by the bundler): {why}");
    }
    Ok(())
}

/// The newest file with an ending among the packages of one kind.
fn newest(kind: &str, ending: &str) -> Result<PathBuf> {
    let folder = crate::target().join("release/bundle").join(kind);
    let entries = fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    let files = files.filter(|file| file.extension().is_some_and(|found| found == ending));
    files
        .max_by_key(|file| changed(file))
        .context("the bundler made no package")
}

fn changed(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|meta| meta.modified()).ok()
}

fn check_contents(package: &Path) -> Result<()> {
    let dpkg = |flag: &str| process::output(process::command("dpkg-deb").arg(flag).arg(package));
    eprint!("{}", dpkg("--info")?);
    let missing = missing_in(&dpkg("--contents")?);
    if !missing.is_empty() {
        bail!("the package lacks {}", missing.join(", "));
    }
    Ok(())
}

fn missing_in(listing: &str) -> Vec<&'static str> {
    let there = |path: &str| {
        let names = listing
            .lines()
            .filter_map(|line| line.split_whitespace().last());
        names
            .map(|name| name.trim_start_matches('.').trim_start_matches('/'))
            .any(|name| name == &path[1..])
    };
    CONTENTS
        .iter()
        .filter(|path| !there(path))
        .copied()
        .collect()
}

/// Installs the package, opens every page of the installed app, and removes it again.
fn check_installed(package: &Path) -> Result<()> {
    tools::ensure(&[Need::Session, Need::Drive])?;
    process::step("install the package", || {
        process::run(
            tools::apt()?
                .args(["install", "--yes", "--reinstall"])
                .arg(package),
        )
    })?;
    let result = smoke::run(Path::new("/usr/bin/keywright-desktop"));
    let removed = process::step("remove the package again", || {
        process::run(tools::apt()?.args(["remove", "--yes", PACKAGE]))
    });
    result.and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_the_app_is_noticed() {
        let line = |path: &&str| format!("-rw-r--r-- 0/0 287 2026-01-01 00:00 {}\n", &path[1..]);
        let all: String = CONTENTS.iter().map(line).collect();
        assert!(missing_in(&all).is_empty());
        let rest: String = CONTENTS.iter().skip(1).map(line).collect();
        assert_eq!(missing_in(&rest), ["/usr/bin/keywright-desktop"]);
    }
}
