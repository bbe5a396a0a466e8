//! Writes what verifications left in memory, every 800 ms and at the end.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
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

impl LocalRegistry {
    /// Writes the uses that wait in memory. The database, too, tells at most 256 callers of a secret
    /// and hour apart (a node that has not looked for a while may bring it as many more); the rest is
    /// counted as [`crate::OTHER_CALLERS`].
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written; the uses wait on. After
    /// [`RegistryError::CommitUnknown`] they are given up: a use is never counted twice. First uses
    /// and alerts wait on even then.
    pub async fn flush_uses(&self) -> Result<(), RegistryError> {
        let uses = &self.shared.uses;
        let dropped = uses.newly_dropped();
        if dropped > 0 {
            tracing::warn!(dropped, "uses or alerts found no place and are not counted");
        }
        let waiting = Arc::new(uses.take());
        if waiting.is_empty() {
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
            let uses = &registry.shared.uses;
            let input = (Arc::clone(&waiting), Arc::clone(&uses.room));
            let written = registry
                .write(input, |unit, (waiting, room)| {
                    Box::pin(flush(unit, waiting, room))
                })
                .await;
            match &written {
                Ok(()) => {}
                Err(RegistryError::CommitUnknown(_)) => uses.give_up((*waiting).clone()),
                Err(_) => uses.give_back((*waiting).clone()),
            }
            written
        });
        written
            .await
            .map_err(|error| RegistryError::Store(error.to_string()))?
    }

    /// Uses that wait for the next flush, and those that found no place.
    #[must_use]
    pub fn use_statistics(&self) -> UseStatistics {
        self.shared.uses.statistics()
    }
}

async fn flush(unit: &mut Unit, waiting: &Waiting, room: &Room) -> Result<(), RegistryError> {
    for (kid, at) in &waiting.first_uses {
        rotation::first_use(unit, kid, *at).await?;
    }
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
    use std::time::Duration;

    use keywright_index::PackedKid;
    use sqlx::{AnyConnection, Connection as _};

    use crate::uses::Caller;
    use crate::{Clock, LocalRegistry};

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
}
