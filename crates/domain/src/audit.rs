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
    /// The registry was copied into a file.
    RegistryBackedUp,
    /// The registry was put back from a copy: what happened after the copy is not in it.
    RegistryRestored,
    /// What the registry holds was written out, without secrets.
    RegistryExported,
    /// The peppers were sealed under a passphrase, to be kept elsewhere.
    PeppersEscrowed,
    /// The peppers were sealed for another registry that takes keys over.
    PeppersHandedOver,
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
    /// Name, scopes or settings of a key were changed.
    ApiKeyChanged,
    /// A key was suspended.
    ApiKeyDisabled,
    /// A suspension ended.
    ApiKeyEnabled,
    /// A key was seen where no key belongs.
    ApiKeyExposed,
    /// A key of another maker was taken over.
    ApiKeyImported,
    /// A key moved to a remote registry.
    ApiKeyPromoted,
    /// A key came from another registry.
    PromotionAccepted,
    /// A pending secret was made the current one by hand.
    SecretPromoted,
    /// A pending secret was made anew, because the answer that held it was lost.
    SecretReissued,
    /// One secret of a key was ended.
    SecretRevoked,
    /// A rotation ended before its new secret was used.
    RotationCancelled,
    /// The old secret became the current one again.
    RotationRolledBack,
    /// The old secret ended.
    RotationFinished,
    /// A person, service or team was made.
    PrincipalCreated,
    /// A principal was renamed or given other permissions.
    PrincipalChanged,
    /// A principal was suspended with all its keys.
    PrincipalDisabled,
    /// A principal works again.
    PrincipalEnabled,
    /// All keys of a principal were revoked.
    PrincipalKeysRevoked,
    /// A policy was set.
    PolicySet,
    /// A policy was removed.
    PolicyRemoved,
    /// New keys are stored under a new pepper.
    PepperRotated,
    /// A checkpoint of this trail was signed.
    AuditCheckpointed,
    /// Old events were removed behind a checkpoint.
    AuditPruned,
    /// What was kept beyond the policy was removed.
    RetentionRun,
    /// A schedule of rotations was set.
    ScheduleSet,
    /// A schedule of rotations was removed.
    ScheduleRemoved,
    /// A new secret reached the place it was made for.
    SecretDelivered,
    /// A new secret did not reach the place it was made for.
    DeliveryFailed,
}

impl AuditAction {
    /// Stable text, `target.verb`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RegistryCreated => "registry.created",
            Self::RegistryBackedUp => "registry.backed_up",
            Self::RegistryRestored => "registry.restored",
            Self::RegistryExported => "registry.exported",
            Self::PeppersEscrowed => "registry.peppers_escrowed",
            Self::PeppersHandedOver => "registry.peppers_handed_over",
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
            Self::ApiKeyChanged => "api_key.changed",
            Self::ApiKeyDisabled => "api_key.disabled",
            Self::ApiKeyEnabled => "api_key.enabled",
            Self::ApiKeyExposed => "api_key.exposed",
            Self::ApiKeyImported => "api_key.imported",
            Self::ApiKeyPromoted => "api_key.promoted",
            Self::PromotionAccepted => "api_key.promotion_accepted",
            Self::SecretPromoted => "api_key.secret_promoted",
            Self::SecretReissued => "api_key.secret_reissued",
            Self::SecretRevoked => "api_key.secret_revoked",
            Self::RotationCancelled => "api_key.rotation_cancelled",
            Self::RotationRolledBack => "api_key.rotation_rolled_back",
            Self::RotationFinished => "api_key.rotation_finished",
            Self::PrincipalCreated => "principal.created",
            Self::PrincipalChanged => "principal.changed",
            Self::PrincipalDisabled => "principal.disabled",
            Self::PrincipalEnabled => "principal.enabled",
            Self::PrincipalKeysRevoked => "principal.keys_revoked",
            Self::PolicySet => "policy.set",
            Self::PolicyRemoved => "policy.removed",
            Self::PepperRotated => "registry.pepper_rotated",
            Self::AuditCheckpointed => "audit.checkpointed",
            Self::AuditPruned => "audit.pruned",
            Self::RetentionRun => "registry.retention_run",
            Self::ScheduleSet => "schedule.set",
            Self::ScheduleRemoved => "schedule.removed",
            Self::SecretDelivered => "api_key.secret_delivered",
            Self::DeliveryFailed => "api_key.delivery_failed",
        }
    }
}
