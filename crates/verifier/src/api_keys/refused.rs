//! What is answered to a request that is not let through: a problem (RFC 9457) with a stable code, a challenge
//! (RFC 6750 §3), and how the limit stands (draft-ietf-httpapi-ratelimit-headers).

use std::any::Any;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde_json::json;

use super::{KeyError, KeyLimit};

/// The code, for bodies that cannot have it.
const CODE: HeaderName = HeaderName::from_static("x-keywright-code");

/// Why a request is not let through.
pub(super) enum Refused {
    Missing,
    Request(&'static str),
    Key(KeyError),
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::Missing => StatusCode::UNAUTHORIZED,
            Self::Request(_) => StatusCode::BAD_REQUEST,
            Self::Key(KeyError::InsufficientScope(_)) => StatusCode::FORBIDDEN,
            Self::Key(KeyError::Limited { .. }) => StatusCode::TOO_MANY_REQUESTS,
            Self::Key(KeyError::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Key(KeyError::Refused(code)) => match code.as_str() {
                "ip_not_allowed" | "origin_not_allowed" | "wrong_environment"
                | "key_type_forbidden" => StatusCode::FORBIDDEN,
                _ => StatusCode::UNAUTHORIZED,
            },
        }
    }

    /// The server's own codes.
    fn code(&self) -> &str {
        match self {
            Self::Missing => "credentials_missing",
            Self::Request(code) => code,
            Self::Key(KeyError::InsufficientScope(_)) => "insufficient_scope",
            Self::Key(KeyError::Limited { code, .. } | KeyError::Refused(code)) => code,
            Self::Key(KeyError::Unavailable) => "store_unavailable",
        }
    }

    fn detail(&self) -> &'static str {
        match self {
            Self::Missing => "this needs an API key",
            Self::Request("key_in_url") => "a key in a URL is in logs by now: rotate it",
            Self::Request(_) => "two different credentials came together: send one of them",
            Self::Key(KeyError::InsufficientScope(_)) => "the key lacks a scope",
            Self::Key(KeyError::Limited { .. }) => "the key is used too often",
            Self::Key(KeyError::Unavailable) => {
                "keys cannot be verified now: try again in a moment"
            }
            Self::Key(KeyError::Refused(_)) => "the key is not accepted here",
        }
    }

    fn challenge(&self) -> Option<String> {
        match self {
            Self::Missing => Some("Bearer".to_owned()),
            Self::Request(code) => Some(format!(
                "Bearer error=\"invalid_request\", error_description=\"{code}\""
            )),
            Self::Key(KeyError::Refused(code)) => Some(format!(
                "Bearer error=\"invalid_token\", error_description=\"{code}\""
            )),
            Self::Key(KeyError::InsufficientScope(scopes)) => Some(format!(
                "Bearer error=\"insufficient_scope\", scope=\"{}\"",
                scopes.join(" ")
            )),
            Self::Key(KeyError::Limited { .. } | KeyError::Unavailable) => None,
        }
    }

    /// The answer. Bodies of axum, texts and bytes hold the problem; of others nothing is known, and they are empty.
    pub(super) fn response<B: Default + 'static>(&self) -> Response<B> {
        let status = self.status();
        let problem = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "code": self.code(),
            "detail": self.detail(),
        });
        let body = body_of::<B>(problem.to_string());
        let has_body = body.is_some();
        let mut response = Response::new(body.unwrap_or_default());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if has_body {
            let kind = HeaderValue::from_static("application/problem+json");
            headers.insert(CONTENT_TYPE, kind);
        }
        if let Ok(code) = HeaderValue::from_str(self.code()) {
            headers.insert(CODE, code);
        }
        if let Some(challenge) = self.challenge() {
            let value = HeaderValue::try_from(challenge);
            let value = value.unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
            headers.insert(WWW_AUTHENTICATE, value);
        }
        let seconds = match self {
            Self::Key(KeyError::Limited { retry_after_s, .. }) => *retry_after_s,
            Self::Key(KeyError::Unavailable) => Some(1),
            _ => None,
        };
        if let Some(seconds) = seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Self::Key(KeyError::Limited {
            limit: Some(limit), ..
        }) = self
        {
            write_limit(limit, headers);
        }
        response
    }
}

/// A body with this text, where the type is one of those that are known to hold texts.
fn body_of<B: 'static>(text: String) -> Option<B> {
    let mut text = Some(text);
    let mut bytes = text.clone().map(String::into_bytes);
    #[cfg(feature = "axum")]
    let mut of_axum = text.clone().map(axum::body::Body::from);
    let bodies: Vec<&mut dyn Any> = vec![
        &mut text,
        &mut bytes,
        #[cfg(feature = "axum")]
        &mut of_axum,
    ];
    let mut bodies = bodies.into_iter();
    let body = bodies.find_map(|body| body.downcast_mut::<Option<B>>());
    body.and_then(Option::take)
}

/// Writes how a limit stands; what the service itself says of its limits stays.
pub(super) fn write_limit(limit: &KeyLimit, headers: &mut HeaderMap) {
    let KeyLimit {
        name,
        count,
        period_ms,
        burst,
        left,
        reset_ms,
    } = limit;
    let (window_s, reset_s) = (period_ms.div_ceil(1000), reset_ms.div_ceil(1000));
    let capacity = count.saturating_add(*burst);
    for (field, text) in [
        ("ratelimit", format!("\"{name}\";r={left};t={reset_s}")),
        (
            "ratelimit-policy",
            format!("\"{name}\";q={count};w={window_s}"),
        ),
        ("x-ratelimit-limit", capacity.to_string()),
        ("x-ratelimit-remaining", left.to_string()),
        ("x-ratelimit-reset", reset_s.to_string()),
    ] {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.entry(field).or_insert(value);
        }
    }
}
