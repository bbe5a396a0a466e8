//! How much of the machine others use while we measure. A figure that was taken beside somebody else's work says
//! little, so it is void.
//!
//! What all processes used comes from `/proc/stat`, what ours used from every process that xtask started: by family
//! tree and by the mark in their environment. The rest is foreign.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{process, reap};

/// More than this of one core makes a figure void.
pub(crate) const MOST: f64 = 0.25;
/// Less time than this says nothing: clocks of processes count in hundredths of a second.
const SHORTEST: Duration = Duration::from_secs(1);
/// Ticks a second in `/proc` (USER_HZ), the same on every Linux of today.
const TICKS: f64 = 100.0;

/// Watches from one line of a bench to the next.
pub(crate) struct Foreign {
    since: Instant,
    at: Option<Ticks>,
    last: f64,
}

#[derive(Clone, Copy, Debug)]
struct Ticks {
    all: u64,
    ours: u64,
}

impl Foreign {
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
            at: Ticks::now(),
            last: 0.0,
        }
    }

    /// What was found already.
    #[cfg(test)]
    pub(crate) fn found(cores: f64) -> Self {
        Self {
            last: cores,
            ..Self::new()
        }
    }

    /// Cores that others used since this was asked last. Lines that follow each other at once were measured
    /// together, and share what was found.
    pub(crate) fn cores(&mut self) -> f64 {
        let took = self.since.elapsed();
        if took >= SHORTEST {
            let now = Ticks::now();
            if let (Some(before), Some(now)) = (self.at, now) {
                self.last = cores(before, now, took);
            }
            (self.since, self.at) = (Instant::now(), now);
        }
        self.last
    }
}

impl Ticks {
    /// Nothing where there is no `/proc`.
    fn now() -> Option<Self> {
        // Ours first: what is used between the two counts as foreign, never the other way.
        let mut ours = used(&fs::read_to_string("/proc/self/stat").ok()?)?;
        for id in reap::of_this_run(process::run_mark()) {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            ours += used(&stat).unwrap_or_default();
        }
        let all = all(&fs::read_to_string("/proc/stat").ok()?)?;
        Some(Self { all, ours })
    }
}

fn cores(before: Ticks, now: Ticks, took: Duration) -> f64 {
    let all = now.all.saturating_sub(before.all);
    let ours = now.ours.saturating_sub(before.ours);
    let foreign = all.saturating_sub(ours) as f64 / TICKS / took.as_secs_f64();
    (foreign * 100.0).round() / 100.0
}

/// Ticks that all processes used: user, nice and system of the line for all processors.
fn all(stat: &str) -> Option<u64> {
    let mut fields = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace();
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(ticks()? + ticks()? + ticks()?)
}

/// Ticks that a process and its ended children used (proc(5): utime, stime, cutime, cstime), so that nothing is lost
/// when one ends.
fn used(stat: &str) -> Option<u64> {
    let fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    fields
        .skip(11)
        .take(4)
        .map(|field| field.parse::<u64>().ok())
        .try_fold(0, |sum, ticks| Some(sum + ticks?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_foreign() {
        let before = Ticks {
            all: 1_000,
            ours: 400,
        };
        let now = Ticks {
            all: 1_400,
            ours: 700,
        };
        let two = Duration::from_secs(2);
        assert!((cores(before, now, two) - 0.5).abs() < 1e-9);
        // Ours may be read a little later than all.
        let ahead = Ticks {
            all: 1_000,
            ours: 900,
        };
        assert!(cores(before, ahead, two).abs() < 1e-9);
    }

    #[test]
    fn fields_of_proc() {
        assert_eq!(all("cpu  10 20 30 40 50\ncpu0 1 2 3"), Some(60));
        assert_eq!(all("intr 5"), None);
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 5 6 7 8 20 0 1 0 9";
        assert_eq!(used(stat), Some(26));
        assert_eq!(used("7 (a"), None);
    }

    /// A process that nobody here started is seen, one of ours is not.
    #[test]
    fn load_is_told_apart() -> anyhow::Result<()> {
        let busy = |ours: bool| -> anyhow::Result<f64> {
            let mut command = if ours {
                process::command("timeout")
            } else {
                std::process::Command::new("setsid")
            };
            if !ours {
                // Out of our tree, and without the mark.
                command
                    .args(["--fork", "timeout"])
                    .env_remove(process::MARK);
            }
            let mut foreign = Foreign::new();
            let mut child = command
                .args(["1.6", "sh", "-c", "while :; do :; done"])
                .spawn()?;
            std::thread::sleep(Duration::from_millis(1_500));
            let found = foreign.cores();
            let _ = child.wait()?;
            std::thread::sleep(Duration::from_millis(400));
            Ok(found)
        };
        // Others may be busy too: what counts is that ours adds nothing. Their load swings, so a few tries.
        for _ in 0..10 {
            let (ours, theirs) = (busy(true)?, busy(false)?);
            if theirs - ours > 0.2 {
                return Ok(());
            }
        }
        anyhow::bail!("a foreign process was not told from one of ours")
    }
}
