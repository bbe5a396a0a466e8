//! What somebody must see before people call: how new memory is, which nodes are there, what waits for somebody.
//! Most of it is in memory; what is in the database is counted up to a bound, and seldom.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use keywright_registry::{RECEIPT_BOUND, Receipt, Waits};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::server::App;

/// What waits for somebody is not looked for more often.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// A scheduled rotation that was due before so long is late: nodes look for them twice a minute.
const LATE_MS: i64 = 15 * 60_000;
/// From a millisecond to the bound, in seconds.
const RECEIPT_BUCKETS: [f64; 11] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.9,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// The figures.
#[derive(Debug)]
pub(super) struct Watched {
    memory_age_s: Gauge<f64, AtomicU64>,
    nodes: Gauge,
    receipts: Family<OutcomeLabels, Counter>,
    receipt_s: Histogram,
    connections: Gauge,
    database_connections: Family<StateLabels, Gauge>,
    schedules: Gauge,
    webhooks: Family<StateLabels, Gauge>,
    alerts: Gauge,
    peppers: Gauge,
    certificate: Gauge,
    /// When what waits was looked for.
    looked: Mutex<Option<Instant>>,
    begun: Instant,
}

impl Watched {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let watched = Self {
            memory_age_s: Gauge::default(),
            nodes: Gauge::default(),
            receipts: Family::default(),
            receipt_s: Histogram::new(RECEIPT_BUCKETS),
            connections: Gauge::default(),
            database_connections: Family::default(),
            schedules: Gauge::default(),
            webhooks: Family::default(),
            alerts: Gauge::default(),
            peppers: Gauge::default(),
            certificate: Gauge::default(),
            looked: Mutex::default(),
            begun: Instant::now(),
        };
        registry.register(
            "memory_age_seconds",
            "How long ago memory was known to be as new as the database",
            watched.memory_age_s.clone(),
        );
        registry.register(
            "receipts",
            "Receipts of what was ended: all nodes said that they know, or one was late",
            watched.receipts.clone(),
        );
        for outcome in ["all", "late"] {
            let _ = watched.receipts.get_or_create(&OutcomeLabels { outcome });
        }
        registry.register(
            "receipt_seconds",
            "Time from a commit until the last node said that it knows",
            watched.receipt_s.clone(),
        );
        registry.register(
            "database_connections",
            "Connections of this process's pool, in use and free",
            watched.database_connections.clone(),
        );
        registry.register(
            "webhooks",
            "Webhooks that are switched off, and those that took nothing since their last failure",
            watched.webhooks.clone(),
        );
        for (name, help, gauge) in [
            (
                "nodes",
                "Nodes that were heard of within five seconds",
                &watched.nodes,
            ),
            (
                "connections",
                "Connections of clients that are open",
                &watched.connections,
            ),
            (
                "schedules_overdue",
                "Scheduled rotations that were due a quarter of an hour ago; a thousand at most",
                &watched.schedules,
            ),
            (
                "alerts_unseen",
                "Alerts that nobody marked as seen; a thousand at most",
                &watched.alerts,
            ),
            (
                "peppers_missing",
                "Peppers that keys need and that are not in the folder with the secrets",
                &watched.peppers,
            ),
            (
                "certificate_expires_timestamp_seconds",
                "When the certificate for https ends; 0 where this server has none",
                &watched.certificate,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        watched.set_waits(&Waits::default());
        watched.set_pool(0, 0);
        watched
    }

    /// Clients' connections, counted by whoever takes them.
    pub(super) fn connections(&self) -> Gauge {
        self.connections.clone()
    }

    pub(super) fn set_peppers_missing(&self, count: usize) {
        self.peppers.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// `at`: Unix seconds.
    pub(super) fn set_certificate(&self, at: i64) {
        self.certificate.set(at);
    }

    /// One that somebody waited for. One that nobody waited for, and that is not known yet, says nothing of nodes.
    pub(super) fn count_receipt(&self, receipt: &Receipt) {
        let knows_all = receipt.nodes.iter().all(|node| node.acknowledged);
        let outcome = match (knows_all, receipt.complete) {
            (true, true) => "all",
            (false, true) => "late",
            (_, false) => return,
        };
        self.receipts
            .get_or_create(&OutcomeLabels { outcome })
            .inc();
        let times = receipt.nodes.iter().map(|node| node.acknowledged_after);
        let last = times.map(|time| time.unwrap_or(RECEIPT_BOUND)).max();
        self.receipt_s
            .observe(last.unwrap_or_default().as_secs_f64());
    }

    fn set_pool(&self, busy: u64, idle: u64) {
        for (state, count) in [("busy", busy), ("idle", idle)] {
            self.database_connections
                .get_or_create(&StateLabels { state })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    fn set_waits(&self, waits: &Waits) {
        self.schedules.set(waits.schedules);
        self.alerts.set(waits.alerts_unseen);
        for (state, count) in [
            ("off", waits.webhooks_off),
            ("failing", waits.webhooks_failing),
        ] {
            self.webhooks
                .get_or_create(&StateLabels { state })
                .set(count);
        }
    }

    /// What is in memory.
    pub(super) fn look(&self, app: &App) {
        // One that was never known to be new is as old as the process.
        let age = app.registry.memory_age();
        let age = age.unwrap_or_else(|| self.begun.elapsed());
        self.memory_age_s.set(age.as_secs_f64());
        let pool = app.registry.connection_statistics();
        self.set_pool(pool.busy, pool.idle);
    }

    /// What is in the database.
    pub(super) async fn look_up(&self, app: &App) {
        if let Ok(nodes) = app.registry.list_nodes().await {
            let there = nodes.iter().filter(|node| node.is_there).count();
            self.nodes.set(i64::try_from(there).unwrap_or(i64::MAX));
        }
        if !self.is_due() {
            return;
        }
        match app.registry.waits(app.now().saturating_sub(LATE_MS)).await {
            Ok(waits) => self.set_waits(&waits),
            Err(error) => {
                tracing::debug!(code = error.code(), "what waits was not looked for");
                *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
        }
    }

    fn is_due(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY);
        if is_due {
            *looked = Some(Instant::now());
        }
        is_due
    }
}
