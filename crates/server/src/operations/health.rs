//! `/healthz`: the process runs. `/readyz`: it can do its work, and is not about to end.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;

use crate::nodes::clocks::{self, Skew};
use crate::server::App;
use crate::signing::Alg;

/// A probe waits no longer than this for the database.
const WITHIN: Duration = Duration::from_secs(2);

/// Says that the process runs. A database that is away is no reason to restart it.
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// Says whether requests should be sent here.
pub(super) async fn ready(State(app): State<App>) -> (StatusCode, &'static str) {
    let wait = |why| (StatusCode::SERVICE_UNAVAILABLE, why);
    if app.operations.is_draining() {
        return wait("draining\n");
    }
    let keys = app.keys.current();
    if Alg::ALL.into_iter().any(|alg| keys.signer(alg).is_none()) {
        return wait("a signing key is missing\n");
    }
    if !database_answers(&app).await {
        return wait("the database does not answer\n");
    }
    if clocks::judge(app.registry.node_statistics().clock_skew_ms) == Skew::Refuse {
        return wait("this machine's clock differs from the database's\n");
    }
    (StatusCode::OK, "ready\n")
}

/// Whether the database answers.
pub(super) async fn database_answers(app: &App) -> bool {
    matches!(
        tokio::time::timeout(WITHIN, app.registry.schema_version()).await,
        Ok(Ok(_))
    )
}
