//! What the loopback listener answers. No request text ever comes back, there is no CORS header,
//! and the code leaves the address bar with the first answer.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{Notify, watch};

use super::callback::{Inbox, Verdict};
use super::pages::{self, Ending};
use crate::clock::now_ms;

const CALLBACK: &str = "/callback";
/// Where the browser is sent, so that the code is not in its address bar or history any longer.
const DONE: &str = "/done";

/// What the connections of one sign-in share.
pub(crate) struct Answering {
    host: String,
    inbox: Arc<Inbox>,
    /// An answer was taken: `/done` exists.
    taken: AtomicBool,
    ending: watch::Receiver<Option<Ending>>,
    delivered: Arc<Notify>,
}

impl Answering {
    pub(crate) fn new(
        host: String,
        inbox: Arc<Inbox>,
        ending: watch::Receiver<Option<Ending>>,
    ) -> Self {
        Self {
            host,
            inbox,
            taken: AtomicBool::new(false),
            ending,
            delivered: Arc::default(),
        }
    }

    /// Resolves when the result page has been sent.
    pub(crate) async fn delivered(&self) {
        self.delivered.notified().await;
    }
}

/// Answers one request. `awaited` marks a connection that waits for the sign-in's end.
pub(crate) fn respond<B>(
    shared: &Answering,
    request: &Request<B>,
    awaited: &AtomicBool,
) -> Result<Response<PageBody>, hyper::http::Error> {
    let uri = request.uri();
    let hosts = || request.headers().get_all(header::HOST).iter();
    let right_host = hosts().count() == 1 && hosts().all(|host| host == shared.host.as_str());
    if !right_host || uri.authority().is_some() {
        return refused(StatusCode::BAD_REQUEST);
    }
    if uri.path() != CALLBACK && uri.path() != DONE {
        return refused(StatusCode::NOT_FOUND);
    }
    if request.method() != Method::GET {
        let mut response = refused(StatusCode::METHOD_NOT_ALLOWED)?;
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("GET"));
        return Ok(response);
    }
    if uri.path() == DONE {
        if !shared.taken.load(Ordering::Acquire) || uri.query().is_some() {
            return refused(StatusCode::NOT_FOUND);
        }
        awaited.store(true, Ordering::Relaxed);
        return page(StatusCode::OK, result_page(shared));
    }
    match shared.inbox.offer(uri.query().unwrap_or(""), now_ms()) {
        Verdict::Ignored => refused(StatusCode::BAD_REQUEST),
        Verdict::Taken => {
            shared.taken.store(true, Ordering::Release);
            let mut response = page(StatusCode::SEE_OTHER, PageBody::empty())?;
            response
                .headers_mut()
                .insert(header::LOCATION, HeaderValue::from_static(DONE));
            Ok(response)
        }
    }
}

/// "Finishing…" at once, the result when it is known.
fn result_page(shared: &Answering) -> PageBody {
    let mut ending = shared.ending.clone();
    let delivered = Arc::clone(&shared.delivered);
    let rest = async move {
        let known = ending
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|ending| *ending);
        let text = pages::ending(known.unwrap_or(Ending::Failed));
        (Bytes::from(text), Delivery(delivered))
    };
    PageBody {
        now: Some(Bytes::from(pages::finishing())),
        later: Some(Box::pin(rest)),
        delivery: None,
    }
}

fn refused(status: StatusCode) -> Result<Response<PageBody>, hyper::http::Error> {
    page(
        status,
        PageBody {
            now: Some(Bytes::from(pages::refused())),
            later: None,
            delivery: None,
        },
    )
}

fn page(status: StatusCode, body: PageBody) -> Result<Response<PageBody>, hyper::http::Error> {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "text/html; charset=utf-8")
        .header(header::CACHE_CONTROL, "no-store")
        .header(header::REFERRER_POLICY, "no-referrer")
        .header(
            header::CONTENT_SECURITY_POLICY,
            pages::content_security_policy(),
        )
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::X_FRAME_OPTIONS, "DENY")
        .header("Cross-Origin-Resource-Policy", "same-origin")
        .body(body)
}

type Later = Pin<Box<dyn Future<Output = (Bytes, Delivery)> + Send>>;

/// A page that may still be waiting for its second half.
pub(crate) struct PageBody {
    now: Option<Bytes>,
    later: Option<Later>,
    delivery: Option<Delivery>,
}

impl PageBody {
    fn empty() -> Self {
        Self {
            now: None,
            later: None,
            delivery: None,
        }
    }
}

/// Says so when it is dropped, with the body, after the page went out (or the browser went away).
struct Delivery(Arc<Notify>);

impl Drop for Delivery {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Body for PageBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(now) = self.now.take() {
            return Poll::Ready(Some(Ok(Frame::data(now))));
        }
        let Some(later) = self.later.as_mut() else {
            return Poll::Ready(None);
        };
        let (bytes, delivery) = match later.as_mut().poll(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(ready) => ready,
        };
        self.later = None;
        self.delivery = Some(delivery);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.now.is_none() && self.later.is_none()
    }
}
