//! What became of a new secret on its way, and making one anew whose answer was lost.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use keywright_domain::api_keys::RotationState;
use keywright_domain::api_keys::format::ROOT_PREFIX;
use keywright_registry::{AfterFailure, Conditions, Delivery, DeliveryOutcome};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::paging::{Asked, LARGEST_PAGE};
use crate::keys::change::key_for;
use crate::keys::issue::body;
use crate::keys::manager::{Manager, peppers};
use crate::keys::views::{ClientSecretBody, IssuedView, RotationView, problem};
use crate::nodes::receipts::{self, ReceiptView, Wait};
use crate::once::{Done, Once, done, gone, replayed};
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

/// How a pending secret is made anew. The body may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ReissueBody {
    /// A secret that the caller made; we make one otherwise.
    client_secret: Option<ClientSecretBody>,
}

impl FromRequest<App> for ReissueBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        if !request.headers().contains_key(header::CONTENT_TYPE) {
            return Ok(Self::default());
        }
        body(Json::from_request(request, app).await)
    }
}

/// One attempt to deliver a new secret. Times are Unix ms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RotationDeliveryView {
    id: String,
    rotation_id: String,
    kid: String,
    target: String,
    delivered: bool,
    error: Option<String>,
    at: i64,
}

impl From<Delivery> for RotationDeliveryView {
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

/// A page of the deliveries of a rotation, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RotationDeliveryList {
    items: Vec<RotationDeliveryView>,
    /// Pass it back as `cursor` for the next page; absent on the last.
    next_cursor: Option<String>,
}

/// A delivery that was written down, and the rotation as it stands now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveredView {
    delivery: RotationDeliveryView,
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
    app.registry.find_rotation(key_id, rotation_id).await?;
    Ok(())
}

/// The deliveries of a rotation, oldest first.
#[utoipa::path(
    get, path = "/api/v1/keys/{id}/rotations/{rotation_id}/deliveries", tag = "keys",
    params(("id" = String, Path, description = "The key"), ("rotation_id" = String, Path, description = "One of its rotations"), ("cursor" = Option<String>, Query, description = "next_cursor of the page before"), ("limit" = Option<u32>, Query, description = "1 to 100; 100 if it is left out")),
    responses((status = 200, description = "A page", body = RotationDeliveryList))
)]
pub(crate) async fn list(
    State(app): State<App>,
    manager: Manager,
    Path((id, rotation_id)): Path<(String, String)>,
    asked: Asked,
) -> Result<Response, Problem> {
    key_for(&app, &manager, &id, "keys:read").await?;
    check(&app, &id, &rotation_id).await?;
    asked.known(&["cursor", "limit"])?;
    let limit = asked.limit_or(LARGEST_PAGE)?;
    let cursor = asked.text("cursor");
    let page = app
        .registry
        .list_deliveries(&rotation_id, cursor, limit)
        .await?;
    Ok(answer(RotationDeliveryList {
        items: page
            .items
            .into_iter()
            .map(RotationDeliveryView::from)
            .collect(),
        next_cursor: page.next_cursor,
    }))
}

/// Says what became of a new secret: it arrived and was read back, or it did not. A failure never
/// costs the old secret its life, and raises an alert.
#[utoipa::path(
    post, path = "/api/v1/keys/{id}/rotations/{rotation_id}/deliveries", tag = "keys", request_body = DeliveryBody,
    params(("id" = String, Path, description = "The key"), ("rotation_id" = String, Path, description = "One of its rotations"), ("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is not done again")),
    responses((status = 200, description = "Written down", body = DeliveredView))
)]
pub(crate) async fn report(
    State(app): State<App>,
    manager: Manager,
    Path((id, rotation_id)): Path<(String, String)>,
    wait: Wait,
    once: Once<Result<Json<DeliveryBody>, JsonRejection>>,
) -> Result<Response, Problem> {
    let told = body(once.body)?;
    let key = key_for(&app, &manager, &id, "keys:write").await?;
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
    let registry = once.name.registry(&app, &manager.actor);
    let held = Some(manager.held(key.prefix.as_str() == ROOT_PREFIX));
    let (actor, target) = (&manager.actor, &told.target);
    let recorded = registry.record_delivery_by(actor, &rotation_id, target, &outcome, held);
    let ((delivery, rotation), is_new) = match done(recorded.await).map_err(problem)? {
        Done::Now(now) => (now, true),
        Done::Before(id) => (app.registry.find_delivery(&id).await.map_err(gone)?, false),
    };
    let receipt = if rotation.state == RotationState::Cancelled && then == AfterFailure::Cancel {
        let (key, _) = app.registry.find_api_key(&id).await?;
        receipts::of(&app, key.epoch, wait).await
    } else {
        None
    };
    let response = answer(DeliveredView {
        receipt,
        delivery: delivery.into(),
        rotation: rotation.into(),
    });
    Ok(if is_new { response } else { replayed(response) })
}

/// Makes the pending secret of a rotation anew: when the answer that held it was lost, and when a
/// schedule made it. The one before is cancelled; the rotation stays the same one. With a
/// `client_secret`, the caller's own takes its place and none is shown.
#[utoipa::path(
    post, path = "/api/v1/keys/{id}/rotations/{rotation_id}/reissue", tag = "keys", request_body = ReissueBody,
    params(("id" = String, Path, description = "The key"), ("rotation_id" = String, Path, description = "Its rotation"), ("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is not done again"),
        ("wait_ms" = Option<u64>, Query, maximum = 1000, description = "How long to wait for the other nodes; as long as it takes, 900 at most, if it is left out")),
    responses((status = 200, description = "The new secret, this once", body = IssuedView), (status = 400, description = "`invalid_client_secret`"), (status = 409, description = "The secret was used already"))
)]
pub(crate) async fn reissue(
    State(app): State<App>,
    manager: Manager,
    Path((id, rotation_id)): Path<(String, String)>,
    wait: Wait,
    Once { name, body }: Once<ReissueBody>,
) -> Result<Response, Problem> {
    let key = key_for(&app, &manager, &id, "keys:write").await?;
    check(&app, &id, &rotation_id).await?;
    let client = body.client_secret.as_ref().map(ClientSecretBody::read);
    let client = client.transpose()?;
    let peppers = peppers(&app)?;
    let (actor, conditions) = (&manager.actor, Conditions::default());
    let registry = name.registry_under(&app, actor, manager.secret_of(&key, conditions));
    let made = match &client {
        Some(secret) => registry
            .reissue_secret_to(actor, &rotation_id, secret, &peppers)
            .await
            .map(|key| (key, None)),
        None => registry
            .reissue_secret(actor, &rotation_id, &peppers)
            .await
            .map(|issued| (issued.key, Some(issued.plain))),
    };
    let (key, plain, is_new) = match done(made).map_err(problem)? {
        Done::Now((key, plain)) => (key, plain, true),
        Done::Before(_) => (app.registry.find_api_key(&id).await?.0, None, false),
    };
    let mut view = IssuedView::of(&key, plain.as_ref(), app.now());
    view.rotation_id = Some(rotation_id);
    // The one before worked until now, if anybody had it.
    if is_new {
        view.receipt = receipts::of(&app, key.epoch, wait).await;
    }
    view.secret_was_shown = !is_new && client.is_none();
    let response = answer(view);
    Ok(if is_new { response } else { replayed(response) })
}
