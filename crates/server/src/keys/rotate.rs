//! Rotations: a second secret for a key, and what becomes of it.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::api_keys::{ApiKey, Kid, OverlapClock, Rotation, RotationRequest};
use keywright_domain::base62::random_id;
use keywright_registry::{RegistryError, RotationStep};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::change::{ReasonBody, key_for};
use super::issue::body;
use super::manager::{Manager, peppers};
use super::views::{ClientSecretBody, IssuedView, KeyView, RotationView, problem};
use crate::nodes::receipts::{self, Wait};
use crate::problem::Problem;
use crate::server::App;

/// A wish for a rotation. Left empty: a day of overlap from the first use of the new secret.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateBody {
    /// How long the old secret works once its clock runs; 0 ends it at once.
    overlap_ms: Option<i64>,
    /// `from_first_use`, `from_issue`, or `until_drained:SILENT_MS:CAP_MS`.
    clock: Option<String>,
    /// Life of the new secret; the old one's, if it is left out.
    lifetime_ms: Option<i64>,
    /// Kid of the secret that is to be replaced, as the caller saw it.
    replaces: Option<String>,
    /// The old secret is known to others, and why: it ends at once.
    compromised: Option<String>,
    /// A secret that the caller made; we make one otherwise.
    client_secret: Option<ClientSecretBody>,
}

/// Rotations of a key, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RotationList {
    items: Vec<RotationView>,
}

/// What a step came to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SteppedView {
    key: KeyView,
    rotation: RotationView,
}

impl SteppedView {
    /// As both are now.
    pub(crate) fn of(key: &ApiKey, rotation: Rotation, now: i64) -> Self {
        Self {
            key: KeyView::of(key, now),
            rotation: rotation.into(),
        }
    }
}

fn request(asked: &RotateBody) -> Result<RotationRequest, Problem> {
    let standard = RotationRequest::default();
    let clock = asked.clock.as_deref().map(OverlapClock::parse).transpose();
    let replaces = asked.replaces.as_deref().map(Kid::new).transpose();
    Ok(RotationRequest {
        overlap_ms: asked.overlap_ms.unwrap_or(standard.overlap_ms),
        clock: clock
            .map_err(|error| problem(RegistryError::Policy(error)))?
            .unwrap_or(standard.clock),
        lifetime_ms: asked.lifetime_ms,
        replaces: replaces
            .map_err(|_| Problem::bad_request("invalid_kid", "replaces: no kid of ours"))?,
        compromised: asked.compromised.clone(),
    })
}

/// `Idempotency-Key`: the rotation's id. A retry with the same one never rotates twice (AC-138).
fn rotation_id(headers: &HeaderMap) -> Result<String, Problem> {
    let given = idempotency_key(headers)?;
    Ok(given.unwrap_or_else(|| random_id(&mut rand::rng())))
}

/// What the caller names its request by, so that it can be sent again.
///
/// # Errors
/// 400 `invalid_idempotency_key`.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match value.to_str() {
        Ok(text) if (8..=64).contains(&text.len()) && text.bytes().all(plain) => {
            Ok(Some(text.to_owned()))
        }
        _ => Err(Problem::bad_request(
            "invalid_idempotency_key",
            "Idempotency-Key has 8 to 64 letters, digits, dots, dashes or underscores",
        )),
    }
}

/// Gives a key a new secret; the old one works until the overlap ends.
#[utoipa::path(
    post, path = "/api/v1/keys/{id}/rotations", tag = "keys", request_body = RotateBody,
    params(("id" = String, Path, description = "The key"), ("Idempotency-Key" = Option<String>, Header, description = "A retry with the same one never rotates twice"),
        ("wait_ms" = Option<u64>, Query, maximum = 1000, description = "How long to wait for the other nodes where the old secret ends at once; 1000 if it is left out")),
    responses(
        (status = 201, description = "Rotated", body = IssuedView),
        (status = 200, description = "It was carried out before; its secret is not shown again", body = IssuedView),
        (status = 409, description = "Somebody else rotated meanwhile, or the key was revoked"),
    )
)]
pub(crate) async fn rotate(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    wait: Wait,
    headers: HeaderMap,
    given: Result<Json<RotateBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let asked = match given {
        Err(_) if !headers.contains_key(header::CONTENT_TYPE) => RotateBody::default(),
        given => body(given)?,
    };
    let key = key_for(&app, &manager, &id, "keys:write").await?;
    let rotation_id = rotation_id(&headers)?;
    let wish = request(&asked)?;
    let peppers = peppers(&app)?;
    let registry = &app.registry;
    let actor = &manager.actor;
    let done = match &asked.client_secret {
        Some(secret) => registry
            .rotate_api_key_to(actor, &id, &wish, &rotation_id, &secret.read()?, &peppers)
            .await
            .map(|(key, _)| (key, None)),
        None => registry
            .rotate_api_key(actor, &id, &wish, &rotation_id, &peppers)
            .await
            .map(|issued| (issued.key, Some(issued.plain))),
    };
    let (status, key, plain) = match done {
        Ok((key, plain)) => (StatusCode::CREATED, key, plain),
        // A retry: the same answer, as far as it can be given again.
        Err(RegistryError::RotationAlreadyDone { .. }) => {
            let mine = registry.list_rotations(&id).await?;
            if !mine.iter().any(|rotation| rotation.id == rotation_id) {
                return Err(problem(RegistryError::RotationNotFound));
            }
            let (key, _) = registry.find_api_key(&key.id).await?;
            (StatusCode::OK, key, None)
        }
        Err(error) => return Err(problem(error)),
    };
    let mut view = IssuedView::of(&key, plain.as_ref(), app.now());
    view.secret_was_shown = status == StatusCode::OK && asked.client_secret.is_none();
    view.rotation_id = Some(rotation_id);
    // Only then something was taken away with it.
    if asked.overlap_ms == Some(0) || asked.compromised.is_some() {
        view.receipt = receipts::of(&app, key.epoch, wait).await;
    }
    let headers = [(header::CACHE_CONTROL, "no-store")];
    Ok((status, headers, Json(view)).into_response())
}

/// The rotations of a key.
#[utoipa::path(
    get, path = "/api/v1/keys/{id}/rotations", tag = "keys", params(("id" = String, Path, description = "The key")),
    responses((status = 200, description = "The latest 100", body = RotationList))
)]
pub(crate) async fn list(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
) -> Result<Json<RotationList>, Problem> {
    key_for(&app, &manager, &id, "keys:read").await?;
    let rotations = app.registry.list_rotations(&id).await?;
    Ok(Json(RotationList {
        items: rotations.into_iter().map(RotationView::from).collect(),
    }))
}

/// `promote`, `cancel`, `roll-back` or `finish` of the rotation that is under way.
#[utoipa::path(
    post, path = "/api/v1/keys/{id}/rotations/current/{step}", tag = "keys",
    params(("id" = String, Path, description = "The key"), ("step" = String, Path, description = "promote, cancel, roll-back or finish")),
    responses((status = 200, description = "Done", body = SteppedView), (status = 409, description = "There is no such rotation, or it is too late"))
)]
pub(crate) async fn step(
    State(app): State<App>,
    manager: Manager,
    Path((id, step)): Path<(String, String)>,
) -> Result<Json<SteppedView>, Problem> {
    let step = match step.as_str() {
        "promote" => RotationStep::Promote,
        "cancel" => RotationStep::Cancel,
        "roll-back" => RotationStep::RollBack,
        "finish" => RotationStep::Finish,
        _ => {
            let detail = "a step is promote, cancel, roll-back or finish";
            return Err(Problem::not_found("step_not_found", detail));
        }
    };
    key_for(&app, &manager, &id, "keys:write").await?;
    let (key, rotation) = app
        .registry
        .step_rotation(&manager.actor, &id, step)
        .await
        .map_err(problem)?;
    Ok(Json(SteppedView::of(&key, rotation, app.now())))
}

/// Ends one secret of a key; the key and its other secret go on.
#[utoipa::path(
    post, path = "/api/v1/keys/{id}/secrets/{kid}/revoke", tag = "keys", request_body = ReasonBody,
    params(("id" = String, Path, description = "The key"), ("kid" = String, Path, description = "The secret"),
        ("wait_ms" = Option<u64>, Query, maximum = 1000, description = "How long to wait for the other nodes; 1000 if it is left out")),
    responses((status = 200, description = "It is refused from now on: here, and where the receipt says so", body = receipts::EndedView))
)]
pub(crate) async fn revoke_secret(
    State(app): State<App>,
    manager: Manager,
    Path((id, kid)): Path<(String, String)>,
    wait: Wait,
    super::change::Reason(reason): super::change::Reason,
) -> Result<Response, Problem> {
    key_for(&app, &manager, &id, "keys:write").await?;
    let kid = Kid::new(&kid)
        .map_err(|_| Problem::not_found("unknown_kid", "this key has no such secret"))?;
    let key = app
        .registry
        .revoke_secret(&manager.actor, &id, &kid, &reason)
        .await
        .map_err(problem)?;
    Ok(receipts::ended(&app, &key, wait).await)
}
