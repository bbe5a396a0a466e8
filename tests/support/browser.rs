//! A browser without a window: follows redirects, keeps cookies, fills in the provider's forms.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, bail};
use keywright_app::browser::OpenBrowser;
use reqwest::header::{COOKIE, LOCATION, REFRESH, SET_COOKIE};
use tokio::sync::watch;
use url::Url;

/// What the person does with the pages that come up.
#[derive(Clone, Debug)]
pub(crate) enum Person {
    /// Signs in under this name and agrees.
    Approves(&'static str),
    /// Signs in at our own server's page with an e-mail address and a password, and allows what is asked.
    Allows(&'static str, &'static str),
    /// Signs in and declines.
    Declines,
    /// Does nothing; the test has the address.
    Looks,
    /// There is no browser.
    HasNone,
}

/// Where a visit ended.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) url: Url,
    pub(crate) body: String,
    /// Every address on the way.
    pub(crate) path: Vec<Url>,
}

/// What the app opens instead of the system's browser.
pub(crate) struct TestBrowser {
    person: Mutex<Person>,
    extra_ca: Option<Vec<u8>>,
    opened: watch::Sender<Vec<String>>,
    pages: Arc<watch::Sender<Vec<Page>>>,
}

impl TestBrowser {
    pub(crate) fn new(person: Person, extra_ca: Option<Vec<u8>>) -> Arc<Self> {
        let (opened, pages) = (
            watch::channel(Vec::new()).0,
            Arc::new(watch::channel(Vec::new()).0),
        );
        Arc::new(Self {
            person: Mutex::new(person),
            extra_ca,
            opened,
            pages,
        })
    }

    pub(crate) fn becomes(&self, person: Person) {
        *self.person.lock().unwrap() = person;
    }

    /// The address that was opened as number `nth`, from 0.
    pub(crate) async fn opened(&self, nth: usize) -> Result<Url> {
        let mut opened = self.opened.subscribe();
        let limit = std::time::Duration::from_secs(15);
        let all = tokio::time::timeout(limit, opened.wait_for(|all| all.len() > nth))
            .await
            .context("no browser was opened")??;
        Ok(Url::parse(&all[nth])?)
    }

    pub(crate) fn count(&self) -> usize {
        self.opened.borrow().len()
    }

    /// Where visit number `nth` ended.
    pub(crate) async fn page(&self, nth: usize) -> Result<Page> {
        let mut pages = self.pages.subscribe();
        let limit = std::time::Duration::from_secs(30);
        let all = tokio::time::timeout(limit, pages.wait_for(|all| all.len() > nth))
            .await
            .context("no visit ended")??;
        Ok(all[nth].clone())
    }
}

impl OpenBrowser for TestBrowser {
    fn open(&self, url: &str) -> Result<(), String> {
        let person = self.person.lock().unwrap().clone();
        self.opened.send_modify(|all| all.push(url.to_owned()));
        match person {
            Person::HasNone => return Err("no program to open a browser was found".to_owned()),
            Person::Looks => {}
            Person::Approves(_) | Person::Allows(..) | Person::Declines => {
                let (url, pages, extra_ca) = (
                    url.to_owned(),
                    Arc::clone(&self.pages),
                    self.extra_ca.clone(),
                );
                tokio::runtime::Handle::current().spawn(async move {
                    match visit(&url, &person, extra_ca.as_deref()).await {
                        Ok(page) => pages.send_modify(|all| all.push(page)),
                        Err(error) => eprintln!("the browser gave up: {error:#}"),
                    }
                });
            }
        }
        Ok(())
    }
}

/// Follows an address to where it ends, filling in what comes up.
pub(crate) async fn visit(url: &str, person: &Person, extra_ca: Option<&[u8]>) -> Result<Page> {
    let mut client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    if let Some(pem) = extra_ca {
        client = client.tls_certs_merge(reqwest::Certificate::from_pem_bundle(pem)?);
    }
    let client = client.build()?;
    let mut cookies = Cookies::default();
    let mut path = Vec::new();
    let mut next = (Url::parse(url)?, None);
    for _ in 0..24 {
        let (url, form) = next;
        path.push(url.clone());
        let request = match form {
            None => client.get(url.clone()),
            Some(form) => client
                .post(url.clone())
                .header("Content-Type", "application/x-www-form-urlencoded")
                .body(form),
        };
        let response = request.header(COOKIE, cookies.for_url(&url)).send().await?;
        cookies.keep(&url, response.headers());
        if let Some(location) = response.headers().get(LOCATION) {
            next = (url.join(location.to_str()?)?, None);
            continue;
        }
        // A page of ours at the end of a form's redirects goes on by itself.
        if let Some(refresh) = response.headers().get(REFRESH) {
            let address = refresh.to_str()?.strip_prefix("0; url=");
            next = (url.join(address.context("another form of Refresh")?)?, None);
            continue;
        }
        let body = response.text().await?;
        match fill_in(&url, &body, person)? {
            Some(submitted) => next = submitted,
            None => return Ok(Page { url, body, path }),
        }
    }
    bail!("no end of redirects: {path:?}")
}

/// What the person does with a page of the provider; `None` where there is nothing to do.
fn fill_in(url: &Url, body: &str, person: &Person) -> Result<Option<(Url, Option<String>)>> {
    if let Person::Allows(email, password) = person {
        return ours(url, body, email, password);
    }
    let Some(action) =
        between(body, "action=\"", "\"").filter(|_| body.contains("name=\"prompt\""))
    else {
        return Ok(None);
    };
    let abort = || {
        between(
            body.split("/abort\"")
                .next()?
                .rsplit("href=\"")
                .next()
                .map(|x| format!("{x}\""))
                .as_deref()?,
            "",
            "\"",
        )
        .map(str::to_owned)
    };
    let action = url.join(action)?;
    let form = match person {
        Person::Approves(name) if body.contains("name=\"login\"") => {
            format!("prompt=login&login={name}&password=x")
        }
        Person::Approves(_) => "prompt=consent".to_owned(),
        Person::Declines if body.contains("name=\"login\"") => {
            "prompt=login&login=ada&password=x".to_owned()
        }
        Person::Declines => {
            let address = abort().context("no way to decline")?;
            return Ok(Some((url.join(&format!("{address}/abort"))?, None)));
        }
        Person::Allows(..) | Person::Looks | Person::HasNone => return Ok(None),
    };
    Ok(Some((action, Some(form))))
}

/// A page of our server: its form for a password, or for a consent.
fn ours(
    url: &Url,
    body: &str,
    email: &str,
    password: &str,
) -> Result<Option<(Url, Option<String>)>> {
    let plain = |text: &str| {
        let text = text.replace("&quot;", "\"").replace("&lt;", "<");
        text.replace("&gt;", ">").replace("&amp;", "&")
    };
    for form in body.split("<form ").skip(1) {
        let form = form.split("</form>").next().unwrap_or_default();
        let chosen = if form.contains("type=\"password\"") {
            vec![("email", email), ("password", password)]
        } else if form.contains("value=\"allow\"") {
            vec![("decision", "allow")]
        } else {
            continue;
        };
        let action = between(form, "action=\"", "\"").context("a form without an address")?;
        let mut fields = url::form_urlencoded::Serializer::new(String::new());
        for hidden in form.split("type=\"hidden\"").skip(1) {
            let name = between(hidden, "name=\"", "\"").context("a field without a name")?;
            let value = between(hidden, "value=\"", "\"").context("a field without a value")?;
            fields.append_pair(name, &plain(value));
        }
        fields.extend_pairs(chosen);
        return Ok(Some((url.join(&plain(action))?, Some(fields.finish()))));
    }
    Ok(None)
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let start = text.find(before)? + before.len();
    text[start..].split(after).next()
}

/// Cookies by name and path; one host is all a test visits.
#[derive(Default)]
struct Cookies(BTreeMap<(String, String), String>);

impl Cookies {
    fn keep(&mut self, url: &Url, headers: &reqwest::header::HeaderMap) {
        for line in headers.get_all(SET_COOKIE) {
            let line = line.to_str().unwrap_or("");
            let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
            let Some((name, value)) = pair.split_once('=') else {
                continue;
            };
            let path = attributes
                .split(';')
                .find_map(|one| one.trim().strip_prefix("path="));
            let key = (
                name.to_owned(),
                format!("{}{}", url.authority(), path.unwrap_or("/")),
            );
            if value.is_empty() {
                self.0.remove(&key);
            } else {
                self.0.insert(key, value.to_owned());
            }
        }
    }

    fn for_url(&self, url: &Url) -> String {
        let place = format!("{}{}", url.authority(), url.path());
        let fitting = self
            .0
            .iter()
            .filter(|((_, path), _)| place.starts_with(path.as_str()));
        fitting
            .map(|((name, _), value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join("; ")
    }
}
