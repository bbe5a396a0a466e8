//! What became of a new secret on its way, and making one anew whose answer was lost.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use keywright_domain::api_keys::RotationState;
use keywright_registry::{AfterFailure, Delivery, DeliveryOutcome, RegistryError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::keys::change::key_for;
use crate::keys::issue::body;
use crate::keys::manager::{Manager, peppers};
use crate::keys::views::{IssuedView, RotationView, problem};
use crate::nodes::receipts::{self, ReceiptView, Wait};
use crate::problem::Problem;
use crate::server::App;

/// What came of a delivery.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeliveryBody {
    /// Where the secret was to go; never a secret.
    target: String,
    /// It arrived, was read back, and what was read back verified.
    delivered: bool,
    /// Why it did not.
    #[serde(default)]
    error: String,
    /// After a failure: `hold` (the default) or `cancel`, which takes the rotation back if its new
    /// secret reached nobody.
    then: Option<String>,
}

/// One attempt to deliver a new secret. Times are Unix ms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryView {
    id: String,
    rotation_id: String,
    kid: String,
    target: String,
    delivered: bool,
    error: Option<String>,
    at: i64,
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id,
            rotation_id: delivery.rotation_id,
            kid: delivery.kid,
            target: delivery.target,
            delivered: delivery.delivered,
            error: delivery.error,
            at: delivery.at,
        }
    }
}

/// Deliveries of a rotation, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryList {
    items: Vec<DeliveryView>,
}

/// A delivery that was written down, and the rotation as it stands now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveredView {
    delivery: DeliveryView,
    rotation: RotationView,
    /// Which nodes refuse the new secret, where the failure cancelled it.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<ReceiptView>,
}

fn answer(body: impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// Refuses a rotation of another key.
async fn check(app: &App, key_id: &str, rotation_id: &str) -> Result<(), Problem> {
    let rotations = app.registry.list_rotations(key_id).await?;
    if rotations.iter().any(|rotation| rotation.id == rotation_id) {
        Ok(())
    } else {
        Err(RegistryError::RotationNotFound.into())
    }
}

/// The deliveries of a rotation, oldest first; at most 200.
#[utoipa::path(
    get, path = "/api/v1/keys/{id}/rotations/{rotation_id}/deliveries", tag = "keys",
    params(("id" = String, Path, description = "The key"), ("rotation_id" = String, Path, description = "One of its rotations")),
    responses((status = 200, description = "Its deliveries", body = DeliveryList))
)]
pub(crate) async fn list(
    State(app): State<App>,
    manager: Manager,
    Path((id, rotation_id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    key_for(&app, &manager, &id, "keys:read").await?;
    check(&app, &id, &rotation_id).await?;
    let deliveries = app.registry.list_deliveries(&rotation_id).await?;
    Ok(answer(DeliveryList {
        items: deliveries.into_iter().map(DeliveryView::from).collect(),
    }))
}

/// Says what became of a new secret: it arrived and was read back, or it did not. A failure never
/// costs the old secret its life, and raises an alert.
#[utoipa::path(
    post, path = "/api/v1/keys/{id}/rotations/{rotation_id}/deliveries", tag = "keys", request_body = DeliveryBody,
    params(("id" = String, Path, description = "The key"), ("rotation_id" = String, Path, description = "One of its rotations")),
    responses((status = 200, description = "Written down", body = DeliveredView))
)]
pub(crate) async fn report(
    State(app): State<App>,
    manager: Manager,
    Path((id, rotation_id)): Path<(String, String)>,
    wait: Wait,
    given: Result<Json<DeliveryBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let told = body(given)?;
    key_for(&app, &manager, &id, "keys:write").await?;
    check(&app, &id, &rotation_id).await?;
    let then = match told.then.as_deref() {
        None | Some("hold") => AfterFailure::Hold,
        Some("cancel") => AfterFailure::Cancel,
        Some(_) => {
            let detail = "after a failure comes hold or cancel";
            return Err(Problem::bad_request("invalid_body", detail));
        }
    };
    let outcome = if told.delivered {
        DeliveryOutcome::Delivered
    } else {
        DeliveryOutcome::Failed {
            error: told.error,
            then,
        }
    };
    let recorded =
        app.registry
            .record_delivery(&manager.actor, &rotation_id, &told.target, &outcome);
    let (delivery, rotation) = recorded.await.map_err(problem)?;
    let receipt = if rotation.state == RotationState::Cancelled && then == AfterFailure::Cancel {
        let (key, _) = app.registry.find_api_key(&id).await?;
        receipts::of(&app, key.epoch, wait).await
    } else {
        None
    };
    Ok(answer(DeliveredView {
        receipt,
        delivery: delivery.into(),
        rotation: rotation.into(),
    }))
}

/// Makes the pending secret of a rotation anew, when the answer that held it was lost. The one before
/// is cancelled; the rotation stays the same one.
#[utoipa::path(
    post, path = "/api/v1/keys/{id}/rotations/{rotation_id}/reissue", tag = "keys",
    params(("id" = String, Path, description = "The key"), ("rotation_id" = String, Path, description = "Its rotation"),
        ("wait_ms" = Option<u64>, Query, maximum = 1000, description = "How long to wait for the other nodes; 1000 if it is left out")),
    responses((status = 200, description = "The new secret, this once", body = IssuedView), (status = 409, description = "The secret was used already"))
)]
pub(crate) async fn reissue(
    State(app): State<App>,
    manager: Manager,
    Path((id, rotation_id)): Path<(String, String)>,
    wait: Wait,
) -> Result<Response, Problem> {
    let key = key_for(&app, &manager, &id, "keys:write").await?;
    manager.check_secret_of(&key)?;
    check(&app, &id, &rotation_id).await?;
    let peppers = peppers(&app)?;
    let issued = app
        .registry
        .reissue_secret(&manager.actor, &rotation_id, &peppers);
    let issued = issued.await.map_err(problem)?;
    let mut view = IssuedView::of(&issued.key, Some(&issued.plain), app.now());
    view.rotation_id = Some(rotation_id);
    // The one before worked until now, if anybody had it.
    view.receipt = receipts::of(&app, issued.key.epoch, wait).await;
    Ok(answer(view))
}
