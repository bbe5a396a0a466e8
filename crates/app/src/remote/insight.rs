//! What the uses of keys of a registry on a server tell: who still uses an old secret, which keys want
//! tidying, what a change would break, and the alerts.

use std::collections::BTreeMap;

use keywright_domain::api_keys::Refusal;
use keywright_domain::scopes::{Scope, ScopeSet};
use keywright_registry::{
    Alert, AlertKind, AlertPage, AlertQuery, CallerIdentity, HygieneCounts, HygieneFinding,
    HygieneItem, HygienePage, HygieneQuery, HygieneRules, LateCaller, OverlapWarning, Preview,
    PreviewEffect, PreviewLine, Progress, ProposedChange, ScopeProposal, Straggler, Stragglers,
    Trend,
};
use serde::{Deserialize, Serialize};

use super::call::{Call, Credentials};
use super::wire::{Items, RotationBody};
use super::{Known, RemoteRegistry};
use crate::AppError;

#[derive(Debug, Deserialize)]
struct CallerBody {
    client_label: String,
    network: String,
    agent: String,
    route: String,
}

impl From<CallerBody> for CallerIdentity {
    fn from(caller: CallerBody) -> Self {
        Self {
            client_label: caller.client_label,
            network: caller.network,
            agent: caller.agent,
            route: caller.route,
        }
    }
}

#[derive(Debug, Deserialize)]
struct StragglerBody {
    caller: CallerBody,
    old_uses: i64,
    old_last_at: Option<i64>,
    trend: String,
    new_uses: i64,
    new_last_at: Option<i64>,
    progress: String,
}

impl StragglerBody {
    fn read(self) -> Option<Straggler> {
        Some(Straggler {
            trend: Trend::parse(&self.trend)?,
            progress: Progress::parse(&self.progress)?,
            caller: self.caller.into(),
            old_uses: self.old_uses,
            old_last_at: self.old_last_at,
            new_uses: self.new_uses,
            new_last_at: self.new_last_at,
        })
    }
}

#[derive(Debug, Deserialize)]
struct BoardBody {
    at: i64,
    rotation: RotationBody,
    closes_at: Option<i64>,
    remaining: Vec<StragglerBody>,
    moved: Vec<StragglerBody>,
    trend: String,
    last_used_at: Option<i64>,
    silence_ms: i64,
    drained: bool,
    safe_at: i64,
}

impl BoardBody {
    fn read(self) -> Option<Stragglers> {
        let all = |list: Vec<StragglerBody>| -> Option<Vec<_>> {
            list.into_iter().map(StragglerBody::read).collect()
        };
        Some(Stragglers {
            rotation: self.rotation.read()?,
            remaining: all(self.remaining)?,
            moved: all(self.moved)?,
            trend: Trend::parse(&self.trend)?,
            at: self.at,
            closes_at: self.closes_at,
            last_used_at: self.last_used_at,
            silence_ms: self.silence_ms,
            drained: self.drained,
            safe_at: self.safe_at,
        })
    }
}

#[derive(Debug, Deserialize)]
struct LateCallerBody {
    caller: CallerBody,
    uses: i64,
    last_at: i64,
}

#[derive(Debug, Deserialize)]
struct ClosingBody {
    rotation_id: String,
    key_id: String,
    key_name: String,
    /// A server of before says none.
    #[serde(default)]
    key_prefix: String,
    old_kid: String,
    closes_at: i64,
    callers: Vec<LateCallerBody>,
}

impl From<ClosingBody> for OverlapWarning {
    fn from(closing: ClosingBody) -> Self {
        let callers = closing.callers.into_iter().map(|late| LateCaller {
            caller: late.caller.into(),
            uses: late.uses,
            last_at: late.last_at,
        });
        Self {
            callers: callers.collect(),
            rotation_id: closing.rotation_id,
            key_id: closing.key_id,
            key_name: closing.key_name,
            key_prefix: closing.key_prefix,
            old_kid: closing.old_kid,
            closes_at: closing.closes_at,
        }
    }
}

#[derive(Debug, Deserialize)]
struct ProposalBody {
    scopes: Vec<String>,
    dropped: Vec<String>,
    unnamed_uses: i64,
}

fn scopes(texts: &[String]) -> Option<Vec<Scope>> {
    texts.iter().map(|text| Scope::new(text).ok()).collect()
}

impl ProposalBody {
    fn read(&self) -> Option<ScopeProposal> {
        Some(ScopeProposal {
            scopes: ScopeSet::new(scopes(&self.scopes)?),
            dropped: scopes(&self.dropped)?,
            unnamed_uses: self.unnamed_uses,
        })
    }
}

#[derive(Debug, Deserialize)]
struct HygieneBody {
    key_id: String,
    name: String,
    prefix: String,
    environment: String,
    owner_id: String,
    created_at: i64,
    last_used_at: Option<i64>,
    expires_at: Option<i64>,
    findings: Vec<String>,
    proposal: Option<ProposalBody>,
    networks: u32,
}

impl HygieneBody {
    fn read(self) -> Option<HygieneItem> {
        let findings = self.findings.iter().map(|text| HygieneFinding::parse(text));
        let proposal = match &self.proposal {
            Some(proposal) => Some(proposal.read()?),
            None => None,
        };
        Some(HygieneItem {
            findings: findings.collect::<Option<_>>()?,
            proposal,
            key_id: self.key_id,
            name: self.name,
            prefix: self.prefix,
            environment: self.environment,
            owner_id: self.owner_id,
            created_at: self.created_at,
            last_used_at: self.last_used_at,
            expires_at: self.expires_at,
            networks: self.networks,
        })
    }
}

/// A page of anything.
#[derive(Debug, Deserialize)]
struct PageBody<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
struct HygieneCountsBody {
    examined: i64,
    counts: BTreeMap<String, i64>,
}

impl HygieneCountsBody {
    /// A finding that an older server does not know is in no key.
    fn read(&self) -> HygieneCounts {
        HygieneCounts::new(self.examined, |finding| {
            self.counts.get(finding.as_str()).copied().unwrap_or(0)
        })
    }
}

#[derive(Debug, Default, Serialize)]
struct PreviewAsked<'a> {
    ids: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    revoke: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    networks: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origins: Option<Vec<String>>,
    days: u32,
}

impl<'a> PreviewAsked<'a> {
    fn of(ids: &'a [String], change: &ProposedChange, days: u32) -> Self {
        let mut asked = Self {
            ids,
            days,
            ..Self::default()
        };
        match change {
            ProposedChange::Revoke => asked.revoke = true,
            ProposedChange::Scopes(scopes) => {
                let scopes = scopes.as_slice().iter();
                asked.scopes = Some(scopes.map(|one| one.as_str().to_owned()).collect());
            }
            ProposedChange::Networks(list) => asked.networks = Some(list.texts().collect()),
            ProposedChange::Origins(list) => asked.origins = Some(list.texts().collect()),
        }
        asked
    }
}

#[derive(Debug, Deserialize)]
struct PreviewLineBody {
    key_id: String,
    caller: CallerBody,
    requirement: String,
    origin: String,
    uses: i64,
    last_at: i64,
    refused_with: Option<String>,
}

impl PreviewLineBody {
    fn read(self) -> Option<PreviewLine> {
        Some(PreviewLine {
            effect: match &self.refused_with {
                Some(code) => PreviewEffect::Refused(preview_code(code)?),
                None => PreviewEffect::Uncertain,
            },
            key_id: self.key_id,
            caller: self.caller.into(),
            requirement: self.requirement,
            origin: self.origin,
            uses: self.uses,
            last_at: self.last_at,
        })
    }
}

/// What a change can refuse a use with.
fn preview_code(text: &str) -> Option<&'static str> {
    let codes = [
        Refusal::Revoked.code(),
        Refusal::InsufficientScope(Vec::new()).code(),
        Refusal::IpNotAllowed.code(),
        Refusal::OriginNotAllowed.code(),
    ];
    codes.into_iter().find(|code| *code == text)
}

#[derive(Debug, Deserialize)]
struct PreviewBody {
    since: i64,
    requests: i64,
    refused: i64,
    uncertain: i64,
    by_code: BTreeMap<String, i64>,
    lines: Vec<PreviewLineBody>,
    total_lines: usize,
    is_partial: bool,
}

impl PreviewBody {
    fn read(self) -> Option<Preview> {
        let by_code = self.by_code.iter();
        let by_code = by_code.map(|(code, uses)| Some((preview_code(code)?, *uses)));
        let lines = self.lines.into_iter().map(PreviewLineBody::read);
        Some(Preview {
            by_code: by_code.collect::<Option<_>>()?,
            lines: lines.collect::<Option<_>>()?,
            since: self.since,
            requests: self.requests,
            refused: self.refused,
            uncertain: self.uncertain,
            total_lines: self.total_lines,
            is_partial: self.is_partial,
        })
    }
}

#[derive(Debug, Deserialize)]
struct AlertBody {
    id: String,
    kind: String,
    key_id: String,
    kid: String,
    caller: String,
    count: i64,
    first_at: i64,
    last_at: i64,
    seen_at: Option<i64>,
}

impl AlertBody {
    fn read(self) -> Option<Alert> {
        Some(Alert {
            kind: AlertKind::parse(&self.kind)?,
            id: self.id,
            key_id: self.key_id,
            kid: self.kid,
            caller: self.caller,
            count: self.count,
            first_at: self.first_at,
            last_at: self.last_at,
            seen_at: self.seen_at,
        })
    }
}

#[derive(Debug, Deserialize)]
struct UnseenBody {
    unseen: i64,
}

#[derive(Debug, Serialize)]
struct SeenBody {
    last_at: i64,
}

fn rules(rules: &HygieneRules) -> Vec<(&'static str, String)> {
    vec![
        ("idle_days", rules.idle_days.to_string()),
        ("window_days", rules.window_days.to_string()),
        ("networks", rules.networks.to_string()),
    ]
}

impl<C: Credentials> RemoteRegistry<C> {
    /// What was read whole, or nothing.
    fn whole<T>(&self, read: Option<T>) -> Result<T, AppError> {
        read.ok_or_else(|| self.not_keywright())
    }

    /// Who still uses the old secret of a key's open rotation, and when ending it is safe; at most 500
    /// callers of each kind.
    ///
    /// # Errors
    /// As the registry of this device; [`super::RemoteError`].
    pub async fn stragglers(&self, key_id: &str) -> Result<Known<Stragglers>, AppError> {
        let path = ["keys", key_id, "rotations", "current", "stragglers"];
        let board: Known<BoardBody> = self.read(Call::get(&path)).await?;
        Ok(Known {
            value: self.whole(board.value.read())?,
            as_of: board.as_of,
        })
    }

    /// Overlaps that end within `within_ms` while their old secret was used in the last hour, soonest
    /// first.
    ///
    /// # Errors
    /// [`super::RemoteError`].
    pub async fn warnings_before_close(
        &self,
        within_ms: i64,
    ) -> Result<Known<Vec<OverlapWarning>>, AppError> {
        let query = vec![("within_ms", within_ms.to_string())];
        let call = Call::get(&["overlaps", "closing"]).query(query);
        let list: Known<Items<ClosingBody>> = self.read(call).await?;
        Ok(list.with(|list| list.items.into_iter().map(OverlapWarning::from).collect()))
    }

    /// One page of the keys with one finding, 1 to 100.
    ///
    /// # Errors
    /// `out_of_bounds`, `invalid_cursor`; [`super::RemoteError`].
    pub async fn hygiene(&self, asked: &HygieneQuery) -> Result<Known<HygienePage>, AppError> {
        let path = ["hygiene", asked.finding.as_str()];
        let mut query = rules(&asked.rules);
        query.push(("limit", asked.limit.clamp(1, 100).to_string()));
        query.extend(
            asked
                .cursor
                .as_ref()
                .map(|cursor| ("cursor", cursor.clone())),
        );
        let page: Known<PageBody<HygieneBody>> = self.read(Call::get(&path).query(query)).await?;
        let items = page.value.items.into_iter().map(HygieneBody::read);
        Ok(Known {
            value: HygienePage {
                items: self.whole(items.collect())?,
                next_cursor: page.value.next_cursor,
            },
            as_of: page.as_of,
        })
    }

    /// How many keys have each finding.
    ///
    /// # Errors
    /// `out_of_bounds`; [`super::RemoteError`].
    pub async fn count_hygiene(
        &self,
        asked: &HygieneRules,
    ) -> Result<Known<HygieneCounts>, AppError> {
        let call = Call::get(&["hygiene"]).query(rules(asked));
        let counts: Known<HygieneCountsBody> = self.read(call).await?;
        Ok(counts.with(|counts| counts.read()))
    }

    /// Replays the uses of the last `days` (1 to 365) against a change of 1 to 1,000 keys.
    ///
    /// # Errors
    /// `key_not_found`, `out_of_bounds`; [`super::RemoteError`].
    pub async fn preview_change(
        &self,
        key_ids: &[String],
        change: &ProposedChange,
        days: u32,
    ) -> Result<Preview, AppError> {
        let body = PreviewAsked::of(key_ids, change, days);
        let call = Call::post(&["keys", "preview"]).json(&body).repeatable();
        let preview: PreviewBody = self.write(call).await?;
        self.whole(preview.read())
    }

    /// One page of alerts, 1 to 100, latest first.
    ///
    /// # Errors
    /// `invalid_cursor`; [`super::RemoteError`].
    pub async fn list_alerts(&self, asked: &AlertQuery) -> Result<Known<AlertPage>, AppError> {
        let mut query = vec![
            ("unseen", asked.unseen_only.to_string()),
            ("limit", asked.limit.clamp(1, 100).to_string()),
        ];
        query.extend(
            asked
                .cursor
                .as_ref()
                .map(|cursor| ("cursor", cursor.clone())),
        );
        let call = Call::get(&["alerts"]).query(query);
        let page: Known<PageBody<AlertBody>> = self.read(call).await?;
        let items = page.value.items.into_iter().map(AlertBody::read);
        Ok(Known {
            value: AlertPage {
                items: self.whole(items.collect())?,
                next_cursor: page.value.next_cursor,
            },
            as_of: page.as_of,
        })
    }

    /// How many alerts nobody looked at.
    ///
    /// # Errors
    /// [`super::RemoteError`].
    pub async fn count_unseen_alerts(&self) -> Result<Known<i64>, AppError> {
        let call = Call::get(&["alerts"]).query(vec![("limit", "1".to_owned())]);
        let first: Known<UnseenBody> = self.read(call).await?;
        Ok(first.with(|first| first.unseen))
    }

    /// Marks an alert as seen, as it was when its last time was `last_at`. Returns whether it was marked.
    ///
    /// # Errors
    /// [`super::RemoteError`].
    pub async fn mark_alert_seen(&self, id: &str, last_at: i64) -> Result<bool, AppError> {
        let path = ["alerts", id, "seen"];
        match self
            .tell(Call::post(&path).json(&SeenBody { last_at }))
            .await
        {
            Ok(()) => Ok(true),
            Err(error) if error.code() == "changed_meanwhile" => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_preview_with_a_code_that_no_change_refuses_with_is_refused_as_a_whole() {
        let of = |code: &str| {
            let body = json!({
                "since": 1, "requests": 2, "refused": 2, "uncertain": 0, "by_code": { code: 2 },
                "lines": [], "total_lines": 0, "is_partial": false,
            });
            serde_json::from_value::<PreviewBody>(body).unwrap().read()
        };
        assert_eq!(of("revoked").unwrap().by_code["revoked"], 2);
        assert_eq!(of("something_new"), None);
    }

    #[test]
    fn a_board_with_a_word_that_nobody_knows_is_refused_as_a_whole() {
        let caller = json!({ "client_label": "a", "network": "", "agent": "", "route": "" });
        let of = |trend: &str, progress: &str| {
            let body = json!({
                "caller": caller, "old_uses": 1, "old_last_at": 2, "trend": trend, "new_uses": 0,
                "new_last_at": null, "progress": progress,
            });
            serde_json::from_value::<StragglerBody>(body)
                .unwrap()
                .read()
                .map(|one| (one.trend, one.progress))
        };
        assert_eq!(
            of("rising", "partly"),
            Some((Trend::Rising, Progress::Partly))
        );
        assert_eq!(of("sideways", "partly"), None);
        assert_eq!(of("rising", "lost"), None);
    }
}
