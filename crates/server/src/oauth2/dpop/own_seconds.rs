//! Proofs without a nonce where memory of uses ends with the process (an embedded database): which of them can
//! have been used by this process alone. Seconds of `iat` are claimed in the database before a proof of them is
//! taken, each by one process for ever. Whatever was used before a restart, a kill or a power cut is of
//! another's seconds, and gets a nonce (RFC 9449 §8).

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use super::AHEAD_S;
use crate::server::App;

/// So many seconds beyond the proof that asks for it are claimed at once: one write a minute of use, and as
/// long a time after a restart in which proofs need a nonce.
const STEP_S: i64 = 60;
/// A clock that is put back by more than this was never right: what it said is no measure.
const DAY_S: i64 = 86_400;

/// Seconds of one process.
#[derive(Debug)]
pub(crate) struct OwnSeconds {
    known: Mutex<Known>,
    /// One claim at a time.
    claims: tokio::sync::Mutex<()>,
}

/// What is known of them. Times in Unix seconds.
#[derive(Clone, Copy, Debug)]
struct Known {
    started_at: i64,
    own: Option<Own>,
}

/// Those after one second, up to another and with it.
#[derive(Clone, Copy, Debug)]
struct Own {
    after: i64,
    to: i64,
}

impl OwnSeconds {
    /// None yet. `now`: Unix ms.
    pub(crate) fn new(now: i64) -> Self {
        Self {
            known: Mutex::new(Known {
                started_at: now / 1000,
                own: None,
            }),
            claims: tokio::sync::Mutex::default(),
        }
    }

    /// As if the process had been started long ago, for tests that are not about it.
    #[cfg(test)]
    pub(crate) fn run_for_long(&self) {
        self.known.lock().unwrap().started_at = i64::MIN;
    }

    /// Whether a second is this process's; none where that is to be found out.
    fn judge(&self, second: i64, now: i64) -> Option<bool> {
        let counts = |at: i64| at <= now.saturating_add(DAY_S);
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // What the database says as well, unless an older copy of it was put back, or a version of before claimed
        // nothing.
        if counts(known.started_at) && second <= known.started_at.saturating_add(AHEAD_S) {
            return Some(false);
        }
        match known.own.filter(|own| counts(own.after)) {
            Some(own) if second <= own.after => Some(false),
            Some(own) if second <= own.to => Some(true),
            _ => None,
        }
    }

    fn put(&self, to: i64, claimed_to: Option<i64>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let after = match (known.own, claimed_to) {
            // Nobody was in between.
            (Some(own), Some(at)) if at == own.to => own.after,
            (_, Some(at)) => at,
            (_, None) => i64::MIN,
        };
        known.own = Some(Own {
            after,
            to: to.max(after),
        });
    }
}

/// Whether a proof of this second, a young one, can have been used by nobody but this process. False as well where
/// the database does not say. `second`: its `iat`.
pub(super) async fn has(app: &App, second: i64) -> bool {
    let seconds = &app.oauth2.extensions.own_seconds;
    if let Some(known) = seconds.judge(second, app.now() / 1000) {
        return known;
    }
    // By its own, since whoever asked may go: what is claimed and not known as ours would be nobody's.
    let app = Arc::clone(app);
    let claimed = tokio::spawn(async move { claim(&app, second).await });
    claimed.await.unwrap_or(false)
}

async fn claim(app: &App, second: i64) -> bool {
    let seconds = &app.oauth2.extensions.own_seconds;
    let _turn = seconds.claims.lock().await;
    let now = app.now() / 1000;
    if let Some(known) = seconds.judge(second, now) {
        return known;
    }
    let to = second.saturating_add(STEP_S);
    match app.registry.claim_moments(to.saturating_mul(1000)).await {
        Ok(before) => seconds.put(to, before.map(|ms| ms / 1000)),
        Err(error) => {
            tracing::warn!(
                code = error.code(),
                "whose proof it can be is not known: a nonce is asked for"
            );
            return false;
        }
    }
    seconds.judge(second, now).unwrap_or(false)
}
