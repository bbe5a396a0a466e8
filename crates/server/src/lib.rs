//! The server's face of the registry: OpenID Provider, relying party, people and sessions over HTTP.
//! [`Server::router`] can be mounted by other programs at any base path. No SQL and no rules here:
//! handlers parse, call the registry, render.

mod account;
mod browser_device;
mod browser_session;
mod caller;
mod clients;
mod docs;
mod etags;
mod http;
mod key_service;
mod keys;
mod leaks;
mod mail;
mod nodes;
mod notices;
mod oauth2;
mod on_disk;
mod once;
mod operations;
mod pages;
mod passwords;
mod problem;
mod rp;
mod secrets;
mod serve;
mod server;
mod sessions;
mod set_up;
pub mod settings;
mod sign_in;
mod signing;
mod users;
mod webhooks;

/// How many tasks a worker of the runtime runs between two looks at its sockets (tokio's is 61). Where many answers are
/// ready at once, after a commit, a request that comes then is noticed the sooner; the look is one call into the kernel.
pub const EVENT_INTERVAL: u32 = 7;

/// What was built: the version, and of which commit, where the build said so in `KEYWRIGHT_BUILD`.
pub const BUILD: &str = match option_env!("KEYWRIGHT_BUILD") {
    Some(build) if !build.is_empty() => build,
    _ => env!("CARGO_PKG_VERSION"),
};

pub use clients::{ClientChanges, ClientError, new_registration_token};
pub use leaks::check_github_keys;
pub use mail::check as check_mail;
pub use nodes::check_redis;
pub use on_disk::sync_folder_of;
pub use passwords::{PasswordError, PasswordHasher};
pub use rp::{ProviderDescription, ProviderError, TokenAuth, missing_sign_up_roles};
pub use secrets::{SecretsError, ServerSecrets};
pub use serve::{
    CertificateDates, CertificateState, ServeError, TlsError, check_certificate, serve,
    serve_machines,
};
pub use server::{BuildError, Server, peppers_of};
pub use set_up::{
    BROWSER_CLIENT, DESKTOP_CLIENT, FirstOwner, SetUpError, is_empty, prepare, set_up,
};
pub use signing::{KeyFinding, check_signing_keys};

#[cfg(test)]
mod test_support;
