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
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use hyper::body::{Frame, SizeHint};
use tokio::task::coop::{Unconstrained, unconstrained};

use crate::problem::Problem;

/// Authorization requests with all their parameters are the longest addresses.
const LONGEST_ADDRESS: usize = 16 * 1024;
const LARGEST_HEADERS: usize = 32 * 1024;

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
    guarded(limit, &arrived, pin!(inner(request)))
        .await
        .unwrap_or_else(|problem| problem.into_response())
}

/// Runs what answers a request: within its time, and with a panic caught. `arrived`: whether the whole
/// request is here. What runs stays where it is: moving it costs more than some answers do.
///
/// # Errors
/// 500 after a panic, 408 if the request did not arrive in time, 503 if the answer took too long.
pub(super) async fn guarded<T>(
    limit: Duration,
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
        match late.as_mut().as_pin_mut() {
            Some(late) => late.poll(context).map(|()| Err(())),
            None => Poll::Pending,
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
        Err(()) => {
            let mut problem = Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "timed_out",
                "the answer took too long: try again in a moment",
            );
            problem.retry_after_s = Some(5);
            Err(problem)
        }
    }
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
