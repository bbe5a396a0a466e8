//! The issuer: one text, compared byte for byte, and addresses below it that may be asked.

use serde_json::{Map, Value};
use url::{Host, Url};

use crate::error::SetupError;

/// An issuer as configured.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    text: String,
    loopback: bool,
}

/// Addresses of an issuer.
#[derive(Debug)]
pub(crate) struct Metadata {
    /// Its keys.
    pub(crate) jwks_uri: Option<Url>,
    /// Where it says whether a token is good (RFC 7662).
    pub(crate) introspection_endpoint: Option<Url>,
}

impl Issuer {
    /// Takes the text as it is.
    pub(crate) fn parse(text: &str) -> Result<Self, SetupError> {
        // What an address's parser leaves out of sight would be compared all the same.
        let foreign = |c: char| c.is_whitespace() || c.is_control() || "?#@\\\"<>".contains(c);
        let begins = ["https://", "http://"]
            .iter()
            .any(|one| text.starts_with(one));
        if !begins || text.contains(foreign) {
            return Err(SetupError::Issuer);
        }
        let url = Url::parse(text).map_err(|_| SetupError::Issuer)?;
        let loopback = is_loopback(&url);
        let plain = url.query().is_none() && url.fragment().is_none() && has_no_user(&url);
        let reachable = url.scheme() == "https" || (url.scheme() == "http" && loopback);
        if !plain || !reachable || url.host().is_none() {
            return Err(SetupError::Issuer);
        }
        Ok(Self {
            text: text.to_owned(),
            loopback,
        })
    }

    /// Byte for byte as configured.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is on this machine; a proxy must not see such requests.
    pub(crate) fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Where its metadata is (OpenID Connect Discovery §4).
    pub(crate) fn discovery_url(&self) -> Option<Url> {
        let base = self.text.strip_suffix('/').unwrap_or(&self.text);
        Url::parse(&format!("{base}/.well-known/openid-configuration")).ok()
    }

    /// What its metadata say; none if they are of another issuer. An address that may not be asked counts
    /// as none.
    pub(crate) fn metadata(&self, document: &Map<String, Value>) -> Option<Metadata> {
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        let endpoint = |name: &str| text(name).and_then(|address| self.endpoint(address));
        (text("issuer") == Some(self.as_str())).then(|| Metadata {
            jwks_uri: endpoint("jwks_uri"),
            introspection_endpoint: endpoint("introspection_endpoint"),
        })
    }

    /// An address that the metadata name: https, or http to this machine where the issuer is on it.
    pub(crate) fn endpoint(&self, text: &str) -> Option<Url> {
        let url = Url::parse(text).ok()?;
        let allowed = url.scheme() == "https"
            || (url.scheme() == "http" && self.loopback && is_loopback(&url));
        (allowed && has_no_user(&url) && url.fragment().is_none()).then_some(url)
    }
}

fn has_no_user(url: &Url) -> bool {
    url.username().is_empty() && url.password().is_none()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
