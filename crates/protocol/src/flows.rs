//! How each flow works, step by step, and what happened in the last real ones.

use serde::{Deserialize, Serialize};
use specta::Type;

/// A flow. In its texts, code stands between backticks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct FlowView {
    /// Stable: `authorization-code`, `relying-party`, `refresh-token`, …
    pub id: String,
    /// Its name.
    pub title: String,
    /// One sentence: what it is for.
    pub summary: String,
    /// Who takes part, from left to right.
    pub lanes: Vec<String>,
    /// In order.
    pub steps: Vec<FlowStepView>,
    /// What goes wrong, by step.
    pub failures: Vec<FlowFailureView>,
    /// What surprises people.
    pub note: String,
    /// What to do, one line each.
    pub practices: Vec<String>,
    /// Ids of flows that belong to it.
    pub see_also: Vec<String>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct FlowStepView {
    /// From 1, without gaps.
    pub n: u32,
    /// One of the lanes.
    pub from: String,
    /// One of the lanes; the same where nothing is sent.
    pub to: String,
    /// What happens, for people.
    pub title: String,
    /// What happens, exactly.
    pub detail: String,
}

/// What goes wrong at a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct FlowFailureView {
    /// The step that fails.
    pub step: u32,
    /// Stable code of the error.
    pub code: String,
    /// What happened.
    pub title: String,
    /// What follows from it.
    pub detail: String,
}

/// A real sign-in or refresh of this app, since it was started. No secret is ever recorded: codes, tokens and
/// verifiers have no place in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct FlowTraceView {
    /// Tells traces of one run of the app apart.
    pub id: u32,
    /// [`FlowView::id`].
    pub flow: String,
    /// The provider's name, or its issuer's host.
    pub provider_name: String,
    /// When it began.
    pub started_at: i64,
    /// It goes on; more may come.
    pub running: bool,
    /// In order of time.
    pub events: Vec<FlowEventView>,
    /// Further answers that were not ours; they were counted and not kept.
    pub left_out: u32,
}

/// What happened at a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct FlowEventView {
    /// [`FlowStepView::n`].
    pub step: u32,
    /// How long after the beginning.
    pub after_ms: i64,
    /// What was wrong; none where the step was done.
    pub code: Option<String>,
    /// Whether the flow ended with it. An answer with another `state` is wrong and ends nothing.
    pub ended: bool,
}
