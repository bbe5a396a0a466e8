//! Moving keys of this device to a registry on a server. The key strings stay the same.

use serde::{Deserialize, Serialize};
use specta::Type;

use crate::ErrorView;

/// Which keys go where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct PromotionRequest {
    /// The account whose server takes them.
    pub account_id: String,
    /// Ids of keys of this device: 1 to 10,000. None of them are never all.
    pub key_ids: Vec<String>,
    /// Judge everything, move nothing.
    pub dry_run: bool,
}

/// A key that moved, or would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct PromotedKeyView {
    /// The key.
    pub key_id: String,
    /// Its name. Hostile text: show as text.
    pub name: String,
}

/// A key that does not move, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct NotPromotedView {
    /// The key.
    pub key_id: String,
    /// Its name. Hostile text: show as text.
    pub name: String,
    /// Stable code.
    pub code: String,
    /// For people.
    pub message: String,
}

/// What came of a move, key by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct PromotionView {
    /// Nothing was moved: this is what would be.
    pub dry_run: bool,
    /// Taken by the server, now or by an earlier try.
    pub moved: Vec<PromotedKeyView>,
    /// Left here.
    pub refused: Vec<NotPromotedView>,
    /// Taken by the server and not left to it: they are changed and revoked in both places, or not at
    /// all. A key that was revoked here meanwhile works there.
    pub in_both_places: Vec<NotPromotedView>,
    /// Why the move stopped before its end: what is in no list was not tried, or nothing is known of it. The
    /// same keys once more go on.
    pub problem: Option<ErrorView>,
}
