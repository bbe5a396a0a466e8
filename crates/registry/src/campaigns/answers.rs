//! What owners answer: keep the key, until when and why, or retire it, at once or at the due date.

use keywright_domain::api_keys::{ApiKey, DAY_MS, KeyError};
use keywright_domain::audit::{Actor, AuditAction};

use super::questions::{Question, QuestionState};
use super::{Campaign, find, store};
use crate::api_keys::{End, about_key, end_key_for};
use crate::schedules::notices::short;
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError};

/// A key is kept for so long at most before its owner is asked again.
const LONGEST_KEEP_MS: i64 = 366 * DAY_MS;

/// What an owner decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Keep the key; nobody asks about it again before `until`.
    Keep {
        /// A time to come (Unix ms), within 366 days.
        until: i64,
        /// Required.
        reason: String,
    },
    /// Retire it.
    Retire {
        /// End it for good; otherwise it is suspended and can be enabled again.
        revoke: bool,
        /// Now, and not at the due date.
        at_once: bool,
        /// May be empty.
        reason: String,
    },
}

/// What came of an answer.
#[derive(Clone, Debug)]
pub struct Answered {
    /// How the question stands.
    pub question: Question,
    /// The key, where it was retired at once.
    pub ended: Option<ApiKey>,
}

impl LocalRegistry {
    /// Answers a question, or answers it otherwise than before. Whether the caller may is for the
    /// caller to know: they must be allowed to change the key.
    ///
    /// # Errors
    /// [`RegistryError::QuestionNotFound`], [`RegistryError::CampaignOver`];
    /// [`RegistryError::QuestionSettled`] once the key was retired, or its due date was seen to;
    /// [`RegistryError::Bounds`]; [`RegistryError::Key`] if a reason is missing or the key is not kept here.
    pub async fn answer_question(
        &self,
        actor: &Actor,
        campaign_id: &str,
        key_id: &str,
        answer: &Answer,
    ) -> Result<Answered, RegistryError> {
        let input = (
            actor.clone(),
            campaign_id.to_owned(),
            key_id.to_owned(),
            answer.clone(),
        );
        self.write(input, |unit, (actor, campaign_id, key_id, answer)| {
            Box::pin(give(unit, actor, (campaign_id, key_id), answer))
        })
        .await
    }
}

async fn give(
    unit: &mut Unit,
    actor: &Actor,
    (campaign_id, key_id): (&str, &str),
    answer: &Answer,
) -> Result<Answered, RegistryError> {
    let now = unit.now();
    let mut question = store::campaigns::find_question(unit.read(), campaign_id, key_id)
        .await?
        .ok_or(RegistryError::QuestionNotFound)?;
    let mut campaign = find(unit, campaign_id).await?;
    if !campaign.is_running() {
        return Err(RegistryError::CampaignOver);
    }
    // A key that its owner kept is settled as `keep`: nothing more would be done of another answer.
    if question.settled_at.is_some() || !question.state.waits() {
        return Err(RegistryError::QuestionSettled);
    }
    let key = crate::api_keys::find(unit, key_id).await?;
    key.check_is_kept_here()?;
    if key.revoked_at.is_some() {
        return Err(KeyError::Revoked.into());
    }
    question.answered_at = Some(now);
    question.answered_by = Some(actor.as_str().to_owned());
    question.keep_until = None;
    question.how = None;
    let mut ended = None;
    match answer {
        Answer::Keep { until, reason } => {
            let reason = short(reason.trim());
            if reason.is_empty() {
                return Err(KeyError::ReasonRequired.into());
            }
            let time = until.saturating_sub(now);
            if time <= 0 || time > LONGEST_KEEP_MS {
                return Err(RegistryError::Bounds(
                    "a key is kept until a time to come, within 366 days",
                ));
            }
            question.state = QuestionState::Keep;
            question.keep_until = Some(*until);
            question.reason = reason;
        }
        Answer::Retire {
            revoke,
            at_once,
            reason,
        } => {
            question.how = Some(if *revoke { "revoke" } else { "disable" }.to_owned());
            question.reason = short(reason.trim());
            question.state = QuestionState::Retire;
            if *at_once {
                let key = retire(unit, actor, &campaign, &mut question).await?;
                campaign.last_change = campaign.last_change.max(key.epoch);
                store::campaigns::update(unit.write(), &campaign).await?;
                ended = Some(key);
            }
        }
    }
    store::campaigns::update_question(unit.write(), &question).await?;
    unit.made(key_id);
    // What ended the key is written down with it; one that was suspended before was not ended now.
    if ended.as_ref().is_none_or(|ended| ended.epoch == key.epoch) {
        let verb = match question.state {
            QuestionState::Keep => "kept by its owner's decision",
            QuestionState::Retire => "to be retired at the due date",
            _ => "retired by its owner's decision",
        };
        let mut details = details(&campaign, &question);
        if let Some(until) = question.keep_until {
            details.push(("keep_until", until.to_string()));
        }
        let action = AuditAction::HygieneAnswered;
        unit.audit(actor, about_key(action, &key, verb, details));
    }
    Ok(Answered { question, ended })
}

pub(super) fn details(campaign: &Campaign, question: &Question) -> Vec<(&'static str, String)> {
    let mut details = vec![("campaign", campaign.id.clone())];
    if !question.reason.is_empty() {
        details.push(("reason", question.reason.clone()));
    }
    if let Some(how) = &question.how {
        details.push(("how", how.clone()));
    }
    details
}

/// Retires a key as its owner decided.
pub(super) async fn retire(
    unit: &mut Unit,
    actor: &Actor,
    campaign: &Campaign,
    question: &mut Question,
) -> Result<ApiKey, RegistryError> {
    let end = match question.how.as_deref() {
        Some("revoke") => End::Revoke,
        _ => End::Disable,
    };
    let reason = match question.reason.as_str() {
        "" => format!("its owner retired it, asked by “{}”", campaign.name),
        reason => reason.to_owned(),
    };
    let more = vec![("campaign", campaign.id.clone())];
    let key = end_key_for(unit, actor, &question.key_id, &reason, end, more).await?;
    question.state = QuestionState::Retired;
    question.settled_at = Some(unit.now());
    Ok(key)
}
