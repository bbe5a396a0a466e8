//! `/api/v1/users/{id}/sessions` and `…/sign-ins`: what administrators see and end of others.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use keywright_domain::people::EndReason;

use super::api::{PageAsked, private};
use super::review::{self, Ended, SessionList};
use super::sign_ins::SignInList;
use crate::keys::manager::Manager;
use crate::problem::Problem;
use crate::server::App;

const READ: &str = "sessions:read";
const WRITE: &str = "sessions:write";

/// The sessions of a person. Needs `sessions:read`.
#[utoipa::path(
    get,
    path = "/api/v1/users/{id}/sessions",
    tag = "users",
    params(
        ("id" = String, Path, description = "The person"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "1 to 100"),
    ),
    responses(
        (status = 200, description = "One page", body = SessionList),
        (status = 403, description = "`insufficient_scope`"),
        (status = 404, description = "`user_not_found`"),
    )
)]
pub(crate) async fn list(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    asked: PageAsked,
) -> Result<Response, Problem> {
    super::require(&app, &manager, READ).await?;
    let user = app.registry.find_user(&id).await?;
    review::page(&app, &user.id, manager.session_id(), &asked).await
}

/// The sign-ins to a person's account. Needs `sessions:read`.
#[utoipa::path(
    get,
    path = "/api/v1/users/{id}/sign-ins",
    tag = "users",
    params(
        ("id" = String, Path, description = "The person"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "1 to 100"),
    ),
    responses(
        (status = 200, description = "One page", body = SignInList),
        (status = 403, description = "`insufficient_scope`"),
        (status = 404, description = "`user_not_found`"),
    )
)]
pub(crate) async fn sign_ins(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    asked: PageAsked,
) -> Result<Response, Problem> {
    super::require(&app, &manager, READ).await?;
    let user = app.registry.find_user(&id).await?;
    super::sign_ins::page(&app, &user.id, &asked).await
}

/// Ends one session of a person. Needs `sessions:write`.
#[utoipa::path(
    delete,
    path = "/api/v1/users/{id}/sessions/{session_id}",
    tag = "users",
    params(
        ("id" = String, Path, description = "The person"),
        ("session_id" = String, Path, description = "The session"),
    ),
    responses(
        (status = 204, description = "It is over"),
        (status = 403, description = "`insufficient_scope`"),
        (status = 404, description = "`session_not_found`"),
    )
)]
pub(crate) async fn end(
    State(app): State<App>,
    manager: Manager,
    Path((id, session_id)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    super::require(&app, &manager, WRITE).await?;
    let reason = EndReason::EndedByAdmin;
    super::end(&app, &manager.actor, &id, &session_id, reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends everything of a person. Needs `sessions:write`.
#[utoipa::path(
    post,
    path = "/api/v1/users/{id}/sessions/revoke-all",
    tag = "users",
    params(("id" = String, Path, description = "The person")),
    responses(
        (status = 200, description = "Everything is over", body = Ended),
        (status = 403, description = "`insufficient_scope`"),
        (status = 404, description = "`user_not_found`"),
    )
)]
pub(crate) async fn revoke_all(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    super::require(&app, &manager, WRITE).await?;
    let reason = EndReason::EndedByAdmin;
    let ended = super::end_all(&app, &manager.actor, &id, reason).await?;
    Ok(private(&Ended::of(&app, &ended)))
}
