//! RP-Initiated Logout (OpenID Connect RP-Initiated Logout 1.0): a client sends the browser here to
//! sign the person out. With an ID token of ours for the session it is done at once; otherwise the
//! person is asked.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::{OriginalUri, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use keywright_domain::audit::Actor;
use keywright_domain::people::{Client, EndReason, PeopleError};
use keywright_registry::RegistryError;
use maud::html;

use super::authorize::redirect::{own_scheme, see_other};
use super::id_token::{self, Hint};
use crate::browser_session::{self, Found, SignedIn};
use crate::http::cookies::{self, Name};
use crate::http::going_on::after_a_form;
use crate::http::params::FormParams;
use crate::http::{Cookies, Params, Peer, csrf, once_more};
use crate::pages::{self, Page};
use crate::problem::Problem;
use crate::server::App;
use crate::sessions;
use crate::sign_in::own_page;

const LONGEST_STATE: usize = 2_000;
/// What we read of a request; everything else is ignored.
const PARAMETERS: [&str; 4] = [
    "id_token_hint",
    "client_id",
    "post_logout_redirect_uri",
    "state",
];
/// A form has to fit into an address of ours.
const LONGEST_FORM: usize = 8_000;

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/oauth2/end_session", get(by_query).post(by_form))
        .route("/oauth2/end_session/confirm", post(confirmed))
}

/// What a request asks for, checked.
struct Asked {
    client: Option<Arc<Client>>,
    /// Exactly registered (S45).
    back: Option<String>,
    state: Option<String>,
}

impl Asked {
    /// Where the browser goes afterwards. The address stays byte for byte as it is registered.
    fn target(&self) -> Option<String> {
        let back = self.back.as_deref()?;
        let Some(state) = &self.state else {
            return Some(back.to_owned());
        };
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("state", state);
        let joint = if back.contains('?') { '&' } else { '?' };
        Some(format!("{back}{joint}{}", query.finish()))
    }
}

async fn by_query(
    State(app): State<App>,
    OriginalUri(uri): OriginalUri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    peer: Peer,
    cookies: Cookies,
) -> Response {
    let text = query.unwrap_or_default();
    let params = match Params::parse(&text) {
        Ok(params) => params,
        Err(repeated) => return invalid(&app, repeated.to_string()),
    };
    // Nobody would look signed in, and would be told that they are signed out.
    let address = format!("{}{}", app.settings.origin(), uri.path());
    if let Some(hop) = once_more::hop(&app, &headers, &address, &text) {
        return hop;
    }
    respond(&app, begin(&app, &params, &peer, &cookies).await)
}

/// A form of the client's page: browsers send no session cookie with it, so that nobody can say who is
/// signed in. The browser comes back by `GET` with what was asked (303), as at the authorization endpoint.
async fn by_form(State(app): State<App>, FormParams(params): FormParams) -> Response {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for name in PARAMETERS {
        if let Some(value) = params.get(name) {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if query.len() > LONGEST_FORM {
        return invalid(&app, "the request is too long");
    }
    let path = app.settings.path("/oauth2/end_session");
    see_other(&format!("{path}?{query}"))
}

fn invalid(app: &App, what: impl Into<String>) -> Response {
    let problem = Problem::bad_request("invalid_request", what);
    pages::problem_page(&app.settings, &problem)
}

fn respond(app: &App, result: Result<Response, Problem>) -> Response {
    result.unwrap_or_else(|problem| pages::problem_page(&app.settings, &problem))
}

async fn begin(
    app: &App,
    params: &Params,
    peer: &Peer,
    cookies: &Cookies,
) -> Result<Response, Problem> {
    // S43: ours, whenever it ended. One that is not ours counts as none, and then nobody is sent
    // anywhere.
    let given = params.get("id_token_hint");
    let hint = given.and_then(|token| id_token::read_hint(app, token).ok());
    let asked = read(app, params, hint.as_ref(), given.is_some()).await?;
    let signed_in = match browser_session::find(app, cookies, peer).await? {
        Found::SignedIn(signed_in) => Some(signed_in),
        _ => None,
    };
    let Some(hint) = hint else {
        return Ok(ask(app, cookies, signed_in.as_deref(), &asked));
    };
    let is_of_this_browser = signed_in.as_ref().is_some_and(|signed_in| {
        let sid = hint.sid.as_deref();
        signed_in.user.id == hint.sub && sid.is_none_or(|sid| sid == signed_in.session.id)
    });
    if is_of_this_browser {
        return finish(app, cookies, peer, signed_in.as_deref(), &asked).await;
    }
    if signed_in.is_some() {
        // Somebody else, or another session: the client does not speak for it.
        return Ok(ask(app, cookies, signed_in.as_deref(), &asked));
    }
    // Nobody is signed in at this browser, or it does not say so (a frame of another site). The session of
    // the hint ends all the same.
    if let Some(sid) = &hint.sid {
        match sessions::end(
            app,
            &Actor::person(&hint.sub).at(peer.address),
            &hint.sub,
            sid,
            EndReason::SignedOut,
        )
        .await
        {
            Err(problem) if problem.status != StatusCode::NOT_FOUND => return Err(problem),
            _ => {}
        }
    }
    Ok(leave(app, &asked, HeaderMap::new()))
}

/// Reads and checks what is asked for. `has_hint`: there was a hint, good or not.
async fn read(
    app: &App,
    params: &Params,
    hint: Option<&Hint>,
    has_hint: bool,
) -> Result<Asked, Problem> {
    let named = params.get("client_id");
    let of_hint = hint.map(|hint| hint.aud.as_str());
    // S44.
    if let (Some(named), Some(of_hint)) = (named, of_hint)
        && named != of_hint
    {
        return Err(Problem::bad_request(
            "invalid_request",
            "client_id and id_token_hint are of two applications",
        ));
    }
    let client = match of_hint.or(named) {
        Some(id) => match app.registry.find_client(id).await {
            Ok(client) => Some(client),
            Err(RegistryError::People(PeopleError::ClientNotFound)) => None,
            Err(error) => return Err(error.into()),
        },
        None => None,
    };
    let mut back = params.get("post_logout_redirect_uri").map(str::to_owned);
    if let Some(uri) = &back {
        let allowed = client
            .as_ref()
            .is_some_and(|client| client.disabled_at.is_none() && client.allows_post_logout(uri));
        if hint.is_some() && !allowed {
            return Err(Problem::bad_request(
                "invalid_request",
                "post_logout_redirect_uri is not one of this application's addresses",
            ));
        }
        // A hint that is not ours takes its address with it.
        if !allowed || (has_hint && hint.is_none()) {
            back = None;
        }
    }
    let state = params.get("state").map(str::to_owned);
    Ok(Asked {
        client,
        back,
        state: state.filter(|state| state.len() <= LONGEST_STATE),
    })
}

/// S46: the person says whether they want that.
fn ask(app: &App, cookies: &Cookies, signed_in: Option<&SignedIn>, asked: &Asked) -> Response {
    let Some(signed_in) = signed_in else {
        return signed_out(app, asked, HeaderMap::new());
    };
    let session = Some(signed_in.session.id.as_str());
    let csrf = csrf::token(&app.settings, &app.secrets, cookies, session);
    let name = asked
        .client
        .as_ref()
        .map(|client| client.settings.name.as_str());
    let content = html! {
        h1 { "Sign out?" }
        p {
            @if let Some(name) = name { "“" (name) "” asks whether you want to sign out. " }
            "You are signed in as " strong { (signed_in.user.name) } "."
        }
        p {
            "Applications that you opened with this sign-in are signed out too. Those that may stay signed in \
             while you are away stay so, until you "
            a href=(app.settings.path("/account/applications")) { "end their access" } "."
        }
        form method="post" action=(app.settings.path("/oauth2/end_session/confirm")) {
            input type="hidden" name=(csrf::FIELD) value=(csrf.token.expose());
            @if let Some(client) = &asked.client {
                input type="hidden" name="client_id" value=(client.id);
            }
            @if let Some(back) = &asked.back {
                input type="hidden" name="post_logout_redirect_uri" value=(back);
            }
            @if let Some(state) = &asked.state {
                input type="hidden" name="state" value=(state);
            }
            div.actions {
                button.primary type="submit" { "Sign out" }
                a.button href=(app.settings.path("/account")) { "Stay signed in" }
            }
        }
    };
    let mut headers = HeaderMap::new();
    if let Some(cookie) = csrf.set_cookie {
        headers.append(header::SET_COOKIE, cookie);
    }
    let mut page = Page::new("Sign out", content).with_headers(headers);
    if let Some(scheme) = asked.back.as_deref().and_then(own_scheme) {
        page = page.with_form_target(&scheme);
    }
    page.into_response(&app.settings)
}

/// `POST /oauth2/end_session/confirm`: the person's yes, from our page.
async fn confirmed(
    State(app): State<App>,
    peer: Peer,
    cookies: Cookies,
    headers: HeaderMap,
    FormParams(params): FormParams,
) -> Response {
    let response = respond(&app, settle(&app, &params, &peer, &cookies, &headers).await);
    after_a_form(&app, response)
}

async fn settle(
    app: &App,
    params: &Params,
    peer: &Peer,
    cookies: &Cookies,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let asked = read(app, params, None, false).await?;
    let Found::SignedIn(signed_in) = browser_session::find(app, cookies, peer).await? else {
        return Ok(signed_out(app, &asked, HeaderMap::new()));
    };
    let field = params.get(csrf::FIELD);
    let session = Some(signed_in.session.id.as_str());
    csrf::check(
        &app.settings,
        &app.secrets,
        headers,
        cookies,
        session,
        field,
    )?;
    finish(app, cookies, peer, Some(&signed_in), &asked).await
}

/// Ends the browser's session (S47), and what the same person signed in for by a page of their own.
async fn finish(
    app: &App,
    cookies: &Cookies,
    peer: &Peer,
    signed_in: Option<&SignedIn>,
    asked: &Asked,
) -> Result<Response, Problem> {
    let mut headers = HeaderMap::new();
    if let Some(signed_in) = signed_in {
        let id = signed_in.user.id.as_str();
        sessions::end(
            app,
            &signed_in.actor(),
            id,
            &signed_in.session.id,
            EndReason::SignedOut,
        )
        .await?;
        let mut gone = vec![Name::Session, Name::Csrf];
        if own_page::end(app, cookies, peer, Some(id)).await?.is_over() {
            gone.extend([Name::Refresh, Name::SignIn]);
        }
        for name in gone {
            headers.append(header::SET_COOKIE, cookies::clear(&app.settings, name));
        }
    }
    Ok(leave(app, asked, headers))
}

fn leave(app: &App, asked: &Asked, headers: HeaderMap) -> Response {
    let Some(target) = asked.target() else {
        return signed_out(app, asked, headers);
    };
    let mut response = see_other(&target);
    for (name, value) in &headers {
        response.headers_mut().append(name.clone(), value.clone());
    }
    response.into_response()
}

fn signed_out(app: &App, asked: &Asked, headers: HeaderMap) -> Response {
    let name = asked
        .client
        .as_ref()
        .map(|client| client.settings.name.as_str());
    let content = html! {
        h1 { "You are signed out" }
        p { "This page can be closed." }
        @if let (Some(target), Some(name)) = (asked.target(), name) {
            p { a href=(target) { "Back to " (name) } }
        }
    };
    Page::new("Signed out", content)
        .with_headers(headers)
        .into_response(&app.settings)
}
