//! `/sign-in/code`: the second factor, after a password or for somebody who is signed in by one.

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use maud::html;

use super::pending::Pending;
use super::{finish, passkeys, password, second_factor};
use crate::browser_session::{ACR_TWO, MaybeSignedIn, Proof, SignedIn};
use crate::http::csrf;
use crate::http::params::FormParams;
use crate::http::{Cookies, Params, Peer};
use crate::oauth2::authorize;
use crate::pages::{self, Page};
use crate::problem::Problem;
use crate::server::App;

/// Below the base path.
pub(super) fn routes() -> Router<App> {
    Router::new().route("/sign-in/code", get(show).post(submit))
}

/// The page's path, with the issuer's base path: afterwards the browser goes to `return_to`.
pub(super) fn path(app: &App, return_to: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("return_to", return_to);
    app.settings
        .path(&format!("/sign-in/code?{}", query.finish()))
}

/// Whose code is asked for.
fn whose(app: &App, cookies: &Cookies, current: Option<&SignedIn>) -> Option<Pending> {
    Pending::read(app, cookies).or_else(|| {
        let current = current?;
        Some(Pending {
            user_id: current.user.id.clone(),
            identifier: current
                .user
                .email
                .as_ref()
                .map_or_else(String::new, |email| email.as_str().to_owned()),
            at: app.now(),
        })
    })
}

async fn show(
    State(app): State<App>,
    cookies: Cookies,
    MaybeSignedIn(current): MaybeSignedIn,
    RawQuery(query): RawQuery,
) -> Response {
    let params = Params::parse(&query.unwrap_or_default()).unwrap_or_default();
    let return_to = finish::return_to(&app, params.get("return_to"));
    let current = current.as_deref();
    match whose(&app, &cookies, current) {
        Some(_) => form(&app, &cookies, current, &return_to, None),
        None => finish::go(&app.settings.path("/sign-in"), HeaderMap::new()),
    }
}

fn form(
    app: &App,
    cookies: &Cookies,
    current: Option<&SignedIn>,
    return_to: &str,
    wrong: Option<&str>,
) -> Response {
    let sid = current.map(|current| current.session.id.as_str());
    let token = csrf::token(&app.settings, &app.secrets, cookies, sid);
    let passkey = match current {
        Some(_) => passkeys::button(app, &token.token, return_to),
        None => html! {},
    };
    let content = html! {
        h1 { "Enter your code" }
        p { "Open your authenticator app and type the six digits, or use one of your recovery codes." }
        @if let Some(text) = wrong { p.notice.error role="alert" id="wrong" { (text) } }
        form method="post" action=(app.settings.path("/sign-in/code")) {
            input type="hidden" name=(csrf::FIELD) value=(token.token.expose());
            input type="hidden" name="return_to" value=(return_to);
            label for="code" { "Code" }
            input.code-input #code type="text" name="code" inputmode="text" autocomplete="one-time-code"
                maxlength="20" required autofocus aria-invalid=[wrong.map(|_| "true")]
                aria-describedby=[wrong.map(|_| "wrong")];
            div.actions {
                button.primary type="submit" { "Go on" }
                a.button href=(app.settings.path("/sign-in?again=1")) { "Start again" }
            }
        }
        (passkey)
    };
    let mut page = Page::new("Enter your code", content)
        .with_script(passkeys::SCRIPT)
        .with_headers(super::page::set_cookie(&token));
    if let Some(scheme) = authorize::form_target(app, return_to) {
        page = page.with_form_target(&scheme);
    }
    if wrong.is_some() {
        page = page.with_status(StatusCode::UNAUTHORIZED);
    }
    page.into_response(&app.settings)
}

async fn submit(
    State(app): State<App>,
    peer: Peer,
    cookies: Cookies,
    MaybeSignedIn(current): MaybeSignedIn,
    headers: HeaderMap,
    FormParams(params): FormParams,
) -> Response {
    take(&app, &peer, &cookies, current.as_deref(), &headers, &params)
        .await
        .unwrap_or_else(|problem| pages::problem_page(&app.settings, &problem))
}

async fn take(
    app: &App,
    peer: &Peer,
    cookies: &Cookies,
    current: Option<&SignedIn>,
    headers: &HeaderMap,
    params: &Params,
) -> Result<Response, Problem> {
    let sid = current.map(|current| current.session.id.as_str());
    let field = params.get(csrf::FIELD);
    csrf::check(&app.settings, &app.secrets, headers, cookies, sid, field)?;
    let return_to = finish::return_to(app, params.get("return_to"));
    let Some(pending) = whose(app, cookies, current) else {
        return Ok(finish::go(&app.settings.path("/sign-in"), HeaderMap::new()));
    };
    let user = app.registry.find_user(&pending.user_id).await?;
    // Disabled since, or the password that was proven is another one now: from the beginning.
    let changed = user.password_changed_at.is_some_and(|at| at > pending.at);
    if user.disabled_at.is_some() || changed {
        let mut headers = HeaderMap::new();
        Pending::clear(app, &mut headers);
        return Ok(finish::go(&app.settings.path("/sign-in"), headers));
    }
    let given = params.get("code").unwrap_or("");
    if !second_factor::accept(app, &pending.user_id, given).await? {
        let (whose, typed) = (Some(pending.user_id.clone()), &pending.identifier);
        password::record_failure(app, peer, whose, typed, "code", "code_invalid").await?;
        let text =
            "That code is not right, or was used before. Wait for the next one and try again.";
        return Ok(form(app, cookies, current, &return_to, Some(text)));
    }
    // After a password; otherwise on top of what began the session.
    let first = match (Pending::read(app, cookies), current) {
        (None, Some(current)) => current.session.amr.as_str(),
        _ => "pwd",
    };
    let proof = Proof {
        amr: &second_factor::added_to(first),
        acr: ACR_TWO,
        method: "password",
        identifier: &pending.identifier,
        proven_at: Some(app.now()),
    };
    let headers = finish::session(app, cookies, peer, current, &pending.user_id, &proof).await?;
    Ok(finish::after_a_form(app, &return_to, headers))
}
