//! A copied secret: on the clipboard by the app's own hand, and off it again.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::json;

use super::harness::{AppWindow, Desktop, Keyring, clipboard};
use super::keys::{issue, put_away, reveal};

/// A window with a fresh key whose secret is revealed; the clipboard is cleared after 5 s.
async fn ready(desktop: &Desktop) -> Result<(AppWindow, String)> {
    desktop.settings(&json!({ "clipboardClearS": 5 }))?;
    let app = desktop.open().await?;
    issue(&app, "Copied").await?;
    let secret = reveal(&app).await?;
    Ok((app, secret))
}

#[tokio::test]
async fn ac_193_a_copied_secret_leaves_the_clipboard() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let (app, secret) = ready(&desktop).await?;
    let clicked = Instant::now();
    app.click("copy-secret").await?;
    app.see("clipboard-countdown").await?;
    let copied = Instant::now();
    ensure!(
        clipboard::read(&desktop)? == secret,
        "the key is not on the clipboard"
    );
    ensure!(clipboard::read_target(&desktop, "x-kde-passwordManagerHint")? == "secret");
    while !clipboard::read(&desktop)?.is_empty() {
        if copied.elapsed() > Duration::from_secs(8) {
            bail!(app.explain("the secret is still on the clipboard").await);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(
        clicked.elapsed() > Duration::from_secs(4),
        "it was there for {:?}",
        copied.elapsed()
    );
    app.reads("toast", "Clipboard cleared").await?;
    // What was copied may be put away without a tick.
    app.click("close-reveal").await?;
    app.gone("reveal-dialog").await
}

#[tokio::test]
async fn ac_193_a_changed_clipboard_is_left_alone() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let (app, secret) = ready(&desktop).await?;
    app.click("copy-curl").await?;
    app.see("clipboard-countdown").await?;
    let line = clipboard::read(&desktop)?;
    ensure!(line.contains(&format!("Bearer {secret}")), "{line}");
    clipboard::write(&desktop, "a shopping list")?;
    tokio::time::sleep(Duration::from_millis(6500)).await;
    ensure!(clipboard::read(&desktop)? == "a shopping list");
    put_away(&app).await
}

#[tokio::test]
async fn ac_193_quitting_takes_the_secret_off_the_clipboard() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let (app, secret) = ready(&desktop).await?;
    app.click("copy-dot_env").await?;
    app.see("clipboard-countdown").await?;
    ensure!(clipboard::read(&desktop)? == format!("SK_LIVE_KEY={secret}\n"));
    app.end("TERM")?;
    ensure!(
        clipboard::read(&desktop)?.is_empty(),
        "the secret outlives the app"
    );
    Ok(())
}
