//! The whole app without a pointer: AC-196. Nothing here clicks.

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::harness::page::key;
use super::harness::{AppWindow, Desktop, Keyring};

/// What has the focus: its test id, else its tag; the page's body is nothing.
async fn focused(app: &AppWindow) -> Result<String> {
    let script = "const e = document.activeElement; const box = e?.getBoundingClientRect(); \
        return { body: e === null || e === document.body, \
            shown: !!box && box.width > 0 && box.height > 0 && e.matches(':focus-visible'), \
            name: e?.closest('[data-testid]')?.dataset.testid ?? e?.tagName ?? '' };";
    let found = app.run(script, &[]).await?;
    if found["body"] == Value::Bool(true) || found["shown"] != Value::Bool(true) {
        bail!(
            app.explain(&format!("the focus cannot be seen: {found}"))
                .await
        );
    }
    Ok(found["name"].as_str().unwrap_or_default().to_owned())
}

async fn tab(app: &AppWindow) -> Result<String> {
    app.press(&[key::TAB]).await?;
    focused(app).await
}

/// Goes on by Tab until something has the focus.
async fn tab_to(app: &AppWindow, wanted: &str) -> Result<()> {
    let mut seen = Vec::new();
    for _ in 0..60 {
        let at = tab(app).await?;
        if at == wanted {
            return Ok(());
        }
        seen.push(at);
    }
    bail!(
        app.explain(&format!("Tab never comes to {wanted}: {seen:?}"))
            .await
    )
}

async fn escape(app: &AppWindow, dialog: &str) -> Result<()> {
    app.press(&[key::ESCAPE]).await?;
    app.gone(dialog).await?;
    app.until(
        "the focus comes back",
        "document.activeElement !== document.body",
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn ac_196_every_page_is_reached_by_tab_and_enter() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let app = desktop.open().await?;
    ensure!(tab(&app).await? == "skip-link", "the skip link comes first");
    app.press(&[key::ENTER]).await?;
    let heading = "document.activeElement?.hasAttribute('data-page-heading')";
    app.until("the heading has the focus", heading).await?;
    for page in ["accounts", "activity", "flows", "settings", "keys"] {
        tab_to(&app, &format!("nav-{page}")).await?;
        app.press(&[key::ENTER]).await?;
        app.see(&format!("page-{page}")).await?;
    }
    // Backwards too, from wherever we are.
    app.press(&[key::SHIFT, key::TAB]).await?;
    focused(&app).await?;
    for (second, page) in [
        ('a', "accounts"),
        ('y', "activity"),
        ('f', "flows"),
        ('s', "settings"),
        ('k', "keys"),
    ] {
        app.press(&['g']).await?;
        app.press(&[second]).await?;
        app.see(&format!("page-{page}")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn ac_196_a_key_is_issued_and_read_without_a_pointer() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let app = desktop.open().await?;
    app.press(&[key::CONTROL, 'k']).await?;
    app.see("palette").await?;
    app.write("issue").await?;
    app.until(
        "one entry",
        "document.querySelectorAll('[data-testid=palette-item]').length === 1",
    )
    .await?;
    app.press(&[key::ENTER]).await?;
    app.see("issue-dialog").await?;
    ensure!(
        focused(&app).await? == "key-name",
        "the first field has the focus"
    );
    app.write("Keyboard only").await?;
    tab_to(&app, "key-scopes").await?;
    app.write("keys:read").await?;
    app.press(&[key::ENTER]).await?;
    let chosen = "document.querySelector('[aria-label=\"Remove keys:read\"]')";
    app.until("the scope is chosen", chosen).await?;
    tab_to(&app, "key-submit").await?;
    app.press(&[key::ENTER]).await?;
    app.see("reveal-dialog").await?;
    // Esc does not lose a key that nobody has stored.
    app.press(&[key::ESCAPE]).await?;
    app.see("reveal-nudge").await?;
    ensure!(
        focused(&app).await? == "reveal-secret",
        "Reveal has the focus"
    );
    app.press(&[key::ENTER]).await?;
    app.see("secret-text").await?;
    tab_to(&app, "stored-confirm").await?;
    app.press(&[key::SPACE]).await?;
    tab_to(&app, "close-reveal").await?;
    app.press(&[key::ENTER]).await?;
    app.gone("reveal-dialog").await?;
    app.until(
        "the focus comes back",
        "document.activeElement !== document.body",
    )
    .await?;

    tab_to(&app, "key-row").await?;
    app.press(&[key::DOWN]).await?;
    ensure!(focused(&app).await? == "key-row");
    app.press(&[key::ENTER]).await?;
    app.see("key-detail").await?;
    tab_to(&app, "rotate-key").await?;
    app.press(&[key::ENTER]).await?;
    app.see("rotate-dialog").await?;
    app.press(&[key::RIGHT]).await?;
    escape(&app, "rotate-dialog").await?;
    tab_to(&app, "detail-close").await?;
    app.press(&[key::ENTER]).await?;
    app.gone("key-detail").await
}

#[tokio::test]
async fn ac_196_escape_closes_every_dialog() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let app = desktop.open().await?;
    let shortcuts: [(&[char], &str); 4] = [
        (&['n'], "issue-dialog"),
        (&['v'], "verify-dialog"),
        (&['?'], "shortcuts-dialog"),
        (&[key::CONTROL, 'k'], "palette"),
    ];
    for (keys, dialog) in shortcuts {
        app.press(keys).await?;
        app.see(dialog).await?;
        focused(&app).await?;
        // The focus stays inside, all the way round.
        for _ in 0..30 {
            tab(&app).await?;
            let inside = format!(
                "document.querySelector('[data-testid={dialog}]').contains(document.activeElement)"
            );
            app.until("the focus stays inside", &inside).await?;
        }
        escape(&app, dialog).await?;
    }
    Ok(())
}
