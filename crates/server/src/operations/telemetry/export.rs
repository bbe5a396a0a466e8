//! The task that talks to the collector (OTLP/HTTP). It is the only one that waits for it.

use std::sync::Weak;
use std::time::Duration;

use axum::http::StatusCode;
use keywright_domain::base62::random_id;
use reqwest::Client;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use url::Url;

use super::{Message, Span, encode};
use crate::server::Parts;

/// What waits is sent this often, or when there is a batch of it.
const EVERY: Duration = Duration::from_secs(5);
const BATCH: usize = 512;
const WITHIN: Duration = Duration::from_secs(10);
/// Pauses before a batch is sent again; after that it is dropped.
const AGAIN_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
/// The log tells of a collector that takes nothing this often.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// No answer of a collector is longer.
const LONGEST_ANSWER: usize = 64 * 1024;

/// What sends spans.
pub(super) struct Exporter {
    client: Client,
    url: Url,
    instance: String,
    told: Option<Instant>,
}

/// Why a batch was not taken.
enum Refused {
    /// Later it may be.
    ForNow(String),
    /// It never will be.
    ForGood(String),
}

impl Exporter {
    /// For a checked endpoint. This way out is not the guarded one of identity providers: who may write
    /// the settings file names the collector, and it usually stands beside us.
    pub(super) fn new(endpoint: &Url) -> Result<Self, reqwest::Error> {
        let mut url = endpoint.clone();
        let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
        url.set_path(&path);
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(WITHIN)
            .connect_timeout(WITHIN)
            .build()?;
        Ok(Self {
            client,
            url,
            instance: random_id(&mut rand::rng()),
            told: None,
        })
    }

    /// Sends what comes, until nobody is left to send anything.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Message>, app: Weak<Parts>) {
        let mut batch = Vec::new();
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (mut is_due, mut asked) = (false, None);
            tokio::select! {
                message = queue.recv() => match message {
                    Some(Message::Span(span)) => batch.push(*span),
                    Some(Message::Flush(done)) => asked = Some(done),
                    None => return,
                },
                _ = tick.tick() => is_due = true,
            }
            if batch.len() >= BATCH || is_due || asked.is_some() {
                let spans = std::mem::take(&mut batch);
                // At the end there is no time for pauses.
                let pauses: &[Duration] = if asked.is_some() { &[] } else { &AGAIN_AFTER };
                self.send(&spans, pauses, &app).await;
            }
            if let Some(done) = asked {
                let _ = done.send(());
            }
        }
    }

    async fn send(&mut self, spans: &[Span], pauses: &[Duration], app: &Weak<Parts>) {
        if spans.is_empty() {
            return;
        }
        let body = encode::request(spans, &self.instance).to_string();
        let mut pauses = pauses.iter();
        let (exported, dropped) = loop {
            match self.post(body.clone()).await {
                Ok(rejected) => {
                    let rejected = rejected.min(spans.len());
                    break (spans.len() - rejected, rejected);
                }
                Err(Refused::ForGood(why)) => {
                    self.tell(&why);
                    break (0, spans.len());
                }
                Err(Refused::ForNow(why)) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => {
                        self.tell(&why);
                        break (0, spans.len());
                    }
                },
            }
        };
        if let Some(app) = app.upgrade() {
            app.operations.metrics.count_spans("exported", exported);
            app.operations.metrics.count_spans("dropped", dropped);
        }
    }

    /// Sends a batch once. How many spans of it the collector rejected.
    async fn post(&self, body: String) -> Result<usize, Refused> {
        let request = self.client.post(self.url.clone());
        let request = request
            .header("content-type", "application/json")
            .body(body);
        let broken = |error: reqwest::Error| Refused::ForNow(error.without_url().to_string());
        let mut answer = request.send().await.map_err(broken)?;
        let status = answer.status();
        if !status.is_success() {
            let why = format!("status {}", status.as_u16());
            // What the standard calls retryable.
            return Err(match status {
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT => Refused::ForNow(why),
                _ => Refused::ForGood(why),
            });
        }
        let mut text = Vec::new();
        while let Ok(Some(part)) = answer.chunk().await {
            text.extend_from_slice(&part);
            if text.len() > LONGEST_ANSWER {
                return Ok(0);
            }
        }
        let said: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let rejected = &said["partialSuccess"]["rejectedSpans"];
        let number = rejected
            .as_u64()
            .or_else(|| rejected.as_str()?.parse().ok());
        Ok(number
            .and_then(|number| usize::try_from(number).ok())
            .unwrap_or(0))
    }

    fn tell(&mut self, why: &str) {
        let now = Instant::now();
        if self
            .told
            .is_some_and(|told| now.duration_since(told) < TELL_EVERY)
        {
            return;
        }
        self.told = Some(now);
        tracing::warn!(why, "the collector takes no traces; requests go on");
    }
}
