//! Message buses and keychains of the tests' own. What the keychain libraries use is read from
//! the environment, so that a test with a special keychain runs once more as a child process.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

const CHILD: &str = "KEYWRIGHT_TEST_SESSION";

/// What a test's session has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An unlocked keychain. Taken from outside where there is one.
    Unlocked,
    /// An unlocked keychain of this test's own, which it may lock and restart.
    Own,
    /// Like `Own`, with a screen: a locked keychain opens a dialog that nobody answers.
    Screen,
    /// A keychain that exists and is locked, and nobody to unlock it.
    Locked,
    /// A bus without a Secret Service.
    NoKeychain,
    /// No bus at all.
    NoBus,
}

/// Goes on only in such a session. Elsewhere the test runs once more, in a child process that is
/// in one, and returns with its outcome.
macro_rules! in_session {
    ($kind:ident) => {{
        fn here() {}
        let kind = crate::support::session::Kind::$kind;
        if !crate::support::session::inside(kind, std::any::type_name_of_val(&here))? {
            return Ok(());
        }
    }};
}
pub(crate) use in_session;

/// See [`in_session`]; `here` is the name of a function inside the test.
pub(crate) fn inside(kind: Kind, here: &str) -> Result<bool> {
    if std::env::var(CHILD).is_ok_and(|session| session == format!("{kind:?}")) {
        return Ok(true);
    }
    if kind == Kind::Unlocked && std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some() {
        return Ok(true);
    }
    let session = Session::start(kind)?;
    // whole::oauth::keychain::the_test::{{closure}}::here
    let path = here
        .split("::")
        .skip(1)
        .take_while(|part| *part != "here" && !part.starts_with('{'));
    let path = path.collect::<Vec<_>>().join("::");
    let mut child = session.command(std::env::current_exe()?);
    child
        .args(["--exact", &path, "--nocapture"])
        .env(CHILD, format!("{kind:?}"));
    let output = child.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && said.contains("1 passed"),
        "in a {kind:?} session:\n{said}\n{complaints}"
    );
    Ok(false)
}

/// Locks the keychain of an [`Kind::Own`] session, as a screen lock does.
pub(crate) fn lock_keychain() -> Result<()> {
    let mut call = Command::new("gdbus");
    call.args([
        "call",
        "--session",
        "--dest",
        "org.freedesktop.secrets",
        "--object-path",
        "/org/freedesktop/secrets",
    ]);
    call.args([
        "--method",
        "org.freedesktop.Secret.Service.Lock",
        "['/org/freedesktop/secrets/collection/login']",
    ]);
    let output = call.output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Starts the Secret Service of an [`Kind::Own`] session again, unlocked.
pub(crate) fn restart_keychain() -> Result<()> {
    let mut keychain = Command::new("gnome-keyring-daemon");
    keychain
        .args(["--replace", "--unlock", "--components=secrets"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = keychain.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(b"test")?;
    }
    ensure!(child.wait()?.success(), "the keychain does not start again");
    std::thread::sleep(Duration::from_millis(500));
    Ok(())
}

/// Ends the unlock dialog of a [`Kind::Screen`] session, as closing its window does.
pub(crate) fn dismiss_dialog() -> Result<()> {
    let mut call = Command::new("gdbus");
    call.args([
        "call",
        "--session",
        "--dest",
        "org.freedesktop.DBus",
        "--object-path",
        "/org/freedesktop/DBus",
    ]);
    call.args([
        "--method",
        "org.freedesktop.DBus.GetConnectionUnixProcessID",
        "org.gnome.keyring.SystemPrompter",
    ]);
    let output = call.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let pid: String = said
        .rsplit(' ')
        .next()
        .unwrap_or("")
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    ensure!(
        output.status.success() && !pid.is_empty(),
        "there is no dialog"
    );
    ensure!(Command::new("kill").arg(pid).status()?.success());
    Ok(())
}

/// A running session; dropping it ends what was started.
pub(crate) struct Session {
    parts: Vec<Child>,
    folder: TempDir,
    bus: String,
    display: Option<String>,
}

impl Session {
    fn start(kind: Kind) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("kw-").tempdir_in("/tmp")?;
        let mut session = Self {
            parts: Vec::new(),
            folder,
            bus: String::new(),
            display: None,
        };
        std::fs::create_dir(session.folder.path().join("run"))?;
        std::fs::set_permissions(
            session.folder.path().join("run"),
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )?;
        session.bus = format!(
            "unix:path={}",
            session.folder.path().join("no-bus").display()
        );
        if kind == Kind::Screen {
            session.start_screen()?;
        }
        if kind != Kind::NoBus {
            session.start_bus()?;
        }
        match kind {
            Kind::Unlocked | Kind::Own | Kind::Screen => session.start_keychain(true)?,
            Kind::Locked => {
                // The first start makes the keychain, the second finds it locked.
                session.start_keychain(true)?;
                session.end_last();
                session.start_keychain(false)?;
            }
            Kind::NoKeychain | Kind::NoBus => {}
        }
        Ok(session)
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        for name in ["DISPLAY", "WAYLAND_DISPLAY", "GNOME_KEYRING_CONTROL"] {
            command.env_remove(name);
        }
        command
            .env("HOME", self.folder.path())
            .env("XDG_RUNTIME_DIR", self.folder.path().join("run"))
            .env("XDG_DATA_HOME", self.folder.path().join("data"))
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus);
        if let Some(display) = &self.display {
            command.env("DISPLAY", display);
        }
        command
    }

    fn start_screen(&mut self) -> Result<()> {
        let mut screen = Command::new("Xvfb");
        screen.args([
            "-displayfd",
            "1",
            "-screen",
            "0",
            "800x600x24",
            "-nolisten",
            "tcp",
        ]);
        let mut child = screen
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start Xvfb")?;
        let mut number = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut number)?;
        self.parts.push(child);
        self.display = Some(format!(":{}", number.trim()));
        Ok(())
    }

    fn start_bus(&mut self) -> Result<()> {
        // Without service folders nothing is started by being asked for; the unlock dialog is.
        let services = if self.display.is_some() {
            "<standard_session_servicedirs/>"
        } else {
            ""
        };
        let config = self.folder.path().join("bus.conf");
        let socket = self.folder.path().join("bus");
        let listen = format!("unix:path={}", socket.display());
        std::fs::write(
            &config,
            format!(
                "<busconfig><type>session</type><listen>{listen}</listen>{services}<policy context=\"default\">\
                 <allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>"
            ),
        )?;
        let mut bus = self.command("dbus-daemon");
        bus.arg("--config-file").arg(&config).args([
            "--nofork",
            "--nopidfile",
            "--print-address=1",
        ]);
        let mut child = bus
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start dbus-daemon")?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut address)?;
        self.parts.push(child);
        ensure!(!address.is_empty(), "the bus does not start");
        self.bus = listen;
        Ok(())
    }

    fn start_keychain(&mut self, unlock: bool) -> Result<()> {
        let mut keychain = self.command("gnome-keyring-daemon");
        keychain
            .args(["--foreground", "--components=secrets"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if unlock {
            keychain.arg("--unlock");
        }
        let mut child = keychain
            .spawn()
            .context("cannot start gnome-keyring-daemon")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(b"test")?;
        }
        self.parts.push(child);
        self.wait_for_keychain(if unlock {
            Some(self.folder.path())
        } else {
            None
        })
    }

    fn wait_for_keychain(&self, made_in: Option<&Path>) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(15);
        while Instant::now() < end {
            let answers = self
                .command("gdbus")
                .args([
                    "wait",
                    "--session",
                    "--timeout",
                    "1",
                    "org.freedesktop.secrets",
                ])
                .output()?;
            let keyring = |home: &Path| home.join("data/keyrings/login.keyring").exists();
            if answers.status.success() && made_in.is_none_or(keyring) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the keychain does not answer")
    }

    fn end_last(&mut self) {
        if let Some(mut child) = self.parts.pop() {
            let _gone = child.kill();
            let _waited = child.wait();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        while !self.parts.is_empty() {
            self.end_last();
        }
    }
}
