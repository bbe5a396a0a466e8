//! Who may change ways to sign in: the person, signed in, by a form of ours, and proven lately.

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use keywright_domain::people::CLOCKS_APART_MS;

use super::PAGE;
use crate::browser_session::{ACR_TWO, MaybeSignedIn, SignedIn};
use crate::http::params::FormParams;
use crate::http::{Cookies, Params, Peer, csrf};
use crate::pages;
use crate::problem::Problem;
use crate::server::App;
use crate::sign_in::{self, Asked, second_factor};

const LATELY_MS: i64 = 10 * 60 * 1000;

/// A form of the page, from the person it belongs to.
pub(super) struct Form {
    pub(super) current: Box<SignedIn>,
    pub(super) params: Params,
    pub(super) cookies: Cookies,
    pub(super) peer: Peer,
}

impl FromRequest<App> for Form {
    type Rejection = Response;

    async fn from_request(request: Request, app: &App) -> Result<Self, Response> {
        use axum::extract::FromRequestParts as _;
        let page = |problem: Problem| pages::problem_page(&app.settings, &problem);
        let (mut parts, body) = request.into_parts();
        let Ok(peer) = Peer::from_request_parts(&mut parts, app).await;
        let cookies = Cookies::read(&parts.headers);
        let MaybeSignedIn(current) = MaybeSignedIn::from_request_parts(&mut parts, app)
            .await
            .map_err(page)?;
        let headers = parts.headers.clone();
        let Some(current) = current else {
            return Err(to_sign_in(app));
        };
        let request = Request::from_parts(parts, body);
        let FormParams(params) = FormParams::from_request(request, app).await?;
        let sid = Some(current.session.id.as_str());
        let field = params.get(csrf::FIELD);
        csrf::check(&app.settings, &app.secrets, &headers, &cookies, sid, field).map_err(page)?;
        Ok(Self {
            current,
            params,
            cookies,
            peer,
        })
    }
}

/// To the sign-in page, and back.
pub(super) fn to_sign_in(app: &App) -> Response {
    let back = app.settings.path(PAGE);
    sign_in::go(
        &sign_in::path(app, &back, Asked::default()),
        HeaderMap::new(),
    )
}

/// To the page, with what was done.
pub(super) fn done(app: &App, what: &str, headers: HeaderMap) -> Response {
    sign_in::go(&app.settings.path(&format!("{PAGE}?done={what}")), headers)
}

/// Whether the person proved themselves lately, with all factors they have; otherwise what to ask for. Being
/// signed in by a provider that asked nobody is no proof: whoever sits at a browser that is signed in there
/// could have that at any time.
pub(crate) async fn lately(
    app: &App,
    current: &SignedIn,
) -> Result<Result<(), Asked<'static>>, Problem> {
    let age = app.now().saturating_sub(current.session.proven_at);
    // A proof of the future is none of lately: a clock was put back since.
    let again = !(-CLOCKS_APART_MS..LATELY_MS).contains(&age);
    let one_factor = current.session.acr != ACR_TWO;
    let two_factors = one_factor && second_factor::is_set_up(app, &current.user.id).await?;
    if again || two_factors {
        return Ok(Err(Asked {
            again,
            two_factors,
            ..Asked::default()
        }));
    }
    Ok(Ok(()))
}

/// The answer for somebody who has to prove themselves first.
pub(super) fn prove_first(app: &App, asked: Asked<'_>) -> Response {
    let back = app.settings.path(PAGE);
    sign_in::go(&sign_in::path(app, &back, asked), HeaderMap::new())
}

/// The same for scripts.
pub(super) fn prove_first_problem() -> Problem {
    let detail = "prove that it is you first: reload the page and sign in once more";
    Problem::new(StatusCode::FORBIDDEN, "fresh_sign_in_required", detail)
}
