//! The app with the registry of a server: signing in, keys there, the server away and back, and keys
//! of this device that move there.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::harness::{AppWindow, Browser, Desktop, Keyring};
use super::keys::{issue, put_away, reveal, rotate, verify};
use super::server::{sign_in, sign_in_as};
use crate::server::{PASSWORD, ServerProcess};

/// A window that works with the server's registry; the browser has done its part.
async fn at_server(desktop: &Desktop, server: &ServerProcess) -> Result<(AppWindow, Browser)> {
    let browser = Browser::start(desktop).await?;
    let app = desktop.open().await?;
    sign_in(&app, &browser, server).await?;
    Ok((app, browser))
}

async fn switch(app: &AppWindow, testid: &str) -> Result<()> {
    app.go("keys").await?;
    app.click_on(&format!("[data-testid={testid}] input"))
        .await?;
    let is_device = testid == "registry-device";
    let current = format!(
        "(document.querySelector('[data-testid=registry-switch]').dataset.current === 'device') === {is_device}"
    );
    app.until("the other registry", &current).await.map(drop)
}

/// What the server itself says of a key, asked by its root key.
async fn at_the_server(server: &ServerProcess, text: &str) -> Result<Value> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let asked = client
        .post(server.at("/api/v1/keys/verify"))
        .bearer_auth(&server.root_key)
        .header("content-type", "application/json")
        .body(json!({ "key": text }).to_string());
    Ok(serde_json::from_str(&asked.send().await?.text().await?)?)
}

async fn code(server: &ServerProcess, text: &str) -> Result<String> {
    let answer = at_the_server(server, text).await?;
    Ok(answer["code"].as_str().context("no code")?.to_owned())
}

#[tokio::test]
async fn ac_150_ac_152_keys_of_a_server_in_the_app_and_the_server_away_and_back() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let mut server = ServerProcess::start().await?;
    let (app, _browser) = at_server(&desktop, &server).await?;
    switch(&app, "registry-server-0").await?;

    // Issued in the app, its secret made there; the server knows it at once.
    issue(&app, "Served").await?;
    let old = reveal(&app).await?;
    put_away(&app).await?;
    ensure!(code(&server, &old).await? == "valid");
    ensure!(verify(&app, &old).await? == "valid");
    ensure!(!server.logged().contains(&old), "the server logged the key");
    // The device has none of it.
    switch(&app, "registry-device").await?;
    app.see("keys-empty").await?;
    ensure!(verify(&app, &old).await? == "not_found");
    switch(&app, "registry-server-0").await?;
    app.reads("key-row-name", "Served").await?;

    let new = rotate(&app, "24h").await?;
    ensure!(code(&server, &new).await? == "valid" && code(&server, &old).await? == "valid");

    // The server dies. What it said is still there, and says how old it is.
    server.signal("KILL")?;
    server.ended().await?;
    app.ask("find_api_key", json!({ "id": key_id(&app).await? }))
        .await?;
    app.click("detail-close").await?;
    app.click("filter-all").await?;
    app.see("registry-stale").await?;
    app.reads("key-row-name", "Served").await?;
    let wish =
        json!({ "name": "no", "prefix": "sk_live", "scopes": ["keys:read"], "expiresInDays": 9 });
    let refused = app
        .invoke("issue_api_key", json!({ "request": wish }))
        .await?;
    ensure!(refused["error"]["code"] == "registry_offline", "{refused}");

    // A revocation waits, and says so.
    app.click("key-row").await?;
    app.click("revoke-key").await?;
    app.click("revoke-submit").await?;
    app.gone("revoke-dialog").await?;
    app.reads("revocations-waiting", "not yet effective")
        .await?;
    app.see("revocation-waits").await?;

    // It is back: the revocation is done without anybody's help.
    server.serve().await?;
    let mut last = String::new();
    for _ in 0..60 {
        last = code(&server, &new).await?;
        if last == "revoked" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    ensure!(last == "revoked", "{last}");
    app.gone("revocations-waiting").await?;
    ensure!(code(&server, &old).await? == "revoked");
    Ok(())
}

async fn key_id(app: &AppWindow) -> Result<String> {
    let id = app.attribute("key-row", "data-key-id").await?;
    ensure!(!id.is_empty());
    Ok(id)
}

#[tokio::test]
async fn ac_155_keys_of_this_device_move_to_a_server_and_work_all_the_while() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let server = ServerProcess::start().await?;
    let (app, _browser) = at_server(&desktop, &server).await?;
    app.go("keys").await?;
    issue(&app, "Moving").await?;
    let moving = reveal(&app).await?;
    put_away(&app).await?;
    issue(&app, "Taken").await?;
    let taken = reveal(&app).await?;
    put_away(&app).await?;
    // The server has a key with the second one's public id already.
    let kid = taken.get(8..20).context("a kid")?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let other = json!({ "name": "Theirs", "prefix": "sk_live", "scopes": ["keys:read"],
        "client_secret": { "kid": kid, "last_four": "abcd", "digest": "ab".repeat(32) } });
    let made = client
        .post(server.at("/api/v1/keys"))
        .bearer_auth(&server.root_key)
        .header("content-type", "application/json")
        .body(other.to_string())
        .send()
        .await?;
    ensure!(made.status() == 201, "{}", made.text().await?);
    ensure!(code(&server, &moving).await? == "not_found");

    app.click("promote-keys").await?;
    app.click("promote-check").await?;
    app.see("promote-preview").await?;
    ensure!(app.attribute("promote-moved", "data-count").await? == "1");
    app.reads("promote-refused", "kid_taken").await?;
    ensure!(
        code(&server, &moving).await? == "not_found",
        "a check moved it"
    );
    app.click("promote-submit").await?;
    app.see("promote-done").await?;
    app.click("promote-close").await?;

    ensure!(code(&server, &moving).await? == "valid");
    ensure!(code(&server, &taken).await? == "not_found");
    ensure!(verify(&app, &moving).await? == "valid", "here it goes on");
    switch(&app, "registry-server-0").await?;
    ensure!(verify(&app, &moving).await? == "valid");
    // Ending the copy ends it here alone.
    switch(&app, "registry-device").await?;
    app.fill("search-keys", "Moving").await?;
    let one_row = "document.querySelectorAll('[data-testid=key-row]').length === 1";
    app.until("one row", one_row).await?;
    app.click("key-row").await?;
    app.see("moved-note").await?;
    app.click("revoke-key").await?;
    app.click("revoke-submit").await?;
    app.gone("revoke-dialog").await?;
    ensure!(verify(&app, &moving).await? == "revoked");
    ensure!(
        code(&server, &moving).await? == "valid",
        "there it lives on"
    );
    ensure!(!server.logged().contains(&moving));
    Ok(())
}

/// Something that the server makes for its root key.
async fn made(server: &ServerProcess, path: &str, body: &Value) -> Result<Value> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let asked = client
        .post(server.at(path))
        .bearer_auth(&server.root_key)
        .json(body);
    let answer = asked.send().await?;
    ensure!(answer.status() == 201, "{path}: {}", answer.status());
    Ok(answer.json().await?)
}

#[tokio::test]
async fn ac_158_a_person_without_a_role_is_offered_what_is_theirs_and_survives_a_refusal()
-> Result<()> {
    const MIA: &str = "mia@example.org";
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let server = ServerProcess::start().await?;
    let person =
        json!({ "name": "Mia", "email": MIA, "email_verified": true, "password": PASSWORD });
    let mia = made(&server, "/api/v1/users", &person).await?;
    let key = |name: &str, owner: &Value| {
        let mut wish = json!({ "name": name, "prefix": "sk_live", "scopes": ["keys:read"] });
        if owner.is_string() {
            wish["owner"] = json!({ "kind": "person", "id": owner });
        }
        wish
    };
    let own = made(&server, "/api/v1/keys", &key("Mine", &mia["id"])).await?;
    let others = made(&server, "/api/v1/keys", &key("Theirs", &Value::Null)).await?;
    let text = |of: &Value| {
        of["secret"]
            .as_str()
            .map(str::to_owned)
            .context("no secret")
    };
    let (own_text, others_text) = (text(&own)?, text(&others)?);

    let browser = Browser::start(&desktop).await?;
    let app = desktop.open().await?;
    sign_in_as(&app, &browser, &server, MIA).await?;
    // On this device everything is offered.
    app.go("keys").await?;
    app.see("issue-key").await?;
    switch(&app, "registry-server-0").await?;
    app.reads("key-row-name", "Mine").await?;
    ensure!(!app.whole_document().await?.contains("Theirs"));
    for hidden in ["issue-key", "verify-key"] {
        app.gone(hidden).await?;
    }

    // What is not offered is refused all the same, and the window goes on.
    let wish =
        json!({ "name": "no", "prefix": "sk_live", "scopes": ["keys:read"], "expiresInDays": 9 });
    let refused = app
        .invoke("issue_api_key", json!({ "request": wish }))
        .await?;
    let code = &refused["error"]["code"];
    ensure!(
        code == "insufficient_scope" || code == "scope_exceeds_creator",
        "{refused}"
    );
    let id = others["key"]["id"].as_str().context("no id")?;
    let refused = app.invoke("find_api_key", json!({ "id": id })).await?;
    ensure!(refused["error"]["code"] == "key_not_found", "{refused}");
    app.reads("key-row-name", "Mine").await?;

    // One's own key is ended as ever.
    app.click("key-row").await?;
    app.click("revoke-key").await?;
    app.click("revoke-submit").await?;
    app.gone("revoke-dialog").await?;
    ensure!(self::code(&server, &own_text).await? == "revoked");
    ensure!(self::code(&server, &others_text).await? == "valid");
    Ok(())
}
