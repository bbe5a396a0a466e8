//! `GET /api/v1/permissions`: what the caller may do about keys, so that nobody is offered what would be
//! refused (AC-158). What counts is decided anew at each request.

use axum::Json;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::manager::Manager;
use crate::problem::Problem;

/// What the caller may do, by their roles and by what they were let in with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PermissionsView {
    /// The caller, where it is a person: keys of this owner are their own.
    person: Option<String>,
    /// Issue keys: nobody grants what they do not hold.
    issue: bool,
    /// Change, rotate and end everybody's keys.
    change_all: bool,
    /// Change, rotate and end their own.
    change_own: bool,
    /// Verify keys of others.
    verify: bool,
    /// Add scopes to the catalogue, and describe them.
    define_scopes: bool,
}

/// What the caller may do about keys.
#[utoipa::path(
    get, path = "/api/v1/permissions", tag = "keys",
    responses((status = 200, description = "What would not be refused for want of a permission", body = PermissionsView))
)]
pub(crate) async fn read(manager: Manager) -> Result<Response, Problem> {
    let (change_all, change_own) = (manager.may("keys:write"), manager.may_own("keys:write"));
    let holds_any = !manager.held(false).as_slice().is_empty();
    let view = PermissionsView {
        issue: (change_all || change_own) && holds_any,
        change_all,
        change_own,
        verify: manager.may("keys:verify"),
        define_scopes: manager.may("scopes:write"),
        person: manager.person,
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(view)).into_response())
}
