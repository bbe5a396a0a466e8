//! Traces for who asks for them (`telemetry.otlp_endpoint`): one span a request, with what the log says
//! of it and nothing more, sent as OTLP over HTTP in JSON. Why by hand: docs/decisions/0016-the-rest.md.
//!
//! Nothing here ever waits for the collector but the task that talks to it. The queue is bounded; what
//! does not fit, or is not taken, is dropped and counted.

mod encode;
mod export;
mod traceparent;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::HeaderMap;
use rand::Rng as _;
use tokio::sync::{mpsc, oneshot};

use self::export::Exporter;
use self::traceparent::TraceParent;
use super::metrics::Metrics;
use crate::server::{App, BuildError};
use crate::settings::Settings;

/// So many spans wait at most: about a megabyte.
const QUEUE: usize = 2_048;
/// How long the end waits for what is left.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);

/// A request that was answered.
#[derive(Clone, Debug)]
pub(super) struct Span {
    trace: Trace,
    began_ns: u64,
    took_ns: u64,
    method: &'static str,
    route: String,
    status: u16,
    client: IpAddr,
    request_id: String,
}

/// Where a request stands among others.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    parent: Option<[u8; 8]>,
    began: SystemTime,
}

impl Trace {
    /// As it is written in logs.
    pub(super) fn id(&self) -> String {
        encode::hex(&self.trace_id)
    }
}

enum Message {
    Span(Box<Span>),
    Flush(oneshot::Sender<()>),
}

/// What takes spans in.
pub(super) struct Telemetry {
    queue: mpsc::Sender<Message>,
    /// Until the task that sends them has begun.
    waiting: Mutex<Option<(Exporter, mpsc::Receiver<Message>)>>,
    percent: u32,
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Telemetry")
    }
}

impl Telemetry {
    /// None where nobody asked for traces.
    pub(super) fn new(settings: &Settings) -> Result<Option<Self>, BuildError> {
        let Some(endpoint) = &settings.otlp_endpoint else {
            return Ok(None);
        };
        let exporter = Exporter::new(endpoint)
            .map_err(|error| BuildError::Other(format!("telemetry.otlp_endpoint: {error}")))?;
        let (queue, waiting) = mpsc::channel(QUEUE);
        Ok(Some(Self {
            queue,
            waiting: Mutex::new(Some((exporter, waiting))),
            percent: settings.otlp_sample_percent,
        }))
    }

    /// Where a request stands, if it is among those that are traced. Whoever sends a trace along is
    /// joined to it; how many are traced is ours to say, and only a proxy of ours can leave one out.
    pub(super) fn begin(&self, headers: &HeaderMap, by_trusted_proxy: bool) -> Option<Trace> {
        let mut all = headers.get_all("traceparent").iter();
        let given = match (all.next(), all.next()) {
            (Some(value), None) => value.to_str().ok().and_then(TraceParent::parse),
            _ => None,
        };
        if by_trusted_proxy && given.as_ref().is_some_and(|parent| !parent.sampled) {
            return None;
        }
        let mut fresh = [0_u8; 24];
        rand::rng().fill_bytes(&mut fresh);
        let (mut trace_id, mut span_id) = ([0_u8; 16], [0_u8; 8]);
        trace_id.copy_from_slice(&fresh[..16]);
        span_id.copy_from_slice(&fresh[16..]);
        if let Some(parent) = &given {
            trace_id = parent.trace_id;
        }
        traceparent::is_among(&trace_id, self.percent).then(|| Trace {
            trace_id,
            span_id,
            parent: given.map(|parent| parent.parent_id),
            began: SystemTime::now(),
        })
    }

    /// Takes a span in, or drops it: nobody waits.
    fn put(&self, span: Span, metrics: &Metrics) {
        if self.queue.try_send(Message::Span(Box::new(span))).is_err() {
            metrics.count_spans("dropped", 1);
        }
    }
}

/// A request was answered.
#[derive(Debug)]
pub(super) struct Answered<'a> {
    pub(super) method: &'static str,
    pub(super) route: &'a str,
    pub(super) status: u16,
    pub(super) took: Duration,
    pub(super) client: IpAddr,
    pub(super) request_id: &'a str,
}

/// Writes a request down for the collector.
pub(super) fn record(app: &App, trace: Trace, answered: &Answered<'_>) {
    let Some(telemetry) = &app.operations.telemetry else {
        return;
    };
    let since = trace.began.duration_since(UNIX_EPOCH).unwrap_or_default();
    let span = Span {
        began_ns: nanoseconds(since),
        took_ns: nanoseconds(answered.took),
        trace,
        method: answered.method,
        route: answered.route.to_owned(),
        status: answered.status,
        client: answered.client,
        request_id: answered.request_id.to_owned(),
    };
    telemetry.put(span, &app.operations.metrics);
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Starts the task that talks to the collector; it ends with the server.
pub(super) fn start(app: &App) {
    let Some(telemetry) = &app.operations.telemetry else {
        return;
    };
    let waiting = telemetry.waiting.lock();
    let waiting = waiting.unwrap_or_else(PoisonError::into_inner).take();
    if let Some((exporter, queue)) = waiting {
        tokio::spawn(exporter.run(queue, Arc::downgrade(app)));
    }
}

/// Sends what is left, at the end.
pub(crate) async fn flush(app: &App) {
    let Some(telemetry) = &app.operations.telemetry else {
        return;
    };
    let (done, is_done) = oneshot::channel();
    let flush = async {
        if telemetry.queue.send(Message::Flush(done)).await.is_ok() {
            let _ = is_done.await;
        }
    };
    if tokio::time::timeout(FLUSH_WITHIN, flush).await.is_err() {
        tracing::warn!("some traces were not sent: the collector takes too long");
    }
}
