//! Reading keys: lists by keyset, one key, and the catalogue of scopes.

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use keywright_domain::api_keys::Environment;
use keywright_domain::scopes::Scope;
use keywright_registry::{ApiKeyFilter, ApiKeyOrder, ApiKeyQuery, StateFilter};
use serde::Serialize;
use utoipa::ToSchema;

use super::manager::Manager;
use super::views::{KeyRow, KeyView};
use crate::http::Params;
use crate::problem::Problem;
use crate::server::App;

const PAGE: u32 = 50;
const LONGEST_PAGE: u32 = 500;

/// A page of keys.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyPage {
    items: Vec<KeyRow>,
    /// Pass it back as `cursor` for the next page; absent on the last. A page may be shorter than asked
    /// for and still have one.
    next_cursor: Option<String>,
    /// How many the filter matches; with the first page only.
    total: Option<i64>,
    /// Whether that is only about right.
    total_is_estimate: bool,
}

fn invalid(name: &str, detail: impl std::fmt::Display) -> Problem {
    Problem::bad_request("invalid_parameter", format!("{name}: {detail}")).with("parameter", name)
}

/// What a list's address asks for. Unknown parameters are refused: a filter with a typing error that
/// shows everything is worse than an error.
fn query(params: &Params) -> Result<ApiKeyQuery, Problem> {
    let mut filter = ApiKeyFilter::default();
    let mut query = ApiKeyQuery {
        limit: PAGE,
        ..ApiKeyQuery::default()
    };
    for (name, value) in params.iter().filter(|(_, value)| !value.is_empty()) {
        let time = || {
            value
                .parse::<i64>()
                .map_err(|_| invalid(name, "a time in Unix milliseconds"))
        };
        match name {
            "text" => filter.text = value.to_owned(),
            "state" => filter.state = state(value).ok_or_else(|| invalid(name, "no such state"))?,
            "owner" => filter.owner = Some(value.to_owned()),
            "prefix" => filter.prefix = Some(value.to_owned()),
            "scope" => {
                filter.scope = Some(Scope::new(value).map_err(|error| invalid(name, error))?)
            }
            "environment" => {
                let environment = Environment::new(value).map_err(|error| invalid(name, error))?;
                filter.environment = Some(environment);
            }
            "expires_before" => filter.expires_before = Some(time()?),
            "unused_since" => filter.unused_since = Some(time()?),
            "created_from" => filter.created_from = Some(time()?),
            "created_until" => filter.created_until = Some(time()?),
            "tag" => filter.tag = Some(value.to_owned()),
            "order" => query.order = order(value).ok_or_else(|| invalid(name, "no such order"))?,
            "cursor" => query.cursor = Some(value.to_owned()),
            "limit" => {
                let limit = value
                    .parse()
                    .ok()
                    .filter(|n| (1..=LONGEST_PAGE).contains(n));
                query.limit = limit.ok_or_else(|| invalid(name, "1 to 500"))?;
            }
            _ => {
                let detail = format!("there is no parameter {name}");
                return Err(Problem::bad_request("unknown_parameter", detail));
            }
        }
    }
    query.filter = filter;
    Ok(query)
}

/// A state of the filters.
pub(crate) fn state(text: &str) -> Option<StateFilter> {
    Some(match text {
        "all" => StateFilter::All,
        "live" => StateFilter::Live,
        "rotating" => StateFilter::Rotating,
        "expiring" => StateFilter::Expiring,
        "expired" => StateFilter::Expired,
        "disabled" => StateFilter::Disabled,
        "revoked" => StateFilter::Revoked,
        "pending" => StateFilter::Pending,
        "never_used" => StateFilter::NeverUsed,
        _ => return None,
    })
}

fn order(text: &str) -> Option<ApiKeyOrder> {
    Some(match text {
        "created_desc" => ApiKeyOrder::CreatedDesc,
        "created_asc" => ApiKeyOrder::CreatedAsc,
        "name_asc" => ApiKeyOrder::NameAsc,
        "name_desc" => ApiKeyOrder::NameDesc,
        "expires_asc" => ApiKeyOrder::ExpiresAsc,
        "expires_desc" => ApiKeyOrder::ExpiresDesc,
        "last_used_desc" => ApiKeyOrder::LastUsedDesc,
        "last_used_asc" => ApiKeyOrder::LastUsedAsc,
        _ => return None,
    })
}

/// Lists keys: everybody's with `keys:read`, otherwise the caller's own.
#[utoipa::path(
    get, path = "/api/v1/keys", tag = "keys",
    params(
        ("text" = Option<String>, Query, description = "Part of a name, prefix, kid, scope or tag"),
        ("state" = Option<String>, Query, pattern = "^(all|live|rotating|expiring|expired|disabled|revoked|pending|never_used)$", description = "all, live, rotating, expiring, expired, disabled, revoked, pending, never_used"),
        ("owner" = Option<String>, Query, description = "Id of the owner"),
        ("prefix" = Option<String>, Query, description = "Prefix, as a whole"),
        ("scope" = Option<String>, Query, description = "A scope that they hold"),
        ("environment" = Option<String>, Query, description = "live, test or another"),
        ("expires_before" = Option<i64>, Query, description = "Unix ms"),
        ("unused_since" = Option<i64>, Query, description = "Unix ms"),
        ("created_from" = Option<i64>, Query, description = "Unix ms"),
        ("created_until" = Option<i64>, Query, description = "Unix ms"),
        ("tag" = Option<String>, Query, description = "A tag"),
        ("order" = Option<String>, Query, pattern = "^(created_desc|created_asc|name_asc|name_desc|expires_asc|expires_desc|last_used_desc|last_used_asc)$", description = "created_desc, created_asc, name_asc, name_desc, expires_asc, expires_desc, last_used_desc, last_used_asc"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "1 to 500; 50 if it is left out"),
    ),
    responses((status = 200, description = "A page", body = KeyPage))
)]
pub(crate) async fn list(
    State(app): State<App>,
    manager: Manager,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    manager.require_own("keys:read")?;
    let params = Params::parse(raw.as_deref().unwrap_or(""))
        .map_err(|repeated| Problem::bad_request("invalid_parameter", repeated.to_string()))?;
    let mut query = query(&params)?;
    if !manager.may("keys:read") {
        if query.filter.owner.is_some() && query.filter.owner != manager.person {
            manager.require("keys:read")?;
        }
        query.filter.owner.clone_from(&manager.person);
    }
    let page = app.registry.list_api_keys(&query).await?;
    let page = KeyPage {
        items: page.items.into_iter().map(KeyRow::from).collect(),
        next_cursor: page.next_cursor,
        total: page.total.map(|total| total.count),
        total_is_estimate: page.total.is_some_and(|total| total.is_estimate),
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(page)).into_response())
}

/// One key, with its `ETag`.
#[utoipa::path(
    get, path = "/api/v1/keys/{id}", tag = "keys", params(("id" = String, Path, description = "The key")),
    responses((status = 200, description = "The key", body = KeyView), (status = 404, description = "Not there, or somebody else's"))
)]
pub(crate) async fn read(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    manager.require_own("keys:read")?;
    let (key, _) = app.registry.find_api_key(&id).await?;
    manager.check(&key, "keys:read")?;
    Ok(answer(&app, &key))
}

/// A key as an answer, with its `ETag`.
pub(crate) fn answer(app: &App, key: &keywright_domain::api_keys::ApiKey) -> Response {
    let headers = [
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::ETAG, format!("\"{}\"", key.epoch)),
    ];
    (headers, Json(KeyView::of(key, app.now()))).into_response()
}

/// A scope of the catalogue.
#[derive(Debug, Serialize, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScopeBody {
    /// `resource:action`.
    #[schema(pattern = "^[a-z0-9._-]{1,40}:[a-z0-9._-]{1,40}$")]
    pub(crate) name: String,
    /// For people.
    #[serde(default)]
    pub(crate) description: String,
    /// Publishable keys may hold it.
    #[serde(default)]
    pub(crate) low_risk: bool,
}

/// The catalogue of scopes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScopeList {
    items: Vec<ScopeBody>,
}

/// Lists the scopes that keys may hold.
#[utoipa::path(get, path = "/api/v1/scopes", tag = "keys", responses((status = 200, description = "All of them", body = ScopeList)))]
pub(crate) async fn scopes(
    State(app): State<App>,
    manager: Manager,
) -> Result<Json<ScopeList>, Problem> {
    manager.require_own("scopes:read")?;
    let items = app.registry.list_scopes().await?.into_iter();
    let items = items.map(|known| ScopeBody {
        name: known.scope.as_str().to_owned(),
        description: known.description,
        low_risk: known.low_risk,
    });
    Ok(Json(ScopeList {
        items: items.collect(),
    }))
}
