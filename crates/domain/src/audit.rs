//! The audit trail's vocabulary. One change, one event; none holds a secret.

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor(String);

impl Actor {
    /// A person, by the operating system's user name (capped: it is foreign text).
    #[must_use]
    pub fn person(name: &str) -> Self {
        Self(
            name.chars()
                .filter(|letter| !letter.is_control())
                .take(80)
                .collect(),
        )
    }

    /// The app itself, for what nobody asked for at that moment.
    #[must_use]
    pub fn keywright() -> Self {
        Self("keywright".to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditAction {
    /// The registry file was made.
    RegistryCreated,
    /// A pepper was made and put into the keychain.
    PepperAdopted,
    /// A scope was added or described anew.
    ScopeDefined,
    /// A key was issued.
    ApiKeyIssued,
    /// A key was rotated.
    ApiKeyRotated,
    /// A key was revoked.
    ApiKeyRevoked,
    /// A new secret was seen in use for the first time.
    SecretFirstUsed,
    /// A person signed in.
    AccountSignedIn,
    /// A person signed in again.
    AccountSignedInAgain,
    /// An access token was refreshed.
    AccountRefreshed,
    /// A refresh token stopped working.
    AccountReauthRequired,
    /// A person signed out.
    AccountSignedOut,
}

impl AuditAction {
    /// Stable text, `target.verb`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RegistryCreated => "registry.created",
            Self::PepperAdopted => "registry.pepper_adopted",
            Self::ScopeDefined => "scope.defined",
            Self::ApiKeyIssued => "api_key.issued",
            Self::ApiKeyRotated => "api_key.rotated",
            Self::ApiKeyRevoked => "api_key.revoked",
            Self::SecretFirstUsed => "api_key.secret_first_used",
            Self::AccountSignedIn => "account.signed_in",
            Self::AccountSignedInAgain => "account.signed_in_again",
            Self::AccountRefreshed => "account.refreshed",
            Self::AccountReauthRequired => "account.reauth_required",
            Self::AccountSignedOut => "account.signed_out",
        }
    }
}
