//! Rotations of a key, to look at.

use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::paging::{Asked, LARGEST_PAGE};
use crate::etags::IfSeen;
use crate::keys::change::key_for;
use crate::keys::manager::Manager;
use crate::keys::views::RotationView;
use crate::problem::Problem;
use crate::server::App;
use crate::sessions::api::private;

/// A page of the rotations of a key, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RotationList {
    items: Vec<RotationView>,
    /// Pass it back as `cursor` for the next page; absent on the last.
    next_cursor: Option<String>,
}

/// The rotations of a key, newest first.
#[utoipa::path(
    get, path = "/api/v1/keys/{id}/rotations", tag = "keys",
    params(("id" = String, Path, description = "The key"), ("cursor" = Option<String>, Query, description = "next_cursor of the page before"), ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "1 to 100; 100 if it is left out")),
    responses((status = 200, description = "A page", body = RotationList))
)]
pub(crate) async fn list(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<Response, Problem> {
    key_for(&app, &manager, &id, "keys:read").await?;
    asked.known(&["cursor", "limit"])?;
    let limit = asked.limit_or(LARGEST_PAGE)?;
    let page = app
        .registry
        .page_rotations(&id, asked.text("cursor"), limit);
    let page = page.await?;
    Ok(private(&RotationList {
        items: page.items.into_iter().map(RotationView::from).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// A rotation.
#[utoipa::path(
    get, path = "/api/v1/keys/{id}/rotations/{rotation_id}", tag = "keys",
    params(("id" = String, Path, description = "The key"), ("rotation_id" = String, Path, description = "One of its rotations"),
        ("If-None-Match" = Option<String>, Header, description = "ETag that the caller has: 304 if it is so still")),
    responses((status = 200, description = "How it stands, with its `ETag`", body = RotationView), (status = 304, description = "As the caller has it"), (status = 404, description = "`rotation_not_found`"))
)]
pub(crate) async fn read(
    State(app): State<App>,
    manager: Manager,
    Path((id, rotation_id)): Path<(String, String)>,
    seen: IfSeen,
) -> Result<Response, Problem> {
    key_for(&app, &manager, &id, "keys:read").await?;
    let found = app.registry.find_rotation(&id, &rotation_id).await?;
    seen.show(&RotationView::from(found))
}
