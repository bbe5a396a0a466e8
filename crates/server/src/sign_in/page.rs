//! `/sign-in`: e-mail and password, providers, passkeys. Works without JavaScript.

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use keywright_domain::SecretText;
use keywright_domain::people::Email;
use maud::{Markup, html};

use super::password::{self, Attempt};
use super::pending::Pending;
use super::{finish, passkeys, second_factor};
use crate::browser_session::{ACR_ONE, ACR_TWO, MaybeSignedIn, Proof, SignedIn};
use crate::http::csrf::{self, Csrf};
use crate::http::params::FormParams;
use crate::http::{Cookies, Params, Peer};
use crate::oauth2::authorize;
use crate::pages::{self, Page};
use crate::problem::Problem;
use crate::rp;
use crate::server::App;

/// Below the base path.
pub(super) fn routes() -> Router<App> {
    Router::new().route("/sign-in", get(show).post(submit))
}

/// What the page was asked for, from its address or its form.
#[derive(Clone, Debug)]
struct Wish {
    return_to: String,
    email: String,
    again: bool,
    two_factors: bool,
}

impl Wish {
    fn read(app: &App, params: &Params) -> Self {
        let email = params.get("email").or_else(|| params.get("login_hint"));
        Self {
            return_to: finish::return_to(app, params.get("return_to")),
            email: email.unwrap_or("").chars().take(254).collect(),
            again: params.get("again").is_some(),
            two_factors: params.get("acr") == Some(ACR_TWO),
        }
    }
}

async fn show(
    State(app): State<App>,
    cookies: Cookies,
    MaybeSignedIn(current): MaybeSignedIn,
    RawQuery(query): RawQuery,
) -> Response {
    let answer = match Params::parse(&query.unwrap_or_default()) {
        Ok(params) => answer(&app, &cookies, current.as_deref(), &params).await,
        Err(repeated) => Err(Problem::bad_request(
            "parameter_repeated",
            repeated.to_string(),
        )),
    };
    answer.unwrap_or_else(|problem| pages::problem_page(&app.settings, &problem))
}

async fn answer(
    app: &App,
    cookies: &Cookies,
    current: Option<&SignedIn>,
    params: &Params,
) -> Result<Response, Problem> {
    let mut wish = Wish::read(app, params);
    if let Some(current) = current {
        if wish.again {
            if wish.email.is_empty() {
                wish.email = email_of(current);
            }
        } else if wish.two_factors && current.session.acr != ACR_TWO {
            return step_up(app, cookies, current, &wish).await;
        } else {
            return Ok(finish::go(&wish.return_to, HeaderMap::new()));
        }
    }
    form(app, cookies, current, &wish, None).await
}

fn email_of(current: &SignedIn) -> String {
    let email = current.user.email.as_ref();
    email.map_or_else(String::new, |email| Email::as_str(email).to_owned())
}

/// The page, with what was wrong the last time.
async fn form(
    app: &App,
    cookies: &Cookies,
    current: Option<&SignedIn>,
    wish: &Wish,
    wrong: Option<&str>,
) -> Result<Response, Problem> {
    let sid = current.map(|current| current.session.id.as_str());
    let token = csrf::token(&app.settings, &app.secrets, cookies, sid);
    let providers = rp::buttons(app, &wish.return_to, wish.again).await?;
    let passkey = passkeys::button(app, &token.token, &wish.return_to);
    let others = !providers.0.is_empty() || !passkey.0.is_empty();
    let content = html! {
        h1 { @if current.is_some() { "Prove that it is you" } @else { "Sign in" } }
        @if current.is_some() { p { "Sign in once more to go on." } }
        @if let Some(text) = wrong { p.notice.error role="alert" id="wrong" { (text) } }
        form method="post" action=(app.settings.path("/sign-in")) {
            (hidden(&token, wish))
            label for="email" { "E-mail address" }
            input #email type="email" name="email" value=(wish.email) autocomplete="username"
                maxlength="254" required aria-invalid=[wrong.map(|_| "true")]
                aria-describedby=[wrong.map(|_| "wrong")] autofocus[wish.email.is_empty()];
            label for="password" { "Password" }
            input #password type="password" name="password" autocomplete="current-password"
                maxlength="512" required aria-invalid=[wrong.map(|_| "true")]
                aria-describedby=[wrong.map(|_| "wrong")] autofocus[!wish.email.is_empty()];
            div.actions { button.primary type="submit" { "Sign in" } }
        }
        @if others { div.or { "or" } }
        (passkey)
        (providers)
    };
    let mut page = Page::new("Sign in", content)
        .with_script(passkeys::SCRIPT)
        .with_headers(set_cookie(&token));
    if let Some(scheme) = authorize::form_target(app, &wish.return_to) {
        page = page.with_form_target(&scheme);
    }
    if wrong.is_some() {
        page = page.with_status(StatusCode::UNAUTHORIZED);
    }
    Ok(page.into_response(&app.settings))
}

fn hidden(token: &Csrf, wish: &Wish) -> Markup {
    html! {
        input type="hidden" name=(csrf::FIELD) value=(token.token.expose());
        input type="hidden" name="return_to" value=(wish.return_to);
        @if wish.again { input type="hidden" name="again" value="1"; }
        @if wish.two_factors { input type="hidden" name="acr" value=(ACR_TWO); }
    }
}

pub(super) fn set_cookie(token: &Csrf) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(cookie) = &token.set_cookie {
        headers.append(header::SET_COOKIE, cookie.clone());
    }
    headers
}

/// Somebody is signed in by one factor, and two are asked for.
async fn step_up(
    app: &App,
    cookies: &Cookies,
    current: &SignedIn,
    wish: &Wish,
) -> Result<Response, Problem> {
    if second_factor::is_set_up(app, &current.user.id).await? {
        // Theirs is asked for, not that of another account whose password was typed here a while ago.
        let mut headers = HeaderMap::new();
        Pending::clear(app, &mut headers);
        let to = super::code::path(app, &wish.return_to);
        return Ok(finish::go(&to, headers));
    }
    let passkeys = app.registry.list_passkeys(&current.user.id).await?;
    let sid = Some(current.session.id.as_str());
    let token = csrf::token(&app.settings, &app.secrets, cookies, sid);
    let content = html! {
        h1 { "A second factor is needed" }
        @if passkeys.is_empty() {
            p { "What you are about to do needs more than a password. Set up one-time codes or a passkey first, then come back." }
        } @else {
            p { "What you are about to do needs more than a password. Use your passkey." }
            (passkeys::button(app, &token.token, &wish.return_to))
        }
        div.actions {
            a.button href=(app.settings.path("/account/sign-in")) { "Ways to sign in" }
        }
    };
    Ok(Page::new("A second factor is needed", content)
        .with_script(passkeys::SCRIPT)
        .with_headers(set_cookie(&token))
        .into_response(&app.settings))
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
    let wish = Wish::read(app, params);
    let password = params
        .secret("password")
        .unwrap_or_else(|| SecretText::new(String::new()));
    let attempt = password::check(app, peer, &wish.email, &password).await?;
    let Attempt::Proven(proven) = attempt else {
        let text = "That e-mail address and password do not match. After several tries, wait a few minutes.";
        return form(app, cookies, current, &wish, Some(text)).await;
    };
    if proven.needs_code {
        let pending = Pending {
            user_id: proven.user_id,
            identifier: proven.identifier,
            at: app.now(),
        };
        let mut headers = HeaderMap::new();
        headers.append(header::SET_COOKIE, pending.cookie(app));
        let to = super::code::path(app, &wish.return_to);
        return Ok(finish::go(&to, headers));
    }
    let proof = Proof {
        amr: "pwd",
        acr: ACR_ONE,
        method: "password",
        identifier: &proven.identifier,
        proven_at: Some(app.now()),
    };
    let headers = finish::session(app, cookies, peer, current, &proven.user_id, &proof).await?;
    Ok(finish::after_a_form(app, &wish.return_to, headers))
}
