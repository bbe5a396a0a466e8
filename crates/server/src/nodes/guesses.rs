//! Guesses that all nodes count together, where they share a Redis: failed passwords, wrong codes, failed
//! client authentication. Each node's own count goes on beside it and decides too, so that whatever becomes
//! of Redis, nobody guesses faster at one node than without it.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::http::failures::{self, Failures, Waits};
use crate::server::App;

/// One kind of guesses: so many in so long, for each source and each target.
#[derive(Debug)]
pub(crate) struct Guesses {
    /// Stable, a word in the names of Redis.
    kind: &'static str,
    own: Failures,
}

impl Guesses {
    /// `allowed` failures in `window_ms`, for each source and each target.
    pub(crate) fn new(kind: &'static str, allowed: u32, window_ms: i64) -> Self {
        Self {
            kind,
            own: Failures::new(allowed, window_ms),
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

    /// The same by what this node knows alone: for those who show nothing that could be guessed.
    ///
    /// # Errors
    /// [`Waits`].
    pub(crate) fn check_here(&self, app: &App, source: IpAddr, target: &str) -> Result<(), Waits> {
        self.own.check(source, target, app.now())
    }

    /// Counts a failure.
    pub(crate) async fn count(&self, app: &App, source: IpAddr, target: &str) {
        self.count_first(app, source, target).await.ok();
    }

    /// Counts an attempt before it is made: many at once, at several nodes, are no more than one after
    /// the other.
    ///
    /// # Errors
    /// [`Waits`] if others took the last one since [`check`](Self::check).
    pub(crate) async fn count_first(
        &self,
        app: &App,
        source: IpAddr,
        target: &str,
    ) -> Result<(), Waits> {
        self.own.count(source, target, app.now());
        let Some(redis) = &app.nodes.redis else {
            return Ok(());
        };
        let name = self.name(app, source, target);
        match redis.count_guess(&name, self.own.window_ms()).await {
            Some((count, left_ms)) if count > u64::from(self.own.allowed()) => {
                Err(Waits::for_ms(left_ms))
            }
            _ => Ok(()),
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
