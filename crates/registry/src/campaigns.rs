//! Campaigns of hygiene: who has keys that nobody would miss, or that can do more than they need, is
//! asked to keep or to retire each of them until a date. What the owners decide is done; what nobody
//! answers is listed, and suspended at that date only where the campaign says so.

mod answers;
mod questions;
mod settle;

use std::collections::BTreeMap;

use keywright_domain::api_keys::{DAY_MS, Environment};
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::base62::ordered_id;

use crate::insight::hygiene::{HygieneFinding, HygieneQuery, HygieneRules};
use crate::people::page::{self, Page, Position};
use crate::store::audit::NewEvent;
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

pub use answers::{Answer, Answered};
pub use questions::{Question, QuestionQuery, QuestionState, Told, UntoldQuestions};

/// Keys that one campaign asks about at most.
pub const MOST_QUESTIONS: usize = 5000;
/// The due date is at most so far away.
const LONGEST_MS: i64 = 366 * DAY_MS;
/// Owners whose keys are suspended without an answer have at least so long.
const SHORTEST_NOTICE_MS: i64 = DAY_MS;
/// Campaigns that are over are remembered for so long: longer than any answer holds.
const KEPT_MS: i64 = 400 * DAY_MS;
/// Keys looked at together.
const PAGE: u32 = 500;

/// The id of the event that asks an owner: by the campaign, and the first key that it asks about.
#[must_use]
pub fn asked_event(campaign_id: &str, first_key_id: &str) -> String {
    format!("hyg_{campaign_id}_{first_key_id}")
}

/// What becomes of keys that nobody answered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// They are listed, and go on.
    Leave,
    /// They are suspended at the due date, unless nothing is the matter with them any more.
    Disable,
}

impl Unanswered {
    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leave => "leave",
            Self::Disable => "disable",
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Leave, Self::Disable]
            .into_iter()
            .find(|one| one.as_str() == text)
    }

    /// [`Campaign::answers_until`], where the campaign itself is not at hand.
    pub(crate) fn answers_until(self, due_at: i64, told_at: i64) -> i64 {
        match self {
            Self::Leave => due_at,
            Self::Disable => due_at.max(told_at.saturating_add(SHORTEST_NOTICE_MS)),
        }
    }
}

/// Keys that a campaign is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CampaignFilter {
    /// Keys with any of these.
    pub findings: Vec<HygieneFinding>,
    /// From when on something is a finding.
    pub rules: HygieneRules,
    /// Of this environment alone.
    pub environment: Option<Environment>,
}

/// A campaign that is to begin.
#[derive(Clone, Debug)]
pub struct NewCampaign {
    /// 1 to 120 characters.
    pub name: String,
    /// About which keys.
    pub filter: CampaignFilter,
    /// Until when answers are expected (Unix ms): within 366 days, and not within a day where keys
    /// without an answer are suspended.
    pub due_at: i64,
    /// What becomes of keys that nobody answered for.
    pub unanswered: Unanswered,
}

/// A key that fits a campaign's filter, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The key.
    pub key_id: String,
    /// Those of the filter's findings that it has.
    pub findings: Vec<HygieneFinding>,
}

/// A campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Campaign {
    /// Stable id.
    pub id: String,
    /// For people.
    pub name: String,
    /// About which keys.
    pub filter: CampaignFilter,
    /// Until when answers are expected (Unix ms).
    pub due_at: i64,
    /// What becomes of keys that nobody answered for.
    pub unanswered: Unanswered,
    /// Who began it.
    pub created_by: String,
    /// When (Unix ms).
    pub created_at: i64,
    /// When it was called off (Unix ms).
    pub cancelled_at: Option<i64>,
    /// When what was due was done (Unix ms).
    pub closed_at: Option<i64>,
    /// Number of the newest change of a key that it made; 0 for none. Who knows of it knows of all.
    pub last_change: i64,
}

impl Campaign {
    /// `running`, `closed` or `cancelled`.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match (self.cancelled_at, self.closed_at) {
            (Some(_), _) => "cancelled",
            (None, Some(_)) => "closed",
            (None, None) => "running",
        }
    }

    /// Until when somebody can answer who is told of it only at `told_at` (Unix ms): nobody's key is
    /// suspended without a day's notice, however late the server was to give it.
    #[must_use]
    pub fn answers_until(&self, told_at: i64) -> i64 {
        self.unanswered.answers_until(self.due_at, told_at)
    }

    fn is_running(&self) -> bool {
        self.cancelled_at.is_none() && self.closed_at.is_none()
    }
}

/// How far a campaign came: questions by state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CampaignProgress {
    /// All of them.
    pub asked: i64,
    /// By [`QuestionState`]; those with none are left out.
    pub by_state: BTreeMap<&'static str, i64>,
}

impl LocalRegistry {
    /// The keys that fit a filter, in the order of their ids. Its time grows with the number of keys.
    ///
    /// # Errors
    /// [`RegistryError::Bounds`], also if there are more than [`MOST_QUESTIONS`].
    pub async fn campaign_candidates(
        &self,
        filter: &CampaignFilter,
    ) -> Result<Vec<Candidate>, RegistryError> {
        if filter.findings.is_empty() {
            return Err(RegistryError::Bounds(
                "a campaign is about one finding at least",
            ));
        }
        let mut found: BTreeMap<String, Candidate> = BTreeMap::new();
        for finding in &filter.findings {
            let mut query = HygieneQuery {
                finding: *finding,
                rules: filter.rules,
                cursor: None,
                limit: PAGE,
            };
            loop {
                let page = self.hygiene(&query).await?;
                let fits = |environment: &str| {
                    let wanted = filter.environment.as_ref();
                    wanted.is_none_or(|wanted| wanted.as_str() == environment)
                };
                for item in page.items {
                    if !fits(&item.environment) {
                        continue;
                    }
                    let findings = item.findings.into_iter();
                    let candidate = Candidate {
                        key_id: item.key_id,
                        findings: findings
                            .filter(|one| filter.findings.contains(one))
                            .collect(),
                    };
                    found.insert(candidate.key_id.clone(), candidate);
                }
                if found.len() > MOST_QUESTIONS {
                    return Err(RegistryError::Bounds(
                        "more than 5000 keys fit: name fewer findings, or an environment",
                    ));
                }
                query.cursor = page.next_cursor;
                if query.cursor.is_none() {
                    break;
                }
            }
        }
        Ok(found.into_values().collect())
    }

    /// Begins a campaign: one question for each candidate to its owner. Keys that are asked about
    /// already, that their owner decided to keep for longer, that are bait, that ended or that were left to
    /// another registry are not asked about; nor are management keys, whose end may be the caller's own.
    ///
    /// # Errors
    /// [`RegistryError::Bounds`]; [`RegistryError::Key`] for the name.
    pub async fn begin_campaign(
        &self,
        actor: &Actor,
        new: &NewCampaign,
        candidates: Vec<Candidate>,
    ) -> Result<Campaign, RegistryError> {
        let name = keywright_domain::api_keys::lifecycle::check_name(&new.name)?;
        let now = self.now();
        let campaign = Campaign {
            id: ordered_id(now, &mut rand::rng()),
            name,
            filter: new.filter.clone(),
            due_at: new.due_at,
            unanswered: new.unanswered,
            created_by: actor.as_str().to_owned(),
            created_at: now,
            cancelled_at: None,
            closed_at: None,
            last_change: 0,
        };
        self.write(
            (actor.clone(), campaign, candidates),
            |unit, (actor, campaign, candidates)| {
                Box::pin(begin(unit, actor, campaign, candidates))
            },
        )
        .await
    }

    /// A campaign and how far it came.
    ///
    /// # Errors
    /// [`RegistryError::CampaignNotFound`].
    pub async fn find_campaign(
        &self,
        id: &str,
    ) -> Result<(Campaign, CampaignProgress), RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let campaign = store::campaigns::find(&mut connection, id)
            .await?
            .ok_or(RegistryError::CampaignNotFound)?;
        let mut progress = CampaignProgress::default();
        for (state, count) in store::campaigns::count_by_state(&mut connection, id).await? {
            progress.asked += count;
            progress.by_state.insert(state.as_str(), count);
        }
        Ok((campaign, progress))
    }

    /// One page of campaigns, newest first.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`].
    pub async fn list_campaigns(
        &self,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<Campaign>, RegistryError> {
        let (after, limit) = (Position::read(cursor, true)?, page::limit(limit));
        let mut connection = self.shared.pool.acquire().await?;
        let place = (after.number, after.id.as_str());
        let found = store::campaigns::list(&mut connection, place, limit + 1).await?;
        Ok(page::cut(found, limit, |one: &Campaign| {
            Position::of(one.created_at, &one.id)
        }))
    }

    /// Calls a campaign off: nothing of it is done from now on, decided or not. What was done stands,
    /// and so does what was decided to be kept. Again, it changes nothing.
    ///
    /// # Errors
    /// [`RegistryError::CampaignNotFound`]; [`RegistryError::CampaignOver`] once it was closed.
    pub async fn cancel_campaign(
        &self,
        actor: &Actor,
        id: &str,
    ) -> Result<Campaign, RegistryError> {
        let input = (actor.clone(), id.to_owned());
        self.write(input, |unit, (actor, id)| {
            Box::pin(async move {
                let now = unit.now();
                let mut campaign = find(unit, id).await?;
                if campaign.cancelled_at.is_some() {
                    return Ok(campaign);
                }
                if campaign.closed_at.is_some() {
                    return Err(RegistryError::CampaignOver);
                }
                campaign.cancelled_at = Some(now);
                store::campaigns::update(unit.write(), &campaign).await?;
                store::campaigns::call_off(unit.write(), id, now).await?;
                let action = AuditAction::HygieneCampaignCancelled;
                unit.audit(actor, about(action, &campaign, "called off", Vec::new()));
                Ok(campaign)
            })
        })
        .await
    }
}

async fn begin(
    unit: &mut Unit,
    actor: &Actor,
    campaign: &Campaign,
    candidates: &[Candidate],
) -> Result<Campaign, RegistryError> {
    let now = unit.now();
    let notice = campaign.due_at.saturating_sub(now);
    if notice <= 0 || notice > LONGEST_MS {
        return Err(RegistryError::Bounds(
            "a campaign is due at a time to come, within 366 days",
        ));
    }
    if campaign.unanswered == Unanswered::Disable && notice < SHORTEST_NOTICE_MS {
        return Err(RegistryError::Bounds(
            "whose keys are suspended without an answer has a day at least to answer",
        ));
    }
    store::campaigns::prune(unit.write(), now.saturating_sub(KEPT_MS)).await?;
    store::campaigns::insert(unit.write(), campaign).await?;
    let mut asked = 0;
    for part in candidates.chunks(store::many::MOST) {
        let ids: Vec<_> = part.iter().map(|one| one.key_id.clone()).collect();
        let owners = store::campaigns::askable(unit.read(), &ids, now).await?;
        let questions: Vec<_> = part
            .iter()
            .filter_map(|one| {
                let owner = owners.get(&one.key_id)?;
                Some((one.key_id.clone(), owner.clone(), words(&one.findings)))
            })
            .collect();
        asked += questions.len();
        store::campaigns::insert_questions(unit.write(), &campaign.id, &questions, now).await?;
    }
    unit.made(&campaign.id);
    let details = vec![
        ("findings", words(&campaign.filter.findings)),
        ("asked", asked.to_string()),
        ("due_at", campaign.due_at.to_string()),
        ("unanswered", campaign.unanswered.as_str().to_owned()),
    ];
    let action = AuditAction::HygieneCampaignBegun;
    unit.audit(actor, about(action, campaign, "begun", details));
    Ok(campaign.clone())
}

/// A campaign that must be there.
async fn find(unit: &mut Unit, id: &str) -> Result<Campaign, RegistryError> {
    store::campaigns::find(unit.read(), id)
        .await?
        .ok_or(RegistryError::CampaignNotFound)
}

pub(crate) fn words(findings: &[HygieneFinding]) -> String {
    let words: Vec<_> = findings.iter().map(|one| one.as_str()).collect();
    words.join(" ")
}

fn about(
    action: AuditAction,
    campaign: &Campaign,
    verb: &str,
    details: Vec<(&'static str, String)>,
) -> NewEvent {
    NewEvent {
        action,
        target_kind: "hygiene_campaign",
        target_id: campaign.id.clone(),
        target_name: campaign.name.clone(),
        summary: format!("The hygiene campaign “{}” was {verb}", campaign.name),
        details,
    }
}
