//! What an answer says of a limit: `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers),
//! and the older `X-RateLimit-*` fields that gateways and clients know. One place writes them, for
//! requests that are let through and for those that are refused.

use axum::http::{HeaderMap, HeaderName};
use keywright_domain::api_keys::RateLimit;

use super::Values;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const FIELD: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// How one limit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitFields {
    /// Its name is small letters, digits, `_` and `-`, which need no escaping.
    limit: RateLimit,
    /// Requests that may still come at once.
    left: u32,
    /// Seconds until it is whole again.
    reset_s: u64,
}

impl LimitFields {
    /// Of a limit of which so much is left, and that is whole again after `reset_ms`.
    pub(crate) fn of(limit: &RateLimit, left: u32, reset_ms: u64) -> Self {
        Self {
            limit: limit.clone(),
            left,
            reset_s: reset_ms.div_ceil(1000),
        }
    }

    /// Writes them.
    pub(crate) fn write(&self, headers: &mut HeaderMap, values: &mut Values) {
        let Self {
            limit,
            left,
            reset_s,
        } = self;
        let (name, count) = (limit.name(), limit.count());
        let window_s = limit.period_ms().div_ceil(1000);
        values.set(headers, LIMIT, limit.capacity());
        values.set(headers, REMAINING, left);
        values.set(headers, RESET, reset_s);
        let field = format_args!("\"{name}\";r={left};t={reset_s}");
        values.set(headers, FIELD, field);
        let policy = format_args!("\"{name}\";q={count};w={window_s}");
        values.set(headers, POLICY, policy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up_and_a_burst_shows_in_what_may_come_at_once() {
        let limit = RateLimit::new("per_minute", 60, 60_500, 5, false).unwrap();
        let mut headers = HeaderMap::new();
        LimitFields::of(&limit, 3, 1001).write(&mut headers, &mut Values::new());
        let text = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(text("ratelimit"), "\"per_minute\";r=3;t=2");
        assert_eq!(text("ratelimit-policy"), "\"per_minute\";q=60;w=61");
        assert_eq!(text("x-ratelimit-limit"), "65");
        assert_eq!(text("x-ratelimit-remaining"), "3");
        assert_eq!(text("x-ratelimit-reset"), "2");
    }
}
