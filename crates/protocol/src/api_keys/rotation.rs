//! Rotations: what is wished, what is under way, and what can be done to it.

use serde::{Deserialize, Serialize};
use specta::Type;

/// What starts the clock of an overlap, and what ends it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum OverlapClock {
    /// The first use of the new secret starts it.
    #[default]
    FromFirstUse,
    /// The rotation itself starts it.
    FromIssue,
    /// The first use of the new secret starts it; it ends early once the old one is silent.
    UntilDrained,
}

/// Rotates a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct RotateApiKeyRequest {
    /// The key.
    pub id: String,
    /// How long the old secret keeps working once its clock runs, 0 to 30 days, in milliseconds.
    pub overlap_ms: i64,
    /// What starts that clock.
    pub clock: OverlapClock,
    /// For [`OverlapClock::UntilDrained`]: the silence that ends the overlap, in milliseconds.
    pub silent_ms: Option<i64>,
    /// The old secret is known to others, and why that is thought: it ends at once.
    pub compromised: Option<String>,
    /// Days until the new secret expires; absent keeps the old secret's lifetime.
    pub expires_in_days: Option<u32>,
    /// The same value makes a retry give the first answer instead of a second rotation.
    pub idempotency_key: String,
}

/// How far a rotation is that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum RotationState {
    /// The new secret was not used yet.
    Pending,
    /// The new secret is in use and the old one still works.
    Overlapping,
}

/// A rotation that is under way: both secrets work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct RotationView {
    /// Its id.
    pub id: String,
    /// How far it is.
    pub state: RotationState,
    /// What starts the clock of the overlap.
    pub clock: OverlapClock,
    /// How long the old secret works once the clock runs, in milliseconds.
    pub overlap_ms: i64,
    /// For [`OverlapClock::UntilDrained`]: the silence that ends the overlap, in milliseconds.
    pub silent_ms: Option<i64>,
    /// When it was asked for (Unix ms).
    pub created_at: i64,
    /// Until when the old secret works; absent while its clock has not started.
    pub old_secret_works_until: Option<i64>,
    /// When the new secret is cancelled by itself if nobody uses it.
    pub pending_until: Option<i64>,
}

/// What a person may do to a rotation that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum RotationStep {
    /// Take it back before anybody used the new secret.
    Cancel,
    /// The old secret is the current one again; the new one ends.
    RollBack,
    /// End the old secret now.
    Finish,
}

/// Takes a step in a key's rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct StepRotationRequest {
    /// The key.
    pub id: String,
    /// The step.
    pub step: RotationStep,
}
