//! What closing the app would cut or lose.

use serde::{Deserialize, Serialize};
use specta::Type;

/// What is not finished when somebody wants to close the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct UnfinishedView {
    /// New secrets that were neither copied nor delivered: nobody can show them again.
    pub secrets: u32,
    /// A key is being made, a secret delivered, or keys are moving to a server.
    pub working: bool,
}
