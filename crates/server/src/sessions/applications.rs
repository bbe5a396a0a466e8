//! `/api/v1/applications`: who has access to a person's account, and an end to it.

use std::ops::Bound;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use keywright_domain::audit::Actor;
use serde::Serialize;

use super::api::{PageAsked, private};
use super::views::{self, ApplicationView};
use crate::caller::Caller;
use crate::problem::Problem;
use crate::server::App;

/// One page of applications, by `client_id`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ApplicationList {
    /// Applications.
    items: Vec<ApplicationView>,
    /// For the next page; none at the end.
    next_cursor: Option<String>,
}

/// The applications with access to the caller's account.
#[utoipa::path(
    get,
    path = "/api/v1/applications",
    tag = "sessions",
    security(("accessToken" = []), ("session" = [])),
    params(
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "1 to 100"),
    ),
    responses((status = 200, description = "One page", body = ApplicationList))
)]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    asked: PageAsked,
) -> Result<Response, Problem> {
    caller.require_account()?;
    let all = views::applications(&app, &caller.user.id).await?;
    // The cursor is the last `client_id`: a person has a handful, so all are read for each page.
    let after = asked.cursor.map_or(Bound::Unbounded, Bound::Excluded);
    let most = usize::try_from(asked.limit).unwrap_or(1);
    let mut items: Vec<_> = all
        .range((after, Bound::Unbounded))
        .take(most + 1)
        .map(|(_, view)| view.clone())
        .collect();
    let more = items.len() > most;
    items.truncate(most);
    let last = items.last().filter(|_| more);
    let next_cursor = last.map(|view| view.client_id.clone());
    Ok(private(&ApplicationList { items, next_cursor }))
}

/// Takes an application's access away: what the caller allowed it, and all its grants. It is told by
/// back-channel logout; asking again changes nothing.
#[utoipa::path(
    delete,
    path = "/api/v1/applications/{client_id}",
    tag = "sessions",
    security(("accessToken" = []), ("session" = [])),
    params(("client_id" = String, Path, description = "The application")),
    responses(
        (status = 204, description = "It has no access"),
        (status = 404, description = "`application_not_found`: it never had any"),
    )
)]
pub(crate) async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path(client_id): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.require_account()?;
    if take_away(&app, &caller.actor(), &caller.user.id, &client_id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        let detail = "no application with this id ever had access";
        Err(Problem::not_found("application_not_found", detail))
    }
}

/// Ends all that an application has of a person, and tells it. False if it never had anything; what was
/// ended before stays so.
///
/// # Errors
/// [`Problem`].
pub(crate) async fn take_away(
    app: &App,
    actor: &Actor,
    user_id: &str,
    client_id: &str,
) -> Result<bool, Problem> {
    let removed = app
        .registry
        .revoke_consent(actor, user_id, client_id)
        .await?;
    let Some(removed) = removed else {
        return Ok(false);
    };
    super::ended_elsewhere(app, &removed).await?;
    Ok(true)
}
