//! Writes what verifications left in memory, every 800 ms and at the end.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use keywright_index::PackedKid;

use crate::uses::{
    ALERT_CALLERS, CALLERS, CallerText, OTHER_CALLERS, OTHER_REQUIREMENTS, OTHER_SCOPES,
    PendingAlert, Use, UseStatistics, Waiting,
};
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, rotation, store};

/// Secrets and hours whose room is remembered.
const ROOMS: usize = 100_000;
/// First uses written in one transaction: each is some statements, and everybody who writes waits for them.
const FIRST_USES_AT_ONCE: usize = 200;

/// Flushes come one after the other, so that whoever asks for one finds written what another took out before.
/// Those that ask while one is under way share the next.
#[derive(Debug, Default)]
pub(crate) struct Flushing {
    turn: Arc<tokio::sync::Mutex<Last>>,
    /// How many began. The number is taken before what waits is.
    begun: AtomicU64,
}

/// The newest flush that ended, and how: a failure too is that of all who waited for it, or each of them would wait as
/// long again.
#[derive(Debug)]
struct Last {
    number: u64,
    outcome: Result<(), RegistryError>,
}

impl Default for Last {
    fn default() -> Self {
        Self {
            number: 0,
            outcome: Ok(()),
        }
    }
}

impl LocalRegistry {
    /// Writes the uses that wait in memory. The database, too, tells at most 256 callers of a secret
    /// and hour apart (a node that has not looked for a while may bring it as many more); the rest is
    /// counted as [`crate::OTHER_CALLERS`]. A flush that is under way is waited for: afterwards everything is
    /// written that was counted before the call.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written; the uses wait on. After
    /// [`RegistryError::CommitUnknown`] they are given up: a use is never counted twice. First uses
    /// and alerts wait on even then.
    pub async fn flush_uses(&self) -> Result<(), RegistryError> {
        let (uses, flushing) = (&self.shared.uses, &self.shared.flushing);
        let before = flushing.begun.load(Ordering::SeqCst);
        let mut last = Arc::clone(&flushing.turn).lock_owned().await;
        if last.number > before {
            // It took everything out after this call, and wrote it or put it back.
            return last.outcome.clone();
        }
        let number = flushing.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let dropped = uses.newly_dropped();
        if dropped > 0 {
            tracing::warn!(dropped, "uses or alerts found no place and are not counted");
        }
        let waiting = uses.take();
        if waiting.is_empty() {
            *last = Last {
                number,
                outcome: Ok(()),
            };
            return Ok(());
        }
        // A task of its own: what was taken is put back where it cannot be written, whether or not
        // whoever asked still waits.
        // Not the write that a request's conditions are for.
        let registry = Self {
            shared: Arc::clone(&self.shared),
            conditions: None,
        };
        let written = tokio::spawn(async move {
            let outcome = registry.write_waiting(waiting).await;
            *last = Last {
                number,
                outcome: outcome.clone(),
            };
            outcome
        });
        written
            .await
            .map_err(|error| RegistryError::Store(error.to_string()))?
    }

    /// Writes first uses in parts, then the rest. What cannot be written is put back.
    async fn write_waiting(&self, mut waiting: Waiting) -> Result<(), RegistryError> {
        let uses = &self.shared.uses;
        let mut first_uses = std::mem::take(&mut waiting.first_uses);
        while !first_uses.is_empty() {
            let part = first_uses[..first_uses.len().min(FIRST_USES_AT_ONCE)].to_vec();
            let length = part.len();
            let written = self.write(part, |unit, part| {
                Box::pin(async move {
                    for (kid, at) in part {
                        rotation::first_use(unit, kid, *at).await?;
                    }
                    Ok(())
                })
            });
            if let Err(error) = written.await {
                // Whatever became of this part: a first use written twice is one.
                waiting.first_uses = first_uses;
                self.unclaim(&uses.give_back(waiting));
                return Err(error);
            }
            first_uses.drain(..length);
        }
        if waiting.is_empty() {
            return Ok(());
        }
        let waiting = Arc::new(waiting);
        let input = (Arc::clone(&waiting), Arc::clone(&uses.room));
        let written = self
            .write(input, |unit, (waiting, room)| {
                Box::pin(flush(unit, waiting, room))
            })
            .await;
        let without_place = match &written {
            Ok(()) => Vec::new(),
            Err(RegistryError::CommitUnknown(_)) => uses.give_up((*waiting).clone()),
            Err(_) => uses.give_back((*waiting).clone()),
        };
        self.unclaim(&without_place);
        written
    }

    /// First uses that found no place: the next use of each tries again.
    fn unclaim(&self, kids: &[String]) {
        for kid in kids.iter().filter_map(|kid| PackedKid::parse(kid)) {
            self.shared.index.unclaim_first_use_of(kid);
        }
    }

    /// Uses that wait for the next flush, and those that found no place.
    #[must_use]
    pub fn use_statistics(&self) -> UseStatistics {
        self.shared.uses.statistics()
    }
}

async fn flush(unit: &mut Unit, waiting: &Waiting, room: &Room) -> Result<(), RegistryError> {
    let uses = bounded(unit, &waiting.uses, room).await?;
    store::uses::add(unit.write_beside(), &uses).await?;
    let alerts = bounded_alerts(unit, &waiting.alerts).await?;
    store::uses::add_alerts(unit.write_beside(), &alerts).await
}

/// How many callers of a secret and hour may be written without asking the database how many it has:
/// a caller may be one that is there, so this is never too many, and nobody is asked about each use.
#[derive(Debug, Default)]
pub(crate) struct Room(Mutex<HashMap<(PackedKid, i64), usize>>);

impl Room {
    /// Takes room for the callers of one secret and hour; false where it is not known to be there.
    fn take(&self, group: &[Use]) -> bool {
        let wanted = told_apart(group);
        let Some(key) = key(group).filter(|_| wanted > 0) else {
            return wanted == 0;
        };
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match rooms.get_mut(&key).filter(|left| **left >= wanted) {
            Some(left) => {
                *left -= wanted;
                true
            }
            None => false,
        }
    }

    fn set(&self, group: &[Use], left: usize) {
        let Some(key) = key(group) else { return };
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rooms.len() >= ROOMS && !rooms.contains_key(&key) {
            // What is forgotten is asked for again.
            rooms.retain(|(_, hour), _| *hour >= key.1);
            if rooms.len() >= ROOMS {
                rooms.clear();
            }
        }
        rooms.insert(key, left);
    }
}

fn key(group: &[Use]) -> Option<(PackedKid, i64)> {
    let first = group.first()?;
    Some((PackedKid::parse(&first.kid)?, first.hour))
}

/// Those that the bound is for: who says nothing is one, and the others are one.
fn told_apart(group: &[Use]) -> usize {
    let own = |one: &&Use| one.caller != CallerText::default() && !one.caller.is_others();
    group.iter().filter(own).count()
}

/// The same uses, with callers beyond the bound as one.
async fn bounded<'a>(
    unit: &mut Unit,
    uses: &'a [Use],
    room: &Room,
) -> Result<Cow<'a, [Use]>, RegistryError> {
    let groups = uses.chunk_by(|one, other| one.kid == other.kid && one.hour == other.hour);
    let unsure: Vec<&[Use]> = groups.filter(|group| !room.take(group)).collect();
    let mut full = Vec::new();
    if !unsure.is_empty() {
        let asked: Vec<(&str, i64)> = unsure
            .iter()
            .filter_map(|group| group.first())
            .map(|one| (one.kid.as_str(), one.hour))
            .collect();
        let known = store::uses::count_callers(unit.read(), &asked).await?;
        for group in unsure {
            let place = group.first().map(|one| (one.kid.clone(), one.hour));
            let known = place.and_then(|place| known.get(&place)).copied();
            let left = CALLERS.saturating_sub(known.unwrap_or(0));
            let after = left.checked_sub(told_apart(group));
            room.set(group, after.unwrap_or(0));
            if after.is_none() {
                full.push((group, left));
            }
        }
    }
    if full.is_empty() {
        return Ok(Cow::Borrowed(uses));
    }
    // By the order that all writers keep.
    let mut all = BTreeMap::new();
    let mut add = |one: &Use, caller: CallerText| {
        let counted = all
            .entry((one.kid.clone(), one.hour, caller.clone()))
            .or_insert_with(|| Use {
                caller,
                count: 0,
                ..one.clone()
            });
        counted.count = counted.count.saturating_add(one.count);
        counted.last_at = counted.last_at.max(one.last_at);
    };
    let places = full.iter().filter_map(|(group, _)| group.first());
    let places: HashSet<(&str, i64)> = places.map(|one| (one.kid.as_str(), one.hour)).collect();
    for one in uses {
        if !places.contains(&(one.kid.as_str(), one.hour)) {
            add(one, one.caller.clone());
        }
    }
    for (group, mut left) in full {
        let Some(first) = group.first() else { continue };
        let known = store::uses::callers(unit.read(), &first.kid, first.hour).await?;
        let mut known: HashSet<CallerText> = known.into_iter().collect();
        for one in group {
            let mut caller = one.caller.clone();
            let is_own = caller != CallerText::default() && !caller.is_others();
            if is_own && !known.contains(&caller) {
                if left > 0 {
                    left -= 1;
                } else {
                    caller = CallerText::others(&caller.scope);
                }
            }
            let requirements = known.iter().filter(|one| one.is_others()).count();
            if caller.is_others() && !known.contains(&caller) && requirements >= OTHER_REQUIREMENTS
            {
                caller = CallerText::others(OTHER_SCOPES);
            }
            known.insert(caller.clone());
            add(one, caller);
        }
    }
    Ok(Cow::Owned(all.into_values().collect()))
}

/// The same alerts, with callers beyond the bound as one.
async fn bounded_alerts(
    unit: &mut Unit,
    alerts: &[PendingAlert],
) -> Result<Vec<PendingAlert>, RegistryError> {
    let mut all: Vec<PendingAlert> = Vec::with_capacity(alerts.len());
    for group in alerts.chunk_by(|one, other| one.kind == other.kind && one.kid == other.kid) {
        let Some(first) = group.first() else { continue };
        let most = i64::try_from(ALERT_CALLERS + 2).unwrap_or(i64::MAX);
        let known =
            store::alerts::callers(unit.read(), first.kind.as_str(), &first.kid, most).await?;
        let mut known: HashSet<String> = known.into_iter().collect();
        let mut others: Option<PendingAlert> = None;
        for alert in group {
            let is_new = known.len() >= ALERT_CALLERS && !known.contains(&alert.caller);
            if !is_new && alert.caller != OTHER_CALLERS {
                known.insert(alert.caller.clone());
                all.push(alert.clone());
                continue;
            }
            match &mut others {
                None => {
                    others = Some(PendingAlert {
                        caller: OTHER_CALLERS.to_owned(),
                        ..alert.clone()
                    });
                }
                Some(others) => {
                    others.count = others.count.saturating_add(alert.count);
                    others.first_at = others.first_at.min(alert.first_at);
                    others.last_at = others.last_at.max(alert.last_at);
                }
            }
        }
        all.extend(others);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use keywright_domain::api_keys::{DAY_MS, NewApiKey, Pepper};
    use keywright_domain::audit::Actor;
    use keywright_index::PackedKid;
    use sqlx::{AnyConnection, Connection as _};

    use super::FIRST_USES_AT_ONCE;
    use crate::uses::{Caller, FIRST_USES};
    use crate::{Clock, Issued, LocalRegistry, PepperKey, Peppers, VerifyRequest};

    /// A registry whose clock goes on by a millisecond whenever somebody looks at it.
    async fn registry(file: &Path) -> anyhow::Result<(LocalRegistry, Arc<Peppers>)> {
        let clock = AtomicI64::new(1_800_000_000_000);
        let clock = Clock::from_fn(move || clock.fetch_add(1, Ordering::SeqCst));
        let registry = LocalRegistry::open(file, clock).await?;
        let pepper = PepperKey {
            id: "pepper-1".to_owned(),
            pepper: Pepper::from_bytes([7; 32]),
        };
        registry
            .adopt_pepper(&Actor::keywright(), "pepper-1")
            .await?;
        Ok((registry, Arc::new(Peppers::new(pepper))))
    }

    async fn issue(registry: &LocalRegistry, peppers: &Peppers) -> anyhow::Result<Issued> {
        let wish = NewApiKey {
            name: "a key".to_owned(),
            prefix: "sk_live".to_owned(),
            scopes: vec!["keys:read".to_owned()],
            lifetime_ms: Some(90 * DAY_MS),
            ..NewApiKey::default()
        };
        let actor = Actor::keywright();
        Ok(registry.issue_api_key(&actor, &wish, peppers).await?)
    }

    async fn stranger(file: &Path) -> anyhow::Result<AnyConnection> {
        Ok(AnyConnection::connect(&format!("sqlite://{}", file.display())).await?)
    }

    #[tokio::test]
    async fn ac_147_a_verification_stands_when_the_write_of_its_use_fails_and_the_next_tries_again()
    -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("registry.db");
        let (registry, peppers) = registry(&file).await?;
        let issued = issue(&registry, &peppers).await?;
        let request = VerifyRequest {
            presented: issued.plain.text().expose(),
            ..VerifyRequest::default()
        };
        let mut stranger = stranger(&file).await?;
        let rename = async |stranger: &mut AnyConnection, sql: &'static str| {
            sqlx::raw_sql(sql).execute(stranger).await
        };
        rename(
            &mut stranger,
            "ALTER TABLE audit_events RENAME TO elsewhere",
        )
        .await?;
        // And so many wait that there is no place for one more.
        for number in 0..FIRST_USES {
            let uses = &registry.shared.uses;
            assert!(uses.first_use_waits(&format!("{number:012}"), 1));
        }
        let verified = registry.verify_api_key(&request, &peppers).await?;
        assert_eq!(verified.code(), "valid");
        rename(
            &mut stranger,
            "ALTER TABLE elsewhere RENAME TO audit_events",
        )
        .await?;
        registry.flush_uses().await?;
        let verified = registry.verify_api_key(&request, &peppers).await?;
        assert_eq!(verified.code(), "valid");
        registry.flush_uses().await?;
        let (key, _) = registry.find_api_key(&issued.key.id).await?;
        assert!(key.secrets[0].first_used_at.is_some(), "{key:?}");
        assert_eq!(key.secrets[0].use_count, 2);
        Ok(())
    }

    #[tokio::test]
    async fn ac_147_first_uses_that_could_not_be_written_wait_on() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("registry.db");
        let (registry, peppers) = registry(&file).await?;
        let issued = issue(&registry, &peppers).await?;
        let request = VerifyRequest {
            presented: issued.plain.text().expose(),
            ..VerifyRequest::default()
        };
        let mut stranger = stranger(&file).await?;
        let rename = async |stranger: &mut AnyConnection, sql: &'static str| {
            sqlx::raw_sql(sql).execute(stranger).await
        };
        let away = "ALTER TABLE audit_events RENAME TO elsewhere";
        rename(&mut stranger, away).await?;
        let verified = registry.verify_api_key(&request, &peppers).await?;
        assert_eq!(verified.code(), "valid");
        assert!(registry.flush_uses().await.is_err());
        let back = "ALTER TABLE elsewhere RENAME TO audit_events";
        rename(&mut stranger, back).await?;
        registry.flush_uses().await?;
        let (key, _) = registry.find_api_key(&issued.key.id).await?;
        assert!(key.secrets[0].first_used_at.is_some(), "{key:?}");
        assert_eq!(key.secrets[0].use_count, 1);
        Ok(())
    }

    #[tokio::test]
    async fn many_first_uses_are_written_in_parts() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("registry.db");
        let (registry, peppers) = registry(&file).await?;
        let count = 2 * FIRST_USES_AT_ONCE + 5;
        let mut issuing = tokio::task::JoinSet::new();
        for _ in 0..count {
            let (registry, peppers) = (registry.clone(), Arc::clone(&peppers));
            issuing.spawn(async move { issue(&registry, &peppers).await });
        }
        let issued: Vec<_> = issuing.join_all().await.into_iter().collect();
        for issued in issued {
            let kid = issued?.plain.kid().to_string();
            assert!(registry.shared.uses.first_use_waits(&kid, 5));
        }
        registry.flush_uses().await?;
        let mut stranger = stranger(&file).await?;
        // The events of one transaction have one time.
        let largest: Vec<i64> = sqlx::query_scalar(
            "SELECT COUNT(*) FROM audit_events WHERE action = 'api_key.secret_first_used' \
             GROUP BY at ORDER BY at",
        )
        .fetch_all(&mut stranger)
        .await?;
        let all: i64 = largest.iter().sum();
        assert_eq!(usize::try_from(all)?, count);
        assert!(
            largest
                .iter()
                .all(|one| *one <= i64::try_from(FIRST_USES_AT_ONCE).unwrap_or(0)),
            "{largest:?}"
        );
        Ok(())
    }

    #[tokio::test]
    async fn uses_are_put_back_although_nobody_waits_for_them() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("registry.db");
        let registry = LocalRegistry::open(&file, Clock::from_fn(|| 1_800_000_000_000)).await?;
        let mut stranger = AnyConnection::connect(&format!("sqlite://{}", file.display())).await?;
        sqlx::raw_sql("ALTER TABLE use_rollups RENAME TO elsewhere")
            .execute(&mut stranger)
            .await?;
        let kid = PackedKid::parse("AAAAAAAAAAAA").unwrap();
        let uses = &registry.shared.uses;
        uses.record(kid, &Caller::default(), "", 5);
        // Whoever asked goes away after it was taken, before it could be written.
        tokio::select! {
            biased;
            _ = registry.flush_uses() => anyhow::bail!("it had no turn yet"),
            () = std::future::ready(()) => {}
        }
        for _ in 0..1000 {
            if registry.use_statistics().waiting == 1 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::bail!("the use is lost");
    }

    #[tokio::test]
    async fn closing_waits_for_a_flush_that_is_under_way() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("registry.db");
        let (registry, peppers) = registry(&file).await?;
        let issued = issue(&registry, &peppers).await?;
        // The writer has something to do, and what was taken waits behind it.
        let busy = registry.clone();
        let busy = tokio::spawn(async move {
            let work = busy.write((), |_, ()| {
                Box::pin(async {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    Ok(())
                })
            });
            work.await
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        let kid = PackedKid::parse(issued.plain.kid().as_str()).unwrap();
        let uses = &registry.shared.uses;
        uses.record(kid, &Caller::default(), "", 5);
        let flushing = registry.clone();
        let flushing = tokio::spawn(async move { flushing.flush_uses().await });
        while registry.use_statistics().waiting > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        registry.close().await;
        busy.await??;
        flushing.await??;
        let registry = LocalRegistry::open(&file, Clock::from_fn(|| 1_800_000_000_000)).await?;
        let (key, _) = registry.find_api_key(&issued.key.id).await?;
        assert_eq!(key.secrets[0].use_count, 1);
        registry.close().await;
        Ok(())
    }

    #[tokio::test]
    async fn those_who_ask_while_a_flush_is_under_way_share_the_next() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let (registry, peppers) = registry(&folder.path().join("registry.db")).await?;
        let issued = issue(&registry, &peppers).await?;
        let kid = PackedKid::parse(issued.plain.kid().as_str()).unwrap();
        let before = registry.shared.flushing.begun.load(Ordering::SeqCst);
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let registry = registry.clone();
            asking.spawn(async move {
                let uses = &registry.shared.uses;
                uses.record(kid, &Caller::default(), "", 5);
                registry.flush_uses().await
            });
        }
        while let Some(flushed) = asking.join_next().await {
            flushed??;
        }
        assert_eq!(registry.use_statistics().waiting, 0);
        let begun = registry.shared.flushing.begun.load(Ordering::SeqCst) - before;
        assert!(begun < 10, "{begun} flushes");
        let (key, _) = registry.find_api_key(&issued.key.id).await?;
        assert_eq!(key.secrets[0].use_count, 50);
        Ok(())
    }

    #[tokio::test]
    async fn those_who_wait_for_a_flush_that_fails_share_that_too() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("registry.db");
        let (registry, peppers) = registry(&file).await?;
        let issued = issue(&registry, &peppers).await?;
        let mut stranger = stranger(&file).await?;
        sqlx::raw_sql("ALTER TABLE use_rollups RENAME TO elsewhere")
            .execute(&mut stranger)
            .await?;
        let kid = PackedKid::parse(issued.plain.kid().as_str()).unwrap();
        let uses = &registry.shared.uses;
        uses.record(kid, &Caller::default(), "", 5);
        let before = registry.shared.flushing.begun.load(Ordering::SeqCst);
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let registry = registry.clone();
            asking.spawn(async move { registry.flush_uses().await });
        }
        while let Some(flushed) = asking.join_next().await {
            assert!(flushed?.is_err());
        }
        let begun = registry.shared.flushing.begun.load(Ordering::SeqCst) - before;
        assert!(begun < 10, "{begun} flushes");
        assert_eq!(registry.use_statistics().waiting, 1, "put back");
        Ok(())
    }
}
