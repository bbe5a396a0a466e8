//! `Authorization: Basic` of clients (RFC 6749 §2.3.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywright_domain::SecretText;

/// Id and secret. Both halves are form-encoded before they are joined (RFC 6749 §2.3.1). None with U+0000 in it, which no
/// id has (appendix A.1) and not every database can be asked for.
pub(crate) fn read_basic(header: &str) -> Option<(String, SecretText)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = STANDARD.decode(encoded.trim()).ok()?;
    let text = SecretText::new(String::from_utf8(bytes).ok()?);
    let (id, secret) = text.expose().split_once(':')?;
    let (id, secret) = (form_decode(id), SecretText::new(form_decode(secret)));
    (!id.contains('\0') && !secret.expose().contains('\0')).then_some((id, secret))
}

fn form_decode(text: &str) -> String {
    // One value without a name: `&` and `=` in it must not split it.
    let escaped = text.replace('&', "%26").replace('=', "%3D");
    url::form_urlencoded::parse(escaped.as_bytes())
        .next()
        .map(|(value, _)| value.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s18_basic_is_form_decoded() {
        let encode = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let (id, secret) = read_basic(&encode("my%20client:p%26w%3D%2B+x")).unwrap();
        assert_eq!((id.as_str(), secret.expose()), ("my client", "p&w=+ x"));
        let (id, secret) = read_basic(&encode("a:b&c=d:e")).unwrap();
        assert_eq!((id.as_str(), secret.expose()), ("a", "b&c=d:e"));
        assert!(read_basic("Bearer x").is_none());
        assert!(read_basic("Basic !!!").is_none());
        for nul in ["a\0:b", "a:b\0", "a%00:b", "a:%00"] {
            assert!(read_basic(&encode(nul)).is_none(), "{nul:?}");
        }
    }
}
