//! What is done to all keys of an owner in one step.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::api_keys::Owner;
use keywright_domain::api_keys::format::ROOT_PREFIX;
use keywright_registry::{
    ApiKeyFilter, ApiKeyQuery, Principal, PrincipalChange, RegistryError, StateFilter,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::issue::body;
use super::manager::Manager;
use super::views::{OwnerBody, problem};
use crate::nodes::receipts::{self, ReceiptView, Wait};
use crate::problem::Problem;
use crate::server::App;

const PERMISSION: &str = "keys:write";

/// Why, and how far.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RevokeKeysBody {
    /// Up to 500 characters; may be left out.
    reason: String,
    /// End management keys of the owner too. Where there are some and this is not said, nothing is
    /// done: not even by mistake does anybody end the access that would put it right.
    root_keys: bool,
}

/// An owner whose keys were ended. Times are Unix ms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OwnerKeysView {
    owner: OwnerBody,
    name: String,
    /// Keys that were made until then are revoked. Those that are made from now on are not.
    keys_revoked_at: Option<i64>,
    keys_revoked_reason: Option<String>,
    /// Which nodes refuse all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<ReceiptView>,
}

/// Who a principal is to keys.
pub(crate) fn owner_of(principal: &Principal) -> Owner {
    Owner {
        kind: principal.kind,
        id: principal.id.clone(),
    }
}

/// The owner, if the caller may do this to their keys.
///
/// # Errors
/// 403 `insufficient_scope`; 404 `owner_not_found`, as if there were none, for whom they are not to be seen by.
pub(crate) async fn owner_for(
    app: &App,
    manager: &Manager,
    id: &str,
    permission: &str,
) -> Result<Principal, Problem> {
    manager.require_own(permission)?;
    let principal = app.registry.find_principal(id).await?;
    manager.check_owner(&owner_of(&principal), permission)?;
    Ok(principal)
}

/// Refuses where management keys of the owner would end, or be suspended, unsaid.
///
/// # Errors
/// 409 `owner_has_root_keys`.
pub(crate) async fn check_root_keys(app: &App, id: &str) -> Result<(), Problem> {
    let query = ApiKeyQuery {
        filter: ApiKeyFilter {
            owner: Some(id.to_owned()),
            prefix: Some(ROOT_PREFIX.to_owned()),
            state: StateFilter::Live,
            ..ApiKeyFilter::default()
        },
        limit: 1,
        ..ApiKeyQuery::default()
    };
    // A page may be empty and not the last one.
    let page = app.registry.list_api_keys(&query).await?;
    if page.items.is_empty() && page.next_cursor.is_none() {
        return Ok(());
    }
    let detail = "it would take management keys of this owner too: say root_keys";
    Err(Problem::new(
        StatusCode::CONFLICT,
        "owner_has_root_keys",
        detail,
    ))
}

/// Ends every key that an owner has now, however many, in one step. Again, it ends those that were
/// issued since. Needs `keys:write`; a person may do it to their own.
#[utoipa::path(
    post, path = "/api/v1/owners/{id}/revoke-keys", tag = "keys", request_body = RevokeKeysBody,
    params(("id" = String, Path, description = "The owner: a person, a service or a team"), ("wait_ms" = Option<u64>, Query, maximum = 1000, description = "How long to wait for the other nodes; as long as it takes, 900 at most, if it is left out")),
    responses(
        (status = 200, description = "They are refused from now on: here, and where the receipt says so", body = OwnerKeysView),
        (status = 404, description = "There is no such owner, or none that the caller may see"),
        (status = 409, description = "`owner_has_root_keys`: management keys would end too, and that was not said"),
    )
)]
pub(crate) async fn revoke_keys(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    wait: Wait,
    headers: HeaderMap,
    given: Result<Json<RevokeKeysBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let asked = match given {
        Err(_) if !headers.contains_key(header::CONTENT_TYPE) => RevokeKeysBody::default(),
        given => body(given)?,
    };
    owner_for(&app, &manager, &id, PERMISSION).await?;
    if !asked.root_keys {
        check_root_keys(&app, &id).await?;
    }
    let change = PrincipalChange::RevokeKeys(asked.reason);
    let revoked = app.registry.change_principal(&manager.actor, &id, &change);
    let principal = revoked.await.map_err(problem)?;
    let receipt = receipts::of(&app, principal.epoch, wait).await;
    let headers = [
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::ETAG, format!("\"{}\"", principal.epoch)),
    ];
    let view = OwnerKeysView {
        owner: OwnerBody::from(&owner_of(&principal)),
        name: principal.name,
        keys_revoked_at: principal.keys_revoked_at,
        keys_revoked_reason: principal.keys_revoked_reason,
        receipt,
    };
    Ok((headers, Json(view)).into_response())
}

/// As for an owner that does not exist.
pub(crate) fn not_found() -> Problem {
    RegistryError::OwnerNotFound.into()
}
