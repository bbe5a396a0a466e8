//! A private desktop: message bus, keyring, display and home, for one test at a time.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use super::keyring;
use super::process::{self, MARK, Part};

/// Two cores: one desktop at a time, whatever the number of test threads.
static TURN: Mutex<()> = Mutex::const_new(());

/// How the session's keychain stands when the app starts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keyring {
    Unlocked,
    Locked,
    /// No Secret Service, and none that the bus could start.
    Absent,
}

/// A bus on which nothing starts by itself.
const BARE_BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:dir=FOLDER</listen><policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>"#;

/// A running session. Dropping it ends everything that was started in it.
pub(crate) struct Desktop {
    parts: Vec<Part>,
    environment: Vec<(&'static str, OsString)>,
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Desktop {
    /// Starts bus, keyring and display, in this order: a locked keyring that sees no display
    /// answers at once instead of asking a question nobody can see.
    pub(crate) async fn start(keyring: Keyring) -> Result<Self> {
        let turn = TURN.lock().await;
        // Sockets have short paths: at most 107 bytes.
        let folder = tempfile::Builder::new().prefix("kwe-").tempdir_in("/tmp")?;
        let mut desktop = Self {
            parts: Vec::new(),
            environment: Vec::new(),
            folder,
            _turn: turn,
        };
        for name in ["home", "run", "kw"] {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(desktop.path(name))?;
        }
        for name in ["PATH", "LANG", "USER"] {
            if let Some(value) = std::env::var_os(name) {
                desktop.environment.push((name, value));
            }
        }
        desktop
            .environment
            .push(("HOME", desktop.path("home").into()));
        desktop
            .environment
            .push(("XDG_RUNTIME_DIR", desktop.path("run").into()));
        desktop.environment.push((MARK, desktop.mark().into()));
        desktop.start_bus(keyring)?;
        if keyring != Keyring::Absent {
            desktop.start_keyring()?;
        }
        if keyring == Keyring::Locked {
            keyring::lock(&desktop)?;
        }
        desktop.start_display()?;
        Ok(desktop)
    }

    /// A place in the session's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The app's own folder, unless a test wants several.
    pub(crate) fn app_home(&self) -> PathBuf {
        self.path("kw")
    }

    pub(crate) fn mark(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// The name of the session's display.
    pub(crate) fn display(&self) -> Result<String> {
        let mut environment = self.environment.iter();
        let found = environment.find(|(name, _)| *name == "DISPLAY");
        let (_, value) = found.context("the session has no display")?;
        Ok(value.to_string_lossy().into_owned())
    }

    /// A program in this session; it sees nothing of the session we were called from.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// A program that ends with this thread, should we be killed ourselves.
    pub(crate) fn lasting(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.command("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(program);
        command
    }

    /// What a short program prints; it may fail only by not starting or not ending.
    pub(crate) fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.command("timeout");
        command
            .args(["10", program])
            .args(arguments)
            .stderr(Stdio::piped());
        let output = command.stdout(Stdio::piped()).output()?;
        ensure!(
            output.status.code() != Some(124),
            "{program} does not answer"
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn start_bus(&mut self, keyring: Keyring) -> Result<()> {
        let mut bus = self.lasting("dbus-daemon");
        bus.args(["--nofork", "--nopidfile", "--print-address=1"]);
        if keyring == Keyring::Absent {
            let file = self.path("bus.conf");
            fs::write(
                &file,
                BARE_BUS.replace("FOLDER", &self.path("run").display().to_string()),
            )?;
            bus.arg("--config-file").arg(file);
        } else {
            bus.arg("--session");
        }
        let mut bus = Part::start(bus.stdout(Stdio::piped()))?;
        let address = first_line(bus.child().stdout.take()).context("the bus does not start")?;
        self.parts.push(bus);
        self.environment
            .push(("DBUS_SESSION_BUS_ADDRESS", address.into()));
        Ok(())
    }

    fn start_keyring(&mut self) -> Result<()> {
        let mut keyring = self.lasting("gnome-keyring-daemon");
        keyring.args(["--foreground", "--unlock", "--components=secrets"]);
        let mut part = Part::start(keyring.stdin(Stdio::piped()))?;
        let mut stdin = part.child().stdin.take().context("no input")?;
        stdin.write_all(keyring::PASSWORD)?;
        drop(stdin);
        self.parts.push(part);
        keyring::wait_until_there(self)
    }

    fn start_display(&mut self) -> Result<()> {
        let mut display = self.lasting("Xvfb");
        display.args([
            "-displayfd",
            "1",
            "-screen",
            "0",
            "1280x800x24",
            "-nolisten",
            "tcp",
        ]);
        let mut display = Part::start(display.arg("-noreset").stdout(Stdio::piped()))?;
        let number = first_line(display.child().stdout.take()).context("the display")?;
        self.parts.push(display);
        self.environment
            .push(("DISPLAY", format!(":{number}").into()));
        Ok(())
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        // Last started, first ended: the display takes the windows with it.
        while self.parts.pop().is_some() {}
        process::sweep(&self.mark());
        // What has just been killed may still be on its way out, with a file in its hand.
        for _ in 0..100 {
            if fs::remove_dir_all(self.folder.path()).is_ok() {
                break;
            }
            process::pause(20);
        }
    }
}

/// The first line a program prints, within ten seconds.
pub(crate) fn first_line(output: Option<impl Read + Send + 'static>) -> Result<String> {
    let mut reader = BufReader::new(output.context("no output to read")?);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = reader.read_line(&mut line);
        let _ = sender.send(line);
        // Whoever writes into a closed pipe ends.
        let _ = std::io::copy(&mut reader, &mut std::io::sink());
    });
    let line = receiver
        .recv_timeout(Duration::from_secs(10))
        .context("no answer in time")?;
    ensure!(line.ends_with('\n'), "it ended at once");
    Ok(line.trim_end().to_owned())
}

/// The app under test.
pub(crate) fn app() -> Result<PathBuf> {
    let app = std::env::var_os("KEYWRIGHT_TEST_APP").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/keywright-desktop"),
        PathBuf::from,
    );
    let missing = "run `cargo xtask test`, or `cargo build -p keywright-desktop` first";
    fs::canonicalize(&app).with_context(|| format!("no app at {}: {missing}", app.display()))
}
