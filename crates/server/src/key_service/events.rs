//! `/api/v1/events`: the ordered log of changes as server-sent events (WHATWG HTML §9.2), for those who
//! keep copies of verifications. A heartbeat says that everything up to its version was told; a
//! follower that hears none for longer than it can bear stops trusting its copies.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_registry::ChangedSubject;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::stream::Messages;
use crate::keys::manager::Manager;
use crate::problem::Problem;
use crate::server::{App, Parts};

/// Followers of one node.
const MOST_FOLLOWERS: usize = 64;
/// How often the log is looked at, for all followers together.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// At least so often something is said.
const HEARTBEAT: Duration = Duration::from_millis(300);
/// A stream ends after this time, so that who follows shows again that they may.
const LONGEST: Duration = Duration::from_secs(600);
/// A follower that takes nothing for so long is let go.
const PATIENCE: Duration = Duration::from_secs(5);
/// Changes read at a time.
const PAGE: u32 = 500;
/// Messages on their way to one follower.
const ROOM: usize = 16;

/// Who follows this node, and what they wait for.
#[derive(Debug)]
pub(super) struct Followers {
    places: Arc<Semaphore>,
    /// Number of the newest change, sent with every look at the log, also when it is the same.
    newest: watch::Sender<i64>,
    looking: AtomicBool,
}

impl Default for Followers {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MOST_FOLLOWERS)),
            newest: watch::Sender::new(0),
            looking: AtomicBool::new(false),
        }
    }
}

/// Looks at the log while anybody follows it.
fn look(app: &App) {
    if app.key_service.events.looking.swap(true, Ordering::AcqRel) {
        return;
    }
    let weak: Weak<Parts> = Arc::downgrade(app);
    tokio::spawn(async move {
        loop {
            let Some(app) = weak.upgrade() else { return };
            let followers = &app.key_service.events;
            if followers.newest.receiver_count() == 0 {
                followers.looking.store(false, Ordering::Release);
                // Somebody may have come between the two.
                if followers.newest.receiver_count() == 0
                    || followers.looking.swap(true, Ordering::AcqRel)
                {
                    return;
                }
            }
            let newest = app.registry.newest_change();
            let newest = app.registry.while_reachable(newest).await;
            match newest.and_then(|newest| newest) {
                Ok(newest) => {
                    followers.newest.send_replace(newest);
                }
                // Silence tells followers what they must know.
                Err(error) => tracing::warn!(code = error.code(), "changes cannot be read"),
            }
            drop(app);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
}

/// The changes of keys and principals as server-sent events: `change` with `version`, `subject`
/// (`api_key` or `principal`) and `id`; `heartbeat` with the `version` up to which everything was told,
/// at least every 300 ms; `reset` where the log does not go back so far, or lost what was told of it: forget everything. Resumes
/// after `Last-Event-ID`; without it, it begins now. Ends after ten minutes, or when the caller's own
/// key or person is changed: come again. Needs `keys:verify`.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events",
    params(("Last-Event-ID" = Option<i64>, Header, description = "Version of the last event that was seen")),
    responses((status = 200, description = "Events, until the connection ends", body = String, content_type = "text/event-stream"), (status = 503, description = "Too many follow already"))
)]
pub(crate) async fn follow(
    State(app): State<App>,
    manager: Manager,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    manager.require("keys:verify")?;
    let after = match headers.get("last-event-id") {
        None => None,
        Some(value) => {
            let read = value
                .to_str()
                .ok()
                .and_then(|text| text.trim().parse().ok());
            let read = read.filter(|version: &i64| *version >= 0);
            Some(read.ok_or_else(|| {
                let detail = "Last-Event-ID is the version of an event";
                Problem::bad_request("invalid_event_id", detail)
            })?)
        }
    };
    let place = Arc::clone(&app.key_service.events.places).try_acquire_owned();
    let place = place.map_err(|_| {
        let detail = "too many follow the changes of this node: try again, or follow another";
        let mut problem = Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many_followers",
            detail,
        );
        problem.retry_after_s = Some(5);
        problem
    })?;
    // What is told from here on is newer than this moment: nothing falls between.
    let pasts = app.registry.other_pasts();
    let cursor = match after {
        Some(version) => version,
        None => app.registry.newest_change().await?,
    };
    let newest = app.key_service.events.newest.subscribe();
    look(&app);
    let (sender, receiver) = mpsc::channel(ROOM);
    let telling = Telling {
        weak: Arc::downgrade(&app),
        sender,
        newest,
        cursor,
        pasts,
        own: manager.actor.as_str().to_owned(),
        _place: place,
    };
    tokio::spawn(telling.run());
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Proxies that gather answers would hold every event back.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::new(Messages(receiver))).into_response())
}

/// One follower's stream.
struct Telling {
    weak: Weak<Parts>,
    sender: mpsc::Sender<Bytes>,
    newest: watch::Receiver<i64>,
    cursor: i64,
    /// What [`keywright_registry::LocalRegistry::other_pasts`] was when the cursor was taken.
    pasts: u64,
    own: String,
    _place: OwnedSemaphorePermit,
}

impl Telling {
    async fn run(mut self) {
        let began = Instant::now();
        let mut said_at: Option<Instant> = None;
        while began.elapsed() < LONGEST {
            let changed = tokio::time::timeout(PATIENCE, self.newest.changed());
            match changed.await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) if self.sender.is_closed() => return,
                Err(_) => continue,
            }
            let newest = *self.newest.borrow_and_update();
            let Some(app) = self.weak.upgrade() else {
                return;
            };
            if app.operations.is_draining() {
                return;
            }
            let is_another = app.registry.other_pasts() != self.pasts;
            // A log that ends before what was told has lost it, and gives the numbers again.
            if newest != self.cursor || is_another || said_at.is_none() {
                match self.tell(&app).await {
                    Some(true) => {}
                    Some(false) => continue,
                    None => return,
                }
            } else if said_at.is_some_and(|at| at.elapsed() < HEARTBEAT) {
                continue;
            }
            drop(app);
            let heartbeat = message(
                "heartbeat",
                self.cursor,
                &format!("{{\"version\":{}}}", self.cursor),
            );
            if !self.send(heartbeat).await {
                return;
            }
            said_at = Some(Instant::now());
        }
    }

    /// Tells what is new. False if it could not be read now; none at the end.
    async fn tell(&mut self, app: &App) -> Option<bool> {
        loop {
            let pasts = app.registry.other_pasts();
            let changes = match app.registry.changes_since(self.cursor, PAGE).await {
                Ok(changes) => changes,
                Err(error) => {
                    tracing::warn!(code = error.code(), "a follower waits for changes");
                    return Some(false);
                }
            };
            if changes.has_gap || pasts != self.pasts {
                let newest = app.registry.newest_change().await.ok()?;
                (self.cursor, self.pasts) = (newest, pasts);
                let data = format!("{{\"version\":{newest}}}");
                return self
                    .send(message("reset", newest, &data))
                    .await
                    .then_some(true);
            }
            let mut text = String::new();
            let mut is_own = false;
            for change in &changes.items {
                let (subject, id) = match &change.subject {
                    ChangedSubject::ApiKey(id) => ("api_key", id),
                    ChangedSubject::Principal(id) => ("principal", id),
                };
                is_own |= match self.own.strip_prefix("key:") {
                    Some(own) => subject == "api_key" && own == id,
                    None => subject == "principal" && self.own == *id,
                };
                let data =
                    serde_json::json!({ "version": change.version, "subject": subject, "id": id });
                text.push_str(&message_text("change", change.version, &data.to_string()));
            }
            let before = std::mem::replace(&mut self.cursor, changes.through);
            if !text.is_empty() && !self.send(Bytes::from(text)).await {
                return None;
            }
            if is_own {
                // May they still follow? They have to ask again.
                return None;
            }
            if changes.items.is_empty() || self.cursor == before {
                return Some(true);
            }
        }
    }

    async fn send(&self, bytes: Bytes) -> bool {
        matches!(
            tokio::time::timeout(PATIENCE, self.sender.send(bytes)).await,
            Ok(Ok(()))
        )
    }
}

fn message_text(event: &str, id: i64, data: &str) -> String {
    format!("event: {event}\nid: {id}\ndata: {data}\n\n")
}

fn message(event: &str, id: i64, data: &str) -> Bytes {
    Bytes::from(message_text(event, id, data))
}
