//! Who asked for what they may not do: 403, and an event in the audit trail (AC-182). Somebody who
//! asks a thousand times a minute makes one event a minute, not a thousand.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use keywright_domain::audit::Actor;
use keywright_registry::RegistryError;

use crate::keys::manager::Manager;
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

/// Whether something that anybody can cause is to be looked at and written down again: once a minute.
pub(crate) fn is_due(app: &App, subject: &str, what: &str) -> bool {
    app.sessions.refusals.is_due(subject, what, app.now())
}

/// Refuses a caller who does not hold a permission, and writes that down.
///
/// # Errors
/// 403 `insufficient_scope`.
pub(crate) async fn require(app: &App, manager: &Manager, permission: &str) -> Result<(), Problem> {
    if manager.may(permission) {
        return Ok(());
    }
    write_down(app, manager, permission).await;
    Err(Problem::insufficient_scope(permission))
}

/// Writes down that a caller was refused. The refusal stands even if that fails.
pub(crate) async fn write_down(app: &App, manager: &Manager, permission: &str) {
    if let Some((person, network)) = manager.person_at() {
        write_down_of(app, person, network, permission).await;
        return;
    }
    let program = manager.actor.as_str();
    if !app.sessions.refusals.is_due(program, permission, app.now()) {
        return;
    }
    tracing::warn!(event = "access_refused", program, permission, "refused");
    let registry = &app.registry;
    let written = registry.record_refusal_of_program(&manager.actor, permission);
    told(written.await);
}

/// The same of a person, by id.
pub(crate) async fn write_down_of(app: &App, id: &str, network: &str, permission: &str) {
    if !app.sessions.refusals.is_due(id, permission, app.now()) {
        return;
    }
    tracing::warn!(event = "access_refused", user = %id, permission, "refused");
    let actor = Actor::person(id);
    let registry = &app.registry;
    told(
        registry
            .record_refusal(&actor, id, permission, network)
            .await,
    );
}

fn told(written: Result<(), RegistryError>) {
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
