//! No text of a request holds U+0000. PostgreSQL has no place for it and SQLite has, so that the same request would
//! fail at one database and be carried out at the other. It is refused before anything is looked at: here for
//! addresses, JSON and forms of all routes, where a header is decoded
//! (`oauth2::basic`, `oauth2::client_assertion`), and by the registry itself for whoever comes another way.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::{Frame, SizeHint};

use super::{LARGEST_BODY, answers};
use crate::pages;
use crate::problem::{OAuthError, Problem};
use crate::server::App;

/// Bodies of these addresses may hold anything. A key that a stranger presented, or found somewhere, is no key then
/// and is answered as any other that is none: nobody loses the answers to the other keys of the request, nor is a key
/// that leaked left alone for what was written beside it. Lines of an import are refused one by one.
const ANYTHING: [&str; 4] = [
    "/api/v1/keys/verify",
    "/api/v1/import",
    "/found-key",
    "/github/secret-scanning",
];

/// Whom a refusal is for.
#[derive(Clone, Copy)]
enum Reader {
    Person,
    OAuthClient,
    Program,
}

/// Around every request.
pub(super) async fn none_in<Inner, Answer>(app: &App, request: Request, inner: Inner) -> Response
where
    Inner: FnOnce(Request) -> Answer,
    Answer: Future<Output = Response>,
{
    let path = request.uri().path();
    let path = path.strip_prefix(&*app.settings.base_path).unwrap_or(path);
    let reader = if answers::is_by_browser(request.headers()) {
        Reader::Person
    } else if path.starts_with("/oauth2/") {
        Reader::OAuthClient
    } else {
        Reader::Program
    };
    // What stands behind it is the address of another service, where it may mean something.
    let asks_about_another = path
        .strip_prefix("/verify")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let address = request.uri().path_and_query();
    if !asks_about_another && address.is_some_and(|address| address.as_str().contains("%00")) {
        return refusal(app, reader);
    }
    if request.body().is_end_stream() || ANYTHING.contains(&path) {
        return inner(request).await;
    }
    let held = Arc::new(AtomicBool::new(false));
    let (parts, body) = request.into_parts();
    let body = Body::new(Scanned {
        inner: body,
        scan: Scan::of(&parts.headers),
        held: Arc::clone(&held),
        left: LARGEST_BODY,
    });
    let response = inner(Request::from_parts(parts, body)).await;
    if held.load(Ordering::Relaxed) {
        // Whoever wanted the body has not got it: nothing was done.
        return refusal(app, reader);
    }
    response
}

fn refusal(app: &App, reader: Reader) -> Response {
    let detail = "no text of a request can hold the character U+0000";
    let problem = Problem::bad_request("invalid_character", detail);
    match reader {
        Reader::Person => pages::problem_page(&app.settings, &problem),
        Reader::OAuthClient => OAuthError::from(problem).into_response(),
        Reader::Program => problem.into_response(),
    }
}

/// Looks for U+0000 in a text that comes in pieces, as JSON or a form would write it.
#[derive(Clone, Copy)]
struct Scan {
    /// What an escape begins with, and how it goes on.
    escape: (u8, &'static [u8]),
    /// How much of an escape was seen.
    seen: Option<usize>,
}

impl Scan {
    fn of(headers: &HeaderMap) -> Self {
        let kind = headers
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or("");
        // Some reader may take for a form whatever begins so.
        let is_form = kind
            .trim()
            .to_ascii_lowercase()
            .starts_with("application/x-www-form-urlencoded");
        let escape: (u8, &[u8]) = if is_form {
            (b'%', b"00")
        } else {
            (b'\\', b"u0000")
        };
        Self { escape, seen: None }
    }

    /// Whether it has come.
    fn finds(&mut self, piece: &[u8]) -> bool {
        let (begins, rest) = self.escape;
        let mut left = piece;
        loop {
            let Some(seen) = self.seen else {
                // Most of a text is no escape.
                let at = left.iter().position(|byte| *byte == begins || *byte == 0);
                let Some((byte, behind)) = at.and_then(|at| left.get(at..)?.split_first()) else {
                    return false;
                };
                if *byte == 0 {
                    return true;
                }
                (self.seen, left) = (Some(0), behind);
                continue;
            };
            let Some((byte, behind)) = left.split_first() else {
                return false;
            };
            left = behind;
            self.seen = if rest.get(seen) == Some(byte) {
                if seen + 1 == rest.len() {
                    return true;
                }
                Some(seen + 1)
            } else if *byte == 0 {
                return true;
            } else if *byte == begins && (seen > 0 || begins == b'%') {
                // No escape, and perhaps one begins here; a second backslash ends one.
                Some(0)
            } else {
                None
            };
        }
    }
}

/// A body that breaks off where U+0000 is found in it.
struct Scanned {
    inner: Body,
    scan: Scan,
    held: Arc<AtomicBool>,
    /// So many bytes are still read after that, so that whoever sends them hears the refusal.
    left: usize,
}

impl HttpBody for Scanned {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            let polled = Pin::new(&mut self.inner).poll_frame(context);
            let found = self.held.load(Ordering::Relaxed);
            let piece = match &polled {
                Poll::Ready(Some(Ok(frame))) => frame.data_ref(),
                Poll::Ready(_) if found => return Poll::Ready(Some(Err(broken_off()))),
                _ => return polled,
            };
            let length = piece.map_or(0, Bytes::len);
            if !found {
                let Some(piece) = piece else { return polled };
                if !self.scan.finds(piece) {
                    return polled;
                }
                self.held.store(true, Ordering::Relaxed);
            }
            if length > self.left {
                return Poll::Ready(Some(Err(broken_off())));
            }
            self.left -= length;
        }
    }

    fn is_end_stream(&self) -> bool {
        // Until the error was told, something comes.
        self.inner.is_end_stream() && !self.held.load(Ordering::Relaxed)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn broken_off() -> axum::Error {
    axum::Error::new(std::io::Error::from(std::io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests;
