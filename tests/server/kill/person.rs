//! A person with a browser of a few lines: cookies, and forms of our pages.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use super::{Answer, Victim};
use crate::server::harness::OWNER;

/// Fields as a form sends them.
pub(in crate::server) fn form(fields: &[(&str, &str)]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields).finish()
}

/// A parameter of an address.
pub(in crate::server) fn parameter(address: &str, name: &str) -> Option<String> {
    let url = url::Url::parse(address).ok()?;
    let mut pairs = url.query_pairs();
    pairs
        .find(|(own, _)| own == name)
        .map(|(_, value)| value.into_owned())
}

#[derive(Clone, Default)]
pub(in crate::server) struct Person {
    cookies: BTreeMap<String, String>,
}

impl Person {
    /// The owner, signed in.
    pub(in crate::server) async fn signed_in(victim: &Victim, password: &str) -> Result<Self> {
        Self::signed_in_as(victim, OWNER, password).await
    }

    /// Somebody who signed in.
    pub(in crate::server) async fn signed_in_as(
        victim: &Victim,
        email: &str,
        password: &str,
    ) -> Result<Self> {
        let mut person = Self::default();
        let request = person.fill_in(victim, email, password).await?;
        let answer = victim.send(request).await?;
        ensure!(
            answer.status == 303,
            "{} {}",
            answer.status,
            answer.location
        );
        person.keep(&answer);
        Ok(person)
    }

    /// The form of the sign-in page, filled in by the owner.
    pub(in crate::server) async fn fill_in_sign_in(
        &mut self,
        victim: &Victim,
        password: &str,
    ) -> Result<reqwest::RequestBuilder> {
        self.fill_in(victim, OWNER, password).await
    }

    /// The form of the sign-in page, filled in by somebody.
    pub(in crate::server) async fn fill_in(
        &mut self,
        victim: &Victim,
        email: &str,
        password: &str,
    ) -> Result<reqwest::RequestBuilder> {
        self.page(victim, "/sign-in").await?;
        let fields = [
            ("email", email),
            ("password", password),
            ("return_to", "/account"),
        ];
        Ok(self.post(victim, "/sign-in", &fields))
    }

    /// A page of ours, as text.
    pub(in crate::server) async fn page(&mut self, victim: &Victim, path: &str) -> Result<String> {
        let response = self.get(victim, path).send().await?;
        let lines = response.headers().get_all("set-cookie").iter();
        let lines: Vec<String> = lines
            .map(|one| one.to_str().unwrap_or("").to_owned())
            .collect();
        self.keep_lines(&lines);
        Ok(response.text().await?)
    }

    pub(in crate::server) fn get(&self, victim: &Victim, path: &str) -> reqwest::RequestBuilder {
        let request = victim.client.get(victim.server.at(path));
        request.header("cookie", self.header())
    }

    /// A form of ours, with its token.
    pub(in crate::server) fn post(
        &self,
        victim: &Victim,
        path: &str,
        fields: &[(&str, &str)],
    ) -> reqwest::RequestBuilder {
        let token = self.cookies.get("csrf_token").cloned().unwrap_or_default();
        let fields = [fields, &[("csrf_token", token.as_str())]].concat();
        victim
            .client
            .post(victim.server.at(path))
            .header("cookie", self.header())
            .header("origin", "null")
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form(&fields))
    }

    /// A request of a page of ours to the API.
    pub(in crate::server) fn json(
        &self,
        victim: &Victim,
        method: reqwest::Method,
        path: &str,
        body: &serde_json::Value,
    ) -> reqwest::RequestBuilder {
        let token = self.cookies.get("csrf_token").cloned().unwrap_or_default();
        let request = victim.client.request(method, victim.server.at(path));
        request
            .header("cookie", self.header())
            .header("origin", "null")
            .header("sec-fetch-site", "same-origin")
            .header("x-csrf-token", token)
            .header("content-type", "application/json")
            .body(body.to_string())
    }

    /// Whether the session of this browser is good.
    pub(in crate::server) async fn is_signed_in(&self, victim: &Victim) -> Result<bool> {
        let answer = victim.send(self.get(victim, "/auth/session")).await?;
        ensure!(matches!(answer.status, 200 | 401), "{}", answer.status);
        Ok(answer.status == 200)
    }

    /// Takes the cookies of an answer.
    pub(in crate::server) fn keep(&mut self, answer: &Answer) {
        self.keep_lines(&answer.cookies);
    }

    fn keep_lines(&mut self, lines: &[String]) {
        for line in lines {
            let Some((name, value)) = line.split(';').next().and_then(|pair| pair.split_once('='))
            else {
                continue;
            };
            if value.is_empty() || line.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// Has a cookie that another program obtained.
    pub(in crate::server) fn set(&mut self, name: &str, value: &str) {
        self.cookies.insert(name.to_owned(), value.to_owned());
    }

    /// All cookies, as they are sent.
    pub(in crate::server) fn header(&self) -> String {
        let pairs = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("; ")
    }
}

/// The value of a hidden field.
pub(in crate::server) fn field(page: &str, name: &str) -> Result<String> {
    let at = page.find(&format!("name=\"{name}\""));
    let rest = at
        .map(|at| &page[at..])
        .with_context(|| format!("no field {name}: {page}"))?;
    let value = rest
        .split("value=\"")
        .nth(1)
        .and_then(|text| text.split('"').next());
    Ok(value.context("no value")?.replace("&amp;", "&"))
}
