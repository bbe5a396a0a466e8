//! A private desktop without a screen: message bus, unlocked keychain, virtual display.
//!
//! The order matters: the bus and the keychain start without a display, so that a locked
//! keychain answers "no" at once instead of opening a question nobody can see.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::Write,
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    sync::mpsc::RecvTimeoutError,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{
    process::{self, MARK},
    reap, stream, xauth,
};

/// System packages a session needs.
pub(crate) const PACKAGES: &[&str] = &[
    "dbus",
    "gnome-keyring",
    "libglib2.0-bin",
    "libsecret-tools",
    "util-linux",
    "xvfb",
];

/// Variables of the desktop we were called from; the private one must not see them.
const OUTSIDE: &str = "DISPLAY WAYLAND_DISPLAY XAUTHORITY DBUS_SESSION_BUS_ADDRESS \
    GNOME_KEYRING_CONTROL SSH_AUTH_SOCK XDG_RUNTIME_DIR XDG_CONFIG_HOME XDG_DATA_HOME \
    XDG_CACHE_HOME XDG_STATE_HOME XDG_CURRENT_DESKTOP XDG_SESSION_TYPE DESKTOP_SESSION \
    GDK_BACKEND WEBKIT_DISABLE_DMABUF_RENDERER WEBKIT_DISABLE_COMPOSITING_MODE \
    KEYWRIGHT_HOME KEYWRIGHT_LOG";

/// Opens the private keychain. It protects test data only; an empty one creates no keychain.
const PASSWORD: &[u8] = b"keywright-dev";

const PATIENCE: Duration = Duration::from_secs(15);

/// A running session; dropping it ends everything that was started in it.
pub(crate) struct Session {
    parts: Vec<Child>,
    environment: Vec<(&'static str, OsString)>,
    mark: String,
    display: String,
    folder: TempDir,
}

impl Session {
    /// Starts bus, keychain and display. `home` keeps the keychain between sessions; without it
    /// the session has a fresh home that goes away with it.
    pub(crate) fn start(home: Option<&Path>) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        // Sockets have short paths: at most 107 bytes.
        let folder = tempfile::Builder::new().prefix("kwx-").tempdir_in("/tmp")?;
        let home = home.map_or_else(|| folder.path().join("home"), Path::to_path_buf);
        let mut session = Self {
            parts: Vec::new(),
            environment: Vec::new(),
            mark: format!(
                "{}.{}",
                process::run_mark(),
                COUNT.fetch_add(1, Ordering::Relaxed)
            ),
            display: String::new(),
            folder,
        };
        private_folder(&home)?;
        private_folder(&session.folder.path().join("run"))?;
        session
            .environment
            .push(("XDG_RUNTIME_DIR", session.folder.path().join("run").into()));
        session.keep_toolchain();
        session.environment.push(("HOME", home.into()));
        session.start_bus()?;
        session.start_keychain()?;
        session.start_display()?;
        Ok(session)
    }

    /// A program to be started in this session.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = process::command(program);
        for name in OUTSIDE.split_whitespace() {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env(MARK, &self.mark);
        command
    }

    /// The display's name, such as `:7`.
    pub(crate) fn display(&self) -> &str {
        &self.display
    }

    /// The file other programs need to get onto the display.
    pub(crate) fn xauthority(&self) -> PathBuf {
        self.folder.path().join("xauthority")
    }

    /// A folder that goes away with the session.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Cargo and rustup find their files under HOME unless told otherwise.
    fn keep_toolchain(&mut self) {
        let Some(home) = std::env::home_dir() else {
            return;
        };
        for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
            let path = home.join(folder);
            if std::env::var_os(name).is_none() && path.is_dir() {
                self.environment.push((name, path.into()));
            }
        }
    }

    fn start_bus(&mut self) -> Result<()> {
        let mut bus = self.part("dbus-daemon");
        bus.args(["--session", "--nofork", "--nopidfile", "--print-address=1"]);
        bus.stdout(Stdio::piped());
        let mut child = bus.spawn().context("cannot start dbus-daemon")?;
        let stdout = child.stdout.take();
        self.parts.push(child);
        let address = first_line(stdout).context("the message bus does not start")?;
        self.environment
            .push(("DBUS_SESSION_BUS_ADDRESS", address.into()));
        Ok(())
    }

    fn start_keychain(&mut self) -> Result<()> {
        let mut keychain = self.part("gnome-keyring-daemon");
        keychain.args(["--foreground", "--unlock", "--components=secrets"]);
        keychain.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = keychain
            .spawn()
            .context("cannot start gnome-keyring-daemon")?;
        let stdin = child.stdin.take();
        self.parts.push(child);
        stdin
            .context("no way to unlock the keychain")?
            .write_all(PASSWORD)?;
        // A call would make the bus start a second, locked keychain if ours is not there yet.
        let mut wait = self.command("gdbus");
        wait.args([
            "wait",
            "--session",
            "--timeout",
            "15",
            "org.freedesktop.secrets",
        ]);
        process::run(&mut wait).context("the private keychain does not start")?;
        let end = Instant::now() + PATIENCE;
        while !self.keychain_is_open() {
            if Instant::now() > end {
                bail!("the private keychain does not open (was it made with another password?)");
            }
            process::pause(Duration::from_millis(50))?;
        }
        Ok(())
    }

    fn keychain_is_open(&self) -> bool {
        let mut ask = self.command("gdbus");
        ask.args([
            "call",
            "--session",
            "--timeout",
            "5",
            "--dest",
            "org.freedesktop.secrets",
        ])
        .args(["--object-path", "/org/freedesktop/secrets/aliases/default"])
        .args(["--method", "org.freedesktop.DBus.Properties.Get"])
        .args(["org.freedesktop.Secret.Collection", "Locked"]);
        process::output(&mut ask).is_ok_and(|answer| answer.contains("false"))
    }

    fn start_display(&mut self) -> Result<()> {
        xauth::write(&self.xauthority())?;
        let mut display = self.part("Xvfb");
        display.args([
            "-displayfd",
            "1",
            "-screen",
            "0",
            "1280x800x24",
            "-nolisten",
            "tcp",
        ]);
        display.arg("-noreset").arg("-auth").arg(self.xauthority());
        display.stdout(Stdio::piped());
        let mut child = display.spawn().context("cannot start Xvfb")?;
        let stdout = child.stdout.take();
        self.parts.push(child);
        let number = first_line(stdout).context("the virtual display does not start")?;
        self.display = format!(":{}", number.trim());
        self.environment
            .push(("DISPLAY", self.display.clone().into()));
        self.environment
            .push(("XAUTHORITY", self.xauthority().into()));
        Ok(())
    }

    /// A part of the session itself: out of Ctrl-C's reach, because the app must end first, and
    /// ended by the kernel should xtask itself be killed.
    fn part(&self, program: &str) -> Command {
        let mut command = self.command("setpriv");
        command
            .args(["--pdeathsig", "TERM", "--", program])
            .process_group(0);
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("session.log"));
        match log {
            Ok(log) => command.stderr(log),
            Err(_) => command.stderr(Stdio::null()),
        };
        command
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Last started, first ended: the display takes the windows with it.
        while let Some(mut part) = self.parts.pop() {
            reap::end_tree(&mut part);
        }
        reap::end_marked(&self.mark);
    }
}

fn private_folder(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

fn first_line(stdout: Option<ChildStdout>) -> Result<String> {
    let lines = stream::lines_of(stdout.context("no output to read")?);
    let end = Instant::now() + PATIENCE;
    loop {
        process::go_on()?;
        match lines.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => return Ok(line),
            Err(RecvTimeoutError::Disconnected) => bail!("it ended at once"),
            Err(RecvTimeoutError::Timeout) if Instant::now() > end => bail!("no answer in time"),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs what `cargo xtask test` installs first.
    #[test]
    fn a_secret_goes_in_and_comes_out() -> Result<()> {
        let session = Session::start(None)?;
        let folder = session.folder().to_path_buf();
        let store = "printf s3cret | secret-tool store --label=x service kw username a";
        process::run(session.command("sh").args(["-c", store]))?;
        let lookup = &mut session.command("secret-tool");
        lookup.args(["lookup", "service", "kw", "username", "a"]);
        assert_eq!(process::output(lookup)?, "s3cret");
        let mark = session.mark.clone();
        process::run(session.command("setsid").args(["--fork", "sleep", "49.13"]))?;
        drop(session);
        assert!(!folder.exists(), "the session's folder stays behind");
        assert_eq!(
            reap::running_with_argument("49.13"),
            0,
            "{mark} stays behind"
        );
        Ok(())
    }
}
