//! What a change of a key would have refused of its uses lately. Nothing is changed.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use keywright_domain::api_keys::{NetworkList, OriginList};
use keywright_domain::scopes::{Scope, ScopeSet};
use keywright_registry::{Preview, PreviewEffect, ProposedChange, RegistryError};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::stragglers::CallerView;
use crate::keys::change::key_for;
use crate::keys::issue::body;
use crate::keys::manager::Manager;
use crate::keys::views::problem;
use crate::problem::Problem;
use crate::server::App;

const USUAL_DAYS: u32 = 30;
/// Lines of one answer.
const MOST: usize = 500;
/// Keys that are looked at together.
const MOST_KEYS: usize = 1000;
/// So many previews of several keys at a time; the others wait. Each may read very many rows.
static MANY: Semaphore = Semaphore::const_new(2);

/// A change that somebody thinks about: one of `revoke`, `scopes`, `networks` and `origins`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PreviewBody {
    /// End the key.
    #[serde(default)]
    revoke: bool,
    /// Give it these scopes.
    scopes: Option<Vec<String>>,
    /// Allow these networks alone; none for all.
    networks: Option<Vec<String>>,
    /// Allow these origins alone; none for all.
    origins: Option<Vec<String>>,
    /// The uses of so many days: 1 to 365, 30 if it is left out.
    #[schema(minimum = 1, maximum = 365)]
    days: Option<u32>,
}

/// The same change of several keys.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PreviewManyBody {
    /// Which keys, 1 to 1000.
    #[schema(min_items = 1, max_items = 1000)]
    ids: Vec<String>,
    /// End them.
    #[serde(default)]
    revoke: bool,
    /// Give them these scopes.
    scopes: Option<Vec<String>>,
    /// Allow these networks alone; none for all.
    networks: Option<Vec<String>>,
    /// Allow these origins alone; none for all.
    origins: Option<Vec<String>>,
    /// The uses of so many days: 1 to 365, 30 if it is left out.
    #[schema(minimum = 1, maximum = 365)]
    days: Option<u32>,
}

impl PreviewManyBody {
    fn split(self) -> (Vec<String>, PreviewBody) {
        let asked = PreviewBody {
            revoke: self.revoke,
            scopes: self.scopes,
            networks: self.networks,
            origins: self.origins,
            days: self.days,
        };
        (self.ids, asked)
    }
}

/// Uses of one kind that the change would touch.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PreviewLineView {
    key_id: String,
    caller: CallerView,
    /// What was required; empty for nothing.
    requirement: String,
    origin: String,
    uses: i64,
    last_at: i64,
    /// The code it would be refused with; absent where what is known is too coarse to say.
    refused_with: Option<&'static str>,
}

/// The blast radius of a change. Times are Unix ms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PreviewView {
    /// The uses since this moment were replayed.
    since: i64,
    /// Uses that were replayed.
    requests: i64,
    /// Those that would have been refused.
    refused: i64,
    /// Those that may have been.
    uncertain: i64,
    /// Refused ones by code.
    by_code: BTreeMap<&'static str, i64>,
    /// Who would notice, most uses first; at most 500.
    lines: Vec<PreviewLineView>,
    /// How many lines there are in all.
    total_lines: usize,
    /// The key was used in more ways than are looked at.
    is_partial: bool,
}

impl From<Preview> for PreviewView {
    fn from(preview: Preview) -> Self {
        let lines = preview.lines.into_iter().take(MOST);
        let lines = lines.map(|line| PreviewLineView {
            key_id: line.key_id,
            caller: line.caller.into(),
            requirement: line.requirement,
            origin: line.origin,
            uses: line.uses,
            last_at: line.last_at,
            refused_with: match line.effect {
                PreviewEffect::Refused(code) => Some(code),
                PreviewEffect::Uncertain => None,
            },
        });
        Self {
            since: preview.since,
            requests: preview.requests,
            refused: preview.refused,
            uncertain: preview.uncertain,
            by_code: preview.by_code,
            lines: lines.collect(),
            total_lines: preview.total_lines,
            is_partial: preview.is_partial,
        }
    }
}

fn change(asked: &PreviewBody) -> Result<ProposedChange, Problem> {
    let refuse = |error| problem(RegistryError::Key(error));
    match (asked.revoke, &asked.scopes, &asked.networks, &asked.origins) {
        (true, None, None, None) => Ok(ProposedChange::Revoke),
        (false, Some(scopes), None, None) => {
            let scopes: Result<Vec<_>, _> = scopes.iter().map(|text| Scope::new(text)).collect();
            let scopes = scopes.map_err(|error| problem(RegistryError::Scope(error)))?;
            Ok(ProposedChange::Scopes(ScopeSet::new(scopes)))
        }
        (false, None, Some(networks), None) => {
            let list = NetworkList::new(networks.iter().map(String::as_str));
            let list = list.map_err(|error| {
                refuse(keywright_domain::api_keys::settings::SettingsError::from(error).into())
            })?;
            Ok(ProposedChange::Networks(list))
        }
        (false, None, None, Some(origins)) => {
            let list = OriginList::new(origins.iter().map(String::as_str));
            let list = list.map_err(|error| {
                refuse(keywright_domain::api_keys::settings::SettingsError::from(error).into())
            })?;
            Ok(ProposedChange::Origins(list))
        }
        _ => {
            let detail = "a preview is of one change: revoke, scopes, networks or origins";
            Err(Problem::bad_request("invalid_body", detail))
        }
    }
}

/// Replays the uses of the last days against a change of a key: who would have been refused.
#[utoipa::path(
    post, path = "/api/v1/keys/{id}/preview", tag = "keys", request_body = PreviewBody, params(("id" = String, Path, description = "The key")),
    responses((status = 200, description = "Who would notice", body = PreviewView))
)]
pub(crate) async fn preview(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    given: Result<Json<PreviewBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let asked = body(given)?;
    key_for(&app, &manager, &id, "keys:read").await?;
    replay(&app, &[id], &asked).await
}

/// The same for several keys together: what a change of all of them would have refused.
#[utoipa::path(
    post, path = "/api/v1/keys/preview", tag = "keys", request_body = PreviewManyBody,
    responses((status = 200, description = "Who would notice", body = PreviewView), (status = 404, description = "`key_not_found`: one of them, for this caller"))
)]
pub(crate) async fn preview_many(
    State(app): State<App>,
    manager: Manager,
    given: Result<Json<PreviewManyBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let (mut ids, asked) = body(given)?.split();
    manager.require_own("keys:read")?;
    // What cannot be read is refused before anything is looked for.
    change(&asked)?;
    // Each is looked for before the registry is asked: not more than it takes.
    if !(1..=MOST_KEYS).contains(&ids.len()) {
        let bounds = RegistryError::Bounds("a preview is of 1 to 1000 keys");
        return Err(problem(bounds));
    }
    ids.sort_unstable();
    ids.dedup();
    let _place = MANY.acquire().await;
    for id in &ids {
        key_for(&app, &manager, id, "keys:read").await?;
    }
    replay(&app, &ids, &asked).await
}

async fn replay(app: &App, ids: &[String], asked: &PreviewBody) -> Result<Response, Problem> {
    let change = change(asked)?;
    let days = asked.days.unwrap_or(USUAL_DAYS);
    let preview = app.registry.preview_change(ids, &change, days);
    let view = PreviewView::from(preview.await.map_err(problem)?);
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(view)).into_response())
}
