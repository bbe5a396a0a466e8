//! Ways to sign in, on a person's own page: password, passkeys, one-time codes, recovery codes, and
//! linked identity providers. What changes one of them needs a sign-in of the last ten minutes.

pub(crate) mod guard;
mod identities;
mod one_time_codes;
mod overview;
mod passkeys;
mod password;

use axum::Router;

use crate::server::App;

/// The page.
const PAGE: &str = "/account/sign-in";

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .merge(overview::routes())
        .merge(password::routes())
        .merge(one_time_codes::routes())
        .merge(passkeys::routes())
        .merge(identities::routes())
}

#[cfg(test)]
mod tests;
