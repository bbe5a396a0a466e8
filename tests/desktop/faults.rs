//! Faults as a person sees them: said with a code and a way on, and gone once they are mended.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::json;
use sqlx::Connection;

use super::harness::{AppWindow, Browser, Desktop, Keyring, Provider};
use super::sign_in::sign_in;

/// The page says what is wrong; "Try again" tells the same until it is mended.
async fn told(app: &AppWindow, code: &str) -> Result<()> {
    ensure!(app.error_code("page-error").await? == code);
    let lines = "document.querySelectorAll('[data-testid=page-error] p').length === 3";
    app.until("what happened, what to do, and the code", lines)
        .await?;
    app.click("error-retry").await?;
    ensure!(app.error_code("page-error").await? == code);
    Ok(())
}

async fn mended(app: &AppWindow) -> Result<()> {
    app.click("error-retry").await?;
    app.gone("page-error").await?;
    app.gone("registry-banner").await?;
    app.see("keys-empty").await.map(drop)
}

async fn raw(path: &Path, sql: &'static str) -> Result<()> {
    sqlx::any::install_default_drivers();
    let mut connection =
        sqlx::AnyConnection::connect(&format!("sqlite://{}", path.display())).await?;
    sqlx::raw_sql(sql).execute(&mut connection).await?;
    Ok(connection.close().await?)
}

/// A desktop whose registry was made by an earlier run.
async fn with_registry() -> Result<(Desktop, PathBuf)> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let app = desktop.open().await?;
    app.see("keys-empty").await?;
    app.end("TERM")?;
    let file = desktop.app_home().join("registry.db");
    Ok((desktop, file))
}

#[tokio::test]
async fn a_damaged_registry_is_told_and_left_alone() -> Result<()> {
    let (desktop, file) = with_registry().await?;
    let whole = fs::read(&file)?;
    let cut = whole.get(..whole.len() / 2).unwrap_or_default();
    fs::write(&file, cut)?;
    let app = desktop.open().await?;
    told(&app, "registry_damaged").await?;
    ensure!(fs::read(&file)? == cut, "the damaged file was touched");
    fs::write(&file, whole)?;
    mended(&app).await
}

#[tokio::test]
async fn ac_154_a_newer_registry_is_told() -> Result<()> {
    let (desktop, file) = with_registry().await?;
    raw(
        &file,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', 1, x'00', 0)",
    )
    .await?;
    let app = desktop.open().await?;
    told(&app, "schema_too_new").await?;
    raw(&file, "DELETE FROM _sqlx_migrations WHERE version = 9999").await?;
    mended(&app).await
}

/// Root writes where others may not; an immutable file stops even root.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn new(path: &Path) -> Result<Self> {
        let file = Self(path.to_path_buf());
        file.set("444", "+i")?;
        ensure!(
            fs::File::options().append(true).open(path).is_err(),
            "it can still be written"
        );
        Ok(file)
    }

    fn set(&self, mode: &str, flag: &str) -> Result<()> {
        // Only root may set the flag, and only for root is it needed.
        let both = [("chattr", "-i"), ("chmod", mode), ("chattr", flag)];
        for (program, argument) in both {
            let _ = Command::new(program).arg(argument).arg(&self.0).output()?;
        }
        Ok(())
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = self.set("600", "-i");
    }
}

#[tokio::test]
async fn a_read_only_registry_is_told() -> Result<()> {
    let (desktop, file) = with_registry().await?;
    let lock = ReadOnly::new(&file)?;
    let app = desktop.open().await?;
    told(&app, "registry_read_only").await?;
    drop(lock);
    mended(&app).await
}

/// Nothing of a name became markup, a control character, or a wider page.
async fn shown_as_text(app: &AppWindow) -> Result<()> {
    let script = "return { images: document.querySelectorAll('img').length, \
        bold: document.querySelectorAll('b').length, owned: document.title.includes('owned'), \
        controls: /[\\u0000-\\u0008\\u202a-\\u202e\\u2066-\\u2069]/.test(document.body.textContent), \
        wide: document.documentElement.scrollWidth > innerWidth };";
    let seen = app.run(script, &[]).await?;
    let wanted =
        json!({ "images": 0, "bold": 0, "owned": false, "controls": false, "wide": false });
    ensure!(seen == wanted, "{seen}");
    Ok(())
}

#[tokio::test]
async fn ac_197_hostile_names_are_shown_as_text() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let provider = Provider::start(&desktop).await?;
    let browser = Browser::start(&desktop).await?;
    let app = desktop.open().await?;
    let long = "w".repeat(120);
    let names = [
        "<img src=x onerror=\"document.title='owned'\">",
        "\u{202e}nimda\u{2066}",
        "bell\u{7}null\u{0}",
        "مفتاح الإنتاج",
        &long,
    ];
    let scope = json!({ "name": "a:b", "description": "<b>x</b>", "lowRisk": false });
    app.ask("define_scope", json!({ "scope": scope })).await?;
    let mut accepted = 0;
    for name in names {
        let wish =
            json!({ "name": name, "prefix": "sk_test", "scopes": ["a:b"], "expiresInDays": 1 });
        let answer = app
            .invoke("issue_api_key", json!({ "request": wish }))
            .await?;
        accepted += usize::from(answer.get("ok").is_some());
    }
    ensure!(accepted >= 3, "only {accepted} names were accepted");
    app.go("settings").await?;
    app.go("keys").await?;
    app.reads("key-row-name", "<img src=x").await?;
    shown_as_text(&app).await?;
    app.click("key-row").await?;
    app.see("key-detail").await?;
    shown_as_text(&app).await?;
    app.go("activity").await?;
    app.until(
        "the events",
        "document.querySelector('[data-action=\"api_key.issued\"]')",
    )
    .await?;
    shown_as_text(&app).await?;
    sign_in(&app, &browser, &provider, "hostile", 1).await?;
    app.reads("account-name", "<img src=x").await?;
    app.reads("account-email", "<b>bold</b>").await?;
    shown_as_text(&app).await
}
