//! Limits on one request: its time, the length of its address and of its headers; and a handler that
//! panics is answered for, without what it said.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use hyper::body::{Frame, SizeHint};
use tokio::task::coop::{Unconstrained, unconstrained};

use crate::problem::Problem;

/// Authorization requests with all their parameters are the longest addresses.
const LONGEST_ADDRESS: usize = 16 * 1024;
const LARGEST_HEADERS: usize = 32 * 1024;

/// What goes through a whole registry has so much time: its answer cannot begin before its end.
const LONG: Duration = Duration::from_secs(15 * 60);

/// How long an answer may take in all, for what goes through a whole registry; none for everything else.
fn long(request: &Request) -> Option<Duration> {
    let (method, path) = (request.method(), request.uri().path());
    let is = |wanted: &Method, end: &str| method == wanted && path.ends_with(end);
    let long = is(&Method::POST, "/api/v1/import")
        || is(&Method::POST, "/api/v1/hygiene/campaigns")
        || is(&Method::GET, "/api/v1/hygiene")
        || is(&Method::GET, "/api/v1/audit/verify");
    long.then_some(LONG)
}

/// Around every request.
pub(super) async fn limits<Inner, Answer>(
    limit: Duration,
    request: Request,
    inner: Inner,
) -> Response
where
    Inner: FnOnce(Request) -> Answer,
    Answer: Future<Output = Response>,
{
    if let Some(problem) = too_large(request.uri(), request.headers()) {
        return problem.into_response();
    }
    let (more, method) = (long(&request), request.method().clone());
    let arrived = Arc::new(AtomicBool::new(request.body().is_end_stream()));
    // Most requests have no body: nothing is watched then.
    let request = if arrived.load(Ordering::Relaxed) {
        request
    } else {
        request.map(|inner| {
            Body::new(Watched {
                inner,
                arrived: Arc::clone(&arrived),
            })
        })
    };
    guarded(limit, more, &method, &arrived, pin!(inner(request)))
        .await
        .unwrap_or_else(|problem| problem.into_response())
}

/// Runs what answers a request: within its time, and with a panic caught. `arrived`: whether the whole
/// request is here; once it is, an answer may take until `more` where that is said. What runs stays where it is:
/// moving it costs more than some answers do.
///
/// # Errors
/// 500 after a panic, 408 if the request did not arrive in time, 503 if the answer took too long.
pub(super) async fn guarded<T>(
    limit: Duration,
    mut more: Option<Duration>,
    method: &Method,
    arrived: &AtomicBool,
    mut running: Pin<&mut impl Future<Output = T>>,
) -> Result<T, Problem> {
    let mut late = pin!(None::<Unconstrained<tokio::time::Sleep>>);
    let ended = poll_fn(|context| {
        // A panic ends this request alone. Nothing that is shared is left half done: what handlers
        // change, they change in the registry's transactions.
        match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(context))) {
            Ok(Poll::Ready(answer)) => return Poll::Ready(Ok(Some(answer))),
            Ok(Poll::Pending) => {}
            Err(_) => return Poll::Ready(Ok(None)),
        }
        // Most answers wait for nothing, and need no clock. It is looked at even if what runs took all
        // that tokio lets a task do in one turn.
        if late.is_none() {
            late.set(Some(unconstrained(tokio::time::sleep(limit))));
        }
        loop {
            let Some(clock) = late.as_mut().as_pin_mut() else {
                return Poll::Pending;
            };
            if clock.poll(context).is_pending() {
                return Poll::Pending;
            }
            let Some(more) = more.take().filter(|_| arrived.load(Ordering::Relaxed)) else {
                return Poll::Ready(Err(()));
            };
            let rest = more.saturating_sub(limit);
            late.set(Some(unconstrained(tokio::time::sleep(rest))));
        }
    })
    .await;
    match ended {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => {
            tracing::error!("a handler panicked");
            let detail = "something is wrong with the server: tell whoever runs it, with the id in X-Request-Id";
            Err(Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal_error",
                detail,
            ))
        }
        Err(()) if !arrived.load(Ordering::Relaxed) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_too_slow",
            "the request did not arrive in time",
        )),
        Err(()) => Err(timed_out(method)),
    }
}

/// What runs is dropped. A write whose turn had come is carried out all the same, so what may have changed something
/// is not called undone, and nobody is told to send it again as it was.
fn timed_out(method: &Method) -> Problem {
    let problem = |detail| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timed_out", detail);
    if method.is_safe() {
        let mut problem = problem("the answer took too long: try again in a moment");
        problem.retry_after_s = Some(5);
        return problem;
    }
    problem(
        "the answer took too long, and whether it was done is not known: look, or ask again under the same \
         Idempotency-Key",
    )
}

pub(super) fn too_large(uri: &Uri, headers: &HeaderMap) -> Option<Problem> {
    let address = uri.path_and_query().map_or(0, |text| text.as_str().len());
    if address > LONGEST_ADDRESS {
        return Some(Problem::new(
            StatusCode::URI_TOO_LONG,
            "address_too_long",
            format!("an address has at most {LONGEST_ADDRESS} bytes"),
        ));
    }
    let size: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    (size > LARGEST_HEADERS).then(|| {
        Problem::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "headers_too_large",
            format!("all headers together have at most {LARGEST_HEADERS} bytes"),
        )
    })
}

/// A body that says whether all of it has arrived.
struct Watched {
    inner: Body,
    arrived: Arc<AtomicBool>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) || self.inner.is_end_stream() {
            self.arrived.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_goes_through_a_whole_registry_has_longer_once_it_has_arrived() {
        const LIMIT: Duration = Duration::from_millis(200);
        const MORE: Option<Duration> = Some(Duration::from_millis(1_500));
        let request = |method: &Method, path: &str| {
            let request = Request::builder().method(method).uri(path);
            request.body(Body::empty()).expect("a request")
        };
        for (method, path) in [
            (Method::POST, "/api/v1/import?dry_run=true"),
            (Method::POST, "/at/a/path/api/v1/hygiene/campaigns"),
            (Method::GET, "/api/v1/hygiene?days=30"),
            (Method::GET, "/api/v1/audit/verify"),
        ] {
            let more = long(&request(&method, path));
            assert_eq!(more, Some(LONG), "{method} {path}");
        }
        for (method, path) in [
            (Method::GET, "/api/v1/keys"),
            (Method::GET, "/api/v1/hygiene/campaigns"),
            (Method::POST, "/oauth2/token"),
        ] {
            assert_eq!(long(&request(&method, path)), None, "{method} {path}");
        }
        let takes = async |ms: u64, more: Option<Duration>, arrived: bool| {
            let work = pin!(tokio::time::sleep(Duration::from_millis(ms)));
            let arrived = AtomicBool::new(arrived);
            let ended = guarded(LIMIT, more, &Method::POST, &arrived, work).await;
            ended.map_err(|problem| problem.code)
        };
        assert_eq!(takes(1, None, true).await, Ok(()));
        assert_eq!(takes(60_000, None, true).await, Err("timed_out"));
        assert_eq!(takes(400, MORE, true).await, Ok(()));
        assert_eq!(takes(60_000, MORE, true).await, Err("timed_out"));
        // Whoever sends slowly has no longer than anybody.
        let slow = takes(900_000, Some(LONG), false);
        let ended = tokio::time::timeout(Duration::from_secs(60), slow).await;
        assert_eq!(ended, Ok(Err("request_too_slow")));
    }
}
