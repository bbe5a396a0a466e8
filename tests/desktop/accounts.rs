//! Accounts over time: two on one issuer, a restart, and a keychain that changes behind our back.

use anyhow::{Context, Result, ensure};

use super::harness::{AppWindow, Browser, Desktop, Keyring, Provider, keyring};
use super::sign_in::{refresh_entries, sign_in};

/// Waits until the card of a person says how it stands.
async fn stands(app: &AppWindow, person: &str, status: &str) -> Result<()> {
    let card = format!(
        "[...document.querySelectorAll('[data-testid=account-card]')].some((card) => \
           card.textContent.includes('{person}') && card.dataset.status === '{status}')"
    );
    app.until(&format!("{person} is {status}"), &card)
        .await
        .map(drop)
}

#[tokio::test]
async fn ac_167_two_accounts_on_one_issuer() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let provider = Provider::start(&desktop).await?;
    let browser = Browser::start(&desktop).await?;
    let app = desktop.open().await?;
    sign_in(&app, &browser, &provider, "ada", 1).await?;
    // The provider's session belongs to ada.
    browser.client.delete_all_cookies().await?;
    sign_in(&app, &browser, &provider, "bob", 2).await?;
    stands(&app, "Person ada", "signed_in").await?;
    stands(&app, "Person bob", "signed_in").await?;
    let entries = refresh_entries(&desktop, &app)?;
    ensure!(entries.len() == 2, "{entries:?}");

    let card = "article[aria-label=\"Person ada\"]";
    app.click_on(&format!("{card} [data-testid=sign-out]"))
        .await?;
    app.click("sign-out-confirm").await?;
    app.until(
        "ada is gone",
        &format!("document.querySelector('{card}') === null"),
    )
    .await?;
    stands(&app, "Person bob", "signed_in").await?;
    let entries = refresh_entries(&desktop, &app)?;
    ensure!(
        entries.len() == 1 && entries[0].contains("bob"),
        "{entries:?}"
    );
    app.click("refresh-account").await?;
    app.reads("toast", "Access renewed").await
}

#[tokio::test]
async fn ac_083_a_restart_keeps_the_account_signed_in() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let provider = Provider::start(&desktop).await?;
    let browser = Browser::start(&desktop).await?;
    let app = desktop.open().await?;
    sign_in(&app, &browser, &provider, "ada", 1).await?;
    let first = provider.values("refresh_token.saved");
    app.end("TERM")?;

    let app = desktop.open().await?;
    app.go("accounts").await?;
    stands(&app, "Person ada", "signed_in").await?;
    app.reads("token-life", "Access for").await?;
    ensure!(browser.opened().len() == 1, "a restart opened the browser");
    let entry = refresh_entries(&desktop, &app)?.pop().context("no entry")?;
    let stored = keyring::lookup(&desktop, &app.service()?, &entry)?.context("no token")?;
    let all = provider.values("refresh_token.saved");
    ensure!(all.len() == 2 && all.last() == Some(&stored) && !first.contains(&stored));
    Ok(())
}

#[tokio::test]
async fn ac_160_a_keychain_locked_later_signs_nobody_out() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let provider = Provider::start(&desktop).await?;
    let browser = Browser::start(&desktop).await?;
    let app = desktop.open().await?;
    sign_in(&app, &browser, &provider, "ada", 1).await?;
    keyring::lock(&desktop)?;
    app.click("refresh-account").await?;
    stands(&app, "Person ada", "keychain_unavailable").await?;
    let code = app.error_code("account-reason").await?;
    ensure!(
        code == "keychain_locked" || code == "keychain_denied",
        "{code}"
    );

    keyring::unlock(&desktop)?;
    app.click("refresh-account").await?;
    stands(&app, "Person ada", "signed_in").await?;
    ensure!(refresh_entries(&desktop, &app)?.len() == 1);
    Ok(())
}

#[tokio::test]
async fn ac_165_an_entry_deleted_outside_asks_for_a_new_sign_in() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let provider = Provider::start(&desktop).await?;
    let browser = Browser::start(&desktop).await?;
    let app = desktop.open().await?;
    sign_in(&app, &browser, &provider, "ada", 1).await?;
    let entry = refresh_entries(&desktop, &app)?.pop().context("no entry")?;
    keyring::clear(&desktop, &app.service()?, &entry)?;
    app.click("refresh-account").await?;
    stands(&app, "Person ada", "sign_in_needed").await?;
    ensure!(app.error_code("account-reason").await? == "reauth_required");

    // The same person signs in again, in the same account.
    app.click("sign-in-again").await?;
    app.click("sign-in-submit").await?;
    browser.tab(2).await?;
    browser.consent().await?;
    browser.ends_with("You can close this tab").await?;
    stands(&app, "Person ada", "signed_in").await?;
    ensure!(refresh_entries(&desktop, &app)?.len() == 1);
    Ok(())
}

#[tokio::test]
async fn ac_166_duplicates_are_named_and_not_guessed() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let provider = Provider::start(&desktop).await?;
    let browser = Browser::start(&desktop).await?;
    let app = desktop.open().await?;
    sign_in(&app, &browser, &provider, "ada", 1).await?;
    let entry = refresh_entries(&desktop, &app)?.pop().context("no entry")?;
    let tokens = provider.values("refresh_token.saved").len();
    keyring::duplicate(&desktop, &app.service()?, &entry)?;
    app.click("refresh-account").await?;
    stands(&app, "Person ada", "keychain_unavailable").await?;
    ensure!(app.error_code("account-reason").await? == "keychain_ambiguous");
    ensure!(
        provider.values("refresh_token.saved").len() == tokens,
        "one of them was used"
    );
    ensure!(
        refresh_entries(&desktop, &app)?.len() == 2,
        "one of them was deleted"
    );
    Ok(())
}

#[tokio::test]
async fn ac_161_a_sign_in_with_a_locked_keychain_is_for_this_session_until_it_opens() -> Result<()>
{
    let desktop = Desktop::start(Keyring::Locked).await?;
    let provider = Provider::start(&desktop).await?;
    let browser = Browser::start(&desktop).await?;
    let app = desktop.open().await?;
    sign_in(&app, &browser, &provider, "ada", 1).await?;
    stands(&app, "Person ada", "keychain_unavailable").await?;
    app.see("session-only").await?;
    ensure!(refresh_entries(&desktop, &app)?.is_empty());

    keyring::unlock(&desktop)?;
    app.click("refresh-account").await?;
    stands(&app, "Person ada", "signed_in").await?;
    app.see("in-keychain").await?;
    let entry = refresh_entries(&desktop, &app)?.pop().context("no entry")?;
    let stored = keyring::lookup(&desktop, &app.service()?, &entry)?;
    ensure!(
        stored == provider.values("refresh_token.saved").pop(),
        "{stored:?}"
    );
    Ok(())
}

#[tokio::test]
async fn ac_091_ac_097_a_provider_that_is_down() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let provider = Provider::start(&desktop).await?;
    let browser = Browser::start(&desktop).await?;
    let app = desktop.open().await?;
    sign_in(&app, &browser, &provider, "ada", 1).await?;
    drop(provider);
    app.click("refresh-account").await?;
    stands(&app, "Person ada", "offline").await?;
    ensure!(
        refresh_entries(&desktop, &app)?.len() == 1,
        "the token was thrown away"
    );
    ensure!(
        browser.opened().len() == 1,
        "a failed refresh opened the browser"
    );

    // The person still gets rid of it here, and is told what could not be done there.
    app.click("sign-out").await?;
    app.click("sign-out-confirm").await?;
    app.see("accounts-empty").await?;
    app.reads("toast", "did not confirm").await?;
    ensure!(
        refresh_entries(&desktop, &app)?.is_empty(),
        "the entry stays"
    );
    Ok(())
}
