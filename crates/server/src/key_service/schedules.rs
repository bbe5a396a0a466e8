//! Schedules of rotations, and the notices that go before.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::schedules::{
    CronExpression, Mode, NEVER, Recurrence, Schedule, ScheduleError, ScheduleTerms, TimeZone,
    Weekday, Window,
};
use keywright_registry::outbox::Webhook;
use keywright_registry::{KeySchedule, Notice, RegistryError, Seen, Thing};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::paging::Asked;
use crate::etags::{IfSeen, shown, tag_of};
use crate::keys::change::key_for;
use crate::keys::issue::body;
use crate::keys::manager::Manager;
use crate::keys::views::problem;
use crate::once::{self, Done, NoBody, Once, gone, replayed};
use crate::problem::Problem;
use crate::server::App;
use crate::webhooks::events::DELIVERY_DUE;

/// When rotations may happen.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WindowBody {
    /// `mon` to `sun`.
    #[schema(min_items = 1)]
    days: Vec<String>,
    /// Minute of the local day at which it opens, 0 to 1439.
    #[schema(minimum = 0, maximum = 1439)]
    start_minute: u16,
    /// Minute at which it closes, 1 to 1440; before the start: on the next day.
    #[schema(minimum = 1, maximum = 1440)]
    end_minute: u16,
}

/// A schedule. One of `every_ms` and `cron` says how it recurs.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScheduleBody {
    /// Every so many milliseconds: 1 to 365 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 86400000, maximum = 31536000000i64)]
    every_ms: Option<i64>,
    /// At local times: minute, hour, day of month, month, day of week.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    cron: Option<String>,
    /// A zone of the IANA database; UTC if it is left out.
    #[serde(default = "utc")]
    time_zone: String,
    /// When rotations may happen; always, if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<WindowBody>,
    /// Most that a rotation is delayed, so that not all keys rotate at once.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 604800000)]
    jitter_ms: i64,
    /// `notify_only`, `issue_pending`, or `automatic`, which needs a program that delivers: a webhook
    /// that names `delivery.due`.
    #[schema(pattern = "^(notify_only|issue_pending|automatic)$")]
    mode: String,
    /// Oldest that a secret may get: 1 to 365 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age_ms: Option<i64>,
    /// Where a new secret goes, in the words of whoever delivers it; never a secret.
    #[serde(default)]
    #[schema(max_length = 500)]
    delivery: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

impl ScheduleBody {
    fn read(&self) -> Result<Schedule, Problem> {
        let recurrence = match (&self.every_ms, &self.cron) {
            (Some(every_ms), None) => Recurrence::Interval {
                every_ms: *every_ms,
            },
            (None, Some(text)) => Recurrence::Cron(CronExpression::new(text).map_err(refused)?),
            _ => {
                let detail = "a schedule recurs by every_ms or by cron, one of them";
                return Err(Problem::bad_request("invalid_schedule", detail));
            }
        };
        let mode = Mode::from_stable(&self.mode).ok_or_else(|| {
            let detail = "a mode is notify_only, issue_pending or automatic";
            Problem::bad_request("invalid_mode", detail)
        })?;
        let window = self.window.as_ref().map(|window| {
            let days: Option<Vec<_>> = window
                .days
                .iter()
                .map(|day| Weekday::from_stable(day))
                .collect();
            let days = days.ok_or(ScheduleError::Window)?;
            Window::new(&days, window.start_minute, window.end_minute)
        });
        Schedule::new(ScheduleTerms {
            recurrence,
            time_zone: TimeZone::new(&self.time_zone).map_err(refused)?,
            window: window.transpose().map_err(refused)?,
            jitter_ms: self.jitter_ms,
            mode,
            max_age_ms: self.max_age_ms,
        })
        .map_err(refused)
    }
}

/// Whether a program is told of secrets that are to be delivered. Whoever wants every event is told
/// too, and need not be one that delivers.
///
/// # Errors
/// [`RegistryError`] if it cannot be read.
pub(crate) async fn somebody_delivers(app: &App) -> Result<bool, RegistryError> {
    let webhooks = app.registry.list_webhooks().await?;
    let named = |one: &Webhook| one.events.iter().any(|event| event == DELIVERY_DUE);
    Ok(webhooks
        .iter()
        .any(|one| one.disabled_at.is_none() && named(one)))
}

fn refused(error: ScheduleError) -> Problem {
    problem(RegistryError::Schedule(error))
}

/// The schedule of a key. Times are Unix ms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScheduleView {
    id: String,
    key_id: String,
    schedule: ScheduleBody,
    /// When the next rotation is due; absent past the end of the calendar.
    next_due_at: Option<i64>,
    /// Since when it is paused.
    paused_at: Option<i64>,
    /// Where it begins.
    anchor_at: i64,
    changed_at: i64,
    /// When a rotation that was refused is tried again; it stays due meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<i64>,
    /// Why it was refused, in plain words.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

impl From<KeySchedule> for ScheduleView {
    fn from(one: KeySchedule) -> Self {
        let terms = one.schedule.terms();
        let window = terms.window.as_ref().map(|window| WindowBody {
            days: window
                .days()
                .iter()
                .map(|day| day.as_str().to_owned())
                .collect(),
            start_minute: window.start_minute(),
            end_minute: window.end_minute(),
        });
        let (every_ms, cron) = match &terms.recurrence {
            Recurrence::Interval { every_ms } => (Some(*every_ms), None),
            Recurrence::Cron(cron) => (None, Some(cron.as_str().to_owned())),
        };
        Self {
            schedule: ScheduleBody {
                every_ms,
                cron,
                time_zone: terms.time_zone.as_str().to_owned(),
                window,
                jitter_ms: terms.jitter_ms,
                mode: terms.mode.as_str().to_owned(),
                max_age_ms: terms.max_age_ms,
                delivery: one.delivery,
            },
            id: one.id,
            key_id: one.key_id,
            next_due_at: Some(one.next_due_at).filter(|at| *at != NEVER),
            paused_at: one.paused_at,
            anchor_at: one.anchor_at,
            changed_at: one.changed_at,
            retry_at: one.retry_at,
            last_error: one.last_error,
        }
    }
}

/// The tag of a schedule as it is shown.
fn tag(seen: &Seen) -> Option<String> {
    match seen {
        Seen::Schedule(schedule) => Some(tag_of(&ScheduleView::from(schedule.clone()))),
        _ => None,
    }
}

/// A page of schedules.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SchedulePage {
    items: Vec<ScheduleView>,
    /// Pass it back as `cursor` for the next page; absent on the last.
    next_cursor: Option<String>,
}

/// A notice about a key, with what became of it. Times are Unix ms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NoticeView {
    id: String,
    key_id: String,
    /// The key's name now.
    key_name: String,
    /// Its prefix.
    key_prefix: String,
    /// `rotation` or `expiry`.
    subject: &'static str,
    /// The secret that is to be replaced or that expires.
    kid: String,
    /// When that is due.
    due_at: i64,
    /// How urgent it is: `days_30` … `overdue`.
    kind: &'static str,
    made_at: i64,
    /// It is not sent any more: a more urgent one says it all, or the matter is settled.
    passed: bool,
    sent_at: Option<i64>,
    channel: Option<String>,
    error: Option<String>,
    attempts: i64,
}

/// Notices of a key, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NoticeList {
    items: Vec<NoticeView>,
}

impl From<Notice> for NoticeView {
    fn from(notice: Notice) -> Self {
        Self {
            id: notice.id,
            key_id: notice.key_id,
            key_name: notice.key_name,
            key_prefix: notice.key_prefix,
            subject: notice.subject.as_str(),
            kid: notice.kid,
            due_at: notice.due_at,
            kind: notice.kind.as_str(),
            made_at: notice.made_at,
            passed: notice.passed,
            sent_at: notice.sent_at,
            channel: notice.channel,
            error: notice.error,
            attempts: notice.attempts,
        }
    }
}

fn answer(body: impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// Schedules by their next due moment: everybody's with `keys:read`, otherwise the caller's own.
#[utoipa::path(
    get, path = "/api/v1/schedules", tag = "schedules",
    params(
        ("owner" = Option<String>, Query, description = "Id of the keys' owner"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "1 to 100; 50 if it is left out"),
    ),
    responses((status = 200, description = "A page", body = SchedulePage))
)]
pub(crate) async fn list(
    State(app): State<App>,
    manager: Manager,
    asked: Asked,
) -> Result<Response, Problem> {
    manager.require_own("keys:read")?;
    asked.known(&["owner", "cursor", "limit"])?;
    let limit = asked.limit()?;
    let owner = manager.whose(asked.text("owner"), "keys:read")?;
    let after = asked.text("cursor").map(|cursor| {
        let (at, id) = cursor.split_once('~')?;
        Some((at.parse::<i64>().ok()?, id.to_owned()))
    });
    let after = match after {
        Some(None) => return Err(RegistryError::Cursor.into()),
        Some(after) => after,
        None => None,
    };
    let after = after.as_ref().map(|(at, id)| (*at, id.as_str()));
    let mut found = app
        .registry
        .list_schedules(owner.as_deref(), after, limit + 1)
        .await?;
    let has_more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let last = found.last().filter(|_| has_more);
    let next_cursor = last.map(|one| format!("{}~{}", one.next_due_at, one.id));
    Ok(answer(SchedulePage {
        items: found.into_iter().map(ScheduleView::from).collect(),
        next_cursor,
    }))
}

/// The schedule of a key.
#[utoipa::path(
    get, path = "/api/v1/keys/{id}/schedule", tag = "schedules", params(("id" = String, Path, description = "The key"), ("If-None-Match" = Option<String>, Header, description = "ETag that the caller has: 304 if it is so still")),
    responses((status = 304, description = "As the caller has it"), (status = 200, description = "The schedule", body = ScheduleView), (status = 404, description = "The key has none"))
)]
pub(crate) async fn read(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    seen: IfSeen,
) -> Result<Response, Problem> {
    key_for(&app, &manager, &id, "keys:read").await?;
    let found = app.registry.find_schedule(&id).await?;
    let found = found.ok_or(RegistryError::ScheduleNotFound)?;
    seen.show(&ScheduleView::from(found))
}

/// Gives a key a schedule, or another one: it begins now.
#[utoipa::path(
    put, path = "/api/v1/keys/{id}/schedule", tag = "schedules", request_body = ScheduleBody,
    params(("id" = String, Path, description = "The key"), ("If-Match" = Option<String>, Header, description = "ETag that was seen: it is done only if it is so still"), ("If-None-Match" = Option<String>, Header, description = "`*`: only if there is none yet")),
    responses((status = 412, description = "`precondition_failed`: it does not stand as the caller saw it"), (status = 200, description = "It holds", body = ScheduleView), (status = 400, description = "No schedule: the code says why"), (status = 409, description = "The key was revoked; `nobody_delivers`: `automatic` without a program that does"))
)]
pub(crate) async fn put(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    seen: IfSeen,
    given: Result<Json<ScheduleBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let asked = body(given)?;
    key_for(&app, &manager, &id, "keys:write").await?;
    let schedule = asked.read()?;
    if schedule.terms().mode == Mode::Automatic && !somebody_delivers(&app).await? {
        let detail = "this server brings secrets nowhere by itself: add a webhook that names delivery.due, \
                      for a program that delivers, or use issue_pending";
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "nobody_delivers",
            detail,
        ));
    }
    let registry = seen.registry(&app, Thing::Schedule(id.clone()), tag);
    let set = registry.set_schedule(&manager.actor, &id, &schedule, asked.delivery.trim());
    Ok(shown(&ScheduleView::from(set.await.map_err(problem)?)))
}

/// Takes the schedule of a key away.
#[utoipa::path(
    delete, path = "/api/v1/keys/{id}/schedule", tag = "schedules", params(("id" = String, Path, description = "The key"), ("If-Match" = Option<String>, Header, description = "ETag that was seen: it is done only if it is so still")),
    responses((status = 412, description = "`precondition_failed`: it does not stand as the caller saw it"), (status = 204, description = "It is gone"), (status = 404, description = "There was none"))
)]
pub(crate) async fn remove(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    seen: IfSeen,
) -> Result<Response, Problem> {
    key_for(&app, &manager, &id, "keys:write").await?;
    let registry = seen.registry(&app, Thing::Schedule(id.clone()), tag);
    let removed = registry.remove_schedule(&manager.actor, &id);
    if removed.await.map_err(problem)? {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(RegistryError::ScheduleNotFound.into())
    }
}

/// `pause`, `resume` or `run-now`. What runs now is taken up by whoever carries out schedules, within
/// its next round: 202.
#[utoipa::path(
    post, path = "/api/v1/keys/{id}/schedule/{step}", tag = "schedules",
    params(("id" = String, Path, description = "The key"), ("step" = String, Path, description = "pause, resume or run-now"), ("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is not done again")),
    responses((status = 200, description = "Paused, or going on", body = ScheduleView), (status = 202, description = "It is due now", body = ScheduleView))
)]
pub(crate) async fn step(
    State(app): State<App>,
    manager: Manager,
    Path((id, step)): Path<(String, String)>,
    Once { name, .. }: Once<NoBody>,
) -> Result<Response, Problem> {
    key_for(&app, &manager, &id, "keys:write").await?;
    let (registry, actor) = (name.registry(&app, &manager.actor), &manager.actor);
    let (status, done) = match step.as_str() {
        "pause" => (
            StatusCode::OK,
            registry.pause_schedule(actor, &id, true).await,
        ),
        "resume" => (
            StatusCode::OK,
            registry.pause_schedule(actor, &id, false).await,
        ),
        "run-now" => (
            StatusCode::ACCEPTED,
            registry.hasten_schedule(actor, &id).await,
        ),
        _ => {
            let detail = "a step is pause, resume or run-now";
            return Err(Problem::not_found("step_not_found", detail));
        }
    };
    let (found, is_new) = match once::done(done).map_err(problem)? {
        Done::Now(schedule) => (schedule, true),
        Done::Before(_) => {
            let found = app.registry.find_schedule(&id).await?;
            (
                found.ok_or_else(|| gone(RegistryError::ScheduleNotFound))?,
                false,
            )
        }
    };
    let response = (status, answer(ScheduleView::from(found))).into_response();
    Ok(if is_new { response } else { replayed(response) })
}

/// The latest 200 notices about a key, newest first.
#[utoipa::path(
    get, path = "/api/v1/keys/{id}/notices", tag = "schedules", params(("id" = String, Path, description = "The key")),
    responses((status = 200, description = "Its notices", body = NoticeList))
)]
pub(crate) async fn notices(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    key_for(&app, &manager, &id, "keys:read").await?;
    let notices = app.registry.list_notices(&id).await?;
    Ok(answer(NoticeList {
        items: notices.into_iter().map(NoticeView::from).collect(),
    }))
}
