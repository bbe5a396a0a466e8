//! Every page and dialog under axe-core, light and dark, in the app's own web view.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::harness::page::key;
use super::harness::{AppWindow, Desktop, Keyring};
use super::keys::{issue, put_away, reveal};

async fn bring_axe(app: &AppWindow) -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ui/node_modules/axe-core/axe.min.js");
    let axe = fs::read_to_string(file).context("run `npm ci` in ui")?;
    app.run(&axe, &[]).await.map(drop)
}

/// What axe finds on the screen as it is now, once nothing moves any more.
async fn judge(app: &AppWindow, what: &str, findings: &mut Vec<String>) -> Result<()> {
    // One dialog may still go while the next is about to come: nothing moves for some frames on end.
    let script = "const done = arguments[arguments.length - 1]; \
        const moves = () => document.getAnimations().some((a) => a.playState === 'running' && \
          a.effect?.getTiming().iterations !== Infinity); \
        const look = () => axe.run(document, { resultTypes: ['violations'] }).then( \
          ({ violations }) => done(violations.map(({ id, nodes }) => id + ': ' + nodes.map((n) => \
            n.target.join(' ') + ' (' + n.any.concat(n.all).map((c) => c.message).join('; ') + ')') \
            .slice(0, 3).join(', '))), \
          (error) => done(['axe failed: ' + error])); \
        let since = performance.now(); \
        const wait = () => { \
          if (moves()) since = performance.now(); \
          if (performance.now() - since > 200) look(); else requestAnimationFrame(wait); \
        }; \
        wait();";
    let found = app.client.execute_async(script, Vec::new()).await?;
    let found = found
        .as_array()
        .context("no list")?
        .iter()
        .filter_map(Value::as_str);
    findings.extend(found.map(|line| format!("{what}: {line}")));
    Ok(())
}

/// Opens what a test id opens, judges it, and closes it by Esc.
async fn judge_dialog(
    app: &AppWindow,
    opener: &str,
    dialog: &str,
    theme: &str,
    findings: &mut Vec<String>,
) -> Result<()> {
    app.click(opener).await?;
    app.see(dialog).await?;
    judge(app, &format!("{dialog}, {theme}"), findings).await?;
    app.press(&[key::ESCAPE]).await?;
    app.gone(dialog).await
}

async fn judge_all(app: &AppWindow, theme: &str, findings: &mut Vec<String>) -> Result<()> {
    app.click(&format!("theme-{theme}")).await?;
    let set = format!("document.documentElement.dataset.theme === '{theme}'");
    app.until("the theme", &set).await?;
    for page in ["accounts", "activity", "flows", "settings", "keys"] {
        app.go(page).await?;
        judge(app, &format!("{page}, {theme}"), findings).await?;
    }
    for (opener, dialog) in [
        ("issue-key", "issue-dialog"),
        ("verify-key", "verify-dialog"),
        ("open-palette", "palette"),
        ("key-menu", "key-actions"),
    ] {
        judge_dialog(app, opener, dialog, theme, findings).await?;
    }
    app.press(&['?']).await?;
    app.see("shortcuts-dialog").await?;
    judge(app, &format!("shortcuts-dialog, {theme}"), findings).await?;
    app.press(&[key::ESCAPE]).await?;
    app.gone("shortcuts-dialog").await?;

    app.click("key-row").await?;
    app.see("key-detail").await?;
    judge(app, &format!("key-detail, {theme}"), findings).await?;
    judge_dialog(app, "rotate-key", "rotate-dialog", theme, findings).await?;
    judge_dialog(app, "revoke-key", "revoke-dialog", theme, findings).await?;
    app.click("detail-close").await?;
    app.go("accounts").await?;
    judge_dialog(app, "add-account", "sign-in-dialog", theme, findings).await?;
    app.go("keys").await
}

#[tokio::test]
async fn ac_196_axe_finds_nothing_on_any_page_light_and_dark() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let app = desktop.open().await?;
    let mut findings = Vec::new();
    bring_axe(&app).await?;
    judge(&app, "nothing yet", &mut findings).await?;
    issue(
        &app,
        "A key with a long name that may need more room than a column has",
    )
    .await?;
    judge(&app, "reveal-dialog, hidden", &mut findings).await?;
    reveal(&app).await?;
    judge(&app, "reveal-dialog, shown", &mut findings).await?;
    put_away(&app).await?;
    for theme in ["light", "dark"] {
        judge_all(&app, theme, &mut findings).await?;
    }
    ensure!(findings.is_empty(), "axe found:\n{}", findings.join("\n"));
    // It does find what is wrong.
    let wrong = "document.querySelector('main').insertAdjacentHTML('beforeend', \
        '<button></button><p style=\"color: #777; background: #888\">unreadable</p>');";
    app.run(wrong, &[]).await?;
    judge(&app, "planted", &mut findings).await?;
    ensure!(findings.len() >= 2, "axe is blind: {findings:?}");
    Ok(())
}

#[tokio::test]
async fn ac_196_axe_finds_nothing_where_something_is_wrong() -> Result<()> {
    let desktop = Desktop::start(Keyring::Absent).await?;
    fs::write(
        desktop.app_home().join("registry.db"),
        "no database at all".repeat(400),
    )?;
    let app = desktop.open().await?;
    let mut findings = Vec::new();
    bring_axe(&app).await?;
    app.see("keychain-banner").await?;
    for theme in ["light", "dark"] {
        app.click(&format!("theme-{theme}")).await?;
        for page in ["accounts", "activity", "flows", "settings", "keys"] {
            app.go(page).await?;
            judge(&app, &format!("{page} in trouble, {theme}"), &mut findings).await?;
        }
    }
    ensure!(findings.is_empty(), "axe found:\n{}", findings.join("\n"));
    Ok(())
}
