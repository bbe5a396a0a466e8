//! Webhooks: other programs are told what happens, by signed requests (Standard Webhooks 1.0).
//! `docs/webhooks.md` is for those who receive them.

pub(crate) mod api;
pub(crate) mod deliver;
pub(crate) mod deliveries;
pub(crate) mod events;
pub(crate) mod holds;
mod signature;
mod views;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use axum::Router;
use axum::routing::{get, post};

use crate::server::App;
use crate::sessions::api::wrong_method as wrong;

/// Sees webhooks and what came of deliveries.
const READ: &str = "webhooks:read";
/// Changes them.
const WRITE: &str = "webhooks:write";
/// What secrets are sealed for.
const SECRET_PURPOSE: &str = "webhook secret";

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route(
            "/api/v1/webhooks",
            get(api::list).post(api::create).fallback(wrong),
        )
        .route(
            "/api/v1/webhooks/{id}",
            get(api::read)
                .patch(api::change)
                .delete(api::remove)
                .fallback(wrong),
        )
        .route(
            "/api/v1/webhooks/{id}/rotate-secret",
            post(api::rotate_secret).fallback(wrong),
        )
        .route(
            "/api/v1/webhooks/{id}/test",
            post(deliveries::test).fallback(wrong),
        )
        .route(
            "/api/v1/webhooks/{id}/deliveries",
            get(deliveries::list).fallback(wrong),
        )
        .route(
            "/api/v1/webhooks/{id}/deliveries/redeliver",
            post(deliveries::redeliver_failed).fallback(wrong),
        )
        .route(
            "/api/v1/webhooks/{id}/deliveries/{delivery}",
            get(deliveries::read).fallback(wrong),
        )
        .route(
            "/api/v1/webhooks/{id}/deliveries/{delivery}/redeliver",
            post(deliveries::redeliver).fallback(wrong),
        )
}
