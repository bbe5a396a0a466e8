//! Everything a sign-in, a refresh or a sign-out can end with, in words for people.

use keywright_domain::id_token::IdTokenProblem;
use keywright_protocol::ErrorView;
use thiserror::Error;

use crate::http::HttpError;

/// Why a sign-in (or what follows from one) did not work. Carries no token, code or verifier.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SignInError {
    /// Something the person typed is missing or unusable.
    #[error("{0}")]
    InvalidRequest(String),
    /// The issuer's text.
    #[error("{0}")]
    InvalidIssuer(#[from] keywright_domain::issuer::InvalidIssuer),
    /// The way there and back.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// No usable metadata (OpenID Connect Discovery).
    #[error("{issuer} does not describe itself as an OpenID provider: {detail}.")]
    DiscoveryFailed {
        /// As configured.
        issuer: String,
        /// What came instead.
        detail: String,
    },
    /// The metadata speaks of another issuer (AC-020).
    #[error("The provider calls itself {got}, not {expected}.")]
    DiscoveryIssuerMismatch {
        /// As configured.
        expected: String,
        /// As published, capped.
        got: String,
    },
    /// The fixed callback port is taken (AC-012).
    #[error("Port {0}, set for sign-in answers, is in use by another program.")]
    PortUnavailable(u16),
    /// No port of this machine can be listened on.
    #[error("This computer does not let Keywright listen for the sign-in's answer: {0}.")]
    ListenerFailed(String),
    /// No browser (AC-014).
    #[error("The browser could not be opened: {0}.")]
    BrowserOpenFailed(String),
    /// The person pressed Cancel (AC-011).
    #[error("The sign-in was cancelled.")]
    LoginCancelled,
    /// Another sign-in for the same account was started (AC-017).
    #[error("The sign-in was cancelled because a newer one took its place.")]
    LoginSuperseded,
    /// No answer in time (AC-010).
    #[error("The browser did not answer within {0} s.")]
    LoginTimeout(u32),
    /// The answer came after its state had expired (AC-018).
    #[error("The answer came too late; the sign-in had expired.")]
    LoginExpired,
    /// The person declined at the provider (AC-008).
    #[error("You declined access.")]
    AccessDenied,
    /// The provider refused for another reason.
    #[error("The provider refused: {error}{}", described(.description))]
    ProviderRefused {
        /// RFC 6749 §4.1.2.1 or §5.2.
        error: String,
        /// The provider's words: foreign text, capped, printable.
        description: Option<String>,
    },
    /// Neither a code nor an error, or several.
    #[error("The provider's answer is unusable: {0}.")]
    InvalidCallback(&'static str),
    /// The answer belongs to no pending sign-in (AC-005).
    #[error("This answer does not belong to the pending sign-in.")]
    StateMismatch,
    /// The answer comes from another provider (AC-019, RFC 9207).
    #[error("The answer came from another provider than the one you chose.")]
    IssuerMismatch,
    /// The token endpoint did not answer as one (RFC 6749 §5).
    #[error("The provider's token endpoint answered with {0}.")]
    InvalidTokenResponse(String),
    /// The connection broke in the middle (AC-024).
    #[error("The connection to the provider broke during the sign-in.")]
    NetworkError,
    /// 5xx or 429.
    #[error("The provider is not available at the moment (status {0}).")]
    ProviderUnavailable(u16),
    /// The ID token.
    #[error("{0}")]
    IdToken(#[from] IdTokenProblem),
    /// No ID token where one was asked for.
    #[error("The provider sent no ID token.")]
    IdTokenMissing,
    /// The profile is somebody else's (AC-043).
    #[error("The provider's profile belongs to another person than its ID token.")]
    SubjectMismatch,
    /// The profile could not be read.
    #[error("The provider's profile could not be read: {0}.")]
    UserinfoFailed(String),
    /// Another person signed in again than the account's (AC-025).
    #[error("You signed in as somebody else than {0}.")]
    AccountMismatch(String),
    /// There is no such pending sign-in (any more).
    #[error("This sign-in has ended.")]
    SignInNotFound,
    /// There is no such account (any more).
    #[error("This account is not on this computer any more.")]
    AccountNotFound,
    /// The refresh token is gone or dead (AC-092, AC-165).
    #[error("{0}")]
    ReauthRequired(ReauthReason),
    /// RFC 7009 is not offered (AC-097).
    #[error("The provider offers no way to revoke a sign-in.")]
    RevocationUnsupported,
    /// RFC 7009 failed (AC-097).
    #[error("The provider could not be told to end the sign-in: {0}.")]
    RevocationFailed(String),
    /// The operating system's folder for locks.
    #[error("The refresh lock cannot be used: {0}.")]
    LockFailed(String),
}

/// Why the person must sign in again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReauthReason {
    /// `invalid_grant`: expired, revoked or used twice.
    #[error("The provider ended this sign-in.")]
    EndedByProvider,
    /// The entry was deleted outside the app.
    #[error("This account's entry is no longer in the keychain.")]
    GoneFromKeychain,
    /// The access token is over, and there is no refresh token.
    #[error("This sign-in has ended.")]
    SessionEnded,
    /// There is an access token, and nothing to renew it with (AC-022).
    #[error("The provider gave no refresh token, so this sign-in cannot be renewed.")]
    NoRefreshToken,
}

fn described(description: &Option<String>) -> String {
    description
        .as_ref()
        .map_or_else(|| ".".to_owned(), |text| format!(" ({text})."))
}

impl SignInError {
    /// Stable code of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "invalid_request",
            Self::InvalidIssuer(keywright_domain::issuer::InvalidIssuer::Insecure) => {
                "insecure_endpoint"
            }
            Self::InvalidIssuer(_) => "invalid_issuer",
            Self::Http(HttpError::InsecureEndpoint(_)) => "insecure_endpoint",
            Self::Http(HttpError::UnexpectedRedirect { .. }) => "unexpected_redirect",
            Self::Http(HttpError::ResponseTooLarge(_)) => "response_too_large",
            Self::Http(HttpError::Network {
                certificate: true, ..
            }) => "certificate_not_trusted",
            Self::Http(HttpError::Network { .. }) | Self::NetworkError => "network_error",
            Self::Http(HttpError::ExtraCa { .. }) => "extra_ca_invalid",
            Self::Http(HttpError::Setup(_)) => "tls_unavailable",
            Self::DiscoveryFailed { .. } => "discovery_failed",
            Self::DiscoveryIssuerMismatch { .. } => "discovery_issuer_mismatch",
            Self::PortUnavailable(_) => "port_unavailable",
            Self::ListenerFailed(_) => "listener_failed",
            Self::BrowserOpenFailed(_) => "browser_open_failed",
            Self::LoginCancelled | Self::LoginSuperseded => "login_cancelled",
            Self::LoginTimeout(_) => "login_timeout",
            Self::LoginExpired => "login_expired",
            Self::AccessDenied => "access_denied",
            Self::ProviderRefused { .. } => "provider_refused",
            Self::InvalidCallback(_) => "invalid_callback",
            Self::StateMismatch => "state_mismatch",
            Self::IssuerMismatch => "issuer_mismatch",
            Self::InvalidTokenResponse(_) => "invalid_token_response",
            Self::ProviderUnavailable(_) => "provider_unavailable",
            Self::IdToken(problem) => problem.code(),
            Self::IdTokenMissing => "id_token_missing",
            Self::SubjectMismatch => "subject_mismatch",
            Self::UserinfoFailed(_) => "userinfo_failed",
            Self::AccountMismatch(_) => "account_mismatch",
            Self::SignInNotFound => "sign_in_not_found",
            Self::AccountNotFound => "account_not_found",
            Self::ReauthRequired(_) => "reauth_required",
            Self::RevocationUnsupported => "revocation_unsupported",
            Self::RevocationFailed(_) => "revocation_failed",
            Self::LockFailed(_) => "refresh_lock_failed",
        }
    }

    /// What a person can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self.code() {
            "insecure_endpoint" => {
                "Use the provider's https address; plain http is accepted on this computer only."
            }
            "invalid_issuer" => {
                "Copy the issuer from the provider's documentation, exactly as it is written there."
            }
            "certificate_not_trusted" => {
                "If your organisation has its own certificate authority, add its PEM file under Settings, Extra certificates."
            }
            "network_error" | "provider_unavailable" => "Check the connection and try again.",
            "extra_ca_invalid" => {
                "Choose another file under Settings, Extra certificates, or none."
            }
            "discovery_failed" => {
                "Check the issuer: Keywright reads {issuer}/.well-known/openid-configuration."
            }
            "discovery_issuer_mismatch" => {
                "If that is the provider you mean, enter the issuer exactly as it calls itself."
            }
            "port_unavailable" => {
                "Close the other program, or let the system choose a port under Settings, Sign-in."
            }
            "browser_open_failed" => {
                "Copy the link into a browser, then paste the address it ends on."
            }
            "login_timeout" | "login_expired" | "invalid_callback" => "Start the sign-in again.",
            "access_denied" => "Start again and allow the access, if you meant to.",
            "state_mismatch" => {
                "Paste the whole address from the browser window of this very sign-in."
            }
            "clock_skew" => {
                "Set the computer's clock, or let it be set from the network, then try again."
            }
            "token_expired" | "token_not_yet_valid" => {
                "Check this computer's clock, then try again."
            }
            "account_mismatch" => {
                "Choose the right account in the browser, or add this one as a new account."
            }
            "reauth_required" => "Sign in again.",
            "unexpected_redirect" | "response_too_large" | "invalid_token_response" => {
                "Check the issuer and any proxy in between; the provider's administrator can tell more."
            }
            "revocation_failed" => "End the sign-in in your account at the provider.",
            "revocation_unsupported" => {
                "If you want it ended there, too, do so in your account at the provider."
            }
            "issuer_mismatch" | "invalid_signature" | "nonce_mismatch" | "wrong_audience"
            | "at_hash_mismatch" | "subject_mismatch" => {
                "Do not go on if this happens again; tell the provider's administrator."
            }
            "alg_not_allowed" => {
                "Ask the provider's administrator to sign with RS256, PS256, ES256 or EdDSA."
            }
            "provider_refused" => {
                "Check the client id, its redirect address (loopback, any port) and the scopes at the provider."
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// Whether the same call may work if it is tried again.
    #[must_use]
    pub fn retryable(&self) -> bool {
        matches!(
            self.code(),
            "network_error"
                | "provider_unavailable"
                | "login_timeout"
                | "login_expired"
                | "login_cancelled"
                | "access_denied"
                | "port_unavailable"
                | "invalid_callback"
                | "browser_open_failed"
                | "clock_skew"
                | "token_expired"
                | "token_not_yet_valid"
                | "account_mismatch"
                | "userinfo_failed"
        )
    }

    /// As a face shows it.
    #[must_use]
    pub fn view(&self) -> ErrorView {
        ErrorView {
            code: self.code().to_owned(),
            message: self.to_string(),
            hint: self.hint(),
            retryable: self.retryable(),
        }
    }

    /// Whether the provider may simply be out of reach: then nothing is ever deleted (AC-091).
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        !matches!(self, Self::ReauthRequired(_) | Self::AccountNotFound)
    }
}

/// Foreign text for an error message: printable, one line, capped.
pub(crate) fn tame(text: &str, longest: usize) -> String {
    let shown = text
        .chars()
        .filter(|c| !c.is_control() && !is_bidi_control(*c));
    let mut tame: String = shown.take(longest + 1).collect();
    if tame.chars().count() > longest {
        tame = tame.chars().take(longest).collect();
        tame.push('…');
    }
    tame
}

fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
