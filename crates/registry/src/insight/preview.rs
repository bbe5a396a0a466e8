//! Blast-radius preview: what a change would have refused of the uses of the last days. Nothing is
//! changed, and nobody is told.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use keywright_domain::api_keys::{DAY_MS, NetworkList, OriginList, Refusal};
use keywright_domain::scopes::{ScopeRequirement, ScopeSet};

use super::{CallerIdentity, hour_of};
use crate::store::preview::ReplayRow;
use crate::uses::OTHER_CALLERS;
use crate::{LocalRegistry, RegistryError, store};

/// At most this many keys are looked at together.
const MOST_KEYS: usize = 1000;
/// At most this many kinds of use of one key are told apart.
const MOST_KINDS: usize = 20_000;
/// At most this many lines are given back.
const MOST_LINES: usize = 1000;
/// Texts that rollups keep were cut at these lengths, and say nothing certain then.
const SCOPE_CUT_AT: usize = 200;
const ORIGIN_CUT_AT: usize = 128;

/// A change that somebody thinks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposedChange {
    /// End the key.
    Revoke,
    /// Give it these scopes.
    Scopes(ScopeSet),
    /// Allow these networks alone; an empty list allows all.
    Networks(NetworkList),
    /// Allow these origins alone; an empty list allows all.
    Origins(OriginList),
}

/// What the change would do to a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PreviewEffect {
    /// It would be refused, with this code.
    Refused(&'static str),
    /// It may be refused: what is known of it is too coarse to say.
    Uncertain,
}

/// Uses of one kind that the change would touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewLine {
    /// The key.
    pub key_id: String,
    /// Who.
    pub caller: CallerIdentity,
    /// What was required, as text; empty for nothing.
    pub requirement: String,
    /// The `Origin` it named (RFC 6454); empty for none.
    pub origin: String,
    /// How often.
    pub uses: i64,
    /// The last time (Unix ms).
    pub last_at: i64,
    /// Refused, or maybe.
    pub effect: PreviewEffect,
}

/// The blast radius of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// The uses since this moment were replayed (Unix ms, the beginning of an hour).
    pub since: i64,
    /// Uses that were replayed. Only accepted ones are known.
    pub requests: i64,
    /// Those that would have been refused.
    pub refused: i64,
    /// Those that may have been.
    pub uncertain: i64,
    /// Refused ones by code.
    pub by_code: BTreeMap<&'static str, i64>,
    /// Who would notice, most uses first; at most 1,000.
    pub lines: Vec<PreviewLine>,
    /// How many lines there are in all.
    pub total_lines: usize,
    /// Whether a key was used in more than 20,000 ways, so that its rarest uses are not in here.
    pub is_partial: bool,
}

impl LocalRegistry {
    /// Replays the uses of the last `days` (1 to 365) against a change of one key or of several.
    /// Rate limits, credits and other conditions of a key stay as they were then.
    ///
    /// # Errors
    /// [`RegistryError::KeyNotFound`]; [`RegistryError::Bounds`] for no key, more than 1,000, or
    /// another number of days.
    pub async fn preview_change(
        &self,
        key_ids: &[String],
        change: &ProposedChange,
        days: u32,
    ) -> Result<Preview, RegistryError> {
        if !(1..=MOST_KEYS).contains(&key_ids.len()) || !(1..=365).contains(&days) {
            return Err(RegistryError::Bounds(
                "a preview replays 1 to 365 days of 1 to 1000 keys",
            ));
        }
        let mut key_ids = key_ids.to_vec();
        key_ids.sort();
        key_ids.dedup();
        self.flush_before_telling().await;
        let since = hour_of(self.now().saturating_sub(i64::from(days) * DAY_MS));
        let mut preview = Preview {
            since,
            requests: 0,
            refused: 0,
            uncertain: 0,
            by_code: BTreeMap::new(),
            lines: Vec::new(),
            total_lines: 0,
            is_partial: false,
        };
        let change = Replay::of(change);
        let mut connection = self.shared.pool.acquire().await?;
        for key_id in key_ids {
            store::api_keys::find_prefix(&mut connection, &key_id)
                .await?
                .ok_or(RegistryError::KeyNotFound)?;
            let most = i64::try_from(MOST_KINDS).unwrap_or(i64::MAX);
            let rows = store::preview::replay(&mut connection, &key_id, since, most).await?;
            preview.is_partial |= rows.len() == MOST_KINDS;
            for row in rows {
                preview.add(&key_id, row, &change);
            }
            preview.keep_the_most_used();
        }
        preview.keep_the_most_used();
        Ok(preview)
    }
}

impl Preview {
    fn add(&mut self, key_id: &str, row: ReplayRow, change: &Replay<'_>) {
        self.requests = self.requests.saturating_add(row.uses);
        let Some(effect) = change.effect(&row) else {
            return;
        };
        match effect {
            PreviewEffect::Refused(code) => {
                self.refused = self.refused.saturating_add(row.uses);
                let uses = self.by_code.entry(code).or_default();
                *uses = uses.saturating_add(row.uses);
            }
            PreviewEffect::Uncertain => self.uncertain = self.uncertain.saturating_add(row.uses),
        }
        self.total_lines += 1;
        self.lines.push(PreviewLine {
            key_id: key_id.to_owned(),
            caller: CallerIdentity {
                client_label: row.client_label,
                network: row.network,
                agent: row.agent,
                route: row.route,
            },
            requirement: row.scope,
            origin: row.origin,
            uses: row.uses,
            last_at: row.last_at,
            effect,
        });
    }

    fn keep_the_most_used(&mut self) {
        self.lines.sort_by(|one, other| {
            (other.uses, &one.key_id, &one.caller).cmp(&(one.uses, &other.key_id, &other.caller))
        });
        self.lines.truncate(MOST_LINES);
    }
}

/// A change in the form that uses are held against.
enum Replay<'a> {
    Revoke,
    Scopes(&'a ScopeSet),
    Networks(Vec<IpNet>),
    Origins(&'a OriginList),
}

impl<'a> Replay<'a> {
    fn of(change: &'a ProposedChange) -> Self {
        match change {
            ProposedChange::Revoke => Self::Revoke,
            ProposedChange::Scopes(scopes) => Self::Scopes(scopes),
            ProposedChange::Networks(list) => {
                Self::Networks(list.texts().filter_map(|text| text.parse().ok()).collect())
            }
            ProposedChange::Origins(list) => Self::Origins(list),
        }
    }

    /// What it would do to a use; none: nothing.
    fn effect(&self, row: &ReplayRow) -> Option<PreviewEffect> {
        if row.client_label == OTHER_CALLERS {
            return self.effect_on_others(row);
        }
        match self {
            Self::Revoke => Some(PreviewEffect::Refused(Refusal::Revoked.code())),
            Self::Scopes(scopes) => scope_effect(scopes, &row.scope),
            Self::Networks(list) => network_effect(list, &row.network),
            Self::Origins(list) => origin_effect(list, &row.origin),
        }
    }
}

impl Replay<'_> {
    /// Callers that were counted together: where they came from is not known any more.
    fn effect_on_others(&self, row: &ReplayRow) -> Option<PreviewEffect> {
        match self {
            Self::Revoke => Some(PreviewEffect::Refused(Refusal::Revoked.code())),
            Self::Scopes(scopes) => scope_effect(scopes, &row.scope),
            Self::Networks(list) => (!list.is_empty()).then_some(PreviewEffect::Uncertain),
            Self::Origins(_) => Some(PreviewEffect::Uncertain),
        }
    }
}

fn scope_effect(scopes: &ScopeSet, requirement: &str) -> Option<PreviewEffect> {
    if requirement.is_empty() {
        return None;
    }
    if requirement.chars().count() >= SCOPE_CUT_AT {
        return Some(PreviewEffect::Uncertain);
    }
    match ScopeRequirement::parse(requirement) {
        Ok(requirement) if requirement.is_met_by(scopes) => None,
        Ok(_) => Some(PreviewEffect::Refused(
            Refusal::InsufficientScope(Vec::new()).code(),
        )),
        Err(_) => Some(PreviewEffect::Uncertain),
    }
}

/// Uses are known by their /24 or /48: a list that allows a part of it may or may not have refused.
fn network_effect(list: &[IpNet], network: &str) -> Option<PreviewEffect> {
    if list.is_empty() {
        return None;
    }
    let refused = Some(PreviewEffect::Refused(Refusal::IpNotAllowed.code()));
    let Ok(network) = network.parse::<IpNet>() else {
        // An address that is not known is on no list.
        return refused;
    };
    let is_v4 = |network: &IpNet| matches!(network.addr(), IpAddr::V4(_));
    let same_family = || list.iter().filter(|one| is_v4(one) == is_v4(&network));
    if same_family().any(|one| one.contains(&network)) {
        return None;
    }
    if same_family().any(|one| network.contains(one)) {
        return Some(PreviewEffect::Uncertain);
    }
    refused
}

fn origin_effect(list: &OriginList, origin: &str) -> Option<PreviewEffect> {
    if list.allows(Some(origin).filter(|origin| !origin.is_empty())) {
        return None;
    }
    if origin.chars().count() >= ORIGIN_CUT_AT {
        return Some(PreviewEffect::Uncertain);
    }
    Some(PreviewEffect::Refused(Refusal::OriginNotAllowed.code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts
            .iter()
            .map(|text| text.parse().expect("a network"))
            .collect()
    }

    #[test]
    fn a_network_is_allowed_refused_or_too_coarse_to_say() {
        let list = networks(&["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]);
        let refused = Some(PreviewEffect::Refused("ip_not_allowed"));
        for (network, effect) in [
            ("10.1.2.0/24", None),
            ("192.0.2.0/24", Some(PreviewEffect::Uncertain)),
            ("198.51.100.0/24", refused),
            ("2001:db8:1::/48", None),
            ("2001:db9:1::/48", refused),
            ("", refused),
        ] {
            assert_eq!(network_effect(&list, network), effect, "{network}");
        }
        assert_eq!(network_effect(&[], ""), None, "an empty list allows all");
    }

    #[test]
    fn halves_of_a_network_on_the_list_are_uncertain_together() {
        let list = networks(&["192.0.2.0/25", "192.0.2.128/25"]);
        assert_eq!(
            network_effect(&list, "192.0.2.0/24"),
            Some(PreviewEffect::Uncertain)
        );
    }

    #[test]
    fn scopes_are_held_against_the_whole_requirement() {
        let scopes = ScopeSet::parse("a:x b:y").expect("scopes");
        let refused = Some(PreviewEffect::Refused("insufficient_scope"));
        for (requirement, effect) in [
            ("", None),
            ("a:x and b:y", None),
            ("a:z or b:y", None),
            ("a:z", refused),
            ("(redacted)", Some(PreviewEffect::Uncertain)),
        ] {
            assert_eq!(scope_effect(&scopes, requirement), effect, "{requirement}");
        }
    }
}
