//! `/api/v1/sign-ins`: who signed in to an account, and who tried.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::api::{PageAsked, private};
use super::views::SignInView;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::server::App;

/// One page of attempts, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SignInList {
    /// Attempts, those that failed too.
    items: Vec<SignInView>,
    /// For the next page; none at the end.
    next_cursor: Option<String>,
}

/// The sign-ins to the caller's account.
#[utoipa::path(
    get,
    path = "/api/v1/sign-ins",
    tag = "sessions",
    security(("accessToken" = []), ("session" = [])),
    params(
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "1 to 100"),
    ),
    responses((status = 200, description = "One page", body = SignInList))
)]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    asked: PageAsked,
) -> Result<Response, Problem> {
    caller.require_account()?;
    page(&app, &caller.user.id, &asked).await
}

/// A page of the sign-ins to an account.
pub(super) async fn page(app: &App, user_id: &str, asked: &PageAsked) -> Result<Response, Problem> {
    let page = app
        .registry
        .list_sign_ins(Some(user_id), asked.cursor.as_deref(), asked.limit)
        .await?;
    Ok(private(&SignInList {
        items: page.items.into_iter().map(SignInView::from).collect(),
        next_cursor: page.next_cursor,
    }))
}
