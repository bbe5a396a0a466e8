//! The window is not closed over a new secret that nobody has.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::harness::windows::ask_to_close;
use super::harness::{AppWindow, Desktop, Keyring};
use super::keys::issue;

fn runs(id: u32) -> bool {
    fs::read_link(format!("/proc/{id}/exe")).is_ok()
}

async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

async fn with_a_new_key(desktop: &Desktop) -> Result<(AppWindow, u32)> {
    let app = desktop.open().await?;
    issue(&app, "Waiting").await?;
    let id = app.process()?;
    Ok((app, id))
}

#[tokio::test]
async fn ac_122_closing_asks_while_a_new_key_was_not_copied() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let (app, id) = with_a_new_key(&desktop).await?;
    ask_to_close(&desktop, "Keywright")?;
    app.see("close-dialog").await?;
    app.click("keep-open").await?;
    app.gone("close-dialog").await?;
    // However long ago: a question that was shown does not make the next attempt a forced one.
    pause(3500).await;
    ask_to_close(&desktop, "Keywright")?;
    app.see("close-dialog").await?;
    ensure!(runs(id), "closed over a secret");
    app.click("keep-open").await?;
    app.click("copy-secret").await?;
    app.see("clipboard-countdown").await?;
    ask_to_close(&desktop, "Keywright")?;
    app.wait_until_closed(id)
}

#[tokio::test]
async fn a_new_key_is_lost_when_the_person_says_so() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let (app, id) = with_a_new_key(&desktop).await?;
    ask_to_close(&desktop, "Keywright")?;
    app.see("close-anyway").await?;
    // A moment later: a click that ends the app at once leaves its driver without an answer.
    let click =
        "setTimeout(() => document.querySelector('[data-testid=close-anyway]').click(), 200);";
    app.run(click, &[json!(null)]).await?;
    app.wait_until_closed(id)
}

#[tokio::test]
async fn a_window_that_does_not_answer_is_closed_by_the_second_attempt() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let (app, id) = with_a_new_key(&desktop).await?;
    app.run("setTimeout(() => { for (;;); }, 50);", &[json!(null)])
        .await?;
    pause(300).await;
    ask_to_close(&desktop, "Keywright")?;
    pause(3500).await;
    ensure!(runs(id), "the first attempt closed it");
    ask_to_close(&desktop, "Keywright")?;
    app.wait_until_closed(id)
}
