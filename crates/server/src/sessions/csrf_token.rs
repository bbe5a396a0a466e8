//! `GET /auth/csrfToken` (S2-20, S2-31..33): the token that changes need, the browser's own where it
//! is good.

use axum::extract::State;
use axum::http::header;
use axum::response::Response;
use serde::Serialize;

use super::api::private;
use crate::browser_session::MaybeSignedIn;
use crate::http::{Cookies, csrf};
use crate::server::App;

/// The token.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CsrfToken {
    /// For the header `X-CSRF-Token`, or the field `csrf_token` of a form.
    #[serde(rename = "csrfToken")]
    csrf_token: String,
}

/// The CSRF token of this browser.
#[utoipa::path(
    get,
    path = "/auth/csrfToken",
    tag = "sessions",
    security((), ("session" = [])),
    responses((status = 200, description = "The token; its cookie comes with it", body = CsrfToken))
)]
pub(crate) async fn show(
    State(app): State<App>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    cookies: Cookies,
) -> Response {
    let id = signed_in.as_ref().map(|one| one.session.id.as_str());
    let made = csrf::token(&app.settings, &app.secrets, &cookies, id);
    let mut response = private(&CsrfToken {
        csrf_token: made.token.expose().to_owned(),
    });
    if let Some(cookie) = made.set_cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}
