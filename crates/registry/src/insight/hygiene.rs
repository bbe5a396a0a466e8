//! Hygiene: keys that nobody would miss, or that can do more than they need. Pages walk along an
//! index in steps of bounded size, so that one page costs the same among a thousand keys and among
//! a million; a page may be short and still have a next one.

use std::collections::{BTreeSet, HashMap};

use keywright_domain::api_keys::{DAY_MS, Policy, PolicyEnvironment};
use keywright_domain::scopes::{Scope, ScopeRequirement, ScopeSet};
use sqlx::AnyConnection;

use super::hour_of;
use crate::store::hygiene::{HygieneRow, UsageRow, Walk};
use crate::{LocalRegistry, RegistryError, store};

/// Keys read in one step.
const STEP: i64 = 500;
/// Keys looked at for one page at most.
const MOST_EXAMINED: usize = 10_000;
/// A text that rollups keep was cut at this length, and says nothing certain then.
const CUT_AT: usize = 200;

/// What is the matter with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HygieneFinding {
    /// Made a while ago and never used.
    NeverUsed,
    /// Used once, but not for a while.
    Idle,
    /// Its newest secret never expires.
    NeverExpires,
    /// It holds scopes that nothing asked for.
    OverScoped,
    /// Its owner is disabled or gone.
    Orphaned,
    /// It is used from many networks: several parties seem to share it.
    ManyNetworks,
    /// Its newest secret is older than the policy of its environment allows.
    PastMaximumAge,
    /// Its text was seen where no key belongs.
    Exposed,
}

impl HygieneFinding {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::NeverUsed,
        Self::Idle,
        Self::NeverExpires,
        Self::OverScoped,
        Self::Orphaned,
        Self::ManyNetworks,
        Self::PastMaximumAge,
        Self::Exposed,
    ];

    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NeverUsed => "never_used",
            Self::Idle => "idle",
            Self::NeverExpires => "never_expires",
            Self::OverScoped => "over_scoped",
            Self::Orphaned => "orphaned",
            Self::ManyNetworks => "many_networks",
            Self::PastMaximumAge => "past_maximum_age",
            Self::Exposed => "exposed",
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }

    fn needs_usage(self) -> bool {
        matches!(self, Self::OverScoped | Self::ManyNetworks)
    }
}

/// From when on something is a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HygieneRules {
    /// A key of this age without a use was never used, and a use this long ago is idle: 1 to 3650
    /// days.
    pub idle_days: u32,
    /// Scopes and networks are judged by the uses of this many days: 1 to 365. A key that is younger
    /// is not judged by its scopes.
    pub window_days: u32,
    /// So many networks or more are many: 2 to 1000.
    pub networks: u32,
}

impl Default for HygieneRules {
    fn default() -> Self {
        Self {
            idle_days: 90,
            window_days: 90,
            networks: 10,
        }
    }
}

impl HygieneRules {
    fn check(&self) -> Result<(), RegistryError> {
        if !(1..=3650).contains(&self.idle_days)
            || !(1..=365).contains(&self.window_days)
            || !(2..=1000).contains(&self.networks)
        {
            return Err(RegistryError::Bounds(
                "hygiene: idle after 1 to 3650 days, judged by 1 to 365 days, many are 2 to 1000 networks",
            ));
        }
        Ok(())
    }
}

/// A page of one finding is asked for.
#[derive(Clone, Debug)]
pub struct HygieneQuery {
    /// Which.
    pub finding: HygieneFinding,
    /// From when on.
    pub rules: HygieneRules,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// 1 to 500.
    pub limit: u32,
}

/// Scopes that would have been enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeProposal {
    /// What was asked for in the window, as far as the key holds it; wildcards are narrowed to it.
    pub scopes: ScopeSet,
    /// Granted scopes, or wildcards, that it replaces or leaves out.
    pub dropped: Vec<Scope>,
    /// Uses that named no scope at all. A service that reads the scopes out of the answer by itself
    /// makes such uses: ask before narrowing.
    pub unnamed_uses: i64,
}

/// A key with what is the matter with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HygieneItem {
    /// Stable id.
    pub key_id: String,
    /// Name.
    pub name: String,
    /// What its texts begin with.
    pub prefix: String,
    /// Where it may be used.
    pub environment: String,
    /// Who it belongs to.
    pub owner_id: String,
    /// First issue (Unix ms).
    pub created_at: i64,
    /// Latest use (Unix ms).
    pub last_used_at: Option<i64>,
    /// End of its newest secret (Unix ms).
    pub expires_at: Option<i64>,
    /// Everything that is the matter with it, not only what was asked for.
    pub findings: Vec<HygieneFinding>,
    /// For an over-scoped key.
    pub proposal: Option<ScopeProposal>,
    /// Networks it was used from in the window.
    pub networks: u32,
}

/// A page of keys with one finding.
#[derive(Clone, Debug)]
pub struct HygienePage {
    /// The keys.
    pub items: Vec<HygieneItem>,
    /// For the next page. A page may be short, or empty, and have a next one: it looks at 10,000
    /// keys at most.
    pub next_cursor: Option<String>,
}

/// How many keys have each finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HygieneCounts {
    /// Keys that were looked at: not revoked and not expired.
    pub examined: i64,
    counts: [i64; HygieneFinding::ALL.len()],
}

impl HygieneCounts {
    /// As somebody else counted them.
    #[must_use]
    pub fn new(examined: i64, count: impl Fn(HygieneFinding) -> i64) -> Self {
        Self {
            examined,
            counts: HygieneFinding::ALL.map(count),
        }
    }

    /// Keys with this finding.
    #[must_use]
    pub fn of(&self, finding: HygieneFinding) -> i64 {
        self.counts[finding as usize]
    }
}

/// What a step of a walk is judged by.
struct Judge<'a> {
    rules: &'a HygieneRules,
    policies: &'a [Policy],
    now: i64,
}

impl LocalRegistry {
    /// One page of the keys with one finding. Never used, idle and never expiring walk the index
    /// that holds them together; the others walk all keys by id, 10,000 a page at most.
    ///
    /// # Errors
    /// [`RegistryError::Bounds`], [`RegistryError::Cursor`].
    pub async fn hygiene(&self, query: &HygieneQuery) -> Result<HygienePage, RegistryError> {
        query.rules.check()?;
        let mut after = match &query.cursor {
            Some(cursor) => decode(cursor)?,
            None => (i64::MIN, String::new()),
        };
        self.flush_before_telling().await;
        let limit = query.limit.clamp(1, 500) as usize;
        let mut connection = self.shared.pool.acquire().await?;
        let policies = store::policies::list(&mut connection).await?;
        let judge = Judge {
            rules: &query.rules,
            policies: &policies,
            now: self.now(),
        };
        let walk = judge.walk(query.finding);
        let (mut items, mut examined) = (Vec::new(), 0);
        loop {
            let rows =
                store::hygiene::walk(&mut connection, walk, (after.0, &after.1), STEP).await?;
            if rows.is_empty() {
                return Ok(HygienePage {
                    items,
                    next_cursor: None,
                });
            }
            examined += rows.len();
            let places: Vec<_> = rows.iter().map(|row| place(row, walk)).collect();
            let found = judge
                .examine(&mut connection, rows, Some(query.finding))
                .await?;
            for (item, place) in found.into_iter().zip(places) {
                after = place;
                if let Some(item) = item {
                    items.push(item);
                }
                if items.len() == limit {
                    break;
                }
            }
            if items.len() == limit || examined >= MOST_EXAMINED {
                return Ok(HygienePage {
                    items,
                    next_cursor: Some(format!("{}~{}", after.0, after.1)),
                });
            }
        }
    }

    /// How many keys have each finding: one walk over all keys, in steps, so that nothing waits for
    /// it. Its time grows with the number of keys; it is meant for a report, not for every click.
    ///
    /// # Errors
    /// [`RegistryError::Bounds`].
    pub async fn count_hygiene(
        &self,
        rules: &HygieneRules,
    ) -> Result<HygieneCounts, RegistryError> {
        let mut count = self.begin_hygiene_count(rules).await?;
        while count.step().await? {}
        Ok(count.finish())
    }

    /// The same in steps, for whoever shows how far it came.
    ///
    /// # Errors
    /// [`RegistryError::Bounds`].
    pub async fn begin_hygiene_count(
        &self,
        rules: &HygieneRules,
    ) -> Result<HygieneCount, RegistryError> {
        rules.check()?;
        self.flush_before_telling().await;
        let mut connection = self.shared.pool.acquire().await?;
        let policies = store::policies::list(&mut connection).await?;
        let total = store::images::count(&mut connection).await?;
        Ok(HygieneCount {
            registry: self.clone(),
            rules: *rules,
            policies,
            now: self.now(),
            total,
            done: 0,
            after: String::new(),
            counts: HygieneCounts::default(),
        })
    }
}

/// Counts that go on in steps of 500 keys.
#[derive(Debug)]
pub struct HygieneCount {
    registry: LocalRegistry,
    rules: HygieneRules,
    policies: Vec<Policy>,
    now: i64,
    total: i64,
    done: i64,
    after: String,
    counts: HygieneCounts,
}

impl HygieneCount {
    /// Keys that there were when it began, ended ones included.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.total
    }

    /// Keys that were gone past, ended ones included.
    #[must_use]
    pub fn done(&self) -> i64 {
        self.done
    }

    /// Looks at the next keys. Returns false when there are no more.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn step(&mut self) -> Result<bool, RegistryError> {
        let mut connection = self.registry.shared.pool.acquire().await?;
        let place = (i64::MIN, self.after.as_str());
        let rows = store::hygiene::walk(&mut connection, Walk::Id, place, STEP).await?;
        let Some(last) = rows.last() else {
            return Ok(false);
        };
        self.after.clone_from(&last.id);
        self.done += i64::try_from(rows.len()).unwrap_or(0);
        let judge = Judge {
            rules: &self.rules,
            policies: &self.policies,
            now: self.now,
        };
        let live = |row: &&HygieneRow| judge.is_live(row);
        self.counts.examined += i64::try_from(rows.iter().filter(live).count()).unwrap_or(0);
        let found = judge.examine(&mut connection, rows, None).await?;
        for item in found.iter().flatten() {
            for finding in &item.findings {
                self.counts.counts[*finding as usize] += 1;
            }
        }
        Ok(true)
    }

    /// The counts, once there is nothing more to look at.
    #[must_use]
    pub fn finish(self) -> HygieneCounts {
        self.counts
    }
}

impl LocalRegistry {
    /// What is the matter with some keys now; those with nothing are left out.
    pub(crate) async fn findings_of(
        &self,
        rules: &HygieneRules,
        key_ids: &[String],
    ) -> Result<HashMap<String, Vec<HygieneFinding>>, RegistryError> {
        rules.check()?;
        self.flush_before_telling().await;
        let mut connection = self.shared.pool.acquire().await?;
        let policies = store::policies::list(&mut connection).await?;
        let judge = Judge {
            rules,
            policies: &policies,
            now: self.now(),
        };
        let rows = store::hygiene::of_keys(&mut connection, key_ids).await?;
        let found = judge.examine(&mut connection, rows, None).await?;
        let found = found.into_iter().flatten();
        Ok(found.map(|item| (item.key_id, item.findings)).collect())
    }
}

impl Judge<'_> {
    fn idle_before(&self) -> i64 {
        self.now
            .saturating_sub(i64::from(self.rules.idle_days) * DAY_MS)
    }

    fn window_from(&self) -> i64 {
        self.now
            .saturating_sub(i64::from(self.rules.window_days) * DAY_MS)
    }

    fn walk(&self, finding: HygieneFinding) -> Walk {
        match finding {
            HygieneFinding::NeverUsed => Walk::LastUse { from: 0, before: 1 },
            HygieneFinding::Idle => Walk::LastUse {
                from: 1,
                before: self.idle_before(),
            },
            HygieneFinding::NeverExpires => Walk::NeverExpires,
            _ => Walk::Id,
        }
    }

    fn is_live(&self, row: &HygieneRow) -> bool {
        row.revoked_at.is_none() && row.expires_order > self.now
    }

    /// Judges the keys of a step, in their order; none for those without (this) finding.
    async fn examine(
        &self,
        connection: &mut AnyConnection,
        rows: Vec<HygieneRow>,
        wanted: Option<HygieneFinding>,
    ) -> Result<Vec<Option<HygieneItem>>, RegistryError> {
        let plain: Vec<_> = rows.iter().map(|row| self.plain_findings(row)).collect();
        // Uses are read for those alone whose finding depends on it, or who are shown anyway.
        let candidates: Vec<String> = rows
            .iter()
            .zip(&plain)
            .filter(|(row, plain)| {
                self.is_live(row)
                    && row.last_used_order >= self.window_from()
                    && wanted.is_none_or(|one| one.needs_usage() || plain.contains(&one))
            })
            .map(|(row, _)| row.id.clone())
            .collect();
        let since = hour_of(self.window_from());
        let mut usage: HashMap<String, Vec<UsageRow>> = HashMap::new();
        for row in store::hygiene::usage(connection, &candidates, since).await? {
            usage.entry(row.0.clone()).or_default().push(row);
        }
        let mut found = Vec::with_capacity(rows.len());
        for (row, findings) in rows.into_iter().zip(plain) {
            let used = usage.remove(&row.id).unwrap_or_default();
            let item = self.item(row, findings, &used)?;
            let shown = match wanted {
                Some(wanted) => item.findings.contains(&wanted),
                None => !item.findings.is_empty(),
            };
            found.push(Some(item).filter(|_| shown));
        }
        Ok(found)
    }

    /// What the columns of a key tell by themselves.
    fn plain_findings(&self, row: &HygieneRow) -> Vec<HygieneFinding> {
        if !self.is_live(row) {
            return Vec::new();
        }
        let is = |finding: HygieneFinding| match finding {
            HygieneFinding::NeverUsed => {
                row.last_used_order == 0 && row.created_at < self.idle_before()
            }
            HygieneFinding::Idle => {
                row.last_used_order != 0 && row.last_used_order < self.idle_before()
            }
            HygieneFinding::NeverExpires => row.expires_order == i64::MAX,
            HygieneFinding::Orphaned => {
                row.owner_known.is_none() || row.owner_disabled_at.is_some()
            }
            HygieneFinding::PastMaximumAge => self
                .maximum_age(&row.environment)
                .is_some_and(|age| self.now.saturating_sub(row.secret_created_at) > age),
            HygieneFinding::Exposed => row.exposed_at.is_some(),
            HygieneFinding::OverScoped | HygieneFinding::ManyNetworks => false,
        };
        HygieneFinding::ALL
            .into_iter()
            .filter(|finding| is(*finding))
            .collect()
    }

    fn maximum_age(&self, environment: &str) -> Option<i64> {
        let of = |name: &str| {
            self.policies
                .iter()
                .find(|policy| policy.environment.as_str() == name)
        };
        of(environment)
            .or_else(|| of(PolicyEnvironment::All.as_str()))
            .and_then(|policy| policy.max_age_ms)
    }

    fn item(
        &self,
        row: HygieneRow,
        mut findings: Vec<HygieneFinding>,
        used: &[UsageRow],
    ) -> Result<HygieneItem, RegistryError> {
        let networks: BTreeSet<&str> = used
            .iter()
            .map(|(_, network, _, _)| network.as_str())
            .filter(|network| !network.is_empty())
            .collect();
        let networks = u32::try_from(networks.len()).unwrap_or(u32::MAX);
        let is_judged = row.created_at <= self.window_from() && self.is_live(&row);
        let proposal = if is_judged {
            right_size(&ScopeSet::parse(&row.scopes)?, used)
        } else {
            None
        };
        if proposal.is_some() {
            findings.push(HygieneFinding::OverScoped);
        }
        if networks >= self.rules.networks {
            findings.push(HygieneFinding::ManyNetworks);
        }
        findings.sort();
        Ok(HygieneItem {
            key_id: row.id,
            name: row.name,
            prefix: row.prefix,
            environment: row.environment,
            owner_id: row.owner_id,
            created_at: row.created_at,
            last_used_at: (row.last_used_order != 0).then_some(row.last_used_order),
            expires_at: (row.expires_order != i64::MAX).then_some(row.expires_order),
            findings,
            proposal,
            networks,
        })
    }
}

/// The scopes that the uses asked for, if the key holds more. None where nothing named a scope,
/// where something that was asked for cannot be read any more, or where nothing could be dropped:
/// a proposal never holds less than what was used.
pub(crate) fn right_size(granted: &ScopeSet, used: &[UsageRow]) -> Option<ScopeProposal> {
    let (mut needed, mut unnamed_uses) = (Vec::new(), 0_i64);
    for (_, _, requirement, uses) in used {
        if requirement.is_empty() {
            unnamed_uses = unnamed_uses.saturating_add(*uses);
            continue;
        }
        if requirement.chars().count() >= CUT_AT {
            return None;
        }
        let requirement = ScopeRequirement::parse(requirement).ok()?;
        // Of `a or b` both are kept: which one a later use relies on is not known.
        let held = |scope: &&&Scope| granted.covers(scope);
        needed.extend(
            requirement
                .scopes()
                .iter()
                .filter(held)
                .map(|scope| (*scope).clone()),
        );
    }
    let scopes = ScopeSet::new(needed).minimal();
    if scopes.as_slice().is_empty() || scopes.covers_all(granted) {
        return None;
    }
    let kept = |scope: &&Scope| !scopes.as_slice().contains(scope);
    let dropped = granted.as_slice().iter().filter(kept).cloned().collect();
    Some(ScopeProposal {
        scopes,
        dropped,
        unnamed_uses,
    })
}

/// Where a walk goes on after a key.
fn place(row: &HygieneRow, walk: Walk) -> (i64, String) {
    let number = match walk {
        Walk::Id => i64::MIN,
        Walk::LastUse { .. } => row.last_used_order,
        Walk::NeverExpires => row.expires_order,
    };
    (number, row.id.clone())
}

fn decode(cursor: &str) -> Result<(i64, String), RegistryError> {
    let (number, id) = cursor.split_once('~').ok_or(RegistryError::Cursor)?;
    let number = number.parse().map_err(|_| RegistryError::Cursor)?;
    Ok((number, id.to_owned()))
}

#[cfg(test)]
mod tests;
