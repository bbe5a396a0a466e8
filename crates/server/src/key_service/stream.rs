//! Bodies that are written while they are sent: memory does not grow with them, and whoever reads
//! slowly slows the writer down.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::Frame;
use tokio::io::{AsyncRead as _, DuplexStream, ReadBuf};
use tokio::sync::mpsc;

/// What is on its way at most.
const ROOM: usize = 64 * 1024;
const PIECE: usize = 16 * 1024;

/// A body, and the end that it is written to. Drop the writer without [`Writer::finish`] and the
/// body breaks off, so that nobody takes a part for the whole.
pub(super) fn pipe() -> (Body, Writer) {
    let (near, far) = tokio::io::duplex(ROOM);
    let is_whole = Arc::new(AtomicBool::new(false));
    let body = Body::new(Piped {
        from: far,
        is_whole: Arc::clone(&is_whole),
    });
    let writer = Writer { to: near, is_whole };
    (body, writer)
}

/// Where a body is written.
pub(super) struct Writer {
    /// For whoever writes.
    pub(super) to: DuplexStream,
    is_whole: Arc<AtomicBool>,
}

impl Writer {
    /// Everything was written.
    pub(super) fn finish(self) {
        self.is_whole.store(true, Ordering::Release);
    }
}

struct Piped {
    from: DuplexStream,
    is_whole: Arc<AtomicBool>,
}

impl HttpBody for Piped {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let mut bytes = vec![0; PIECE];
        let mut room = ReadBuf::new(&mut bytes);
        match Pin::new(&mut self.from).poll_read(context, &mut room) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Ok(())) => {
                let length = room.filled().len();
                if length > 0 {
                    bytes.truncate(length);
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from(bytes)))));
                }
                if self.is_whole.load(Ordering::Acquire) {
                    return Poll::Ready(None);
                }
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, "it broke off");
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}

/// A body of messages; it ends when the sender is dropped.
pub(super) struct Messages(pub(super) mpsc::Receiver<Bytes>);

impl HttpBody for Messages {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let message = self.0.poll_recv(context);
        message.map(|message| message.map(|bytes| Ok(Frame::data(bytes))))
    }
}
