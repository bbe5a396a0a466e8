//! The body of an answer: the router's, or a whole text, for which nothing is boxed.

use std::io::Cursor;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Buf, Frame, SizeHint};

/// The body of an answer.
pub(crate) enum AnswerBody {
    /// What the router made.
    Other(Body),
    /// All of it, until it is taken.
    Whole(Option<Vec<u8>>),
}

impl AnswerBody {
    pub(super) fn empty() -> Self {
        Self::Whole(None)
    }

    /// As routers have it.
    #[cfg(test)]
    pub(crate) fn into_body(self) -> Body {
        match self {
            Self::Other(body) => body,
            Self::Whole(text) => Body::from(text.unwrap_or_default()),
        }
    }
}

impl From<Body> for AnswerBody {
    fn from(body: Body) -> Self {
        Self::Other(body)
    }
}

impl From<Vec<u8>> for AnswerBody {
    fn from(text: Vec<u8>) -> Self {
        Self::Whole(Some(text))
    }
}

impl HttpBody for AnswerBody {
    type Data = AnswerData;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<AnswerData>, axum::Error>>> {
        match self.get_mut() {
            Self::Other(body) => Pin::new(body)
                .poll_frame(context)
                .map_ok(|frame| frame.map_data(AnswerData::Other)),
            Self::Whole(text) => {
                let text = text.take().map(Cursor::new);
                Poll::Ready(text.map(|text| Ok(Frame::data(AnswerData::Whole(text)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Other(body) => body.is_end_stream(),
            Self::Whole(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Other(body) => body.size_hint(),
            Self::Whole(text) => {
                let length = text.as_ref().map_or(0, Vec::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
        }
    }
}

/// A piece of it.
pub(crate) enum AnswerData {
    Other(Bytes),
    Whole(Cursor<Vec<u8>>),
}

impl Buf for AnswerData {
    fn remaining(&self) -> usize {
        match self {
            Self::Other(bytes) => bytes.remaining(),
            Self::Whole(text) => text.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Other(bytes) => bytes.chunk(),
            Self::Whole(text) => text.chunk(),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Other(bytes) => bytes.advance(count),
            Self::Whole(text) => text.advance(count),
        }
    }
}
