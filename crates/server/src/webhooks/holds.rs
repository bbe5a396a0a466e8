//! Receivers that refuse are left alone for a while: each message has its own next try, and without this the thousands
//! behind it would ask at once, as fast as the receiver can refuse. Each node remembers its own; a restart forgets.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// After a failure nothing is sent for so long (ms): less than the first wait of a message, which it does not move.
const LEAST_MS: i64 = 4_000;
/// And for no longer than this, however long it has failed: whoever is back hears of it soon.
const MOST_MS: i64 = 5 * 60 * 1000;
/// What the receiver asks for (`Retry-After`) is heeded up to here (ms).
const MOST_ASKED_MS: i64 = 60 * 60 * 1000;

#[derive(Clone, Copy, Debug)]
struct Hold {
    /// The first failure since anything was delivered (Unix ms).
    since: i64,
    /// Nothing is sent before (Unix ms).
    until: i64,
    /// The newest failure (Unix ms).
    at: i64,
}

/// The webhooks to which nothing is sent now.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<HashMap<String, Hold>>);

impl Holds {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Hold>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A try failed. `asked_ms`: how long the receiver wants to be left alone (RFC 9110 §10.2.3).
    pub(crate) fn failed(&self, webhook_id: &str, now: i64, asked_ms: Option<i64>) {
        let mut all = self.all();
        let hold = all.entry(webhook_id.to_owned()).or_insert(Hold {
            since: now,
            until: now,
            at: now,
        });
        hold.at = now;
        if now.saturating_sub(hold.until) > MOST_ASKED_MS {
            // Nothing was tried for long: this is a first failure.
            hold.since = now;
        }
        let failing = now.saturating_sub(hold.since);
        let own = (failing / 4).clamp(LEAST_MS, MOST_MS);
        let asked = asked_ms.unwrap_or(0).clamp(0, MOST_ASKED_MS);
        let until = now.saturating_add(own.max(asked));
        // Several were on their way: the longest counts, unless a clock that was ahead wrote it down.
        hold.until = if believable(hold.until, now) {
            hold.until.max(until)
        } else {
            until
        };
    }

    /// Something was delivered by a try that began then (Unix ms): nothing is held any more, unless another try was refused
    /// since. Several are on their way at once, and a refusal is quick where work is not: what was refused later says more.
    pub(crate) fn delivered(&self, webhook_id: &str, began: i64, now: i64) {
        let mut all = self.all();
        // What a clock that was ahead wrote down is not believed.
        let is_over = |hold: &Hold| hold.at <= began || hold.at > now;
        if all.get(webhook_id).is_some_and(is_over) {
            all.remove(webhook_id);
        }
    }

    /// Somebody wants it tried, or it is gone: nothing is held any more.
    pub(crate) fn release(&self, webhook_id: &str) {
        self.all().remove(webhook_id);
    }

    /// The webhooks to which nothing is sent now.
    pub(crate) fn held(&self, now: i64) -> Vec<String> {
        let all = self.all();
        let held = all
            .iter()
            .filter(|(_, hold)| hold.until > now && believable(hold.until, now));
        held.map(|(id, _)| id.clone()).collect()
    }
}

fn believable(until: i64, now: i64) -> bool {
    until.saturating_sub(now) <= MOST_ASKED_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_refuses_is_asked_less_and_less_often_and_never_forgotten() {
        let holds = Holds::default();
        let (mut now, mut tries) = (0, 0);
        while now < 3_600_000 {
            if holds.held(now).is_empty() {
                holds.failed("a", now, None);
                tries += 1;
            }
            now += 1_000;
        }
        assert!((20..=40).contains(&tries), "{tries} in an hour");
        assert_eq!(holds.held(now + MOST_MS), Vec::<String>::new());
        holds.release("a");
        assert!(holds.held(now).is_empty());
        holds.failed("a", now, None);
        assert_eq!(holds.held(now + LEAST_MS - 1), ["a"]);
        assert!(holds.held(now + LEAST_MS).is_empty());
    }

    #[test]
    fn what_was_on_its_way_when_another_was_refused_ends_no_hold() {
        let holds = Holds::default();
        holds.failed("a", 5, Some(60_000));
        holds.delivered("a", 0, 200);
        assert_eq!(holds.held(60_004), ["a"], "it asked for a minute");
        holds.delivered("a", 60_005, 60_300);
        assert!(holds.all().is_empty());
        // One that began in the very moment of the refusal is taken for a later one.
        holds.failed("b", 5, None);
        holds.delivered("b", 5, 9);
        assert!(holds.all().is_empty());
        // Written down by a clock that was ahead.
        holds.failed("c", 86_400_000, None);
        holds.delivered("c", 0, 200);
        assert!(holds.all().is_empty());
    }

    #[test]
    fn what_a_receiver_asks_for_is_heeded_within_reason() {
        let holds = Holds::default();
        holds.failed("a", 0, Some(60_000));
        // Another that was on its way does not shorten it.
        holds.failed("a", 5, None);
        assert_eq!(holds.held(59_999), ["a"]);
        assert!(holds.held(60_000).is_empty());
        holds.release("a");
        holds.failed("b", 0, Some(i64::MAX));
        assert_eq!(holds.held(MOST_ASKED_MS - 1), ["b"]);
        assert!(holds.held(MOST_ASKED_MS).is_empty());
        holds.release("b");
        holds.failed("c", 0, Some(-5));
        assert!(holds.held(LEAST_MS).is_empty());
        holds.release("c");
        // Written down by a clock that was days ahead: it is not believed.
        holds.failed("d", 86_400_000, None);
        assert!(holds.held(0).is_empty());
        holds.failed("d", 0, None);
        assert!(holds.held(LEAST_MS).is_empty());
    }
}
