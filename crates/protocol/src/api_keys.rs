//! API keys: records without secrets, and the one path that shows a secret once.

mod delivery;
mod rotation;
mod settings;

use serde::{Deserialize, Serialize};
use specta::Type;

pub use delivery::{
    CommandRequest, DeliverSecretRequest, DeliveryOutcome, DeliveryState, DeliveryTarget,
    DeliveryView,
};
pub use rotation::{
    OverlapClock, RotateApiKeyRequest, RotationState, RotationStep, RotationView,
    StepRotationRequest,
};
pub use settings::{ApiKeySettingsView, IssueSettingsRequest, RateLimitRequest, RateLimitView};

/// State of a key (the record).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum ApiKeyState {
    /// Its active secret verifies.
    Active,
    /// Two secrets verify until the overlap ends.
    Rotating,
    /// No secret verifies any more: past its expiry.
    Expired,
    /// Suspended by a person; can be enabled again.
    Disabled,
    /// Ended by a person; never comes back.
    Revoked,
}

/// State of one secret of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum SecretState {
    /// Issued by a rotation, not seen in use yet; verifies.
    Pending,
    /// Verifies.
    Active,
    /// Verifies until `retires_at`.
    Retiring,
    /// Its overlap ended.
    Retired,
    /// Past its own expiry.
    Expired,
    /// Ended by a person.
    Revoked,
    /// A rotation that was cancelled before its first use.
    Aborted,
}

/// One secret of a key, without the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct SecretView {
    /// Public id of the secret; safe to show.
    pub kid: String,
    /// Last four characters of the key string.
    pub last_four: String,
    /// State now.
    pub state: SecretState,
    /// When it was made.
    pub created_at: i64,
    /// When it expires by itself; absent for "never".
    pub expires_at: Option<i64>,
    /// When its overlap ends, while retiring; the retirement, once retired.
    pub retires_at: Option<i64>,
    /// First verification that accepted it.
    pub first_used_at: Option<i64>,
    /// Latest verification that accepted it.
    pub last_used_at: Option<i64>,
    /// How many verifications accepted it.
    pub use_count: i64,
}

/// A key, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyView {
    /// Stable id; survives every rotation.
    pub id: String,
    /// Given by a person. Hostile text: show as text, capped.
    pub name: String,
    /// For example `sk_live`.
    pub prefix: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// State now.
    pub state: ApiKeyState,
    /// Kid of the newest live secret (or of the last one that lived).
    pub kid: String,
    /// Last four characters of that secret.
    pub last_four: String,
    /// When it was first issued.
    pub created_at: i64,
    /// When the newest secret expires; absent for "never".
    pub expires_at: Option<i64>,
    /// While rotating: until when the old secret works.
    pub old_secret_works_until: Option<i64>,
    /// Latest accepted verification of any of its secrets.
    pub last_used_at: Option<i64>,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
    /// Why it was revoked.
    pub revoked_reason: Option<String>,
    /// When a revocation was asked for that waits for the server: the key still works.
    pub revocation_queued_at: Option<i64>,
    /// The registry it was moved to, by its issuer. It is changed there; this copy goes on verifying until
    /// it is revoked, which ends the copy alone.
    pub moved_to: Option<String>,
    /// Whether the person may change, rotate and end it: a server may let them see keys of others.
    pub may_change: bool,
}

/// A key with its secrets, newest first, and its history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyDetailView {
    /// The record.
    pub key: ApiKeyView,
    /// What lists do not show of it.
    pub settings: ApiKeySettingsView,
    /// The rotation that is under way.
    pub rotation: Option<RotationView>,
    /// All secrets it ever had, newest first.
    pub secrets: Vec<SecretView>,
    /// Its audit rows, newest first, at most 100.
    pub activity: Vec<crate::activity::AuditEventView>,
    /// The server does not answer: this is what was known at this moment.
    pub stale_since: Option<i64>,
}

/// Filter by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum ApiKeyStateFilter {
    /// Every key.
    #[default]
    All,
    /// Active or rotating.
    Live,
    /// In an overlap.
    Rotating,
    /// Live and expiring within 30 days.
    Expiring,
    /// Past expiry.
    Expired,
    /// Suspended by a person.
    Disabled,
    /// Revoked.
    Revoked,
}

/// Order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum ApiKeySort {
    /// Newest first.
    #[default]
    CreatedDesc,
    /// Oldest first.
    CreatedAsc,
    /// By name, A to Z, ignoring ASCII case.
    NameAsc,
    /// By name, Z to A, ignoring ASCII case.
    NameDesc,
    /// Soonest expiry first, "never" last.
    ExpiresAsc,
    /// Latest use first, "never used" last.
    LastUsedDesc,
}

/// One page of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyListRequest {
    /// Part of a name, prefix, kid or scope; empty for no filter.
    pub text: String,
    /// Filter by state.
    pub state: ApiKeyStateFilter,
    /// Order.
    pub sort: ApiKeySort,
    /// `next_cursor` of the page before; absent for the first.
    pub cursor: Option<String>,
    /// Rows wanted, 1 to 500.
    pub limit: u32,
}

/// A page of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyPageView {
    /// The rows.
    pub items: Vec<ApiKeyView>,
    /// Pass it back for the next page; absent on the last.
    pub next_cursor: Option<String>,
    /// How many rows the filter matches in all; with the first page only.
    pub total: Option<i64>,
    /// Whether that is only about right.
    pub total_is_estimate: bool,
    /// The server does not answer: this is what was known at this moment.
    pub stale_since: Option<i64>,
}

/// Counts for the page's head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyCountsView {
    /// Every key.
    pub all: i64,
    /// Active or rotating.
    pub live: i64,
    /// In an overlap.
    pub rotating: i64,
    /// Live and expiring within 30 days.
    pub expiring: i64,
    /// Past expiry.
    pub expired: i64,
    /// Suspended by a person.
    pub disabled: i64,
    /// Revoked.
    pub revoked: i64,
}

/// Issues a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct IssueApiKeyRequest {
    /// 1 to 120 characters.
    pub name: String,
    /// A preset (`sk_live`, `sk_test`, `pk_live`, `pk_test`) or an own prefix.
    pub prefix: String,
    /// At least one; each must be known to the registry.
    pub scopes: Vec<String>,
    /// Days until it expires, 1 to 365; absent for "never" (needs `allow_never_expires`).
    pub expires_in_days: Option<u32>,
    /// What most keys do without.
    pub settings: Option<IssueSettingsRequest>,
}

/// A key was issued or rotated; its secret waits in the app's memory under `reveal_id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct IssuedApiKeyView {
    /// The record.
    pub key: ApiKeyView,
    /// Handle for reveal, copy and discard; dead after discard, after 10 minutes and on quit.
    pub reveal_id: String,
    /// When the app forgets the secret by itself.
    pub reveal_expires_at: i64,
}

/// A new secret that is nowhere but in the app's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct WaitingSecretView {
    /// The key, and the handle of the secret.
    pub issued: IssuedApiKeyView,
    /// A rotation made it; absent that, it is the key's first.
    pub rotated: bool,
}

/// The one answer that carries a secret. Given once for each `reveal_id`.
#[derive(Clone, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct RevealedSecretView {
    /// The whole key.
    pub secret: String,
}

/// What is put on the clipboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum SecretSnippet {
    /// The key alone.
    Key,
    /// A `curl` call with an Authorization header read from standard input or a variable.
    Curl,
    /// A line of an `.env` file.
    DotEnv,
    /// A shell `export`.
    ShellExport,
}

/// The clipboard holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct CopiedView {
    /// When the app clears it, if it still holds our value.
    pub clears_at: i64,
}

/// Revokes a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct RevokeApiKeyRequest {
    /// The key.
    pub id: String,
    /// Why; up to 500 characters, may be empty.
    pub reason: String,
}

/// Suspends a key until it is enabled again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct DisableApiKeyRequest {
    /// The key.
    pub id: String,
    /// Why; up to 500 characters, may be empty.
    pub reason: String,
}

/// Verifies a pasted key.
#[derive(Clone, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct VerifyApiKeyRequest {
    /// What was pasted.
    pub presented: String,
    /// What the caller would need, if anything: a scope, or scopes joined by `and`, `or` and
    /// parentheses.
    pub required_scope: Option<String>,
    /// The person knows what this use does: it ends a key for one use, or is the first of a new secret.
    /// Without it such a key is not verified: `verification_ends_key`, `verification_is_first_use`.
    pub knowing: bool,
}

/// How one step of a verification ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    /// It passed.
    Passed,
    /// It failed; later steps were not tried.
    Failed,
    /// Not tried, because an earlier step failed or it was not asked for.
    Skipped,
}

/// One step of a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct CheckView {
    /// Stable id: `format`, `checksum`, `secret`, `state`, `expiry`, `place`, `scope`, `limits`.
    pub id: String,
    /// For people.
    pub label: String,
    /// How it ended.
    pub outcome: CheckOutcome,
    /// One line of detail.
    pub detail: String,
}

/// The answer of a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct VerificationView {
    /// Whether a request with this key would be let through.
    pub accepted: bool,
    /// `valid`, `not_found`, `malformed`, `revoked`, `expired`, `retired`, `insufficient_scope`, …
    pub code: String,
    /// One sentence for people.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// The steps, in order.
    pub checks: Vec<CheckView>,
    /// The key, once its secret matched, where the registry lets the person see it.
    pub key: Option<ApiKeyView>,
    /// The secret's public id, where the string has our format.
    pub kid: Option<String>,
    /// Until when this secret works, when it is on its way out.
    pub retires_at: Option<i64>,
    /// How long the registry took, in microseconds.
    pub took_us: i64,
}

/// A scope this registry knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct ScopeView {
    /// `resource:action`.
    pub name: String,
    /// For people; may be empty.
    pub description: String,
    /// Whether a publishable key (`pk_…`) may hold it.
    pub low_risk: bool,
}
