//! `/api/v1/bulk`: one operation for many keys, carried out behind the answer.

use std::collections::{BTreeMap, HashSet};

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::api_keys::Environment;
use keywright_domain::api_keys::format::ROOT_PREFIX;
use keywright_domain::scopes::Scope;
use keywright_registry::{
    ApiKeyFilter, ApiKeyQuery, BulkFailure, BulkOperation, BulkState, ClientSecret, NewBulk,
    StateFilter,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::bulk_run::{self, Order, Work};
use super::later::OperationProblem;
use super::paging::{Asked, LARGEST_PAGE, invalid};
use crate::etags::IfSeen;
use crate::keys::issue::body;
use crate::keys::manager::Manager;
use crate::keys::views::ClientSecretBody;
use crate::nodes::receipts::{self, ReceiptView, Wait};
use crate::once::{Done, Once, done, gone, replayed};
use crate::problem::Problem;
use crate::server::App;

/// Keys of one operation.
pub(super) const MOST: usize = 10_000;
/// New secrets come in the body.
const MOST_ROTATED: usize = 1000;
const PAGE: u32 = 500;
/// Ids that a dry run names.
const SHOWN: usize = 100;

/// Which keys, where they are not named. All that is given must fit. Management keys never do: they are
/// taken by their ids.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BulkFilter {
    /// Part of a name, prefix, kid, scope or tag.
    text: Option<String>,
    /// all, live, rotating, expiring, expired, disabled, revoked, pending or never_used.
    state: Option<String>,
    /// Id of the owner.
    owner: Option<String>,
    /// Prefix, as a whole.
    prefix: Option<String>,
    /// A scope that they hold.
    scope: Option<String>,
    environment: Option<String>,
    tag: Option<String>,
    /// Those that expire before this moment (Unix ms).
    expires_before: Option<i64>,
    /// Those whose latest use was before this moment (Unix ms), never used ones included.
    unused_since: Option<i64>,
    /// Those issued at this moment (Unix ms) or later.
    created_from: Option<i64>,
    /// Those issued before this moment (Unix ms).
    created_until: Option<i64>,
}

/// What is to be done, and to which keys: `ids` or `filter`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkBody {
    /// `revoke`, `disable`, `enable`, `tag`, `untag` or `rotate`.
    operation: String,
    /// Ids of keys, at most 10,000.
    ids: Option<Vec<String>>,
    /// Or those that fit, at most 10,000.
    filter: Option<BulkFilter>,
    /// Why, for the audit trail.
    #[serde(default)]
    reason: String,
    /// For `tag` and `untag`.
    tag: Option<String>,
    /// For `rotate`: a secret that the caller made, for each key id. Nobody would see secrets that are
    /// made here.
    client_secrets: Option<BTreeMap<String, ClientSecretBody>>,
    /// For `rotate`: how long old secrets work from the first use of the new ones.
    overlap_ms: Option<i64>,
    /// Say what would be done, and do nothing.
    #[serde(default)]
    dry_run: bool,
    /// The `total` that a dry run told: where it would be another number of keys by now, nothing is done.
    expect: Option<usize>,
}

/// What an operation would do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkPlanView {
    operation: String,
    /// To how many keys.
    total: usize,
    /// The first 100 of them.
    ids: Vec<String>,
}

/// A key that could not be changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkFailureView {
    key_id: String,
    code: String,
    message: String,
}

/// An operation and how far it came. Times are Unix ms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkView {
    id: String,
    operation: String,
    /// Who asked for it.
    actor: String,
    /// `running`, `done`, `cancelled`, `stopped` (the caller may not do this any more, or the registry
    /// failed for half a minute: see `problem`) or `interrupted` (the server that carried it out is gone: what was done stands; ask
    /// again for the rest).
    state: &'static str,
    total: i64,
    /// Keys that were looked at.
    done: i64,
    /// Keys that were changed, or were so already.
    changed: i64,
    failed: i64,
    /// The first 100 failures; `GET /api/v1/bulk/{id}/failures` has all.
    failures: Vec<BulkFailureView>,
    cancel_asked: bool,
    created_at: i64,
    seen_at: i64,
    finished_at: Option<i64>,
    /// Why it ended before its end, where it is `stopped`.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<OperationProblem>,
    /// Which nodes refuse all that was ended or suspended; with one operation that has come to an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<ReceiptView>,
}

/// Operations that take something away at once.
const TAKING: [&str; 2] = ["revoke", "disable"];

impl From<BulkFailure> for BulkFailureView {
    fn from(failure: BulkFailure) -> Self {
        Self {
            key_id: failure.key_id,
            code: failure.code,
            message: failure.message,
        }
    }
}

impl From<BulkOperation> for BulkView {
    fn from(one: BulkOperation) -> Self {
        let failures = one.progress.failures.into_iter();
        Self {
            failures: failures.map(BulkFailureView::from).collect(),
            problem: one.problem.map(|problem| OperationProblem {
                code: problem.code,
                detail: problem.detail,
            }),
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
            receipt: None,
        }
    }
}

/// A page of operations, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkList {
    items: Vec<BulkView>,
    /// Pass it back as `cursor` for the next page; absent on the last.
    next_cursor: Option<String>,
}

/// A page of keys that an operation could not change, in the order in which it came to them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkFailureList {
    items: Vec<BulkFailureView>,
    /// Pass it back as `cursor` for the next page; absent on the last.
    next_cursor: Option<String>,
}

fn answer(body: impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

fn invalid_body(detail: impl Into<String>) -> Problem {
    Problem::bad_request("invalid_body", detail)
}

fn work(asked: &BulkBody) -> Result<Work, Problem> {
    let tag = || {
        let tag = asked.tag.as_deref().map(str::trim);
        let tag = tag.filter(|tag| !tag.is_empty());
        tag.map(str::to_owned)
            .ok_or_else(|| invalid_body("tag: which one"))
    };
    Ok(match asked.operation.as_str() {
        "revoke" => Work::Revoke,
        "disable" => Work::Disable,
        "enable" => Work::Enable,
        "tag" => Work::Tag(tag()?),
        "untag" => Work::Untag(tag()?),
        "rotate" => {
            let secrets = asked.client_secrets.as_ref().filter(|map| !map.is_empty());
            let secrets = secrets.ok_or_else(|| {
                invalid_body("client_secrets: one for each key; secrets made here would be lost")
            })?;
            if secrets.len() > MOST_ROTATED {
                return Err(invalid_body("at most 1000 keys are rotated at once"));
            }
            let read: Result<BTreeMap<String, ClientSecret>, Problem> = secrets
                .iter()
                .map(|(id, secret)| Ok((id.clone(), secret.read()?)))
                .collect();
            Work::Rotate {
                secrets: read?,
                overlap_ms: asked.overlap_ms,
            }
        }
        _ => {
            return Err(invalid_body(
                "an operation is revoke, disable, enable, tag, untag or rotate",
            ));
        }
    })
}

fn filter(asked: &BulkFilter) -> Result<ApiKeyFilter, Problem> {
    let state = match asked.state.as_deref() {
        None => StateFilter::All,
        Some(text) => {
            crate::keys::list::state(text).ok_or_else(|| invalid("state", "no such state"))?
        }
    };
    let scope = asked.scope.as_deref().map(Scope::new).transpose();
    let environment = asked.environment.as_deref().map(Environment::new);
    Ok(ApiKeyFilter {
        text: asked.text.clone().unwrap_or_default(),
        state,
        owner: asked.owner.clone(),
        prefix: asked.prefix.clone(),
        scope: scope.map_err(|error| invalid("scope", error))?,
        environment: environment
            .transpose()
            .map_err(|error| invalid("environment", error))?,
        expires_before: asked.expires_before,
        unused_since: asked.unused_since,
        created_from: asked.created_from,
        created_until: asked.created_until,
        tag: asked.tag.clone(),
    })
}

/// The keys, each once, in their order.
async fn ids(app: &App, manager: &Manager, asked: &BulkBody) -> Result<Vec<String>, Problem> {
    let too_many = || invalid_body(format!("at most {MOST} keys in one operation"));
    if let Some(secrets) = asked
        .client_secrets
        .as_ref()
        .filter(|_| asked.operation == "rotate")
    {
        if asked.ids.is_some() || asked.filter.is_some() {
            return Err(invalid_body(
                "client_secrets name the keys that are rotated",
            ));
        }
        return Ok(secrets.keys().cloned().collect());
    }
    match (&asked.ids, &asked.filter) {
        (Some(ids), None) => {
            if ids.len() > MOST {
                return Err(too_many());
            }
            let mut seen = HashSet::new();
            let ids = ids.iter().filter(|id| seen.insert(id.as_str()));
            Ok(ids.cloned().collect())
        }
        (None, Some(asked)) => {
            let mut filter = filter(asked)?;
            if filter == ApiKeyFilter::default() {
                // A forgotten filter must not end every key there is.
                return Err(invalid_body(
                    "a filter that names nothing would take every key",
                ));
            }
            filter.owner = manager.whose(filter.owner.as_deref(), "keys:write")?;
            let mut query = ApiKeyQuery {
                filter,
                limit: PAGE,
                ..ApiKeyQuery::default()
            };
            let mut ids = Vec::new();
            loop {
                let page = app.registry.list_api_keys(&query).await?;
                // Keys that manage are taken by their ids alone: not even by mistake does a filter end
                // the access that would put it right.
                let keys = page
                    .items
                    .into_iter()
                    .filter(|key| key.prefix != ROOT_PREFIX);
                ids.extend(keys.map(|key| key.id));
                if ids.len() > MOST {
                    return Err(too_many());
                }
                query.cursor = page.next_cursor;
                if query.cursor.is_none() {
                    return Ok(ids);
                }
            }
        }
        _ => Err(invalid_body("which keys: ids or filter, one of them")),
    }
}

/// Refuses where it would be another number of keys than the caller was told.
fn check_plan(expected: Option<usize>, total: usize) -> Result<(), Problem> {
    if expected.is_none_or(|expected| expected == total) {
        return Ok(());
    }
    let detail = format!("it would be {total} keys by now: look at the plan again");
    Err(Problem::new(StatusCode::CONFLICT, "plan_changed", detail).with("total", total))
}

fn headers(app: &App, operation: &BulkOperation) -> [(HeaderName, String); 2] {
    let location = app.settings.path(&format!("/api/v1/bulk/{}", operation.id));
    [
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::LOCATION, location),
    ]
}

/// The answer to a request that was begun before under its name.
async fn before(app: &App, id: &str) -> Result<Response, Problem> {
    let operation = app.registry.find_bulk(id).await.map_err(gone)?;
    let headers = headers(app, &operation);
    let view = Json(BulkView::from(operation));
    Ok(replayed((headers, view).into_response()))
}

/// Begins an operation over many keys and answers with where to see how far it came. It goes on when
/// the client goes away. Each key is changed by itself, by what the caller may do to it; what fails is
/// told by key. If the server ends meanwhile, the operation shows as `interrupted`: what was done
/// stands, and asking again does the rest.
#[utoipa::path(
    post, path = "/api/v1/bulk", tag = "bulk", request_body = BulkBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is not done again. A dry run has none")),
    responses(
        (status = 202, description = "It has begun", body = BulkView),
        (status = 200, description = "What it would do (dry_run); or it was begun before by the same request, and this is how it stands (BulkView)", body = BulkPlanView),
        (status = 409, description = "`idempotency_key_reused`; `plan_changed`: it would be another number of keys than `expect`"),
        (status = 503, description = "Too many operations run already"),
    )
)]
pub(crate) async fn begin(
    State(app): State<App>,
    manager: Manager,
    once: Once<Result<Json<BulkBody>, JsonRejection>>,
) -> Result<Response, Problem> {
    manager.require_own("keys:write")?;
    let asked = body(once.body)?;
    let work = work(&asked)?;
    let ids = ids(&app, &manager, &asked).await?;
    if asked.dry_run {
        let total = ids.len();
        return Ok(answer(BulkPlanView {
            operation: asked.operation,
            total,
            ids: ids.into_iter().take(SHOWN).collect(),
        }));
    }
    // Whoever asks again waits for no place, and what was done is no reason to refuse it.
    if let Some(id) = once.name.made_before(&app, &manager.actor).await? {
        return before(&app, &id).await;
    }
    check_plan(asked.expect, ids.len())?;
    let own = (!manager.may("keys:write")).then_some(&manager.actor);
    let place = app.key_service.places.of_bulk(own)?;
    let new = NewBulk {
        operation: asked.operation,
        total: i64::try_from(ids.len()).unwrap_or(i64::MAX),
        reason: asked.reason.clone(),
    };
    let registry = once.name.registry(&app, &manager.actor);
    let operation = match done(registry.begin_bulk(&manager.actor, &new).await)? {
        Done::Now(operation) => operation,
        Done::Before(id) => return before(&app, &id).await,
    };
    let headers = headers(&app, &operation);
    let order = Order {
        id: operation.id.clone(),
        manager,
        work,
        ids,
        reason: asked.reason,
    };
    bulk_run::start(&app, order, place);
    Ok((
        StatusCode::ACCEPTED,
        headers,
        Json(BulkView::from(operation)),
    )
        .into_response())
}

/// Whether an operation is this caller's to see.
async fn find(app: &App, manager: &Manager, id: &str) -> Result<BulkOperation, Problem> {
    manager.require_own("keys:read")?;
    let operation = app.registry.find_bulk(id).await?;
    if manager.may("keys:read") || operation.actor == manager.actor.as_str() {
        return Ok(operation);
    }
    Err(keywright_registry::RegistryError::OperationNotFound.into())
}

/// Operations, newest first. Everybody's with `keys:read`, else the caller's own.
#[utoipa::path(
    get, path = "/api/v1/bulk", tag = "bulk", params(("cursor" = Option<String>, Query, description = "next_cursor of the page before"), ("limit" = Option<u32>, Query, description = "1 to 100; 100 if it is left out")),
    responses((status = 200, description = "A page", body = BulkList))
)]
pub(crate) async fn list(
    State(app): State<App>,
    manager: Manager,
    asked: Asked,
) -> Result<Response, Problem> {
    manager.require_own("keys:read")?;
    asked.known(&["cursor", "limit"])?;
    let limit = asked.limit_or(LARGEST_PAGE)?;
    let own = Some(manager.actor.as_str()).filter(|_| !manager.may("keys:read"));
    let page = app.registry.list_bulk(own, asked.text("cursor"), limit);
    let page = page.await?;
    Ok(answer(BulkList {
        items: page.items.into_iter().map(BulkView::from).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// An operation and how far it came.
#[utoipa::path(
    get, path = "/api/v1/bulk/{id}", tag = "bulk",
    params(("id" = String, Path, description = "The operation"), ("wait_ms" = Option<u64>, Query, maximum = 1000, description = "How long to wait for the other nodes of the receipt; as long as it takes, 900 at most, if it is left out"),
        ("If-None-Match" = Option<String>, Header, description = "ETag that the caller has: 304 if it is so still")),
    responses((status = 304, description = "As the caller has it"), (status = 200, description = "How it stands", body = BulkView), (status = 404, description = "Not there, or somebody else's"))
)]
pub(crate) async fn read(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    wait: Wait,
    seen: IfSeen,
) -> Result<Response, Problem> {
    let operation = find(&app, &manager, &id).await?;
    let last_change = operation.progress.last_change;
    // Changes are numbered in the order of commits: who knows of the last knows of each before it.
    let takes = TAKING.contains(&operation.operation.as_str());
    let has_ended = operation.state != BulkState::Running;
    let mut view = BulkView::from(operation);
    if takes && has_ended && last_change > 0 {
        view.receipt = receipts::of(&app, last_change, wait).await;
    }
    seen.show(&view)
}

/// The keys that an operation could not change, each with its reason. They are kept as long as the operation: 30 days.
#[utoipa::path(
    get, path = "/api/v1/bulk/{id}/failures", tag = "bulk",
    params(("id" = String, Path, description = "The operation"), ("cursor" = Option<String>, Query, description = "next_cursor of the page before"), ("limit" = Option<u32>, Query, description = "1 to 100; 100 if it is left out")),
    responses((status = 200, description = "A page", body = BulkFailureList), (status = 404, description = "Not there, or somebody else's"))
)]
pub(crate) async fn failures(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<Response, Problem> {
    find(&app, &manager, &id).await?;
    asked.known(&["cursor", "limit"])?;
    let limit = asked.limit_or(LARGEST_PAGE)?;
    let page = app.registry.bulk_failures(&id, asked.text("cursor"), limit);
    let page = page.await?;
    Ok(answer(BulkFailureList {
        items: page.items.into_iter().map(BulkFailureView::from).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// Asks for the end of an operation: it stops within a second, or when a database that does not answer is given up.
/// What was done stands. Somebody else's needs `keys:write`.
#[utoipa::path(
    post, path = "/api/v1/bulk/{id}/cancel", tag = "bulk", params(("id" = String, Path, description = "The operation")),
    responses((status = 200, description = "It ends soon, or has ended", body = BulkView))
)]
pub(crate) async fn cancel(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let operation = find(&app, &manager, &id).await?;
    if operation.actor != manager.actor.as_str() {
        manager.require("keys:write")?;
    }
    let cancelled = app.registry.cancel_bulk(&manager.actor, &id).await?;
    Ok(answer(BulkView::from(cancelled)))
}
