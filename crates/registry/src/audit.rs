//! Reading the audit trail.

use crate::{LocalRegistry, RegistryError, store};

/// One event. It never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// Position, from 1, without gaps.
    pub sequence: i64,
    /// Unix ms.
    pub at: i64,
    /// For example `api_key.issued`.
    pub action: String,
    /// Who.
    pub actor: String,
    /// `api_key`, `account`, `scope` or `registry`.
    pub target_kind: String,
    /// Its id.
    pub target_id: String,
    /// Its name when it happened.
    pub target_name: String,
    /// One sentence.
    pub summary: String,
    /// Name and value.
    pub details: Vec<(String, String)>,
}

/// What events are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubjectFilter {
    /// Everything.
    #[default]
    All,
    /// API keys.
    ApiKeys,
    /// Accounts.
    Accounts,
    /// The registry and its scopes.
    Registry,
}

/// A page of events is asked for.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Part of an action, actor, name or summary.
    pub text: String,
    /// What events are about.
    pub subject: SubjectFilter,
    /// An action such as `api_key.issued`, or the beginning of several, such as `api_key.`.
    pub action: Option<String>,
    /// Who did it, as a whole.
    pub actor: Option<String>,
    /// Id of what it was done to, as a whole.
    pub target: Option<String>,
    /// Not before this moment (Unix ms).
    pub from: Option<i64>,
    /// Before this moment (Unix ms).
    pub until: Option<i64>,
    /// Only events before this sequence.
    pub before: Option<i64>,
    /// 1 to 500.
    pub limit: u32,
}

/// A page of events, newest first. It may be shorter than asked for and still have a
/// `next_before`: a search that finds little stops after 50,000 events.
#[derive(Clone, Debug)]
pub struct AuditPage {
    /// The events.
    pub items: Vec<AuditEvent>,
    /// `before` of the next page.
    pub next_before: Option<i64>,
    /// Where the search stopped: of the events before this one nothing is known yet. None if it
    /// found enough, or looked at them all.
    pub searched_back_to: Option<i64>,
}

impl LocalRegistry {
    /// One page of the audit trail, newest first.
    ///
    /// # Errors
    /// [`RegistryError`] if the file cannot be read.
    pub async fn list_audit_events(&self, query: AuditQuery) -> Result<AuditPage, RegistryError> {
        let limit = query.limit.clamp(1, 500);
        let query = AuditQuery {
            limit: limit + 1,
            ..query
        };
        let (mut items, searched_back_to) =
            store::audit::list(&mut *self.shared.pool.acquire().await?, &query).await?;
        let has_enough = items.len() > limit as usize;
        items.truncate(limit as usize);
        let last = items.last().map(|event| event.sequence);
        let searched_back_to = searched_back_to.filter(|_| !has_enough);
        Ok(AuditPage {
            next_before: last.filter(|_| has_enough).or(searched_back_to),
            items,
            searched_back_to,
        })
    }
}
