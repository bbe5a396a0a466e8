//! A layer before any `tower` service over `http`: it lets requests with a good token through, with
//! the [`Claims`] among their extensions, and answers the others (RFC 6750 §3).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{AUTHORIZATION, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tower::{Layer, Service};

use crate::access_token::Offline;
use crate::claims::Claims;
use crate::error::TokenError;
use crate::introspection::{Online, is_token_byte};

/// A way to check a token: [`Offline`], [`Online`], or your own.
pub trait Check: Send + Sync + 'static {
    /// Checks a token.
    fn check(&self, token: &str) -> impl Future<Output = Result<Arc<Claims>, TokenError>> + Send;
}

impl Check for Offline {
    async fn check(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        Self::check(self, token).await.map(Arc::new)
    }
}

impl Check for Online {
    async fn check(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        Self::check(self, token).await
    }
}

/// Why a request is not let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No token: 401 without an error code (RFC 6750 §3.1).
    Missing,
    /// More than one token, or one that cannot be read: 400.
    InvalidRequest,
    /// 401, or 503 where the issuer cannot be asked.
    Token(TokenError),
    /// These scopes are needed: 403.
    InsufficientScope(String),
}

impl Refusal {
    /// Status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::Token(TokenError::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Missing | Self::Token(_) => StatusCode::UNAUTHORIZED,
            Self::InsufficientScope(_) => StatusCode::FORBIDDEN,
        }
    }

    /// The answer, with an empty body.
    #[must_use]
    pub fn response<B: Default>(&self) -> Response<B> {
        let mut response = Response::new(B::default());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self.challenge().map(HeaderValue::try_from) {
            Some(Ok(challenge)) => headers.insert(WWW_AUTHENTICATE, challenge),
            Some(Err(_)) => headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            None => headers.insert(RETRY_AFTER, HeaderValue::from_static("5")),
        };
        response
    }

    fn challenge(&self) -> Option<String> {
        Some(match self {
            Self::Missing => "Bearer".to_owned(),
            Self::InvalidRequest => "Bearer error=\"invalid_request\", \
                 error_description=\"send exactly one bearer token in the Authorization header\""
                .to_owned(),
            Self::Token(TokenError::Unavailable) => return None,
            Self::Token(problem) => format!(
                "Bearer error=\"invalid_token\", error_description=\"{}: {problem}\"",
                problem.code()
            ),
            Self::InsufficientScope(scope) => {
                format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"")
            }
        })
    }
}

impl Claims {
    /// Whether the token allows all of these (separated by spaces).
    ///
    /// # Errors
    /// [`Refusal::InsufficientScope`].
    pub fn require(&self, scopes: &str) -> Result<(), Refusal> {
        if scopes.split_whitespace().all(|scope| self.has_scope(scope)) {
            Ok(())
        } else {
            Err(Refusal::InsufficientScope(scopes.to_owned()))
        }
    }
}

/// The layer. Requests need a good token and the scopes of [`Gate::require`].
#[derive(Debug)]
pub struct Gate<C> {
    check: Arc<C>,
    scopes: Arc<str>,
}

impl<C> Clone for Gate<C> {
    fn clone(&self) -> Self {
        Self {
            check: Arc::clone(&self.check),
            scopes: Arc::clone(&self.scopes),
        }
    }
}

impl<C: Check> Gate<C> {
    /// Lets every good token through.
    pub fn new(check: C) -> Self {
        Self {
            check: Arc::new(check),
            scopes: "".into(),
        }
    }

    /// The same gate for requests that need all of these scopes (separated by spaces).
    #[must_use]
    pub fn require(&self, scopes: &str) -> Self {
        Self {
            check: Arc::clone(&self.check),
            scopes: scopes.into(),
        }
    }
}

impl<S, C> Layer<S> for Gate<C> {
    type Service = Gated<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated {
            inner,
            gate: self.clone(),
        }
    }
}

/// A service behind a [`Gate`].
#[derive(Debug)]
pub struct Gated<S, C> {
    inner: S,
    gate: Gate<C>,
}

impl<S: Clone, C> Clone for Gated<S, C> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            gate: self.gate.clone(),
        }
    }
}

impl<S, C, Req, Res> Service<Request<Req>> for Gated<S, C>
where
    S: Service<Request<Req>, Response = Response<Res>> + Clone + Send + 'static,
    S::Future: Send,
    C: Check,
    Req: Send + 'static,
    Res: Default,
{
    type Response = Response<Res>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Req>) -> Self::Future {
        // The one that is ready answers; its clone waits for the next request.
        let clone = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, clone);
        let gate = self.gate.clone();
        Box::pin(async move {
            // Nobody's claims but ours may stand here.
            request.extensions_mut().remove::<Arc<Claims>>();
            let token = match bearer_token(request.headers_mut()) {
                Ok(token) => token,
                Err(refusal) => return Ok(refusal.response()),
            };
            let claims = match gate.check.check(&token).await {
                Ok(claims) => claims,
                Err(problem) => return Ok(Refusal::Token(problem).response()),
            };
            if let Err(refusal) = claims.require(&gate.scopes) {
                return Ok(refusal.response());
            }
            request.extensions_mut().insert(claims);
            ready.call(request).await
        })
    }
}

/// The token of the one Authorization header; the header is marked so that nobody prints it.
fn bearer_token(headers: &mut HeaderMap) -> Result<String, Refusal> {
    for value in headers
        .iter_mut()
        .filter(|(name, _)| **name == AUTHORIZATION)
    {
        value.1.set_sensitive(true);
    }
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Err(Refusal::Missing),
        (Some(value), None) => value,
        (Some(_), Some(_)) => return Err(Refusal::InvalidRequest),
    };
    let text = value.to_str().map_err(|_| Refusal::InvalidRequest)?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        // Another way to prove oneself, which is not known here.
        return Err(Refusal::Missing);
    }
    let token = token.trim_matches(' ');
    if token.is_empty() || !token.bytes().all(is_token_byte) {
        return Err(Refusal::InvalidRequest);
    }
    Ok(token.to_owned())
}
