//! A person's own page: sessions, applications with access, ways to sign in, history.

use axum::Router;

use crate::server::App;

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
}
