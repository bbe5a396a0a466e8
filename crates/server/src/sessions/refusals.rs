//! Who asked for what they may not do: 403, and an event in the audit trail (AC-182). Somebody who
//! asks a thousand times a minute makes one event a minute, not a thousand.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use keywright_domain::audit::Actor;

use crate::caller::Caller;
use crate::problem::Problem;
use crate::server::App;

const EVERY_MS: i64 = 60_000;
const MOST: usize = 10_000;

/// When somebody's refusal was last written down.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<(String, String), i64>>);

impl Refusals {
    fn is_due(&self, user_id: &str, permission: &str, now: i64) -> bool {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (user_id.to_owned(), permission.to_owned());
        // A clock that was set back does not silence the trail.
        let recent = |at: &i64| (0..EVERY_MS).contains(&now.saturating_sub(*at));
        if written.get(&key).is_some_and(recent) {
            return false;
        }
        if written.len() >= MOST {
            written.retain(|_, at| recent(at));
            if written.len() >= MOST {
                written.clear();
            }
        }
        written.insert(key, now);
        true
    }
}

/// Refuses a caller who does not hold a permission, and writes that down.
///
/// # Errors
/// 403 `insufficient_scope`.
pub(crate) async fn require(app: &App, caller: &Caller, permission: &str) -> Result<(), Problem> {
    let Err(refused) = caller.require(permission) else {
        return Ok(());
    };
    write_down(app, caller, permission).await;
    Err(refused)
}

/// Writes down that a caller was refused. The refusal stands even if that fails.
pub(crate) async fn write_down(app: &App, caller: &Caller, permission: &str) {
    write_down_of(app, &caller.user.id, &caller.peer.network(), permission).await;
}

/// The same of a person, by id.
pub(crate) async fn write_down_of(app: &App, id: &str, network: &str, permission: &str) {
    if !app.sessions.refusals.is_due(id, permission, app.now()) {
        return;
    }
    tracing::warn!(event = "access_refused", user = %id, permission, "refused");
    let written = app
        .registry
        .record_refusal(&Actor::person(id), id, permission, network)
        .await;
    if let Err(error) = written {
        tracing::error!(code = error.code(), "a refusal was not written down");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_a_minute_also_when_the_clock_is_set_back() {
        let refusals = Refusals::default();
        assert!(refusals.is_due("u", "p", 1_000_000));
        assert!(!refusals.is_due("u", "p", 1_059_999));
        assert!(refusals.is_due("u", "q", 1_059_999));
        assert!(refusals.is_due("u", "p", 1_060_000));
        assert!(refusals.is_due("u", "p", 5));
        for n in 0..(MOST + 10) {
            refusals.is_due(&n.to_string(), "p", 5);
        }
        assert!(refusals.0.lock().unwrap().len() <= MOST);
    }
}
