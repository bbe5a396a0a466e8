//! The due date of a campaign. One node does what was decided, once, however late: what was done of a
//! key is written down in the transaction that does it.

use std::collections::HashMap;

use keywright_domain::api_keys::DAY_MS;
use keywright_domain::audit::{Actor, AuditAction};

use super::questions::{Question, QuestionState, Told};
use super::{Campaign, Unanswered, about, answers, asked_event, find, store};
use crate::api_keys::{End, end_key_for};
use crate::insight::hygiene::HygieneFinding;
use crate::outbox::{Channel, MessageState};
use crate::store::outbox::{self, Asked};
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError};

/// Questions of one transaction.
const CHUNK: i64 = 50;
/// A message that waits longer than this leaves no more: tries end after a day and a half.
const GIVEN_UP_MS: i64 = 3 * DAY_MS;

/// Findings of keys, by id.
type Findings = HashMap<String, Vec<HygieneFinding>>;

impl LocalRegistry {
    /// Does what is due of campaigns: keys are retired as their owners decided; keys that nobody
    /// answered for are suspended where the campaign says so, something is still the matter with
    /// them and their owners had a day's notice. What waits for that notice has its turn later, and the
    /// campaign goes on until then. Returns how many campaigns were closed.
    ///
    /// # Errors
    /// [`RegistryError`] of the first campaign that could not be settled: it has its turn the next time.
    /// The others were settled all the same.
    pub async fn settle_campaigns(&self, actor: &Actor) -> Result<usize, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let due = store::campaigns::due(&mut connection, self.now()).await?;
        drop(connection);
        let (mut closed, mut failed) = (0, None);
        for id in due {
            match self.settle_campaign(actor, &id).await {
                Ok(is_closed) => closed += usize::from(is_closed),
                Err(error) => {
                    tracing::warn!(
                        campaign = id,
                        code = error.code(),
                        "a campaign waits for its next turn"
                    );
                    failed = failed.or(Some(error));
                }
            }
        }
        failed.map_or(Ok(closed), Err)
    }

    /// Returns whether it was closed here.
    async fn settle_campaign(&self, actor: &Actor, id: &str) -> Result<bool, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let campaign = store::campaigns::find(&mut connection, id).await?;
        drop(connection);
        let Some(campaign) = campaign else {
            return Ok(false);
        };
        let mut after = String::new();
        loop {
            let mut connection = self.shared.pool.acquire().await?;
            let found = store::campaigns::unsettled(&mut connection, id, &after, CHUNK).await?;
            drop(connection);
            let ids: Vec<String> = found
                .iter()
                .filter(|one| one.state == QuestionState::Open)
                .map(|one| one.key_id.clone())
                .collect();
            let findings = match campaign.unanswered {
                Unanswered::Disable if !ids.is_empty() => {
                    self.findings_of(&campaign.filter.rules, &ids).await?
                }
                _ => Findings::new(),
            };
            let last = found.last().map(|one| one.key_id.clone());
            let input = (actor.clone(), id.to_owned(), found, findings);
            let step = self
                .write(input, |unit, (actor, id, found, findings)| {
                    Box::pin(settle(unit, actor, id, found, findings))
                })
                .await?;
            match (step, last) {
                (Step::GoesOn, Some(last)) => after = last,
                (step, _) => return Ok(step == Step::Closed),
            }
        }
    }
}

/// What came of a part of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// There may be more.
    GoesOn,
    /// Questions are left that wait for their owners' notice; or another node was faster.
    Left,
    /// That was all.
    Closed,
}

/// Settles these questions; where there are none, closes the campaign unless some wait.
async fn settle(
    unit: &mut Unit,
    actor: &Actor,
    id: &str,
    found: &[Question],
    findings: &Findings,
) -> Result<Step, RegistryError> {
    let now = unit.now();
    let mut campaign = find(unit, id).await?;
    // Somebody was faster, or called it off.
    if !campaign.is_running() || campaign.due_at > now {
        return Ok(Step::Left);
    }
    if found.is_empty() {
        let waiting = store::campaigns::unsettled(unit.read(), id, "", 1).await?;
        if !waiting.is_empty() {
            return Ok(Step::Left);
        }
        campaign.closed_at = Some(now);
        store::campaigns::update(unit.write(), &campaign).await?;
        let counts = store::campaigns::count_by_state(unit.read(), id).await?;
        let counts = counts.iter();
        let details = counts.map(|(state, count)| (state.as_str(), count.to_string()));
        let action = AuditAction::HygieneCampaignClosed;
        unit.audit(actor, about(action, &campaign, "closed", details.collect()));
        return Ok(Step::Closed);
    }
    let mut settled = false;
    for question in found {
        // As it stands here: its owner may have answered since it was read.
        let seen = store::campaigns::find_question(unit.read(), id, &question.key_id).await?;
        let Some(mut question) = seen.filter(|one| one.settled_at.is_none()) else {
            continue;
        };
        let change = settle_one(unit, actor, &campaign, &mut question, findings).await?;
        if question.settled_at.is_none() {
            continue;
        }
        settled = true;
        campaign.last_change = campaign.last_change.max(change);
        store::campaigns::update_question(unit.write(), &question).await?;
    }
    // Where all wait there is nothing to write, each minute until they had their notice.
    if settled {
        store::campaigns::update(unit.write(), &campaign).await?;
    }
    Ok(Step::GoesOn)
}

/// Returns the number of the change of the key; 0 for none. A question that waits is left as it is.
async fn settle_one(
    unit: &mut Unit,
    actor: &Actor,
    campaign: &Campaign,
    question: &mut Question,
    findings: &Findings,
) -> Result<i64, RegistryError> {
    question.settled_at = Some(unit.now());
    if question.state == QuestionState::Keep {
        return Ok(0);
    }
    let key = crate::api_keys::find(unit, &question.key_id).await?;
    if key.revoked_at.is_some() || key.promoted_to.is_some() {
        question.state = QuestionState::Gone;
        return Ok(0);
    }
    if question.state == QuestionState::Retire {
        let key = answers::retire(unit, actor, campaign, question).await?;
        return Ok(key.epoch);
    }
    if campaign.unanswered == Unanswered::Leave {
        question.state = QuestionState::Unanswered;
        return Ok(0);
    }
    // Nobody's key is suspended for what is not so any more: somebody uses it by now, or mended it.
    let still = findings.get(&question.key_id);
    if !still.is_some_and(|now| now.iter().any(|one| campaign.filter.findings.contains(one))) {
        question.state = QuestionState::Cleared;
        return Ok(0);
    }
    match heard(unit, campaign, question).await? {
        Told::At(at) if campaign.answers_until(at) <= unit.now() => {}
        // Silence of somebody who could not be told says nothing.
        Told::Nobody => {
            question.state = QuestionState::Unanswered;
            return Ok(0);
        }
        Told::At(_) | Told::NotYet => {
            question.settled_at = None;
            return Ok(0);
        }
    }
    let reason = format!("nobody answered for it, asked by “{}”", campaign.name);
    let more = vec![("campaign", campaign.id.clone())];
    let key = end_key_for(unit, actor, &key.id, &reason, End::Disable, more).await?;
    question.state = QuestionState::Disabled;
    Ok(key.epoch)
}

/// Whether the owner can have heard of a question: not what was written down counts, but what left. Mail decides where
/// there was any, else webhooks. What cannot be found any more is taken to have left.
async fn heard(
    unit: &mut Unit,
    campaign: &Campaign,
    question: &Question,
) -> Result<Told, RegistryError> {
    let Told::At(told_at) = question.told else {
        return Ok(question.told);
    };
    let all = outbox::asked_at(unit.read(), &question.owner_id, told_at).await?;
    let prefix = asked_event(&campaign.id, "");
    let mut found: Vec<Asked> = Vec::new();
    for one in all {
        let Some(first) = one.event_id.strip_prefix(&prefix) else {
            continue;
        };
        // Another owner may have been asked at the same moment.
        let of_first = store::campaigns::find_question(unit.read(), &campaign.id, first).await?;
        if of_first.is_some_and(|first| first.owner_id == question.owner_id) {
            found.push(one);
        }
    }
    if found
        .iter()
        .any(|one| one.channel == Channel::Mail.as_str())
    {
        found.retain(|one| one.channel == Channel::Mail.as_str());
    }
    if found.is_empty() {
        return Ok(question.told);
    }
    let is = |one: &&Asked, state: MessageState| one.state == state.as_str();
    let delivered = found.iter().filter(|one| is(one, MessageState::Delivered));
    if let Some(at) = delivered.filter_map(|one| one.ended_at).min() {
        return Ok(Told::At(at));
    }
    let waits = found.iter().any(|one| is(&one, MessageState::Waiting));
    let is_late = unit.now().saturating_sub(told_at) > GIVEN_UP_MS;
    Ok(if waits && !is_late {
        Told::NotYet
    } else {
        Told::Nobody
    })
}
