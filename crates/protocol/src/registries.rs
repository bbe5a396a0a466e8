//! Which registry the window works with: the one of this device, or one on a Keywright server.

use serde::{Deserialize, Serialize};
use specta::Type;

use crate::ErrorView;

/// The registry in use, and those that could be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct RegistriesView {
    /// Account whose server is in use; absent for this device.
    pub current: Option<String>,
    /// Servers of the accounts that are signed in to one.
    pub servers: Vec<RegistryServerView>,
    /// Servers that revocations wait for, and that nobody is signed in to any more.
    pub signed_out: Vec<SignedOutServerView>,
}

/// A server that revocations wait for until somebody signs in there again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct SignedOutServerView {
    /// What names it here.
    pub id: String,
    /// Who was signed in there. Hostile text: show as text.
    pub account_name: String,
    /// The server's issuer. Hostile text: show as text.
    pub issuer: String,
    /// What waits: the keys work until then.
    pub queued_revocations: Vec<QueuedRevocationView>,
}

/// A registry on a server, by one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct RegistryServerView {
    /// The account.
    pub account_id: String,
    /// Who is signed in there. Hostile text: show as text.
    pub account_name: String,
    /// The server's issuer.
    pub issuer: String,
    /// Whether this sign-in was allowed to see keys; without it the person signs in again.
    pub may_read: bool,
    /// Whether it was allowed to issue, rotate and revoke. What the person's role allows besides, only
    /// the server knows.
    pub may_write: bool,
    /// Since when the server has not answered; absent if it did, or was not asked yet.
    pub offline_since: Option<i64>,
    /// Revocations that wait for it: not yet effective.
    pub queued_revocations: Vec<QueuedRevocationView>,
}

/// A revocation that waits for its server: the key works until then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct QueuedRevocationView {
    /// The key.
    pub key_id: String,
    /// Its name when it was asked for. Hostile text: show as text.
    pub name: String,
    /// Why.
    pub reason: String,
    /// When it was asked for.
    pub queued_at: i64,
    /// What the server said when it refused; absent while it was not reached.
    pub refused: Option<ErrorView>,
}

/// What may be done with the registry in use, by the person's role and this sign-in. What of it concerns one
/// key is with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct RegistryPermissionsView {
    /// Issue keys.
    pub may_issue: bool,
    /// Verify keys.
    pub may_verify: bool,
    /// Add scopes.
    pub may_define_scopes: bool,
}
