//! What the JSON API of people has in common: pages of lists, bodies, wrong methods.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::http::Params;
use crate::problem::Problem;

/// No page of a list has more rows (AC-184).
pub(crate) const LARGEST_PAGE: u32 = 100;
const USUAL_PAGE: u32 = 50;

/// 405; the router adds `Allow` (S2-22).
pub(crate) async fn wrong_method() -> Problem {
    let detail = "this address has no such method: `Allow` names those it has";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

/// Which page of a list.
#[derive(Clone, Debug)]
pub(crate) struct PageAsked {
    /// `next_cursor` of the page before.
    pub(crate) cursor: Option<String>,
    /// 1 to 100.
    pub(crate) limit: u32,
    /// All parameters, for a list that has more of them.
    pub(crate) params: Params,
}

impl PageAsked {
    fn read(query: &str) -> Result<Self, Problem> {
        let params = Params::parse(query)
            .map_err(|error| Problem::bad_request("repeated_parameter", error.to_string()))?;
        let limit = match params.get("limit") {
            None => USUAL_PAGE,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=LARGEST_PAGE).contains(limit))
                .ok_or_else(|| {
                    let detail = format!("limit is 1 to {LARGEST_PAGE}");
                    Problem::bad_request("invalid_limit", detail)
                })?,
        };
        Ok(Self {
            cursor: params.get("cursor").map(str::to_owned),
            limit,
            params,
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PageAsked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::read(parts.uri.query().unwrap_or(""))
    }
}

/// Whether a body says that it is JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// A JSON body. Unknown members are refused where the type says so.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        if !is_json(request.headers()) {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            let problem =
                Problem::new(status, "json_required", "the body must be application/json");
            return Err(problem.into_response());
        }
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(IntoResponse::into_response)?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            // What was sent is not repeated: it may be a password.
            let detail = format!(
                "the body is not what this takes, at line {} column {}",
                error.line(),
                error.column()
            );
            Problem::bad_request("invalid_body", detail).into_response()
        })
    }
}

/// An answer with personal data: for nobody's cache.
pub(crate) fn private(value: &impl Serialize) -> Response {
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "Cookie"),
    ];
    (headers, Json(value)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ac_184_a_page_has_at_most_100_rows() {
        let limit = |query: &str| PageAsked::read(query).map(|page| page.limit);
        assert_eq!(limit("").unwrap(), USUAL_PAGE);
        assert_eq!(limit("limit=100").unwrap(), 100);
        for bad in ["limit=101", "limit=0", "limit=-1", "limit=x"] {
            assert_eq!(limit(bad).unwrap_err().code, "invalid_limit", "{bad}");
        }
        let twice = limit("limit=1&limit=2").unwrap_err();
        assert_eq!(twice.code, "repeated_parameter");
    }
}
