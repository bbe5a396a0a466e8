//! What others are told, beside requests: messages are made of what was committed, and sent by one node,
//! again and again where that fails. `docs/webhooks.md` says what receivers see.

mod digest;
mod jobs;
mod make;
pub(crate) mod people;
pub(crate) mod retry;
mod words;

pub(crate) use words::Mail;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use keywright_registry::RegistryError;
use keywright_registry::outbox::{ATTEMPT, Attempt, Channel, Claimed, Message, Outcome};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::leaks;
use crate::mail::{self, Mailer};
use crate::oauth2::back_channel;
use crate::server::{App, BuildError};
use crate::settings::Settings;
use crate::webhooks;
use crate::webhooks::holds::Holds;

/// How often it is looked whether there is something to tell.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many messages are on their way at once.
const MOST_AT_ONCE: usize = 16;
/// Of them so many to webhooks, whose receivers may be silent: the rest is for mail, sign-outs and found keys.
const MOST_TO_WEBHOOKS: usize = 12;
/// Messages that ended are kept for so long: the delivery log. Those by which campaigns ask stay for 370 days more, because
/// by them it is judged who heard.
const KEPT_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// What is kept in memory.
#[derive(Debug)]
pub(crate) struct State {
    wake: Notify,
    mailer: Option<Mailer>,
    worked_at: AtomicI64,
    /// Receivers of webhooks that are left alone for a while.
    pub(crate) holds: Holds,
}

impl State {
    /// Nothing looked at yet.
    pub(crate) fn new(settings: &Settings) -> Result<Self, BuildError> {
        let mailer = settings
            .mail
            .as_ref()
            .map(Mailer::new)
            .transpose()
            .map_err(|error| BuildError::Other(format!("mail: {error}")))?;
        Ok(Self {
            wake: Notify::new(),
            mailer,
            worked_at: AtomicI64::new(i64::MIN),
            holds: Holds::default(),
        })
    }

    /// There is something to send.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Whether mail can be sent.
    pub(crate) fn has_mail(&self) -> bool {
        self.mailer.is_some()
    }

    /// Whether this much time passed since it was so the last time.
    fn is_time(last: &AtomicI64, now: i64, every_ms: i64) -> bool {
        let before = last.load(Ordering::Relaxed);
        if now.saturating_sub(before) < every_ms && now >= before {
            return false;
        }
        last.store(now, Ordering::Relaxed);
        true
    }
}

/// Starts what goes on beside requests: making messages, sending them, and the jobs of the registry.
pub(crate) fn start_background_work(app: &App) {
    let weak = Arc::downgrade(app);
    tokio::spawn(async move {
        let mut on_their_way = JoinSet::new();
        let to_webhooks = Arc::new(AtomicUsize::new(0));
        loop {
            let Some(app) = weak.upgrade() else { return };
            let made = app.registry.while_reachable(make::all(&app)).await;
            let made = made.and_then(|made| made);
            app.operations.metrics.job_ended("messages", &made);
            if let Err(error) = made {
                tracing::warn!(code = error.code(), "messages wait to be made");
            }
            while on_their_way.try_join_next().is_some() {}
            let busy = Busy {
                all: on_their_way.len(),
                to_webhooks: to_webhooks.load(Ordering::Relaxed),
            };
            let claimed = app.registry.while_reachable(claim(&app, busy)).await;
            match claimed.and_then(|claimed| claimed) {
                Ok(claimed) => {
                    for one in claimed {
                        let app = Arc::clone(&app);
                        let place = (one.message.channel == Channel::Webhook)
                            .then(|| Place::take(&to_webhooks));
                        on_their_way.spawn(async move {
                            // What is not written down has its turn again; whatever hangs gives its place back.
                            let sent = app.registry.while_reachable(send(&app, &one));
                            if tokio::time::timeout(ATTEMPT, sent).await.is_err() {
                                tracing::warn!(
                                    message = one.message.id,
                                    "sending a message took too long"
                                );
                            }
                            drop(place);
                            app.notices.wake();
                        });
                    }
                }
                Err(error) => tracing::warn!(code = error.code(), "messages wait to be sent"),
            }
            let sleep = tokio::time::sleep(LOOK_EVERY);
            tokio::select! {
                () = sleep => {}
                () = app.notices.wake.notified() => {}
            }
        }
    });
    look_for_what_is_due(app);
    jobs::start(app);
}

fn look_for_what_is_due(app: &App) {
    let weak = Arc::downgrade(app);
    tokio::spawn(async move {
        loop {
            let Some(app) = weak.upgrade() else { return };
            let looked = app.registry.while_reachable(make::what_is_due(&app)).await;
            if let Err(error) = looked.and_then(|looked| looked) {
                tracing::warn!(code = error.code(), "notices wait for the next look");
            }
            drop(app);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
}

/// How much is being sent by this node.
#[derive(Clone, Copy, Debug, Default)]
struct Busy {
    all: usize,
    to_webhooks: usize,
}

/// One that is on its way to a webhook.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is to be sent now. What people and programs wait for goes before what webhooks are told.
async fn claim(app: &App, busy: Busy) -> Result<Vec<Claimed>, RegistryError> {
    let mut channels = vec![Channel::Logout, Channel::FoundKey];
    if app.notices.has_mail() {
        channels.push(Channel::Mail);
    }
    let free = MOST_AT_ONCE.saturating_sub(busy.all);
    let mut claimed = take(app, &channels, free, &[]).await?;
    let free = free.saturating_sub(claimed.len());
    let free = free.min(MOST_TO_WEBHOOKS.saturating_sub(busy.to_webhooks));
    let held = app.notices.holds.held(app.now());
    claimed.extend(take(app, &[Channel::Webhook], free, &held).await?);
    Ok(claimed)
}

async fn take(
    app: &App,
    channels: &[Channel],
    free: usize,
    held: &[String],
) -> Result<Vec<Claimed>, RegistryError> {
    if free == 0 {
        return Ok(Vec::new());
    }
    let limit = u32::try_from(free).unwrap_or(1);
    app.registry.claim_messages_but(channels, limit, held).await
}

/// Writes down what came of an attempt, and counts it.
///
/// # Errors
/// [`RegistryError`]: then the message is free again when its claim runs out.
pub(crate) async fn record(
    app: &App,
    message: &Message,
    attempt: Attempt,
    outcome: Outcome,
) -> Result<(), RegistryError> {
    let counted = match outcome {
        Outcome::Delivered => "delivered",
        Outcome::Again(_) => "retried",
        Outcome::Failed => "dead",
    };
    app.registry
        .record_attempt(&message.id, attempt, outcome)
        .await?;
    app.operations
        .metrics
        .count_message(message.channel, counted);
    Ok(())
}

async fn send(app: &App, claimed: &Claimed) {
    let sent = match claimed.message.channel {
        Channel::Webhook => webhooks::deliver::deliver(app, claimed).await,
        Channel::Mail => mail::deliver::deliver(app, app.notices.mailer.as_ref(), claimed).await,
        Channel::Logout => back_channel::deliver(app, claimed).await,
        Channel::FoundKey => leaks::see_to(app, claimed).await,
    };
    if let Err(error) = sent {
        tracing::warn!(
            code = error.code(),
            message = claimed.message.id,
            "what came of a message was not written down"
        );
    }
}

/// One turn of schedules.
#[cfg(test)]
pub(crate) async fn run_jobs_for_test(app: &App) {
    jobs::run(app).await;
}

/// One round of everything, until nothing is due: what the background does, for tests that pass time.
#[cfg(test)]
pub(crate) async fn run_until_idle(app: &App) {
    jobs::run(app).await;
    crate::nodes::background::turn(app).await.unwrap();
    make_for_test(app).await;
    loop {
        let claimed = claim(app, Busy::default()).await.unwrap();
        if claimed.is_empty() {
            return;
        }
        for one in claimed {
            send(app, &one).await;
        }
    }
}

/// Messages are made and not sent, for tests of what happens in between.
#[cfg(test)]
pub(crate) async fn make_for_test(app: &App) {
    make::all(app).await.unwrap();
    make::what_is_due(app).await.unwrap();
}
