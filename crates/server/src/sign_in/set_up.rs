//! The first set-up in the browser, guarded by a code that the terminal shows; and invitations.

use axum::Router;

use crate::server::App;

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
}
