//! Requests to the issuer: no redirects, five seconds, at most one megabyte.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use serde_json::{Map, Value};
use url::Url;

use crate::error::SetupError;
use crate::issuer::Issuer;

const OVERALL_LIMIT: Duration = Duration::from_secs(5);
/// A stream is opened anew after this time at the latest.
const STREAM_LIMIT: Duration = Duration::from_secs(15 * 60);
/// No honest answer comes near this.
const BODY_LIMIT: usize = 1024 * 1024;

/// Why there is no answer: for the log, without address details or anything that was sent.
pub(crate) type NoAnswer = &'static str;

/// What a browser says of itself that the server wants to know of the browser, and not of who asks for it.
const OF_THE_BROWSER: [&str; 5] = [
    "cookie",
    "user-agent",
    "x-forwarded-for",
    "origin",
    "sec-fetch-site",
];

/// A whole answer, whatever it says.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) set_cookies: Vec<HeaderValue>,
    pub(crate) body: Vec<u8>,
}

/// Carries requests to one issuer.
#[derive(Clone, Debug)]
pub(crate) struct Fetch {
    client: reqwest::Client,
}

impl Fetch {
    /// Trusts what the system trusts.
    pub(crate) fn new(issuer: &Issuer) -> Result<Self, SetupError> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("keywright-verifier/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .timeout(OVERALL_LIMIT)
            .pool_idle_timeout(Duration::from_secs(20));
        let builder = if issuer.is_loopback() {
            builder.no_proxy()
        } else {
            builder
        };
        let client = builder
            .build()
            .map_err(|error| SetupError::Connections(error.without_url().to_string()))?;
        Ok(Self { client })
    }

    /// A document.
    pub(crate) async fn get(&self, url: &Url) -> Result<Map<String, Value>, NoAnswer> {
        self.send(self.client.get(url.clone())).await
    }

    /// The answer to a form, sent by a client that shows who it is (RFC 6749 §2.3.1).
    pub(crate) async fn post_form(
        &self,
        url: &Url,
        id: &str,
        secret: &str,
        form: &impl Serialize,
    ) -> Result<Map<String, Value>, NoAnswer> {
        let encode =
            |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let request = self
            .client
            .post(url.clone())
            .basic_auth(encode(id), Some(encode(secret)))
            .form(form);
        self.send(request).await
    }

    /// The answer to a JSON body, sent with a bearer token or key.
    pub(crate) async fn post_json(
        &self,
        url: &Url,
        bearer: &str,
        body: &impl Serialize,
    ) -> Result<Map<String, Value>, NoAnswer> {
        let request = self.client.post(url.clone()).bearer_auth(bearer);
        self.send(request.json(body)).await
    }

    /// Opens a stream of server-sent events, after the one that was seen last.
    pub(crate) async fn open_stream(
        &self,
        url: &Url,
        bearer: &str,
        after: Option<i64>,
    ) -> Result<reqwest::Response, NoAnswer> {
        let mut request = self
            .client
            .get(url.clone())
            .bearer_auth(bearer)
            .header("Accept", "text/event-stream")
            .timeout(STREAM_LIMIT);
        if let Some(version) = after {
            request = request.header("Last-Event-ID", version.to_string());
        }
        let opening = tokio::time::timeout(OVERALL_LIMIT, request.send()).await;
        let response = opening
            .map_err(|_| "it did not answer in time")?
            .map_err(reason)?;
        match response.status().as_u16() {
            200 => Ok(response),
            401 | 403 => Err("it does not accept this service's credentials"),
            _ => Err("it answered with a failure"),
        }
    }

    /// A request for a browser, with what it sent of itself.
    pub(crate) fn for_browser(
        &self,
        method: reqwest::Method,
        url: &Url,
        browser: &HeaderMap,
    ) -> reqwest::RequestBuilder {
        let mut own = HeaderMap::new();
        for name in OF_THE_BROWSER {
            for value in browser.get_all(name) {
                own.append(name, value.clone());
            }
        }
        self.client.request(method, url.clone()).headers(own)
    }

    /// The answer, whatever it says, with the cookies that it sets.
    pub(crate) async fn answer(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<Answered, NoAnswer> {
        let request = request.header("Accept", "application/json");
        let mut response = request.send().await.map_err(reason)?;
        let set_cookies = response.headers().get_all(header::SET_COOKIE);
        Ok(Answered {
            status: response.status().as_u16(),
            set_cookies: set_cookies.iter().cloned().collect(),
            body: whole(&mut response).await?,
        })
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Map<String, Value>, NoAnswer> {
        let request = request.header("Accept", "application/json");
        let mut response = request.send().await.map_err(reason)?;
        match response.status().as_u16() {
            200 => {}
            300..=399 => return Err("it answered with a redirect, which is not followed"),
            401 | 403 => return Err("it does not accept this service's credentials"),
            _ => return Err("it answered with a failure"),
        }
        let body = whole(&mut response).await?;
        serde_json::from_slice(&body).map_err(|_| "its answer is no JSON object")
    }
}

async fn whole(response: &mut reqwest::Response) -> Result<Vec<u8>, NoAnswer> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reason)? {
        if body.len() + chunk.len() > BODY_LIMIT {
            return Err("its answer is enormous");
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn reason(error: reqwest::Error) -> NoAnswer {
    if error.is_timeout() {
        "it did not answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke"
    }
}
