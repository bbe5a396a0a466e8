//! Ways to sign in, on a person's own page: password, passkeys, one-time codes, recovery codes, and
//! linked identity providers.

use axum::Router;

use crate::server::App;

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
}
