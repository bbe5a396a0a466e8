//! The app's way out to the network: the system's trust store and proxy, no redirects, time-outs,
//! size limits. No address with a query and no body is ever logged or put into an error.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use keywright_domain::issuer::is_loopback_host;
use reqwest::header::{CONTENT_TYPE, DATE};
use thiserror::Error;
use url::Url;
use zeroize::Zeroizing;

use crate::clock::now_ms;

const CONNECT_LIMIT: Duration = Duration::from_secs(8);
const READ_LIMIT: Duration = Duration::from_secs(10);
const OVERALL_LIMIT: Duration = Duration::from_secs(20);
const USER_AGENT: &str = concat!("Keywright/", env!("CARGO_PKG_VERSION"));

/// No honest token, metadata or key document comes near this.
pub(crate) const BODY_LIMIT: usize = 1024 * 1024;

/// Why a request brought no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HttpError {
    /// Plain http to another machine, or from an https issuer.
    #[error("{0} does not use https.")]
    InsecureEndpoint(String),
    /// A redirect, which is never followed: tokens could go astray.
    #[error("{host} answered with a redirect ({status}), which is not followed.")]
    UnexpectedRedirect {
        /// Who answered.
        host: String,
        /// 3xx.
        status: u16,
    },
    /// More than [`BODY_LIMIT`].
    #[error("{0} sent an enormous answer, which was not read.")]
    ResponseTooLarge(String),
    /// No answer: names, routes, proxies, certificates, time.
    #[error("{host} could not be reached: {detail}.")]
    Network {
        /// Who should have answered.
        host: String,
        /// What went wrong, in a few words.
        detail: String,
        /// Whether it was the certificate.
        certificate: bool,
        /// Whether the request may have arrived: only its answer is missing then.
        sent: bool,
    },
    /// The extra certificate file of the settings cannot be used.
    #[error("The certificate file {path} cannot be used: {detail}.")]
    ExtraCa {
        /// The file.
        path: String,
        /// Why.
        detail: String,
    },
    /// The TLS part of this system is broken.
    #[error("Secure connections cannot be set up on this system: {0}.")]
    Setup(String),
}

/// A whole answer.
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// Media type without parameters, lower case.
    pub(crate) media_type: String,
    /// Wiped when dropped: it may hold tokens.
    pub(crate) body: Zeroizing<Vec<u8>>,
    /// How far the server's `Date` is ahead of our clock.
    pub(crate) clock_offset_ms: Option<i64>,
}

impl Answer {
    /// What came, for an error message: never the body itself.
    pub(crate) fn describe(&self) -> String {
        let kind = match self.media_type.as_str() {
            "text/html" => "an HTML page",
            "" => "an answer without a media type",
            other => return format!("{other} with status {}", self.status),
        };
        format!("{kind} with status {}", self.status)
    }

    pub(crate) fn is_json(&self) -> bool {
        self.media_type == "application/json" || self.media_type.ends_with("+json")
    }
}

/// A request to an API of ours.
pub(crate) struct ApiRequest<'a> {
    pub(crate) method: http::Method,
    pub(crate) url: &'a Url,
    pub(crate) bearer: &'a str,
    pub(crate) headers: &'a [(&'static str, String)],
    /// JSON; wiped by who made it, as far as it may hold a key.
    pub(crate) body: Option<&'a [u8]>,
}

/// Carries requests. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    /// Through the system's proxy, where there is one.
    outward: reqwest::Client,
    /// To this machine: a proxy must never see these.
    loopback: reqwest::Client,
}

impl HttpClient {
    /// Trusts what the system trusts, and the certificates of one PEM file besides.
    pub(crate) fn new(extra_ca_file: Option<&Path>) -> Result<Self, HttpError> {
        let extra = extra_ca_file
            .map(read_certificates)
            .transpose()?
            .unwrap_or_default();
        let build = |proxy: bool| {
            let builder = reqwest::Client::builder()
                .user_agent(USER_AGENT)
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .connect_timeout(CONNECT_LIMIT)
                .read_timeout(READ_LIMIT)
                .timeout(OVERALL_LIMIT)
                .pool_idle_timeout(Duration::from_secs(20))
                .tls_certs_merge(extra.clone());
            let builder = if proxy { builder } else { builder.no_proxy() };
            builder
                .build()
                .map_err(|error| HttpError::Setup(error.without_url().to_string()))
        };
        Ok(Self {
            outward: build(true)?,
            loopback: build(false)?,
        })
    }

    /// Fetches a document.
    pub(crate) async fn get(&self, url: &Url, bearer: Option<&str>) -> Result<Answer, HttpError> {
        let client = self.client_for(url)?;
        let mut request = client.get(url.clone()).header("Accept", "application/json");
        if let Some(bearer) = bearer {
            request = request.bearer_auth(bearer);
        }
        let request = request
            .build()
            .map_err(|error| HttpError::Setup(error.without_url().to_string()))?;
        self.send(client, request).await
    }

    /// Asks an API something: without a body, by access token.
    pub(crate) async fn ask(
        &self,
        method: http::Method,
        url: &Url,
        bearer: &str,
    ) -> Result<Answer, HttpError> {
        let client = self.client_for(url)?;
        let request = client
            .request(method, url.clone())
            .header("Accept", "application/json")
            .bearer_auth(bearer)
            .build()
            .map_err(|error| HttpError::Setup(error.without_url().to_string()))?;
        self.send(client, request).await
    }

    /// Asks an API something, with headers and a body of JSON.
    pub(crate) async fn call(&self, asked: ApiRequest<'_>) -> Result<Answer, HttpError> {
        let client = self.client_for(asked.url)?;
        let mut request = client
            .request(asked.method, asked.url.clone())
            .header("Accept", "application/json")
            .bearer_auth(asked.bearer);
        for (name, value) in asked.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = asked.body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_vec());
        }
        let request = request
            .build()
            .map_err(|error| HttpError::Setup(error.without_url().to_string()))?;
        self.send(client, request).await
    }

    /// Sends a request that oauth2 built.
    pub(crate) async fn post(&self, request: oauth2::HttpRequest) -> Result<Answer, HttpError> {
        let setup = |error: String| HttpError::Setup(error);
        let (parts, body) = request.into_parts();
        let url = Url::parse(&parts.uri.to_string()).map_err(|error| setup(error.to_string()))?;
        let client = self.client_for(&url)?;
        let request = client
            .request(parts.method, url)
            .headers(parts.headers)
            .body(body);
        let request = request
            .build()
            .map_err(|error| setup(error.without_url().to_string()))?;
        self.send(client, request).await
    }

    fn client_for(&self, url: &Url) -> Result<&reqwest::Client, HttpError> {
        check_endpoint(url)?;
        Ok(if is_loopback(url) {
            &self.loopback
        } else {
            &self.outward
        })
    }

    async fn send(
        &self,
        client: &reqwest::Client,
        request: reqwest::Request,
    ) -> Result<Answer, HttpError> {
        let host = host_text(request.url());
        let network = |error: reqwest::Error| network_error(host.clone(), &error);
        let mut response = client.execute(request).await.map_err(network)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(HttpError::UnexpectedRedirect {
                host,
                status: status.as_u16(),
            });
        }
        let text = |name| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let media_type = text(CONTENT_TYPE)
            .and_then(|value| value.split(';').next())
            .unwrap_or("");
        let media_type = media_type.trim().to_ascii_lowercase();
        let clock_offset_ms = text(DATE).and_then(clock_offset);
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(network)? {
            if body.len() + chunk.len() > BODY_LIMIT {
                return Err(HttpError::ResponseTooLarge(host));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status: status.as_u16(),
            media_type,
            body,
            clock_offset_ms,
        })
    }
}

/// The client of the settings in force, built again when they or the file change.
#[derive(Debug, Default)]
pub(crate) struct HttpClients {
    built: Mutex<Option<Built>>,
}

#[derive(Debug)]
struct Built {
    extra_ca: Option<(PathBuf, Option<SystemTime>)>,
    client: HttpClient,
}

impl HttpClients {
    pub(crate) fn current(&self, extra_ca_file: Option<&str>) -> Result<HttpClient, HttpError> {
        let extra_ca = extra_ca_file.map(|path| {
            let modified = std::fs::metadata(path)
                .and_then(|meta| meta.modified())
                .ok();
            (PathBuf::from(path), modified)
        });
        let mut built = self
            .built
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(built) = built.as_ref().filter(|built| built.extra_ca == extra_ca) {
            return Ok(built.client.clone());
        }
        let client = HttpClient::new(extra_ca.as_ref().map(|(path, _)| path.as_path()))?;
        *built = Some(Built {
            extra_ca,
            client: client.clone(),
        });
        Ok(client)
    }
}

/// https, or http to this machine.
pub(crate) fn check_endpoint(url: &Url) -> Result<(), HttpError> {
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(url) => Ok(()),
        _ => Err(HttpError::InsecureEndpoint(host_text(url))),
    }
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(is_loopback_host)
}

/// Scheme and authority: never a path, query or fragment.
fn host_text(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

/// Whether a file can serve as extra certificates; for the settings, which name it.
pub(crate) async fn read_ca_file(path: &str) -> Result<(), String> {
    let path = PathBuf::from(path);
    let read = tokio::task::spawn_blocking(move || read_certificates(&path)).await;
    match read {
        Ok(Ok(_certificates)) => Ok(()),
        Ok(Err(HttpError::ExtraCa { detail, .. })) => Err(detail),
        Ok(Err(other)) => Err(other.to_string()),
        Err(_panicked) => Err("it cannot be read".to_owned()),
    }
}

fn read_certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, HttpError> {
    let problem = |detail: String| HttpError::ExtraCa {
        path: path.display().to_string(),
        detail,
    };
    let pem = std::fs::read(path).map_err(|error| problem(error.to_string()))?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem)
        .map_err(|_error| problem("it is not a PEM file with certificates".to_owned()))?;
    if certificates.is_empty() {
        return Err(problem("it holds no certificate".to_owned()));
    }
    Ok(certificates)
}

fn network_error(host: String, error: &reqwest::Error) -> HttpError {
    let chain = chain_text(error);
    let certificate = chain.contains("certificate") || chain.contains("UnknownIssuer");
    let detail = if certificate {
        "its certificate is not trusted on this computer".to_owned()
    } else if error.is_timeout() {
        "it did not answer in time".to_owned()
    } else if error.is_dns() {
        "its name is not known".to_owned()
    } else if error.is_connect() {
        "no connection".to_owned()
    } else {
        "the connection broke".to_owned()
    };
    HttpError::Network {
        host,
        detail,
        certificate,
        sent: !error.is_connect() && !error.is_builder(),
    }
}

fn chain_text(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&cause.to_string());
        text.push('\n');
        next = cause.source();
    }
    text
}

fn clock_offset(date: &str) -> Option<i64> {
    let theirs = httpdate(date)?;
    Some(theirs - now_ms())
}

/// IMF-fixdate (RFC 9110 §5.6.7), for example `Sun, 06 Nov 1994 08:49:37 GMT`, as Unix ms.
fn httpdate(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_, rest) = text.split_once(", ")?;
    let mut parts = rest.strip_suffix(" GMT")?.split(' ');
    let day: i64 = parts.next()?.parse().ok()?;
    let month = parts.next()?;
    let month = i64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()? + 1;
    let year: i64 = parts.next()?.parse().ok()?;
    let mut clock = parts
        .next()?
        .split(':')
        .map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // Days from civil, Howard Hinnant.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000)
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::{HttpError, check_endpoint, httpdate};

    #[test]
    fn dates_are_read() {
        assert_eq!(
            httpdate("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(784_111_777_000)
        );
        assert_eq!(
            httpdate("Thu, 29 Feb 2024 00:00:00 GMT"),
            Some(1_709_164_800_000)
        );
        assert_eq!(httpdate("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        for bad in [
            "",
            "yesterday",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Foo 1994 08:49:37 GMT",
        ] {
            assert_eq!(httpdate(bad), None, "{bad}");
        }
    }

    #[test]
    fn ac_020_plain_http_is_for_this_machine() -> Result<(), url::ParseError> {
        assert_eq!(check_endpoint(&Url::parse("http://127.0.0.1:9/x")?), Ok(()));
        assert_eq!(
            check_endpoint(&Url::parse("https://id.example.com/x")?),
            Ok(())
        );
        let refused = check_endpoint(&Url::parse("http://id.example.com/x?code=canary")?);
        assert_eq!(
            refused,
            Err(HttpError::InsecureEndpoint(
                "http://id.example.com".to_owned()
            ))
        );
        Ok(())
    }
}
