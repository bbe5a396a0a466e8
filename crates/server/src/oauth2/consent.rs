//! The consent page: who asks, for what, in people's words, and the answer to it.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use keywright_domain::people::{ClientType, Email};
use maud::{Markup, html};

use super::authorize::{self, Parked, Stopped};
use crate::browser_session::{self, Found, SignedIn};
use crate::http::going_on::after_a_form;
use crate::http::params::FormParams;
use crate::http::{Cookies, Params, Peer, csrf};
use crate::pages::Page;
use crate::problem::Problem;
use crate::server::App;
use crate::sign_in::{self, Asked};

pub(crate) use self::words::line;

mod words;

/// Asks the person.
pub(crate) fn page(run: &authorize::Run<'_>, signed_in: &SignedIn, cookies: &Cookies) -> Response {
    let (app, client) = (run.app, run.client);
    let csrf = csrf::token(
        &app.settings,
        &app.secrets,
        cookies,
        Some(&signed_in.session.id),
    );
    let sealed = run.parked.asking(&signed_in.user.id).seal(app);
    let other = Asked {
        again: true,
        ..Asked::default()
    };
    let other = sign_in::path(app, &run.parked.resume_path(app), other);
    let email = signed_in.user.email.as_ref().map(Email::as_str);
    let public = client.settings.client_type == ClientType::Public;
    let content = html! {
        h1 { "Allow “" (client.settings.name) "”?" }
        p {
            "It asks for access to the account of " strong { (signed_in.user.name) }
            @if let Some(email) = email { " (" (email) ")" }
            ". " a href=(other) { "Use another account" }
        }
        h2 { "It will be able to" }
        ul.scopes {
            @for scope in run.request.scopes.as_slice() { li { (line(scope)) } }
        }
        @if let Some(resource) = &run.request.resource {
            p { "For " code { (resource) } " only." }
        }
        (facts(&client.id, &run.target.redirect_uri))
        @if public {
            p.hint {
                "Keywright cannot check that this program is what it says. Allow it only if you began "
                "this yourself."
            }
        }
        form method="post" action=(app.settings.path("/oauth2/authorize/consent")) {
            input type="hidden" name=(csrf::FIELD) value=(csrf.token.expose());
            input type="hidden" name="request" value=(sealed);
            div.actions {
                button.primary type="submit" name="decision" value="allow" { "Allow" }
                button type="submit" name="decision" value="deny" { "Deny" }
            }
        }
        p.hint { "You can take this back at any time on your account page." }
    };
    let mut headers = HeaderMap::new();
    if let Some(cookie) = csrf.set_cookie {
        headers.append(header::SET_COOKIE, cookie);
    }
    let title = format!("Allow {}", client.settings.name);
    let mut page = Page::new(title, content).with_headers(headers);
    if let Some(scheme) = authorize::redirect::own_scheme(&run.target.redirect_uri) {
        page = page.with_form_target(&scheme);
    }
    page.into_response(&app.settings)
}

fn facts(client_id: &str, redirect_uri: &str) -> Markup {
    let url = url::Url::parse(redirect_uri).ok();
    let host = url.as_ref().and_then(url::Url::host_str);
    let goes_to = match (url.as_ref().map(url::Url::scheme), host) {
        (Some("http"), _) => "a program on this computer".to_owned(),
        (Some("https"), Some(host)) => host.to_owned(),
        (Some(scheme), _) => format!("the program of {scheme}"),
        _ => redirect_uri.to_owned(),
    };
    html! {
        dl {
            dt { "Application" } dd { code { (client_id) } }
            dt { "You go on to" } dd { (goes_to) }
        }
    }
}

/// `POST /oauth2/authorize/consent`.
pub(crate) async fn answer(
    State(app): State<App>,
    peer: Peer,
    cookies: Cookies,
    headers: HeaderMap,
    FormParams(params): FormParams,
) -> Response {
    let response = decide(&app, &peer, &cookies, &headers, &params)
        .await
        .unwrap_or_else(|stopped| stopped.into_response(&app));
    after_a_form(&app, response)
}

async fn decide(
    app: &App,
    peer: &Peer,
    cookies: &Cookies,
    headers: &HeaderMap,
    params: &Params,
) -> Result<Response, Stopped> {
    let parked = params
        .get("request")
        .and_then(|text| Parked::open(app, text));
    let parked = parked.ok_or_else(authorize::over)?;
    let Found::SignedIn(signed_in) = browser_session::find(app, cookies, peer).await? else {
        // Signed out meanwhile: from the start.
        let path = parked.resume_path(app);
        return Ok(authorize::redirect::see_other(&path));
    };
    csrf::check(
        &app.settings,
        &app.secrets,
        headers,
        cookies,
        Some(&signed_in.session.id),
        params.get(csrf::FIELD),
    )?;
    // The page asked one person, and nobody answers for another.
    if parked.asks.as_deref() != Some(&signed_in.user.id) {
        let path = parked.resume_path(app);
        return Ok(authorize::redirect::see_other(&path));
    }
    let allowed = match params.get("decision") {
        Some("allow") => true,
        Some("deny") => false,
        _ => return Err(Problem::bad_request("decision_missing", "say yes or no").into()),
    };
    authorize::run(app, peer, cookies, parked, Some(allowed)).await
}
