//! Notices: what a person is told about the keys of the registry in use. Nothing secret is in them.

use serde::{Deserialize, Serialize};
use specta::Type;

/// What happened or will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// The newest secret of a key expires.
    KeyExpiring,
    /// A rotation is due.
    RotationDue,
    /// A schedule made a secret that waits to be taken.
    RotationPending,
    /// An overlap ends while somebody uses the old secret.
    OverlapClosing,
    /// A new secret did not reach its place.
    DeliveryFailed,
    /// A key was found where none belongs.
    KeyExposed,
    /// Somebody says so, and showed no whole key.
    KeyReported,
    /// A secret was used after its end.
    RetiredSecretUsed,
    /// A canary key was used.
    CanaryUsed,
    /// An owner is asked to keep or to retire keys.
    HygieneAsked,
    /// A webhook was switched off.
    WebhookDisabled,
    /// All keys of somebody were revoked.
    OwnerKeysRevoked,
}

/// One page of notices, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct NoticeListRequest {
    /// Only what is neither read nor settled.
    pub unread_only: bool,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Rows wanted, 1 to 100.
    pub limit: u32,
}

/// A page of notices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct NoticePageView {
    /// The rows.
    pub items: Vec<NoticeView>,
    /// Pass it back for the next page.
    pub next_cursor: Option<String>,
    /// How many in all are neither read nor settled; 100 for as many and more.
    pub unread: i64,
    /// The server does not answer: this was so at this moment. Absent for what is so now.
    pub stale_since: Option<i64>,
}

/// A notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct NoticeView {
    /// Its id; later news of the same matter have a greater one, and take its place.
    pub id: i64,
    /// What.
    pub kind: NoticeKind,
    /// When it was put up.
    pub at: i64,
    /// The key that it is about.
    pub key_id: Option<String>,
    /// The key's name now, or that of what is no key. Hostile text: show as text.
    pub name: String,
    /// The public id of the secret that it is about.
    pub kid: Option<String>,
    /// When something ends or is due.
    pub due_at: Option<i64>,
    /// How many callers, uses or keys; 0 where nothing is counted.
    pub count: i64,
    /// Who did it, or why it failed. Hostile text: show as text.
    pub detail: String,
    /// Nothing is left to do about it.
    pub settled: bool,
    /// Whether the person has read it.
    pub read: bool,
}

/// What is left after something was marked as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct UnreadNoticesView {
    /// How many are neither read nor settled; 100 for as many and more.
    pub unread: i64,
}
