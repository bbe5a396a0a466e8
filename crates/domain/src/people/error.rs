//! What can go wrong with people, clients and grants, each with a stable code.

use super::redirects::RedirectUriError;

/// A rule about people was broken. Nothing was changed when one is returned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeopleError {
    /// No such user.
    #[error("there is no person with this id")]
    UserNotFound,
    /// The principal is a user: what it is called and may do follows from that.
    #[error("this is a person with an account: change the person instead")]
    PrincipalIsUser,
    /// The change would leave nobody who may do everything.
    #[error("this is the last owner: make somebody else an owner first")]
    LastOwner,
    /// Another user has this e-mail address.
    #[error("another person has this e-mail address")]
    EmailTaken,
    /// Not an e-mail address.
    #[error("this is not an e-mail address")]
    Email,
    /// A name is empty, too long or has characters that do not show.
    #[error("a name has 1 to 120 visible characters")]
    Name,
    /// The user is disabled.
    #[error("this person is disabled")]
    UserDisabled,
    /// No such role.
    #[error("there is no role “{0}”")]
    RoleNotFound(String),
    /// Not a role's name.
    #[error("a role's name has 1 to 40 small letters, digits, - or _")]
    RoleName,
    /// Built-in roles stay as they are.
    #[error("this role is built in and cannot be changed")]
    RoleBuiltIn,
    /// Somebody has the role.
    #[error("somebody still has this role")]
    RoleInUse,
    /// The invitation is unknown, used, withdrawn or too old.
    #[error("this invitation is not valid any more")]
    Invitation,
    /// The link for another password is used, replaced or too old.
    #[error("this link for another password is not valid any more")]
    PasswordReset,
    /// No such session.
    #[error("there is no session with this id")]
    SessionNotFound,
    /// No such client.
    #[error("there is no client with this id")]
    ClientNotFound,
    /// No such registration token, or none that is good now.
    #[error("there is no registration token like this")]
    RegistrationTokenNotFound,
    /// Another client has this id.
    #[error("another client has this id")]
    ClientIdTaken,
    /// What is said of a client does not fit together.
    #[error("the client cannot be like this: {0}")]
    Client(&'static str),
    /// A redirect URI that no client may have.
    #[error(transparent)]
    RedirectUri(#[from] RedirectUriError),
    /// No such grant.
    #[error("there is no grant with this id")]
    GrantNotFound,
    /// The user code is unknown or too old, or was decided.
    #[error("this code is not valid any more")]
    UserCode,
    /// No such signing key.
    #[error("there is no signing key with this id")]
    SigningKeyNotFound,
    /// A signing key with this kid is there.
    #[error("there is a signing key with this id")]
    SigningKeyTaken,
    /// The signing key is not in a state that allows this.
    #[error("the signing key is {0}")]
    SigningKeyState(&'static str),
    /// No such identity provider.
    #[error("there is no identity provider with this id")]
    ProviderNotFound,
    /// A provider with this id is there.
    #[error("there is an identity provider with this id")]
    ProviderTaken,
    /// Not an identity provider's id.
    #[error("a provider's id has 1 to 40 small letters, digits, - or _")]
    ProviderId,
    /// The identity belongs to somebody else.
    #[error("this identity is linked to another person")]
    IdentityInUse,
    /// No such linked identity.
    #[error("there is no linked identity with this id")]
    IdentityNotFound,
    /// Without it the person could not sign in any more.
    #[error("this is the last way to sign in: add another one first")]
    LastSignInMethod,
    /// No such passkey.
    #[error("there is no passkey with this id")]
    PasskeyNotFound,
    /// The passkey is registered already.
    #[error("this passkey is registered already")]
    PasskeyTaken,
    /// No second factor by one-time codes is set up.
    #[error("one-time codes are not set up")]
    TotpNotFound,
}

impl PeopleError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UserNotFound => "user_not_found",
            Self::PrincipalIsUser => "principal_is_user",
            Self::LastOwner => "last_owner",
            Self::EmailTaken => "email_taken",
            Self::Email => "invalid_email",
            Self::Name => "invalid_name",
            Self::UserDisabled => "user_disabled",
            Self::RoleNotFound(_) => "role_not_found",
            Self::RoleName => "invalid_role_name",
            Self::RoleBuiltIn => "role_built_in",
            Self::RoleInUse => "role_in_use",
            Self::Invitation => "invitation_invalid",
            Self::PasswordReset => "password_reset_invalid",
            Self::SessionNotFound => "session_not_found",
            Self::ClientNotFound => "client_not_found",
            Self::RegistrationTokenNotFound => "registration_token_not_found",
            Self::ClientIdTaken => "client_id_taken",
            Self::Client(_) => "invalid_client_metadata",
            Self::RedirectUri(_) => "invalid_redirect_uri",
            Self::GrantNotFound => "grant_not_found",
            Self::UserCode => "user_code_invalid",
            Self::SigningKeyNotFound => "signing_key_not_found",
            Self::SigningKeyTaken => "signing_key_taken",
            Self::SigningKeyState(_) => "signing_key_state",
            Self::ProviderNotFound => "provider_not_found",
            Self::ProviderTaken => "provider_taken",
            Self::ProviderId => "invalid_provider_id",
            Self::IdentityInUse => "identity_in_use",
            Self::IdentityNotFound => "identity_not_found",
            Self::LastSignInMethod => "last_sign_in_method",
            Self::PasskeyNotFound => "passkey_not_found",
            Self::PasskeyTaken => "passkey_taken",
            Self::TotpNotFound => "totp_not_found",
        }
    }
}
