//! Setting and changing the password. Every other session ends with the old one.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;

use super::guard::{self, Form};
use super::overview::{self, Notice};
use crate::browser_session;
use crate::passwords::PasswordError;
use crate::problem::Problem;
use crate::server::App;
use crate::sessions;
use crate::sign_in::{self, Attempt};

/// Below the base path.
pub(super) fn routes() -> Router<App> {
    Router::new().route("/account/sign-in/password", post(change))
}

async fn change(State(app): State<App>, form: Form) -> Response {
    match take(&app, &form).await {
        Ok(response) => response,
        Err(problem) => overview::refused(&app, &form.cookies, &form.current, problem).await,
    }
}

async fn take(app: &App, form: &Form) -> Result<Response, Problem> {
    let current = &form.current;
    let user = &current.user;
    let mut proven_at = None;
    if let Err(asked) = guard::lately(app, current).await? {
        // The old password is as good as a sign-in; it stands for one factor only.
        let old = form.params.secret("current");
        let (Some(email), Some(old), false) = (&user.email, old, asked.two_factors) else {
            return Ok(guard::prove_first(app, asked));
        };
        let attempt = sign_in::check_password(app, &form.peer, email.as_str(), &old).await?;
        if !matches!(attempt, Attempt::Proven(proven) if proven.user_id == user.id) {
            let text = "The password of now is not right. After several tries, wait a few minutes.";
            return wrong(app, form, text, StatusCode::FORBIDDEN).await;
        }
        proven_at = Some(app.now());
    }
    let Some(new) = form.params.secret("password") else {
        return wrong(app, form, "Type a new password.", StatusCode::BAD_REQUEST).await;
    };
    let hash = match app.passwords.hash(&new).await {
        Ok(hash) => hash,
        Err(error @ (PasswordError::TooShort | PasswordError::TooLong)) => {
            let text = format!("That does not work: {error}.");
            return wrong(app, form, &text, StatusCode::BAD_REQUEST).await;
        }
        Err(error) => return Err(sign_in::busy(error)),
    };
    let actor = current.actor();
    let keep = Some(current.session.id.as_str());
    let ended = app
        .registry
        .set_password_hash(&actor, &user.id, Some(&hash), keep)
        .await?;
    sessions::ended_elsewhere(app, &ended).await?;
    let (amr, acr) = (&current.session.amr, &current.session.acr);
    let (_, headers) = browser_session::renew(app, current, amr, acr, proven_at).await?;
    Ok(guard::done(app, "password", headers))
}

async fn wrong(
    app: &App,
    form: &Form,
    text: &str,
    status: StatusCode,
) -> Result<Response, Problem> {
    let notice = Some(Notice::Wrong(text));
    overview::page(app, &form.cookies, &form.current, notice, status).await
}
