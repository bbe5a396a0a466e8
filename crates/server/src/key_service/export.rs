//! `/api/v1/export`: what the registry holds of keys and principals, without any secret.

use axum::extract::State;
use axum::response::Response;

use super::audit::ndjson;
use super::stream::pipe;
use crate::keys::manager::Manager;
use crate::problem::Problem;
use crate::server::App;

/// The registry as NDJSON: a header, scopes, policies, principals, keys, and a last line that counts
/// them. No value of a secret is read for it. Needs `keys:read` and `users:read`.
#[utoipa::path(
    get, path = "/api/v1/export", tag = "import and export",
    responses((status = 200, description = "One JSON object a line; a file without its last line `end` broke off", body = String, content_type = "application/x-ndjson"))
)]
pub(crate) async fn export(State(app): State<App>, manager: Manager) -> Result<Response, Problem> {
    manager.require("keys:read")?;
    manager.require("users:read")?;
    let (body, mut writer) = pipe();
    tokio::spawn(async move {
        let exported = app.registry.export_registry(&manager.actor, &mut writer.to);
        match exported.await {
            Ok(_) => writer.finish(),
            Err(error) => tracing::warn!(code = error.code(), "an export broke off"),
        }
    });
    Ok(ndjson(body, "keywright-registry.ndjson"))
}
