//! People and what acts for them: users, roles, sessions, clients, grants, signing keys. The rules
//! that an authorization server needs, without a clock, storage or network.

pub mod clients;
pub mod device;
pub mod digest;
pub mod error;
pub mod grants;
pub mod linking;
pub mod redirects;
pub mod roles;
pub mod sessions;
pub mod signing_keys;
pub mod users;

pub use clients::{AuthMethod, Client, ClientType, NewClient};
pub use device::{DeviceStatus, PollRule, UserCode};
pub use digest::{Sealed, TokenDigest};
pub use error::PeopleError;
pub use grants::{
    ACCESS_KEPT_MS, ACCESS_LEEWAY_MS, CLOCKS_APART_MS, CodeFacts, GrantRefusal, LONGEST_ACCESS_MS,
    OAuthScopes, RefreshFacts, RefreshLives, RefreshVerdict, SETTLE_KEYS_MS,
};
pub use linking::{LinkDecision, LinkFacts, LinkRefusal};
pub use redirects::{RedirectUri, RedirectUriError};
pub use roles::{OWNER, RoleName, union_of};
pub use sessions::{EndReason, Session, SessionLives, SessionState};
pub use signing_keys::{KeyState, SigningKey};
pub use users::{Email, lock_after, person_name};
