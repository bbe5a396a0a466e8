//! Who visits the pages of an account: somebody who is signed in. Others are sent to sign in, and come
//! back.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;

use crate::browser_session::{self, Found, SignedIn};
use crate::http::{Cookies, Params, Peer, csrf};
use crate::pages::{self, Page};
use crate::problem::Problem;
use crate::server::App;
use crate::sign_in::{self, Asked, own_page};

/// A person on their own page.
pub(super) struct Visitor {
    pub(super) signed_in: Box<SignedIn>,
    pub(super) query: Params,
    /// For the forms of the page.
    pub(super) csrf: SecretText,
    set_cookie: Option<axum::http::HeaderValue>,
    cookies: Cookies,
    headers: HeaderMap,
    peer: Peer,
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        let cookies = Cookies::read(&parts.headers);
        let Ok(peer) = Peer::from_request_parts(parts, app).await;
        let found = browser_session::find(app, &cookies, &peer).await;
        let signed_in = match found {
            Ok(Found::SignedIn(signed_in)) => signed_in,
            Ok(_) => return Err(to_sign_in(app, parts)),
            Err(problem) => return Err(pages::problem_page(&app.settings, &problem)),
        };
        let query = Params::parse(parts.uri.query().unwrap_or("")).unwrap_or_default();
        let id = Some(signed_in.session.id.as_str());
        let made = csrf::token(&app.settings, &app.secrets, &cookies, id);
        Ok(Self {
            signed_in,
            query,
            csrf: made.token,
            set_cookie: made.set_cookie,
            cookies,
            headers: parts.headers.clone(),
            peer,
        })
    }
}

fn to_sign_in(app: &App, parts: &Parts) -> Response {
    let here = if parts.method == Method::GET {
        parts.uri.path_and_query().map_or("", |path| path.as_str())
    } else {
        "/account"
    };
    // Nested routes see their path without the base path.
    let path = app.settings.path(here);
    let target = sign_in::path(app, &path, Asked::default());
    see_other(&target)
}

/// 303: the next request is a GET (S13).
pub(super) fn see_other(path: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response()
}

impl Visitor {
    pub(super) fn user_id(&self) -> &str {
        &self.signed_in.user.id
    }

    pub(super) fn session_id(&self) -> &str {
        &self.signed_in.session.id
    }

    pub(super) fn actor(&self) -> Actor {
        self.signed_in.actor()
    }

    pub(super) fn csrf(&self) -> &str {
        self.csrf.expose()
    }

    /// Checks that a form is ours.
    pub(super) fn check(&self, app: &App, form: &Params) -> Result<(), Problem> {
        csrf::check(
            &app.settings,
            &app.secrets,
            &self.headers,
            &self.cookies,
            Some(self.session_id()),
            form.get(csrf::FIELD),
        )
    }

    /// Ends what this person signed in for by a page of their own in this browser.
    pub(super) async fn end_own_page(&self, app: &App) -> Result<own_page::Ended, Problem> {
        own_page::end(app, &self.cookies, &self.peer, Some(self.user_id())).await
    }

    /// The answer, with the cookie of its forms.
    pub(super) fn page(&self, app: &App, page: Page) -> Response {
        let mut headers = HeaderMap::new();
        if let Some(cookie) = &self.set_cookie {
            headers.append(header::SET_COOKIE, cookie.clone());
        }
        page.with_headers(headers).into_response(&app.settings)
    }
}

/// A page or a page that says what is wrong.
pub(super) fn or_page(app: &App, result: Result<Response, Problem>) -> Response {
    result.unwrap_or_else(|problem| pages::problem_page(&app.settings, &problem))
}
