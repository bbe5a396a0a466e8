//! What can be wrong with a keychain, in words for people.

use keyring_core::Error as StoreError;
use keywright_protocol::ErrorView;
use thiserror::Error;

/// Why the keychain did not do what was asked. Carries no secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeychainError {
    /// It is locked, and nobody unlocked it in time (AC-160).
    #[error("The keychain is locked.")]
    Locked,
    /// The unlock dialog was dismissed, or this app is not allowed (AC-161).
    #[error("Access to the keychain was denied.")]
    Denied,
    /// There is no keychain service, or it does not answer (AC-162).
    #[error("No keychain service answers on this system ({detail}).")]
    Unavailable {
        /// What the system said.
        detail: String,
    },
    /// Several entries carry the same name; which is right is not guessed (AC-166).
    #[error("The keychain holds {count} entries named \"{user}\" of \"{service}\".")]
    Ambiguous {
        /// The entries' service.
        service: String,
        /// The entries' user name.
        user: String,
        /// How many there are.
        count: usize,
    },
    /// The platform does not take a secret of this size (AC-164).
    #[error("The secret has {bytes} bytes; this keychain takes {limit} at most.")]
    TooLarge {
        /// Size of the secret.
        bytes: usize,
        /// What the platform takes.
        limit: usize,
    },
    /// Other calls kept it busy for the whole time limit.
    #[error("The keychain is busy with other calls.")]
    Busy,
    /// The encrypted file is chosen and not open.
    #[error("The encrypted file is locked.")]
    VaultLocked,
    /// Not the passphrase of the encrypted file (AC-163).
    #[error("That is not the passphrase of the encrypted file.")]
    VaultWrongPassphrase,
    /// Wrong passphrases slow the next try down.
    #[error("Too many tries: wait a few seconds.")]
    VaultBackOff,
    /// The encrypted file was changed or cut short (AC-163).
    #[error("The encrypted file is damaged or was tampered with.")]
    VaultCorrupt,
    /// A passphrase that could be guessed.
    #[error("A passphrase has at least 12 characters.")]
    VaultPassphraseTooShort,
    /// There is a keychain, or keys whose pepper is in one: no file is made beside it.
    #[error("{0}")]
    VaultNotNeeded(&'static str),
    /// Anything else.
    #[error("The keychain failed: {detail}.")]
    Failed {
        /// What the system said.
        detail: String,
    },
}

impl KeychainError {
    /// Stable code of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Locked => "keychain_locked",
            Self::Denied => "keychain_denied",
            Self::Unavailable { .. } => "keychain_unavailable",
            Self::Ambiguous { .. } => "keychain_ambiguous",
            Self::TooLarge { .. } => "keychain_too_large",
            Self::VaultLocked => "vault_locked",
            Self::VaultWrongPassphrase => "vault_wrong_passphrase",
            Self::VaultBackOff => "vault_back_off",
            Self::VaultCorrupt => "vault_corrupt",
            Self::VaultPassphraseTooShort => "vault_passphrase_too_short",
            Self::VaultNotNeeded(_) => "vault_not_needed",
            Self::Busy | Self::Failed { .. } => "keychain_failed",
        }
    }

    /// What a person can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Locked => {
                "Unlock it (on Linux, for example with Passwords and Keys), then try again."
            }
            Self::Denied => "Try again and allow Keywright to use the keychain.",
            Self::Unavailable { .. } if cfg!(target_os = "linux") => {
                "Start a Secret Service such as GNOME Keyring, KWallet or KeePassXC in this session, with a default keyring, then try again."
            }
            Self::Unavailable { .. } => "Start the system's keychain service, then try again.",
            Self::Ambiguous { .. } => {
                "Open the system's password app, keep the entry you know to be right and delete the others."
            }
            Self::TooLarge { .. } => {
                "Ask the provider for fewer scopes, which makes its tokens smaller."
            }
            Self::VaultLocked => "Unlock it with its passphrase.",
            Self::VaultWrongPassphrase | Self::VaultBackOff => {
                "Check the keyboard and try again in a moment."
            }
            Self::VaultCorrupt => {
                "Put a backup of vault.sealed in its place; Keywright does not touch it."
            }
            Self::VaultPassphraseTooShort => "Several words are easier to remember than signs.",
            Self::VaultNotNeeded(_) => "Unlock or repair the keychain instead.",
            Self::Busy | Self::Failed { .. } => {
                "Try again; if it keeps failing, restart the system's keychain service."
            }
        };
        Some(hint.to_owned())
    }

    /// Whether the same call may work later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        !matches!(
            self,
            Self::Ambiguous { .. }
                | Self::TooLarge { .. }
                | Self::VaultCorrupt
                | Self::VaultNotNeeded(_)
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

    pub(super) fn unexpected() -> Self {
        Self::Failed {
            detail: "it answered another question".to_owned(),
        }
    }

    /// Reads a store's error. The stores do not type their causes, so that their text decides;
    /// `at_once` says that the answer came faster than a person can press a button.
    pub(super) fn from_store(error: &StoreError, service: &str, user: &str, at_once: bool) -> Self {
        match error {
            StoreError::Ambiguous(entries) => Self::Ambiguous {
                service: service.to_owned(),
                user: user.to_owned(),
                count: entries.len(),
            },
            StoreError::TooLong(_, limit) => Self::TooLarge {
                bytes: 0,
                limit: usize::try_from(*limit).unwrap_or(usize::MAX),
            },
            StoreError::BadEncoding(_) | StoreError::BadDataFormat(..) => Self::Failed {
                detail: "the entry is not text of ours".to_owned(),
            },
            StoreError::PlatformFailure(cause) | StoreError::NoStorageAccess(cause) => {
                Self::from_text(&cause.to_string(), at_once)
            }
            other => Self::Failed {
                detail: tidy(&other.to_string()),
            },
        }
    }

    fn from_text(text: &str, at_once: bool) -> Self {
        let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
        if has(&["prompt dismissed"]) {
            // Without a display the service dismisses its own dialog: nobody denied anything.
            return if at_once { Self::Locked } else { Self::Denied };
        }
        if has(&[
            "object locked",
            "IsLocked",
            "errSecInteractionNotAllowed",
            "-25308",
        ]) {
            return Self::Locked;
        }
        if has(&[
            "AccessDenied",
            "NotAuthorized",
            "errSecAuthFailed",
            "-25293",
            "User canceled",
            "-128",
        ]) {
            return Self::Denied;
        }
        if has(&[
            "no secret service provider",
            "ServiceUnknown",
            "NameHasNoOwner",
            "NoReply",
            "Spawn",
            "address",
            "I/O error",
            "Disconnected",
            "connection closed",
        ]) {
            // The system's own words name interfaces that nobody looks for; the log has them.
            tracing::info!(said = tidy(text), "no keychain service");
            let detail = if has(&[
                "ServiceUnknown",
                "NameHasNoOwner",
                "no secret service provider",
            ]) {
                "nothing offers a Secret Service"
            } else if has(&["address"]) {
                "there is no D-Bus session"
            } else {
                "the connection to it broke"
            };
            return Self::Unavailable {
                detail: detail.to_owned(),
            };
        }
        if has(&["result not returned"]) {
            return Self::Unavailable {
                detail: "there is no default keyring".to_owned(),
            };
        }
        Self::Failed { detail: tidy(text) }
    }
}

/// One line, capped, without a full stop of its own.
fn tidy(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(160)
        .collect();
    line.trim().trim_end_matches('.').to_owned()
}
