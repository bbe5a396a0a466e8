//! Starts other programs, watches them and notices Ctrl-C; `reap` ends them.

use std::{
    ffi::OsStr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};

use crate::reap;

/// Environment variable every program started here carries, so that it can be found again.
pub(crate) const MARK: &str = "KEYWRIGHT_XTASK_RUN";

static SIGNAL: OnceLock<Arc<AtomicUsize>> = OnceLock::new();
static RUN_MARK: OnceLock<String> = OnceLock::new();

/// From now on Ctrl-C, SIGTERM and SIGHUP end waiting instead of ending this process.
pub(crate) fn listen_for_signals() -> Result<()> {
    let signal = SIGNAL.get_or_init(Arc::default);
    for number in [1, 2, 15] {
        let value = usize::try_from(number).unwrap_or_default();
        signal_hook::flag::register_usize(number, Arc::clone(signal), value)?;
    }
    Ok(())
}

/// The number of the signal that asked us to stop.
pub(crate) fn interrupted() -> Option<usize> {
    SIGNAL
        .get()
        .map(|signal| signal.load(Ordering::Relaxed))
        .filter(|number| *number != 0)
}

/// Fails when a signal asked us to stop.
pub(crate) fn go_on() -> Result<()> {
    if let Some(number) = interrupted() {
        bail!("stopped by signal {number}");
    }
    Ok(())
}

/// Sleeps, but not through a signal.
pub(crate) fn pause(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        go_on()?;
        thread::sleep(Duration::from_millis(20).min(end.saturating_duration_since(Instant::now())));
    }
    go_on()
}

/// The mark of this run of xtask.
pub(crate) fn run_mark() -> &'static str {
    RUN_MARK.get_or_init(|| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        format!("{}-{}", std::process::id(), now.as_millis())
    })
}

/// A program to be started in the repository's root, marked, without standard input.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(crate::root())
        .env(MARK, run_mark())
        .stdin(Stdio::null());
    command
}

/// Cargo, as it was called for xtask itself.
pub(crate) fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Prints `==> what`, does it, and prints how long it took.
pub(crate) fn step<T>(what: &str, action: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("==> {what}");
    let start = Instant::now();
    let result = action();
    let word = if result.is_ok() {
        "done in"
    } else {
        "failed after"
    };
    eprintln!("    {word} {:.1} s: {what}", start.elapsed().as_secs_f32());
    result
}

/// Runs a program to its end; fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = name_of(command);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start `{name}`"))?;
    let Some(status) = wait(&mut child, None)? else {
        bail!("`{name}` took too long")
    };
    if !status.success() {
        bail!("`{name}` failed ({status})");
    }
    Ok(())
}

/// Runs a program and returns what it wrote to standard output; fails unless it succeeds.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = name_of(command);
    let out = command
        .output()
        .with_context(|| format!("cannot start `{name}`"))?;
    go_on()?;
    if !out.status.success() {
        bail!(
            "`{name}` failed ({}): {}",
            out.status,
            String::from_utf8_lossy(&out.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Waits for a child; after `limit` ends it with all it started and returns `None`.
pub(crate) fn wait(child: &mut Child, limit: Option<Duration>) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            go_on()?;
            return Ok(Some(status));
        }
        if interrupted().is_some() || limit.is_some_and(|limit| start.elapsed() > limit) {
            reap::end_tree(child);
            go_on()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The command as a person would type it, shortened.
pub(crate) fn name_of(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let mut name = program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    for word in command.get_args().take(6) {
        name.push(' ');
        name.push_str(&word.to_string_lossy());
    }
    name
}
