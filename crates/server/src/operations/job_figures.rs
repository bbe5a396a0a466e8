//! What is done in the background, and when it last went well here. One node at a time does most of it, so each tells
//! of its own turns: who watches takes the newest of all nodes.

use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// All of them: figures are there from the start.
const JOBS: [&str; 11] = [
    "checkpoint",
    "hygiene_campaigns",
    "look_for_notices",
    "messages",
    "peppers",
    "prune_people",
    "prune_used",
    "retention",
    "schedules",
    "settle_rotations",
    "signing_keys",
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct JobLabels {
    /// Not `job`: collectors give that name to who is asked.
    name: &'static str,
}

/// Seconds since 1970, by the clock of the machine: what a collector compares it with.
pub(super) fn now_s() -> f64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
        .as_secs_f64()
}

/// The figures.
#[derive(Debug)]
pub(super) struct JobFigures {
    success: Family<JobLabels, Gauge<f64, AtomicU64>>,
    failures: Family<JobLabels, Counter>,
}

impl JobFigures {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let figures = Self {
            success: Family::default(),
            failures: Family::default(),
        };
        registry.register(
            "job_last_success_timestamp_seconds",
            "When this process last did a job; before the first time, when it started",
            figures.success.clone(),
        );
        registry.register(
            "job_failures",
            "Turns of jobs that this process could not do",
            figures.failures.clone(),
        );
        for job in JOBS {
            let labels = JobLabels { name: job };
            figures.success.get_or_create(&labels).set(now_s());
            let _ = figures.failures.get_or_create(&labels);
        }
        figures
    }

    pub(super) fn ended(&self, job: &'static str, well: bool) {
        debug_assert!(JOBS.contains(&job), "{job} has no figure from the start");
        let labels = JobLabels { name: job };
        if well {
            self.success.get_or_create(&labels).set(now_s());
        } else {
            self.failures.get_or_create(&labels).inc();
        }
    }
}
