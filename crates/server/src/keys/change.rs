//! Changing, suspending and ending keys.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use keywright_domain::api_keys::ApiKey;
use keywright_domain::api_keys::format::ROOT_PREFIX;
use keywright_domain::api_keys::lifecycle::KnownScope;
use keywright_domain::scopes::Scope;
use keywright_registry::{ApiKeyChange, RegistryError};
use serde::Deserialize;
use utoipa::ToSchema;

use super::issue::{body, settings};
use super::list::{ScopeBody, answer};
use super::manager::Manager;
use super::settings::SettingsBody;
use super::views::problem;
use crate::nodes::receipts::{self, Wait};
use crate::problem::Problem;
use crate::server::App;

/// What is to be changed; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeBody {
    /// Another name.
    name: Option<String>,
    /// Other scopes.
    scopes: Option<Vec<String>>,
    /// Other settings, as a whole.
    settings: Option<SettingsBody>,
}

/// Why.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ReasonBody {
    /// Up to 500 characters; may be left out.
    reason: String,
}

/// Reads the key and refuses whom it is not for.
pub(crate) async fn key_for(
    app: &App,
    manager: &Manager,
    id: &str,
    permission: &str,
) -> Result<ApiKey, Problem> {
    manager.require_own(permission)?;
    let (key, _) = app.registry.find_api_key(id).await?;
    manager.check(&key, permission)?;
    Ok(key)
}

/// `If-Match` with the `ETag` that the caller saw.
fn if_match(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("").trim();
    if text == "*" {
        return Ok(None);
    }
    let epoch = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .and_then(|text| text.parse().ok());
    epoch
        .map(Some)
        .ok_or_else(|| Problem::bad_request("invalid_etag", "If-Match is not one of our ETags"))
}

/// Changes name, scopes or settings; with `If-Match`, only if nobody changed it since.
#[utoipa::path(
    patch, path = "/api/v1/keys/{id}", tag = "keys", request_body = ChangeBody,
    params(("id" = String, Path, description = "The key"), ("If-Match" = Option<String>, Header, description = "ETag that was seen"),
        ("wait_ms" = Option<u64>, Query, maximum = 1000, description = "How long to wait for the other nodes; as long as it takes, 900 at most, if it is left out")),
    responses((status = 200, description = "Changed; with a receipt where something was taken away", body = receipts::EndedView), (status = 412, description = "Changed by somebody else meanwhile"))
)]
pub(crate) async fn change(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    wait: Wait,
    headers: HeaderMap,
    given: Result<Json<ChangeBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let asked = body(given)?;
    let before = key_for(&app, &manager, &id, "keys:write").await?;
    let management = before.prefix.as_str() == ROOT_PREFIX;
    let change = ApiKeyChange {
        held: Some(manager.held(management).clone()),
        name: asked.name,
        scopes: asked.scopes,
        settings: asked.settings.as_ref().map(settings).transpose()?,
        if_epoch: if_match(&headers)?,
    };
    let key = app
        .registry
        .change_api_key(&manager.actor, &id, &change)
        .await
        .map_err(problem)?;
    let wait = takes_away(&before, &key).then_some(wait);
    Ok(receipts::changed(&app, &key, wait).await)
}

/// Whether a request that was let through before may be refused now. In doubt it is so: a receipt that
/// nobody needed is true as well.
fn takes_away(before: &ApiKey, after: &ApiKey) -> bool {
    let (old, new) = (&before.settings, &after.settings);
    !after.scopes.covers_all(&before.scopes)
        || old.networks != new.networks
        || old.origins != new.origins
        || old.limits != new.limits
        || old.credits != new.credits
}

/// A body may be left out (C-16).
fn reason(given: Option<Result<Json<ReasonBody>, JsonRejection>>) -> Result<String, Problem> {
    given.map_or_else(
        || Ok(String::new()),
        |given| body(given).map(|body| body.reason),
    )
}

/// The optional body of a request: none where there is no content type.
#[derive(Debug)]
pub(crate) struct Reason(pub(crate) String);

impl axum::extract::FromRequest<App> for Reason {
    type Rejection = Problem;

    async fn from_request(
        request: axum::extract::Request,
        state: &App,
    ) -> Result<Self, Self::Rejection> {
        if !request.headers().contains_key(header::CONTENT_TYPE) {
            return reason(None).map(Self);
        }
        let given = Json::<ReasonBody>::from_request(request, state).await;
        reason(Some(given)).map(Self)
    }
}

/// Ends a key for good. Ending it again changes nothing.
#[utoipa::path(
    post, path = "/api/v1/keys/{id}/revoke", tag = "keys", request_body = ReasonBody,
    params(("id" = String, Path, description = "The key"), ("wait_ms" = Option<u64>, Query, maximum = 1000, description = "How long to wait for the other nodes; as long as it takes, 900 at most, if it is left out")),
    responses((status = 200, description = "It is refused from now on: here, and where the receipt says so", body = receipts::EndedView))
)]
pub(crate) async fn revoke(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    wait: Wait,
    Reason(reason): Reason,
) -> Result<Response, Problem> {
    key_for(&app, &manager, &id, "keys:write").await?;
    let revoked = app.registry.revoke_api_key(&manager.actor, &id, &reason);
    Ok(receipts::ended(&app, &revoked.await.map_err(problem)?, wait).await)
}

/// Suspends a key until it is enabled again.
#[utoipa::path(
    post, path = "/api/v1/keys/{id}/disable", tag = "keys", request_body = ReasonBody,
    params(("id" = String, Path, description = "The key"), ("wait_ms" = Option<u64>, Query, maximum = 1000, description = "How long to wait for the other nodes; as long as it takes, 900 at most, if it is left out")),
    responses((status = 200, description = "Suspended", body = receipts::EndedView), (status = 409, description = "It was revoked"))
)]
pub(crate) async fn disable(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    wait: Wait,
    Reason(reason): Reason,
) -> Result<Response, Problem> {
    key_for(&app, &manager, &id, "keys:write").await?;
    let disabled = app.registry.disable_api_key(&manager.actor, &id, &reason);
    Ok(receipts::ended(&app, &disabled.await.map_err(problem)?, wait).await)
}

/// Ends a suspension.
#[utoipa::path(
    post, path = "/api/v1/keys/{id}/enable", tag = "keys", params(("id" = String, Path, description = "The key")),
    responses((status = 200, description = "It works again", body = super::views::KeyView), (status = 409, description = "It was revoked"))
)]
pub(crate) async fn enable(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    key_for(&app, &manager, &id, "keys:write").await?;
    let enabled = app.registry.enable_api_key(&manager.actor, &id);
    Ok(answer(&app, &enabled.await.map_err(problem)?))
}

/// Takes a scope out of the catalogue that nothing uses: no key that was not revoked holds it by its
/// name, no role allows it, no policy names it. Needs `scopes:write`.
#[utoipa::path(
    delete, path = "/api/v1/scopes/{name}", tag = "keys", params(("name" = String, Path, description = "The scope")),
    responses((status = 204, description = "It is gone"), (status = 404, description = "`scope_not_found`"), (status = 409, description = "`scope_in_use`: the detail says by what"))
)]
pub(crate) async fn remove_scope(
    State(app): State<App>,
    manager: Manager,
    Path(name): Path<String>,
) -> Result<axum::http::StatusCode, Problem> {
    manager.require("scopes:write")?;
    let scope = Scope::new(&name).map_err(|_| Problem::from(RegistryError::ScopeNotFound))?;
    app.registry.remove_scope(&manager.actor, &scope).await?;
    Ok(axum::http::StatusCode::NO_CONTENT)
}

/// Adds a scope to the catalogue, or describes it anew.
#[utoipa::path(put, path = "/api/v1/scopes", tag = "keys", request_body = ScopeBody, responses((status = 200, description = "It is known", body = ScopeBody)))]
pub(crate) async fn define_scope(
    State(app): State<App>,
    manager: Manager,
    given: Result<Json<ScopeBody>, JsonRejection>,
) -> Result<Json<ScopeBody>, Problem> {
    manager.require("scopes:write")?;
    let asked = body(given)?;
    let scope = Scope::new(&asked.name)
        .map_err(|error| Problem::bad_request("invalid_scope", error.to_string()))?;
    let known = KnownScope {
        scope,
        description: asked.description,
        low_risk: asked.low_risk,
    };
    let known = app
        .registry
        .define_scope(&manager.actor, known)
        .await
        .map_err(problem)?;
    Ok(Json(ScopeBody {
        name: known.scope.as_str().to_owned(),
        description: known.description,
        low_risk: known.low_risk,
    }))
}
