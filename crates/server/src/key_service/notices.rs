//! `/api/v1/notices`: what owners and administrators are told by mail and webhooks, as a list to look at.
//! Who reads all keys sees everything; everybody else what is about their own keys.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use keywright_registry::{BoardNotice, BoardQuery, BoardReader};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::paging::Asked;
use crate::keys::issue::body;
use crate::keys::manager::Manager;
use crate::problem::Problem;
use crate::server::App;

/// Something that people are told. Times are Unix ms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BoardNoticeView {
    /// Its number, as text: later news of the same matter have another, and take its place.
    id: String,
    /// What, by the names of webhooks' events.
    kind: &'static str,
    at: i64,
    /// The key that it is about.
    key_id: Option<String>,
    /// The key's name now, or that of what is no key.
    name: String,
    kid: Option<String>,
    /// When something ends or is due.
    due_at: Option<i64>,
    /// How many callers, uses or keys; 0 where nothing is counted.
    count: i64,
    /// How urgent it is (`days_30` … `today`, `overdue`), who did it, or why it failed. Foreign text.
    detail: String,
    /// Nothing is left to do about it: the key was rotated, the overlap is over.
    settled: bool,
    /// Whether the caller has read it.
    read: bool,
}

impl From<BoardNotice> for BoardNoticeView {
    fn from(notice: BoardNotice) -> Self {
        Self {
            id: notice.sequence.to_string(),
            kind: notice.kind.as_str(),
            at: notice.at,
            key_id: notice.key_id,
            name: notice.name,
            kid: notice.kid,
            due_at: notice.due_at,
            count: notice.count,
            detail: notice.detail,
            settled: notice.settled,
            read: notice.read,
        }
    }
}

/// A page of notices, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BoardPageView {
    items: Vec<BoardNoticeView>,
    next_cursor: Option<String>,
    /// How many in all are neither read nor settled; 100 for as many and more.
    unread: i64,
}

/// What is left.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UnreadView {
    /// How many are neither read nor settled; 100 for as many and more.
    unread: i64,
}

/// Up to where everything was read.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadBody {
    /// `id` of the newest that was looked at: what came since then is not taken for read.
    until: String,
}

fn answer(body: impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

async fn left(app: &App, reader: &BoardReader) -> Result<Response, Problem> {
    let unread = app.registry.count_unread_notices(reader).await?;
    Ok(answer(UnreadView { unread }))
}

fn not_found() -> Problem {
    Problem::not_found(
        "notice_not_found",
        "there is no such notice, or news of the same matter took its place",
    )
}

/// Who looks, and whose news they see.
fn reader(manager: &Manager) -> Result<BoardReader, Problem> {
    manager.require_own("keys:read")?;
    let id = match &manager.person {
        Some(person) => person.clone(),
        None => format!("program {}", manager.actor.as_str()),
    };
    let owner = manager.whose(None, "keys:read")?;
    Ok(BoardReader { id, owner })
}

/// What is told to the caller, newest first: about all keys with `keys:read`, else about their own.
#[utoipa::path(
    get, path = "/api/v1/notices", tag = "keys",
    params(
        ("unread" = Option<bool>, Query, description = "Only what is neither read nor settled"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "1 to 100; 50 if it is left out"),
    ),
    responses((status = 200, description = "A page", body = BoardPageView))
)]
pub(crate) async fn list(
    State(app): State<App>,
    manager: Manager,
    asked: Asked,
) -> Result<Response, Problem> {
    let reader = reader(&manager)?;
    asked.known(&["unread", "cursor", "limit"])?;
    let query = BoardQuery {
        unread_only: asked.flag("unread", false)?,
        cursor: asked.owned("cursor"),
        limit: asked.limit()?,
    };
    let page = app.registry.list_board(&reader, &query).await?;
    let unread = app.registry.count_unread_notices(&reader).await?;
    Ok(answer(BoardPageView {
        items: page.items.into_iter().map(BoardNoticeView::from).collect(),
        next_cursor: page.next_cursor,
        unread,
    }))
}

/// Marks one as read, for the caller alone.
#[utoipa::path(
    post, path = "/api/v1/notices/{id}/read", tag = "keys", params(("id" = String, Path, description = "The notice")),
    responses((status = 200, description = "It is; with what is left", body = UnreadView), (status = 404, description = "`notice_not_found`: there is none, or newer news took its place"))
)]
pub(crate) async fn read(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let reader = reader(&manager)?;
    let sequence = id.parse().map_err(|_| not_found())?;
    if app.registry.mark_notice_read(&reader, sequence).await? {
        left(&app, &reader).await
    } else {
        Err(not_found())
    }
}

/// Marks everything up to one as read, for the caller alone.
#[utoipa::path(
    post, path = "/api/v1/notices/read", tag = "keys", request_body = ReadBody,
    responses((status = 200, description = "It is; with what is left", body = UnreadView))
)]
pub(crate) async fn read_until(
    State(app): State<App>,
    manager: Manager,
    given: Result<Json<ReadBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let reader = reader(&manager)?;
    let until = body(given)?.until;
    let until = until
        .parse()
        .map_err(|_| Problem::bad_request("invalid_body", "until: the id of a notice"))?;
    app.registry.mark_notices_read_until(&reader, until).await?;
    left(&app, &reader).await
}
