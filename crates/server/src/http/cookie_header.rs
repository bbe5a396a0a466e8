//! The `Cookie` header (RFC 6265 §4.2.1): what a browser, or whoever says that it is one, brings along.

use cookie::Cookie;
use keywright_domain::SecretText;

/// The cookies of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cookies(Vec<(String, SecretText)>);

impl Cookies {
    /// Reads them. `lines` are the values of the header, in their order.
    pub(super) fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let all = lines.flat_map(|line| Cookie::split_parse(line.to_owned()).flatten());
        let all = all.map(|cookie| {
            let value = SecretText::new(cookie.value().to_owned());
            (cookie.name().to_owned(), value)
        });
        Self(all.collect())
    }

    /// The value of a cookie that is not empty. One that comes twice counts as absent: which of the two a
    /// neighbour planted cannot be told.
    pub(super) fn named(&self, name: &str) -> Option<&SecretText> {
        let mut found = self.0.iter().filter(|(own, _)| own == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) if !value.expose().is_empty() => Some(value),
            _ => None,
        }
    }
}
