//! The web origins that a key may be used from (RFC 6454). Text: origins, sorted, joined by one
//! blank: `https://app.example.org https://*.example.org:8443`.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

/// Most origins of one key.
pub const MAX_ORIGINS: usize = 64;

/// The origins that a key may be used from: sorted, without duplicates, at most 64. Empty: any,
/// and callers that name none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginList(Vec<Origin>);

/// `scheme://host[:port]`, lower-cased, without the scheme's own port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Origin {
    scheme: String,
    /// Whether one label stands before `host`: `*.example.org`.
    any_label: bool,
    host: String,
    port: Option<u16>,
}

impl OriginList {
    /// Checks origins. `https://*.example.org` stands for exactly one label before `example.org`.
    ///
    /// # Errors
    /// [`OriginError`]: the first rule broken.
    pub fn new<'a>(origins: impl IntoIterator<Item = &'a str>) -> Result<Self, OriginError> {
        let mut list = Vec::new();
        for text in origins {
            if list.len() == MAX_ORIGINS {
                return Err(OriginError::TooMany);
            }
            list.push(Origin::parse(text)?);
        }
        list.sort();
        list.dedup();
        Ok(Self(list))
    }

    /// Whether a request with this `Origin` header may pass. Where the list holds any, a request
    /// without the header, or with `null`, is refused.
    #[must_use]
    pub fn allows(&self, origin: Option<&str>) -> bool {
        if self.0.is_empty() {
            return true;
        }
        match origin.map(Origin::parse) {
            Some(Ok(origin)) => !origin.any_label && self.0.iter().any(|one| one.covers(&origin)),
            Some(Err(_)) | None => false,
        }
    }

    /// Whether the list restricts nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each origin as text.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(Origin::to_string)
    }

    /// Reads origins joined by one blank; no text, no origins.
    ///
    /// # Errors
    /// [`OriginError`].
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        Self::new(text.split(' '))
    }

    /// The text to store.
    #[must_use]
    pub fn to_text(&self) -> String {
        let texts: Vec<_> = self.texts().collect();
        texts.join(" ")
    }
}

impl Origin {
    fn parse(text: &str) -> Result<Self, OriginError> {
        if !text.is_ascii() {
            return Err(OriginError::NotAscii(shorten(text)));
        }
        let lower = text.to_ascii_lowercase();
        Self::parse_lower(&lower).ok_or_else(|| OriginError::Malformed(shorten(text)))
    }

    fn parse_lower(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let is_scheme = scheme.starts_with(|letter: char| letter.is_ascii_lowercase())
            && scheme.len() <= 32
            && scheme.bytes().all(|byte| {
                byte.is_ascii_lowercase()
                    || byte.is_ascii_digit()
                    || matches!(byte, b'+' | b'-' | b'.')
            });
        if !is_scheme {
            return None;
        }
        // The colons of an IPv6 address stand inside brackets.
        let host_end = rest.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match rest.get(host_end..)?.find(':') {
            Some(at) => {
                let (host, port) = rest.split_at(host_end + at);
                (host, Some(parse_port(&port[1..])?))
            }
            None => (rest, None),
        };
        let (any_label, host) = match host.strip_prefix("*.") {
            // A whole top-level domain is nobody's own.
            Some(parent) if !parent.contains('.') || parent.parse::<Ipv4Addr>().is_ok() => {
                return None;
            }
            Some(parent) => (true, parent),
            None => (false, host),
        };
        let default_port = match scheme {
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            _ => None,
        };
        Some(Self {
            scheme: scheme.to_owned(),
            any_label,
            host: parse_host(host)?,
            port: port.filter(|port| Some(*port) != default_port),
        })
    }

    fn covers(&self, other: &Self) -> bool {
        let host_fits = if self.any_label {
            let label = other
                .host
                .strip_suffix(&self.host)
                .and_then(|rest| rest.strip_suffix('.'));
            label.is_some_and(|label| !label.is_empty() && !label.contains('.'))
        } else {
            self.host == other.host
        };
        host_fits && self.scheme == other.scheme && self.port == other.port
    }
}

fn parse_port(text: &str) -> Option<u16> {
    let port: u16 = text.parse().ok()?;
    (port > 0 && port.to_string() == text).then_some(port)
}

fn parse_host(host: &str) -> Option<String> {
    if let Some(inner) = host.strip_prefix('[') {
        let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if host.len() > 253 || !host.split('.').all(is_label) {
        return None;
    }
    // A browser reads a host whose last label is a number as an IPv4 address.
    let last = host.rsplit('.').next()?;
    if last.bytes().all(|byte| byte.is_ascii_digit()) && host.parse::<Ipv4Addr>().is_err() {
        return None;
    }
    Some(host.to_owned())
}

fn shorten(text: &str) -> String {
    text.chars().take(90).collect()
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = if self.any_label { "*." } else { "" };
        write!(f, "{}://{label}{}", self.scheme, self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// Why a text is not an origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Not `scheme://host[:port]`.
    #[error(
        "“{0}” is not an origin: write https://app.example.org, with a port if need be, without a path; * stands for one label on the left"
    )]
    Malformed(String),
    /// International names are compared in their ASCII form only.
    #[error("“{0}” holds letters beyond ASCII: write the xn-- form of the name")]
    NotAscii(String),
    /// More than [`MAX_ORIGINS`].
    #[error("a key has at most {MAX_ORIGINS} origins")]
    TooMany,
}

#[cfg(test)]
mod tests;
