//! What a server can say to a question about sessions, in words for people.

use thiserror::Error;

/// Why a question about sessions brought no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SessionsError {
    /// Another provider's account, or a server that does not answer as one of ours.
    #[error("{0} does not answer as a Keywright server.")]
    NotKeywright(String),
    /// The access token has no scope for it.
    #[error("This sign-in may not look at the account's sessions.")]
    NotAllowed,
    /// Ended already, or somebody else's.
    #[error("It has ended already.")]
    Gone,
    /// The session of this sign-in is over, so there is none to keep.
    #[error("The server knows no session of this device that could stay.")]
    NoOwnSession,
    /// Another refusal.
    #[error("The server refused ({code}): {detail}")]
    Refused {
        /// The server's code.
        code: String,
        /// Its words: foreign text, capped, printable.
        detail: String,
    },
}

impl SessionsError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotKeywright(_) => "not_keywright_server",
            Self::NotAllowed => "sessions_not_allowed",
            Self::Gone => "session_gone",
            Self::NoOwnSession => "no_own_session",
            Self::Refused { .. } => "server_refused",
        }
    }

    /// What a person can do.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotKeywright(_) => {
                "Sessions are shown for accounts at a Keywright server of this version or newer."
            }
            Self::NotAllowed => {
                "Sign in again with the scope “account”, and allow it in the browser."
            }
            Self::Gone => "Reload the list: it has changed since.",
            Self::NoOwnSession => "Sign in again, or end the sessions one by one.",
            Self::Refused { .. } => return None,
        })
    }

    /// Whether the same call may work later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        matches!(self, Self::NotKeywright(_) | Self::Refused { .. })
    }
}
