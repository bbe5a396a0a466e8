//! Processes of a session: each leads a group of its own, and none outlives its session.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Everything started in a session carries this variable, daemons included.
pub(crate) const MARK: &str = "KEYWRIGHT_TEST_SESSION";

/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);

/// A process with its group; dropping it ends the group.
pub(crate) struct Part(Child);

impl Part {
    /// Starts a command as the leader of a new group.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_os_string();
        let child = command.process_group(0).spawn();
        Ok(Self(child.with_context(|| {
            format!("cannot start {}", name.display())
        })?))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let group = format!("-{}", self.id());
        signal("TERM", &group);
        let end = Instant::now() + GRACE;
        while !self.has_ended() && Instant::now() < end {
            pause(10);
        }
        signal("KILL", &group);
        while !self.has_ended() && Instant::now() < end + GRACE {
            pause(10);
        }
    }
}

/// Sends a signal to a process, or with a minus sign to a group; one that is gone is no error.
pub(crate) fn signal(name: &str, target: &str) {
    let line = format!("kill -s {name} -- {target}");
    let _ = Command::new("sh")
        .args(["-c", &line])
        .stderr(Stdio::null())
        .status();
}

/// Ends whatever still carries the mark: handlers and daemons leave their group.
pub(crate) fn sweep(mark: &str) {
    let end = Instant::now() + GRACE;
    loop {
        let left = marked(mark);
        if left.is_empty() || Instant::now() > end {
            return;
        }
        for id in left {
            signal("KILL", &id.to_string());
        }
        pause(20);
    }
}

/// The processes that carry a mark: in their environment, or in their arguments where they have
/// overwritten their environment, as Chromium's children do.
pub(crate) fn marked(mark: &str) -> Vec<u32> {
    let entry = format!("{MARK}={mark}");
    let named = |id: &u32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(mark)
    };
    let mut found = with_variable(&entry);
    found.extend(all().into_iter().filter(named));
    found.sort_unstable();
    found.dedup();
    found
}

/// The processes whose environment has exactly this `NAME=value`.
pub(crate) fn with_variable(entry: &str) -> Vec<u32> {
    let carries = |id: &u32| {
        // A zombie's environment is empty.
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|have| have == entry.as_bytes())
    };
    all().into_iter().filter(carries).collect()
}

fn all() -> Vec<u32> {
    let Ok(folders) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let ids = folders
        .flatten()
        .filter_map(|folder| folder.file_name().to_str()?.parse().ok());
    ids.collect()
}

pub(crate) fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}
