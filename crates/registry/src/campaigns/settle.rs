//! The due date of a campaign. One node does what was decided, once, however late: what was done of a
//! key is written down in the transaction that does it.

use std::collections::HashMap;

use keywright_domain::audit::{Actor, AuditAction};

use super::questions::{Question, QuestionState};
use super::{Campaign, Unanswered, about, answers, find, store};
use crate::api_keys::{End, end_key_for};
use crate::insight::hygiene::HygieneFinding;
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError};

/// Questions of one transaction.
const CHUNK: i64 = 50;

/// Findings of keys, by id.
type Findings = HashMap<String, Vec<HygieneFinding>>;

impl LocalRegistry {
    /// Does what is due of campaigns: keys are retired as their owners decided; keys that nobody
    /// answered for are suspended where the campaign says so and something is still the matter with
    /// them. Returns how many campaigns were closed.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read or written: the rest has its turn the next time.
    pub async fn settle_campaigns(&self, actor: &Actor) -> Result<usize, RegistryError> {
        let mut closed = 0;
        loop {
            let mut connection = self.shared.pool.acquire().await?;
            let due = store::campaigns::due(&mut connection, self.now()).await?;
            drop(connection);
            let Some(campaign) = due else {
                return Ok(closed);
            };
            self.settle_campaign(actor, &campaign).await?;
            closed += 1;
        }
    }

    async fn settle_campaign(
        &self,
        actor: &Actor,
        campaign: &Campaign,
    ) -> Result<(), RegistryError> {
        loop {
            let mut connection = self.shared.pool.acquire().await?;
            let found = store::campaigns::unsettled(&mut connection, &campaign.id, CHUNK).await?;
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
            let input = (actor.clone(), campaign.id.clone(), found, findings);
            let more = self
                .write(input, |unit, (actor, id, found, findings)| {
                    Box::pin(settle(unit, actor, id, found, findings))
                })
                .await?;
            if !more {
                return Ok(());
            }
        }
    }
}

/// Settles these questions; closes the campaign where there are none. Returns whether it goes on.
async fn settle(
    unit: &mut Unit,
    actor: &Actor,
    id: &str,
    found: &[Question],
    findings: &Findings,
) -> Result<bool, RegistryError> {
    let now = unit.now();
    let mut campaign = find(unit, id).await?;
    // Somebody was faster, or called it off.
    if !campaign.is_running() || campaign.due_at > now {
        return Ok(false);
    }
    if found.is_empty() {
        campaign.closed_at = Some(now);
        store::campaigns::update(unit.write(), &campaign).await?;
        let counts = store::campaigns::count_by_state(unit.read(), id).await?;
        let counts = counts.iter();
        let details = counts.map(|(state, count)| (state.as_str(), count.to_string()));
        let action = AuditAction::HygieneCampaignClosed;
        unit.audit(actor, about(action, &campaign, "closed", details.collect()));
        return Ok(false);
    }
    for question in found {
        // As it stands here: its owner may have answered since it was read.
        let seen = store::campaigns::find_question(unit.read(), id, &question.key_id).await?;
        let Some(mut question) = seen.filter(|one| one.settled_at.is_none()) else {
            continue;
        };
        let change = settle_one(unit, actor, &campaign, &mut question, findings).await?;
        campaign.last_change = campaign.last_change.max(change);
        store::campaigns::update_question(unit.write(), &question).await?;
    }
    store::campaigns::update(unit.write(), &campaign).await?;
    Ok(true)
}

/// Returns the number of the change of the key; 0 for none.
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
    let reason = format!("nobody answered for it, asked by “{}”", campaign.name);
    let more = vec![("campaign", campaign.id.clone())];
    let key = end_key_for(unit, actor, &key.id, &reason, End::Disable, more).await?;
    question.state = QuestionState::Disabled;
    Ok(key.epoch)
}
