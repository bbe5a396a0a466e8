//! The life of an API key as a person lives it: issue, reveal once, verify, rotate, revoke.

use anyhow::{Result, ensure};
use serde_json::json;

use super::harness::page::key;
use super::harness::{AppWindow, Desktop, Keyring};

/// Issues a key by its form; the dialog with the secret is then open.
pub(crate) async fn issue(app: &AppWindow, name: &str) -> Result<()> {
    app.click("issue-key").await?;
    app.fill("key-name", name).await?;
    let scopes = app.see("key-scopes").await?;
    scopes.send_keys("keys:read").await?;
    scopes.send_keys(&key::ENTER.to_string()).await?;
    app.until(
        "the scope is chosen",
        "document.querySelector('[aria-label=\"Remove keys:read\"]')",
    )
    .await?;
    app.click("key-submit").await?;
    app.see("reveal-dialog").await.map(drop)
}

/// Reveals the secret of the open dialog.
pub(crate) async fn reveal(app: &AppWindow) -> Result<String> {
    app.click("reveal-secret").await?;
    app.text("secret-text").await
}

/// Confirms that it is stored, and closes.
pub(crate) async fn put_away(app: &AppWindow) -> Result<()> {
    app.click_on("[data-testid=stored-confirm] input").await?;
    app.click("close-reveal").await?;
    app.gone("reveal-dialog").await
}

/// Pastes a key into the verification dialog and returns the code of the answer.
pub(crate) async fn verify(app: &AppWindow, text: &str) -> Result<String> {
    app.click("verify-key").await?;
    app.fill("verify-input", text).await?;
    app.click("verify-submit").await?;
    let answered = "document.querySelector('[data-testid=verify-code], [data-testid=verify-asks]')";
    app.until("an answer or a question", &format!("!!{answered}"))
        .await?;
    if app.has("verify-asks").await? {
        app.click("verify-knowing").await?;
    }
    let code = app.text("verify-code").await?;
    app.press(&[key::ESCAPE]).await?;
    app.gone("verify-dialog").await?;
    Ok(code)
}

/// The key with one character in the middle changed.
fn garbled(text: &str) -> String {
    let at = text.len() / 2;
    let other = if text.get(at..=at) == Some("a") {
        "b"
    } else {
        "a"
    };
    [
        text.get(..at).unwrap_or_default(),
        other,
        text.get(at + 1..).unwrap_or_default(),
    ]
    .concat()
}

#[tokio::test]
async fn ac_120_ac_122_ac_126_a_key_is_shown_once_and_verifies() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let app = desktop.open().await?;
    issue(&app, "Billing service").await?;
    let secret = reveal(&app).await?;
    ensure!(
        secret.starts_with("sk_live_") && secret.len() == 8 + 56,
        "{secret}"
    );
    put_away(&app).await?;
    ensure!(
        !app.whole_document().await?.contains(&secret),
        "the secret is still in the page"
    );
    app.reads("key-row-name", "Billing service").await?;
    ensure!(verify(&app, &secret).await? == "valid");
    ensure!(verify(&app, &garbled(&secret)).await? == "malformed");
    ensure!(
        !app.whole_document().await?.contains(&secret),
        "the pasted key is still in the page"
    );
    Ok(())
}

#[tokio::test]
async fn ac_122_a_secret_cannot_be_revealed_twice() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let app = desktop.open().await?;
    app.ask(
        "define_scope",
        json!({ "scope": { "name": "a:b", "description": "", "lowRisk": false }}),
    )
    .await?;
    let wish =
        json!({ "name": "once", "prefix": "sk_live", "scopes": ["a:b"], "expiresInDays": 9 });
    let issued = app.ask("issue_api_key", json!({ "request": wish })).await?;
    let handle = json!({ "revealId": issued["revealId"] });
    let shown = app.ask("reveal_secret", handle.clone()).await?;
    ensure!(
        shown["secret"]
            .as_str()
            .is_some_and(|secret| secret.starts_with("sk_live_"))
    );
    let again = app.invoke("reveal_secret", handle.clone()).await?;
    ensure!(again["error"]["code"] == "already_revealed", "{again}");
    app.ask("discard_secret", handle.clone()).await?;
    let gone = app.invoke("reveal_secret", handle).await?;
    ensure!(gone["error"]["code"] == "secret_gone", "{gone}");
    Ok(())
}

#[tokio::test]
async fn ac_134_ac_136_a_rotation_with_overlap_keeps_both_secrets() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let app = desktop.open().await?;
    issue(&app, "Deploy").await?;
    let old = reveal(&app).await?;
    put_away(&app).await?;

    // The clock of the overlap begins with the first use of the new secret.
    let new = rotate(&app, "24h").await?;
    ensure!(app.attribute("detail-state", "data-state").await? == "rotating");
    ensure!(app.attribute("rotation-panel", "data-state").await? == "pending");
    leave_detail(&app).await?;
    ensure!(verify(&app, &old).await? == "valid" && verify(&app, &new).await? == "valid");
    app.click("key-row").await?;
    app.see("overlap-countdown").await?;
    ensure!(app.attribute("rotation-panel", "data-state").await? == "overlapping");
    leave_detail(&app).await?;

    // Without an overlap the secret before dies at once; the oldest one died for it.
    let newest = rotate(&app, "0").await?;
    app.until(
        "active again",
        "document.querySelector('[data-testid=detail-state][data-state=active]')",
    )
    .await?;
    leave_detail(&app).await?;
    ensure!(verify(&app, &newest).await? == "valid");
    ensure!(verify(&app, &new).await? == "retired" && verify(&app, &old).await? == "retired");
    Ok(())
}

#[tokio::test]
async fn ac_140_ac_184_a_revoked_key_is_refused_and_activity_tells_the_story() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let app = desktop.open().await?;
    issue(&app, "Laptop").await?;
    let old = reveal(&app).await?;
    put_away(&app).await?;
    let new = rotate(&app, "1h").await?;
    app.click("revoke-key").await?;
    app.fill("revoke-reason", "laptop was stolen").await?;
    app.click("revoke-submit").await?;
    app.until(
        "revoked",
        "document.querySelector('[data-testid=detail-state][data-state=revoked]')",
    )
    .await?;
    for button in ["rotate-key", "revoke-key"] {
        ensure!(
            !app.see(button).await?.is_enabled().await?,
            "{button} can still be pressed"
        );
    }
    leave_detail(&app).await?;
    ensure!(verify(&app, &old).await? == "revoked" && verify(&app, &new).await? == "revoked");

    app.go("activity").await?;
    let rows = "[...document.querySelectorAll('[data-testid=activity-row]')]";
    let has = |action: &str| format!("{rows}.some((row) => row.dataset.action === '{action}')");
    for action in ["api_key.issued", "api_key.rotated", "api_key.revoked"] {
        app.until(action, &has(action)).await?;
    }
    app.click_on("[data-action=\"api_key.revoked\"] button")
        .await?;
    app.until(
        "the reason",
        "document.body.textContent.includes('laptop was stolen')",
    )
    .await?;
    for secret in [old, new] {
        ensure!(
            !app.whole_document().await?.contains(&secret),
            "activity shows a secret"
        );
    }
    Ok(())
}

/// Rotates the only key and returns the new secret; its details are then open.
pub(crate) async fn rotate(app: &AppWindow, overlap: &str) -> Result<String> {
    app.click("key-row").await?;
    app.click("rotate-key").await?;
    app.click_on(&format!("[data-testid=rotate-overlap-{overlap}]"))
        .await?;
    app.click("rotate-submit").await?;
    let secret = reveal(app).await?;
    put_away(app).await?;
    Ok(secret)
}

async fn leave_detail(app: &AppWindow) -> Result<()> {
    app.click("detail-close").await?;
    app.gone("key-detail").await
}

#[tokio::test]
async fn ac_138_a_rotation_is_cancelled_rolled_back_and_finished() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let app = desktop.open().await?;
    issue(&app, "Relay").await?;
    let first = reveal(&app).await?;
    put_away(&app).await?;

    // Nobody used the new secret: it is cancelled, and the old one goes on.
    let cancelled = rotate(&app, "24h").await?;
    step(&app, "cancel").await?;
    leave_detail(&app).await?;
    ensure!(verify(&app, &first).await? == "valid");
    ensure!(verify(&app, &cancelled).await? != "valid");

    // The new secret is in use: the old one is made the current one again.
    let second = rotate(&app, "24h").await?;
    leave_detail(&app).await?;
    ensure!(verify(&app, &second).await? == "valid");
    app.click("key-row").await?;
    step(&app, "roll_back").await?;
    leave_detail(&app).await?;
    ensure!(verify(&app, &first).await? == "valid");
    ensure!(verify(&app, &second).await? != "valid");

    // And the old one is ended before its time.
    let third = rotate(&app, "24h").await?;
    leave_detail(&app).await?;
    ensure!(verify(&app, &third).await? == "valid");
    app.click("key-row").await?;
    step(&app, "finish").await?;
    leave_detail(&app).await?;
    ensure!(verify(&app, &third).await? == "valid");
    ensure!(verify(&app, &first).await? == "retired");
    Ok(())
}

#[tokio::test]
async fn ac_137_a_disabled_key_comes_back_and_a_secret_is_delivered() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let app = desktop.open().await?;
    let file = desktop.path("home").join(".env");
    std::fs::write(&file, "A=1\nSK_LIVE_KEY='old' # kept\n")?;
    issue(&app, "Mailer").await?;
    app.click("deliver-to").await?;
    app.fill("deliver-path", &file.display().to_string())
        .await?;
    app.click("deliver-submit").await?;
    ensure!(app.attribute("deliver-outcome", "data-state").await? == "delivered");
    ensure!(app.attribute("deliver-outcome", "data-read-back").await? == "true");
    let secret = reveal(&app).await?;
    let expected = format!("A=1\nSK_LIVE_KEY='{secret}' # kept\n");
    ensure!(std::fs::read_to_string(&file)? == expected);
    put_away(&app).await?;

    app.click("key-row").await?;
    app.click("suspend-key").await?;
    app.fill("suspend-reason", "audit under way").await?;
    app.click("suspend-submit").await?;
    app.reads("disabled-note", "audit under way").await?;
    leave_detail(&app).await?;
    ensure!(verify(&app, &secret).await? == "disabled");
    app.click("key-row").await?;
    app.click("suspend-key").await?;
    app.click("suspend-submit").await?;
    app.gone("disabled-note").await?;
    leave_detail(&app).await?;
    ensure!(verify(&app, &secret).await? == "valid");
    Ok(())
}

/// Takes a step in the rotation of the open key, and waits until it is over.
async fn step(app: &AppWindow, name: &str) -> Result<()> {
    app.click(&format!("rotation-{name}")).await?;
    app.click("step-submit").await?;
    app.gone("step-dialog").await?;
    app.gone("rotation-panel").await
}
