//! Keeping access tokens fresh in the background. Short ticks over the wall clock: a timer for
//! "in 48 minutes" would sleep through a closed lid.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::refresh::refresh_now;
use crate::Inner;
use crate::clock::now_ms;

const TICK: Duration = Duration::from_secs(2);

/// Runs until the app is closing, or gone.
pub(crate) async fn keep_fresh(app: Weak<Inner>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inner) = app.upgrade() else { return };
        if inner.accounts.is_closing() {
            return;
        }
        if inner.accounts.sessions.end_those_over(now_ms()) {
            inner.events.accounts_changed();
        }
        for account_id in inner.accounts.sessions.due(now_ms()) {
            let inner = Arc::clone(&inner);
            tokio::spawn(async move {
                // What went wrong was noted with the account.
                let _noted = refresh_now(&inner, &account_id).await;
            });
        }
    }
}
