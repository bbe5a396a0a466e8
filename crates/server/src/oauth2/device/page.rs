//! `/device`: the person types the code that their device shows, sees which program on which device
//! asks for what, and says yes or no. The code is shown and confirmed, also where it came in a link:
//! whoever sent the link may want the person's access for a device of their own (RFC 8628 §5.4).

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use keywright_domain::people::{Email, PeopleError, UserCode};
use keywright_registry::RegistryError;
use keywright_registry::people::DeviceRequest;
use maud::{Markup, html};

use crate::browser_session::{self, Found, SignedIn};
use crate::http::params::FormParams;
use crate::http::{Cookies, Params, Peer, csrf};
use crate::oauth2::authorize::redirect::see_other;
use crate::oauth2::consent;
use crate::pages::{self, Page};
use crate::problem::Problem;
use crate::server::App;
use crate::sign_in::{self, Asked};

/// Wrong codes of one person, wherever they are.
const EVERYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// `GET /device`.
pub(super) async fn show(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    peer: Peer,
    cookies: Cookies,
) -> Response {
    let query = query.unwrap_or_default();
    look(&app, &query, &peer, &cookies)
        .await
        .unwrap_or_else(|problem| pages::problem_page(&app.settings, &problem))
}

async fn look(app: &App, query: &str, peer: &Peer, cookies: &Cookies) -> Result<Response, Problem> {
    let params = read(query)?;
    let Some(typed) = params.get("user_code") else {
        return Ok(entry(app, None));
    };
    let Some(code) = UserCode::parse(typed) else {
        return Ok(entry(app, Some(typed)));
    };
    // Guesses cost an account: nobody looks a code up without being signed in.
    let Found::SignedIn(signed_in) = browser_session::find(app, cookies, peer).await? else {
        return Ok(to_sign_in(app, &code, Asked::default()));
    };
    match find(app, peer, &signed_in, &code).await? {
        Some(request) => confirm(app, cookies, &signed_in, &request).await,
        None => Ok(entry(app, Some(typed))),
    }
}

fn to_sign_in(app: &App, code: &UserCode, asked: Asked<'_>) -> Response {
    see_other(&sign_in::path(app, &return_to(app, code), asked))
}

fn return_to(app: &App, code: &UserCode) -> String {
    app.settings.path(&format!("/device?user_code={code}"))
}

/// The request of a code; wrong ones are counted by source and by person (S54). Each is counted before it is
/// looked up, so that many at once are no more than one after the other, and taken back if it was right.
async fn find(
    app: &App,
    peer: &Peer,
    signed_in: &SignedIn,
    code: &UserCode,
) -> Result<Option<DeviceRequest>, Problem> {
    let guesses = &app.oauth2.extensions.guesses;
    guesses.check(app, peer.address, "device").await?;
    let person = signed_in.user.id.as_str();
    guesses.check(app, EVERYWHERE, person).await?;
    let by_source = guesses.count_attempt(app, peer.address, "device").await?;
    let by_person = match guesses.count_attempt(app, EVERYWHERE, person).await {
        Ok(at) => at,
        Err(waits) => {
            // Nothing was looked up.
            guesses
                .take_back(app, peer.address, "device", by_source)
                .await;
            return Err(waits.into());
        }
    };
    let found = match app.registry.find_device(code).await {
        Ok(request) => Ok(Some(request)),
        Err(RegistryError::People(PeopleError::UserCode)) => return Ok(None),
        Err(error) => Err(error.into()),
    };
    guesses
        .take_back(app, peer.address, "device", by_source)
        .await;
    guesses.take_back(app, EVERYWHERE, person, by_person).await;
    found
}

/// The form. `wrong`: what was typed, where that is no code that waits.
fn entry(app: &App, wrong: Option<&str>) -> Response {
    let typed: String = wrong.unwrap_or("").chars().take(40).collect();
    let content = html! {
        h1 { "Connect a device" }
        @if wrong.is_some() {
            p.notice.error id="wrong" role="alert" {
                "This code is wrong or too old. Look at your device again, or start there anew."
            }
        }
        p { "Type the code that your device shows." }
        form method="get" action=(app.settings.path("/device")) {
            label for="user_code" { "Code" }
            input.code-input id="user_code" name="user_code" type="text" required autofocus
                maxlength="20" autocomplete="off" autocapitalize="characters" spellcheck="false"
                value=(typed) aria-invalid=[wrong.map(|_| "true")]
                aria-describedby=[wrong.map(|_| "wrong")];
            p.hint { "Eight letters, such as BCDF-GHJK." }
            div.actions { button.primary type="submit" { "Continue" } }
        }
    };
    let status = if wrong.is_some() {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::OK
    };
    Page::new("Connect a device", content)
        .with_status(status)
        .into_response(&app.settings)
}

async fn confirm(
    app: &App,
    cookies: &Cookies,
    signed_in: &SignedIn,
    request: &DeviceRequest,
) -> Result<Response, Problem> {
    let client = app.registry.find_client(&request.client_id).await?;
    let session = Some(signed_in.session.id.as_str());
    let csrf = csrf::token(&app.settings, &app.secrets, cookies, session);
    let other = Asked {
        again: true,
        ..Asked::default()
    };
    let other = sign_in::path(app, &return_to(app, &request.user_code), other);
    let email = signed_in.user.email.as_ref().map(Email::as_str);
    let minutes = (app.now() - request.created_at).max(0) / 60_000;
    let content = html! {
        h1 { "Is this your device?" }
        p { "Go on only if your device shows this code:" }
        p.big-code { (request.user_code) }
        p {
            "“" (client.settings.name) "” asks for access to the account of "
            strong { (signed_in.user.name) }
            @if let Some(email) = email { " (" (email) ")" }
            ". " a href=(other) { "Use another account" }
        }
        h2 { "It will be able to" }
        ul.scopes {
            @for scope in request.scopes.as_slice() { li { (consent::line(scope)) } }
        }
        @if let Some(resource) = &request.resource { p { "For " code { (resource) } " only." } }
        (facts(request, minutes))
        p.notice.warn {
            "Did somebody send you this code or this link? Then deny: they would get into your account."
        }
        form method="post" action=(app.settings.path("/device")) {
            input type="hidden" name=(csrf::FIELD) value=(csrf.token.expose());
            input type="hidden" name="user_code" value=(request.user_code);
            div.actions {
                button.primary type="submit" name="decision" value="allow" { "Allow" }
                button type="submit" name="decision" value="deny" { "Deny" }
            }
        }
    };
    let mut headers = HeaderMap::new();
    if let Some(cookie) = csrf.set_cookie {
        headers.append(header::SET_COOKIE, cookie);
    }
    Ok(Page::new("Is this your device?", content)
        .with_headers(headers)
        .into_response(&app.settings))
}

fn facts(request: &DeviceRequest, minutes: i64) -> Markup {
    let device = if request.user_agent.is_empty() {
        "It does not say"
    } else {
        request.user_agent.as_str()
    };
    html! {
        dl {
            dt { "Application" } dd { code { (request.client_id) } }
            dt { "Device" } dd { (device) }
            dt { "Address" } dd { (request.network) }
            dt { "Asked" }
            dd {
                @match minutes {
                    0 => "just now",
                    1 => "a minute ago",
                    more => { (more) " minutes ago" }
                }
            }
        }
    }
}

/// `POST /device`.
pub(super) async fn decide(
    State(app): State<App>,
    peer: Peer,
    cookies: Cookies,
    headers: HeaderMap,
    FormParams(params): FormParams,
) -> Response {
    settle(&app, &peer, &cookies, &headers, &params)
        .await
        .unwrap_or_else(|problem| pages::problem_page(&app.settings, &problem))
}

async fn settle(
    app: &App,
    peer: &Peer,
    cookies: &Cookies,
    headers: &HeaderMap,
    params: &Params,
) -> Result<Response, Problem> {
    let typed = params.get("user_code").unwrap_or("");
    let Some(code) = UserCode::parse(typed) else {
        return Ok(entry(app, Some(typed)));
    };
    let Found::SignedIn(signed_in) = browser_session::find(app, cookies, peer).await? else {
        return Ok(to_sign_in(app, &code, Asked::default()));
    };
    let session = signed_in.session.id.as_str();
    let field = params.get(csrf::FIELD);
    csrf::check(
        &app.settings,
        &app.secrets,
        headers,
        cookies,
        Some(session),
        field,
    )?;
    let allow = match params.get("decision") {
        Some("allow") => true,
        Some("deny") => false,
        _ => return Err(Problem::bad_request("decision_missing", "say yes or no")),
    };
    if find(app, peer, &signed_in, &code).await?.is_none() {
        return Ok(entry(app, Some(typed)));
    }
    let user_id = signed_in.user.id.as_str();
    app.registry
        .decide_device(&signed_in.actor(), &code, user_id, Some(session), allow)
        .await?;
    let word = if allow { "allowed" } else { "denied" };
    let path = app.settings.path(&format!("/device/done?it={word}"));
    Ok(see_other(&path))
}

/// `GET /device/done`: words only, whoever comes.
pub(super) async fn done(State(app): State<App>, RawQuery(query): RawQuery) -> Response {
    let params = read(query.as_deref().unwrap_or("")).unwrap_or_default();
    let allowed = params.get("it") == Some("allowed");
    let content = html! {
        @if allowed {
            h1 { "Your device is connected" }
            p { "Go back to it. This page can be closed." }
            p.hint { "You can take this back at any time on your account page." }
        } @else {
            h1 { "The device was turned away" }
            p { "It has no access to your account. This page can be closed." }
        }
    };
    Page::new("Connect a device", content).into_response(&app.settings)
}

fn read(query: &str) -> Result<Params, Problem> {
    Params::parse(query)
        .map_err(|repeated| Problem::bad_request("invalid_request", repeated.to_string()))
}
