//! Parameters of OAuth requests and of our forms: unknown ones are ignored by who reads them.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

pub(crate) use super::pairs::{Params, Repeated};
use crate::problem::OAuthError;

impl Params {
    /// A parameter that must be there.
    pub(crate) fn require(&self, name: &'static str) -> Result<&str, OAuthError> {
        self.get(name)
            .ok_or_else(|| OAuthError::new("invalid_request", format!("{name} is missing")))
    }
}

impl From<Repeated> for OAuthError {
    fn from(repeated: Repeated) -> Self {
        Self::new("invalid_request", repeated.to_string())
    }
}

/// A form in a body. The wrong content type or a parameter that comes twice is refused.
#[derive(Clone, Debug)]
pub(crate) struct FormParams(pub(crate) Params);

impl<S: Send + Sync> FromRequest<S> for FormParams {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let essence = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(|value| {
                value
                    .split(';')
                    .next()
                    .unwrap_or("")
                    .trim()
                    .to_ascii_lowercase()
            });
        let length = request.headers().get(header::CONTENT_LENGTH);
        let empty = length.is_none_or(|length| length == "0");
        if essence.as_deref() != Some("application/x-www-form-urlencoded")
            && !(essence.is_none() && empty)
        {
            let mut error = OAuthError::new(
                "invalid_request",
                "the body must be application/x-www-form-urlencoded",
            );
            error.status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(error.into_response());
        }
        let body = Bytes::from_request(request, state)
            .await
            .map_err(IntoResponse::into_response)?;
        let text = std::str::from_utf8(&body).map_err(|_| {
            OAuthError::new("invalid_request", "the body is not UTF-8").into_response()
        })?;
        Params::parse(text)
            .map(Self)
            .map_err(|repeated| OAuthError::from(repeated).into_response())
    }
}
