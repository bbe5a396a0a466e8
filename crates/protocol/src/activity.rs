//! Activity: the audit trail as a person reads it.

use serde::{Deserialize, Serialize};
use specta::Type;

/// Filter by what an event is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum AuditSubjectFilter {
    /// Everything.
    #[default]
    All,
    /// API keys.
    ApiKeys,
    /// Accounts and sign-ins.
    Accounts,
    /// Scopes, settings and the registry itself.
    Registry,
}

/// One page of events, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct AuditListRequest {
    /// Part of a name, actor, action or target; empty for no filter.
    pub text: String,
    /// Filter by subject.
    pub subject: AuditSubjectFilter,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Rows wanted, 1 to 500.
    pub limit: u32,
}

/// A page of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct AuditPageView {
    /// The rows.
    pub items: Vec<AuditEventView>,
    /// Pass it back for the next page.
    pub next_cursor: Option<String>,
}

/// One event. It never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct AuditEventView {
    /// Position in the trail, from 1, without gaps.
    pub sequence: i64,
    /// When.
    pub at: i64,
    /// Stable: `api_key.issued`, `api_key.rotated`, `api_key.revoked`, `account.signed_in`, …
    pub action: String,
    /// Who: the operating system's user, or `keywright` itself.
    pub actor: String,
    /// Kind of the target: `api_key`, `account`, `scope`, `registry`.
    pub target_kind: String,
    /// Id of the target.
    pub target_id: String,
    /// Name of the target when it happened. Hostile text.
    pub target_name: String,
    /// One sentence for people. Hostile text inside.
    pub summary: String,
    /// Pairs of name and value, for the details.
    pub details: Vec<AuditDetailView>,
}

/// One detail of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct AuditDetailView {
    /// Name.
    pub name: String,
    /// Value, as text.
    pub value: String,
}
