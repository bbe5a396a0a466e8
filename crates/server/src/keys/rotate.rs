//! Rotations: a second secret for a key, and what becomes of it.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::api_keys::format::ROOT_PREFIX;
use keywright_domain::api_keys::{ApiKey, Kid, OverlapClock, Rotation, RotationRequest};
use keywright_registry::{
    Conditions, IdempotencyKey, NarrowScopes, RegistryError, RotatedOnce, RotationStep,
    RotationWish,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::change::{ReasonBody, key_for};
use super::issue::body;
use super::manager::{Manager, peppers};
use super::views::{ClientSecretBody, IssuedView, KeyView, RotationView, problem};
use crate::key_service::scope_proposals::USUAL_DAYS;
use crate::nodes::receipts::{self, ReceiptView, Wait};
use crate::problem::Problem;
use crate::server::App;

/// A wish for a rotation. Left empty: a day of overlap, by the clock of the environment's policy.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateBody {
    /// How long the old secret works once its clock runs; 0 ends it at once.
    overlap_ms: Option<i64>,
    /// `from_first_use`, `from_issue`, or `until_drained:SILENT_MS:CAP_MS`. Left out: the policy's, with
    /// `overlap_ms` as the cap where that is `until_drained`.
    clock: Option<String>,
    /// Life of the new secret; the old one's, if it is left out.
    lifetime_ms: Option<i64>,
    /// Kid of the secret that is to be replaced, as the caller saw it.
    replaces: Option<String>,
    /// The old secret is known to others, and why: it ends at once.
    compromised: Option<String>,
    /// A secret that the caller made; we make one otherwise.
    client_secret: Option<ClientSecretBody>,
    /// Leave the key the scopes alone that it used in `narrow_days`: never more than it has. What cannot
    /// be judged stays. Taken back with the rotation, unless somebody changed the scopes since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    narrow_scopes: bool,
    /// 1 to 365; 90 if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    narrow_days: Option<u32>,
    /// The same, by the `id` of `GET …/scope-proposal` that somebody looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope_proposal: Option<String>,
}

/// How the key's scopes are narrowed, if at all.
fn narrow(asked: &RotateBody) -> Result<Option<NarrowScopes>, Problem> {
    match (
        asked.narrow_scopes,
        asked.narrow_days,
        &asked.scope_proposal,
    ) {
        (false, None, None) => Ok(None),
        (true, days, None) => Ok(Some(NarrowScopes::ToUses {
            days: days.unwrap_or(USUAL_DAYS),
        })),
        (false, None, Some(id)) => Ok(Some(NarrowScopes::Accepted(id.clone()))),
        _ => {
            let detail =
                "scopes are narrowed by narrow_scopes, with narrow_days, or by scope_proposal";
            Err(Problem::bad_request("invalid_body", detail))
        }
    }
}

/// What a step came to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SteppedView {
    key: KeyView,
    rotation: RotationView,
    /// Which nodes refuse the secret that ended; absent where both go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<ReceiptView>,
}

impl SteppedView {
    /// As both are now. One of the two secrets may have ended with the step.
    pub(crate) async fn of(app: &App, key: &ApiKey, rotation: Rotation, wait: Wait) -> Self {
        let now = app.now();
        let ended = key.secrets.iter().any(|secret| {
            let is_one = secret.kid == rotation.new || Some(&secret.kid) == rotation.old.as_ref();
            is_one && !secret.state(now).verifies()
        });
        Self {
            key: KeyView::of(key, now),
            rotation: rotation.into(),
            receipt: match ended {
                true => receipts::of(app, key.epoch, wait).await,
                false => None,
            },
        }
    }
}

/// Whether a rotation itself ended a secret that worked: the old one where nothing overlaps, or one
/// that was pending. An old secret whose end is still to come, or came later, is none of these.
fn ended_at_once(key: &ApiKey, rotation: &Rotation, now: i64) -> bool {
    key.secrets.iter().any(|secret| {
        let ended_at = secret.ended_at.or(secret.retires_at);
        secret.kid != rotation.new
            && !secret.state(now).verifies()
            && ended_at == Some(rotation.created_at)
    })
}

/// SHA-256 of what is asked for: of which key, and how.
fn digest(id: &str, asked: &RotateBody) -> Result<[u8; 32], Problem> {
    let text = serde_json::to_vec(&("rotation", id, asked));
    let text = text.map_err(|_| {
        Problem::bad_request("invalid_body", "the body is not what this address takes")
    })?;
    Ok(Sha256::digest(text).into())
}

/// The clock that the policy has for a rotation of a key that names none.
pub(crate) async fn clock_of_policy(
    app: &App,
    key: &ApiKey,
    overlap_ms: Option<i64>,
) -> Result<OverlapClock, Problem> {
    let policy = app.registry.policy_in_force(&key.environment).await?;
    Ok(policy.clock_of_rotation(overlap_ms))
}

async fn request(app: &App, key: &ApiKey, asked: &RotateBody) -> Result<RotationRequest, Problem> {
    let standard = RotationRequest::default();
    let clock = match &asked.clock {
        Some(clock) => {
            OverlapClock::parse(clock).map_err(|error| problem(RegistryError::Policy(error)))?
        }
        None => clock_of_policy(app, key, asked.overlap_ms).await?,
    };
    let replaces = asked.replaces.as_deref().map(Kid::new).transpose();
    Ok(RotationRequest {
        overlap_ms: asked.overlap_ms.unwrap_or(standard.overlap_ms),
        clock,
        lifetime_ms: asked.lifetime_ms,
        replaces: replaces
            .map_err(|_| Problem::bad_request("invalid_kid", "replaces: no kid of ours"))?,
        compromised: asked.compromised.clone(),
    })
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

/// Gives a key a new secret; the old one works until the overlap ends. With an `Idempotency-Key`, the
/// same request again is answered with the same rotation and never rotates twice (AC-138).
#[utoipa::path(
    post, path = "/api/v1/keys/{id}/rotations", tag = "keys", request_body = RotateBody,
    params(("id" = String, Path, description = "The key"), ("Idempotency-Key" = Option<String>, Header, description = "8 to 64 letters, digits, dots, dashes or underscores; remembered for seven days, for each caller"),
        ("wait_ms" = Option<u64>, Query, maximum = 1000, description = "How long to wait for the other nodes where the old secret ends at once; as long as it takes, 900 at most, if it is left out")),
    responses(
        (status = 201, description = "Rotated", body = IssuedView),
        (status = 200, description = "It was carried out before; its secret is not shown again", body = IssuedView),
        (status = 409, description = "Somebody else rotated meanwhile, the key was revoked, or the Idempotency-Key was used with another request; `proposal_changed`; `uses_without_scope`: accept a proposal by its id"),
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
    let once = match idempotency_key(&headers)? {
        Some(name) => Some(IdempotencyKey {
            name,
            request: digest(&id, &asked)?,
        }),
        None => None,
    };
    let (wish, narrow) = (request(&app, &key, &asked).await?, narrow(&asked)?);
    let wish = RotationWish {
        request: &wish,
        narrow: narrow.as_ref(),
    };
    let registry = app
        .registry
        .under(manager.secret_of(&key, Conditions::default()));
    let before = key.scopes;
    let client = asked.client_secret.as_ref().map(|secret| secret.read());
    let client = client.transpose()?;
    let peppers = peppers(&app)?;
    let (actor, client) = (&manager.actor, client.as_ref());
    let rotated = registry.rotate_api_key_once(actor, &id, wish, client, once.as_ref(), &peppers);
    let (status, key, rotation, plain) = match rotated.await.map_err(problem)? {
        RotatedOnce::Now {
            key,
            rotation,
            plain,
        } => (StatusCode::CREATED, key, rotation, plain),
        // A retry: the same answer, as far as it can be given again.
        RotatedOnce::Before { key, rotation } => (StatusCode::OK, key, rotation, None),
    };
    let now = app.now();
    let mut view = IssuedView::of(&key, plain.as_ref(), now);
    view.secret_was_shown = status == StatusCode::OK && client.is_none();
    // Only what was taken away with it has a receipt, whatever was asked for.
    if ended_at_once(&key, &rotation, now) || !key.scopes.covers_all(&before) {
        view.receipt = receipts::of(&app, key.epoch, wait).await;
    }
    view.rotation_id = Some(rotation.id);
    let headers = [(header::CACHE_CONTROL, "no-store")];
    Ok((status, headers, Json(view)).into_response())
}

/// `promote`, `cancel`, `roll-back` or `finish` of the rotation that is under way.
#[utoipa::path(
    post, path = "/api/v1/keys/{id}/rotations/current/{step}", tag = "keys",
    params(("id" = String, Path, description = "The key"), ("step" = String, Path, description = "promote, cancel, roll-back or finish"),
        ("wait_ms" = Option<u64>, Query, maximum = 1000, description = "How long to wait for the other nodes where a secret ends; as long as it takes, 900 at most, if it is left out")),
    responses((status = 200, description = "Done", body = SteppedView), (status = 409, description = "There is no such rotation, or it is too late"))
)]
pub(crate) async fn step(
    State(app): State<App>,
    manager: Manager,
    Path((id, step)): Path<(String, String)>,
    wait: Wait,
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
    let key = key_for(&app, &manager, &id, "keys:write").await?;
    let held = manager.held(key.prefix.as_str() == ROOT_PREFIX);
    let (key, rotation) = app
        .registry
        .step_rotation_by(&manager.actor, &id, step, Some(held))
        .await
        .map_err(problem)?;
    Ok(Json(SteppedView::of(&app, &key, rotation, wait).await))
}

/// Ends one secret of a key; the key and its other secret go on.
#[utoipa::path(
    post, path = "/api/v1/keys/{id}/secrets/{kid}/revoke", tag = "keys", request_body = ReasonBody,
    params(("id" = String, Path, description = "The key"), ("kid" = String, Path, description = "The secret"),
        ("wait_ms" = Option<u64>, Query, maximum = 1000, description = "How long to wait for the other nodes; as long as it takes, 900 at most, if it is left out")),
    responses((status = 200, description = "It is refused from now on: here, and where the receipt says so", body = receipts::EndedView))
)]
pub(crate) async fn revoke_secret(
    State(app): State<App>,
    manager: Manager,
    Path((id, kid)): Path<(String, String)>,
    wait: Wait,
    super::change::Reason(reason): super::change::Reason,
) -> Result<Response, Problem> {
    let key = key_for(&app, &manager, &id, "keys:write").await?;
    let kid = Kid::new(&kid)
        .map_err(|_| Problem::not_found("unknown_kid", "this key has no such secret"))?;
    let held = manager.held(key.prefix.as_str() == ROOT_PREFIX);
    let key = app
        .registry
        .revoke_secret_by(&manager.actor, &id, &kid, &reason, Some(held))
        .await
        .map_err(problem)?;
    Ok(receipts::ended(&app, &key, wait).await)
}
