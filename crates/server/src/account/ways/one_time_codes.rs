//! One-time codes: set up, confirmed by a first code, turned off; and the recovery codes, shown once.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywright_domain::SecretText;
use keywright_domain::people::{Email, PeopleError};
use keywright_registry::RegistryError;
use maud::html;
use qrcode::QrCode;
use qrcode::render::svg;

use super::guard::{self, Form};
use super::{PAGE, overview};
use crate::browser_session::{self, ACR_TWO, MaybeSignedIn, SignedIn};
use crate::http::Cookies;
use crate::http::csrf;
use crate::pages::{self, Page};
use crate::problem::{Problem, store_unavailable};
use crate::server::App;
use crate::sign_in::{self, recovery, second_factor, totp};

const SET_UP: &str = "/account/sign-in/codes";

/// Below the base path.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route(SET_UP, get(show).post(begin))
        .route("/account/sign-in/codes/confirm", post(confirm))
        .route("/account/sign-in/codes/remove", post(remove))
        .route("/account/sign-in/recovery-codes", post(new_recovery_codes))
}

/// A new secret, which counts from its first code on.
async fn begin(State(app): State<App>, form: Form) -> Response {
    let user_id = &form.current.user.id;
    let begun = async {
        if let Err(asked) = guard::lately(&app, &form.current).await? {
            return Ok(guard::prove_first(&app, asked));
        }
        if second_factor::is_set_up(&app, user_id).await? {
            let detail = "one-time codes are on already: turn them off first";
            return Err(Problem::new(StatusCode::CONFLICT, "codes_are_on", detail));
        }
        let secret = totp::new_secret();
        let sealed = app.secrets.seal(&second_factor::purpose(user_id), &secret);
        let actor = form.current.actor();
        app.registry.set_totp(&actor, user_id, &sealed).await?;
        Ok(sign_in::go(&app.settings.path(SET_UP), HeaderMap::new()))
    };
    match begun.await {
        Ok(response) => response,
        Err(problem) => overview::refused(&app, &form.cookies, &form.current, problem).await,
    }
}

async fn show(
    State(app): State<App>,
    cookies: Cookies,
    MaybeSignedIn(current): MaybeSignedIn,
) -> Response {
    let Some(current) = current else {
        return guard::to_sign_in(&app);
    };
    set_up(&app, &cookies, &current, None)
        .await
        .unwrap_or_else(|problem| pages::problem_page(&app.settings, &problem))
}

/// The secret as a picture and as text, and a field for the first code.
async fn set_up(
    app: &App,
    cookies: &Cookies,
    current: &SignedIn,
    wrong: Option<&str>,
) -> Result<Response, Problem> {
    let user = &current.user;
    if let Err(asked) = guard::lately(app, current).await? {
        return Ok(guard::prove_first(app, asked));
    }
    let found = match app.registry.find_totp(&user.id).await {
        // A secret that is in use is never shown again.
        Ok(found) if found.confirmed_at.is_none() => found,
        Ok(_) | Err(RegistryError::People(PeopleError::TotpNotFound)) => {
            return Ok(sign_in::go(&app.settings.path(PAGE), HeaderMap::new()));
        }
        Err(error) => return Err(error.into()),
    };
    let secret = app
        .secrets
        .unseal(&second_factor::purpose(&user.id), &found.sealed)
        .map_err(|_| store_unavailable())?;
    let person = user
        .email
        .as_ref()
        .map_or(user.name.as_str(), Email::as_str);
    let address = totp::address(&app.settings.site_name, person, &secret);
    let picture = picture(&address).ok_or_else(store_unavailable)?;
    let spaced = in_groups(&totp::base32(&secret));
    let token = csrf::token(
        &app.settings,
        &app.secrets,
        cookies,
        Some(&current.session.id),
    );
    let content = html! {
        h1 { "Set up one-time codes" }
        p { "Scan this with your authenticator app, or type the key into it." }
        p { img.qr src=(picture) width="220" height="220" alt="QR code with the key that is written below"; }
        p.mono { (spaced) }
        @if let Some(text) = wrong { p.notice.error role="alert" #wrong { (text) } }
        form method="post" action=(app.settings.path("/account/sign-in/codes/confirm")) {
            input type="hidden" name=(csrf::FIELD) value=(token.token.expose());
            label for="code" { "Code that the app shows now" }
            input.code-input #code type="text" name="code" inputmode="numeric" autocomplete="one-time-code"
                maxlength="12" required aria-invalid=[wrong.map(|_| "true")]
                aria-describedby=[wrong.map(|_| "wrong")];
            div.actions {
                button.primary type="submit" { "Turn on" }
                a.button href=(app.settings.path(PAGE)) { "Not now" }
            }
        }
    };
    let mut headers = HeaderMap::new();
    if let Some(cookie) = token.set_cookie {
        headers.append(header::SET_COOKIE, cookie);
    }
    let status = if wrong.is_some() {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::OK
    };
    Ok(Page::new("Set up one-time codes", content)
        .with_status(status)
        .with_headers(headers)
        .into_response(&app.settings))
}

/// As a `data:` address: our pages load pictures from nowhere else.
fn picture(address: &SecretText) -> Option<String> {
    let code = QrCode::new(address.expose()).ok()?;
    let picture = code
        .render::<svg::Color<'_>>()
        .min_dimensions(220, 220)
        .build();
    Some(format!(
        "data:image/svg+xml;base64,{}",
        STANDARD.encode(picture)
    ))
}

fn in_groups(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let groups: Vec<String> = letters
        .chunks(4)
        .map(|four| four.iter().collect())
        .collect();
    groups.join(" ")
}

async fn confirm(State(app): State<App>, form: Form) -> Response {
    let user_id = &form.current.user.id;
    let confirmed = async {
        if let Err(asked) = guard::lately(&app, &form.current).await? {
            return Ok(guard::prove_first(&app, asked));
        }
        if second_factor::is_set_up(&app, user_id).await? {
            return Ok(sign_in::go(&app.settings.path(PAGE), HeaderMap::new()));
        }
        let given = form.params.get("code").unwrap_or("");
        let actor = form.current.actor();
        let Some(codes) = second_factor::confirm(&app, &actor, user_id, given).await? else {
            let text =
                "That code is not right. Look at the app and type the six digits it shows now.";
            return set_up(&app, &form.cookies, &form.current, Some(text)).await;
        };
        let amr = second_factor::added_to(&form.current.session.amr);
        let (_, headers) = browser_session::renew(&app, &form.current, &amr, ACR_TWO, None).await?;
        Ok(show_recovery_codes(&app, &codes, headers))
    };
    match confirmed.await {
        Ok(response) => response,
        Err(problem) => overview::refused(&app, &form.cookies, &form.current, problem).await,
    }
}

async fn new_recovery_codes(State(app): State<App>, form: Form) -> Response {
    let user_id = &form.current.user.id;
    let given = async {
        if let Err(asked) = guard::lately(&app, &form.current).await? {
            return Ok(guard::prove_first(&app, asked));
        }
        if !second_factor::is_set_up(&app, user_id).await? {
            let detail = "recovery codes stand in for one-time codes, and those are off";
            return Err(Problem::new(StatusCode::CONFLICT, "codes_are_off", detail));
        }
        let codes = recovery::give(&app, &form.current.actor(), user_id).await?;
        Ok(show_recovery_codes(&app, &codes, HeaderMap::new()))
    };
    match given.await {
        Ok(response) => response,
        Err(problem) => overview::refused(&app, &form.cookies, &form.current, problem).await,
    }
}

/// The answer itself, and no address to come back to: they are shown this once.
fn show_recovery_codes(app: &App, codes: &[SecretText], headers: HeaderMap) -> Response {
    let content = html! {
        h1 { "Your recovery codes" }
        p { "Each of them signs you in once when your authenticator app is gone. Write them down or print them: they are not shown again, and older ones no longer work." }
        ul.codes { @for code in codes { li.mono { (recovery::shown(code)) } } }
        div.actions { a.button.primary href=(app.settings.path(PAGE)) { "I have kept them" } }
    };
    Page::new("Your recovery codes", content)
        .with_headers(headers)
        .into_response(&app.settings)
}

async fn remove(State(app): State<App>, form: Form) -> Response {
    let user_id = &form.current.user.id;
    let removed = async {
        if let Err(asked) = guard::lately(&app, &form.current).await? {
            return Ok(guard::prove_first(&app, asked));
        }
        let actor = form.current.actor();
        app.registry.remove_totp(&actor, user_id).await?;
        Ok::<_, Problem>(guard::done(&app, "codes-off", HeaderMap::new()))
    };
    match removed.await {
        Ok(response) => response,
        Err(problem) => overview::refused(&app, &form.cookies, &form.current, problem).await,
    }
}
