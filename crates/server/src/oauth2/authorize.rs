//! The authorization endpoint (RFC 6749 §3.1): `GET` and `POST /oauth2/authorize`, and
//! `/oauth2/authorize/resume`, where a browser goes on after it signed in.

mod decide;
mod parked;
pub(crate) mod redirect;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{OriginalUri, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use keywright_domain::SecretText;
use keywright_domain::people::{Client, PeopleError, TokenDigest};
use keywright_registry::RegistryError;

pub(crate) use self::decide::Run;
pub(crate) use self::parked::Parked;
use super::authorization_request::{self, Target};
use super::consent;
use crate::browser_session::{self, Found};
use crate::http::going_on::after_a_form;
use crate::http::{Cookies, Params, Peer, once_more};
use crate::pages;
use crate::problem::{OAuthError, Problem};
use crate::server::App;
use crate::settings::SameSite;

/// What begins the `request_uri` of a pushed request (RFC 9126 §2.2).
pub(crate) const PUSHED: &str = "urn:ietf:params:oauth:request_uri:";

/// A bad request that came by a form has to fit into an address of ours.
const LONGEST_BAD_FORM: usize = 8_000;

/// Below the base path.
pub(crate) fn routes(short_aliases: bool) -> Router<App> {
    let endpoint = || get(by_query).post(by_form);
    let mut router = Router::new()
        .route("/oauth2/authorize", endpoint())
        .route("/oauth2/authorize/resume", get(resume))
        .route("/oauth2/authorize/consent", post(consent::answer));
    if short_aliases {
        router = router.route("/authorize", endpoint());
    }
    router
}

/// Why nothing may be sent to a client: shown on a page (S4).
#[derive(Debug)]
pub(crate) enum Stopped {
    /// What is wrong with the request.
    Shown(&'static str, String),
    /// We cannot answer now.
    Problem(Problem),
    /// It may be sent after all.
    Sent(Box<Target>, OAuthError),
}

impl Stopped {
    pub(crate) fn shown(code: &'static str, happened: impl Into<String>) -> Self {
        Self::Shown(code, happened.into())
    }

    /// The answer.
    pub(crate) fn into_response(self, app: &App) -> Response {
        match self {
            Self::Shown(code, happened) => pages::error_page(
                &app.settings,
                StatusCode::BAD_REQUEST,
                code,
                &happened,
                "Go back to the application and begin again. If this stays so, tell whoever makes it.",
            ),
            Self::Problem(problem) => pages::problem_page(&app.settings, &problem),
            Self::Sent(target, error) => redirect::refusal(app, &target, &error),
        }
    }
}

impl From<Problem> for Stopped {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<RegistryError> for Stopped {
    fn from(error: RegistryError) -> Self {
        Self::Problem(error.into())
    }
}

async fn by_query(
    State(app): State<App>,
    peer: Peer,
    cookies: Cookies,
    headers: HeaderMap,
    OriginalUri(uri): OriginalUri,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    // Nobody would look signed in; and a pushed request is taken once, so this comes before it is.
    let address = format!("{}{}", app.settings.origin(), uri.path());
    if let Some(hop) = once_more::hop(&app, &headers, &address, &query) {
        return hop;
    }
    let begun = match begin(&app, &query, is_linked(&app, &headers)).await {
        Ok(Begun::Good(parked)) => run(&app, &peer, &cookies, parked, None).await,
        Ok(Begun::Bad(bad)) => Err(bad.tell(&app, &peer, &cookies).await),
        Err(stopped) => Err(stopped),
    };
    begun.unwrap_or_else(|stopped| stopped.into_response(&app))
}

/// A form of the client's page: browsers send no session cookie with it, so the request is parked and
/// the browser comes back by `GET` (303, S13). So it does with a bad one, as it is.
async fn by_form(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    let form = headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        value
            .as_bytes()
            .starts_with(b"application/x-www-form-urlencoded")
    });
    let text = std::str::from_utf8(&body).ok().filter(|_| form);
    let Some(text) = text else {
        let happened = "The request is no form";
        return Stopped::shown("invalid_request", happened).into_response(&app);
    };
    match begin(&app, text, is_linked(&app, &headers)).await {
        Ok(Begun::Good(parked)) => redirect::see_other(&parked.resume_path(&app)),
        // Who is signed in decides where a bad one is told, and nobody knows here.
        Ok(Begun::Bad(bad)) if bad.may_come_again && text.len() <= LONGEST_BAD_FORM => {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            query.extend_pairs(url::form_urlencoded::parse(text.as_bytes()));
            let path = app.settings.path("/oauth2/authorize");
            redirect::see_other(&format!("{path}?{}", query.finish()))
        }
        Ok(Begun::Bad(bad)) => bad.shown().into_response(&app),
        Err(stopped) => stopped.into_response(&app),
    }
}

/// Where a browser goes on after it signed in: what led here may have been a form.
async fn resume(
    State(app): State<App>,
    peer: Peer,
    cookies: Cookies,
    RawQuery(query): RawQuery,
) -> Response {
    let parked = Params::parse(query.as_deref().unwrap_or(""))
        .ok()
        .and_then(|params| Parked::open(&app, params.get("request")?));
    let done = match parked {
        Some(parked) => run(&app, &peer, &cookies, parked, None).await,
        None => Err(over()),
    };
    let response = done.unwrap_or_else(|stopped| stopped.into_response(&app));
    after_a_form(&app, response)
}

/// A parked request that is too old, or none of ours.
pub(crate) fn over() -> Stopped {
    Stopped::shown(
        "request_expired",
        "This took too long, or the address is not complete",
    )
}

/// The scheme of a program's own to which a form on a page of ours may lead in the end, if it leads back to
/// a request that is parked: browsers hold `form-action` against redirects too. `return_to` is a path of
/// ours.
pub(crate) fn form_target(app: &App, return_to: &str) -> Option<String> {
    let (path, query) = return_to.split_once('?')?;
    if path != app.settings.path("/oauth2/authorize/resume") {
        return None;
    }
    let parked = Parked::open(app, Params::parse(query).ok()?.get("request")?)?;
    let params = Params::parse(&parked.params).ok()?;
    redirect::own_scheme(params.get("redirect_uri")?)
}

/// Whether a page of another site leads here, and not a program that opened the browser. With strict cookies
/// that page led to one of ours first ([`once_more`]).
fn is_linked(app: &App, headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    let is = |value: &str| site.is_some_and(|own| own == value);
    let strict = app.settings.same_site == SameSite::Strict;
    is("cross-site") || (strict && is("same-origin"))
}

/// A request that may be answered at its address.
enum Begun {
    Good(Parked),
    Bad(Bad),
}

/// What is wrong with a request whose address is one of its client's.
struct Bad {
    target: Target,
    error: OAuthError,
    /// It asks for no page (`prompt=none`).
    silent: bool,
    /// Nothing was used up by reading it.
    may_come_again: bool,
}

impl Bad {
    fn new(target: Target, error: OAuthError, params: &Params, pushed: bool) -> Self {
        let mut prompts = params.get("prompt").unwrap_or("").split(' ');
        Self {
            target,
            error,
            silent: prompts.any(|value| value == "none"),
            may_come_again: !pushed,
        }
    }

    /// Where it is told: at the client's address to whoever is signed in here, and where no page may be
    /// shown. To all others on a page: a link to a trusted host leads nobody elsewhere before they
    /// proved who they are (RFC 9700 §4.11.2, S15).
    async fn tell(self, app: &App, peer: &Peer, cookies: &Cookies) -> Stopped {
        if self.silent {
            return Stopped::Sent(Box::new(self.target), self.error);
        }
        match browser_session::find(app, cookies, peer).await {
            Ok(Found::SignedIn(_)) => Stopped::Sent(Box::new(self.target), self.error),
            Ok(_) => self.shown(),
            Err(problem) => problem.into(),
        }
    }

    fn shown(self) -> Stopped {
        Stopped::shown(self.error.error, sentence(&self.error.description))
    }
}

/// Takes a request in: the pushed one where it names one.
async fn begin(app: &App, text: &str, linked: bool) -> Result<Begun, Stopped> {
    let params = Params::parse(text).map_err(|repeated| {
        Stopped::shown("invalid_request", format!("In this request {repeated}"))
    })?;
    let client = find_client(app, params.get("client_id")).await?;
    let pushed = params
        .get("request_uri")
        .filter(|uri| uri.starts_with(PUSHED));
    let Some(uri) = pushed else {
        let target = Target::read(&client, &params).map_err(unsafe_target)?;
        // Refused now: a request that cannot be answered is not worth a sign-in.
        if let Err(error) = authorization_request::read(app, &client, &params, false) {
            return Ok(Begun::Bad(Bad::new(target, error, &params, false)));
        }
        return Ok(Begun::Good(Parked::new(
            app, &client, &params, false, linked,
        )));
    };
    // Only what was pushed counts (RFC 9126 §4), and it counts once.
    let digest = TokenDigest::of(&SecretText::new(uri.to_owned()));
    let taken = app
        .registry
        .take_pushed_request(&digest, &client.id)
        .await?;
    let taken = taken.ok_or_else(|| {
        let happened = "This request was used already, or is too old";
        Stopped::shown("invalid_request_uri", happened)
    })?;
    let params = Params::parse(&taken.parameters)
        .map_err(|repeated| Stopped::shown("invalid_request", repeated.to_string()))?;
    let target = Target::read(&client, &params).map_err(unsafe_target)?;
    if let Err(error) = authorization_request::read(app, &client, &params, true) {
        return Ok(Begun::Bad(Bad::new(target, error, &params, true)));
    }
    Ok(Begun::Good(Parked::new(
        app, &client, &params, true, linked,
    )))
}

/// Answers a request, from the start every time: what was good before a sign-in may be no more.
pub(crate) async fn run(
    app: &App,
    peer: &Peer,
    cookies: &Cookies,
    parked: Parked,
    consented: Option<bool>,
) -> Result<Response, Stopped> {
    let params = Params::parse(&parked.params).map_err(|_| over())?;
    let client = find_client(app, params.get("client_id")).await?;
    let target = Target::read(&client, &params).map_err(unsafe_target)?;
    let request = match authorization_request::read(app, &client, &params, parked.pushed) {
        Ok(request) => request,
        Err(error) => {
            let bad = Bad::new(target, error, &params, parked.pushed);
            return Err(bad.tell(app, peer, cookies).await);
        }
    };
    let run = Run {
        app,
        client: &client,
        target: &target,
        request: &request,
        parked,
    };
    run.answer(peer, cookies, consented).await
}

async fn find_client(app: &App, id: Option<&str>) -> Result<Arc<Client>, Stopped> {
    let unknown = || Stopped::shown("invalid_client", "This application is not known here");
    let id = id.ok_or_else(|| {
        Stopped::shown(
            "invalid_request",
            "The request does not say which application asks",
        )
    })?;
    match app.registry.find_client(id).await {
        Ok(client) if client.disabled_at.is_none() => Ok(client),
        Ok(_) | Err(RegistryError::People(PeopleError::ClientNotFound)) => Err(unknown()),
        Err(error) => Err(error.into()),
    }
}

fn unsafe_target(why: &'static str) -> Stopped {
    Stopped::shown("invalid_redirect_uri", sentence(why))
}

/// A text of ours for a page.
fn sentence(why: &str) -> String {
    let mut letters = why.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// A `Location` of ours; none for text that cannot be a header, which checked addresses never are.
fn location(text: &str) -> Option<HeaderValue> {
    HeaderValue::try_from(text).ok()
}
