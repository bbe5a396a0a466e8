//! Who still uses the old secret of a rotation, and its early end.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_registry::{CallerIdentity, OverlapWarning, RotationStep, Straggler, Stragglers};
use serde::Serialize;
use utoipa::ToSchema;

use super::paging::{Asked, invalid};
use crate::keys::change::key_for;
use crate::keys::manager::Manager;
use crate::keys::rotate::SteppedView;
use crate::keys::views::{RotationView, problem};
use crate::nodes::receipts::Wait;
use crate::problem::Problem;
use crate::server::App;

const HOUR_MS: i64 = 60 * 60 * 1000;
const LONGEST_MS: i64 = 30 * 24 * HOUR_MS;
/// So many callers of each kind in one answer.
const MOST: usize = 500;

/// A caller; an empty text is not known.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CallerView {
    /// What the client called itself.
    client_label: String,
    /// The /24 (IPv4) or /48 (IPv6) it came from.
    network: String,
    /// Product of its `User-Agent`.
    agent: String,
    /// Which part of the service it used.
    route: String,
}

impl From<CallerIdentity> for CallerView {
    fn from(caller: CallerIdentity) -> Self {
        Self {
            client_label: caller.client_label,
            network: caller.network,
            agent: caller.agent,
            route: caller.route,
        }
    }
}

/// A caller of the old secret or of the new one. Times are Unix ms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StragglerView {
    caller: CallerView,
    old_uses: i64,
    old_last_at: Option<i64>,
    /// `falling`, `steady` or `rising`.
    trend: &'static str,
    new_uses: i64,
    new_last_at: Option<i64>,
    /// `not_moved`, `partly` or `moved`.
    progress: &'static str,
}

impl From<Straggler> for StragglerView {
    fn from(one: Straggler) -> Self {
        Self {
            caller: one.caller.into(),
            old_uses: one.old_uses,
            old_last_at: one.old_last_at,
            trend: one.trend.as_str(),
            new_uses: one.new_uses,
            new_last_at: one.new_last_at,
            progress: one.progress.as_str(),
        }
    }
}

/// The board of a rotation. Times are Unix ms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StragglersView {
    at: i64,
    rotation: RotationView,
    /// Until when the old secret works, where its overlap runs.
    closes_at: Option<i64>,
    /// Who still uses the old secret, latest use first; at most 500.
    remaining: Vec<StragglerView>,
    /// How many they are.
    remaining_count: usize,
    /// Who has moved on, latest use first; at most 500.
    moved: Vec<StragglerView>,
    moved_count: usize,
    trend: &'static str,
    last_used_at: Option<i64>,
    /// The silence after which the old secret counts as unused.
    silence_ms: i64,
    /// Whether it has been silent for that long.
    drained: bool,
    /// When ending the old secret is safe if nobody uses it from now on.
    safe_at: i64,
}

impl From<Stragglers> for StragglersView {
    fn from(board: Stragglers) -> Self {
        let views = |list: Vec<Straggler>| list.into_iter().take(MOST).map(Into::into).collect();
        Self {
            at: board.at,
            closes_at: board.closes_at,
            remaining_count: board.remaining.len(),
            remaining: views(board.remaining),
            moved_count: board.moved.len(),
            moved: views(board.moved),
            trend: board.trend.as_str(),
            last_used_at: board.last_used_at,
            silence_ms: board.silence_ms,
            drained: board.drained,
            safe_at: board.safe_at,
            rotation: board.rotation.into(),
        }
    }
}

/// An overlap that is about to end while somebody uses the old secret (AC-139). Times are Unix ms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClosingView {
    rotation_id: String,
    key_id: String,
    key_name: String,
    key_prefix: String,
    /// The secret that is about to end.
    old_kid: String,
    closes_at: i64,
    /// Who used it in the last hour, latest first; at most 50.
    callers: Vec<LateCallerView>,
}

/// Who used a secret in the last hour.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LateCallerView {
    caller: CallerView,
    uses: i64,
    last_at: i64,
}

/// Overlaps that end soon, soonest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClosingList {
    items: Vec<ClosingView>,
}

impl From<OverlapWarning> for ClosingView {
    fn from(warning: OverlapWarning) -> Self {
        let callers = warning.callers.into_iter().map(|late| LateCallerView {
            caller: late.caller.into(),
            uses: late.uses,
            last_at: late.last_at,
        });
        Self {
            callers: callers.collect(),
            rotation_id: warning.rotation_id,
            key_id: warning.key_id,
            key_name: warning.key_name,
            key_prefix: warning.key_prefix,
            old_kid: warning.old_kid,
            closes_at: warning.closes_at,
        }
    }
}

fn answer(body: impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// Who still uses the old secret of a key's open rotation, and when ending it is safe.
#[utoipa::path(
    get, path = "/api/v1/keys/{id}/rotations/current/stragglers", tag = "keys", params(("id" = String, Path, description = "The key")),
    responses((status = 200, description = "The board", body = StragglersView), (status = 409, description = "No rotation is open"))
)]
pub(crate) async fn read(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    key_for(&app, &manager, &id, "keys:read").await?;
    let board = app.registry.stragglers(&id).await.map_err(problem)?;
    Ok(answer(StragglersView::from(board)))
}

/// Ends the old secret before its time, if nobody has used it for the silence that the rotation asks
/// for; otherwise nothing happens.
#[utoipa::path(
    post, path = "/api/v1/keys/{id}/rotations/current/finish-if-drained", tag = "keys",
    params(("id" = String, Path, description = "The key"), ("wait_ms" = Option<u64>, Query, maximum = 1000, description = "How long to wait for the other nodes; as long as it takes, 900 at most, if it is left out")),
    responses((status = 200, description = "The old secret has ended", body = SteppedView), (status = 409, description = "`not_drained`: somebody still uses it"))
)]
pub(crate) async fn finish_if_drained(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    wait: Wait,
) -> Result<Response, Problem> {
    key_for(&app, &manager, &id, "keys:write").await?;
    let board = app.registry.stragglers(&id).await.map_err(problem)?;
    if !board.drained {
        let detail = "the old secret was used within the silence that is asked for";
        return Err(Problem::new(StatusCode::CONFLICT, "not_drained", detail)
            .with("safe_at", board.safe_at)
            .with("last_used_at", board.last_used_at));
    }
    let finished = app
        .registry
        .step_rotation(&manager.actor, &id, RotationStep::Finish);
    let (key, rotation) = finished.await.map_err(problem)?;
    Ok(answer(SteppedView::of(&app, &key, rotation, wait).await))
}

/// Overlaps that end soon while their old secret was used in the last hour. Needs `keys:read`.
#[utoipa::path(
    get, path = "/api/v1/overlaps/closing", tag = "keys",
    params(("within_ms" = Option<i64>, Query, description = "How soon; an hour if it is left out")),
    responses((status = 200, description = "Soonest first, at most 500", body = ClosingList))
)]
pub(crate) async fn closing(
    State(app): State<App>,
    manager: Manager,
    asked: Asked,
) -> Result<Response, Problem> {
    manager.require("keys:read")?;
    asked.known(&["within_ms"])?;
    let within = asked.read("within_ms", "milliseconds")?.unwrap_or(HOUR_MS);
    if !(0..=LONGEST_MS).contains(&within) {
        return Err(invalid("within_ms", "0 to 30 days in milliseconds"));
    }
    let warnings = app.registry.warnings_before_close(within).await?;
    Ok(answer(ClosingList {
        items: warnings.into_iter().map(ClosingView::from).collect(),
    }))
}
