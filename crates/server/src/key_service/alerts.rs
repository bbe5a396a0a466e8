//! `/api/v1/alerts`: what somebody should look at, such as a use of a canary or of an ended secret.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_registry::{Alert, AlertQuery};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::paging::Asked;
use crate::keys::issue::body;
use crate::keys::manager::Manager;
use crate::problem::Problem;
use crate::server::App;

/// Something that should not have happened. Times are Unix ms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertView {
    id: String,
    /// What, as a stable word.
    kind: &'static str,
    key_id: String,
    kid: String,
    /// Who did it; for a delivery, where it was to go.
    caller: String,
    /// How often.
    count: i64,
    first_at: i64,
    last_at: i64,
    /// When somebody looked at it.
    seen_at: Option<i64>,
}

impl From<Alert> for AlertView {
    fn from(alert: Alert) -> Self {
        Self {
            kind: alert.kind.as_str(),
            id: alert.id,
            key_id: alert.key_id,
            kid: alert.kid,
            caller: alert.caller,
            count: alert.count,
            first_at: alert.first_at,
            last_at: alert.last_at,
            seen_at: alert.seen_at,
        }
    }
}

/// A page of alerts, latest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertPageView {
    items: Vec<AlertView>,
    next_cursor: Option<String>,
    /// How many alerts nobody looked at, on the first page alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    unseen: Option<i64>,
}

/// What was seen.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SeenBody {
    /// `last_at` of the alert as it was seen: what happened since then is not taken for seen.
    last_at: i64,
}

/// Alerts, latest first. Needs `keys:read`.
#[utoipa::path(
    get, path = "/api/v1/alerts", tag = "hygiene",
    params(
        ("unseen" = Option<bool>, Query, description = "Only those that nobody looked at"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "1 to 100; 50 if it is left out"),
    ),
    responses((status = 200, description = "A page", body = AlertPageView))
)]
pub(crate) async fn list(
    State(app): State<App>,
    manager: Manager,
    asked: Asked,
) -> Result<Response, Problem> {
    manager.require("keys:read")?;
    asked.known(&["unseen", "cursor", "limit"])?;
    let query = AlertQuery {
        unseen_only: asked.flag("unseen", false)?,
        cursor: asked.owned("cursor"),
        limit: asked.limit()?,
    };
    let page = app.registry.list_alerts(&query).await?;
    let unseen = match &query.cursor {
        None => Some(app.registry.count_unseen_alerts().await?),
        Some(_) => None,
    };
    let page = AlertPageView {
        unseen,
        items: page.items.into_iter().map(AlertView::from).collect(),
        next_cursor: page.next_cursor,
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(page)).into_response())
}

/// Marks an alert as seen. Needs `keys:write`.
#[utoipa::path(
    post, path = "/api/v1/alerts/{id}/seen", tag = "hygiene", request_body = SeenBody, params(("id" = String, Path, description = "The alert")),
    responses((status = 204, description = "It is"), (status = 409, description = "It happened again since, or there is no such alert"))
)]
pub(crate) async fn seen(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    given: Result<Json<SeenBody>, JsonRejection>,
) -> Result<Response, Problem> {
    manager.require("keys:write")?;
    let seen = body(given)?;
    if app.registry.mark_alert_seen(&id, seen.last_at).await? {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let detail = "there is no such alert, or it happened again since";
    Err(Problem::new(
        StatusCode::CONFLICT,
        "changed_meanwhile",
        detail,
    ))
}
