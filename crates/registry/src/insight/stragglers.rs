//! The straggler board: who still uses the old secret of a rotation, who has moved on, and when it
//! is safe to end it (rule 13 of the rotation model).

use std::collections::HashMap;

use keywright_domain::api_keys::{ApiKey, DAY_MS, KeyError, OverlapClock, Rotation};

use super::{CallerIdentity, HOUR_MS, hour_of};
use crate::store::stragglers::{CallerRow, ClosingRow};
use crate::{LocalRegistry, RegistryError, store};

/// How long before the rotation callers of the old secret are looked for: a weekly job is seen.
const LOOK_BACK_MS: i64 = 8 * DAY_MS;
/// At most this many callers of one secret are told apart.
const MOST_CALLERS: usize = 5000;
/// At most this many overlaps are on one page of warnings, and this many callers of each are named.
const MOST_WARNINGS: i64 = 500;
const MOST_WARNED: i64 = 50;

/// Where the use of a secret is going, by its last six full hours and the one under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trend {
    /// At least a quarter less in the last three full hours than in the three before; or nothing.
    Falling,
    /// In between.
    Steady,
    /// At least a third more.
    Rising,
}

impl Trend {
    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Falling => "falling",
            Self::Steady => "steady",
            Self::Rising => "rising",
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Falling, Self::Steady, Self::Rising]
            .into_iter()
            .find(|one| one.as_str() == text)
    }

    fn of(earlier: i64, lately: i64, this_hour: i64) -> Self {
        match (earlier, lately) {
            // A caller that began within this hour.
            (0, 0) if this_hour > 0 => Self::Rising,
            (0, 0) => Self::Falling,
            (earlier, lately) if lately.saturating_mul(4) <= earlier.saturating_mul(3) => {
                Self::Falling
            }
            (earlier, lately) if lately.saturating_mul(3) >= earlier.saturating_mul(4) => {
                Self::Rising
            }
            _ => Self::Steady,
        }
    }
}

/// How far a caller has come from the old secret to the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Only the old one so far.
    NotMoved,
    /// The new one, and later than its first hour the old one again: a part of it has not moved.
    Partly,
    /// The new one, and the old one no more.
    Moved,
}

impl Progress {
    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotMoved => "not_moved",
            Self::Partly => "partly",
            Self::Moved => "moved",
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::NotMoved, Self::Partly, Self::Moved]
            .into_iter()
            .find(|one| one.as_str() == text)
    }
}

/// A caller of the old secret or of the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Straggler {
    /// Who.
    pub caller: CallerIdentity,
    /// Uses of the old secret since eight days before the rotation; 0 for a caller that came with
    /// the new one.
    pub old_uses: i64,
    /// The last of them (Unix ms).
    pub old_last_at: Option<i64>,
    /// Where its use of the old secret is going.
    pub trend: Trend,
    /// Uses of the new secret.
    pub new_uses: i64,
    /// The last of them (Unix ms).
    pub new_last_at: Option<i64>,
    /// How far it has come.
    pub progress: Progress,
}

/// The board of one rotation, at one moment.
#[derive(Clone, Debug)]
pub struct Stragglers {
    /// When this was so (Unix ms).
    pub at: i64,
    /// The rotation that is open.
    pub rotation: Rotation,
    /// Until when the old secret works, where its overlap runs.
    pub closes_at: Option<i64>,
    /// Who still uses the old secret, latest use first. At most 5,000 callers are told apart.
    pub remaining: Vec<Straggler>,
    /// Who uses the new secret and the old one no more, latest use first.
    pub moved: Vec<Straggler>,
    /// Where the use of the old secret is going, over all callers.
    pub trend: Trend,
    /// Last use of the old secret (Unix ms), by anybody.
    pub last_used_at: Option<i64>,
    /// The silence after which the old secret counts as unused (ms): of the rotation's clock, else
    /// of the environment's policy.
    pub silence_ms: i64,
    /// Whether the old secret has been silent for that long.
    pub drained: bool,
    /// When ending the old secret is safe if nobody uses it from now on: each caller has then been
    /// silent for half as long again as it ever was between two uses, and for `silence_ms`. Every
    /// further use moves it.
    pub safe_at: i64,
}

/// An overlap that is about to end while somebody uses the old secret (AC-139).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlapWarning {
    /// The rotation.
    pub rotation_id: String,
    /// The key.
    pub key_id: String,
    /// Its name.
    pub key_name: String,
    /// Its prefix.
    pub key_prefix: String,
    /// The secret that is about to end.
    pub old_kid: String,
    /// When (Unix ms).
    pub closes_at: i64,
    /// Who used it in the last hour, latest first; at most 50.
    pub callers: Vec<LateCaller>,
}

/// Who used a secret in the last hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateCaller {
    /// Who, with network and route.
    pub caller: CallerIdentity,
    /// How often, in the hours that the last hour lies in.
    pub uses: i64,
    /// The last time (Unix ms).
    pub last_at: i64,
}

impl LocalRegistry {
    /// Who still uses the old secret of a key's open rotation, and when ending it is safe.
    ///
    /// # Errors
    /// [`RegistryError::KeyNotFound`]; [`KeyError::NoRotation`] if none is open.
    pub async fn stragglers(&self, key_id: &str) -> Result<Stragglers, RegistryError> {
        self.flush_before_telling().await;
        let now = self.now();
        let mut transaction = self.shared.pool.begin().await?;
        let key = store::api_keys::find(&mut transaction, key_id)
            .await?
            .ok_or(RegistryError::KeyNotFound)?;
        let rotation = store::rotations::find_open(&mut transaction, key_id)
            .await?
            .ok_or(KeyError::NoRotation)?;
        let policy = store::policies::find(&mut transaction, &key.environment).await?;
        let silence_ms = match rotation.clock {
            OverlapClock::UntilDrained { silent_ms, .. } => silent_ms,
            _ => policy.map_or(DAY_MS, |policy| policy.drain_ms),
        };
        let this_hour = hour_of(now);
        let since = hour_of(rotation.created_at.saturating_sub(LOOK_BACK_MS));
        let most = i64::try_from(MOST_CALLERS).unwrap_or(i64::MAX);
        let old = match &rotation.old {
            Some(kid) => {
                store::stragglers::callers(&mut transaction, kid.as_str(), since, this_hour, most)
                    .await?
            }
            None => Vec::new(),
        };
        let since = hour_of(rotation.created_at);
        let new = rotation.new.as_str();
        let new = store::stragglers::callers(&mut transaction, new, since, this_hour, most).await?;
        drop(transaction);
        Ok(board(&key, rotation, old, new, silence_ms, now))
    }

    /// Overlaps that end within `within_ms` while their old secret was used in the last hour,
    /// soonest first, with who uses it; at most 500.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn warnings_before_close(
        &self,
        within_ms: i64,
    ) -> Result<Vec<OverlapWarning>, RegistryError> {
        let mut warnings = self.overlaps_before_close(within_ms, None).await?;
        self.find_late_callers(&mut warnings).await?;
        Ok(warnings)
    }

    /// The same without the callers, behind the one that the page before ended with: none where
    /// nothing comes after it.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn overlaps_before_close(
        &self,
        within_ms: i64,
        after: Option<&OverlapWarning>,
    ) -> Result<Vec<OverlapWarning>, RegistryError> {
        // Once for all pages of a look.
        if after.is_none() {
            self.flush_before_telling().await;
        }
        let now = self.now();
        let until = now.saturating_add(within_ms.max(0));
        let since = now.saturating_sub(HOUR_MS);
        let after = after.map_or((i64::MIN, ""), |one| (one.closes_at, &*one.rotation_id));
        let mut connection = self.shared.pool.acquire().await?;
        let closing =
            store::stragglers::closing(&mut connection, now, until, since, after, MOST_WARNINGS)
                .await?;
        let warning = |row: ClosingRow| OverlapWarning {
            rotation_id: row.rotation_id,
            key_id: row.key_id,
            key_name: row.key_name,
            key_prefix: row.key_prefix,
            old_kid: row.old_kid,
            closes_at: row.closes_at,
            callers: Vec::new(),
        };
        Ok(closing.into_iter().map(warning).collect())
    }

    /// Fills in who used these old secrets in the last hour.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn find_late_callers(
        &self,
        warnings: &mut [OverlapWarning],
    ) -> Result<(), RegistryError> {
        let since = self.now().saturating_sub(HOUR_MS);
        let mut connection = self.shared.pool.acquire().await?;
        for warning in warnings {
            let used = store::stragglers::used_since(
                &mut connection,
                &warning.old_kid,
                hour_of(since),
                since,
                MOST_WARNED,
            )
            .await?;
            warning.callers = used
                .into_iter()
                .map(
                    |(client_label, network, agent, route, uses, last_at)| LateCaller {
                        caller: CallerIdentity {
                            client_label,
                            network,
                            agent,
                            route,
                        },
                        uses,
                        last_at,
                    },
                )
                .collect();
        }
        Ok(())
    }
}

fn board(
    key: &ApiKey,
    rotation: Rotation,
    old: Vec<CallerRow>,
    new: Vec<CallerRow>,
    silence_ms: i64,
    now: i64,
) -> Stragglers {
    let mut new: HashMap<CallerIdentity, CallerRow> =
        new.into_iter().map(|row| (identity(&row), row)).collect();
    let totals = old.iter().fold((0_i64, 0_i64, 0_i64), |total, row| {
        (
            total.0.saturating_add(row.earlier),
            total.1.saturating_add(row.lately),
            total.2.saturating_add(row.this_hour),
        )
    });
    // What rollups do not hold any more, or never held, is still in the row of the secret.
    let secret = key
        .secrets
        .iter()
        .find(|secret| Some(&secret.kid) == rotation.old.as_ref());
    let last_used_at = secret
        .and_then(|secret| secret.last_used_at)
        .max(old.iter().map(|row| row.last_at).max());
    let mut safe_at = last_used_at.map_or(now, |at| at.saturating_add(silence_ms));
    let (mut remaining, mut moved) = (Vec::new(), Vec::new());
    for row in old {
        let caller = identity(&row);
        let successor = new.remove(&caller);
        let progress = progress(&row, successor.as_ref());
        if progress != Progress::Moved {
            let silence = silence_ms.max(row.longest_gap.saturating_add(row.longest_gap / 2));
            safe_at = safe_at.max(row.last_at.saturating_add(silence));
        }
        let straggler = Straggler {
            caller,
            old_uses: row.uses,
            old_last_at: Some(row.last_at),
            trend: Trend::of(row.earlier, row.lately, row.this_hour),
            new_uses: successor.as_ref().map_or(0, |row| row.uses),
            new_last_at: successor.map(|row| row.last_at),
            progress,
        };
        if progress == Progress::Moved {
            moved.push(straggler);
        } else {
            remaining.push(straggler);
        }
    }
    moved.extend(new.into_iter().map(|(caller, row)| Straggler {
        caller,
        old_uses: 0,
        old_last_at: None,
        trend: Trend::Falling,
        new_uses: row.uses,
        new_last_at: Some(row.last_at),
        progress: Progress::Moved,
    }));
    moved.sort_by(|one, other| {
        (other.new_last_at, &one.caller).cmp(&(one.new_last_at, &other.caller))
    });
    Stragglers {
        at: now,
        closes_at: key.old_secret_works_until(now),
        rotation,
        remaining,
        moved,
        trend: Trend::of(totals.0, totals.1, totals.2),
        last_used_at,
        silence_ms,
        drained: last_used_at.is_none_or(|at| now.saturating_sub(at) >= silence_ms),
        safe_at,
    }
}

/// Rollups know hours: a use of the old secret in the hour of the change may have come before it.
fn progress(old: &CallerRow, new: Option<&CallerRow>) -> Progress {
    match new {
        None => Progress::NotMoved,
        Some(new)
            if old.last_at < new.first_hour.saturating_add(HOUR_MS)
                && old.last_at <= new.last_at =>
        {
            Progress::Moved
        }
        Some(_) => Progress::Partly,
    }
}

fn identity(row: &CallerRow) -> CallerIdentity {
    CallerIdentity {
        client_label: row.client_label.clone(),
        network: row.network.clone(),
        agent: row.agent.clone(),
        route: row.route.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trend_is_told_by_full_hours() {
        for (hours, trend) in [
            ((100, 75, 0), Trend::Falling),
            ((100, 76, 9), Trend::Steady),
            ((100, 132, 0), Trend::Steady),
            ((99, 132, 0), Trend::Rising),
            ((0, 1, 0), Trend::Rising),
            ((0, 0, 1), Trend::Rising),
            ((5, 0, 9), Trend::Falling),
            ((0, 0, 0), Trend::Falling),
        ] {
            assert_eq!(Trend::of(hours.0, hours.1, hours.2), trend, "{hours:?}");
        }
    }
}
