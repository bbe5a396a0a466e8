//! Where a browser may be sent after it signed in: a path of ours and nothing else (AC-075).

/// A path of this site. Browsers read `\` as `/`, strip tabs and line ends, and take `//host` as
/// another host; anything of that kind is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalPath(String);

impl LocalPath {
    /// Reads a path, with or without a query; none for what could lead elsewhere.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let odd = |c: char| c.is_control() || c.is_whitespace() || c == '\\';
        let path = text.split(['?', '#']).next().unwrap_or("");
        let lower = path.to_ascii_lowercase();
        let hidden = ["%5c", "%2f", "%09", "%0a", "%0d", "%00"];
        let good = text.starts_with('/')
            && !text.starts_with("//")
            && text.len() <= 8_000
            && !text.contains(odd)
            && !path.contains("//")
            // Browsers read an encoded dot as a dot (URL standard, double-dot segments).
            && !lower.split('/').any(|part| part.replace("%2e", ".") == "..")
            && !hidden.iter().any(|encoded| lower.contains(encoded));
        good.then(|| Self(text.to_owned()))
    }

    /// The path.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ac_075_only_a_path_of_ours() {
        for good in ["/", "/dashboard", "/a?b=https://c/d&e=%2F%5c", "/a#b"] {
            assert!(LocalPath::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "dashboard",
            "//evil",
            "https://evil",
            "/\\evil",
            "\\\\evil",
            "javascript:alert(1)",
            "/%5cevil",
            "/%2Fevil",
            "/a//b",
            "/a/../b",
            "/a/%2e%2e/b",
            "/a/.%2E/b",
            "/\tevil",
            "/\nevil",
            " /a",
            "/%0d%0aSet-Cookie:x",
        ] {
            assert!(LocalPath::parse(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_stays_on_our_host(text in "\\PC{0,40}") {
            if let Some(path) = LocalPath::parse(&text) {
                let base = url::Url::parse("https://id.example.com/").unwrap();
                let target = base.join(path.as_str()).unwrap();
                prop_assert_eq!(target.origin(), base.origin());
            }
        }
    }
}
