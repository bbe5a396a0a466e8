//! What the framework refuses by itself gets the same clear answer as what we refuse: a page for
//! browsers, a problem for programs. It never repeats what was sent.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use crate::pages;
use crate::problem::Problem;
use crate::server::App;

/// Whether somebody reads the answer as a page.
pub(super) fn is_by_browser(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kinds| kinds.contains("text/html"))
}

/// Around every request.
pub(super) async fn clear<Inner, Answer>(app: &App, request: Request, inner: Inner) -> Response
where
    Inner: FnOnce(Request) -> Answer,
    Answer: Future<Output = Response>,
{
    let by_browser = is_by_browser(request.headers());
    let response = inner(request).await;
    let Some(problem) = replacement(response.status(), response.headers()) else {
        return response;
    };
    // `Allow` and what else is said in headers stays.
    let mut headers = response.headers().clone();
    headers.remove(header::CONTENT_TYPE);
    headers.remove(header::CONTENT_LENGTH);
    let mut answer = if by_browser {
        pages::problem_page(&app.settings, &problem)
    } else {
        problem.into_response()
    };
    for (name, value) in &headers {
        if !answer.headers().contains_key(name) {
            answer.headers_mut().append(name.clone(), value.clone());
        }
    }
    answer
}

fn replacement(status: StatusCode, headers: &HeaderMap) -> Option<Problem> {
    let bare = headers
        .get(header::CONTENT_TYPE)
        .is_none_or(|kind| HeaderValue::as_bytes(kind).starts_with(b"text/plain"));
    if !bare {
        return None;
    }
    let (code, detail) = match status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
            ("bad_request", "the request is not as this address wants it")
        }
        StatusCode::NOT_FOUND => ("not_found", "there is nothing at this address"),
        StatusCode::METHOD_NOT_ALLOWED => (
            "method_not_allowed",
            "this address does not take this method: Allow names those that it takes",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => ("body_too_large", "the body is larger than allowed"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => (
            "unsupported_media_type",
            "the body is not of the type that this address takes",
        ),
        _ => return None,
    };
    Some(Problem::new(status, code, detail))
}
