//! Names and values of queries and forms: empty ones count as absent, and one that comes twice is
//! refused (S7).

use keywright_domain::SecretText;

/// At most so many.
const MOST: usize = 200;

/// Parameters, each at most once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params {
    pairs: Vec<(String, SecretText)>,
}

/// A parameter that came twice, or more of them than anybody needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the parameter {0} is there more than once")]
pub(crate) struct Repeated(pub(crate) String);

impl Params {
    /// Reads `application/x-www-form-urlencoded` text: a query or a body.
    pub(crate) fn parse(text: &str) -> Result<Self, Repeated> {
        let mut pairs: Vec<(String, SecretText)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            if pairs.len() == MOST || pairs.iter().any(|(own, _)| *own == name) {
                // `resource` may be repeated by RFC 8707 §2; we serve one resource a token.
                return Err(Repeated(name.chars().take(40).collect()));
            }
            pairs.push((name.into_owned(), SecretText::new(value.into_owned())));
        }
        Ok(Self { pairs })
    }

    /// A parameter; empty counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.expose())
            .filter(|value| !value.is_empty())
    }

    /// A parameter that must not leak.
    pub(crate) fn secret(&self, name: &str) -> Option<SecretText> {
        self.get(name)
            .map(|value| SecretText::new(value.to_owned()))
    }

    /// All of them, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s7_empty_is_absent_and_twice_is_refused() {
        let params = Params::parse("a=1&b=&c=x+y%20z&d=%26").unwrap();
        assert_eq!(params.get("a"), Some("1"));
        assert_eq!(params.get("b"), None);
        assert_eq!(params.get("c"), Some("x y z"));
        assert_eq!(params.get("d"), Some("&"));
        assert_eq!(Params::parse("a=1&a=1").unwrap_err(), Repeated("a".into()));
        // Twice is twice, also when empty.
        assert!(Params::parse("a=&a=1").is_err());
        let many: String = (0..=MOST).map(|n| format!("p{n}=1&")).collect();
        assert!(Params::parse(&many).is_err());
        assert!(!format!("{params:?}").contains("x y z"));
    }
}
