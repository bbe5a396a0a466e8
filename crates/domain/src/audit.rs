//! The audit trail's vocabulary. One change, one event; none holds a secret.

use std::net::IpAddr;

/// Who did it, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    name: String,
    network: Option<IpAddr>,
}

impl Actor {
    /// A person, by the operating system's user name (capped: it is foreign text).
    #[must_use]
    pub fn person(name: &str) -> Self {
        let name = name.chars().filter(|letter| !letter.is_control());
        Self {
            name: name.take(80).collect(),
            network: None,
        }
    }

    /// The same one, who asked over the network: each event then has the address among its details.
    #[must_use]
    pub fn at(self, address: IpAddr) -> Self {
        Self {
            network: Some(address),
            ..self
        }
    }

    /// The same with the address as a record has it; what is none is left out.
    #[must_use]
    pub fn at_text(self, network: &str) -> Self {
        match network.parse() {
            Ok(address) => self.at(address),
            Err(_) => self,
        }
    }

    /// The app itself, for what nobody asked for at that moment.
    #[must_use]
    pub fn keywright() -> Self {
        Self {
            name: "keywright".to_owned(),
            network: None,
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Where the request came from; none for what nobody asked for over the network.
    #[must_use]
    pub fn network(&self) -> Option<IpAddr> {
        self.network
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
    /// A scope was taken out of the catalogue.
    ScopeRemoved,
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
    /// A person was added.
    UserCreated,
    /// A person was invited.
    UserInvited,
    /// An invitation was accepted.
    InvitationAccepted,
    /// An invitation was withdrawn.
    InvitationWithdrawn,
    /// A person's name or e-mail address was changed.
    UserChanged,
    /// A person was disabled.
    UserDisabled,
    /// A person was enabled again.
    UserEnabled,
    /// A person was deleted.
    UserDeleted,
    /// A person's roles were changed.
    UserRolesChanged,
    /// A password was set.
    PasswordChanged,
    /// An administrator took a password away and gave a link to choose another.
    PasswordReset,
    /// One-time codes or recovery codes were set up or removed.
    SecondFactorChanged,
    /// A one-time code or a recovery code was used.
    SecondFactorUsed,
    /// A passkey was added.
    PasskeyAdded,
    /// A passkey was used.
    PasskeyUsed,
    /// A passkey was removed.
    PasskeyRemoved,
    /// A passkey was given another name.
    PasskeyRenamed,
    /// A passkey counted backwards: there may be a copy of it.
    PasskeyCloned,
    /// A sign-in failed.
    SignInFailed,
    /// A sign-in succeeded.
    SignInSucceeded,
    /// Sign-in must wait after too many failures.
    UserLocked,
    /// A role was added or changed.
    RoleDefined,
    /// A role was deleted.
    RoleDeleted,
    /// A browser session began.
    SessionStarted,
    /// A session was given a new token.
    SessionRenewed,
    /// One session was ended.
    SessionEnded,
    /// Several sessions of a person were ended.
    SessionsEnded,
    /// A client was added.
    ClientAdded,
    /// A client was changed.
    ClientChanged,
    /// A client was given a new secret.
    ClientSecretRotated,
    /// A client was disabled.
    ClientDisabled,
    /// A client was enabled again.
    ClientEnabled,
    /// A client was removed.
    ClientRemoved,
    /// All that a client was given ended, and the client stays.
    ClientTokensEnded,
    /// A client was given a token of its own.
    ClientTokenIssued,
    /// A token was made with which programs register themselves.
    RegistrationTokenMade,
    /// Such a token ended before its time.
    RegistrationTokenEnded,
    /// A person allowed a client its scopes.
    ConsentGiven,
    /// A person took that back.
    ConsentRevoked,
    /// An authorization code was given.
    CodeIssued,
    /// An authorization code was redeemed.
    CodeRedeemed,
    /// An authorization code gave nothing and is used up.
    CodeRefused,
    /// An authorization code came twice: what it gave is revoked.
    CodeReplayed,
    /// A person signed a program in without a page of ours.
    GrantBegun,
    /// A refresh token was rotated.
    GrantRefreshed,
    /// A grant was used from elsewhere by another program, or far too often.
    GrantUnusual,
    /// A refresh token gave nothing.
    RefreshRefused,
    /// A rotated refresh token came again: its family is revoked.
    RefreshReused,
    /// A grant was revoked.
    GrantRevoked,
    /// An access token was put on the deny list.
    AccessTokenDenied,
    /// A device asked for access.
    DeviceRequested,
    /// A person let a device in.
    DeviceApproved,
    /// A person turned a device away.
    DeviceDenied,
    /// A device got its tokens.
    DeviceRedeemed,
    /// A client pushed an authorization request.
    RequestPushed,
    /// A pushed authorization request was taken.
    RequestConsumed,
    /// A browser was sent to an identity provider.
    LoginStarted,
    /// A browser came back from an identity provider.
    LoginReturned,
    /// A signing key was added.
    SigningKeyAdded,
    /// A signing key began to sign.
    SigningKeyPromoted,
    /// A signing key was retired.
    SigningKeyRetired,
    /// An identity provider was added.
    ProviderAdded,
    /// An identity provider was changed.
    ProviderChanged,
    /// An identity was linked to a person.
    IdentityLinked,
    /// A linked identity was removed.
    IdentityUnlinked,
    /// Somebody asked for what they may not do.
    AccessRefused,
    /// Something was begun for many keys at once.
    BulkBegun,
    /// That was cancelled.
    BulkCancelled,
    /// A request was begun that is answered later.
    OperationBegun,
    /// That was cancelled.
    OperationCancelled,
    /// Owners were asked to keep or to retire keys.
    HygieneCampaignBegun,
    /// That was called off.
    HygieneCampaignCancelled,
    /// Its due date came, and what was decided was done.
    HygieneCampaignClosed,
    /// An owner decided about a key, and nothing happens to it now.
    HygieneAnswered,
    /// What is over was removed by its retention.
    Pruned,
    /// Somebody said where a key was seen, without its secret.
    ApiKeyReported,
    /// A webhook was added.
    WebhookAdded,
    /// A webhook was changed.
    WebhookChanged,
    /// A webhook was given a new secret.
    WebhookSecretRotated,
    /// A webhook was switched off, because nothing could be delivered to it.
    WebhookDisabled,
    /// A webhook was removed.
    WebhookRemoved,
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
            Self::ScopeRemoved => "scope.removed",
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
            Self::UserCreated => "user.created",
            Self::UserInvited => "user.invited",
            Self::InvitationAccepted => "user.invitation_accepted",
            Self::InvitationWithdrawn => "user.invitation_withdrawn",
            Self::UserChanged => "user.changed",
            Self::UserDisabled => "user.disabled",
            Self::UserEnabled => "user.enabled",
            Self::UserDeleted => "user.deleted",
            Self::UserRolesChanged => "user.roles_changed",
            Self::PasswordChanged => "user.password_changed",
            Self::PasswordReset => "user.password_reset",
            Self::SecondFactorChanged => "user.second_factor_changed",
            Self::SecondFactorUsed => "user.second_factor_used",
            Self::PasskeyAdded => "user.passkey_added",
            Self::PasskeyUsed => "user.passkey_used",
            Self::PasskeyRemoved => "user.passkey_removed",
            Self::PasskeyRenamed => "user.passkey_renamed",
            Self::PasskeyCloned => "user.passkey_cloned",
            Self::SignInFailed => "user.sign_in_failed",
            Self::SignInSucceeded => "user.sign_in_succeeded",
            Self::UserLocked => "user.locked",
            Self::RoleDefined => "role.defined",
            Self::RoleDeleted => "role.deleted",
            Self::SessionStarted => "session.started",
            Self::SessionRenewed => "session.renewed",
            Self::SessionEnded => "session.ended",
            Self::SessionsEnded => "session.all_ended",
            Self::ClientAdded => "client.added",
            Self::ClientChanged => "client.changed",
            Self::ClientSecretRotated => "client.secret_rotated",
            Self::ClientDisabled => "client.disabled",
            Self::ClientEnabled => "client.enabled",
            Self::ClientRemoved => "client.removed",
            Self::ClientTokensEnded => "client.tokens_ended",
            Self::ClientTokenIssued => "client.token_issued",
            Self::RegistrationTokenMade => "registration_token.made",
            Self::RegistrationTokenEnded => "registration_token.ended",
            Self::ConsentGiven => "consent.given",
            Self::ConsentRevoked => "consent.revoked",
            Self::CodeIssued => "grant.code_issued",
            Self::CodeRedeemed => "grant.code_redeemed",
            Self::CodeRefused => "grant.code_refused",
            Self::CodeReplayed => "grant.code_replay",
            Self::GrantBegun => "grant.begun",
            Self::GrantRefreshed => "grant.refreshed",
            Self::GrantUnusual => "grant.unusual_use",
            Self::RefreshRefused => "grant.refresh_refused",
            Self::RefreshReused => "grant.refresh_reuse",
            Self::GrantRevoked => "grant.revoked",
            Self::AccessTokenDenied => "grant.access_token_denied",
            Self::DeviceRequested => "device.requested",
            Self::DeviceApproved => "device.approved",
            Self::DeviceDenied => "device.denied",
            Self::DeviceRedeemed => "device.redeemed",
            Self::RequestPushed => "request.pushed",
            Self::RequestConsumed => "request.consumed",
            Self::LoginStarted => "login.started",
            Self::LoginReturned => "login.returned",
            Self::SigningKeyAdded => "signing_key.added",
            Self::SigningKeyPromoted => "signing_key.promoted",
            Self::SigningKeyRetired => "signing_key.retired",
            Self::ProviderAdded => "identity_provider.added",
            Self::ProviderChanged => "identity_provider.changed",
            Self::IdentityLinked => "user.identity_linked",
            Self::IdentityUnlinked => "user.identity_unlinked",
            Self::AccessRefused => "user.access_refused",
            Self::BulkBegun => "registry.bulk_begun",
            Self::BulkCancelled => "registry.bulk_cancelled",
            Self::OperationBegun => "registry.operation_begun",
            Self::OperationCancelled => "registry.operation_cancelled",
            Self::HygieneCampaignBegun => "hygiene.campaign_begun",
            Self::HygieneCampaignCancelled => "hygiene.campaign_cancelled",
            Self::HygieneCampaignClosed => "hygiene.campaign_closed",
            Self::HygieneAnswered => "hygiene.answered",
            Self::Pruned => "registry.pruned",
            Self::ApiKeyReported => "api_key.reported",
            Self::WebhookAdded => "webhook.added",
            Self::WebhookChanged => "webhook.changed",
            Self::WebhookSecretRotated => "webhook.secret_rotated",
            Self::WebhookDisabled => "webhook.disabled",
            Self::WebhookRemoved => "webhook.removed",
        }
    }
}
