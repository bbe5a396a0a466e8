//! Questions of campaigns: lists of them, and those whose owners were not told yet.

use super::{Campaign, store};
use crate::insight::hygiene::HygieneFinding;
use crate::people::page::{self, Page, Position};
use crate::{LocalRegistry, RegistryError};

/// How a question stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuestionState {
    /// Nobody answered.
    Open,
    /// The owner decided to keep the key.
    Keep,
    /// The owner decided to retire the key at the due date.
    Retire,
    /// The key was retired as its owner decided.
    Retired,
    /// Nobody answered, and the key was suspended at the due date.
    Disabled,
    /// Nobody answered, and nothing was the matter with the key any more at the due date.
    Cleared,
    /// Nobody answered until the due date; the key goes on.
    Unanswered,
    /// The key had ended otherwise, or had been left to another registry.
    Gone,
    /// The campaign was called off.
    Cancelled,
}

impl QuestionState {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Open,
        Self::Keep,
        Self::Retire,
        Self::Retired,
        Self::Disabled,
        Self::Cleared,
        Self::Unanswered,
        Self::Gone,
        Self::Cancelled,
    ];

    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Keep => "keep",
            Self::Retire => "retire",
            Self::Retired => "retired",
            Self::Disabled => "disabled",
            Self::Cleared => "cleared",
            Self::Unanswered => "unanswered",
            Self::Gone => "gone",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }

    /// Whether it can be answered, or answered otherwise.
    #[must_use]
    pub fn waits(self) -> bool {
        matches!(self, Self::Open | Self::Keep | Self::Retire)
    }
}

/// Whether an owner knows of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Not yet.
    NotYet,
    /// There was nobody to tell: no address, and no webhook that wants it.
    Nobody,
    /// Messages were written then (Unix ms).
    At(i64),
}

/// A question to the owner of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The campaign.
    pub campaign_id: String,
    /// Its name.
    pub campaign_name: String,
    /// Until when the campaign expects answers (Unix ms).
    pub due_at: i64,
    /// Until when this one can be answered (Unix ms): `due_at`, or later where its owner was told late
    /// ([`Campaign::answers_until`]).
    pub answers_until: i64,
    /// The key.
    pub key_id: String,
    /// Its name now.
    pub key_name: String,
    /// Who was asked.
    pub owner_id: String,
    /// What was the matter with the key.
    pub findings: Vec<HygieneFinding>,
    /// How it stands.
    pub state: QuestionState,
    /// When it was asked (Unix ms).
    pub asked_at: i64,
    /// Whether its owner knows.
    pub told: Told,
    /// When it was answered (Unix ms).
    pub answered_at: Option<i64>,
    /// By whom.
    pub answered_by: Option<String>,
    /// Why so.
    pub reason: String,
    /// Until when a kept key is not asked about again (Unix ms).
    pub keep_until: Option<i64>,
    /// How a key is retired: `revoke` or `disable`.
    pub how: Option<String>,
    /// When nothing more was to be done (Unix ms).
    pub settled_at: Option<i64>,
}

/// Which questions.
#[derive(Clone, Debug, Default)]
pub struct QuestionQuery {
    /// Of this campaign; none: of those that run.
    pub campaign_id: Option<String>,
    /// To this owner.
    pub owner_id: Option<String>,
    /// In this state.
    pub state: Option<QuestionState>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// 1 to 500.
    pub limit: u32,
}

/// Questions of one campaign to one owner, whom nobody told of them yet.
#[derive(Clone, Debug)]
pub struct UntoldQuestions {
    /// The campaign.
    pub campaign: Campaign,
    /// The owner.
    pub owner_id: String,
    /// Id and name of each key.
    pub keys: Vec<(String, String)>,
}

impl LocalRegistry {
    /// One page of questions: of a campaign by key, otherwise of all that can still be answered, oldest
    /// first.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`]; [`RegistryError::CampaignNotFound`].
    pub async fn list_questions(
        &self,
        query: &QuestionQuery,
    ) -> Result<Page<Question>, RegistryError> {
        let (after, limit) = (
            Position::read(query.cursor.as_deref(), false)?,
            page::limit(query.limit),
        );
        let mut connection = self.shared.pool.acquire().await?;
        let owner = query.owner_id.as_deref().unwrap_or("");
        let state = query.state.map_or("", QuestionState::as_str);
        let Some(campaign) = &query.campaign_id else {
            let place = (after.number, after.text.as_str(), after.id.as_str());
            let found =
                store::campaigns::list_waiting(&mut connection, owner, state, place, limit + 1)
                    .await?;
            return Ok(page::cut(found, limit, |one: &Question| Position {
                number: one.asked_at,
                text: one.key_id.clone(),
                id: one.campaign_id.clone(),
            }));
        };
        if store::campaigns::find(&mut connection, campaign)
            .await?
            .is_none()
        {
            return Err(RegistryError::CampaignNotFound);
        }
        let found = store::campaigns::list_questions(
            &mut connection,
            campaign,
            (owner, state),
            &after.id,
            limit + 1,
        )
        .await?;
        Ok(page::cut(found, limit, |one: &Question| {
            Position::of(0, &one.key_id)
        }))
    }

    /// One question.
    ///
    /// # Errors
    /// [`RegistryError::QuestionNotFound`].
    pub async fn find_question(
        &self,
        campaign_id: &str,
        key_id: &str,
    ) -> Result<Question, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        store::campaigns::find_question(&mut connection, campaign_id, key_id)
            .await?
            .ok_or(RegistryError::QuestionNotFound)
    }

    /// Questions that nobody was told of, for one owner after another, `limit` (1 to 500) in all: an
    /// owner with all of theirs, unless these are more than `limit` alone.
    /// Written down as told by [`crate::outbox::MadeOf::Questions`].
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn untold_questions(
        &self,
        limit: u32,
    ) -> Result<Vec<UntoldQuestions>, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let limit = i64::from(limit.clamp(1, 500));
        let found = store::campaigns::untold(&mut connection, limit).await?;
        let is_full = found.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        let mut all: Vec<UntoldQuestions> = Vec::new();
        for (campaign_id, owner_id, key_id, name) in found {
            if let Some(last) = all.last_mut()
                && last.campaign.id == campaign_id
                && last.owner_id == owner_id
            {
                last.keys.push((key_id, name));
                continue;
            }
            let Some(campaign) = store::campaigns::find(&mut connection, &campaign_id).await?
            else {
                continue;
            };
            all.push(UntoldQuestions {
                campaign,
                owner_id,
                keys: vec![(key_id, name)],
            });
        }
        // The last one may have more than this page shows: told the next time, of all at once.
        if is_full && all.len() > 1 {
            all.pop();
        }
        Ok(all)
    }
}
