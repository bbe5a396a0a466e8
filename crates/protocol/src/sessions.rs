//! Sessions and applications of an account at a Keywright server, as the server tells them.
//! Everything a browser or an application says of itself is foreign text.

use serde::{Deserialize, Serialize};
use specta::Type;

/// A browser in which the account's person is signed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    /// The server's id of it.
    pub id: String,
    /// The session that this device was signed in through.
    pub current: bool,
    /// `computer`, `phone`, `tablet`, `program` or `unknown`.
    pub device: String,
    /// Such as `Firefox 128`.
    pub browser: String,
    /// Such as `Linux`.
    pub os: String,
    /// What the browser says it is, whole.
    pub user_agent: String,
    /// The address that it was last used from.
    pub address: String,
    /// When it began.
    pub signed_in_at: i64,
    /// When it was last used.
    pub last_used_at: i64,
    /// When it ends if nobody comes back.
    pub expires_at: i64,
    /// Ways of the sign-in (RFC 8176), such as `pwd`, `otp`, `hwk`.
    pub methods: Vec<String>,
    /// Applications that were signed in through it.
    pub applications: Vec<SessionApplicationView>,
}

/// An application, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct SessionApplicationView {
    /// `client_id`.
    pub id: String,
    /// Name.
    pub name: String,
}

/// An application that has access to the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationAccessView {
    /// `client_id`.
    pub client_id: String,
    /// Name.
    pub name: String,
    /// It is this app.
    pub current: bool,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it was first allowed something.
    pub allowed_at: i64,
    /// When it last asked for a token; none if it has no standing access.
    pub last_used_at: Option<i64>,
    /// When the last of its standing access ends; none if it has none.
    pub expires_at: Option<i64>,
}

/// Where an account is signed in, and who has access to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct AccountSessionsView {
    /// Our id of the account.
    pub account_id: String,
    /// The one of this device first, then those used last.
    pub sessions: Vec<SessionView>,
    /// Applications, this app first, then by name.
    pub applications: Vec<ApplicationAccessView>,
    /// There are more than are shown.
    pub more: bool,
}

/// What ending all other sessions achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct EndedSessionsView {
    /// How many sessions ended.
    pub sessions: u32,
    /// Until when a service that does not ask the server may still take an old token.
    pub access_ends_at: Option<i64>,
}
