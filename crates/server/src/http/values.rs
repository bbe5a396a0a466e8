//! Values of an answer's headers, in one piece of memory.

use std::fmt::{Display, Write as _};

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::BytesMut;

/// What an acceptance has, beyond it there is a second piece.
const ROOM: usize = 384;

/// Makes the values of an answer's headers: each by itself would be two or three allocations.
pub(crate) struct Values(BytesMut);

impl Values {
    pub(crate) fn new() -> Self {
        Self(BytesMut::with_capacity(ROOM))
    }

    /// Sets a header, if the text can be a value.
    pub(crate) fn set(&mut self, headers: &mut HeaderMap, name: HeaderName, text: impl Display) {
        if write!(self.0, "{text}").is_err() {
            self.0.clear();
            return;
        }
        let text: Bytes = self.0.split().freeze();
        if let Ok(value) = HeaderValue::from_maybe_shared(text) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_its_own_and_what_can_be_none_is_left_out() {
        let (mut values, mut headers) = (Values::new(), HeaderMap::new());
        let long = "a".repeat(2 * ROOM);
        let name = HeaderName::from_static;
        values.set(&mut headers, name("x-one"), "one");
        values.set(&mut headers, name("x-number"), i64::MIN);
        values.set(&mut headers, name("x-line"), "a\nb");
        values.set(&mut headers, name("x-long"), &long);
        values.set(&mut headers, name("x-empty"), "");
        values.set(&mut headers, name("x-last"), format_args!("{};{}", 1, 2));
        let told: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        let expected = [
            ("x-one", "one"),
            ("x-number", "-9223372036854775808"),
            ("x-long", long.as_str()),
            ("x-empty", ""),
            ("x-last", "1;2"),
        ];
        assert_eq!(told, expected);
    }
}
