//! Programs in browsers: the token and userinfo endpoints can be read from the origins of a public
//! client's own addresses, and from nowhere else; userinfo's refusals from everywhere. The authorization endpoint has no such thing (S13).

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::people::ClientType;

use crate::server::App;

/// What programs in browsers have to read of an answer's headers.
const EXPOSED: HeaderValue = HeaderValue::from_static("www-authenticate, dpop-nonce");

/// Answers `OPTIONS`. A preflight does not say which client asks, and lets nothing be read: every
/// origin may ask, the answer itself decides.
pub(crate) async fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, dpop",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// Lets every origin read an answer that tells nothing of anybody: a refusal. Never with cookies.
pub(crate) fn allow_everybody(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}

/// Lets the answer be read where the request's origin is one of this client's. Never with cookies.
pub(crate) async fn allow_client(
    app: &App,
    request: &HeaderMap,
    client_id: Option<&str>,
    response: &mut Response,
) {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let origin = request.get(header::ORIGIN);
    let Some((origin, id)) = origin.zip(client_id) else {
        return;
    };
    let Ok(client) = app.registry.find_client(id).await else {
        return;
    };
    let is_own = |uri: &String| {
        url::Url::parse(uri).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.origin().ascii_serialization().as_bytes() == origin.as_bytes()
        })
    };
    let public = client.settings.client_type == ClientType::Public;
    if public && client.disabled_at.is_none() && client.settings.redirect_uris.iter().any(is_own) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}
