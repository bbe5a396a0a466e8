//! People and what acts for them: users, roles, sessions, clients, grants, signing keys, identity
//! providers. Each use case is one transaction with one event; what is hashed or sealed comes
//! hashed or sealed, and nothing secret is compared here but digests of random tokens.

pub(crate) mod client_tokens;
pub(crate) mod clients;
pub(crate) mod codes;
pub(crate) mod consents;
pub(crate) mod credentials;
pub(crate) mod devices;
pub(crate) mod grants;
pub(crate) mod invitations;
pub(crate) mod logouts;
pub(crate) mod makers;
pub(crate) mod page;
pub(crate) mod password_resets;
pub(crate) mod providers;
pub(crate) mod refresh;
pub(crate) mod refusals;
pub(crate) mod registration_tokens;
pub(crate) mod requests;
pub(crate) mod retention;
pub(crate) mod roles;
pub(crate) mod sessions;
pub(crate) mod sign_ins;
pub(crate) mod signing_keys;
pub(crate) mod users;

pub use clients::{ChangedClient, ClientSecretRecord, NewClientSecret};
pub use codes::{AuthorizationCode, CodeOutcome, CodeRequest, NewCode};
pub use consents::Consent;
pub use credentials::{NewPasskey, Passkey, PasskeyUse, RecoveryCode, Totp};
pub use devices::{
    DeviceGrant, DeviceOutcome, DevicePoll, DeviceRequest, NamedResource, NewDeviceRequest,
};
pub use grants::{Denial, DenialKind, Grant, GrantOrigin, GrantSignIn, NewGrant};
pub use invitations::{Invitation, NewInvitation};
pub use logouts::Logout;
pub use page::Page;
pub use providers::{
    IdentityClaims, IdentityOutcome, IdentityProvider, LinkedIdentity, NewProvider,
};
pub use refresh::{RefreshOutcome, RefreshRequest};
pub use registration_tokens::{NewRegistrationToken, RegistrationToken};
pub use requests::{LoginOutcome, LoginTransaction, NewLogin, PushedRequest};
pub use retention::{PeopleRetention, PrunedPeople};
pub use roles::Role;
pub use sessions::{EndedSessions, NewSession};
pub use sign_ins::{NewSignIn, SignIn, SignInStanding};
pub use signing_keys::NewSigningKey;
pub use users::{Credentials, NewUser, User, UserChange, UserOrder, UserQuery};

use keywright_domain::audit::AuditAction;

use crate::store::audit::NewEvent;

/// An event about something of a person or a client.
fn about(
    action: AuditAction,
    (target_kind, target_id, target_name): (&'static str, &str, &str),
    summary: String,
    details: Vec<(&'static str, String)>,
) -> NewEvent {
    NewEvent {
        action,
        target_kind,
        target_id: target_id.to_owned(),
        target_name: target_name.to_owned(),
        summary,
        details,
    }
}

/// Foreign text, such as what a browser says it is: without control characters, capped.
fn foreign(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(300)
        .collect()
}

fn new_id() -> String {
    keywright_domain::base62::random_id(&mut rand::rng())
}
