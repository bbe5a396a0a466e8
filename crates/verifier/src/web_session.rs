//! Whose browser session a request belongs to, for web applications that are served under the server's own
//! host and render their pages on a server (S2-25..30, S2-44..46). Cookies go in and come out as headers,
//! written by whoever calls: nothing is kept here, and no address is guessed.

use std::fmt;

use http::{HeaderMap, HeaderValue, Method};
use serde::Deserialize;
use url::Url;

use crate::error::SetupError;
use crate::fetch::{Answered, Fetch};
use crate::issuer::Issuer;

/// Asks one server about browser sessions.
#[derive(Clone, Debug)]
pub struct WebSessions {
    fetch: Fetch,
    session: Url,
    csrf_token: Url,
    sign_out: Url,
}

/// Who is signed in (`GET /auth/session`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct WebSession {
    /// The person.
    pub user: WebUser,
    /// When the session ends if nobody comes back, RFC 3339.
    pub expires: String,
}

/// A person who is signed in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct WebUser {
    /// Stable: `sub` of tokens.
    pub id: String,
    /// Name.
    pub name: String,
    /// E-mail address.
    pub email: Option<String>,
    /// Whether mail to it was answered.
    pub email_verified: bool,
    /// Roles.
    pub roles: Vec<String>,
}

/// What a change needs beside the session's cookie.
#[derive(Clone)]
pub struct CsrfToken {
    /// For the header `X-CSRF-Token`, or the field `csrf_token` of a form. Not for logs.
    pub token: String,
    /// `Set-Cookie` of the answer, for the browser: without it the token is good for nobody.
    pub set_cookies: Vec<HeaderValue>,
}

impl fmt::Debug for CsrfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CsrfToken(redacted)")
    }
}

/// Nobody knows whose session it is: the server did not answer as it should. Not a sign-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebSessionError {
    /// It could not be reached, or failed.
    #[error("sessions cannot be asked about now: {0}")]
    Unavailable(&'static str),
    /// The CSRF token is not this browser's, or is missing.
    #[error("the CSRF token is not this browser's")]
    Csrf,
}

#[derive(Deserialize)]
struct CsrfBody {
    #[serde(rename = "csrfToken")]
    token: String,
}

impl WebSessions {
    /// Of the server at this address, its issuer: `https://host[:port][/path]`.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(base_url: &str) -> Result<Self, SetupError> {
        let issuer = Issuer::parse(base_url)?;
        let at = |path: &str| {
            let base = issuer.as_str().trim_end_matches('/');
            Url::parse(&format!("{base}/auth/{path}")).map_err(|_| SetupError::Issuer)
        };
        Ok(Self {
            session: at("session")?,
            csrf_token: at("csrfToken")?,
            sign_out: at("signOut?token_type_hint=session_token")?,
            fetch: Fetch::new(&issuer)?,
        })
    }

    /// The session of whoever sent these headers; none where nobody is signed in.
    /// Of the headers, cookies go on, and what tells the browser: `User-Agent`, `X-Forwarded-For` (heard from
    /// a trusted proxy only), `Origin`, `Sec-Fetch-Site`.
    ///
    /// # Errors
    /// [`WebSessionError::Unavailable`]: whoever may only do something signed in does it not.
    pub async fn session(
        &self,
        headers: &HeaderMap,
    ) -> Result<Option<WebSession>, WebSessionError> {
        let asked = self.fetch.for_browser(Method::GET, &self.session, headers);
        let answer = self
            .fetch
            .answer(asked)
            .await
            .map_err(WebSessionError::Unavailable)?;
        match answer.status {
            200 => Ok(Some(read(&answer)?)),
            401 => Ok(None),
            _ => Err(failed()),
        }
    }

    /// A CSRF token for the browser that sent these headers: its own where it has a good one.
    ///
    /// # Errors
    /// [`WebSessionError::Unavailable`].
    pub async fn csrf_token(&self, headers: &HeaderMap) -> Result<CsrfToken, WebSessionError> {
        let asked = self
            .fetch
            .for_browser(Method::GET, &self.csrf_token, headers);
        let answer = self
            .fetch
            .answer(asked)
            .await
            .map_err(WebSessionError::Unavailable)?;
        if answer.status != 200 {
            return Err(failed());
        }
        let body: CsrfBody = read(&answer)?;
        Ok(CsrfToken {
            token: body.token,
            set_cookies: answer.set_cookies,
        })
    }

    /// Ends the session of whoever sent these headers. Returns the `Set-Cookie` values that take the cookies
    /// away: they must reach the browser (S2-37).
    ///
    /// # Errors
    /// [`WebSessionError`].
    pub async fn sign_out(
        &self,
        headers: &HeaderMap,
        csrf_token: &str,
    ) -> Result<Vec<HeaderValue>, WebSessionError> {
        let asked = self
            .fetch
            .for_browser(Method::POST, &self.sign_out, headers);
        let mut token = HeaderValue::from_str(csrf_token).map_err(|_| WebSessionError::Csrf)?;
        token.set_sensitive(true);
        let asked = asked.header("x-csrf-token", token);
        let answer = self
            .fetch
            .answer(asked)
            .await
            .map_err(WebSessionError::Unavailable)?;
        match answer.status {
            200 => Ok(answer.set_cookies),
            403 => Err(WebSessionError::Csrf),
            _ => Err(failed()),
        }
    }
}

fn read<T: for<'a> Deserialize<'a>>(answer: &Answered) -> Result<T, WebSessionError> {
    let unknown = |_| WebSessionError::Unavailable("its answer is not understood");
    serde_json::from_slice(&answer.body).map_err(unknown)
}

fn failed() -> WebSessionError {
    WebSessionError::Unavailable("it answered with a failure")
}
