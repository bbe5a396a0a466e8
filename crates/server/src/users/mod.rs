//! People and roles, as administrators see them: `/api/v1/users`, `/api/v1/roles`, `/api/v1/invitations`.

use axum::Router;

use crate::server::App;

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
}
