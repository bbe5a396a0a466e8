//! `/api/v1/sessions`: the browsers in which a person is signed in (AC-113, AC-114).

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use keywright_domain::people::EndReason;
use keywright_registry::people::EndedSessions;
use serde::Serialize;

use super::api::{PageAsked, private};
use super::views::{self, SessionView};
use crate::caller::Caller;
use crate::problem::Problem;
use crate::server::App;

/// One page of sessions, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SessionList {
    /// Sessions that are good now.
    pub(crate) items: Vec<SessionView>,
    /// For the next page; none at the end.
    pub(crate) next_cursor: Option<String>,
}

/// What was ended.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Ended {
    /// How many sessions.
    pub(crate) sessions: usize,
    /// How many accesses of applications with them.
    pub(crate) grants: usize,
    /// Applications that check our tokens by themselves may take one until this moment (Unix ms);
    /// everything that asks us refuses them now.
    pub(crate) access_ends_at: i64,
}

impl Ended {
    /// Of what the registry says.
    pub(crate) fn of(app: &App, ended: &EndedSessions) -> Self {
        Self {
            sessions: ended.sessions.len(),
            grants: ended.grants,
            access_ends_at: access_ends_at(app),
        }
    }
}

/// When the last access token that lives now is over.
pub(crate) fn access_ends_at(app: &App) -> i64 {
    app.now().saturating_add(app.settings.access_ms)
}

/// The caller's sessions.
#[utoipa::path(
    get,
    path = "/api/v1/sessions",
    tag = "sessions",
    security(("accessToken" = []), ("session" = [])),
    params(
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "1 to 100"),
    ),
    responses((status = 200, description = "One page", body = SessionList))
)]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    asked: PageAsked,
) -> Result<Response, Problem> {
    caller.require_account()?;
    let current = caller.session_id.as_deref();
    page(&app, &caller.user.id, current, &asked).await
}

/// A page of somebody's sessions.
pub(super) async fn page(
    app: &App,
    user_id: &str,
    current: Option<&str>,
    asked: &PageAsked,
) -> Result<Response, Problem> {
    let page = app
        .registry
        .list_sessions(user_id, true, asked.cursor.as_deref(), asked.limit)
        .await?;
    let items = views::sessions(app, page.items, current).await?;
    let next_cursor = page.next_cursor;
    Ok(private(&SessionList { items, next_cursor }))
}

/// Ends one session of the caller's; one that is over already too.
#[utoipa::path(
    delete,
    path = "/api/v1/sessions/{id}",
    tag = "sessions",
    security(("accessToken" = []), ("session" = [])),
    params(("id" = String, Path, description = "The session")),
    responses(
        (status = 204, description = "It is over"),
        (status = 404, description = "`session_not_found`: also somebody else's"),
    )
)]
pub(crate) async fn end(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.require_account()?;
    // Also the caller's own: whoever ends what they see in the list means all that it let in.
    let reason = EndReason::EndedByUser;
    super::end(&app, &caller.actor(), &caller.user.id, &id, reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends all sessions of the caller's but the one that asks.
#[utoipa::path(
    post,
    path = "/api/v1/sessions/revoke-others",
    tag = "sessions",
    security(("accessToken" = []), ("session" = [])),
    responses(
        (status = 200, description = "They are over", body = Ended),
        (status = 400, description = "`no_session`: the token belongs to none"),
    )
)]
pub(crate) async fn revoke_others(
    State(app): State<App>,
    caller: Caller,
) -> Result<Response, Problem> {
    caller.require_account()?;
    let Some(keep) = caller.session_id.as_deref() else {
        let detail = "this token belongs to no session that could stay: use revoke-all";
        return Err(Problem::bad_request("no_session", detail));
    };
    let ended = super::end_others(&app, &caller.actor(), &caller.user.id, keep).await?;
    Ok(private(&Ended::of(&app, &ended)))
}

/// Ends everything of the caller's: all sessions, and the access of all applications.
#[utoipa::path(
    post,
    path = "/api/v1/sessions/revoke-all",
    tag = "sessions",
    security(("accessToken" = []), ("session" = [])),
    responses((status = 200, description = "Everything is over", body = Ended))
)]
pub(crate) async fn revoke_all(
    State(app): State<App>,
    caller: Caller,
) -> Result<Response, Problem> {
    caller.require_account()?;
    let (actor, id) = (caller.actor(), &caller.user.id);
    let ended = super::end_all(&app, &actor, id, EndReason::EndedByUser).await?;
    Ok(private(&Ended::of(&app, &ended)))
}
