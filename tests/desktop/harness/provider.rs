//! A certified OpenID provider (npm `oidc-provider`), and the person at its pages.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::browser::Browser;
use super::driver::tail;
use super::process::Part;
use super::session::Desktop;

/// The client every test signs in with.
pub(crate) const CLIENT_ID: &str = "keywright";

/// A running provider; it ends when dropped.
pub(crate) struct Provider {
    pub(crate) issuer: String,
    said: PathBuf,
    _node: Part,
}

impl Provider {
    pub(crate) async fn start(desktop: &Desktop) -> Result<Self> {
        let said = desktop.path("provider.log");
        let errors = desktop.path("provider.err");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/desktop-provider.mjs");
        let mut command = desktop.lasting("node");
        command
            .arg(script)
            .stdout(File::create(&said)?)
            .stderr(File::create(&errors)?);
        let node = Part::start(&mut command)?;
        let end = Instant::now() + Duration::from_secs(15);
        while lines(&said).is_empty() {
            ensure!(
                Instant::now() < end,
                "the provider does not start\n{}",
                tail(&errors)
            );
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        let first = lines(&said).into_iter().next().context("nothing said")?;
        let issuer = first["issuer"]
            .as_str()
            .context("it names no issuer")?
            .to_owned();
        Ok(Self {
            issuer,
            said,
            _node: node,
        })
    }

    /// The values of all events of a kind, such as `refresh_token.saved`, oldest first.
    pub(crate) fn values(&self, event: &str) -> Vec<String> {
        let of_kind = lines(&self.said)
            .into_iter()
            .filter(|line| line["event"] == event);
        of_kind
            .filter_map(|line| Some(line["value"].as_str()?.to_owned()))
            .collect()
    }

    /// Every token and code it has issued so far.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let kinds = [
            "access_token.saved",
            "refresh_token.saved",
            "authorization_code.saved",
        ];
        kinds.iter().flat_map(|kind| self.values(kind)).collect()
    }
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

impl Browser {
    /// Logs in at the provider's first page.
    pub(crate) async fn log_in(&self, person: &str) -> Result<()> {
        self.find("input[name=login]")
            .await?
            .send_keys(person)
            .await?;
        self.find("input[name=password]")
            .await?
            .send_keys("any")
            .await?;
        self.click_on("button[type=submit]").await
    }

    /// Agrees on its second page.
    pub(crate) async fn consent(&self) -> Result<()> {
        self.until(
            "the consent page",
            "document.body.innerText.includes('Authorize')",
        )
        .await?;
        self.click_on("button[type=submit]").await
    }

    /// Declines there instead.
    pub(crate) async fn decline(&self) -> Result<()> {
        self.until(
            "the consent page",
            "document.body.innerText.includes('Authorize')",
        )
        .await?;
        self.click_on("a[href$='/abort']").await
    }

    /// Waits for the app's own page at the end.
    pub(crate) async fn ends_with(&self, text: &str) -> Result<()> {
        let has = format!(
            "document.body.innerText.includes({})",
            serde_json::json!(text)
        );
        self.until(&format!("the browser reads {text:?}"), &has)
            .await
            .map(drop)
    }
}
