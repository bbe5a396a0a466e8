//! The issuer: one constant string, compared byte for byte and never normalised
//! (OpenID Connect Discovery §4.3, RFC 8414 §3.3, RFC 9207 §2.4).

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// An issuer identifier as configured.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Issuer(String);

/// Why a text is no issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidIssuer {
    /// Plain http to anything but this machine.
    #[error("The issuer must start with https://.")]
    Insecure,
    /// Not an address of the form `https://host[:port][/path]`.
    #[error(
        "The issuer must be an address such as https://id.example.com, without query or fragment."
    )]
    Malformed,
}

const LONGEST: usize = 512;

impl Issuer {
    /// Takes the text as it is.
    ///
    /// # Errors
    /// [`InvalidIssuer`]; `http` is accepted for loopback addresses only.
    pub fn parse(text: &str) -> Result<Self, InvalidIssuer> {
        let (secure, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            Some(_) => return Err(InvalidIssuer::Insecure),
            None => return Err(InvalidIssuer::Malformed),
        };
        let foreign = |c: char| c.is_whitespace() || c.is_control() || "?#@\\\"<>".contains(c);
        let host = host_of(rest);
        if text.len() > LONGEST || host.is_empty() || rest.contains(foreign) {
            return Err(InvalidIssuer::Malformed);
        }
        if !secure && !is_loopback_host(host) {
            return Err(InvalidIssuer::Insecure);
        }
        Ok(Self(text.to_owned()))
    }

    /// Byte for byte as configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, for showing.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0
            .split_once("://")
            .map_or("", |(_, rest)| host_of(rest))
    }

    /// Whether this issuer lives on this machine; only then may its endpoints speak plain http.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback_host(self.host())
    }

    /// Where its metadata is (OpenID Connect Discovery §4: a closing slash is dropped first).
    #[must_use]
    pub fn discovery_url(&self) -> String {
        format!(
            "{}/.well-known/openid-configuration",
            self.0.strip_suffix('/').unwrap_or(&self.0)
        )
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn host_of(rest: &str) -> &str {
    let authority = rest.split('/').next().unwrap_or("");
    if let Some(end) = authority
        .strip_prefix('[')
        .and_then(|inner| inner.find(']'))
    {
        return &authority[..end + 2];
    }
    authority.split(':').next().unwrap_or("")
}

/// Whether a host is this machine: `localhost`, 127.0.0.0/8 or `[::1]`.
#[must_use]
pub fn is_loopback_host(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    match bare {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback()),
        None => host == "localhost" || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback()),
    }
}

/// Which `iss` a provider may put into its metadata and its ID tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuerRule {
    /// The issuer itself and nothing else: every honest provider.
    Exact(Issuer),
    /// The issuer, or the issuer without `https://`: Google's documented exception.
    WithOrWithoutScheme(Issuer),
    /// `{tenantid}` in the metadata stands for the token's `tid` claim: Microsoft's multi-tenant
    /// endpoints, whose one metadata document serves every tenant.
    TenantTemplate(String),
}

impl IssuerRule {
    /// Whether the metadata's `issuer` is the expected one.
    #[must_use]
    pub fn accepts_metadata(&self, issuer: &str) -> bool {
        match self {
            Self::Exact(own) | Self::WithOrWithoutScheme(own) => own.as_str() == issuer,
            Self::TenantTemplate(template) => template == issuer,
        }
    }

    /// Whether an ID token's `iss` is acceptable; `tid` is that token's tenant claim.
    #[must_use]
    pub fn accepts_token(&self, iss: &str, tid: Option<&str>) -> bool {
        match self {
            Self::Exact(own) => own.as_str() == iss,
            Self::WithOrWithoutScheme(own) => {
                own.as_str() == iss || own.as_str().strip_prefix("https://") == Some(iss)
            }
            Self::TenantTemplate(template) => {
                tid.is_some_and(|tid| is_guid(tid) && template.replace("{tenantid}", tid) == iss)
            }
        }
    }

    /// Whether the `iss` of an authorization response (RFC 9207) is acceptable.
    #[must_use]
    pub fn accepts_response(&self, iss: &str) -> bool {
        match self {
            Self::Exact(own) | Self::WithOrWithoutScheme(own) => own.as_str() == iss,
            Self::TenantTemplate(template) => match template.split_once("{tenantid}") {
                Some((before, after)) => {
                    let inner = iss
                        .strip_prefix(before)
                        .and_then(|rest| rest.strip_suffix(after));
                    inner.is_some_and(is_guid)
                }
                None => false,
            },
        }
    }
}

fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::{InvalidIssuer, Issuer, IssuerRule, is_loopback_host};

    #[test]
    fn ac_020_plain_http_is_for_loopback_only() {
        for good in [
            "https://id.example.com",
            "https://id.example.com:8443/realms/a/",
            "http://127.0.0.1:4000",
            "http://[::1]:4000/x",
            "http://localhost",
        ] {
            assert!(
                Issuer::parse(good).is_ok_and(|issuer| issuer.as_str() == good),
                "{good}"
            );
        }
        for bad in [
            "http://id.example.com",
            "http://127.0.0.1.example.com",
            "http://localhost.example.com",
            "http://[::2]",
            "http://10.0.0.1",
            "ftp://x",
        ] {
            assert_eq!(Issuer::parse(bad), Err(InvalidIssuer::Insecure), "{bad}");
        }
        for bad in [
            "",
            "id.example.com",
            "https://",
            "https:///x",
            "https://a b",
            "https://a?b",
            "https://a#b",
            "https://user@a",
            "https://a\n",
        ] {
            assert_eq!(Issuer::parse(bad), Err(InvalidIssuer::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn a_closing_slash_belongs_to_the_issuer_but_not_to_its_metadata_address()
    -> Result<(), InvalidIssuer> {
        let issuer = Issuer::parse("https://id.example.com/a/")?;
        assert_eq!(
            issuer.discovery_url(),
            "https://id.example.com/a/.well-known/openid-configuration"
        );
        assert!(!IssuerRule::Exact(issuer).accepts_metadata("https://id.example.com/a"));
        Ok(())
    }

    #[test]
    fn google_may_leave_out_the_scheme_in_tokens_only() -> Result<(), InvalidIssuer> {
        let rule = IssuerRule::WithOrWithoutScheme(Issuer::parse("https://accounts.google.com")?);
        assert!(
            rule.accepts_token("accounts.google.com", None)
                && rule.accepts_token("https://accounts.google.com", None)
        );
        assert!(
            !rule.accepts_token("http://accounts.google.com", None)
                && !rule.accepts_metadata("accounts.google.com")
        );
        Ok(())
    }

    #[test]
    fn microsoft_tenants_come_from_the_token() {
        let rule = IssuerRule::TenantTemplate("https://login.example/{tenantid}/v2.0".to_owned());
        let tid = "9188040d-6c67-4c5b-b112-36a304b66dad";
        let iss = format!("https://login.example/{tid}/v2.0");
        assert!(rule.accepts_token(&iss, Some(tid)) && rule.accepts_response(&iss));
        assert!(!rule.accepts_token(&iss, None));
        assert!(!rule.accepts_token(&iss, Some("9188040d-6c67-4c5b-b112-36a304b66dae")));
        assert!(!rule.accepts_token("https://login.example/x/evil/v2.0", Some("x/evil")));
        assert!(!rule.accepts_response("https://login.example/x/v2.0"));
    }

    #[test]
    fn loopback_hosts() {
        for (host, loopback) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("[::1]", true),
            ("localhost", true),
            ("0.0.0.0", false),
            ("[::]", false),
            ("LOCALHOST.", false),
            ("", false),
        ] {
            assert_eq!(is_loopback_host(host), loopback, "{host}");
        }
    }
}
