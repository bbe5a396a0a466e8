//! Signing in and out: the real app, a certified provider, Chromium, the Secret Service.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::harness::provider::CLIENT_ID;
use super::harness::{AppWindow, Browser, Desktop, Keyring, Provider, clipboard, keyring};

/// Fills in the sign-in form and sends it.
pub(crate) async fn ask_to_sign_in(app: &AppWindow, provider: &Provider) -> Result<()> {
    app.go("accounts").await?;
    app.click("add-account").await?;
    app.fill("issuer", &provider.issuer).await?;
    app.fill("client-id", CLIENT_ID).await?;
    app.click("sign-in-submit").await
}

/// Signs a person in, the browser's part included. `count` is the number of the browser's tab.
pub(crate) async fn sign_in(
    app: &AppWindow,
    browser: &Browser,
    provider: &Provider,
    person: &str,
    count: usize,
) -> Result<()> {
    ask_to_sign_in(app, provider).await?;
    browser.tab(count).await?;
    browser.log_in(person).await?;
    browser.consent().await?;
    browser.ends_with("You can close this tab").await?;
    app.gone("sign-in-dialog").await
}

/// The only refresh token in the keychain, as another program sees it.
pub(crate) fn refresh_entries(desktop: &Desktop, app: &AppWindow) -> Result<Vec<String>> {
    let mut users = keyring::users(desktop, &app.service()?)?;
    users.retain(|user| user.starts_with("refresh:"));
    Ok(users)
}

/// The port the app listens on for the answer.
fn callback_port(url: &str) -> Result<u16> {
    let rest = url
        .split("redirect_uri=http%3A%2F%2F127.0.0.1%3A")
        .nth(1)
        .context("no redirect")?;
    Ok(rest.split('%').next().unwrap_or_default().parse()?)
}

fn refuses(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_err()
}

/// A process that ends closes its sockets a moment after it is gone from sight.
async fn comes_to_refuse(port: u16) -> bool {
    for _ in 0..50 {
        if refuses(port) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

#[tokio::test]
async fn ac_001_ac_002_ac_097_c1_c2_signing_in_and_out() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let provider = Provider::start(&desktop).await?;
    let browser = Browser::start(&desktop).await?;
    let app = desktop.open().await?;
    ask_to_sign_in(&app, &provider).await?;
    let opened = browser.tab(1).await?;
    ensure!(
        opened.was_listening,
        "the browser came before the listener: {}",
        opened.url
    );
    ensure!(opened.url.starts_with(&provider.issuer) && !opened.url.contains("code_verifier"));
    browser.log_in("ada").await?;
    browser.consent().await?;
    browser.ends_with("You can close this tab").await?;
    let address = browser.client.current_url().await?;
    ensure!(
        address.query().is_none(),
        "the code stays in the address: {address}"
    );
    app.reads("account-name", "Person ada").await?;
    app.reads("account-email", "ada@example.test").await?;
    ensure!(app.attribute("account-card", "data-status").await? == "signed_in");
    ensure!(
        browser.opened().len() == 1,
        "one tab, not many: {:?}",
        browser.opened()
    );

    let entries = refresh_entries(&desktop, &app)?;
    let [entry] = entries.as_slice() else {
        bail!("not one entry: {entries:?}")
    };
    let stored = keyring::lookup(&desktop, &app.service()?, entry)?;
    ensure!(
        stored == provider.values("refresh_token.saved").pop(),
        "{stored:?}"
    );

    app.click("sign-out").await?;
    app.click("sign-out-confirm").await?;
    app.see("accounts-empty").await?;
    app.reads("toast", "The provider confirmed").await?;
    ensure!(
        keyring::lookup(&desktop, &app.service()?, entry)?.is_none(),
        "the entry stays"
    );
    ensure!(refresh_entries(&desktop, &app)?.is_empty());
    ensure!(
        provider.values("grant.revoked").len() == 1,
        "the provider was not told"
    );
    Ok(())
}

#[tokio::test]
async fn ac_008_declined_consent_is_told_as_such() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let provider = Provider::start(&desktop).await?;
    let browser = Browser::start(&desktop).await?;
    let app = desktop.open().await?;
    ask_to_sign_in(&app, &provider).await?;
    let opened = browser.tab(1).await?;
    browser.log_in("ada").await?;
    browser.decline().await?;
    browser.ends_with("You declined access").await?;
    ensure!(app.error_code("sign-in-error").await? == "access_denied");
    app.reads("sign-in-error", "You declined access").await?;
    ensure!(
        refuses(callback_port(&opened.url)?),
        "the listener is still there"
    );
    ensure!(
        refresh_entries(&desktop, &app)?.is_empty(),
        "something was stored"
    );
    Ok(())
}

#[tokio::test]
async fn ac_010_ac_011_a_closed_tab_and_cancel() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let provider = Provider::start(&desktop).await?;
    let browser = Browser::start(&desktop).await?;
    let app = desktop.open().await?;
    ask_to_sign_in(&app, &provider).await?;
    let port = callback_port(&browser.tab(1).await?.url)?;
    browser.client.close_window().await?;
    let before = app.text("sign-in-countdown").await?;
    let moves = "document.querySelector('[data-testid=sign-in-countdown]').textContent";
    app.until("the countdown goes on", &format!("{moves} !== {before:?}"))
        .await?;
    ensure!(!refuses(port), "the listener is gone too early");
    let asked = Instant::now();
    app.click("sign-in-cancel").await?;
    app.see("sign-in-cancelled").await?;
    ensure!(
        asked.elapsed() < Duration::from_secs(3),
        "Cancel took {:?}",
        asked.elapsed()
    );
    ensure!(refuses(port), "a later callback would be answered");
    Ok(())
}

#[tokio::test]
async fn the_browser_may_be_started_by_the_sign_in_itself() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let provider = Provider::start(&desktop).await?;
    Browser::install_cold(&desktop)?;
    let app = desktop.open().await?;
    ask_to_sign_in(&app, &provider).await?;
    let browser = Browser::attach(&desktop, None).await?;
    browser.tab(1).await?;
    browser.log_in("ada").await?;
    browser.consent().await?;
    browser.ends_with("You can close this tab").await?;
    app.reads("account-name", "Person ada").await
}

#[tokio::test]
async fn ac_014_without_a_browser_the_link_is_offered() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let provider = Provider::start(&desktop).await?;
    let browser = Browser::start(&desktop).await?;
    let app = AppWindow::open_without_programs(&desktop).await?;
    ask_to_sign_in(&app, &provider).await?;
    app.see("browser-error").await?;
    ensure!(app.attribute("sign-in-step", "data-step").await? == "browser_not_opened");
    app.see("pasted-url").await?;
    app.click("copy-sign-in-link").await?;
    app.reads("copy-sign-in-link", "Copied").await?;
    let link = clipboard::read(&desktop)?;
    ensure!(link.starts_with(&provider.issuer), "{link}");
    // A person takes it to the browser by hand.
    browser.client.goto(&link).await?;
    browser.log_in("ada").await?;
    browser.consent().await?;
    browser.ends_with("You can close this tab").await?;
    app.reads("account-name", "Person ada").await?;
    ensure!(browser.opened().is_empty(), "{:?}", browser.opened());
    Ok(())
}

#[tokio::test]
async fn ac_026_killed_while_signing_in_and_started_again() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let provider = Provider::start(&desktop).await?;
    let browser = Browser::start(&desktop).await?;
    let app = desktop.open().await?;
    ask_to_sign_in(&app, &provider).await?;
    let port = callback_port(&browser.tab(1).await?.url)?;
    app.end("KILL")?;
    ensure!(comes_to_refuse(port).await, "a listener outlives the app");
    let app = desktop.open().await?;
    app.go("accounts").await?;
    app.see("accounts-empty").await?;
    ensure!(refuses(port) && !app.has("sign-in-dialog").await?);
    sign_in(&app, &browser, &provider, "ada", 2).await?;
    app.reads("account-name", "Person ada").await
}
