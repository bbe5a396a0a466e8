//! Guesses that all nodes count together, where they share a Redis: failed passwords, wrong codes, failed
//! client authentication. Each node's own count goes on beside it and decides too, so that whatever becomes
//! of Redis, nobody guesses faster at one node than without it.

use std::net::IpAddr;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::attempts::Turns;
use crate::http::failures::{self, Failures, Waits};
use crate::server::App;

/// A node that asked for a name goes by the answer for so long where it need not know better.
const CLEAR_MS: i64 = 1_000;

/// One kind of guesses: so many in so long, for each source and each target.
#[derive(Debug)]
pub(crate) struct Guesses {
    /// Stable, a word in the names of Redis.
    kind: &'static str,
    pub(super) own: Failures,
    /// Attempts that are being made, and those who wait for their end.
    pub(super) turns: Turns,
    /// Names of which all nodes together know nothing that would refuse anybody. Kept by a clock that nobody
    /// puts.
    clear: Failures,
    begun: Instant,
}

impl Guesses {
    /// `allowed` failures in `window_ms`, for each source and each target.
    pub(crate) fn new(kind: &'static str, allowed: u32, window_ms: i64) -> Self {
        Self {
            kind,
            own: Failures::new(allowed, window_ms),
            turns: Turns::default(),
            clear: Failures::new(1, CLEAR_MS),
            begun: Instant::now(),
        }
    }

    /// Refuses an attempt after too many failures of this source at this target, here or at all nodes
    /// together.
    ///
    /// # Errors
    /// [`Waits`].
    pub(crate) async fn check(&self, app: &App, source: IpAddr, target: &str) -> Result<(), Waits> {
        self.check_here(app, source, target)?;
        let Some(redis) = &app.nodes.redis else {
            return Ok(());
        };
        match redis.guesses(&self.name(app, source, target)).await {
            Some((count, left_ms)) if count >= u64::from(self.own.allowed()) => {
                Err(Waits::for_ms(left_ms))
            }
            _ => Ok(()),
        }
    }

    /// The same for what is asked often and seldom guessed at: all nodes together are asked once a second
    /// for a source and a target. Whoever does not guess does not wait for Redis in between; a lock-out at
    /// another node holds here a second later. A failure here ends that second.
    ///
    /// # Errors
    /// [`Waits`].
    pub(crate) async fn check_within_a_second(
        &self,
        app: &App,
        source: IpAddr,
        target: &str,
    ) -> Result<(), Waits> {
        self.check_here(app, source, target)?;
        let Some(redis) = &app.nodes.redis else {
            return Ok(());
        };
        // One is allowed: who is refused is noted.
        let is_clear = |at| self.clear.check(source, target, at).is_err();
        if is_clear(self.elapsed_ms()) {
            return Ok(());
        }
        // By when it was asked: an answer says nothing of what came later.
        let asked_at = self.elapsed_ms();
        match redis.guesses(&self.name(app, source, target)).await {
            Some((count, left_ms)) if count >= u64::from(self.own.allowed()) => {
                Err(Waits::for_ms(left_ms))
            }
            Some(_) => {
                self.clear.forget(source, target);
                self.clear.count(source, target, asked_at);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// The same by what this node knows alone: for those who show nothing that could be guessed.
    ///
    /// # Errors
    /// [`Waits`].
    pub(crate) fn check_here(&self, app: &App, source: IpAddr, target: &str) -> Result<(), Waits> {
        let now = app.now();
        self.own.check(source, target, now).or_else(|_| {
            // What is under way is counted, and need not fail.
            let name = failures::name(source, target);
            let under_way = self.turns.under_way(&name);
            self.own.check_without(&name, under_way, now)
        })
    }

    /// Counts a failure.
    pub(crate) async fn count(&self, app: &App, source: IpAddr, target: &str) {
        self.count_first(app, source, target).await.ok();
    }

    /// Counts an attempt before it is made: many at once, at several nodes, are no more than one after
    /// the other. At this node that holds whatever becomes of Redis: its own number is looked at before
    /// anybody is waited for.
    ///
    /// # Errors
    /// [`Waits`] if others took the last one since [`check`](Self::check).
    pub(crate) async fn count_first(
        &self,
        app: &App,
        source: IpAddr,
        target: &str,
    ) -> Result<(), Waits> {
        let counted = self.own.count(source, target, app.now());
        if counted.failures > self.own.allowed() {
            return Err(Waits::for_ms(counted.left_ms));
        }
        self.count_at_all(app, source, target).await
    }

    /// Counts an attempt before it is made, where many are right: each that was is
    /// [taken back](Self::take_back). Many at once are no more than one after the other, and those that
    /// were refused here cost the others nothing. Returns when it was counted (Unix ms).
    ///
    /// # Errors
    /// [`Waits`] if others took the last one since [`check`](Self::check).
    pub(crate) async fn count_attempt(
        &self,
        app: &App,
        source: IpAddr,
        target: &str,
    ) -> Result<i64, Waits> {
        let at = app.now();
        self.own.count_within(source, target, at)?;
        match self.count_at_all(app, source, target).await {
            Ok(()) => Ok(at),
            Err(waits) => {
                self.take_back(app, source, target, at).await;
                Err(waits)
            }
        }
    }

    /// Counts one more for all nodes together, where they share a Redis.
    pub(super) async fn count_at_all(
        &self,
        app: &App,
        source: IpAddr,
        target: &str,
    ) -> Result<(), Waits> {
        let Some(redis) = &app.nodes.redis else {
            return Ok(());
        };
        self.clear.forget(source, target);
        let name = self.name(app, source, target);
        match redis.count_guess(&name, self.own.window_ms()).await {
            Some((count, left_ms)) if count > u64::from(self.own.allowed()) => {
                Err(Waits::for_ms(left_ms))
            }
            _ => Ok(()),
        }
    }

    /// Takes back what [`count_attempt`](Self::count_attempt) counted: it was no guess. What Redis cannot
    /// be told stays counted there.
    pub(crate) async fn take_back(&self, app: &App, source: IpAddr, target: &str, counted_at: i64) {
        self.own.take_back(source, target, counted_at);
        if let Some(redis) = &app.nodes.redis {
            redis.take_guess_back(&self.name(app, source, target)).await;
        }
    }

    /// Forgets the failures of a source at a target, after a success.
    pub(crate) async fn forget(&self, app: &App, source: IpAddr, target: &str) {
        self.own.forget(source, target);
        if let Some(redis) = &app.nodes.redis {
            redis.forget_guesses(&self.name(app, source, target)).await;
        }
    }

    /// Its name in Redis. Addresses of people and of networks stay here: there is a tag of them under the
    /// master key, which all nodes have.
    fn name(&self, app: &App, source: IpAddr, target: &str) -> String {
        let plain = failures::name(source, target);
        let tag = app.secrets.tag(&[b"guesses", plain.as_bytes()]);
        format!("{}:{}", self.kind, URL_SAFE_NO_PAD.encode(&tag[..16]))
    }
}
