//! `/api/v1/hygiene`: keys that nobody would miss, or that can do more than they need.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use keywright_registry::{
    HygieneCounts, HygieneFinding, HygieneItem, HygieneQuery, HygieneRules, ScopeProposal,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::later::{self, OperationView, RespondAsync};
use super::later_run::Work;
use super::paging::{Asked, LARGEST_PAGE};
use crate::keys::manager::Manager;
use crate::once::Name;
use crate::problem::Problem;
use crate::server::App;

const RULES: [&str; 3] = ["idle_days", "window_days", "networks"];

/// Scopes that would have been enough.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProposalView {
    /// What was asked for in the window, as far as the key holds it.
    scopes: Vec<String>,
    /// Granted scopes that it leaves out.
    dropped: Vec<String>,
    /// Uses that named no scope at all: ask before narrowing.
    unnamed_uses: i64,
}

/// A key with what is the matter with it. Times are Unix ms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HygieneView {
    key_id: String,
    name: String,
    prefix: String,
    environment: String,
    owner_id: String,
    created_at: i64,
    last_used_at: Option<i64>,
    expires_at: Option<i64>,
    /// Everything that is the matter with it.
    findings: Vec<&'static str>,
    /// For an over-scoped key.
    proposal: Option<ProposalView>,
    /// Networks it was used from in the window.
    networks: u32,
}

impl From<ScopeProposal> for ProposalView {
    fn from(proposal: ScopeProposal) -> Self {
        Self {
            scopes: texts(proposal.scopes.as_slice()),
            dropped: texts(&proposal.dropped),
            unnamed_uses: proposal.unnamed_uses,
        }
    }
}

impl From<HygieneItem> for HygieneView {
    fn from(item: HygieneItem) -> Self {
        let proposal = item.proposal.map(ProposalView::from);
        Self {
            key_id: item.key_id,
            name: item.name,
            prefix: item.prefix,
            environment: item.environment,
            owner_id: item.owner_id,
            created_at: item.created_at,
            last_used_at: item.last_used_at,
            expires_at: item.expires_at,
            findings: item
                .findings
                .into_iter()
                .map(HygieneFinding::as_str)
                .collect(),
            proposal,
            networks: item.networks,
        }
    }
}

fn texts(scopes: &[keywright_domain::scopes::Scope]) -> Vec<String> {
    scopes.iter().map(|one| one.as_str().to_owned()).collect()
}

/// A page of keys with one finding.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HygienePageView {
    items: Vec<HygieneView>,
    /// Pass it back as `cursor`. A page may be short, or empty, and have one: it looks at 10,000 keys.
    next_cursor: Option<String>,
}

/// How many keys have each finding.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HygieneCountsView {
    /// Keys that were looked at: not revoked and not expired.
    examined: i64,
    /// By finding.
    counts: BTreeMap<&'static str, i64>,
}

fn rules(asked: &Asked) -> Result<HygieneRules, Problem> {
    let usual = HygieneRules::default();
    let number = |name, otherwise| -> Result<u32, Problem> {
        Ok(asked.read(name, "a number")?.unwrap_or(otherwise))
    };
    Ok(HygieneRules {
        idle_days: number("idle_days", usual.idle_days)?,
        window_days: number("window_days", usual.window_days)?,
        networks: number("networks", usual.networks)?,
    })
}

fn answer(body: impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// How many keys have each finding. Its time grows with the number of keys. Needs `keys:read`.
#[utoipa::path(
    get, path = "/api/v1/hygiene", tag = "hygiene",
    params(
        ("idle_days" = Option<u32>, Query, minimum = 1, maximum = 3650, description = "A use this long ago is idle: 1 to 3650, 90 if it is left out"),
        ("window_days" = Option<u32>, Query, minimum = 1, maximum = 365, description = "Scopes and networks are judged by so many days: 1 to 365, 90 if it is left out"),
        ("networks" = Option<u32>, Query, minimum = 2, maximum = 1000, description = "So many networks are many: 2 to 1000, 10 if it is left out"),
        ("Prefer" = Option<String>, Header, description = "`respond-async`: answer at once, with where to see how far it came and what came of it"),
    ),
    responses(
        (status = 200, description = "The counts", body = HygieneCountsView),
        (status = 202, description = "It has begun (`Prefer: respond-async`); `Location` is its operation", body = OperationView),
        (status = 503, description = "Too many operations run already"),
    )
)]
pub(crate) async fn counts(
    State(app): State<App>,
    manager: Manager,
    asked: Asked,
    later: RespondAsync,
) -> Result<Response, Problem> {
    manager.require("keys:read")?;
    asked.known(&RULES)?;
    let rules = rules(&asked)?;
    if later.0 {
        let place = app.key_service.places.of_read(&manager.actor)?;
        let count = app.registry.begin_hygiene_count(&rules).await?;
        let work = Work::Hygiene(Box::new(count));
        return later::begin(&app, manager, Name::default(), place, work).await;
    }
    Ok(answer(counted(&app.registry.count_hygiene(&rules).await?)))
}

/// Counts as they are shown.
pub(super) fn counted(counts: &HygieneCounts) -> HygieneCountsView {
    let all = HygieneFinding::ALL.into_iter();
    HygieneCountsView {
        examined: counts.examined,
        counts: all.map(|one| (one.as_str(), counts.of(one))).collect(),
    }
}

/// The keys with one finding. Needs `keys:read`.
#[utoipa::path(
    get, path = "/api/v1/hygiene/{finding}", tag = "hygiene",
    params(
        ("finding" = String, Path, description = "never_used, idle, never_expires, over_scoped, orphaned, many_networks, past_maximum_age or exposed"),
        ("idle_days" = Option<u32>, Query, minimum = 1, maximum = 3650, description = "A use this long ago is idle: 1 to 3650, 90 if it is left out"),
        ("window_days" = Option<u32>, Query, minimum = 1, maximum = 365, description = "Scopes and networks are judged by so many days: 1 to 365, 90 if it is left out"),
        ("networks" = Option<u32>, Query, minimum = 2, maximum = 1000, description = "So many networks are many: 2 to 1000, 10 if it is left out"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "1 to 100; 50 if it is left out"),
    ),
    responses((status = 200, description = "A page", body = HygienePageView), (status = 404, description = "No such finding"))
)]
pub(crate) async fn list(
    State(app): State<App>,
    manager: Manager,
    Path(finding): Path<String>,
    asked: Asked,
) -> Result<Response, Problem> {
    manager.require("keys:read")?;
    let [idle, window, networks] = RULES;
    asked.known(&[idle, window, networks, "cursor", "limit"])?;
    let finding = HygieneFinding::parse(&finding)
        .ok_or_else(|| Problem::not_found("finding_not_found", "there is no such finding"))?;
    let query = HygieneQuery {
        finding,
        rules: rules(&asked)?,
        cursor: asked.owned("cursor"),
        limit: asked.limit()?.min(LARGEST_PAGE),
    };
    let page = app.registry.hygiene(&query).await?;
    Ok(answer(HygienePageView {
        items: page.items.into_iter().map(HygieneView::from).collect(),
        next_cursor: page.next_cursor,
    }))
}
