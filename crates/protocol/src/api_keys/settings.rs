//! What is decided about a key when it is issued, beyond its name and scopes.

use serde::{Deserialize, Serialize};
use specta::Type;

/// Wishes for a new key that most keys do without. Empty texts and lists wish nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct IssueSettingsRequest {
    /// Where it may be used; empty takes it from the prefix, else `live`.
    pub environment: String,
    /// From when it verifies (Unix ms).
    pub not_before: Option<i64>,
    /// For finding it.
    pub tags: Vec<String>,
    /// For people; at most 2,000 characters.
    pub note: String,
    /// Networks (CIDR) or addresses it may be used from; empty for anywhere.
    pub networks: Vec<String>,
    /// Web origins it may be used from; empty for any, and for callers that name none.
    pub origins: Vec<String>,
    /// How often it may be used.
    pub limit: Option<RateLimitRequest>,
    /// What it may use up.
    pub credits: Option<i64>,
    /// Whether its first accepted verification is its last.
    pub one_time: bool,
}

/// A wish for a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitRequest {
    /// Uses a period.
    pub count: u32,
    /// The period in milliseconds, one second to 30 days.
    pub period_ms: u32,
    /// Uses beyond `count` that may come at once.
    pub burst: u32,
}

/// A rate limit of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitView {
    /// Its name.
    pub name: String,
    /// Uses a period.
    pub count: u32,
    /// The period in milliseconds.
    pub period_ms: u32,
    /// Uses beyond `count` that may come at once.
    pub burst: u32,
    /// Whether all keys of the owner draw on it together.
    pub shared_by_owner: bool,
}

/// Everything of a key that lists do not show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeySettingsView {
    /// Where it may be used.
    pub environment: String,
    /// Who it belongs to (`kind:id`); absent for whoever sits at this device.
    pub owner: Option<String>,
    /// From when it verifies (Unix ms), where that was asked for.
    pub not_before: Option<i64>,
    /// When it was disabled, if it is.
    pub disabled_at: Option<i64>,
    /// Why it was disabled. Hostile text.
    pub disabled_reason: Option<String>,
    /// Tags. Hostile text.
    pub tags: Vec<String>,
    /// Note; empty for none. Hostile text.
    pub note: String,
    /// Rate limits.
    pub limits: Vec<RateLimitView>,
    /// Networks; empty for anywhere.
    pub networks: Vec<String>,
    /// Origins; empty for any.
    pub origins: Vec<String>,
    /// Credits it was given, where it has credits.
    pub credits: Option<i64>,
    /// Whether its first accepted verification is its last.
    pub one_time: bool,
}
