//! A keychain that is locked, or missing: said within three seconds, with a way on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::harness::page::key;
use super::harness::{AppWindow, Desktop, Keyring, keyring};
use super::keys::{issue, put_away, reveal, verify};

/// Tries to issue a key; returns the code of the refusal, which comes in time and with a hint.
async fn refused(app: &AppWindow) -> Result<String> {
    app.click("issue-key").await?;
    app.fill("key-name", "Night build").await?;
    let scopes = app.see("key-scopes").await?;
    scopes.send_keys("keys:read").await?;
    scopes.send_keys(&key::ENTER.to_string()).await?;
    app.see("issue-dialog").await?;
    let asked = Instant::now();
    app.click("key-submit").await?;
    let code = app.error_code("form-error").await?;
    let took = asked.elapsed();
    // Three seconds, and what a busy machine adds.
    ensure!(took < Duration::from_millis(4500), "it took {took:?}");
    // What happened, what to do, and the code.
    let lines = "document.querySelectorAll('[data-testid=form-error] p').length === 3";
    app.until("an error with its hint", lines).await?;
    Ok(code)
}

#[tokio::test]
async fn ac_160_ac_161_a_locked_keychain_is_told_and_works_once_unlocked() -> Result<()> {
    let desktop = Desktop::start(Keyring::Locked).await?;
    let app = desktop.open().await?;
    app.see("keychain-banner").await?;
    let code = refused(&app).await?;
    ensure!(
        code == "keychain_locked" || code == "keychain_denied",
        "{code}"
    );
    // The rest of the app goes on.
    app.press(&[key::ESCAPE]).await?;
    app.gone("issue-dialog").await?;
    let asked = Instant::now();
    app.go("settings").await?;
    app.go("keys").await?;
    ensure!(
        asked.elapsed() < Duration::from_secs(2),
        "it hangs: {:?}",
        asked.elapsed()
    );

    keyring::unlock(&desktop)?;
    app.click("keychain-retry").await?;
    app.gone("keychain-banner").await?;
    issue(&app, "Night build").await?;
    let secret = reveal(&app).await?;
    put_away(&app).await?;
    ensure!(verify(&app, &secret).await? == "valid");
    Ok(())
}

#[tokio::test]
async fn ac_162_no_secret_service_is_told_and_nothing_is_written_instead() -> Result<()> {
    let desktop = Desktop::start(Keyring::Absent).await?;
    let app = desktop.open().await?;
    ensure!(refused(&app).await? == "keychain_unavailable");
    app.press(&[key::ESCAPE]).await?;
    app.gone("issue-dialog").await?;
    ensure!(app.error_code("keychain-banner").await? == "keychain_unavailable");
    app.see("keys-empty").await?;
    Ok(())
}

const PASSPHRASE: &str = "many words make a lock";

#[tokio::test]
async fn ac_162_ac_163_an_encrypted_file_by_choice() -> Result<()> {
    let desktop = Desktop::start(Keyring::Absent).await?;
    let file = desktop.app_home().join("vault.sealed");
    let app = desktop.open().await?;
    app.see("keychain-banner").await?;
    ensure!(!file.exists(), "a file was made without asking");
    app.go("settings").await?;
    app.click("settings-create-vault").await?;
    app.fill("vault-passphrase", PASSPHRASE).await?;
    app.fill("vault-passphrase-again", PASSPHRASE).await?;
    app.click("vault-submit").await?;
    app.gone("vault-dialog").await?;
    app.gone("keychain-banner").await?;
    app.go("keys").await?;
    issue(&app, "On a server").await?;
    let secret = reveal(&app).await?;
    put_away(&app).await?;
    ensure!(verify(&app, &secret).await? == "valid");
    ensure!(
        fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600,
        "others may read it"
    );
    ensure!(
        !app.whole_document().await?.contains(PASSPHRASE),
        "the passphrase is in the page"
    );
    app.end("TERM")?;

    let app = desktop.open().await?;
    app.until(
        "locked again",
        "document.querySelector('[data-error-code=vault_locked]')",
    )
    .await?;
    app.click("keychain-retry").await?;
    app.fill("vault-passphrase", "not these words at all")
        .await?;
    app.click("vault-submit").await?;
    ensure!(app.error_code("vault-error").await? == "vault_wrong_passphrase");
    // Whoever has just been wrong waits a moment.
    tokio::time::sleep(Duration::from_millis(400)).await;
    app.fill("vault-passphrase", PASSPHRASE).await?;
    app.click("vault-submit").await?;
    app.gone("vault-dialog").await?;
    ensure!(verify(&app, &secret).await? == "valid");
    Ok(())
}

#[tokio::test]
async fn a_lost_pepper_is_told_until_a_person_starts_with_a_new_one() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let app = desktop.open().await?;
    issue(&app, "Night build").await?;
    let old = reveal(&app).await?;
    put_away(&app).await?;
    let service = app.service()?;
    app.end("TERM")?;
    // As after a reset of the keyring: the other entries do not matter here.
    for user in keyring::users(&desktop, &service)? {
        if user.starts_with("pepper:") {
            keyring::clear(&desktop, &service, &user)?;
        }
    }

    let app = desktop.open().await?;
    ensure!(app.error_code("keychain-banner").await? == "pepper_missing");
    app.click("keychain-retry").await?;
    ensure!(
        app.error_code("keychain-banner").await? == "pepper_missing",
        "a keychain that answers does not hide it"
    );
    app.click("new-pepper").await?;
    app.until(
        "how many keys end",
        "document.querySelector('[data-testid=pepper-keys]')?.textContent.includes('1 key ')",
    )
    .await?;
    app.click("pepper-understood").await?;
    app.click("pepper-submit").await?;
    app.gone("new-pepper-dialog").await?;
    app.gone("keychain-banner").await?;
    ensure!(verify(&app, &old).await? != "valid");
    issue(&app, "Night build again").await?;
    let new = reveal(&app).await?;
    put_away(&app).await?;
    ensure!(verify(&app, &new).await? == "valid");
    Ok(())
}
