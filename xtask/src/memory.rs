//! How much memory the app and its web processes hold.

use std::fs;

use crate::reap;

/// Memory of a process and all its descendants, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Proportional: shared pages counted once among those who share them.
    pub(crate) pss: u64,
    /// Resident: shared pages counted for each.
    pub(crate) rss: u64,
    pub(crate) processes: usize,
}

/// Adds up the memory of a process tree.
pub(crate) fn of_tree(root: u32) -> Memory {
    let mut sum = Memory::default();
    for pid in reap::tree_of(root) {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
            continue;
        };
        sum.add(&text);
    }
    sum
}

fn kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

impl Memory {
    /// Adds a process by its /proc/PID/smaps_rollup.
    fn add(&mut self, text: &str) {
        self.pss += kib(text, "Pss:");
        self.rss += kib(text, "Rss:");
        self.processes += 1;
    }

    /// Proportional memory in MiB.
    pub(crate) fn pss_mib(self) -> f64 {
        mib(self.pss)
    }

    /// Resident memory in MiB.
    pub(crate) fn rss_mib(self) -> f64 {
        mib(self.rss)
    }
}

fn mib(kib: u64) -> f64 {
    u32::try_from(kib).map_or(f64::MAX, |kib| f64::from(kib) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_table() {
        let text = "0-1 ---p 0 00:00 0 [rollup]\nRss:  2048 kB\nPss:  1024 kB\nPss_Dirty: 7 kB\n";
        let mut sum = Memory::default();
        sum.add(text);
        sum.add(text);
        assert_eq!(
            sum,
            Memory {
                pss: 2048,
                rss: 4096,
                processes: 2
            }
        );
        assert_eq!(kib(text, "Swap:"), 0);
    }

    #[test]
    fn a_child_holds_some_memory() -> anyhow::Result<()> {
        let mut child = crate::process::command("sleep").arg("50.14").spawn()?;
        let memory = of_tree(child.id());
        reap::end_tree(&mut child);
        assert_eq!(memory.processes, 1);
        assert!(memory.pss > 0 && memory.pss <= memory.rss, "{memory:?}");
        Ok(())
    }
}
