//! What handlers of axum take.

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use crate::api_keys::VerifiedKey;
use crate::claims::Claims;
use crate::gate::Refusal;

/// The claims of the request's token, which the [`Gate`](crate::Gate) before the handler checked.
#[derive(Clone, Debug)]
pub struct Authorized(pub Arc<Claims>);

impl Deref for Authorized {
    type Target = Claims;

    fn deref(&self) -> &Claims {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Authorized {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        match parts.extensions.get::<Arc<Claims>>() {
            Some(claims) => Ok(Self(Arc::clone(claims))),
            None => {
                // A mistake in the service: fail closed and say where to look.
                tracing::error!("a handler takes Authorized, but no Gate is before it");
                Err(StatusCode::INTERNAL_SERVER_ERROR.into_response())
            }
        }
    }
}

/// The request's API key, which the [`KeyGate`](crate::KeyGate) before the handler verified.
#[derive(Clone, Debug)]
pub struct ApiKey(pub Arc<VerifiedKey>);

impl Deref for ApiKey {
    type Target = VerifiedKey;

    fn deref(&self) -> &VerifiedKey {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ApiKey {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        match parts.extensions.get::<Arc<VerifiedKey>>() {
            Some(key) => Ok(Self(Arc::clone(key))),
            None => {
                tracing::error!("a handler takes ApiKey, but no KeyGate is before it");
                Err(StatusCode::INTERNAL_SERVER_ERROR.into_response())
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.response()
    }
}
