//! A sign-in that waits for its browser, and a stranger's hand on its port.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use crate::support::app::{TestApp, request};
use crate::support::bad_issuer::BadIssuer;
use crate::support::browser::{Person, visit};

/// A sign-in that waits for its browser.
pub(super) struct Waiting {
    pub(super) issuer: BadIssuer,
    pub(super) test: TestApp,
    pub(super) running: tokio::task::JoinHandle<
        Result<keywright_protocol::accounts::AccountView, keywright_app::AppError>,
    >,
    pub(super) url: Url,
    pub(super) redirect: Url,
}

impl Waiting {
    pub(super) async fn new() -> Result<Self> {
        Self::at(BadIssuer::with(|tricks| tricks.no_refresh_token = true).await?).await
    }

    pub(super) async fn at(issuer: BadIssuer) -> Result<Self> {
        let test = TestApp::new(Person::Looks)?;
        let running = test.start(request(&issuer.issuer));
        let url = test.browser.opened(0).await?;
        let redirect = redirect_of(&url)?;
        Ok(Self {
            issuer,
            test,
            running,
            url,
            redirect,
        })
    }

    pub(super) fn state(&self) -> String {
        self.url
            .query_pairs()
            .find(|(name, _)| name == "state")
            .map(|(_, state)| state.into_owned())
            .unwrap_or_default()
    }

    pub(super) fn port(&self) -> u16 {
        self.redirect.port().unwrap_or(0)
    }

    /// Sends a request as it stands; answers status line and all.
    pub(super) async fn raw(&self, request: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port())).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        let _read =
            tokio::time::timeout(Duration::from_secs(8), stream.read_to_end(&mut answer)).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    pub(super) async fn get(&self, target: &str) -> Result<String> {
        self.raw(&format!(
            "GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n",
            self.port()
        ))
        .await
    }

    /// The right answer comes, and the sign-in succeeds.
    pub(super) async fn succeeds(self) -> Result<()> {
        visit(self.url.as_str(), &Person::Approves("ada"), None).await?;
        self.running.await?.context("the sign-in goes on")?;
        Ok(())
    }

    pub(super) async fn refused(self) -> Result<String> {
        Ok(self
            .running
            .await?
            .map_or_else(|error| error.code().to_owned(), |_| "signed in".to_owned()))
    }
}

pub(super) fn redirect_of(url: &Url) -> Result<Url> {
    let redirect = url.query_pairs().find(|(name, _)| name == "redirect_uri");
    Ok(Url::parse(&redirect.context("no redirect_uri")?.1)?)
}

pub(super) fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("")
}
