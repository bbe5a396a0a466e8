//! Accounts: identities signed in on this device. No token is ever part of one.

/// An identity at an issuer, as this device remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Our id.
    pub id: String,
    /// Preset id, or `openid`.
    pub provider_id: String,
    /// Byte for byte as configured.
    pub issuer: String,
    /// `sub` at the issuer.
    pub subject: String,
    /// RFC 6749 §2.2.
    pub client_id: String,
    /// Name, else e-mail, else subject.
    pub display_name: String,
    /// E-mail, where the provider gave one.
    pub email: Option<String>,
    /// Whether the provider says it verified the e-mail.
    pub email_verified: bool,
    /// Scopes granted.
    pub scopes: Vec<String>,
    /// Scopes asked for and not granted.
    pub missing_scopes: Vec<String>,
    /// Whether a refresh token was put into the keychain.
    pub in_keychain: bool,
    /// Whether the ID token's signature was checked against the issuer's keys.
    pub identity_verified: bool,
    /// First sign-in on this device (Unix ms).
    pub signed_in_at: i64,
    /// Last successful refresh.
    pub last_refreshed_at: Option<i64>,
}

/// Why an account is written again; each has its own audit action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountChange {
    /// The person signed in again.
    SignedInAgain,
    /// The access token was refreshed.
    Refreshed,
    /// The refresh token no longer works; the person must sign in again.
    ReauthRequired,
}
