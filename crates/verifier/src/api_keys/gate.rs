//! A layer before any `tower` service over `http`: it lets requests with a good API key through, with
//! the [`VerifiedKey`] among their extensions, and answers the others.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{AUTHORIZATION, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tower::{Layer, Service};

use super::{ApiKeys, KeyError, KeyRequest, VerifiedKey};

/// What every key of ours has in it.
const MARKER: &str = "KYWRT1";

/// Where a request came from, as somebody before the gate found out who knows the proxies: put it among
/// the request's extensions. Without it the connection's own address counts (axum's `ConnectInfo`).
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

/// The layer. Keys come as `Authorization: Bearer` or `X-API-Key`; a key in the address is refused.
#[derive(Clone, Debug)]
pub struct KeyGate {
    keys: ApiKeys,
    requirement: Option<Arc<str>>,
    environment: Option<Arc<str>>,
}

impl KeyGate {
    /// Lets every good key through.
    #[must_use]
    pub fn new(keys: ApiKeys) -> Self {
        Self {
            keys,
            requirement: None,
            environment: None,
        }
    }

    /// The same gate for requests that need this scope, or scopes joined by `and`, `or` and parentheses.
    #[must_use]
    pub fn require(&self, requirement: &str) -> Self {
        Self {
            requirement: Some(requirement.into()),
            ..self.clone()
        }
    }

    /// The same gate for resources of this environment.
    #[must_use]
    pub fn environment(&self, environment: &str) -> Self {
        Self {
            environment: Some(environment.into()),
            ..self.clone()
        }
    }
}

impl<S> Layer<S> for KeyGate {
    type Service = KeyGated<S>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyGated {
            inner,
            gate: self.clone(),
        }
    }
}

/// A service behind a [`KeyGate`].
#[derive(Clone, Debug)]
pub struct KeyGated<S> {
    inner: S,
    gate: KeyGate,
}

/// Why a request is not let through.
enum Refused {
    Missing,
    Request(&'static str),
    Key(KeyError),
}

impl<S, Req, Res> Service<Request<Req>> for KeyGated<S>
where
    S: Service<Request<Req>, Response = Response<Res>> + Clone + Send + 'static,
    S::Future: Send,
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
            // Nobody's key but ours may stand here.
            request.extensions_mut().remove::<Arc<VerifiedKey>>();
            match gate.check(&mut request).await {
                Ok(key) => {
                    request.extensions_mut().insert(key);
                    ready.call(request).await
                }
                Err(refused) => Ok(refused.response()),
            }
        })
    }
}

impl KeyGate {
    async fn check<B>(&self, request: &mut Request<B>) -> Result<Arc<VerifiedKey>, Refused> {
        let in_address = request
            .uri()
            .path_and_query()
            .is_some_and(|text| text.as_str().contains(MARKER));
        if in_address {
            return Err(Refused::Request("key_in_url"));
        }
        let key = presented(request.headers_mut())?;
        let address = address(request.extensions());
        // Owned: the request's body need not be shared between threads.
        let [origin, agent] = ["origin", "user-agent"].map(|name| {
            let value = request.headers().get(name);
            value
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        });
        let asked = KeyRequest {
            key: &key,
            requirement: self.requirement.as_deref(),
            environment: self.environment.as_deref(),
            key_types: &[],
            address,
            origin: origin.as_deref(),
            agent: agent.as_deref(),
            route: None,
        };
        self.keys.verify(&asked).await.map_err(Refused::Key)
    }
}

fn address(extensions: &http::Extensions) -> Option<IpAddr> {
    let told = extensions.get::<ClientAddress>().map(|client| client.0);
    #[cfg(feature = "axum")]
    let told = told.or_else(|| {
        let connected = extensions.get::<axum::extract::ConnectInfo<std::net::SocketAddr>>();
        connected.map(|info| info.0.ip())
    });
    told
}

/// The key of `Authorization: Bearer` or `X-API-Key`; both may come if they are equal. The headers are
/// marked so that nobody prints them.
fn presented(headers: &mut HeaderMap) -> Result<String, Refused> {
    const AMBIGUOUS: Refused = Refused::Request("ambiguous_credentials");
    let is_ours = |name: &http::HeaderName| *name == AUTHORIZATION || name.as_str() == "x-api-key";
    for (_, value) in headers.iter_mut().filter(|(name, _)| is_ours(name)) {
        value.set_sensitive(true);
    }
    let only = |name: &str| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().map(Some).map_err(|_| AMBIGUOUS),
            _ => Err(AMBIGUOUS),
        }
    };
    let (header, plain) = (only("authorization")?, only("x-api-key")?);
    let bearer = header
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, rest)| rest.trim());
    if plain.is_some() && header.is_some() && bearer.is_none() {
        return Err(AMBIGUOUS);
    }
    match (bearer, plain.map(str::trim)) {
        (Some(one), Some(other)) if one != other => Err(AMBIGUOUS),
        (Some(key), _) | (None, Some(key)) => Ok(key.to_owned()),
        (None, None) => Err(Refused::Missing),
    }
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

    /// The answer, with an empty body.
    fn response<B: Default>(&self) -> Response<B> {
        let mut response = Response::new(B::default());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let challenge = match self {
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
        };
        if let Some(challenge) = challenge {
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
        response
    }
}
