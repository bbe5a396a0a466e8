//! Builds the app and starts it: on the desktop at hand, or in a private session.

use std::{
    env, fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::{
    args::Run,
    npm, process, reap,
    session::Session,
    smoke, space,
    tools::{self, Need},
};

/// The desktop crate and its binary.
const APP: &str = "keywright-desktop";

/// `cargo xtask run`.
pub(crate) fn run(options: &Run) -> Result<()> {
    space::mind(5);
    // Before minutes of installing: this is not installed for anybody.
    tools::ensure_node()?;
    let private = options.smoke || !has_desktop();
    match (options.smoke, private) {
        (true, _) => tools::ensure(&[Need::Build, Need::Session, Need::Drive])?,
        (false, true) => tools::ensure(&[Need::Build, Need::Session])?,
        (false, false) => tools::ensure(&[Need::Build])?,
    }
    let app = build(options.release)?;
    if options.smoke {
        smoke::run(&app)
    } else if private {
        run_in_session(&app)
    } else {
        // Replaces this process, so signals reach the app without us.
        Err(process::command(&app).exec()).context("cannot start the app")
    }
}

/// Builds the app and returns the binary's absolute path.
pub(crate) fn build(release: bool) -> Result<PathBuf> {
    npm::ensure_ui()?;
    let kind = if release { "release" } else { "debug" };
    process::step(&format!("build the app ({kind})"), || {
        let mut cargo = process::cargo();
        cargo.args(["build", "--package", APP, "--bin", APP]);
        if release {
            cargo.arg("--release");
        }
        process::run(&mut cargo)
    })?;
    Ok(crate::target().join(kind).join(APP))
}

/// Whether there is a desktop to show a window on, with its message bus.
fn has_desktop() -> bool {
    let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let bus =
        env::var_os("XDG_RUNTIME_DIR").is_some_and(|dir| Path::new(&dir).join("bus").exists());
    (set("DISPLAY") || set("WAYLAND_DISPLAY")) && (set("DBUS_SESSION_BUS_ADDRESS") || bus)
}

/// Registry and keychain belong together: the keychain holds what makes the registry's digests
/// checkable. So both live under the same folder, and go together.
fn run_in_session(app: &Path) -> Result<()> {
    let home = match env::var_os("KEYWRIGHT_HOME") {
        Some(home) => crate::root().join(home),
        None => crate::target().join("xtask/home"),
    };
    let desktop = home.join("private-session");
    if home.join("registry.db").exists() && !desktop.exists() {
        bail!(
            "{} belongs to a keychain that a private session cannot reach\n\
             hint: run it on a desktop, or set KEYWRIGHT_HOME to another folder",
            home.display()
        );
    }
    fs::create_dir_all(&home)?;
    let session = process::step("start a private session", || Session::start(Some(&desktop)))?;
    eprintln!("no display here: the app runs in a private session");
    eprintln!("  data folder  {} (keychain inside)", home.display());
    eprintln!(
        "  display      DISPLAY={} XAUTHORITY={}",
        session.display(),
        session.xauthority().display()
    );
    eprintln!("  stop         Ctrl-C");
    let mut command = session.command(app);
    command.env("KEYWRIGHT_HOME", &home).process_group(0);
    let mut child = command.spawn().context("cannot start the app")?;
    loop {
        if let Some(status) = child.try_wait()? {
            if status.success() {
                return Ok(());
            }
            bail!("the app ended ({status})");
        }
        if let Err(stopped) = process::pause(Duration::from_millis(50)) {
            reap::send(child.id(), Signal::TERM);
            reap::end_tree(&mut child);
            return Err(stopped);
        }
    }
}
