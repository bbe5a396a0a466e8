//! Accounts (identities signed in on this device) and the sign-in that makes them.

use serde::{Deserialize, Serialize};
use specta::Type;

/// A provider the sign-in dialog offers by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct ProviderPresetView {
    /// Stable id: `openid`, `keywright`, `google`, `github`, `gitlab`, `microsoft`.
    pub id: String,
    /// The provider's own name.
    pub name: String,
    /// Its issuer; empty where the person types it (`openid`, `keywright`).
    pub issuer: String,
    /// The client id of this app there; empty where the person registers one.
    pub client_id: String,
    /// False for GitHub, which speaks OAuth 2.0 but not OpenID Connect.
    pub is_openid: bool,
    /// Scopes asked for unless the person changes them.
    pub default_scopes: Vec<String>,
    /// Whether the provider insists on a client secret even for desktop clients.
    /// Such a secret is not confidential (RFC 8252 §8.5) and proves nothing.
    pub wants_client_secret: bool,
    /// One line: where the person registers an application and gets a client id.
    pub registration_hint: String,
}

/// Starts a sign-in. The call resolves when the sign-in has ended, either way.
#[derive(Clone, Deserialize, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct SignInRequest {
    /// A [`ProviderPresetView::id`].
    pub provider_id: String,
    /// The issuer for `openid` and `keywright`; ignored for presets that have their own.
    pub issuer: String,
    /// RFC 6749 §2.2.
    pub client_id: String,
    /// Only for providers that insist (see [`ProviderPresetView::wants_client_secret`]).
    pub client_secret: Option<String>,
    /// Scopes to ask for; empty means the preset's defaults.
    pub scopes: Vec<String>,
    /// OpenID Connect `login_hint`.
    pub login_hint: Option<String>,
    /// Set when an existing account signs in again: the subject must be the same (AC-025).
    pub account_id: Option<String>,
}

/// Where a pending sign-in stands; sent as an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum SignInStep {
    /// Reading the provider's metadata.
    Discovering,
    /// The browser was opened; waiting for its answer.
    WaitingForBrowser,
    /// No browser could be opened; the link can be copied and the answer pasted (AC-014).
    BrowserNotOpened,
    /// The answer came; exchanging the code and checking the tokens.
    Exchanging,
    /// Writing the refresh token to the keychain.
    Storing,
    /// Ended, well or not: the command's own result says which.
    Ended,
}

/// A pending sign-in, as the dialog shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct SignInProgressView {
    /// Handle for cancel, reopen, copy and paste.
    pub sign_in_id: String,
    /// Where it stands.
    pub step: SignInStep,
    /// The provider's name or issuer.
    pub provider_name: String,
    /// When waiting ends (`login_timeout`).
    pub expires_at: i64,
    /// Why the browser could not be opened, where it could not.
    pub browser_error: Option<String>,
}

/// How an account stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum AccountStatus {
    /// Signed in; the access token is fresh or can be made so silently.
    SignedIn,
    /// Signed in without a refresh token: ends with the access token or the app (AC-022).
    SessionOnly,
    /// The provider could not be reached; nothing was deleted, it is tried again (AC-091).
    Offline,
    /// The keychain does not answer; see `status_reason`.
    KeychainUnavailable,
    /// The person must sign in again; see `status_reason`.
    SignInNeeded,
}

/// The life of an access token. The token itself never leaves the app's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct AccessTokenLifeView {
    /// When it was received.
    pub issued_at: i64,
    /// When it ends; absent where the provider did not say.
    pub expires_at: Option<i64>,
    /// When it is refreshed silently: 80 % of its life or 60 s before its end.
    pub refresh_at: Option<i64>,
}

/// An identity signed in on this device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct AccountView {
    /// Our id of it.
    pub id: String,
    /// Name, else e-mail, else subject. Hostile text: show as text, capped.
    pub display_name: String,
    /// E-mail, where the provider gave one.
    pub email: Option<String>,
    /// Whether the provider says it verified the e-mail.
    pub email_verified: bool,
    /// Preset id.
    pub provider_id: String,
    /// Preset's name, or the issuer's host.
    pub provider_name: String,
    /// Byte for byte as configured.
    pub issuer: String,
    /// `sub` at the issuer.
    pub subject: String,
    /// RFC 6749 §2.2.
    pub client_id: String,
    /// Scopes granted.
    pub scopes: Vec<String>,
    /// Scopes asked for and not granted (AC-023).
    pub missing_scopes: Vec<String>,
    /// How it stands.
    pub status: AccountStatus,
    /// Why, where `status` needs a reason.
    pub status_reason: Option<ErrorView>,
    /// The access token's life, while one is in memory.
    pub access_token: Option<AccessTokenLifeView>,
    /// Whether a refresh token of this account was put into the OS keychain.
    pub in_keychain: bool,
    /// Whether the ID token's signature was checked against the issuer's keys.
    pub identity_verified: bool,
    /// First sign-in on this device.
    pub signed_in_at: i64,
    /// Last successful refresh.
    pub last_refreshed_at: Option<i64>,
    /// How far the provider's clock is ahead of ours, in milliseconds, where more than a minute.
    pub clock_offset_ms: Option<i64>,
}

/// What signing out achieved. The local part always happens (AC-097).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct SignOutView {
    /// The account that was removed.
    pub account_id: String,
    /// The issuer confirmed the revocation (RFC 7009).
    pub revoked_at_issuer: bool,
    /// Why the issuer did not revoke, where it did not.
    pub revocation_note: Option<ErrorView>,
    /// The keychain entry is gone.
    pub keychain_entry_deleted: bool,
}

use crate::ErrorView;
