//! The app at our own server: signing in through Chromium, and its Sessions page.

use anyhow::{Result, ensure};
use serde_json::json;

use super::harness::{AppWindow, Browser, Desktop, Keyring};
use crate::server::{OWNER, PASSWORD, ServerProcess};

/// Signs the owner in at the server's pages: e-mail and password, then consent.
pub(crate) async fn sign_in(
    app: &AppWindow,
    browser: &Browser,
    server: &ServerProcess,
) -> Result<()> {
    sign_in_as(app, browser, server, OWNER).await
}

/// The same for anybody with the password of everybody.
pub(crate) async fn sign_in_as(
    app: &AppWindow,
    browser: &Browser,
    server: &ServerProcess,
    email: &str,
) -> Result<()> {
    app.go("accounts").await?;
    app.click("add-account").await?;
    app.click("provider-keywright").await?;
    app.fill("issuer", &server.issuer).await?;
    app.click("sign-in-submit").await?;
    let opened = browser.tab(1).await?;
    ensure!(opened.url.starts_with(&server.issuer), "{}", opened.url);
    let form = "document.querySelector('input[type=password]') !== null";
    browser.until("the sign-in page", form).await?;
    for (name, value) in [("email", email), ("password", PASSWORD)] {
        let field = browser.find(&format!("input[name={name}]")).await?;
        field.send_keys(value).await?;
    }
    browser
        .click_on("form:has(input[type=password]) button[type=submit]")
        .await?;
    let consent = "[...document.querySelectorAll('button')].some((one) => /^allow/i.test(one.textContent.trim()))";
    browser.until("the consent page", consent).await?;
    let allow = "[...document.querySelectorAll('button')].find((one) => /^allow/i.test(one.textContent.trim())).click()";
    browser.run(allow, &[]).await?;
    browser.ends_with("You can close this tab").await?;
    app.gone("sign-in-dialog").await
}

#[tokio::test]
async fn ac_001_ac_097_ac_113_ac_114_sessions_of_the_server_are_reviewed_in_the_app() -> Result<()>
{
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let server = ServerProcess::start().await?;
    let browser = Browser::start(&desktop).await?;
    let app = desktop.open().await?;
    sign_in(&app, &browser, &server).await?;
    app.reads("account-email", OWNER).await?;

    // Another browser signs in as well.
    let other = crate::server::peer(
        "openid-client.mjs",
        &json!({ "scenario": "browser_only", "issuer": server.issuer, "client": "x",
                 "person": { "email": OWNER, "password": PASSWORD } }),
    )
    .await?;
    app.go("sessions").await?;
    let two = "document.querySelectorAll('[data-testid=session-row]').length === 2";
    app.until("both sessions", two).await?;
    let this =
        "document.querySelectorAll('[data-testid=session-row][data-current=true]').length === 1";
    app.until("this device is marked", this).await?;
    app.click("end-other-sessions").await?;
    app.click("end-access-confirm").await?;
    let one = "document.querySelectorAll('[data-testid=session-row]').length === 1";
    app.until("only this one is left", one).await?;
    let cookie = other["cookie"].as_str().unwrap_or_default().to_owned();
    let client = reqwest::Client::builder().no_proxy().build()?;
    let asked = client
        .get(server.at("/auth/session"))
        .header("cookie", format!("session={cookie}"));
    let answer = asked.send().await?;
    ensure!(answer.status() == 401, "the other session lives on");

    // Signing out at the app revokes what it holds at the server.
    app.go("accounts").await?;
    app.click("sign-out").await?;
    app.click("sign-out-confirm").await?;
    app.see("accounts-empty").await?;
    Ok(())
}
