//! Enough of a browser to sign in and to get tokens.

use anyhow::{Context as _, Result, bail};
use reqwest::{Client, RequestBuilder, Response, header, redirect};
use serde_json::Value;

use crate::serving::{CALLBACK, EMAIL, PASSWORD, SECRET};

/// RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

pub(crate) struct Browser {
    client: Client,
    base: String,
    cookies: Vec<(String, String)>,
}

impl Browser {
    pub(crate) async fn signed_in(address: &str) -> Result<Self> {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()?;
        let mut browser = Self {
            client,
            base: format!("http://{address}"),
            cookies: Vec::new(),
        };
        browser.sign_in().await?;
        Ok(browser)
    }

    pub(crate) fn cookies(&self) -> String {
        let pairs: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("; ")
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base))
    }

    fn post(&self, path: &str, form: &[(&str, &str)]) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.base)).form(form)
    }

    async fn send(&mut self, request: RequestBuilder) -> Result<Response> {
        let answer = request
            .header(header::COOKIE, self.cookies())
            .send()
            .await?;
        for value in answer.headers().get_all(header::SET_COOKIE) {
            let pair = value.to_str()?.split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').context("no cookie")?;
            self.cookies.retain(|(own, _)| own != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        Ok(answer)
    }

    async fn sign_in(&mut self) -> Result<()> {
        let page = self.send(self.get("/sign-in")).await?;
        let page = page.error_for_status()?.text().await?;
        let csrf = field(&page, "csrf_token")?;
        let form = [
            ("email", EMAIL),
            ("password", PASSWORD),
            ("csrf_token", csrf.as_str()),
            ("return_to", "/account"),
        ];
        let answer = self.send(self.post("/sign-in", &form)).await?;
        if answer.status() != 303 {
            bail!("the sign-in page answers {}", answer.status());
        }
        Ok(())
    }

    /// Tokens of this person for a client.
    pub(crate) async fn tokens(&mut self, client_id: &str) -> Result<Value> {
        let query = [
            ("client_id", client_id),
            ("redirect_uri", CALLBACK),
            ("response_type", "code"),
            ("scope", "openid email offline_access"),
            ("prompt", "consent"),
            ("state", "s"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        let url = url::Url::parse_with_params(&format!("{}/oauth2/authorize", self.base), query)?;
        let mut answer = self.send(self.client.get(url)).await?;
        if answer.status() == 200 {
            let page = answer.text().await?;
            let (request, csrf) = (field(&page, "request")?, field(&page, "csrf_token")?);
            let form = [
                ("request", request.as_str()),
                ("csrf_token", csrf.as_str()),
                ("decision", "allow"),
            ];
            answer = self
                .send(self.post("/oauth2/authorize/consent", &form))
                .await?;
        }
        let url = url::Url::parse(leads_to(&answer)?)?;
        let (_, code) = url
            .query_pairs()
            .find(|(name, _)| name == "code")
            .context("no code")?;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &*code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        let request = self.post("/oauth2/token", &form);
        let answer = request.basic_auth(client_id, Some(SECRET)).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }
}

/// Where an answer leads, as a redirect or as a page that goes on.
fn leads_to(answer: &reqwest::Response) -> Result<&str> {
    let headers = answer.headers();
    if let Some(refresh) = headers.get(header::REFRESH) {
        let refresh = refresh.to_str()?;
        return refresh.strip_prefix("0; url=").context("not at once");
    }
    Ok(headers
        .get(header::LOCATION)
        .context("no redirect")?
        .to_str()?)
}

/// A hidden field's value.
fn field(page: &str, name: &str) -> Result<String> {
    let at = page
        .find(&format!("name=\"{name}\""))
        .with_context(|| format!("no field {name}"))?;
    let value = page[at..]
        .split("value=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .context("no value")?;
    Ok(value.replace("&amp;", "&"))
}
