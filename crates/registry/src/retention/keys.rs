//! Removal of ended secrets and ended keys. Each is judged again in the transaction that removes
//! it; memory learns of it by the ordered log, here and on every other node.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use keywright_domain::api_keys::{ApiKey, Secret, SecretState};
use keywright_domain::audit::{Actor, AuditAction};

use super::{BATCH, Progress, RetentionReport};
use crate::api_keys::about_key;
use crate::writer::{Subject, Unit};
use crate::{LocalRegistry, RegistryError, store};

/// Secrets removed in one transaction at most: each has a rotation, its deliveries, and neighbours
/// that move up.
const SECRETS: i64 = 100;
/// Keys looked at together.
const KEYS: i64 = 100;

/// So many rows are looked at by one statement, however few of them have ended: each is over soon.
const STRETCH: i64 = 10_000;
/// After a stretch the walk rests so many times as long as that took. A walk over millions of rows is minutes of work,
/// nobody waits for it, and it would take half of a small machine from verifications meanwhile.
const REST: u32 = 4;

/// A walk along the ids of a table, a stretch at a time.
#[derive(Default)]
struct Walk {
    after: String,
    through: String,
    /// What looking has taken since the stretch began; removing what was found is not rested from.
    looked: Duration,
}

impl Walk {
    fn is_at_end(&self) -> bool {
        self.after == self.through
    }

    fn within(&self) -> (&str, &str) {
        (&self.after, &self.through)
    }

    /// What was found last by a look; none ends the stretch. Returns whether anything was.
    async fn came_to(&mut self, last: Option<&String>, look: Duration) -> bool {
        self.looked += look;
        if let Some(last) = last {
            self.after.clone_from(last);
            return true;
        }
        self.after.clone_from(&self.through);
        tokio::time::sleep(self.looked * REST).await;
        self.looked = Duration::ZERO;
        false
    }
}

/// What one transaction over some keys came to.
struct Purged {
    keys: i64,
    rollups: i64,
    /// How many of the keys were done with, removed or not.
    through: usize,
}

impl LocalRegistry {
    pub(super) async fn purge_secrets(
        &self,
        actor: &Actor,
        before: i64,
        report: &mut RetentionReport,
        progress: Progress<'_>,
    ) -> Result<(), RegistryError> {
        let mut walk = Walk::default();
        loop {
            let mut connection = self.shared.pool.acquire().await?;
            let began = Instant::now();
            if walk.is_at_end() {
                let next =
                    store::retention::stretch_of_secrets(&mut connection, &walk.through, STRETCH);
                let Some(next) = next.await? else {
                    return Ok(());
                };
                walk.through = next;
            }
            let found =
                store::retention::ended_secrets(&mut connection, walk.within(), before, SECRETS)
                    .await?;
            drop(connection);
            if !walk
                .came_to(found.last().map(|(kid, _)| kid), began.elapsed())
                .await
            {
                continue;
            }
            let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (kid, key_id) in found {
                by_key.entry(key_id).or_default().push(kid);
            }
            // Their uses first, which may be many.
            for kid in by_key.values().flatten() {
                loop {
                    let gone = self
                        .write(kid.clone(), |unit, kid| {
                            Box::pin(store::retention::delete_rollups_of(
                                unit.write(),
                                kid,
                                BATCH,
                            ))
                        })
                        .await?;
                    report.rollups += gone;
                    progress(report);
                    if gone < BATCH {
                        break;
                    }
                }
            }
            let input = (actor.clone(), by_key, before);
            report.secrets += self
                .write(input, |unit, (actor, by_key, before)| {
                    Box::pin(remove_secrets(unit, actor, by_key, *before))
                })
                .await?;
            progress(report);
        }
    }

    pub(super) async fn purge_keys(
        &self,
        actor: &Actor,
        before: i64,
        report: &mut RetentionReport,
        progress: Progress<'_>,
    ) -> Result<(), RegistryError> {
        let mut walk = Walk::default();
        loop {
            let mut connection = self.shared.pool.acquire().await?;
            let began = Instant::now();
            if walk.is_at_end() {
                let next =
                    store::retention::stretch_of_keys(&mut connection, &walk.through, STRETCH);
                let Some(next) = next.await? else {
                    return Ok(());
                };
                walk.through = next;
            }
            let mut found =
                store::retention::ended_keys(&mut connection, walk.within(), before, KEYS).await?;
            drop(connection);
            if !walk.came_to(found.last(), began.elapsed()).await {
                continue;
            }
            while !found.is_empty() {
                let input = (actor.clone(), found.clone(), before);
                let purged = self
                    .write(input, |unit, (actor, found, before)| {
                        Box::pin(remove_keys(unit, actor, found, *before))
                    })
                    .await?;
                found.drain(..purged.through);
                report.keys += purged.keys;
                report.rollups += purged.rollups;
                progress(report);
            }
        }
    }
}

async fn remove_secrets(
    unit: &mut Unit,
    actor: &Actor,
    by_key: &BTreeMap<String, Vec<String>>,
    before: i64,
) -> Result<i64, RegistryError> {
    let now = unit.now();
    let mut removed = 0;
    for (key_id, kids) in by_key {
        let Some(mut key) = store::api_keys::find(unit.read(), key_id).await? else {
            continue;
        };
        let open = store::rotations::find_open(unit.read(), key_id).await?;
        let current = key.current_secret(now).map(|secret| secret.kid.clone());
        let goes = |secret: &Secret| {
            kids.iter().any(|kid| kid == secret.kid.as_str())
                && Some(&secret.kid) != current.as_ref()
                && ended_at(&key, secret, now).is_some_and(|at| at <= before)
                && open.as_ref().is_none_or(|open| {
                    open.new != secret.kid && open.old.as_ref() != Some(&secret.kid)
                })
        };
        let (gone, kept): (Vec<_>, Vec<_>) = key.secrets.iter().cloned().partition(goes);
        if gone.is_empty() {
            continue;
        }
        for secret in &gone {
            store::retention::delete_secret(unit.write(), secret.kid.as_str()).await?;
        }
        for (position, secret) in (0_i64..).zip(&kept) {
            store::retention::update_position(unit.write(), secret.kid.as_str(), position).await?;
        }
        key.secrets = kept;
        key.epoch = unit.change(Subject::ApiKey(key_id.clone()));
        store::api_keys::update(unit.write(), &key, now).await?;
        removed += i64::try_from(gone.len()).unwrap_or(0);
        let kids: Vec<_> = gone.iter().map(|secret| secret.kid.as_str()).collect();
        let details = vec![("kids", kids.join(" "))];
        let verb = "freed of secrets that ended long ago";
        unit.audit(
            actor,
            about_key(AuditAction::RetentionRun, &key, verb, details),
        );
    }
    Ok(removed)
}

async fn remove_keys(
    unit: &mut Unit,
    actor: &Actor,
    ids: &[String],
    before: i64,
) -> Result<Purged, RegistryError> {
    let now = unit.now();
    let mut left = BATCH;
    let mut purged = Purged {
        keys: 0,
        rollups: 0,
        through: 0,
    };
    for id in ids {
        let key = store::api_keys::find(unit.read(), id).await?;
        let Some(key) = key.filter(|key| has_ended(key, before, now)) else {
            purged.through += 1;
            continue;
        };
        for (place, sql) in store::retention::OF_KEY.into_iter().enumerate() {
            let gone = store::retention::delete_of_key(unit.write(), sql, id, left).await?;
            left -= gone;
            if place == 0 {
                purged.rollups += gone;
            }
            if left < store::retention::REST {
                // The rest of it is for the next transaction.
                return Ok(purged);
            }
        }
        left -= store::retention::delete_key(unit.write(), id).await?;
        unit.change(Subject::ApiKey(id.clone()));
        unit.audit(
            actor,
            about_key(
                AuditAction::RetentionRun,
                &key,
                "removed: it ended long ago",
                Vec::new(),
            ),
        );
        purged.keys += 1;
        purged.through += 1;
        if left < store::retention::REST {
            return Ok(purged);
        }
    }
    Ok(purged)
}

/// Whether a key and everything of it ended before a moment.
fn has_ended(key: &ApiKey, before: i64, now: i64) -> bool {
    key.revoked_at.is_none_or(|at| at <= before)
        && key
            .secrets
            .iter()
            .all(|secret| ended_at(key, secret, now).is_some_and(|at| at <= before))
}

/// When a secret ended; none while it verifies.
fn ended_at(key: &ApiKey, secret: &Secret, now: i64) -> Option<i64> {
    let state = secret.state(now);
    if state.verifies() {
        // Of a revoked key none does, whatever its row says.
        return key.revoked_at;
    }
    let by_itself = match state {
        SecretState::Retired => secret.ended_at.or(secret.retires_at),
        SecretState::Aborted => secret.ended_at.or(secret.pending_until),
        SecretState::Expired => secret.ended_at.or(secret.expires_at),
        _ => secret.ended_at.or(key.revoked_at),
    };
    // Older versions did not write it down: it was no later than it was known to work.
    by_itself.or(Some(secret.created_at).max(secret.last_used_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_walk_goes_on_behind_what_it_found_and_rests_when_a_stretch_is_over() {
        let ms = Duration::from_millis;
        let mut walk = Walk {
            through: "z".to_owned(),
            ..Walk::default()
        };
        let began = Instant::now();
        for last in ["f", "m"] {
            assert!(walk.came_to(Some(&last.to_owned()), ms(40)).await);
            assert_eq!(walk.within(), (last, "z"), "it goes on in the stretch");
            assert!(!walk.is_at_end());
        }
        assert!(!walk.came_to(None, ms(20)).await);
        assert!(walk.is_at_end());
        // From all three looks. What is between them is no look, however long it takes.
        assert!(began.elapsed() >= ms(100) * REST);
        assert_eq!(walk.looked, Duration::ZERO);
    }
}
