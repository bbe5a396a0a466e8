//! What an answer says of a limit: `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers),
//! and the older `X-RateLimit-*` fields that gateways and clients know. One place writes them, for
//! requests that are let through and for those that are refused.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use keywright_domain::api_keys::RateLimit;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const FIELD: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// How one limit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitFields {
    /// Small letters, digits, `_` and `-`: they need no escaping.
    name: String,
    /// Requests that may still come at once.
    left: u32,
    /// Seconds until it is whole again.
    reset_s: u64,
    /// Requests a period, the period in seconds, and how many may come at once.
    policy: (u32, u32, u32),
}

impl LimitFields {
    /// Of a limit of which so much is left, and that is whole again after `reset_ms`.
    pub(crate) fn of(limit: &RateLimit, left: u32, reset_ms: u64) -> Self {
        Self {
            name: limit.name().to_owned(),
            left,
            reset_s: reset_ms.div_ceil(1000),
            policy: (
                limit.count(),
                limit.period_ms().div_ceil(1000),
                limit.capacity(),
            ),
        }
    }

    /// Writes them.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let Self {
            name,
            left,
            reset_s,
            policy: (count, window_s, capacity),
        } = self;
        headers.insert(LIMIT, HeaderValue::from(*capacity));
        headers.insert(REMAINING, HeaderValue::from(*left));
        headers.insert(RESET, HeaderValue::from(*reset_s));
        let texts = [
            (FIELD, format!("\"{name}\";r={left};t={reset_s}")),
            (POLICY, format!("\"{name}\";q={count};w={window_s}")),
        ];
        for (field, text) in texts {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(field, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up_and_a_burst_shows_in_what_may_come_at_once() {
        let limit = RateLimit::new("per_minute", 60, 60_500, 5, false).unwrap();
        let mut headers = HeaderMap::new();
        LimitFields::of(&limit, 3, 1001).write(&mut headers);
        let text = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(text("ratelimit"), "\"per_minute\";r=3;t=2");
        assert_eq!(text("ratelimit-policy"), "\"per_minute\";q=60;w=61");
        assert_eq!(text("x-ratelimit-limit"), "65");
        assert_eq!(text("x-ratelimit-remaining"), "3");
        assert_eq!(text("x-ratelimit-reset"), "2");
    }
}
