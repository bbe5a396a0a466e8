//! What can go wrong on the way to a provider and back, each with a stable code and a page.

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use keywright_domain::id_token::IdTokenProblem;
use keywright_registry::RegistryError;
use maud::html;

use super::outbound::OutboundError;
use crate::pages::Page;
use crate::problem::Problem;
use crate::server::App;

/// A sign-in that came to nothing.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// Stable code.
    pub(crate) code: &'static str,
    /// Of the page.
    pub(crate) status: StatusCode,
    /// What happened: the page's heading.
    pub(crate) happened: String,
    /// What to do.
    pub(crate) advice: String,
    /// What else is known, for the log: nothing secret.
    pub(crate) detail: String,
    /// When to try again, in seconds (RFC 9110, section 10.2.3).
    pub(crate) retry_after_s: Option<u64>,
}

const ONCE_MORE: &str = "Start again from the sign-in page.";
const LATER: &str = "Try again in a moment, or sign in another way.";
const TELL: &str = "Sign in another way, and tell whoever runs this site.";

impl Failure {
    /// 400: start again.
    pub(crate) fn new(code: &'static str, happened: &str) -> Self {
        Self {
            code,
            status: StatusCode::BAD_REQUEST,
            happened: happened.to_owned(),
            advice: ONCE_MORE.to_owned(),
            detail: String::new(),
            retry_after_s: None,
        }
    }

    /// 502: the provider does what it must not.
    pub(crate) fn provider(code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            code,
            status: StatusCode::BAD_GATEWAY,
            happened: "The provider's answer cannot be used".to_owned(),
            advice: TELL.to_owned(),
            detail: detail.into(),
            retry_after_s: None,
        }
    }

    /// Another status.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Another advice.
    pub(crate) fn with_advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// Text for the log.
    pub(crate) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// AC-079: a disabled provider looks like none.
    pub(crate) fn unknown_provider() -> Self {
        Self::new("provider_not_found", "There is no such identity provider")
            .with_status(StatusCode::NOT_FOUND)
    }

    /// The page, with a way back: `again` is a path of ours.
    pub(crate) fn page(&self, app: &App, again: &str, headers: HeaderMap) -> Response {
        tracing::warn!(
            code = self.code,
            detail = %self.detail,
            "a sign-in by an identity provider came to nothing"
        );
        let content = html! {
            h1 { (self.happened) }
            p { (self.advice) }
            div.actions { a.button.primary href=(again) { "Back to sign-in" } }
            p.code { "Code: " code { (self.code) } }
        };
        let mut response = Page::new("Sign-in did not work", content)
            .with_status(self.status)
            .with_headers(headers)
            .into_response(&app.settings);
        if let Some(seconds) = self.retry_after_s {
            let seconds = HeaderValue::from(seconds);
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response
    }
}

impl From<OutboundError> for Failure {
    fn from(error: OutboundError) -> Self {
        let detail = error.to_string();
        let (code, status) = match error {
            OutboundError::Timeout(_) => ("idp_timeout", StatusCode::GATEWAY_TIMEOUT),
            OutboundError::Unreachable(_) => ("idp_unreachable", StatusCode::BAD_GATEWAY),
            OutboundError::Insecure(_) => ("idp_address_insecure", StatusCode::BAD_GATEWAY),
            OutboundError::Forbidden(_) => ("idp_address_forbidden", StatusCode::BAD_GATEWAY),
            OutboundError::Redirect(_) => ("idp_redirect", StatusCode::BAD_GATEWAY),
            OutboundError::TooLarge(_) => ("idp_answer_too_large", StatusCode::BAD_GATEWAY),
        };
        let slow = matches!(code, "idp_timeout" | "idp_unreachable");
        let mut failure = Self::provider(code, detail).with_status(status);
        if slow {
            failure.happened = "The provider does not answer".to_owned();
            failure.advice = LATER.to_owned();
        }
        failure
    }
}

impl From<IdTokenProblem> for Failure {
    fn from(problem: IdTokenProblem) -> Self {
        Self::provider(problem.code(), problem.to_string())
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let mut failure = Self::new(problem.code, "This did not work").with_status(problem.status);
        failure.advice = LATER.to_owned();
        failure.detail = problem.detail;
        failure.retry_after_s = problem.retry_after_s;
        failure
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        if error.code() == "provider_not_found" {
            return Self::unknown_provider();
        }
        Problem::from(error).into()
    }
}

/// Foreign text for a page or the log: one line, capped.
pub(crate) fn tame(text: &str, longest: usize) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(longest)
        .collect()
}
