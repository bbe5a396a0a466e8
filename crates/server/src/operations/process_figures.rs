//! What every exporter tells of its process, under the names that dashboards know. On Linux; elsewhere there is the
//! start alone.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::job_figures::now_s;

/// The figures, in a registry of their own: they have no prefix.
#[derive(Debug)]
pub(super) struct ProcessFigures {
    resident: Gauge,
    descriptors: Gauge,
    most_descriptors: Gauge,
}

impl ProcessFigures {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let start: Gauge<f64, AtomicU64> = Gauge::default();
        start.set(now_s());
        registry.register(
            "process_start_time_seconds",
            "When this process started (Unix time)",
            start,
        );
        let figures = Self {
            resident: Gauge::default(),
            descriptors: Gauge::default(),
            most_descriptors: Gauge::default(),
        };
        for (name, help, gauge) in [
            (
                "process_resident_memory_bytes",
                "Memory of this process that is in RAM",
                &figures.resident,
            ),
            (
                "process_open_fds",
                "File descriptors that are open",
                &figures.descriptors,
            ),
            (
                "process_max_fds",
                "File descriptors that may be open",
                &figures.most_descriptors,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        figures
    }

    #[cfg(target_os = "linux")]
    pub(super) fn look(&self) {
        let set = |gauge: &Gauge, value: Option<u64>| {
            if let Some(value) = value {
                gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            }
        };
        set(&self.resident, linux::resident());
        set(&self.descriptors, linux::descriptors());
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        set(&self.most_descriptors, limit.current);
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn look(&self) {
        let _ = (&self.resident, &self.descriptors, &self.most_descriptors);
    }
}

/// proc(5).
#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    pub(super) fn resident() -> Option<u64> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    }

    pub(super) fn descriptors() -> Option<u64> {
        // Since Linux 6.2 the folder's size is how many there are; before, each is a name in it, and so is the reading.
        match fs::metadata("/proc/self/fd").ok()?.len() {
            0 => {
                let all = fs::read_dir("/proc/self/fd").ok()?.count();
                u64::try_from(all.saturating_sub(1)).ok()
            }
            count => Some(count),
        }
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn a_process_knows_its_memory_and_its_files() {
            assert!(super::resident().unwrap() > 1 << 20);
            let before = super::descriptors().unwrap();
            let held: Vec<_> = (0..20)
                .map(|_| std::fs::File::open("/dev/null").unwrap())
                .collect();
            // Other tests open and close theirs meanwhile.
            assert!(
                before >= 3 && super::descriptors().unwrap() >= 20,
                "{before}"
            );
            drop(held);
        }
    }
}
