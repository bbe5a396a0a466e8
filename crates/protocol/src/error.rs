//! The one error shape a face shows: what happened, a stable code, and what to do about it.

use serde::{Deserialize, Serialize};
use specta::Type;

/// What went wrong, for a person and for a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct ErrorView {
    /// Stable, snake_case; programs and tests compare this and nothing else.
    pub code: String,
    /// One sentence: what happened.
    pub message: String,
    /// One sentence: what to do. Absent where there is nothing to do.
    pub hint: Option<String>,
    /// Whether the same call may work if it is simply tried again.
    pub retryable: bool,
}
