//! Access tokens that were ended before their time, kept in memory: asked for every request, so that
//! a request costs no read of the database.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use keywright_registry::people::{DenialKind, DenialPlace};
use keywright_registry::{LocalRegistry, RegistryError};
use tokio::sync::Mutex;

/// Other servers on the same database deny too: what they deny is known here within this time.
pub(super) const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// Between two readings at least.
pub(super) const REFRESH_PAUSE: Duration = Duration::from_millis(20);
/// What is older is not answered from: the registry is asked, as a server that stood still must. Measured
/// by a clock that nobody sets.
const TRUSTED_FOR: Duration = Duration::from_secs(3);
/// Between two readings of everything, which let go of what is over. In between only what is new is read.
const WHOLE_EVERY: Duration = Duration::from_secs(30);
/// More than this is not kept in memory: the database is asked then.
const MOST: usize = 50_000;
const PAGE: u32 = 500;

/// What is known of one moment.
#[derive(Debug, Default)]
struct Known {
    tokens: HashSet<String>,
    sessions: HashSet<String>,
    grants: HashSet<String>,
    /// When the newest read began; none before the first.
    since: Option<Instant>,
    /// When the read of everything began; none before the first.
    whole_since: Option<Instant>,
    /// Where the next read goes on; none where everything is read anew.
    place: Option<DenialPlace>,
    /// What the clock said when everything was read, in Unix ms. Denials that were over are not among what is known.
    read_at: i64,
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
    /// Whether one of these is denied at `now_ms`; none if memory cannot tell. A clock that was put back
    /// may make good again what was over when memory was read, and its denial is not known here.
    pub(super) fn knows(&self, jti: &str, sid: &str, gid: &str, now_ms: i64) -> Option<bool> {
        self.knows_at([jti, sid, gid], Instant::now(), now_ms)
    }

    fn knows_at(&self, ids: [&str; 3], now: Instant, now_ms: i64) -> Option<bool> {
        let [jti, sid, gid] = ids;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.tokens.contains(jti) || known.sessions.contains(sid) || known.grants.contains(gid)
        {
            return Some(true);
        }
        let since = known.since?;
        let fresh = now.saturating_duration_since(since) <= TRUSTED_FOR;
        (fresh && !known.partial && now_ms >= known.read_at).then_some(false)
    }

    /// Reads what is new, or everything. What was committed before the call is known after it: one read at a
    /// time, and a read that began after the call serves it too.
    pub(super) async fn refresh(
        &self,
        registry: &LocalRegistry,
        now_ms: impl Fn() -> i64,
    ) -> Result<(), RegistryError> {
        let asked = Instant::now();
        let _reading = self.reading.lock().await;
        let place = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if known.since.is_some_and(|since| since > asked) {
                return Ok(());
            }
            let whole = known.whole_since.filter(|at| at.elapsed() < WHOLE_EVERY);
            if whole.is_some() && known.partial {
                // The database is asked for all that is not known; more of it would not change that.
                return Ok(());
            }
            known.place.clone().filter(|_| whole.is_some())
        };
        if let Some(place) = place
            && self.read_new(registry, place).await?
        {
            return Ok(());
        }
        let known = read(registry, now_ms).await?;
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// Reads what was denied behind a place. False if everything has to be read anew.
    async fn read_new(
        &self,
        registry: &LocalRegistry,
        mut place: DenialPlace,
    ) -> Result<bool, RegistryError> {
        let began = Instant::now();
        loop {
            let Some(found) = registry.new_denials(&place, PAGE).await? else {
                return Ok(false);
            };
            let is_last = found.len() < PAGE as usize;
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            for denial in found {
                known.insert(denial.kind, denial.value);
                place = denial.place;
            }
            known.place = Some(place.clone());
            if known.len() >= MOST {
                known.partial = true;
                return Ok(true);
            }
            if is_last {
                known.since = Some(began);
                return Ok(true);
            }
        }
    }
}

impl Known {
    fn insert(&mut self, kind: DenialKind, value: String) {
        let set = match kind {
            DenialKind::Token => &mut self.tokens,
            DenialKind::Session => &mut self.sessions,
            DenialKind::Grant => &mut self.grants,
        };
        set.insert(value);
    }

    fn len(&self) -> usize {
        self.tokens.len() + self.sessions.len() + self.grants.len()
    }
}

async fn read(registry: &LocalRegistry, now_ms: impl Fn() -> i64) -> Result<Known, RegistryError> {
    let since = Some(Instant::now());
    let mut known = Known {
        since,
        whole_since: since,
        read_at: now_ms(),
        // Before the first page: what is denied meanwhile is read the next time.
        place: Some(registry.end_of_denials().await?),
        ..Known::default()
    };
    let mut cursor = None;
    loop {
        let page = registry.list_denials(cursor.as_deref(), PAGE).await?;
        for denial in page.items {
            known.insert(denial.kind, denial.value);
        }
        // The latest of all pages: what each left out was over by then.
        known.read_at = known.read_at.max(now_ms());
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(known);
        }
        if known.len() >= MOST {
            known.partial = true;
            return Ok(known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ_AT: i64 = 1_000_000;

    fn known(since: Option<Instant>, partial: bool) -> Denials {
        let denials = Denials::default();
        *denials.known.write().unwrap() = Known {
            tokens: HashSet::from(["t".to_owned()]),
            sessions: HashSet::from(["s".to_owned()]),
            grants: HashSet::from(["g".to_owned()]),
            since,
            read_at: READ_AT,
            partial,
            ..Known::default()
        };
        denials
    }

    #[test]
    fn a_clock_that_was_put_back_is_not_answered_from_memory() {
        let start = Instant::now();
        let denials = known(Some(start), false);
        let asked = |now_ms| denials.knows_at(["x", "", ""], start, now_ms);
        assert_eq!(asked(READ_AT + 1), Some(false));
        // What was over then may be good again now, and was denied before.
        assert_eq!(asked(READ_AT - 1), None);
        assert_eq!(denials.knows_at(["t", "", ""], start, 0), Some(true));
    }

    #[test]
    fn ac_204_memory_answers_while_it_is_fresh_and_whole() {
        let start = Instant::now();
        let denials = known(Some(start), false);
        let knows = |ids: [&str; 3], now: Instant| denials.knows_at(ids, now, READ_AT);
        for ids in [["t", "", ""], ["x", "s", ""], ["x", "x", "g"]] {
            assert_eq!(knows(ids, start), Some(true));
        }
        // Kinds are not mixed up.
        assert_eq!(knows(["s", "g", "t"], start), Some(false));
        let old = start + TRUSTED_FOR + Duration::from_millis(1);
        assert_eq!(knows(["x", "", ""], start + TRUSTED_FOR), Some(false));
        assert_eq!(knows(["x", "", ""], old), None, "too old to say no");
        assert_eq!(knows(["t", "", ""], old), Some(true));
        assert_eq!(known(None, false).knows("x", "", "", READ_AT), None);
        assert_eq!(known(Some(start), true).knows("x", "", "", READ_AT), None);
    }

    #[tokio::test]
    async fn ac_204_what_is_new_is_read_and_everything_where_the_numbers_went_back()
    -> anyhow::Result<()> {
        use keywright_domain::audit::Actor;
        use keywright_registry::Clock;

        let folder = tempfile::tempdir()?;
        let file = folder.path().join("registry.db");
        let registry = LocalRegistry::open(&file, Clock::from_fn(|| READ_AT)).await?;
        let actor = Actor::keywright();
        let deny = async |jti: String| {
            registry
                .deny_access_token(&actor, &jti, READ_AT + 600_000)
                .await
        };
        let denials = Denials::default();
        let whole_since = || denials.known.read().unwrap().whole_since;
        let knows = |jti: &str| denials.knows(jti, "", "", READ_AT);
        deny("before".into()).await?;
        denials.refresh(&registry, || READ_AT).await?;
        assert_eq!(knows("before"), Some(true));
        let first = whole_since();
        // More than a page, each in a write of its own.
        for n in 0..PAGE + 7 {
            deny(format!("new {n}")).await?;
        }
        assert_eq!(knows("new 0"), Some(false), "not read yet");
        denials.refresh(&registry, || READ_AT).await?;
        for n in 0..PAGE + 7 {
            assert_eq!(knows(&format!("new {n}")), Some(true), "{n}");
        }
        assert_eq!(knows("before"), Some(true));
        denials.refresh(&registry, || READ_AT).await?;
        assert_eq!(whole_since(), first, "only what was new was read");
        // A backup was put back: the place that was reached is beyond what the database has written.
        let newer = LocalRegistry::open(&folder.path().join("newer.db"), Clock::system()).await?;
        for n in 0..PAGE * 2 {
            newer
                .deny_access_token(&actor, &n.to_string(), 4_000_000_000_000)
                .await?;
        }
        let place = newer.end_of_denials().await?;
        denials.known.write().unwrap().place = Some(place);
        newer.close().await;
        deny("after".into()).await?;
        denials.refresh(&registry, || READ_AT).await?;
        assert_eq!(knows("after"), Some(true));
        assert!(whole_since() > first);
        registry.close().await;
        Ok(())
    }
}
