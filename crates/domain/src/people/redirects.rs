//! Redirect URIs: what may be registered, and the one matcher (OAuth 2.1 §2.3, RFC 8252 §7).

/// Why a text cannot be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedirectUriError {
    /// Not an absolute URI, or one with characters that a URI has to escape.
    #[error("a redirect URI is a complete address such as https://app.example.com/callback")]
    Malformed,
    /// It has a fragment.
    #[error("a redirect URI has no fragment")]
    Fragment,
    /// It has a name or password before the host.
    #[error("a redirect URI has no name before its host")]
    UserInfo,
    /// It has a wildcard.
    #[error("a redirect URI has no wildcard")]
    Wildcard,
    /// Plain http to anything but 127.0.0.1 or [::1].
    #[error("http is for 127.0.0.1 and [::1] only: use https")]
    Insecure,
    /// A private-use scheme that is no reversed domain name (RFC 8252 §7.1).
    #[error("a scheme of one's own is a domain name in reverse, such as com.example.app")]
    Scheme,
}

/// A redirect URI that a client registered, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RedirectUri(String);

const LONGEST: usize = 2048;
const LOOPBACKS: [&str; 2] = ["http://127.0.0.1", "http://[::1]"];

impl RedirectUri {
    /// Checks a URI before it is registered. It is kept as it is and never normalised.
    ///
    /// # Errors
    /// [`RedirectUriError`].
    pub fn new(text: &str) -> Result<Self, RedirectUriError> {
        let allowed = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
        if text.len() > LONGEST || !text.bytes().all(allowed) {
            return Err(RedirectUriError::Malformed);
        }
        if text.contains('#') {
            return Err(RedirectUriError::Fragment);
        }
        if text.contains('*') {
            return Err(RedirectUriError::Wildcard);
        }
        let (scheme, rest) = text.split_once(':').ok_or(RedirectUriError::Malformed)?;
        match scheme {
            "https" => check_host(rest)?,
            "http" => {
                check_host(rest)?;
                if split_loopback(text).is_none() {
                    return Err(RedirectUriError::Insecure);
                }
            }
            _ => check_private_scheme(scheme, rest)?,
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a request may ask for `asked`: byte for byte the same, or the same but for the port
    /// where this one is `http` to 127.0.0.1 or `[::1]` (RFC 8252 §7.3). `localhost` is neither.
    #[must_use]
    pub fn allows(&self, asked: &str) -> bool {
        if self.0 == asked {
            return true;
        }
        match (split_loopback(&self.0), split_loopback(asked)) {
            (Some(own), Some(other)) => own == other,
            _ => false,
        }
    }
}

/// The loopback host and what comes after the port, if it is such an address.
fn split_loopback(text: &str) -> Option<(&'static str, &str)> {
    let (host, rest) = LOOPBACKS
        .iter()
        .find_map(|host| Some((*host, text.strip_prefix(host)?)))?;
    let rest = match rest.strip_prefix(':') {
        Some(port_and_rest) => {
            let digits = port_and_rest.bytes().take_while(u8::is_ascii_digit).count();
            let (port, rest) = port_and_rest.split_at(digits);
            port.parse::<u16>().ok().filter(|port| *port != 0)?;
            rest
        }
        None => rest,
    };
    // Anything else would be another host, such as 127.0.0.1.example.com or 127.0.0.1@example.com.
    (rest.is_empty() || rest.starts_with(['/', '?'])).then_some((host, rest))
}

fn check_host(rest: &str) -> Result<(), RedirectUriError> {
    let rest = rest.strip_prefix("//").ok_or(RedirectUriError::Malformed)?;
    let authority = rest.split(['/', '?']).next().unwrap_or("");
    if authority.contains('@') {
        return Err(RedirectUriError::UserInfo);
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(inner) => inner.split_once(']').ok_or(RedirectUriError::Malformed)?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let good_port = match port.strip_prefix(':') {
        Some(digits) => digits.parse::<u16>().is_ok(),
        None => port.is_empty(),
    };
    if host.is_empty() || !good_port {
        return Err(RedirectUriError::Malformed);
    }
    Ok(())
}

/// `javascript:`, `data:` and the like have no dot, so they are refused with every other scheme
/// that could be somebody else's.
fn check_private_scheme(scheme: &str, rest: &str) -> Result<(), RedirectUriError> {
    let label = |part: &str| {
        let plain = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'+')
        };
        !part.is_empty() && part.bytes().all(plain)
    };
    let reversed = scheme.contains('.')
        && scheme.split('.').all(label)
        && scheme.starts_with(|first: char| first.is_ascii_lowercase());
    if !reversed {
        return Err(RedirectUriError::Scheme);
    }
    if rest.is_empty() {
        return Err(RedirectUriError::Malformed);
    }
    let authority = rest.strip_prefix("//").unwrap_or("");
    if authority
        .split(['/', '?'])
        .next()
        .unwrap_or("")
        .contains('@')
    {
        return Err(RedirectUriError::UserInfo);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uri(text: &str) -> RedirectUri {
        RedirectUri::new(text).unwrap()
    }

    #[test]
    fn s2_s6_what_may_be_registered() {
        for good in [
            "https://app.example.com/callback",
            "https://app.example.com:8443/cb?x=1",
            "https://[2001:db8::1]/cb",
            "http://127.0.0.1/callback",
            "http://127.0.0.1:1234/callback",
            "http://[::1]/callback",
            "com.example.app:/callback",
            "com.example.app://callback/@",
        ] {
            assert!(RedirectUri::new(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", RedirectUriError::Malformed),
            ("/callback", RedirectUriError::Malformed),
            ("//evil.example/cb", RedirectUriError::Malformed),
            ("https:/app.example.com", RedirectUriError::Malformed),
            ("https://", RedirectUriError::Malformed),
            ("https://app.example.com:x/", RedirectUriError::Malformed),
            ("https://app.example.com/a b", RedirectUriError::Malformed),
            ("https://app.example.com/\\x", RedirectUriError::Malformed),
            ("https://app.example.com/cb#", RedirectUriError::Fragment),
            ("https://a@app.example.com/cb", RedirectUriError::UserInfo),
            ("com.example.app://a@cb", RedirectUriError::UserInfo),
            ("https://*.example.com/cb", RedirectUriError::Wildcard),
            ("http://app.example.com/cb", RedirectUriError::Insecure),
            ("http://localhost/cb", RedirectUriError::Insecure),
            (
                "http://127.0.0.1.example.com/cb",
                RedirectUriError::Insecure,
            ),
            ("http://127.0.0.2/cb", RedirectUriError::Insecure),
            ("javascript:alert(1)", RedirectUriError::Scheme),
            ("data:text/html,x", RedirectUriError::Scheme),
            ("myapp:/cb", RedirectUriError::Scheme),
        ] {
            assert_eq!(RedirectUri::new(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn ac_056_only_the_registered_text_matches() {
        let own = uri("https://app.example.com/callback");
        assert!(own.allows("https://app.example.com/callback"));
        for other in [
            "https://app.example.com/callback/",
            "https://app.example.com/callback/x",
            "https://app.example.com/callback?x=1",
            "https://app.example.com/Callback",
            "https://app.example.com:443/callback",
            "https://APP.example.com/callback",
            "https://x@app.example.com/callback",
            "http://app.example.com/callback",
        ] {
            assert!(!own.allows(other), "{other}");
        }
    }

    #[test]
    fn ac_057_s3_a_loopback_address_may_have_any_port_and_nothing_else() {
        for own in ["http://127.0.0.1/callback", "http://127.0.0.1:1/callback"] {
            let own = uri(own);
            assert!(own.allows("http://127.0.0.1/callback"));
            assert!(own.allows("http://127.0.0.1:65535/callback"));
            for other in [
                "http://127.0.0.1:80/other",
                "http://127.0.0.1:80/callback?x",
                "http://127.0.0.1:80/callback#x",
                "http://127.0.0.1:65536/callback",
                "http://127.0.0.1:0/callback",
                "http://127.0.0.1:/callback",
                "http://127.0.0.1:8x/callback",
                "http://localhost:80/callback",
                "http://[::1]:80/callback",
                "http://127.0.0.2:80/callback",
                "http://127.0.0.1:80@evil.example/callback",
                "https://127.0.0.1:80/callback",
            ] {
                assert!(!own.allows(other), "{other}");
            }
        }
        assert!(uri("http://[::1]/cb?a=b").allows("http://[::1]:4000/cb?a=b"));
        assert!(!uri("https://127.0.0.1/cb").allows("https://127.0.0.1:80/cb"));
    }

    proptest! {
        #[test]
        fn what_matches_a_registered_address_could_be_registered(
            path in "[/?a-z@:.]{0,12}", port in 1_u16..,
        ) {
            let own = uri("http://127.0.0.1/cb");
            let asked = format!("http://127.0.0.1:{port}{path}");
            prop_assert_eq!(own.allows(&asked), path == "/cb");
        }
    }
}
