//! The id of a request: it stands in the answer and in every line of the log that the request causes.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use keywright_domain::base62::random_id;

pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");
const LONGEST: usize = 64;

/// The id of the request that a handler answers.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // Another program may mount the routes without what goes around them.
        let known = parts.extensions.get::<Self>().cloned();
        Ok(known.unwrap_or_else(|| Self(made())))
    }
}

/// The id that a trusted proxy gave, otherwise a new one: strangers do not write into our log.
pub(super) fn of(headers: &HeaderMap, by_trusted_proxy: bool) -> String {
    let mut given = headers.get_all(HEADER).iter();
    match (given.next(), given.next()) {
        (Some(value), None) if by_trusted_proxy => value
            .to_str()
            .ok()
            .filter(|text| is_plain(text))
            .map_or_else(made, str::to_owned),
        _ => made(),
    }
}

fn made() -> String {
    random_id(&mut rand::rng())
}

fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (8..=LONGEST).contains(&text.len()) && text.bytes().all(plain)
}

/// The header's value.
pub(super) fn value(id: String) -> Option<HeaderValue> {
    HeaderValue::try_from(id).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_from_trusted_proxies_and_only_if_it_is_plain() {
        let with = |texts: &[&str]| {
            let mut headers = HeaderMap::new();
            for text in texts {
                headers.append(HEADER, text.parse().unwrap());
            }
            headers
        };
        assert_eq!(of(&with(&["abcd-1234"]), true), "abcd-1234");
        assert_ne!(of(&with(&["abcd-1234"]), false), "abcd-1234");
        let long = "a".repeat(65);
        for bad in ["short", "with space", "a\"b,c:d{}", &long] {
            assert_ne!(of(&with(&[bad]), true), bad);
        }
        assert_ne!(of(&with(&["abcd-1234", "efgh-1234"]), true), "abcd-1234");
        assert_ne!(of(&HeaderMap::new(), true), of(&HeaderMap::new(), true));
    }
}
