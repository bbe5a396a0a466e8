//! How many keys there are, by state.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use keywright_registry::{ApiKeyCounts, ApiKeyFilter, ApiKeyQuery, StateFilter};
use serde::Serialize;
use utoipa::ToSchema;

use super::manager::Manager;
use crate::problem::Problem;
use crate::server::App;

/// Counts by state.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyCounts {
    /// Every key.
    all: i64,
    /// Active or rotating.
    live: i64,
    /// Two secrets verify.
    rotating: i64,
    /// Live and ending within 30 days.
    expiring: i64,
    /// No secret verifies any more.
    expired: i64,
    /// Suspended.
    disabled: i64,
    /// Revoked.
    revoked: i64,
}

impl From<ApiKeyCounts> for KeyCounts {
    fn from(counts: ApiKeyCounts) -> Self {
        Self {
            all: counts.all,
            live: counts.live,
            rotating: counts.rotating,
            expiring: counts.expiring,
            expired: counts.expired,
            disabled: counts.disabled,
            revoked: counts.revoked,
        }
    }
}

/// Counts keys by state: everybody's with `keys:read`, otherwise the caller's own.
#[utoipa::path(
    get, path = "/api/v1/keys/counts", tag = "keys",
    responses((status = 200, description = "With very many keys they may be some seconds old", body = KeyCounts))
)]
pub(crate) async fn counts(
    State(app): State<App>,
    manager: Manager,
) -> Result<Response, Problem> {
    manager.require_own("keys:read")?;
    let counts = match &manager.person {
        Some(person) if !manager.may("keys:read") => of_owner(&app, person).await?,
        _ => app.registry.count_api_keys().await?,
    };
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    Ok((no_store, Json(KeyCounts::from(counts))).into_response())
}

async fn of_owner(app: &App, owner: &str) -> Result<ApiKeyCounts, Problem> {
    let count = async |state| -> Result<i64, Problem> {
        let query = ApiKeyQuery {
            filter: ApiKeyFilter {
                owner: Some(owner.to_owned()),
                state,
                ..ApiKeyFilter::default()
            },
            limit: 1,
            ..ApiKeyQuery::default()
        };
        let page = app.registry.list_api_keys(&query).await?;
        Ok(page.total.map_or(0, |total| total.count))
    };
    Ok(ApiKeyCounts {
        all: count(StateFilter::All).await?,
        live: count(StateFilter::Live).await?,
        rotating: count(StateFilter::Rotating).await?,
        expiring: count(StateFilter::Expiring).await?,
        expired: count(StateFilter::Expired).await?,
        disabled: count(StateFilter::Disabled).await?,
        revoked: count(StateFilter::Revoked).await?,
    })
}
