//! What the API says when something is wrong: RFC 9457 with a stable `code`; and what the OAuth
//! endpoints say: RFC 6749 §5.2.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::people::PeopleError;
use keywright_registry::{IdText, RegistryError};
use serde_json::{Map, Value, json};

use crate::http::{LimitFields, Values};
use crate::operations::{Outcome, is_logged};

#[cfg(test)]
mod codes;

/// A refusal of the API.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    /// Status.
    pub(crate) status: StatusCode,
    /// Stable code.
    pub(crate) code: &'static str,
    /// What happened, for people; nothing secret.
    pub(crate) detail: String,
    /// More members.
    pub(crate) members: Box<Map<String, Value>>,
    /// `WWW-Authenticate`, with 401 and 403.
    pub(crate) challenge: Option<Box<str>>,
    /// `Retry-After` in seconds.
    pub(crate) retry_after_s: Option<u64>,
    /// How the limit stands that is reached, with 429.
    pub(crate) limit: Option<Box<LimitFields>>,
    /// A nonce for DPoP proofs (RFC 9449 §9).
    pub(crate) dpop_nonce: Option<Box<str>>,
    /// What the log says of it beyond the code.
    pub(crate) outcome: Option<Box<Outcome>>,
}

impl Problem {
    /// A refusal.
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            members: Box::default(),
            challenge: None,
            retry_after_s: None,
            limit: None,
            dpop_nonce: None,
            outcome: None,
        }
    }

    /// 400.
    pub(crate) fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401 without credentials.
    pub(crate) fn unauthorized(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    /// 401 for a bearer token (RFC 6750 §3.1).
    pub(crate) fn invalid_token(code: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{code}\"");
        Self::unauthorized(code, detail).with_challenge(challenge)
    }

    /// 403 for a scope that the caller does not hold (RFC 6750 §3.1).
    pub(crate) fn insufficient_scope(scope: &str) -> Self {
        let detail = format!("this needs the scope {scope}");
        Self::new(StatusCode::FORBIDDEN, "insufficient_scope", detail)
            .with_challenge(format!(
                "Bearer error=\"insufficient_scope\", scope=\"{scope}\""
            ))
            .with("scope", scope)
    }

    /// 404.
    pub(crate) fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// Too many attempts.
    pub(crate) fn rate_limited(retry_after_s: u64) -> Self {
        let mut problem = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            "too many attempts: wait, then try again",
        );
        problem.retry_after_s = Some(retry_after_s.max(1));
        problem
    }

    /// With a challenge.
    pub(crate) fn with_challenge(mut self, challenge: String) -> Self {
        self.challenge = Some(challenge.into_boxed_str());
        self
    }

    /// With one more member.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Notes which secret is refused, if the request is told in the log.
    pub(crate) fn of_secret(mut self, kid: Option<IdText<12>>) -> Self {
        if let Some(kid) = kid
            && is_logged()
        {
            let mut outcome = Outcome::of(self.code);
            outcome.kid = Some(kid);
            self.outcome = Some(Box::new(outcome));
        }
        self
    }

    /// The answer, and what the log says of it.
    pub(crate) fn into_parts(mut self) -> (Response, Outcome) {
        let known = self.outcome.take();
        let outcome = known.map_or_else(|| Outcome::of(self.code), |known| *known);
        (self.answer(), outcome)
    }

    fn answer(self) -> Response {
        let mut body = *self.members;
        let title = self.status.canonical_reason().unwrap_or("Error");
        body.insert("type".into(), "about:blank".into());
        body.insert("title".into(), title.into());
        body.insert("status".into(), self.status.as_u16().into());
        body.insert("code".into(), self.code.into());
        body.insert("detail".into(), self.detail.into());
        let mut response = (self.status, Json(Value::Object(body))).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(Ok(challenge)) = self
            .challenge
            .map(|text| HeaderValue::try_from(String::from(text)))
        {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(limit) = &self.limit {
            limit.write(headers, &mut Values::new());
        }
        if let Some(Ok(nonce)) = self.dpop_nonce.as_deref().map(HeaderValue::try_from) {
            headers.insert("dpop-nonce", nonce);
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (response, outcome) = self.into_parts();
        outcome.beside(response)
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        let status = status_of(&error);
        if status.is_server_error() {
            // What the database says is for the log: it may name tables and paths.
            tracing::error!(code = error.code(), %error, "the registry could not answer");
            // Whoever hears that nothing was done might throw the secret of a live key away.
            if matches!(error, RegistryError::CommitUnknown(_)) {
                return Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    error.code(),
                    "whether it was done is not known: look before you do it again",
                );
            }
            return store_unavailable();
        }
        let mut problem = Self::new(status, error.code(), error.to_string());
        if matches!(error, RegistryError::RequestUnderWay) {
            problem.retry_after_s = Some(2);
        }
        problem
    }
}

/// The database does not answer: nobody is let through meanwhile (AC-204).
pub(crate) fn store_unavailable() -> Problem {
    let mut problem = Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "store_unavailable",
        "the registry cannot be reached now: try again in a moment",
    );
    problem.retry_after_s = Some(1);
    problem
}

fn status_of(error: &RegistryError) -> StatusCode {
    match error {
        RegistryError::People(
            PeopleError::UserNotFound
            | PeopleError::SessionNotFound
            | PeopleError::ClientNotFound
            | PeopleError::RegistrationTokenNotFound
            | PeopleError::GrantNotFound
            | PeopleError::SigningKeyNotFound
            | PeopleError::ProviderNotFound
            | PeopleError::IdentityNotFound
            | PeopleError::PasskeyNotFound
            | PeopleError::RoleNotFound(_)
            | PeopleError::TotpNotFound,
        )
        | RegistryError::KeyNotFound
        | RegistryError::OwnerNotFound
        | RegistryError::RotationNotFound
        | RegistryError::ScheduleNotFound
        | RegistryError::WebhookNotFound
        | RegistryError::MessageNotFound
        | RegistryError::InvitationNotFound
        | RegistryError::ScopeNotFound
        | RegistryError::NoticeNotFound
        | RegistryError::OperationNotFound
        | RegistryError::CampaignNotFound
        | RegistryError::QuestionNotFound
        | RegistryError::AccountNotFound => StatusCode::NOT_FOUND,
        RegistryError::People(
            PeopleError::LastOwner
            | PeopleError::EmailTaken
            | PeopleError::ClientIdTaken
            | PeopleError::IdentityInUse
            | PeopleError::LastSignInMethod
            | PeopleError::PasskeyTaken
            | PeopleError::RoleInUse
            | PeopleError::RoleBuiltIn
            | PeopleError::SigningKeyState(_)
            | PeopleError::ProviderTaken,
        )
        | RegistryError::Changed
        | RegistryError::CampaignOver
        | RegistryError::ProposalChanged
        | RegistryError::UsesUnnamed
        | RegistryError::QuestionSettled
        | RegistryError::OwnerExists
        | RegistryError::IdempotencyKeyReused
        | RegistryError::ScopeInUse(_)
        | RegistryError::DoneBefore { .. }
        | RegistryError::RequestUnderWay
        | RegistryError::RotationAlreadyDone { .. } => StatusCode::CONFLICT,
        RegistryError::Precondition => StatusCode::PRECONDITION_FAILED,
        RegistryError::People(PeopleError::UserDisabled) => StatusCode::FORBIDDEN,
        RegistryError::People(_)
        | RegistryError::Key(_)
        | RegistryError::Scope(_)
        | RegistryError::Requirement(_)
        | RegistryError::Policy(_)
        | RegistryError::Schedule(_)
        | RegistryError::Bounds(_)
        | RegistryError::Character
        | RegistryError::Cursor => StatusCode::BAD_REQUEST,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// An error of an OAuth endpoint (RFC 6749 §5.2).
#[derive(Clone, Debug)]
pub(crate) struct OAuthError {
    /// 400, or 401 where the client tried the `Authorization` header.
    pub(crate) status: StatusCode,
    /// Registered error code.
    pub(crate) error: &'static str,
    /// What happened, in the characters that §5.2 allows.
    pub(crate) description: String,
    /// `WWW-Authenticate`.
    pub(crate) challenge: Option<String>,
    /// A nonce for DPoP proofs (RFC 9449 §8).
    pub(crate) dpop_nonce: Option<Box<str>>,
}

impl OAuthError {
    /// 400 with this error.
    pub(crate) fn new(error: &'static str, description: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error,
            description: description.into(),
            challenge: None,
            dpop_nonce: None,
        }
    }

    /// The client did not prove itself. 401 with a challenge if it used the header (S18).
    pub(crate) fn invalid_client(by_header: bool) -> Self {
        let mut error = Self::new("invalid_client", "the client could not be authenticated");
        error.status = StatusCode::UNAUTHORIZED;
        if by_header {
            error.challenge = Some("Basic realm=\"keywright\", charset=\"UTF-8\"".into());
        }
        error
    }
}

/// `error_description` has fewer characters than JSON: %x20-21 / %x23-5B / %x5D-7E (S12).
pub(crate) fn plain_description(text: &str) -> String {
    let allowed = |c: &char| matches!(c, ' '..='!' | '#'..='[' | ']'..='~');
    text.chars()
        .map(|c| match c {
            '“' | '”' | '"' => '\'',
            other => other,
        })
        .filter(allowed)
        .take(300)
        .collect()
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let body = json!({
            "error": self.error,
            "error_description": plain_description(&self.description),
        });
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
        if let Some(Ok(challenge)) = self.challenge.map(HeaderValue::try_from) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(Ok(nonce)) = self.dpop_nonce.as_deref().map(HeaderValue::try_from) {
            headers.insert("dpop-nonce", nonce);
        }
        Outcome::of(self.error).beside(response)
    }
}

impl From<Problem> for OAuthError {
    fn from(problem: Problem) -> Self {
        if problem.status.is_server_error() {
            let mut error = Self::new("temporarily_unavailable", problem.detail);
            error.status = problem.status;
            return error;
        }
        Self::new("invalid_request", problem.detail)
    }
}

impl From<RegistryError> for OAuthError {
    fn from(error: RegistryError) -> Self {
        let problem = Problem::from(error);
        let mut error = Self::new(
            if problem.status.is_server_error() {
                "temporarily_unavailable"
            } else {
                "invalid_request"
            },
            problem.detail,
        );
        if problem.status.is_server_error() {
            error.status = problem.status;
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s12_descriptions_have_the_allowed_characters_only() {
        assert_eq!(plain_description("a \"b\\\n“ü”"), "a 'b''");
    }

    #[test]
    fn ac_204_what_the_database_says_is_not_told() {
        let problem = Problem::from(RegistryError::Store("no such table: users".into()));
        assert_eq!(problem.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(problem.code, "store_unavailable");
        assert!(!problem.detail.contains("users"));
    }

    #[test]
    fn a_lost_commit_is_not_called_undone() {
        let problem = Problem::from(RegistryError::CommitUnknown("reset by peer".into()));
        assert_eq!(problem.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(problem.code, "commit_unknown");
        assert!(!problem.detail.contains("peer") && problem.retry_after_s.is_none());
    }
}
