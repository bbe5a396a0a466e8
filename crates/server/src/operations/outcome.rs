//! What a request came to, for the log: the code that it was answered with, and which secret was presented.
//! Answers tell callers no more than they may know; the log is for whoever looks into why a key was refused.

use axum::response::Response;
use keywright_registry::IdText;
use tracing::Level;

/// Where requests are told, one line each: a filter silences them by this name.
pub(crate) const REQUESTS: &str = "keywright_server::requests";

/// Whether such lines are written at all: what nobody reads is not put together.
pub(crate) fn is_logged() -> bool {
    tracing::enabled!(target: REQUESTS, Level::INFO)
}

/// What is told of a request. Nothing of it is secret: kids are public.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// `valid`, or the stable code of the refusal; none where there is nothing to tell.
    pub(crate) code: Option<&'static str>,
    /// Kid of the secret that was presented and matched: what strangers make up is not repeated.
    pub(crate) kid: Option<IdText<12>>,
    /// Of a call with many keys, how many: each of them has a code of its own, in the answer.
    pub(crate) keys: Option<usize>,
}

impl Outcome {
    /// A request that was answered with a code.
    pub(crate) fn of(code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..Self::default()
        }
    }

    /// Sends it along with an answer, to where the line is written.
    pub(crate) fn beside(self, mut response: Response) -> Response {
        if is_logged() {
            response.extensions_mut().insert(self);
        }
        response
    }

    /// What was sent along.
    pub(super) fn taken_from(response: &mut Response) -> Self {
        response.extensions_mut().remove().unwrap_or_default()
    }
}
