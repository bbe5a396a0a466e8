//! A key in a request: where it may be, where it may not, and how it is refused (AC-123 to AC-125).

use axum::http::{HeaderMap, StatusCode, header};
use keywright_domain::SecretText;
use keywright_domain::api_keys::Refusal;
use keywright_registry::{IdText, Verification};
use subtle::ConstantTimeEq as _;

pub(crate) use super::in_url::in_url;
use crate::http::LimitFields;
use crate::problem::Problem;

/// What a request presents.
#[derive(Debug)]
pub(crate) struct Presented {
    /// The text.
    pub(crate) text: SecretText,
    /// It came as `Authorization: Bearer`, and may be a token.
    pub(crate) in_header: bool,
}

/// A header as text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Two different credentials: which one counts, nobody could say.
pub(crate) fn ambiguous() -> Problem {
    Problem::bad_request(
        "ambiguous_credentials",
        "two different credentials came together: send one of them",
    )
}

/// Reads `Authorization: Bearer` and `X-API-Key`; both may come if they are equal.
///
/// # Errors
/// 400 `ambiguous_credentials`.
pub(crate) fn read(headers: &HeaderMap) -> Result<Option<Presented>, Problem> {
    Ok(find(headers)?.map(|(text, in_header)| Presented {
        text: SecretText::new(text.to_owned()),
        in_header,
    }))
}

/// The same where it stands: a secret in the headers of a request. And whether it is `Authorization`.
///
/// # Errors
/// 400 `ambiguous_credentials`.
pub(crate) fn find(headers: &HeaderMap) -> Result<Option<(&str, bool)>, Problem> {
    let more_than_one = |name: &str| headers.get_all(name).iter().nth(1).is_some();
    if more_than_one("authorization") || more_than_one("x-api-key") {
        return Err(ambiguous());
    }
    let bearer = text(headers, header::AUTHORIZATION.as_str())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, rest)| rest.trim());
    let plain = text(headers, "x-api-key").map(str::trim);
    // Another scheme beside a key is another credential.
    if plain.is_some() && bearer.is_none() && headers.contains_key(header::AUTHORIZATION) {
        return Err(ambiguous());
    }
    match (bearer, plain) {
        (Some(one), Some(other)) if !bool::from(one.as_bytes().ct_eq(other.as_bytes())) => {
            Err(ambiguous())
        }
        (Some(text), _) => Ok(Some((text, true))),
        (None, Some(text)) => Ok(Some((text, false))),
        (None, None) => Ok(None),
    }
}

/// Whether a token came by the scheme of bound tokens (RFC 9449 §7.1), which no key has.
pub(crate) fn is_dpop(headers: &HeaderMap) -> bool {
    text(headers, header::AUTHORIZATION.as_str())
        .and_then(|value| value.split_once(' '))
        .is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("dpop"))
}

/// Codes of states carry the word key towards the outside.
pub(crate) fn code(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Malformed(_) => "key_malformed",
        Refusal::NotFound => "key_not_found",
        Refusal::Revoked => "key_revoked",
        Refusal::Retired => "key_retired",
        Refusal::Expired => "key_expired",
        Refusal::NotYetValid => "key_not_yet_valid",
        Refusal::Disabled => "key_disabled",
        other => other.code(),
    }
}

/// How the narrowest limit of a key stands, or the one that refuses.
pub(crate) fn limit_of(verification: &Verification) -> Option<LimitFields> {
    let limit = verification.limit.as_ref()?;
    let (left, reset_ms) = verification.limit_left.zip(verification.limit_reset_ms)?;
    Some(LimitFields::of(limit, left, reset_ms))
}

/// Whole seconds to wait, at least one; none where waiting does not help.
fn seconds(ms: i64) -> Option<u64> {
    if ms == i64::MAX {
        return None;
    }
    u64::try_from(ms).map_or(Some(1), |ms| Some(ms.div_ceil(1000).max(1)))
}

/// A refusal at the moment `now` as HTTP answers it: 401, 403 with the scope, 429 and never 401 for a
/// limit.
pub(crate) fn refusal(refusal: &Refusal, verification: &Verification, now: i64) -> Problem {
    answer_of(refusal, verification, now).of_secret(matched(verification))
}

/// Kid of the secret, once it matched: one that somebody made up is not repeated.
pub(crate) fn matched(verification: &Verification) -> Option<IdText<12>> {
    verification.kid.filter(|_| verification.key_id.is_some())
}

fn answer_of(refusal: &Refusal, verification: &Verification, now: i64) -> Problem {
    let code = code(refusal);
    match refusal {
        Refusal::InsufficientScope(missing) => {
            let scopes: Vec<_> = missing.iter().map(|scope| scope.as_str()).collect();
            Problem::insufficient_scope(&scopes.join(" "))
        }
        Refusal::RateLimited {
            limit,
            retry_after_ms,
        } => {
            let mut problem = Problem::rate_limited(1);
            problem.retry_after_s = seconds(*retry_after_ms);
            problem.limit = limit_of(verification).map(Box::new);
            problem.detail = format!("the limit “{limit}” is reached");
            problem.with("limit", limit.as_str())
        }
        Refusal::CreditsExhausted { refill_at } => {
            let status = StatusCode::TOO_MANY_REQUESTS;
            let mut problem = Problem::new(status, code, "this key has no credits left");
            problem.retry_after_s = refill_at.and_then(|at| seconds(at.saturating_sub(now)));
            problem.limit = limit_of(verification).map(Box::new);
            match refill_at {
                Some(at) => problem.with("refill_at", *at),
                None => problem,
            }
        }
        Refusal::IpNotAllowed
        | Refusal::OriginNotAllowed
        | Refusal::WrongEnvironment
        | Refusal::KeyTypeForbidden => {
            let detail = match refusal {
                Refusal::IpNotAllowed => "this key may not be used from this address",
                Refusal::OriginNotAllowed => "this key may not be used from this page",
                Refusal::WrongEnvironment => "this key belongs to another environment",
                _ => "a key of this type may not do this",
            };
            Problem::new(StatusCode::FORBIDDEN, code, detail)
        }
        _ => {
            let detail = match refusal {
                // Unknown and wrong are one answer (AC-127).
                Refusal::NotFound => "this key is not known",
                Refusal::Malformed(_) => "this is no API key",
                Refusal::Revoked => "this key was revoked",
                Refusal::Retired => "this secret was replaced and its overlap is over",
                Refusal::Expired => "this key has expired",
                Refusal::NotYetValid => "this key is not valid yet",
                Refusal::Disabled => "this key is disabled",
                _ => "the owner of this key is disabled",
            };
            let problem = Problem::unauthorized(code, detail)
                .with_challenge("Bearer error=\"invalid_token\"".to_owned());
            match &verification.kid {
                Some(kid) => problem.with("kid", kid.as_str()),
                None => problem,
            }
        }
    }
}
