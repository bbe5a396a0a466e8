//! Access tokens that were ended before their time, kept in memory: asked for every request, so that
//! a request costs no read of the database.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use keywright_registry::people::DenialKind;
use keywright_registry::{LocalRegistry, RegistryError};
use tokio::sync::Mutex;

/// Other servers on the same database deny too: what they deny is known here within this time.
pub(super) const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// Between two readings at least.
pub(super) const REFRESH_PAUSE: Duration = Duration::from_millis(20);
/// What is older is not answered from: the registry is asked, as a server that stood still must. Measured
/// by a clock that nobody sets.
const TRUSTED_FOR: Duration = Duration::from_secs(3);
/// More than this is not kept in memory: the database is asked then.
const MOST: usize = 50_000;
const PAGE: u32 = 500;

/// What is known of one moment.
#[derive(Debug, Default)]
struct Known {
    tokens: HashSet<String>,
    sessions: HashSet<String>,
    grants: HashSet<String>,
    /// When the read that brought it began; none before the first.
    since: Option<Instant>,
    /// There is more than memory holds.
    partial: bool,
}

/// The denied ids.
#[derive(Debug, Default)]
pub(super) struct Denials {
    known: RwLock<Known>,
    reading: Mutex<()>,
}

impl Denials {
    /// Whether one of these is denied; none if memory cannot tell.
    pub(super) fn knows(&self, jti: &str, sid: &str, gid: &str) -> Option<bool> {
        self.knows_at(jti, sid, gid, Instant::now())
    }

    fn knows_at(&self, jti: &str, sid: &str, gid: &str, now: Instant) -> Option<bool> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.tokens.contains(jti) || known.sessions.contains(sid) || known.grants.contains(gid)
        {
            return Some(true);
        }
        let since = known.since?;
        let fresh = now.saturating_duration_since(since) <= TRUSTED_FOR;
        (fresh && !known.partial).then_some(false)
    }

    /// Reads everything anew. What was committed before the call is known after it: one read at a
    /// time, and a read that began after the call serves it too.
    pub(super) async fn refresh(&self, registry: &LocalRegistry) -> Result<(), RegistryError> {
        let asked = Instant::now();
        let _reading = self.reading.lock().await;
        let since = self
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .since;
        if since.is_some_and(|since| since > asked) {
            return Ok(());
        }
        let known = read(registry).await?;
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }
}

async fn read(registry: &LocalRegistry) -> Result<Known, RegistryError> {
    let mut known = Known {
        since: Some(Instant::now()),
        ..Known::default()
    };
    let (mut cursor, mut count) = (None, 0);
    loop {
        let page = registry.list_denials(cursor.as_deref(), PAGE).await?;
        count += page.items.len();
        for denial in page.items {
            let set = match denial.kind {
                DenialKind::Token => &mut known.tokens,
                DenialKind::Session => &mut known.sessions,
                DenialKind::Grant => &mut known.grants,
            };
            set.insert(denial.value);
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(known);
        }
        if count >= MOST {
            known.partial = true;
            return Ok(known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(since: Option<Instant>, partial: bool) -> Denials {
        let denials = Denials::default();
        *denials.known.write().unwrap() = Known {
            tokens: HashSet::from(["t".to_owned()]),
            sessions: HashSet::from(["s".to_owned()]),
            grants: HashSet::from(["g".to_owned()]),
            since,
            partial,
        };
        denials
    }

    #[test]
    fn ac_204_memory_answers_while_it_is_fresh_and_whole() {
        let start = Instant::now();
        let denials = known(Some(start), false);
        for (jti, sid, gid) in [("t", "", ""), ("x", "s", ""), ("x", "x", "g")] {
            assert_eq!(denials.knows(jti, sid, gid), Some(true));
        }
        // Kinds are not mixed up.
        assert_eq!(denials.knows_at("s", "g", "t", start), Some(false));
        let old = start + TRUSTED_FOR + Duration::from_millis(1);
        assert_eq!(
            denials.knows_at("x", "", "", start + TRUSTED_FOR),
            Some(false)
        );
        assert_eq!(
            denials.knows_at("x", "", "", old),
            None,
            "too old to say no"
        );
        assert_eq!(denials.knows_at("t", "", "", old), Some(true));
        assert_eq!(known(None, false).knows("x", "", ""), None);
        assert_eq!(known(Some(start), true).knows("x", "", ""), None);
    }
}
