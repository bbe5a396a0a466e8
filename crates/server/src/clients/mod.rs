//! OAuth clients for administrators: `/api/v1/clients` and `/api/v1/registration-tokens`. What a
//! program may say of itself is `oauth2::register` (RFC 7591).

pub(crate) mod api;
mod description;
pub(crate) mod tokens;
mod views;

#[cfg(test)]
mod tests;

use axum::Router;
use axum::routing::{delete, get, post};

pub use self::description::{ClientChanges, ClientError};
pub use self::tokens::new_registration_token;
use crate::server::App;
use crate::sessions::api::wrong_method as wrong;

/// Sees clients and registration tokens.
const READ: &str = "clients:read";
/// Changes them.
const WRITE: &str = "clients:write";

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route(
            "/api/v1/clients",
            get(api::list).post(api::add).fallback(wrong),
        )
        .route(
            "/api/v1/clients/{id}",
            get(api::read)
                .patch(api::change)
                .delete(api::remove)
                .fallback(wrong),
        )
        .route(
            "/api/v1/clients/{id}/disable",
            post(api::disable).fallback(wrong),
        )
        .route(
            "/api/v1/clients/{id}/enable",
            post(api::enable).fallback(wrong),
        )
        .route(
            "/api/v1/clients/{id}/rotate-secret",
            post(api::rotate_secret).fallback(wrong),
        )
        .route(
            "/api/v1/clients/{id}/revoke-tokens",
            post(api::revoke_tokens).fallback(wrong),
        )
        .route(
            "/api/v1/registration-tokens",
            get(tokens::list).post(tokens::make).fallback(wrong),
        )
        .route(
            "/api/v1/registration-tokens/{id}",
            delete(tokens::end).fallback(wrong),
        )
}
