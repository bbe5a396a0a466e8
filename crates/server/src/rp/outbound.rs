//! The way out: requests to identity providers. Names are resolved here and every address is checked
//! before a connection is made to that very address, so that a name cannot change its mind in between.
//! https only, except to this machine; no redirects, no proxy, five seconds, a megabyte.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use keywright_domain::SecretText;
use keywright_domain::issuer::is_loopback_host;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use url::{Host, Url};
use zeroize::Zeroizing;

use super::addresses::is_allowed;

const LIMIT: Duration = Duration::from_secs(5);
const LARGEST: usize = 1024 * 1024;
const EXCERPT: usize = 300;
const USER_AGENT: &str = concat!("Keywright/", env!("CARGO_PKG_VERSION"));

/// Why there is no answer. Hosts only: addresses may carry what is not for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutboundError {
    /// Plain http to another machine, or what is no address of the web.
    #[error("{0} does not use https")]
    Insecure(String),
    /// An address of our own network (S66).
    #[error("{0} is within a private network")]
    Forbidden(String),
    /// Never followed: a secret could go astray.
    #[error("{0} answered with a redirect")]
    Redirect(String),
    /// More than a megabyte.
    #[error("{0} sent an enormous answer")]
    TooLarge(String),
    /// Nothing within five seconds (AC-078).
    #[error("{0} did not answer in time")]
    Timeout(String),
    /// No connection, or it broke.
    #[error("{0} could not be reached")]
    Unreachable(String),
}

/// A whole answer.
pub(crate) struct Answer {
    /// Status.
    pub(crate) status: u16,
    /// Wiped when dropped: it may hold tokens.
    pub(crate) body: Zeroizing<Vec<u8>>,
}

/// The beginning of an answer.
pub(crate) struct Beginning {
    /// Status.
    pub(crate) status: u16,
    /// A few hundred bytes, as text.
    pub(crate) excerpt: String,
    /// How long to wait (`Retry-After` in seconds, RFC 9110 §10.2.3); a date in its place is not read.
    pub(crate) retry_after_s: Option<u32>,
}

/// Carries requests out. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Outbound {
    client: reqwest::Client,
    private_too: bool,
}

impl Outbound {
    /// `private_too`: also to this machine and private networks.
    ///
    /// # Errors
    /// What is wrong with the TLS part of this system.
    pub(crate) fn new(private_too: bool) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // A proxy would resolve names itself, past the check.
            .no_proxy()
            .dns_resolver(CheckedNames { private_too })
            .connect_timeout(LIMIT)
            .timeout(LIMIT)
            .pool_max_idle_per_host(4)
            .pool_idle_timeout(Duration::from_secs(20))
            .build()
            .map_err(|error| error.without_url().to_string())?;
        Ok(Self {
            client,
            private_too,
        })
    }

    /// Fetches a document.
    ///
    /// # Errors
    /// [`OutboundError`].
    pub(crate) async fn get(
        &self,
        url: &Url,
        bearer: Option<&SecretText>,
    ) -> Result<Answer, OutboundError> {
        self.check(url)?;
        let mut request = self.client.get(url.clone());
        if let Some(token) = bearer {
            request = request.bearer_auth(token.expose());
        }
        self.send(url, request).await
    }

    /// Sends a form. `basic`: id and secret, as they go into the header.
    ///
    /// # Errors
    /// [`OutboundError`].
    pub(crate) async fn post_form(
        &self,
        url: &Url,
        form: String,
        basic: Option<(&str, &SecretText)>,
    ) -> Result<Answer, OutboundError> {
        self.check(url)?;
        let mut request = self
            .client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        if let Some((id, secret)) = basic {
            request = request.basic_auth(id, Some(secret.expose()));
        }
        self.send(url, request).await
    }

    /// Sends bytes with headers of the caller's, and reads only the beginning of the answer.
    ///
    /// # Errors
    /// [`OutboundError`].
    pub(crate) async fn post_bytes(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<Beginning, OutboundError> {
        self.check(url)?;
        let host = host_text(url);
        let failed = |error: reqwest::Error| explain(host.clone(), &error);
        let request = self.client.post(url.clone()).headers(headers).body(body);
        let mut response = request.timeout(within).send().await.map_err(failed)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(OutboundError::Redirect(host));
        }
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after_s = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let mut excerpt = Vec::new();
        // An answer that breaks off was an answer all the same.
        while let Ok(Some(chunk)) = response.chunk().await {
            let left = EXCERPT - excerpt.len();
            excerpt.extend_from_slice(&chunk[..chunk.len().min(left)]);
            if excerpt.len() == EXCERPT {
                break;
            }
        }
        Ok(Beginning {
            status: status.as_u16(),
            excerpt: String::from_utf8_lossy(&excerpt).into_owned(),
            retry_after_s,
        })
    }

    /// Refuses addresses that can be refused without asking anybody.
    ///
    /// # Errors
    /// [`OutboundError::Insecure`], [`OutboundError::Forbidden`].
    pub(crate) fn check(&self, url: &Url) -> Result<(), OutboundError> {
        check(url, self.private_too)
    }

    async fn send(
        &self,
        url: &Url,
        request: reqwest::RequestBuilder,
    ) -> Result<Answer, OutboundError> {
        let host = host_text(url);
        let failed = |error: reqwest::Error| explain(host.clone(), &error);
        let mut response = request
            .header(ACCEPT, "application/json")
            .send()
            .await
            .map_err(failed)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(OutboundError::Redirect(host));
        }
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LARGEST {
                return Err(OutboundError::TooLarge(host));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status: status.as_u16(),
            body,
        })
    }
}

/// Refuses addresses that can be refused without asking anybody: those of the settings, before anything
/// starts.
///
/// # Errors
/// [`OutboundError::Insecure`], [`OutboundError::Forbidden`].
pub(crate) fn check(url: &Url, private_too: bool) -> Result<(), OutboundError> {
    let host = host_text(url);
    let here = url.host_str().is_some_and(is_loopback_host);
    let secure = match url.scheme() {
        "https" => true,
        "http" => here && private_too,
        _ => false,
    };
    if !secure {
        return Err(OutboundError::Insecure(host));
    }
    // Addresses are not resolved: they are looked at here.
    let literal = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        Some(Host::Domain(_)) => None,
        None => return Err(OutboundError::Insecure(host)),
    };
    match literal {
        Some(address) if !is_allowed(address, private_too) => Err(OutboundError::Forbidden(host)),
        _ => Ok(()),
    }
}

/// Resolves names, and refuses the whole name where one of its addresses is not allowed.
struct CheckedNames {
    private_too: bool,
}

/// A name that leads into a private network.
#[derive(Debug, thiserror::Error)]
#[error("the name leads into a private network")]
struct LeadsInside;

impl Resolve for CheckedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let private_too = self.private_too;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.take(64).collect();
            if !found.iter().all(|one| is_allowed(one.ip(), private_too)) {
                return Err(LeadsInside.into());
            }
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}

fn explain(host: String, error: &reqwest::Error) -> OutboundError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(one) = cause {
        if one.is::<LeadsInside>() {
            return OutboundError::Forbidden(host);
        }
        cause = one.source();
    }
    if error.is_timeout() {
        OutboundError::Timeout(host)
    } else {
        OutboundError::Unreachable(host)
    }
}

/// Scheme and authority: never a path, a query or a password.
fn host_text(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, private_too: bool) -> Result<(), OutboundError> {
        Outbound::new(private_too)
            .unwrap()
            .check(&Url::parse(text).unwrap())
    }

    #[test]
    fn s66_addresses_written_out_are_looked_at_in_every_spelling() {
        assert_eq!(check("https://8.8.8.8/", false), Ok(()));
        assert_eq!(check("https://id.example.com/", false), Ok(()));
        for inside in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[fd00:ec2::254]/",
            "https://0/",
        ] {
            let refused = check(inside, false);
            assert!(
                matches!(refused, Err(OutboundError::Forbidden(_))),
                "{inside} {refused:?}"
            );
        }
        for plain in [
            "http://id.example.com/",
            "http://127.0.0.1/",
            "ftp://8.8.8.8/",
            "file:///etc/passwd",
        ] {
            assert!(
                matches!(check(plain, false), Err(OutboundError::Insecure(_))),
                "{plain}"
            );
        }
        assert_eq!(check("http://127.0.0.1:4000/", true), Ok(()));
        assert!(check("http://10.0.0.1/", true).is_err());
        assert!(check("https://0.0.0.0/", true).is_err());
    }

    #[tokio::test]
    async fn ac_205_s66_a_name_that_leads_to_this_machine_is_not_asked() {
        let outbound = Outbound::new(false).unwrap();
        let url = Url::parse("https://localhost/").unwrap();
        let answer = outbound.get(&url, None).await;
        assert_eq!(
            answer.err(),
            Some(OutboundError::Forbidden("https://localhost".into()))
        );
    }

    #[tokio::test]
    async fn ac_205_s66_no_way_of_asking_goes_to_an_address_within() {
        let outbound = Outbound::new(false).unwrap();
        let url = Url::parse("https://127.0.0.1:1/").unwrap();
        let forbidden = Some(OutboundError::Forbidden("https://127.0.0.1:1".into()));
        assert_eq!(outbound.get(&url, None).await.err(), forbidden);
        let sent = outbound.post_form(&url, String::new(), None).await;
        assert_eq!(sent.err(), forbidden);
        let sent = outbound.post_bytes(&url, HeaderMap::new(), Vec::new(), LIMIT);
        assert_eq!(sent.await.err(), forbidden);
    }
}
