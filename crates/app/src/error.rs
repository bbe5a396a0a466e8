//! The one error of this room, and how it is told to a person: what happened, a code, a hint.

use std::sync::Arc;

use keywright_domain::api_keys::EnvironmentError;
use keywright_protocol::ErrorView;
use keywright_registry::RegistryError;

use crate::api_keys::UseCounts;
use crate::delivery::DeliveryError;
use crate::home::HomeError;
use crate::remote::RemoteError;
use crate::secret_store::KeychainError;
use crate::sessions::SessionsError;
use crate::settings::SettingsError;
use crate::sign_in::SignInError;

/// What can go wrong in the app.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The registry.
    #[error(transparent)]
    Registry(Arc<RegistryError>),
    /// The keychain.
    #[error(transparent)]
    Keychain(#[from] KeychainError),
    /// A sign-in, or the tokens of an account.
    #[error(transparent)]
    SignIn(#[from] SignInError),
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The app's folder.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Not the name of an environment.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// A delivery that could not begin.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The sessions of an account at its server.
    #[error(transparent)]
    Sessions(#[from] SessionsError),
    /// A registry on a server.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// A verification that would do more than tell.
    #[error(transparent)]
    UseCounts(#[from] UseCounts),
    /// Keys that cannot move to another registry.
    #[error(transparent)]
    Promotion(keywright_registry::PromotionError),
    /// The clipboard did not take the text.
    #[error("the clipboard did not take the text: {0}")]
    Clipboard(String),
    /// A secret that was shown, discarded or forgotten.
    #[error("this secret is no longer kept anywhere")]
    SecretGone,
    /// A secret is shown once.
    #[error("this secret was already shown once")]
    AlreadyRevealed,
}

impl From<RegistryError> for AppError {
    fn from(error: RegistryError) -> Self {
        Self::Registry(Arc::new(error))
    }
}

impl AppError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Registry(error) => error.code(),
            Self::Keychain(error) => error.code(),
            Self::SignIn(error) => error.code(),
            Self::Settings(error) => error.code(),
            Self::Home(error) => error.code(),
            Self::Environment(error) => error.code(),
            Self::Delivery(error) => error.code(),
            Self::Sessions(error) => error.code(),
            Self::Remote(error) => error.code(),
            Self::UseCounts(what) => what.code(),
            Self::Promotion(error) => error.code(),
            Self::Clipboard(_) => "clipboard_unavailable",
            Self::SecretGone => "secret_gone",
            Self::AlreadyRevealed => "already_revealed",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => registry_hint(error).map(str::to_owned),
            Self::Keychain(error) => error.hint(),
            Self::SignIn(error) => error.hint(),
            Self::Sessions(error) => error.hint().map(str::to_owned),
            Self::Remote(error) => error.hint().map(str::to_owned),
            Self::Settings(_)
            | Self::Environment(_)
            | Self::Delivery(_)
            | Self::UseCounts(_)
            | Self::Promotion(_) => None,
            Self::Home(_) => Some("Set KEYWRIGHT_HOME to a folder of your own.".to_owned()),
            Self::Clipboard(_) => {
                Some("Reveal the secret and copy it by hand, or try again.".to_owned())
            }
            Self::SecretGone | Self::AlreadyRevealed => Some(
                "Rotate the key to get a new secret; the old one can keep working meanwhile."
                    .to_owned(),
            ),
        }
    }

    /// Whether the same call may work later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Registry(error) => matches!(
                **error,
                RegistryError::Locked
                    | RegistryError::ReadOnly
                    | RegistryError::DiskFull
                    | RegistryError::Silent
                    | RegistryError::Store(_)
            ),
            Self::Keychain(error) => error.retryable(),
            Self::SignIn(error) => error.retryable(),
            Self::Sessions(error) => error.retryable(),
            Self::Remote(error) => error.retryable(),
            Self::Clipboard(_) => true,
            _ => false,
        }
    }
}

fn registry_hint(error: &RegistryError) -> Option<&'static str> {
    Some(match error {
        RegistryError::Changed => "Look at it as it is now, and change it again.",
        RegistryError::CommitUnknown(_) => "Reload the list to see whether it was done.",
        RegistryError::KeyNotFound | RegistryError::AccountNotFound | RegistryError::Cursor => {
            "Reload the list: it has changed since."
        }
        RegistryError::RotationAlreadyDone { .. } => {
            "Its secret is not stored and cannot be shown again. Rotate once more to get another."
        }
        RegistryError::PepperMissing => {
            "Restore the keychain of this user from a backup. Without the pepper the keys of this registry cannot be verified."
        }
        RegistryError::Locked => {
            "Close the other program, or wait until it has finished, and try again."
        }
        RegistryError::ReadOnly => {
            "Make the file and its folder writable for you; nothing was changed meanwhile."
        }
        RegistryError::DiskFull => "Free some space and try again; nothing was changed meanwhile.",
        RegistryError::SchemaTooNew { .. } => {
            "Start the newer version of Keywright, or update this one."
        }
        RegistryError::Damaged(_) => {
            "Move the file aside and put a backup in its place; Keywright does not touch it."
        }
        RegistryError::UnsafePath(_) => "Put a real file in a folder that only you can read.",
        RegistryError::Silent | RegistryError::Store(_) => {
            "Try again; the log file has the details."
        }
        // What a rule or a policy says is said whole.
        _ => return None,
    })
}

/// A sentence for people begins with a capital and ends with a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let Some(first) = letters.next() else {
        return String::new();
    };
    let mut sentence: String = first.to_uppercase().chain(letters).collect();
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

impl From<&AppError> for ErrorView {
    fn from(error: &AppError) -> Self {
        Self {
            code: error.code().to_owned(),
            message: sentence(&error.to_string()),
            hint: error.hint(),
            retryable: error.retryable(),
        }
    }
}

impl From<AppError> for ErrorView {
    fn from(error: AppError) -> Self {
        Self::from(&error)
    }
}

impl From<keywright_registry::PromotionError> for AppError {
    fn from(error: keywright_registry::PromotionError) -> Self {
        match error {
            keywright_registry::PromotionError::Registry(error) => error.into(),
            other => Self::Promotion(other),
        }
    }
}
