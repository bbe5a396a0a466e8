//! Everything of a key that may be changed later without a new secret.

use super::credits::{CreditPlan, CreditsError};
use super::labels::{Metadata, MetadataError, Note, NoteError, TagError, Tags};
use super::limits::{LimitError, RateLimits};
use super::networks::{NetworkError, NetworkList};
use super::origins::{OriginError, OriginList};

/// The settings of a key. The default restricts nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySettings {
    /// Its rate limits; all of them count.
    pub limits: RateLimits,
    /// Where it may be used from; empty: anywhere.
    pub networks: NetworkList,
    /// From which web pages it may be used; empty: from any, and without one.
    pub origins: OriginList,
    /// For finding it.
    pub tags: Tags,
    /// For people.
    pub note: Note,
    /// For other programs.
    pub metadata: Metadata,
    /// Whether its first accepted verification is its last.
    pub one_time: bool,
    /// Whether it is bait: well formed, without rights, and any use of it is an alarm.
    pub canary: bool,
    /// What it may use up; none: no bound.
    pub credits: Option<CreditPlan>,
}

impl KeySettings {
    /// Checks what the parts cannot check alone.
    ///
    /// # Errors
    /// [`SettingsError`]: the first rule broken.
    pub fn check(&self) -> Result<(), SettingsError> {
        if let Some(plan) = &self.credits {
            plan.check()?;
        }
        // A one-time canary would fall silent after its first alarm.
        if self.canary && self.one_time {
            return Err(SettingsError::OneTimeCanary);
        }
        Ok(())
    }
}

/// Why settings are not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A rate limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// An origin.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// A tag.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// The note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The metadata.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The credits.
    #[error(transparent)]
    Credits(#[from] CreditsError),
    /// A canary is watched for as long as it lies about.
    #[error("a canary key cannot be a one-time key: every use of it is an alarm")]
    OneTimeCanary,
}

impl SettingsError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Limit(_) => "invalid_limit",
            Self::Network(_) => "invalid_network",
            Self::Origin(_) => "invalid_origin",
            Self::Tag(_) => "invalid_tag",
            Self::Note(_) => "invalid_note",
            Self::Metadata(_) => "invalid_metadata",
            Self::Credits(_) => "invalid_credits",
            Self::OneTimeCanary => "invalid_canary",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_restricts_nothing_and_is_allowed() {
        let settings = KeySettings::default();
        assert_eq!(settings.check(), Ok(()));
        assert!(settings.networks.allows([192, 0, 2, 1].into()));
        assert!(settings.origins.allows(None));
        assert!(settings.limits.as_slice().is_empty());
    }

    #[test]
    fn a_canary_is_no_one_time_key_and_bad_credits_are_found() {
        let mut settings = KeySettings {
            canary: true,
            ..KeySettings::default()
        };
        assert_eq!(settings.check(), Ok(()));
        settings.one_time = true;
        assert_eq!(settings.check(), Err(SettingsError::OneTimeCanary));
        settings.canary = false;
        assert_eq!(settings.check(), Ok(()));
        settings.credits = Some(CreditPlan {
            amount: -1,
            refill: None,
        });
        let refused = settings.check().expect_err("negative credits");
        assert_eq!(refused.code(), "invalid_credits");
    }

    #[test]
    fn every_part_has_its_code() {
        let codes = [
            SettingsError::from(LimitError::Count).code(),
            SettingsError::from(NetworkError::TooMany).code(),
            SettingsError::from(OriginError::TooMany).code(),
            SettingsError::from(TagError::TooMany).code(),
            SettingsError::from(NoteError).code(),
            SettingsError::from(MetadataError::TooMuch).code(),
            SettingsError::from(CreditsError::Cap).code(),
        ];
        assert_eq!(
            codes,
            [
                "invalid_limit",
                "invalid_network",
                "invalid_origin",
                "invalid_tag",
                "invalid_note",
                "invalid_metadata",
                "invalid_credits"
            ]
        );
    }
}
