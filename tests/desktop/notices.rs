//! Notices on the desktop: what the app says by the system's notifications reaches a real service of such, which
//! is asked what it was given (dunst, of Debian; it needs no compositor and no window manager).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::harness::process::Part;
use super::harness::{Desktop, Keyring};

/// The app looks after three seconds, and then each minute.
const A_LOOK: Duration = Duration::from_secs(30);

/// A running service of notifications.
struct Notifications<'a> {
    desktop: &'a Desktop,
    _service: Part,
}

impl<'a> Notifications<'a> {
    async fn start(desktop: &'a Desktop) -> Result<Self> {
        let mut service = desktop.lasting("dunst");
        let service = Part::start(&mut service)?;
        let this = Self {
            desktop,
            _service: service,
        };
        let end = Instant::now() + Duration::from_secs(10);
        while !this
            .call("org.freedesktop.Notifications.GetServerInformation")?
            .contains("dunst")
        {
            ensure!(Instant::now() < end, "dunst does not start");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(this)
    }

    fn call(&self, method: &str) -> Result<String> {
        let words = [
            "call",
            "--session",
            "--dest",
            "org.freedesktop.Notifications",
            "--object-path",
            "/org/freedesktop/Notifications",
            "--method",
            method,
        ];
        self.desktop.output("gdbus", &words)
    }

    /// Everything that it was given so far, as it says it: summaries, texts, who sent them.
    async fn given(&self) -> Result<String> {
        // What is on the screen comes into the history when it goes.
        self.call("org.dunstproject.cmd0.NotificationCloseAll")?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.call("org.dunstproject.cmd0.NotificationListHistory")
    }

    async fn until_given(&self, what: &str) -> Result<String> {
        let end = Instant::now() + A_LOOK;
        loop {
            let given = self.given().await?;
            if given.contains(what) {
                return Ok(given);
            }
            ensure!(Instant::now() < end, "{what} was not told: {given}");
        }
    }
}

#[tokio::test]
async fn ac_143_a_key_that_ends_soon_is_told_by_the_systems_notifications_once() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let notifications = Notifications::start(&desktop).await?;
    let app = desktop.open().await?;
    let scope = json!({ "name": "a:b", "description": "", "lowRisk": false });
    app.ask("define_scope", json!({ "scope": scope })).await?;
    let wish = json!({
        "name": "Billing <b> & more", "prefix": "sk_live", "scopes": ["a:b"], "expiresInDays": 5,
    });
    let issued = app.ask("issue_api_key", json!({ "request": wish })).await?;
    let handle = json!({ "revealId": issued["revealId"] });
    let shown = app.ask("reveal_secret", handle).await?;
    let secret = shown["secret"].as_str().context("no secret")?.to_owned();
    // The next look is the first one of the next start.
    app.end("TERM")?;

    let app = desktop.open().await?;
    let given = notifications.until_given("Billing").await?;
    ensure!(given.contains("'appname': <'Keywright'>"), "{given}");
    ensure!(given.contains("A notice about your keys"), "{given}");
    // A name is no markup of ours.
    for part in ["Billing &lt;b&gt; &amp; more", "expires within 7 days"] {
        ensure!(given.contains(part), "{given}");
    }
    ensure!(!given.contains(&secret), "the secret is in it");
    app.end("TERM")?;

    // It was told: the next start is silent about it.
    let app = desktop.open().await?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let given = notifications.given().await?;
    let times = given.matches("'appname': <'Keywright'>").count();
    ensure!(times == 1, "told {times} times: {given}");
    app.end("TERM")
}
