//! Ends processes and everything they started, by family tree and by the mark in their
//! environment: daemons leave their group, but they keep their environment.

use std::{
    collections::BTreeMap,
    fs,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::process::MARK;

/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(3);

/// Ends a child and all its descendants and reaps the child.
pub(crate) fn end_tree(child: &mut Child) {
    if matches!(child.try_wait(), Ok(None)) {
        let root = child.id();
        end_all(
            |processes| descendants(processes, &[root]),
            || drop(child.try_wait()),
        );
    }
    // Only a process stuck in the kernel is still there.
    let _ = child.try_wait();
}

/// Ends whatever carries `mark`, or a mark that begins with it and a dot, and its descendants.
pub(crate) fn end_marked(mark: &str) {
    end_all(
        |processes| descendants(processes, &marked(processes, mark)),
        || {},
    );
}

/// All descendants of `root`, itself included.
pub(crate) fn tree_of(root: u32) -> Vec<u32> {
    descendants(&processes(), &[root])
}

/// Whatever this process or a program that carries `mark` started; not this process itself.
pub(crate) fn of_this_run(mark: &str) -> Vec<u32> {
    let processes = processes();
    let mut roots = marked(&processes, mark);
    let own = std::process::id();
    roots.extend(
        processes
            .iter()
            .filter(|(_, process)| process.parent == own)
            .map(|(pid, _)| *pid),
    );
    roots.sort_unstable();
    roots.dedup();
    descendants(&processes, &roots)
}

fn end_all(find: impl Fn(&BTreeMap<u32, Process>) -> Vec<u32>, mut reap: impl FnMut()) {
    for (signal, grace) in [
        (Signal::TERM, GRACE),
        (Signal::KILL, Duration::from_secs(2)),
    ] {
        let end = Instant::now() + grace;
        let mut told: Vec<u32> = Vec::new();
        loop {
            reap();
            // A process that outlives its parent leaves the tree: what was told stays on the list.
            let now = processes();
            let mut alive = find(&now);
            alive.extend(told.iter().filter(|pid| now.contains_key(pid)));
            if alive.is_empty() {
                return;
            }
            for pid in alive {
                if !told.contains(&pid) {
                    send(pid, signal);
                    told.push(pid);
                }
            }
            if Instant::now() > end {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Sends a signal; a process that is already gone is no error.
pub(crate) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

struct Process {
    parent: u32,
}

/// Every process that has not ended; this one is never among them.
fn processes() -> BTreeMap<u32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter_map(|pid: u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((
                pid,
                Process {
                    parent: parent_in(&stat)?,
                },
            ))
        })
        .collect()
}

/// The parent's id in a line of /proc/PID/stat; `None` for one that has ended (zombie, dead).
fn parent_in(stat: &str) -> Option<u32> {
    // The name is in brackets and may itself contain brackets and spaces.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then_some(())?;
    fields.next()?.parse().ok()
}

fn descendants(processes: &BTreeMap<u32, Process>, roots: &[u32]) -> Vec<u32> {
    let mut found: Vec<u32> = roots
        .iter()
        .copied()
        .filter(|pid| processes.contains_key(pid))
        .collect();
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        let children = processes
            .iter()
            .filter(|(_, process)| process.parent == parent);
        let new: Vec<u32> = children
            .map(|(pid, _)| *pid)
            .filter(|pid| !found.contains(pid))
            .collect();
        found.extend(new);
        at += 1;
    }
    found
}

fn marked(processes: &BTreeMap<u32, Process>, mark: &str) -> Vec<u32> {
    let carries = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|entry| is_mark(entry, mark))
    };
    processes.keys().copied().filter(carries).collect()
}

fn is_mark(entry: &[u8], mark: &str) -> bool {
    entry
        .strip_prefix(MARK.as_bytes())
        .and_then(|rest| rest.strip_prefix(b"="))
        .and_then(|value| value.strip_prefix(mark.as_bytes()))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"."))
}

/// How many processes have exactly this argument.
#[cfg(test)]
pub(crate) fn running_with_argument(argument: &str) -> usize {
    let has = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .any(|word| word == argument.as_bytes())
    };
    processes().keys().filter(|pid| has(pid)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::command;

    #[test]
    fn stat_lines_with_hostile_names() {
        assert_eq!(parent_in("12 (a) b) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in("12 (sleep) Z 7 12 12 0"), None);
        assert_eq!(parent_in("nonsense"), None);
    }

    #[test]
    fn marks_match_whole_and_by_session() {
        let entry = |value: &str| format!("{MARK}={value}").into_bytes();
        assert!(is_mark(&entry("10-5"), "10-5"));
        assert!(is_mark(&entry("10-5.2"), "10-5"));
        assert!(!is_mark(&entry("10-55"), "10-5"));
        assert!(!is_mark(&entry("10-5"), "10-5.2"));
        assert!(!is_mark(b"OTHER=10-5", "10-5"));
    }

    #[test]
    fn a_daemon_is_found_by_its_mark() -> anyhow::Result<()> {
        let mark = format!("test-{}", std::process::id());
        let mut daemon = command("setsid");
        daemon.env(MARK, &mark).args(["--fork", "sleep", "48.12"]);
        assert!(daemon.status()?.success());
        while running_with_argument("48.12") == 0 {
            thread::sleep(Duration::from_millis(5));
        }
        end_marked(&mark);
        assert_eq!(running_with_argument("48.12"), 0);
        Ok(())
    }
}
