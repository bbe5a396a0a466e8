//! Figures in the format that Prometheus reads (OpenMetrics 1.0). Labels have few values each: routes
//! are templates, and nothing a client sends becomes a label.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use keywright_registry::Receipt;
use keywright_registry::outbox::{Channel, Dropped, Waiting};

use super::health;
use super::job_figures::JobFigures;
use super::process_figures::ProcessFigures;
use super::verifications::{Door, Ending, Verifications};
use super::watched::Watched;
use crate::problem::Problem;
use crate::server::App;

/// From half a millisecond to what a request may take.
const BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    route: String,
    method: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SignInLabels {
    method: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ChannelLabels {
    channel: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AttemptLabels {
    channel: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct GrantLabels {
    grant: &'static str,
}

type Histograms = Family<RouteLabels, Histogram, fn() -> Histogram>;

/// Ways to sign in.
const SIGN_INS: [&str; 5] = ["password", "passkey", "code", "invitation", "provider"];
/// Grant types.
const GRANTS: [&str; 5] = [
    "authorization_code",
    "refresh_token",
    "client_credentials",
    "device_code",
    "other",
];

/// Classes of status codes (RFC 9110 §15).
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

fn class(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1
}

/// The figures of one route and method, found when the first request is counted: finding them by
/// their labels costs more than counting.
#[derive(Debug)]
pub(super) struct RouteFigures {
    route: String,
    method: &'static str,
    duration: OnceLock<Histogram>,
    requests: [OnceLock<Counter>; CLASSES.len()],
}

impl RouteFigures {
    pub(super) fn new(route: String, method: &'static str) -> Self {
        Self {
            route,
            method,
            duration: OnceLock::new(),
            requests: Default::default(),
        }
    }

    /// The route's template, with the base path.
    pub(super) fn route(&self) -> &str {
        &self.route
    }
}

/// What is counted.
pub(crate) struct Metrics {
    registry: Registry,
    /// Figures under names that are not ours.
    usual: Registry,
    process: ProcessFigures,
    watched: Watched,
    jobs: JobFigures,
    requests: Family<RequestLabels, Counter>,
    durations: Histograms,
    verifications: Verifications,
    sign_ins: Family<SignInLabels, Counter>,
    tokens: Family<GrantLabels, Counter>,
    spans: Family<OutcomeLabels, Counter>,
    denials: Gauge,
    database_up: Gauge,
    nodes: Nodes,
    outbox: Outbox,
    uses: Uses,
}

/// Messages to others: what waits is in the database, the same for all nodes; attempts are this
/// process's.
#[derive(Default)]
struct Outbox {
    waiting: Family<ChannelLabels, Gauge>,
    retried: Family<ChannelLabels, Gauge>,
    oldest_s: Family<ChannelLabels, Gauge>,
    dropped: Family<ChannelLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
}

impl Outbox {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "outbox_waiting",
            "Messages that wait to be sent, by channel",
            self.waiting.clone(),
        );
        registry.register(
            "outbox_retried",
            "Those of them that were tried in vain",
            self.retried.clone(),
        );
        registry.register(
            "outbox_oldest_seconds",
            "Age of the oldest message that waits",
            self.oldest_s.clone(),
        );
        registry.register(
            "outbox_dropped",
            "Messages that were never made, because too many waited for their target",
            self.dropped.clone(),
        );
        registry.register(
            "outbox_attempts",
            "Attempts of this process: delivered, retried (tried again later) and dead (given up)",
            self.attempts.clone(),
        );
        for channel in Channel::ALL {
            let channel = channel.as_str();
            let _ = self.dropped.get_or_create(&ChannelLabels { channel });
            for outcome in ["delivered", "retried", "dead"] {
                let labels = AttemptLabels { channel, outcome };
                // From the start at 0: a first one is a rise then.
                let _ = self.attempts.get_or_create(&labels);
            }
        }
    }

    /// They are counted in the database, for all nodes: what this process shows only follows.
    fn set_dropped(&self, found: &[Dropped]) {
        for channel in Channel::ALL {
            let labels = ChannelLabels {
                channel: channel.as_str(),
            };
            let one = found.iter().find(|one| one.channel == channel);
            let count = one.map_or(0, |one| u64::try_from(one.messages).unwrap_or(0));
            let shown = self.dropped.get_or_create(&labels);
            shown.inner().store(count, Ordering::Relaxed);
        }
    }

    fn set(&self, found: &[Waiting], now: i64) {
        for channel in Channel::ALL {
            let labels = ChannelLabels {
                channel: channel.as_str(),
            };
            let one = found.iter().find(|one| one.channel == channel);
            let (waiting, retried) = one.map_or((0, 0), |one| (one.messages, one.retried));
            let age_ms = one.map_or(0, |one| now.saturating_sub(one.oldest_at).max(0));
            self.waiting.get_or_create(&labels).set(waiting);
            self.retried.get_or_create(&labels).set(retried);
            self.oldest_s.get_or_create(&labels).set(age_ms / 1000);
        }
    }
}

/// This process among several over one database.
#[derive(Default)]
struct Nodes {
    listening: Gauge,
    lost: Counter,
    skew_ms: Gauge,
    redis_up: Gauge,
    redis_failures: Counter,
}

impl Nodes {
    fn register(&self, registry: &mut Registry) {
        for (name, help, gauge) in [
            (
                "node_listening",
                "1 if changes of other nodes are heard of at once",
                &self.listening,
            ),
            (
                "clock_skew_milliseconds",
                "This clock ahead of the database's",
                &self.skew_ms,
            ),
            (
                "redis_up",
                "1 if limits are counted for all nodes together",
                &self.redis_up,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        registry.register(
            "node_listen_losses",
            "How often the connection was lost by which changes of other nodes are heard of",
            self.lost.clone(),
        );
        registry.register(
            "redis_failures",
            "How often Redis did not answer",
            self.redis_failures.clone(),
        );
    }

    fn look(&self, app: &App) {
        let known = app.registry.node_statistics();
        self.listening.set(i64::from(known.listening));
        // Counted where it happens, and only grows.
        self.lost.inner().store(known.lost, Ordering::Relaxed);
        self.skew_ms.set(known.clock_skew_ms.unwrap_or(0));
        if let Some(redis) = &app.nodes.redis {
            self.redis_up.set(i64::from(redis.is_up()));
            let failures = self.redis_failures.inner();
            failures.store(redis.failures(), Ordering::Relaxed);
        }
    }
}

/// What verifications leave behind: uses that wait in memory for the next flush, reads of keys.
#[derive(Default)]
struct Uses {
    waiting: Gauge,
    alerts_waiting: Gauge,
    first_waiting: Gauge,
    in_memory: Gauge,
    in_memory_bytes: Gauge,
    all_in_memory: Gauge,
    in_common: Gauge,
    in_common_bytes: Gauge,
    dropped: Counter,
    alerts_dropped: Counter,
    kids_asked_for: Counter,
}

impl Uses {
    fn register(&self, registry: &mut Registry) {
        for (name, help, gauge) in [
            (
                "uses_waiting",
                "Combinations of secret, hour and caller that are not written yet",
                &self.waiting,
            ),
            (
                "use_alerts_waiting",
                "Alerts about uses that are not written yet",
                &self.alerts_waiting,
            ),
            (
                "first_uses_waiting",
                "First uses of secrets that could not be written at once",
                &self.first_waiting,
            ),
            ("keys_in_memory", "Keys that are in memory", &self.in_memory),
            (
                "keys_in_memory_bytes",
                "What keys in memory take, counters included",
                &self.in_memory_bytes,
            ),
            (
                "keys_all_in_memory",
                "Whether every key is in memory: until then, what is not there is asked of the database",
                &self.all_in_memory,
            ),
            (
                "keys_in_common",
                "Sets of scopes, limits and networks that keys in memory have, or had since the start",
                &self.in_common,
            ),
            (
                "keys_in_common_bytes",
                "What these take; it is given back at a restart",
                &self.in_common_bytes,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        registry.register(
            "uses_dropped",
            "Uses that found no place, or may not have been written, and are not counted",
            self.dropped.clone(),
        );
        registry.register(
            "use_alerts_dropped",
            "Alerts about uses that found no place",
            self.alerts_dropped.clone(),
        );
        registry.register(
            "kids_asked_for",
            "Kids that the database was asked for because memory could not tell",
            self.kids_asked_for.clone(),
        );
    }

    fn look(&self, app: &App) {
        let known = app.registry.use_statistics();
        let length = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        self.waiting.set(length(known.waiting));
        self.alerts_waiting.set(length(known.alerts_waiting));
        self.first_waiting.set(length(known.first_uses_waiting));
        let index = app.registry.index_statistics();
        self.in_memory.set(length(index.keys));
        self.in_memory_bytes.set(length(index.bytes));
        self.all_in_memory.set(i64::from(index.complete));
        let (values, bytes) = app.registry.index_in_common();
        self.in_common.set(length(values));
        self.in_common_bytes.set(length(bytes));
        // They are counted where they are dropped, and only grow.
        let same = Ordering::Relaxed;
        self.dropped.inner().store(known.dropped, same);
        self.alerts_dropped
            .inner()
            .store(known.alerts_dropped, same);
        self.kids_asked_for
            .inner()
            .store(app.registry.kids_asked_for(), same);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Keys at a door that wait for their verdicts. Those that have none when this is dropped were given up: their time was over,
/// their client hung up, or what judged them panicked.
#[derive(Debug)]
pub(crate) struct Awaited<'a> {
    metrics: &'a Metrics,
    door: Door,
    keys: usize,
}

impl Awaited<'_> {
    /// So many keys wait from now on.
    pub(crate) fn expect(&mut self, keys: usize) {
        self.keys = keys;
    }

    /// The verification of one of them ended: it is counted.
    pub(crate) fn ended(&mut self, ending: Ending) {
        self.keys = self.keys.saturating_sub(1);
        self.metrics.count_verification(self.door, ending);
    }

    /// There is an answer, whatever it says of those that still wait.
    pub(crate) fn answered(mut self) {
        self.keys = 0;
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        for _ in 0..self.keys {
            self.metrics.count_verification(self.door, Ending::GivenUp);
        }
    }
}

impl Metrics {
    /// Nothing counted yet.
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("keywright");
        let requests = Family::default();
        registry.register("http_requests", "Requests answered", requests.clone());
        let durations: Histograms = Family::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register(
            "http_request_duration_seconds",
            "Time until the answer began",
            durations.clone(),
        );
        let verifications = Verifications::register(&mut registry);
        let sign_ins: Family<SignInLabels, Counter> = Family::default();
        registry.register("sign_ins", "Sign-ins by way", sign_ins.clone());
        // From the start at 0, as the others: a first one is a rise then.
        for method in SIGN_INS {
            for outcome in ["success", "failure"] {
                let _ = sign_ins.get_or_create(&SignInLabels { method, outcome });
            }
        }
        let tokens: Family<GrantLabels, Counter> = Family::default();
        registry.register(
            "token_requests",
            "Answers of the token endpoint that gave tokens, by grant type",
            tokens.clone(),
        );
        for grant in GRANTS {
            let _ = tokens.get_or_create(&GrantLabels { grant });
        }
        let spans: Family<OutcomeLabels, Counter> = Family::default();
        registry.register(
            "spans",
            "Spans of traces that the collector took, and those that were dropped",
            spans.clone(),
        );
        for outcome in ["exported", "dropped"] {
            let _ = spans.get_or_create(&OutcomeLabels { outcome });
        }
        let denials = Gauge::default();
        registry.register(
            "denials",
            "Access tokens, sessions and grants that ended before their time and are remembered",
            denials.clone(),
        );
        let database_up = Gauge::default();
        registry.register(
            "database_up",
            "1 if the database answered when it was last asked",
            database_up.clone(),
        );
        let nodes = Nodes::default();
        nodes.register(&mut registry);
        let outbox = Outbox::default();
        outbox.register(&mut registry);
        let uses = Uses::default();
        uses.register(&mut registry);
        let watched = Watched::register(&mut registry);
        let jobs = JobFigures::register(&mut registry);
        let mut usual = Registry::default();
        let process = ProcessFigures::register(&mut usual);
        let version = vec![
            ("version", env!("CARGO_PKG_VERSION")),
            ("build", crate::BUILD),
        ];
        registry.register("build", "The program that runs", Info::new(version));
        Self {
            registry,
            usual,
            process,
            watched,
            jobs,
            requests,
            durations,
            verifications,
            sign_ins,
            tokens,
            spans,
            denials,
            database_up,
            nodes,
            outbox,
            uses,
        }
    }

    pub(super) fn count_request(
        &self,
        route: &str,
        method: &'static str,
        status: StatusCode,
        took: Duration,
    ) {
        let status = CLASSES[class(status)];
        let route = route.to_owned();
        self.durations
            .get_or_create(&RouteLabels {
                route: route.clone(),
                method,
            })
            .observe(took.as_secs_f64());
        self.requests
            .get_or_create(&RequestLabels {
                route,
                method,
                status,
            })
            .inc();
    }

    /// As [`Self::count_request`], for a route whose figures are found once.
    pub(super) fn count_on(&self, known: &RouteFigures, status: StatusCode, took: Duration) {
        let (route, method) = (known.route.as_str(), known.method);
        let duration = known.duration.get_or_init(|| {
            let route = route.to_owned();
            let labels = RouteLabels { route, method };
            self.durations.get_or_create_owned(&labels)
        });
        duration.observe(took.as_secs_f64());
        let class = class(status);
        let requests = known.requests[class].get_or_init(|| {
            self.requests.get_or_create_owned(&RequestLabels {
                route: route.to_owned(),
                method,
                status: CLASSES[class],
            })
        });
        requests.inc();
    }

    /// Counts a verification: one addition, nothing else.
    pub(crate) fn count_verification(&self, door: Door, ending: Ending) {
        self.verifications.count(door, ending);
    }

    /// Counts a call at a door that came to no verdict because of this server. What the caller did wrong is no
    /// verification.
    pub(crate) fn count_unanswered(&self, door: Door, problem: &Problem) {
        if problem.status.is_server_error() {
            self.count_verification(door, Ending::without_verdict(problem.code));
        }
    }

    /// Keys at a door that wait for their verdicts.
    pub(crate) fn awaited(&self, door: Door, keys: usize) -> Awaited<'_> {
        Awaited {
            metrics: self,
            door,
            keys,
        }
    }

    /// Counts a sign-in. Ways beyond ours count as `provider`: their ids are names that people give.
    pub(crate) fn count_sign_in(&self, method: &str, succeeded: bool) {
        let method = match method {
            "password" => "password",
            "passkey" => "passkey",
            "code" => "code",
            "invitation" => "invitation",
            _ => "provider",
        };
        let outcome = if succeeded { "success" } else { "failure" };
        self.sign_ins
            .get_or_create(&SignInLabels { method, outcome })
            .inc();
    }

    /// Counts spans of traces.
    pub(crate) fn count_spans(&self, outcome: &'static str, count: usize) {
        let labels = OutcomeLabels { outcome };
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.spans.get_or_create(&labels).inc_by(count);
    }

    /// Counts an attempt to send a message.
    pub(crate) fn count_message(&self, channel: Channel, outcome: &'static str) {
        let channel = channel.as_str();
        let labels = AttemptLabels { channel, outcome };
        self.outbox.attempts.get_or_create(&labels).inc();
    }

    /// Counts tokens that were given.
    pub(crate) fn count_tokens(&self, grant: &str) {
        let grant = match grant {
            "authorization_code" => "authorization_code",
            "refresh_token" => "refresh_token",
            "client_credentials" => "client_credentials",
            "urn:ietf:params:oauth:grant-type:device_code" => "device_code",
            _ => "other",
        };
        self.tokens.get_or_create(&GrantLabels { grant }).inc();
    }

    /// Counts a receipt that was waited for.
    pub(crate) fn count_receipt(&self, receipt: &Receipt) {
        self.watched.count_receipt(receipt);
    }

    /// Notes how a turn of a job ended here.
    pub(crate) fn job_ended<T, E>(&self, job: &'static str, ended: &Result<T, E>) {
        self.jobs.ended(job, ended.is_ok());
    }

    /// Notes how many peppers are missed.
    pub(crate) fn set_peppers_missing(&self, count: usize) {
        self.watched.set_peppers_missing(count);
    }

    /// Notes when the certificate ends (Unix seconds).
    pub(crate) fn set_certificate(&self, at: i64) {
        self.watched.set_certificate(at);
    }

    /// Connections of clients, counted by whoever takes them.
    pub(crate) fn connections(&self) -> Gauge {
        self.watched.connections()
    }

    /// The text that Prometheus reads.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a text cannot fail; what is whole so far is told otherwise.
        let usual = encode_registry(&mut text, &self.usual);
        if usual
            .and_then(|()| encode(&mut text, &self.registry))
            .is_err()
        {
            tracing::warn!("the figures could not be written whole");
        }
        text
    }
}

/// Looks at what no request changes: the database and the denials.
pub(super) async fn look(app: &App) {
    let metrics = &app.operations.metrics;
    // Before the database is waited for: it is when it is away that uses wait.
    metrics.uses.look(app);
    metrics.watched.look(app);
    metrics.process.look();
    let up = health::database_answers(app).await;
    metrics.database_up.set(i64::from(up));
    metrics.nodes.look(app);
    if up && let Ok(denials) = app.registry.count_denials().await {
        metrics.denials.set(denials);
    }
    if up && let Ok(found) = app.registry.waiting_messages().await {
        metrics.outbox.set(&found, app.now());
    }
    if up && let Ok(found) = app.registry.dropped_messages().await {
        metrics.outbox.set_dropped(&found);
    }
    if up {
        metrics.watched.look_up(app).await;
    }
}
