//! `/api/v1/operations`: requests that are answered later, for whoever asks with
//! `Prefer: respond-async` (RFC 7240 §4.1).

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_registry::{BulkOperation, LaterRequest, RegistryError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::audit::{self, VerdictView};
use super::hygiene::HygieneCountsView;
use super::import::ImportView;
use super::later_run::{self, Work};
use super::paging::Asked;
use super::places::Place;
use crate::etags::IfSeen;
use crate::keys::manager::Manager;
use crate::once::{Done, Name, done, gone, replayed};
use crate::problem::Problem;
use crate::server::App;

/// Whether the caller wants to be answered at once and to fetch what came of it later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RespondAsync(pub(crate) bool);

impl<S: Send + Sync> FromRequestParts<S> for RespondAsync {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let mut values = parts.headers.get_all("prefer").iter();
        Ok(Self(
            values.any(|value| value.to_str().is_ok_and(prefers_async)),
        ))
    }
}

/// `respond-async` among preferences (RFC 7240 §2): what stands in quotation marks is a value.
fn prefers_async(text: &str) -> bool {
    let unquoted: String = text.split('"').step_by(2).collect();
    unquoted.split(',').any(|preference| {
        let name = preference.split([';', '=']).next().unwrap_or("");
        name.trim().eq_ignore_ascii_case("respond-async")
    })
}

/// What a request would have been answered with.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum OperationResult {
    /// Of `GET /api/v1/audit/verify`.
    AuditVerify(VerdictView),
    /// Of `POST /api/v1/import`.
    Import(ImportView),
    /// Of `GET /api/v1/hygiene`.
    Hygiene(HygieneCountsView),
}

/// Why an operation ended before its end.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct OperationProblem {
    /// Stable: `access_ended`, or what the request would have been refused with.
    pub(super) code: String,
    /// In plain words.
    pub(super) detail: String,
}

/// A request that is answered later, and how far it came. Times are Unix ms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OperationView {
    id: String,
    /// `audit_verify`, `import` or `hygiene`.
    operation: String,
    /// Who asked for it.
    actor: String,
    /// `running`, `done`, `cancelled`, `stopped` (the caller may not do this any more, or the registry
    /// failed: see `problem`) or `interrupted` (the server that carried it out is gone).
    state: &'static str,
    /// Events, lines or keys that there were when it began.
    total: i64,
    /// Those that were looked at.
    done: i64,
    /// Keys that an import took over, or would. Of one that was interrupted: at least so many.
    changed: i64,
    /// Lines that an import refused.
    failed: i64,
    cancel_asked: bool,
    created_at: i64,
    seen_at: i64,
    finished_at: Option<i64>,
    /// Why it ended before its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<OperationProblem>,
    /// What the request would have been answered with, once it has ended; of an import that ended
    /// before its end too. Not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<OperationResult>)]
    result: Option<Value>,
}

impl From<BulkOperation> for OperationView {
    fn from(one: BulkOperation) -> Self {
        Self {
            id: one.id,
            operation: one.operation,
            actor: one.actor,
            state: one.state.as_str(),
            total: one.total,
            done: one.progress.done,
            changed: one.progress.changed,
            failed: one.progress.failed,
            cancel_asked: one.cancel_asked,
            created_at: one.created_at,
            seen_at: one.seen_at,
            finished_at: one.finished_at,
            problem: None,
            result: None,
        }
    }
}

/// A page of operations, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OperationList {
    items: Vec<OperationView>,
    /// Pass it back as `cursor` for the next page; absent on the last.
    next_cursor: Option<String>,
}

/// What the request needs, which whoever sees its answer needs too.
fn needs(request: LaterRequest) -> &'static str {
    match request {
        LaterRequest::AuditVerify => audit::READ,
        LaterRequest::Import => "keys:*",
        LaterRequest::Hygiene => "keys:read",
    }
}

/// What ends somebody else's.
fn ends_others(request: LaterRequest) -> &'static str {
    match request {
        LaterRequest::AuditVerify => audit::WRITE,
        LaterRequest::Import => "keys:*",
        LaterRequest::Hygiene => "keys:write",
    }
}

fn answer(body: impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// The answer to a request that was begun before under this name ([`Name::of_later`]), if it was.
pub(super) async fn before(
    app: &App,
    manager: &Manager,
    name: &Name,
) -> Result<Option<Response>, Problem> {
    let Some(id) = name.made_before(app, &manager.actor).await? else {
        return Ok(None);
    };
    let (_, operation) = app.registry.find_later(&id).await.map_err(gone)?;
    Ok(Some(replayed(accepted(app, operation))))
}

/// Carries a request out behind the answer, and says where to see how far it came. Its name, if it
/// has one, is [`Name::of_later`].
pub(super) async fn begin(
    app: &App,
    manager: Manager,
    name: Name,
    place: Place,
    work: Work,
) -> Result<Response, Problem> {
    let registry = name.registry(app, &manager.actor);
    let begun = registry.begin_later(&manager.actor, work.request(), work.total());
    let operation = match done(begun.await)? {
        Done::Now(operation) => operation,
        Done::Before(id) => {
            let (_, operation) = app.registry.find_later(&id).await.map_err(gone)?;
            return Ok(replayed(accepted(app, operation)));
        }
    };
    later_run::start(app, operation.id.clone(), manager, work, place);
    Ok(accepted(app, operation))
}

fn accepted(app: &App, operation: BulkOperation) -> Response {
    let path = format!("/api/v1/operations/{}", operation.id);
    let headers = [
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::LOCATION, app.settings.path(&path)),
        (
            HeaderName::from_static("preference-applied"),
            "respond-async".to_owned(),
        ),
    ];
    let view = Json(OperationView::from(operation));
    (StatusCode::ACCEPTED, headers, view).into_response()
}

/// An operation of which this caller may see what comes of it; any other is as if it were not there.
async fn find(
    app: &App,
    manager: &Manager,
    id: &str,
) -> Result<(LaterRequest, BulkOperation), Problem> {
    let (request, operation) = app.registry.find_later(id).await?;
    if manager.may(needs(request)) {
        Ok((request, operation))
    } else {
        Err(RegistryError::OperationNotFound.into())
    }
}

/// Requests that are answered later, newest first: those of which the caller may make one like it.
#[utoipa::path(
    get, path = "/api/v1/operations", tag = "operations",
    params(("cursor" = Option<String>, Query, description = "next_cursor of the page before"), ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "1 to 100; 50 if it is left out")),
    responses((status = 200, description = "A page, without results", body = OperationList))
)]
pub(crate) async fn list(
    State(app): State<App>,
    manager: Manager,
    asked: Asked,
) -> Result<Response, Problem> {
    let may_see = |request| manager.may(needs(request));
    if !LaterRequest::ALL.into_iter().any(may_see) {
        manager.require("keys:read")?;
    }
    asked.known(&["cursor", "limit"])?;
    let (cursor, limit) = (asked.text("cursor"), asked.limit()?);
    let page = app.registry.list_later(may_see, cursor, limit).await?;
    Ok(answer(OperationList {
        items: page.items.into_iter().map(OperationView::from).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// A request that is answered later: how far it came, and what came of it. It is kept for seven days.
#[utoipa::path(
    get, path = "/api/v1/operations/{id}", tag = "operations",
    params(("id" = String, Path, description = "The operation"), ("If-None-Match" = Option<String>, Header, description = "ETag that the caller has: 304 if it is so still")),
    responses((status = 304, description = "As the caller has it"), (status = 200, description = "How it stands", body = OperationView), (status = 404, description = "Not there, or the caller may not make such a request"))
)]
pub(crate) async fn read(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    seen: IfSeen,
) -> Result<Response, Problem> {
    let (_, operation) = find(&app, &manager, &id).await?;
    let mut view = OperationView::from(operation);
    if view.finished_at.is_some() {
        let came = app.registry.later_answer(&id).await?;
        view.result = came.answer.as_deref().map(read_json).transpose()?;
        view.problem = came.problem.as_deref().map(read_json).transpose()?;
    }
    seen.show(&view)
}

fn read_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|error| {
        tracing::error!(%error, "what an operation came to could not be read");
        crate::problem::store_unavailable()
    })
}

/// Asks for the end of an operation: it stops within a second. What an import wrote stands, and its
/// result says from which line on nothing was looked at. Somebody else's needs `audit:write`,
/// `keys:*` or `keys:write`, by what it is.
#[utoipa::path(
    post, path = "/api/v1/operations/{id}/cancel", tag = "operations", params(("id" = String, Path, description = "The operation")),
    responses((status = 200, description = "It ends soon, or has ended", body = OperationView))
)]
pub(crate) async fn cancel(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (request, operation) = find(&app, &manager, &id).await?;
    if operation.actor != manager.actor.as_str() {
        manager.require(ends_others(request))?;
    }
    let cancelled = app.registry.cancel_bulk(&manager.actor, &id).await?;
    Ok(answer(OperationView::from(cancelled)))
}

#[cfg(test)]
mod tests {
    use super::prefers_async;

    #[test]
    fn respond_async_is_read_as_rfc_7240_writes_it() {
        for yes in [
            "respond-async",
            "Respond-Async",
            "respond-async, wait=10",
            "return=minimal ,respond-async;x=1",
            "a=\"b, c\", respond-async",
        ] {
            assert!(prefers_async(yes), "{yes}");
        }
        for no in [
            "",
            "wait=10",
            "respond-asynchronously",
            "return=respond-async",
            "a=\"b, respond-async, c\"",
        ] {
            assert!(!prefers_async(no), "{no}");
        }
    }
}
