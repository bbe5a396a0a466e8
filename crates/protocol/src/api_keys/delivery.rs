//! Delivery of a new secret to where programs read it.

use serde::{Deserialize, Serialize};
use specta::Type;

use super::ApiKeyView;
use crate::ErrorView;

/// A program with its arguments. It is started directly, never by a shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct CommandRequest {
    /// Absolute path.
    pub program: String,
    /// Arguments; the secret is never among them.
    pub arguments: Vec<String>,
}

/// Where a secret is to be delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DeliveryTarget {
    /// An entry of the OS keychain.
    Keychain {
        /// Service name, for example the program that reads it.
        service: String,
        /// User name.
        username: String,
    },
    /// A variable in an `.env` file; every other line stays as it is.
    DotEnv {
        /// Absolute path.
        path: String,
        /// The variable.
        variable: String,
    },
    /// A file that holds the secret and nothing else.
    File {
        /// Absolute path.
        path: String,
    },
    /// The standard input of a program.
    Command {
        /// Takes the secret on its standard input.
        run: CommandRequest,
        /// Prints the secret as it was kept, to compare.
        check: Option<CommandRequest>,
    },
}

/// Delivers a waiting secret to all targets or to none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct DeliverSecretRequest {
    /// Handle of the secret.
    pub reveal_id: String,
    /// One to sixteen targets.
    pub targets: Vec<DeliveryTarget>,
}

/// What became of one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It holds the secret.
    Delivered,
    /// It could not be delivered to; it is as it was before.
    Failed,
    /// It held the secret and is as it was before, because another target failed.
    Restored,
    /// It could not be put back: it may hold the secret, or part of it.
    NotRestored,
    /// It was not touched, because another target failed before.
    NotTried,
}

/// One target and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryOutcome {
    /// The target, for people. Hostile text.
    pub target: String,
    /// What became of it.
    pub state: DeliveryState,
    /// Whether the secret was read back from it and was the same.
    pub read_back: bool,
    /// Why it failed or could not be put back.
    pub detail: Option<String>,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryView {
    /// Absent when every target holds the secret; code `hook_failed` otherwise.
    pub problem: Option<ErrorView>,
    /// The targets, in the order they were given.
    pub outcomes: Vec<DeliveryOutcome>,
    /// Whether the rotation was taken back: the old secret is the current one, the new one is dead.
    pub rotation_cancelled: bool,
    /// The key as it is now.
    pub key: ApiKeyView,
}
