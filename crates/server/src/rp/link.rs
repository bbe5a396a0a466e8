//! `/rp/link`: somebody who is signed in links an identity at a provider. A form of ours asks first:
//! a link from elsewhere must not tie a stranger's identity to an account.

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::html;

use super::authorize::{Trip, local_target, send};
use super::failure::Failure;
use super::{Face, load};
use crate::account::guard;
use crate::browser_session::{self, Found, SignedIn};
use crate::http::params::FormParams;
use crate::http::{Cookies, Params, Peer, csrf, going_on};
use crate::pages::{self, Page};
use crate::server::App;
use crate::sign_in::{self, Asked};

/// Where somebody goes back to.
pub(super) const WAYS: &str = "/account/sign-in";

/// `GET /rp/link?idp=`: asks.
pub(super) async fn ask(
    State(app): State<App>,
    cookies: Cookies,
    peer: Peer,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let signed_in = match who(&app, &cookies, &peer).await {
        Ok(signed_in) => signed_in,
        Err(response) => return *response,
    };
    if let Err(response) = proven_lately(&app, &signed_in, &format!("/rp/link?{query}")).await {
        return *response;
    }
    let ways = app.settings.path(WAYS);
    let params = Params::parse(&query).unwrap_or_default();
    let provider = match load(&app, params.get("idp").unwrap_or("")).await {
        Ok(provider) => provider,
        Err(failure) => return failure.page(&app, &ways, HeaderMap::new()),
    };
    let id = Some(signed_in.session.id.as_str());
    let made = csrf::token(&app.settings, &app.secrets, &cookies, id);
    let mut headers = HeaderMap::new();
    if let Some(cookie) = made.set_cookie {
        headers.append(header::SET_COOKIE, cookie);
    }
    let content = html! {
        h1 { "Link " (provider.name) " to your account?" }
        p { "Afterwards you can sign in as " strong { (signed_in.user.name) } " with it." }
        form method="post" action=(app.settings.path("/rp/link")) {
            input type="hidden" name=(csrf::FIELD) value=(made.token.expose());
            input type="hidden" name="idp" value=(provider.id);
            div.actions {
                button.primary type="submit" { "Link " (provider.name) }
                a.button href=(ways) { "Not now" }
            }
        }
    };
    Page::new(format!("Link {}", provider.name), content)
        .with_headers(headers)
        .into_response(&app.settings)
}

/// `POST /rp/link`: goes. The answer is a page that goes on by itself, and not a redirect: browsers hold
/// `form-action` against redirects that follow a form.
pub(super) async fn start(
    State(app): State<App>,
    cookies: Cookies,
    peer: Peer,
    headers: HeaderMap,
    FormParams(form): FormParams,
) -> Response {
    let signed_in = match who(&app, &cookies, &peer).await {
        Ok(signed_in) => signed_in,
        Err(response) => return *response,
    };
    let id = Some(signed_in.session.id.as_str());
    let field = form.get(csrf::FIELD);
    let checked = csrf::check(&app.settings, &app.secrets, &headers, &cookies, id, field);
    if let Err(problem) = checked {
        return pages::problem_page(&app.settings, &problem);
    }
    if let Err(response) = proven_lately(&app, &signed_in, WAYS).await {
        return *response;
    }
    let ways = app.settings.path(WAYS);
    let result = async {
        let idp = form.get("idp").ok_or_else(Failure::unknown_provider)?;
        let asked = form.get("redirect_uri").unwrap_or(&ways);
        let target = local_target(&app, &peer, idp, Some(asked)).await;
        let trip = Trip {
            idp,
            target: &target,
            user_id: Some(&signed_in.user.id),
            login_hint: None,
            again: false,
        };
        send(&app, &cookies, &peer, Face::Rp, &trip).await
    };
    match result.await {
        Ok((url, headers)) => going_on::go_on(&app, "On to the provider", url.as_str(), headers),
        Err(failure) => failure.page(&app, &ways, HeaderMap::new()),
    }
}

/// An identity more is a way to sign in more: whoever adds one proves first that it is them, and comes
/// back to `back`, below the base path.
async fn proven_lately(app: &App, current: &SignedIn, back: &str) -> Result<(), Box<Response>> {
    match guard::lately(app, current).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(asked)) => {
            let path = sign_in::path(app, &app.settings.path(back), asked);
            Err(Box::new(sign_in::go(&path, HeaderMap::new())))
        }
        Err(problem) => Err(Box::new(pages::problem_page(&app.settings, &problem))),
    }
}

/// The person, or the way to the sign-in page.
async fn who(app: &App, cookies: &Cookies, peer: &Peer) -> Result<Box<SignedIn>, Box<Response>> {
    match browser_session::find(app, cookies, peer).await {
        Ok(Found::SignedIn(signed_in)) => Ok(signed_in),
        Ok(_) => {
            let ways = app.settings.path(WAYS);
            let path = sign_in::path(app, &ways, Asked::default());
            let location = [(header::LOCATION, path)];
            Err(Box::new((StatusCode::SEE_OTHER, location).into_response()))
        }
        Err(problem) => Err(Box::new(pages::problem_page(&app.settings, &problem))),
    }
}
