//! A layer before any `tower` service over `http`: it lets requests with a good API key through, with
//! the [`VerifiedKey`] among their extensions, and answers the others.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response, Uri};
use tower::{Layer, Service};

use super::in_url::in_url;
use super::refused::{Refused, write_limit};
use super::{ApiKeys, KeyRequest, VerifiedKey};

/// Where a request came from, as somebody before the gate found out who knows the proxies: put it among
/// the request's extensions. Without it the connection's own address counts (axum's `ConnectInfo`).
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

/// The layer. Keys come as `Authorization: Bearer` or `X-API-Key`; a key in the address is refused, and the server
/// is told of it, so that it flags the key and tells its owner. Refusals are problems (RFC 9457) with the server's
/// codes, which `X-Keywright-Code` repeats; answers to keys with limits say how they stand.
#[derive(Clone, Debug)]
pub struct KeyGate {
    keys: ApiKeys,
    requirement: Option<Arc<str>>,
    environment: Option<Arc<str>>,
    types: Arc<[Box<str>]>,
    route: Option<Arc<str>>,
    /// Parameters that carry keys; none: those that most services have for it.
    names: Option<Arc<[Box<str>]>>,
}

impl KeyGate {
    /// Lets every good key through.
    #[must_use]
    pub fn new(keys: ApiKeys) -> Self {
        Self {
            keys,
            requirement: None,
            environment: None,
            types: Arc::default(),
            route: None,
            names: None,
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

    /// The same gate for what only keys of these types may do: `secret`, `publishable`, `root`, `custom`. None:
    /// all of them.
    #[must_use]
    pub fn types(&self, types: &[&str]) -> Self {
        Self {
            types: types.iter().map(|one| (*one).into()).collect(),
            ..self.clone()
        }
    }

    /// The same gate for a part of the service that has this name, for example `GET /orders`: owners are told of
    /// their keys' uses by it. Without one it is the method and axum's route (feature `axum`). Never a path with
    /// ids: routes are counted, not requests.
    #[must_use]
    pub fn route(&self, route: &str) -> Self {
        Self {
            route: Some(route.into()),
            ..self.clone()
        }
    }

    /// The same gate for a service whose own query parameters are called as those for keys are: these names carry keys
    /// here, in place of `api_key`, `apikey`, `api-key`, `key`, `access_token` and `token`. None at all (`&[]`): what
    /// stands under a name is the service's own, and only keys of Keywright's form are refused, wherever they stand.
    /// Keys that were imported from other makers are found by names alone.
    #[must_use]
    pub fn key_parameters(&self, names: &[&str]) -> Self {
        Self {
            names: Some(names.iter().map(|one| (*one).into()).collect()),
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

impl<S, Req, Res> Service<Request<Req>> for KeyGated<S>
where
    S: Service<Request<Req>, Response = Response<Res>> + Clone + Send + 'static,
    S::Future: Send,
    Req: Send + 'static,
    Res: Default + 'static,
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
                    request.extensions_mut().insert(Arc::clone(&key));
                    let mut answer = ready.call(request).await;
                    if let (Ok(response), Some(limit)) = (&mut answer, &key.limit) {
                        write_limit(limit, response.headers_mut());
                    }
                    answer
                }
                Err(refused) => Ok(refused.response()),
            }
        })
    }
}

impl KeyGate {
    async fn check<B>(&self, request: &mut Request<B>) -> Result<Arc<VerifiedKey>, Refused> {
        let address = address(request.extensions());
        let path_and_query = asked_for(request).path_and_query();
        let names = self.names.as_deref();
        if let Some(texts) = path_and_query.and_then(|text| in_url(text.as_str(), names)) {
            self.keys.tell_later(texts, address);
            return Err(Refused::Request("key_in_url"));
        }
        let key = presented(request.headers_mut())?;
        let route = self.route_of(request);
        let types: Vec<&str> = self.types.iter().map(|one| &**one).collect();
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
            key_types: &types,
            address,
            origin: origin.as_deref(),
            agent: agent.as_deref(),
            route: route.as_deref(),
        };
        self.keys.verify(&asked).await.map_err(Refused::Key)
    }

    fn route_of<B>(&self, request: &Request<B>) -> Option<Arc<str>> {
        #[cfg(feature = "axum")]
        if self.route.is_none() {
            let matched = request.extensions().get::<axum::extract::MatchedPath>()?;
            return Some(format!("{} {}", request.method(), matched.as_str()).into());
        }
        #[cfg(not(feature = "axum"))]
        let _ = request;
        self.route.clone()
    }
}

/// The address that the client asked for: under axum's `nest` a request has only the rest of it.
fn asked_for<B>(request: &Request<B>) -> &Uri {
    #[cfg(feature = "axum")]
    if let Some(whole) = request.extensions().get::<axum::extract::OriginalUri>() {
        return &whole.0;
    }
    request.uri()
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
