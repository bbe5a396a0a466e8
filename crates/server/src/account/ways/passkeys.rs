//! Passkeys of a person: added by the script, renamed and removed by forms.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::guard::{self, Form};
use super::{PAGE, overview};
use crate::browser_session::{MaybeSignedIn, SignedIn};
use crate::http::{Cookies, csrf};
use crate::problem::Problem;
use crate::server::App;
use crate::sign_in::passkeys::registration::{self, Made};

/// Below the base path.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/account/sign-in/passkeys/options", post(options))
        .route("/account/sign-in/passkeys", post(add))
        .route("/account/sign-in/passkeys/rename", post(rename))
        .route("/account/sign-in/passkeys/remove", post(remove))
}

/// The person behind a request of the script, proven lately.
async fn person(
    app: &App,
    headers: &HeaderMap,
    cookies: &Cookies,
    current: Option<Box<SignedIn>>,
) -> Result<Box<SignedIn>, Problem> {
    let current =
        current.ok_or_else(|| Problem::unauthorized("credentials_missing", "sign in first"))?;
    let sid = Some(current.session.id.as_str());
    csrf::check(&app.settings, &app.secrets, headers, cookies, sid, None)?;
    match guard::lately(app, &current).await? {
        Ok(()) => Ok(current),
        Err(_) => Err(guard::prove_first_problem()),
    }
}

async fn options(
    State(app): State<App>,
    cookies: Cookies,
    MaybeSignedIn(current): MaybeSignedIn,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let current = person(&app, &headers, &cookies, current).await?;
    let options = registration::options(&app, &cookies, &current).await?;
    Ok(Json(options).into_response())
}

async fn add(
    State(app): State<App>,
    cookies: Cookies,
    MaybeSignedIn(current): MaybeSignedIn,
    headers: HeaderMap,
    body: Result<Json<Made>, JsonRejection>,
) -> Result<Response, Problem> {
    let current = person(&app, &headers, &cookies, current).await?;
    let Json(made) = body.map_err(|rejection| {
        Problem::new(
            rejection.status(),
            "body_invalid",
            "the answer is malformed",
        )
    })?;
    registration::add(&app, &cookies, &current, &made).await?;
    let to = app.settings.path(&format!("{PAGE}?done=passkey"));
    Ok(Json(json!({"location": to})).into_response())
}

fn id(form: &Form) -> Vec<u8> {
    let text = form.params.get("id").unwrap_or("");
    URL_SAFE_NO_PAD.decode(text).unwrap_or_default()
}

async fn rename(State(app): State<App>, form: Form) -> Response {
    let user_id = &form.current.user.id;
    let name = form.params.get("name").unwrap_or("");
    let actor = form.current.actor();
    let renamed = app
        .registry
        .rename_passkey(&actor, user_id, &id(&form), name)
        .await;
    match renamed {
        Ok(()) => guard::done(&app, "passkey-renamed", HeaderMap::new()),
        Err(error) => overview::refused(&app, &form.cookies, &form.current, error.into()).await,
    }
}

async fn remove(State(app): State<App>, form: Form) -> Response {
    let user_id = &form.current.user.id;
    let removed = async {
        if let Err(asked) = guard::lately(&app, &form.current).await? {
            return Ok(guard::prove_first(&app, asked));
        }
        let actor = form.current.actor();
        app.registry
            .remove_passkey(&actor, user_id, &id(&form))
            .await?;
        Ok::<_, Problem>(guard::done(&app, "passkey-removed", HeaderMap::new()))
    };
    match removed.await {
        Ok(response) => response,
        Err(problem) => overview::refused(&app, &form.cookies, &form.current, problem).await,
    }
}
