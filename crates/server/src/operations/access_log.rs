//! One line a request, and its figures. The route's template stands in place of the path: paths hold
//! ids and invitations, queries hold codes. Cookies, tokens and bodies are never looked at.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use axum::extract::{ConnectInfo, FromRequestParts as _, MatchedPath, Request};
use axum::http::Method;
use axum::response::Response;
use tracing::Instrument as _;

use super::telemetry::Answered;
use super::{request_id, telemetry};
use crate::http::Peer;
use crate::server::App;

/// Around every request, outermost of ours.
pub(super) async fn around<Inner, Answer>(app: &App, request: Request, inner: Inner) -> Response
where
    Inner: FnOnce(Request) -> Answer,
    Answer: Future<Output = Response>,
{
    let began = Instant::now();
    let (mut parts, body) = request.into_parts();
    let connected = parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |info| info.0.ip());
    let by_trusted_proxy = app.settings.trusts_proxy(connected);
    let id = request_id::of(&parts.headers, by_trusted_proxy);
    let traces = app.operations.telemetry.as_ref();
    let trace = traces.and_then(|traces| traces.begin(&parts.headers, by_trusted_proxy));
    let Ok(peer) = Peer::from_request_parts(&mut parts, app).await;
    let route = parts
        .extensions
        .get::<MatchedPath>()
        .map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let method = method_name(&parts.method);

    let span = tracing::info_span!("request", id = %id, trace = tracing::field::Empty);
    if let Some(trace) = &trace {
        span.record("trace", trace.id());
    }
    let mut response = inner(Request::from_parts(parts, body))
        .instrument(span.clone())
        .await;
    let status = response.status();
    let took = began.elapsed();
    app.operations
        .metrics
        .count_request(&route, method, status, took);
    span.in_scope(|| {
        tracing::info!(
            target: "keywright_server::requests",
            method,
            route = %route,
            status = status.as_u16(),
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            peer = %peer.address,
            "answered"
        );
    });
    if let Some(trace) = trace {
        let answered = Answered {
            method,
            route: &route,
            status: status.as_u16(),
            took,
            client: peer.address,
            request_id: &id,
        };
        telemetry::record(app, trace, &answered);
    }
    if let Some(value) = request_id::value(&id) {
        response.headers_mut().insert(request_id::HEADER, value);
    }
    response
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
