//! What the app leaves behind: no token and no key anywhere but in the keychain.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::harness::process::{Part, marked};
use super::harness::{AppWindow, Browser, Desktop, Keyring, Provider};
use super::keys::{issue, put_away, reveal};
use super::sign_in::sign_in;

/// Every file under a folder that holds one of the secrets.
fn holders(folder: &Path, secrets: &[String]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(holders(&path, secrets)?);
        } else if path.is_file() && holds(&fs::read(&path)?, secrets) {
            found.push(path);
        }
    }
    Ok(found)
}

fn holds(bytes: &[u8], secrets: &[String]) -> bool {
    let has = |secret: &String| {
        bytes
            .windows(secret.len())
            .any(|part| part == secret.as_bytes())
    };
    secrets.iter().any(has)
}

/// Every process of the session, the app's own family included.
fn talkers(desktop: &Desktop, secrets: &[String]) -> Vec<String> {
    let files = |id: u32| [format!("/proc/{id}/environ"), format!("/proc/{id}/cmdline")];
    let all = marked(&desktop.mark()).into_iter().flat_map(files);
    all.filter(|file| holds(&fs::read(file).unwrap_or_default(), secrets))
        .collect()
}

fn search(desktop: &Desktop, secrets: &[String]) -> Result<()> {
    for folder in ["kw", "home", "run"] {
        let found = holders(&desktop.path(folder), secrets)?;
        ensure!(found.is_empty(), "a secret lies in {found:?}");
    }
    let said = fs::read(desktop.path("driver.log"))?;
    ensure!(!holds(&said, secrets), "the app printed a secret");
    let found = talkers(desktop, secrets);
    ensure!(found.is_empty(), "a secret is in {found:?}");
    Ok(())
}

/// What the web view keeps of its own.
async fn kept_by_the_web_view(app: &AppWindow) -> Result<Value> {
    let script = "const done = arguments[arguments.length - 1]; \
        const bases = indexedDB.databases ? indexedDB.databases() : Promise.resolve([]); \
        bases.then((bases) => done([localStorage.length, sessionStorage.length, \
            document.cookie.length, bases.length]), (error) => done(String(error)));";
    Ok(app.client.execute_async(script, Vec::new()).await?)
}

#[tokio::test]
async fn ac_168_ac_190_ac_121_nothing_secret_stays_behind() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let provider = Provider::start(&desktop).await?;
    let browser = Browser::start(&desktop).await?;
    let app = desktop.open().await?;
    sign_in(&app, &browser, &provider, "ada", 1).await?;
    app.click("refresh-account").await?;
    app.reads("toast", "Access renewed").await?;
    app.go("keys").await?;
    issue(&app, "Canary").await?;
    let key = reveal(&app).await?;
    put_away(&app).await?;

    let mut secrets = provider.secrets();
    ensure!(secrets.len() >= 5, "too few canaries: {secrets:?}");
    secrets.push(key);
    search(&desktop, &secrets)?;
    // The search itself works: it finds what is planted, in a file and in an environment.
    let planted = desktop.app_home().join("planted");
    fs::write(&planted, [&[0xff; 9], secrets[0].as_bytes()].concat())?;
    ensure!(
        search(&desktop, &secrets).is_err(),
        "a planted file was not found"
    );
    fs::remove_file(planted)?;
    let mut talker = desktop.lasting("sleep");
    let talker = Part::start(talker.arg("60").env("PLANTED", &secrets[0]))?;
    ensure!(
        search(&desktop, &secrets).is_err(),
        "a planted variable was not found"
    );
    drop(talker);
    let whole = app.whole_document().await?;
    ensure!(
        !holds(whole.as_bytes(), &secrets),
        "a secret is in the page"
    );
    ensure!(kept_by_the_web_view(&app).await? == json!([0, 0, 0, 0]));

    app.go("accounts").await?;
    app.click("sign-out").await?;
    app.click("sign-out-confirm").await?;
    app.see("accounts-empty").await?;
    ensure!(kept_by_the_web_view(&app).await? == json!([0, 0, 0, 0]));
    app.end("TERM")?;
    search(&desktop, &secrets)
}

/// The commands of the app, from the very file the pages call them by.
fn commands() -> Result<Vec<String>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ui/src/lib/bindings.ts");
    let text = fs::read_to_string(&file).context("no bindings")?;
    let calls = text
        .split("__TAURI_INVOKE")
        .filter_map(|rest| rest.split_once("(\"")?.1.split('"').next());
    let names: Vec<String> = calls
        .map(str::to_owned)
        .filter(|name| name.contains('_'))
        .collect();
    ensure!(
        names.len() >= 28,
        "the bindings are not read well: {names:?}"
    );
    Ok(names)
}

#[tokio::test]
async fn ac_192_the_window_goes_nowhere_else_and_loads_nothing_from_outside() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let provider = Provider::start(&desktop).await?;
    let app = desktop.open().await?;
    let outside = format!("{}/.well-known/openid-configuration", provider.issuer);
    let home = app.client.current_url().await?;
    for script in [
        "location.href = arguments[0];",
        "window.open(arguments[0]);",
    ] {
        app.run(script, &[json!(outside)]).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        ensure!(
            app.client.current_url().await? == home,
            "{script} left the app"
        );
        ensure!(
            app.client.windows().await?.len() == 1,
            "{script} opened a window"
        );
    }
    let fetch = "const done = arguments[arguments.length - 1]; \
        fetch(arguments[0]).then(() => done('loaded'), () => done('refused'));";
    let script = "const done = arguments[arguments.length - 1]; \
        const tag = document.createElement('script'); tag.src = arguments[0]; \
        tag.onload = () => done('loaded'); tag.onerror = () => done('refused'); \
        document.head.append(tag);";
    for load in [fetch, script] {
        let answer = app.client.execute_async(load, vec![json!(outside)]).await?;
        ensure!(answer == "refused", "{load}: {answer}");
    }
    app.see("page-keys").await.map(drop)
}

#[tokio::test]
async fn ac_191_no_command_returns_a_token() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let provider = Provider::start(&desktop).await?;
    let browser = Browser::start(&desktop).await?;
    let app = desktop.open().await?;
    sign_in(&app, &browser, &provider, "ada", 1).await?;
    let accounts = app.ask("list_accounts", json!({})).await?;
    let id = accounts[0]["id"].as_str().context("no account")?;
    let mut names = commands()?;
    // It ends the app, so that nothing is returned.
    names.retain(|name| name != "close_app");
    // It ends the account: last.
    names.sort_by_key(|name| name == "sign_out");
    let request = json!({
        "text": "", "state": "all", "sort": "created_desc", "subject": "all", "cursor": null,
        "limit": 100, "presented": "x", "requiredScope": null, "knowing": true, "id": id, "reason": "",
        "overlapMs": 0, "expiresInDays": 1, "idempotencyKey": "i", "name": "n",
        "prefix": "sk_live", "scopes": [], "providerId": "openid", "clientId": "c",
        "issuer": "https://127.0.0.1:1", "clientSecret": null, "loginHint": null,
        "accountId": null,
    });
    let mut answered = 0;
    for name in names {
        let settings = app.ask("read_settings", json!({})).await?;
        let everything = json!({
            "request": request, "settings": settings, "accountId": id, "id": id, "signInId": id,
            "revealId": id, "snippet": "key", "pastedUrl": "http://127.0.0.1/callback?code=x",
            "scope": { "name": "a:b", "description": "", "lowRisk": true },
            "passphrase": "correct horse battery staple",
        });
        let answer = app.invoke(&name, everything).await?.to_string();
        answered += usize::from(answer.starts_with("{\"ok\""));
        ensure!(
            !holds(answer.as_bytes(), &provider.secrets()),
            "{name} returns a token"
        );
    }
    ensure!(answered >= 12, "most calls were refused: {answered}");
    for foreign in [
        "plugin:fs|read_text_file",
        "plugin:shell|execute",
        "plugin:http|fetch",
        "plugin:clipboard-manager|read_text",
        "plugin:webview|create_webview_window",
        "plugin:window|close",
        "plugin:event|emit",
        "read_secret",
    ] {
        let answer = app
            .invoke(foreign, json!({ "path": "/etc/passwd" }))
            .await?;
        ensure!(answer.get("error").is_some(), "{foreign} is open: {answer}");
    }
    Ok(())
}
