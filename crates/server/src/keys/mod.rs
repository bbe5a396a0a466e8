//! API keys over HTTP: `/api/v1/keys` for who manages them, `/api/v1/keys/verify` for services, and
//! `/verify` for gateways that ask before they let a request through.

mod bearer;
pub(crate) mod change;
pub(crate) mod counts;
pub(crate) mod forward_auth;
mod in_url;
pub(crate) mod issue;
pub(crate) mod list;
pub(crate) mod manager;
pub(crate) mod owners;
pub(crate) mod permissions;
pub(crate) mod rotate;
pub(crate) mod settings;
pub(crate) mod verify;
pub(crate) mod views;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use in_url::in_own_url;

use axum::Router;
use axum::routing::{any, delete, get, post};

use crate::server::App;

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/keys", get(list::list).post(issue::issue))
        .route("/api/v1/keys/counts", get(counts::counts))
        .route("/api/v1/keys/verify", post(verify::verify))
        .route("/api/v1/keys/{id}", get(list::read).patch(change::change))
        .route("/api/v1/keys/{id}/revoke", post(change::revoke))
        .route("/api/v1/keys/{id}/disable", post(change::disable))
        .route("/api/v1/keys/{id}/enable", post(change::enable))
        .route(
            "/api/v1/keys/{id}/rotations",
            get(crate::key_service::rotations::list).post(rotate::rotate),
        )
        .route(
            "/api/v1/keys/{id}/rotations/current/{step}",
            post(rotate::step),
        )
        .route(
            "/api/v1/keys/{id}/secrets/{kid}/revoke",
            post(rotate::revoke_secret),
        )
        .route("/api/v1/permissions", get(permissions::read))
        .route("/api/v1/owners/{id}/revoke-keys", post(owners::revoke_keys))
        .route(
            "/api/v1/scopes",
            get(list::scopes).put(change::define_scope),
        )
        .route("/api/v1/scopes/{name}", delete(change::remove_scope))
        .route("/verify", any(forward_auth::forward_auth))
        // Envoy, when it is asked for `/`: a wildcard stands for something.
        .route("/verify/", any(forward_auth::forward_auth))
        .route("/verify/{*path}", any(forward_auth::forward_auth))
}
