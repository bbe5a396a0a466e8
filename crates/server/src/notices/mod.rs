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
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use keywright_registry::RegistryError;
use keywright_registry::outbox::{Attempt, Channel, Claimed, Message, Outcome};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::leaks;
use crate::mail::{self, Mailer};
use crate::oauth2::back_channel;
use crate::server::{App, BuildError};
use crate::settings::Settings;
use crate::webhooks;

/// How often it is looked whether there is something to tell.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many messages are on their way at once.
const MOST_AT_ONCE: usize = 16;
/// Messages that ended are kept for so long: the delivery log.
const KEPT_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// What is kept in memory.
#[derive(Debug)]
pub(crate) struct State {
    wake: Notify,
    mailer: Option<Mailer>,
    worked_at: AtomicI64,
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
        loop {
            let Some(app) = weak.upgrade() else { return };
            let made = app.registry.while_reachable(make::all(&app)).await;
            if let Err(error) = made.and_then(|made| made) {
                tracing::warn!(code = error.code(), "messages wait to be made");
            }
            while on_their_way.try_join_next().is_some() {}
            let free = MOST_AT_ONCE - on_their_way.len();
            let claimed = app.registry.while_reachable(claim(&app, free)).await;
            match claimed.and_then(|claimed| claimed) {
                Ok(claimed) => {
                    for one in claimed {
                        let app = Arc::clone(&app);
                        on_their_way.spawn(async move {
                            // What is not written down has its turn again.
                            let _ = app.registry.while_reachable(send(&app, &one)).await;
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

async fn claim(app: &App, free: usize) -> Result<Vec<Claimed>, RegistryError> {
    if free == 0 {
        return Ok(Vec::new());
    }
    let mut channels = vec![Channel::Webhook, Channel::Logout, Channel::FoundKey];
    if app.notices.has_mail() {
        channels.push(Channel::Mail);
    }
    let limit = u32::try_from(free).unwrap_or(1);
    app.registry.claim_messages(&channels, limit).await
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

/// One round of everything, until nothing is due: what the background does, for tests that pass time.
#[cfg(test)]
pub(crate) async fn run_until_idle(app: &App) {
    jobs::run(app).await;
    crate::nodes::background::turn(app).await.unwrap();
    make_for_test(app).await;
    loop {
        let claimed = claim(app, MOST_AT_ONCE).await.unwrap();
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
