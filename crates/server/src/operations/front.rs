//! What most requests ask, answered before the router: a gateway's forward authentication, and one key
//! verified for a service with a root key. Only plain requests in the common form are answered here, by
//! the handlers' own code; everything else goes to the router unchanged. Limits, ids, figures, logs and
//! safe headers are the same on both ways. Why there are two: docs/decisions/0018-before-the-router.md.

mod body;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Request};
use axum::response::Response;
use axum::{BoxError, extract::ConnectInfo};
use tower::Service as _;
use tracing::Instrument as _;

use super::access_log::Begun;
use super::metrics::RouteFigures;
use super::outcome::Outcome;
use super::verifications::Door;
use super::{LARGEST_BODY, REQUEST_WITHIN, within};
use crate::http::{Peer, headers};
use crate::keys::{forward_auth, verify};
use crate::problem::Problem;
use crate::server::App;
pub(crate) use body::AnswerBody;

/// The router, and what is answered before it.
pub(crate) struct Front {
    app: App,
    router: Router,
    /// How long a request may take until its answer begins.
    limit: Duration,
    forward_auth: RouteFigures,
    verify: RouteFigures,
}

/// Headers that a connection keeps room for.
const MOST_ROOM: usize = 48;

/// What a plain request asks.
enum Ask {
    ForwardAuth,
    /// With so many bytes of body.
    Verify(usize),
}

impl Front {
    pub(crate) fn new(app: &App, router: Router) -> Self {
        let path = |path| app.settings.path(path);
        Self {
            app: App::clone(app),
            router,
            limit: REQUEST_WITHIN,
            forward_auth: RouteFigures::new(path("/verify"), "GET"),
            verify: RouteFigures::new(path("/api/v1/keys/verify"), "POST"),
        }
    }

    /// Answers a request. `connected` is the other end of the socket, where there is one.
    pub(crate) async fn answer<B>(
        &self,
        connected: Option<SocketAddr>,
        request: Request<B>,
    ) -> Response<AnswerBody>
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        match self.ask(&request) {
            Some(Ask::ForwardAuth) => {
                let (parts, _) = request.into_parts();
                self.forward_auth(connected, parts).await
            }
            Some(Ask::Verify(length)) => {
                let (mut parts, body) = request.into_parts();
                match self.verify(connected, &mut parts, body, length).await {
                    Ok(response) => response,
                    // Not in order, whatever it is: all of it is here.
                    Err(body) => {
                        let request = Request::from_parts(parts, body);
                        Box::pin(self.by_router(connected, request)).await
                    }
                }
            }
            // Boxed, so that what is answered here does not carry what the router needs.
            None => Box::pin(self.by_router(connected, request.map(Body::new))).await,
        }
    }

    async fn by_router(
        &self,
        connected: Option<SocketAddr>,
        mut request: Request<Body>,
    ) -> Response<AnswerBody> {
        if let Some(address) = connected {
            request.extensions_mut().insert(ConnectInfo(address));
        }
        let answer: Result<Response, Infallible> = self.router.clone().call(request).await;
        answer
            .unwrap_or_else(|never| match never {})
            .map(AnswerBody::from)
    }

    /// Looks at the head alone. In doubt it is none of them.
    fn ask<B: HttpBody>(&self, request: &Request<B>) -> Option<Ask> {
        let (uri, headers) = (request.uri(), request.headers());
        if uri.authority().is_some() || within::too_large(uri, headers).is_some() {
            return None;
        }
        let body = request.body();
        if request.method() == Method::GET && uri.path() == self.forward_auth.route() {
            return body.is_end_stream().then_some(Ask::ForwardAuth);
        }
        if request.method() == Method::POST
            && uri.path() == self.verify.route()
            && uri.query().is_none()
            && verify::ByRootKey::fits(headers)
        {
            let length = usize::try_from(body.size_hint().exact()?).ok()?;
            return (length <= LARGEST_BODY).then_some(Ask::Verify(length));
        }
        None
    }

    async fn forward_auth(
        &self,
        connected: Option<SocketAddr>,
        mut parts: Parts,
    ) -> Response<AnswerBody> {
        let begun = self.begin(connected, &parts);
        // Nothing is left to arrive.
        let arrived = AtomicBool::new(true);
        let answer = {
            let answer = pin!(async {
                let peer = Peer::at(begun.client(), &parts.headers);
                let (method, uri, headers) = (&parts.method, &parts.uri, &parts.headers);
                forward_auth::judged(&self.app, &peer, method, uri, headers).await
            });
            within::guarded(self.limit, None, &parts.method, &arrived, answer)
                .instrument(begun.span().clone())
                .await
        };
        let answer = match answer {
            Ok(Ok(accepted)) => {
                let outcome = accepted.outcome();
                let answer = accepted.answer(room(&mut parts.headers), AnswerBody::empty());
                Ok((answer, outcome))
            }
            Ok(Err(problem)) => {
                let (answer, outcome) = forward_auth::refused(problem);
                Ok((answer.map(AnswerBody::from), outcome))
            }
            Err(problem) => Err(problem),
        };
        self.end(begun, &self.forward_auth, answer)
    }

    /// # Errors
    /// The body, where it is not what it looked like.
    async fn verify<B>(
        &self,
        connected: Option<SocketAddr>,
        parts: &mut Parts,
        body: B,
        length: usize,
    ) -> Result<Response<AnswerBody>, Body>
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let begun = self.begin(connected, parts);
        let arrived = AtomicBool::new(false);
        let answer = {
            let headers = &parts.headers;
            let answer = pin!(async {
                let body = whole(body, length).await?;
                arrived.store(true, Ordering::Relaxed);
                let Some(asked) = verify::ByRootKey::read(headers, &body) else {
                    return Ok(Err(body));
                };
                let peer = Peer::at(begun.client(), headers);
                let answer = asked.answer(&self.app, &peer, headers, begun.id());
                answer.await.map(Ok)
            });
            within::guarded(self.limit, None, &parts.method, &arrived, answer)
                .instrument(begun.span().clone())
                .await
        };
        match answer {
            Ok(Ok(Ok((text, outcome)))) => {
                let answer = verify::json_answer(room(&mut parts.headers), AnswerBody::from(text));
                Ok(self.end(begun, &self.verify, Ok((answer, outcome))))
            }
            Ok(Ok(Err(body))) => Err(Body::from(body)),
            // It was given up, and is counted as that.
            Err(problem) => Ok(self.end(begun, &self.verify, Err(problem))),
            Ok(Err(problem)) => {
                self.app
                    .operations
                    .metrics
                    .count_unanswered(Door::Api, &problem);
                Ok(self.end(begun, &self.verify, Err(problem)))
            }
        }
    }

    fn begin(&self, connected: Option<SocketAddr>, parts: &Parts) -> Begun {
        let connected = connected.map(|address| address.ip());
        Begun::now(&self.app, connected, &parts.method, &parts.headers)
    }

    fn end(
        &self,
        begun: Begun,
        figures: &RouteFigures,
        answer: Result<(Response<AnswerBody>, Outcome), Problem>,
    ) -> Response<AnswerBody> {
        let (mut response, outcome) = answer.unwrap_or_else(|problem| {
            let (answer, outcome) = problem.into_parts();
            (answer.map(AnswerBody::from), outcome)
        });
        let metrics = &self.app.operations.metrics;
        let route = figures.route();
        begun.answered(&self.app, route, outcome, &mut response, |status, took| {
            metrics.count_on(figures, status, took)
        });
        headers::for_every_answer(&self.app, response.headers_mut());
        response
    }
}

/// The room of a request's headers, emptied, for those of its answer: hyper keeps it for the next request of the
/// connection.
fn room(headers: &mut HeaderMap) -> HeaderMap {
    let mut headers = std::mem::take(headers);
    if headers.capacity() > MOST_ROOM {
        // What somebody sent once is not kept for as long as they stay.
        return HeaderMap::new();
    }
    headers.clear();
    headers
}

/// All of a body that said how long it is.
async fn whole<B>(mut body: B, length: usize) -> Result<Bytes, Problem>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    let mut first = Bytes::new();
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame
            .map_err(|_| Problem::bad_request("invalid_body", "the body did not arrive whole"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        // Most come in one piece, which need not be copied.
        if first.is_empty() && all.is_empty() {
            first = data;
            if first.len() == length {
                break;
            }
        } else {
            if all.is_empty() {
                all.reserve(length);
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}
