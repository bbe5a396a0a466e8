//! Scopes that would have been enough for a key: proposed here, applied by its next rotation.

use axum::extract::{Path, State};
use axum::response::Response;
use keywright_domain::scopes::Scope;
use serde::Serialize;
use utoipa::ToSchema;

use super::hygiene::ProposalView;
use super::paging::Asked;
use crate::keys::change::key_for;
use crate::keys::manager::Manager;
use crate::problem::Problem;
use crate::server::App;
use crate::sessions::api::private;

/// What uses are judged by, where nothing is said.
pub(crate) const USUAL_DAYS: u32 = 90;

/// What a key may do, and what would have been enough.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScopeProposalView {
    key_id: String,
    /// The uses of so many days were looked at.
    days: u32,
    /// What the key holds.
    granted: Vec<String>,
    /// For `scope_proposal` of a rotation; null where there is no proposal.
    id: Option<String>,
    /// Null where the key holds no more than it used, where its uses named no scope, or where it is
    /// younger than that.
    proposal: Option<ProposalView>,
}

/// The scopes that would have been enough for a key. Nothing is changed: a rotation can take the rest
/// away (`narrow_scopes`, `scope_proposal`).
#[utoipa::path(
    get, path = "/api/v1/keys/{id}/scope-proposal", tag = "hygiene",
    params(("id" = String, Path, description = "The key"), ("days" = Option<u32>, Query, minimum = 1, maximum = 365, description = "1 to 365, 90 if it is left out")),
    responses((status = 200, description = "What is proposed", body = ScopeProposalView))
)]
pub(crate) async fn read(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<Response, Problem> {
    asked.known(&["days"])?;
    let days = asked.read("days", "a number")?.unwrap_or(USUAL_DAYS);
    let key = key_for(&app, &manager, &id, "keys:read").await?;
    let proposal = app.registry.propose_scopes(&id, days).await?;
    let granted = key.scopes.as_slice().iter();
    Ok(private(&ScopeProposalView {
        days,
        granted: granted.map(Scope::as_str).map(str::to_owned).collect(),
        id: proposal.as_ref().map(|one| one.id(&id, days)),
        key_id: id,
        proposal: proposal.map(ProposalView::from),
    }))
}
