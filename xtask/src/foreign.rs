//! How much of the machine others use while we measure. A figure that was taken beside somebody else's work says
//! little, so it is void.
//!
//! What all processes used comes from `/proc/stat`, what ours used from every process that xtask started: by family
//! tree and by the mark in their environment. The rest is foreign.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{process, reap};

/// More than this of one core makes a figure void.
pub(crate) const MOST: f64 = 0.25;
/// The worst stretch of this length decides: an average over a long run hides who was busy while a figure was taken.
const STRETCH: usize = 10;
/// Less time than this says nothing: clocks of processes count in hundredths of a second.
const EVERY: Duration = Duration::from_secs(1);
/// Ticks a second in `/proc` (USER_HZ), the same on every Linux of today.
const TICKS: f64 = 100.0;

/// Watches from one line of a bench to the next, each second, in a thread of its own.
pub(crate) struct Foreign {
    /// Cores that others used, second by second since it was asked last.
    seconds: Arc<Mutex<Vec<f64>>>,
    last: f64,
}

#[derive(Clone, Copy, Debug)]
struct Ticks {
    all: u64,
    ours: u64,
}

impl Foreign {
    pub(crate) fn new() -> Self {
        let seconds = Arc::new(Mutex::new(Vec::new()));
        let weak = Arc::downgrade(&seconds);
        // It ends when nobody asks any more.
        std::thread::spawn(move || {
            let (mut since, mut before) = (Instant::now(), Ticks::now());
            loop {
                std::thread::sleep(EVERY);
                let Some(seconds) = weak.upgrade() else {
                    return;
                };
                let (took, now) = (since.elapsed(), Ticks::now());
                if let (Some(before), Some(now)) = (before, now) {
                    let mut seconds = seconds.lock().unwrap_or_else(PoisonError::into_inner);
                    seconds.push(cores(before, now, took));
                }
                (since, before) = (Instant::now(), now);
            }
        });
        Self { seconds, last: 0.0 }
    }

    /// What was found already.
    #[cfg(test)]
    pub(crate) fn found(cores: f64) -> Self {
        Self {
            seconds: Arc::default(),
            last: cores,
        }
    }

    /// Cores that others used in the worst ten seconds since this was asked last, or in all of a shorter time. Lines
    /// that follow each other at once were measured together, and share what was found.
    pub(crate) fn cores(&mut self) -> f64 {
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worst) = worst(&seconds) {
            self.last = (worst * 100.0).round() / 100.0;
        }
        seconds.clear();
        self.last
    }
}

/// The highest average of [`STRETCH`] seconds in a row.
fn worst(seconds: &[f64]) -> Option<f64> {
    let length = STRETCH.min(seconds.len());
    if length == 0 {
        return None;
    }
    let average = |stretch: &[f64]| stretch.iter().sum::<f64>() / length as f64;
    seconds.windows(length).map(average).max_by(f64::total_cmp)
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
    all.saturating_sub(ours) as f64 / TICKS / took.as_secs_f64()
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
    fn a_short_neighbour_is_not_averaged_away() {
        assert_eq!(worst(&[]), None);
        assert_eq!(worst(&[0.5, 0.25]), Some(0.375));
        let mut seconds = vec![0.0; 200];
        seconds[90..100].fill(1.0);
        assert_eq!(worst(&seconds), Some(1.0));
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
                .args(["3.6", "sh", "-c", "while :; do :; done"])
                .spawn()?;
            std::thread::sleep(Duration::from_millis(3_500));
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
