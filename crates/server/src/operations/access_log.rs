//! One line a request, and its figures. The route's template stands in place of the path: paths hold
//! ids and invitations, queries hold codes. Cookies, tokens and bodies are never looked at. Why a key was
//! refused is told by its code and by the kid, which is public.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, MatchedPath, Request};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use tracing::Instrument as _;

use super::outcome::{Outcome, REQUESTS, is_logged};
use super::telemetry::{Answered, Trace};
use super::{request_id, telemetry};
use crate::http::peer::client_address;
use crate::server::App;

/// What machines ask again and again.
const PROBES: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Around every request, outermost of ours.
pub(super) async fn around<Inner, Answer>(app: &App, mut request: Request, inner: Inner) -> Response
where
    Inner: FnOnce(Request) -> Answer,
    Answer: Future<Output = Response>,
{
    let connected = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let connected = connected.map(|info| info.0.ip());
    let begun = Begun::now(app, connected, request.method(), request.headers());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let id = request_id::RequestId(begun.id.clone());
    request.extensions_mut().insert(id);
    let mut response = inner(request).instrument(begun.span().clone()).await;
    let metrics = &app.operations.metrics;
    let method = begun.method;
    let outcome = Outcome::taken_from(&mut response);
    begun.answered(app, &route, outcome, &mut response, |status, took| {
        metrics.count_request(&route, method, status, took);
    });
    response
}

/// A request that is not answered yet.
pub(super) struct Begun {
    at: Instant,
    id: String,
    client: IpAddr,
    method: &'static str,
    trace: Option<Trace>,
    span: tracing::Span,
}

impl Begun {
    /// Begins. `connected` is the other end of the socket, where there is one.
    pub(super) fn now(
        app: &App,
        connected: Option<IpAddr>,
        method: &Method,
        headers: &HeaderMap,
    ) -> Self {
        let at = Instant::now();
        let connected = connected.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let by_trusted_proxy = app.settings.trusts_proxy(connected);
        let id = request_id::of(headers, by_trusted_proxy);
        let traces = app.operations.telemetry.as_ref();
        let trace = traces.and_then(|traces| traces.begin(headers, by_trusted_proxy));
        let span = tracing::info_span!("request", id = %id, trace = tracing::field::Empty);
        if let Some(trace) = &trace {
            span.record("trace", trace.id());
        }
        Self {
            at,
            id,
            client: client_address(&app.settings, connected, headers),
            method: method_name(method),
            trace,
            span,
        }
    }

    /// What every line of the log that the request causes belongs to.
    pub(super) fn span(&self) -> &tracing::Span {
        &self.span
    }

    /// Its id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Who asks.
    pub(super) fn client(&self) -> IpAddr {
        self.client
    }

    /// Writes down what came of it, and puts the id into the answer. `count` takes it into the figures.
    pub(super) fn answered<B>(
        self,
        app: &App,
        route: &str,
        outcome: Outcome,
        response: &mut Response<B>,
        count: impl FnOnce(StatusCode, Duration),
    ) {
        let (status, took) = (response.status(), self.at.elapsed());
        count(status, took);
        macro_rules! tell {
            ($level:ident) => {
                tracing::$level!(
                    target: REQUESTS,
                    method = self.method,
                    route = %route,
                    status = status.as_u16(),
                    code = outcome.code,
                    kid = outcome.kid.as_deref(),
                    keys = outcome.keys,
                    ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                    peer = %self.client,
                    "answered"
                )
            };
        }
        self.span.in_scope(|| {
            if !is_logged() {
                return;
            }
            // They come every few seconds for ever, and say nothing.
            if status.is_success() && PROBES.iter().any(|probe| route.ends_with(probe)) {
                tell!(debug);
            } else {
                tell!(info);
            }
        });
        if let Some(trace) = self.trace {
            let answered = Answered {
                method: self.method,
                route,
                status: status.as_u16(),
                took,
                client: self.client,
                request_id: &self.id,
            };
            telemetry::record(app, trace, &answered);
        }
        if let Some(value) = request_id::value(self.id) {
            response.headers_mut().insert(request_id::HEADER, value);
        }
    }
}

/// A method's name. Anybody can make methods up, and each would be one more line of figures.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
