//! Linked accounts elsewhere: unlinked here; `rp` links them.

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;

use super::guard::{self, Form};
use super::overview;
use crate::problem::Problem;
use crate::server::App;

/// Below the base path.
pub(super) fn routes() -> Router<App> {
    Router::new().route("/account/sign-in/identities/unlink", post(unlink))
}

async fn unlink(State(app): State<App>, form: Form) -> Response {
    let user_id = &form.current.user.id;
    let unlinked = async {
        if let Err(asked) = guard::lately(&app, &form.current).await? {
            return Ok(guard::prove_first(&app, asked));
        }
        let id = form.params.get("id").unwrap_or("");
        let actor = form.current.actor();
        app.registry.unlink_identity(&actor, user_id, id).await?;
        Ok::<_, Problem>(guard::done(&app, "unlinked", HeaderMap::new()))
    };
    match unlinked.await {
        Ok(response) => response,
        Err(problem) => overview::refused(&app, &form.cookies, &form.current, problem).await,
    }
}
