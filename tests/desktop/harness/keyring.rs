//! The session's keychain, seen and handled from outside the app.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::process::pause;
use super::session::Desktop;

/// Opens the test keyring. An empty password would create none.
pub(crate) const PASSWORD: &[u8] = b"test";

const SERVICE: &str = "/org/freedesktop/secrets";
const COLLECTION: &str = "/org/freedesktop/secrets/aliases/default";

fn call(desktop: &Desktop, object: &str, method: &str, arguments: &[&str]) -> Result<String> {
    let mut all = vec!["call", "--session", "--timeout", "5"];
    all.extend([
        "--dest",
        "org.freedesktop.secrets",
        "--object-path",
        object,
        "--method",
        method,
    ]);
    all.extend(arguments);
    desktop.output("gdbus", &all)
}

fn is_open(desktop: &Desktop) -> bool {
    let locked = ["org.freedesktop.Secret.Collection", "Locked"];
    call(
        desktop,
        COLLECTION,
        "org.freedesktop.DBus.Properties.Get",
        &locked,
    )
    .is_ok_and(|answer| answer.contains("false"))
}

/// Waits without calling the service: a call would make the bus start another one.
pub(crate) fn wait_until_there(desktop: &Desktop) -> Result<()> {
    desktop.output(
        "gdbus",
        &[
            "wait",
            "--session",
            "--timeout",
            "9",
            "org.freedesktop.secrets",
        ],
    )?;
    wait_until_open(desktop)
}

fn wait_until_open(desktop: &Desktop) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    while !is_open(desktop) {
        ensure!(Instant::now() < end, "the keyring does not open");
        pause(30);
    }
    Ok(())
}

/// Locks the keyring, as a screen lock may do.
pub(crate) fn lock(desktop: &Desktop) -> Result<()> {
    let these = format!("[objectpath '{COLLECTION}']");
    call(
        desktop,
        SERVICE,
        "org.freedesktop.Secret.Service.Lock",
        &[&these],
    )?;
    ensure!(!is_open(desktop), "the keyring does not lock");
    Ok(())
}

/// Unlocks it the way a login does: gnome-keyring's control socket, operation "unlock".
pub(crate) fn unlock(desktop: &Desktop) -> Result<()> {
    let socket = desktop.path("run/keyring/control");
    let mut stream = UnixStream::connect(&socket).with_context(|| format!("{socket:?}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let password = u32::try_from(PASSWORD.len())?;
    let mut packet = vec![0]; // one byte to carry the credentials
    packet.extend((12 + password).to_be_bytes());
    packet.extend(1_u32.to_be_bytes());
    packet.extend(password.to_be_bytes());
    packet.extend(PASSWORD);
    stream.write_all(&packet)?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer)?;
    ensure!(
        answer == [0, 0, 0, 8, 0, 0, 0, 0],
        "the keyring refuses: {answer:?}"
    );
    wait_until_open(desktop)
}

/// The value under a service and user name; `None` where there is none.
pub(crate) fn lookup(desktop: &Desktop, service: &str, user: &str) -> Result<Option<String>> {
    let value = desktop.output(
        "secret-tool",
        &["lookup", "service", service, "username", user],
    )?;
    Ok(Some(value).filter(|value| !value.is_empty()))
}

/// The user names under a service.
pub(crate) fn users(desktop: &Desktop, service: &str) -> Result<Vec<String>> {
    let mut said = String::new();
    for _ in 0..5 {
        let mut search = desktop.command("timeout");
        search.args(["10", "secret-tool", "search", "--all", "service", service]);
        // It writes the attributes to standard error and the secrets to standard output.
        let piped = search.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = piped.output()?;
        said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            return Ok(users_in(&said));
        }
        // An entry of the app's probe may be gone between being found and being read.
        pause(50);
    }
    bail!("secret-tool: {said}")
}

fn users_in(text: &str) -> Vec<String> {
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("attribute.username = "));
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort_unstable();
    names
}

/// Removes an entry behind the app's back.
pub(crate) fn clear(desktop: &Desktop, service: &str, user: &str) -> Result<()> {
    desktop.output(
        "secret-tool",
        &["clear", "service", service, "username", user],
    )?;
    ensure!(
        lookup(desktop, service, user)?.is_none(),
        "the entry is still there"
    );
    Ok(())
}

/// Puts a second entry beside an existing one: same service and user, one attribute more.
pub(crate) fn duplicate(desktop: &Desktop, service: &str, user: &str) -> Result<()> {
    let mut store = desktop.command("secret-tool");
    store.args([
        "store",
        "--label=copy",
        "service",
        service,
        "username",
        user,
        "copy",
        "1",
    ]);
    let mut child = store.stdin(Stdio::piped()).spawn()?;
    child
        .stdin
        .take()
        .context("no input")?
        .write_all(b"another")?;
    if !child.wait()?.success() {
        bail!("the copy was not stored");
    }
    ensure!(
        users(desktop, service)?
            .iter()
            .filter(|name| *name == user)
            .count()
            == 2
    );
    Ok(())
}
