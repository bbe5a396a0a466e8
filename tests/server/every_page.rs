//! Every page that `pages.rs` does not visit, in Chromium: gone through without scripts, under axe in light
//! and dark, as wide as a telephone.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::harness::{PASSWORD, ServerProcess, owner, peer};
use super::upstream;

const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Goes through a scenario; `pages`: how many pages it is about.
async fn run(server: &ServerProcess, scenario: &str, pages: usize, more: Value) -> Result<()> {
    let mut input = json!({
        "scenario": scenario, "issuer": server.issuer, "client": "third", "person": owner(),
        "shots": std::env::var("KEYWRIGHT_TEST_SHOTS").ok(),
    });
    if let (Some(input), Value::Object(more)) = (input.as_object_mut(), more) {
        input.extend(more);
    }
    let result = peer("every-page.mjs", &input).await?;
    ensure!(result["found"] == json!([]), "{result:#}");
    let seen = result["seen"].as_array().map_or(0, Vec::len);
    ensure!(seen == pages, "{seen} pages were seen: {result:#}");
    Ok(())
}

#[tokio::test]
async fn ac_196_the_first_set_up_without_scripts_in_light_and_dark() -> Result<()> {
    let (server, code) = ServerProcess::empty().await?;
    run(&server, "set_up", 4, json!({ "terminal": code })).await
}

#[tokio::test]
async fn ac_196_invitations_and_links_for_another_password() -> Result<()> {
    let server = ServerProcess::start().await?;
    // An address that is longer than a telephone is wide.
    let long = "a.person.with.a.very.long.name.indeed.and.no.breaks@department.example.org";
    let password = server.write("bob.password", PASSWORD)?;
    let words = ["users", "add", "--email", "bob@example.org"];
    let words = [&words[..], &["--password-file", &password]].concat();
    server.command(&words).await?;
    let people = json!({ "invited": long, "forgetful": "bob@example.org" });
    run(&server, "links", 7, people).await
}

#[tokio::test]
async fn ac_196_one_time_codes_and_recovery_codes() -> Result<()> {
    let server = ServerProcess::start().await?;
    run(&server, "codes", 11, json!({})).await
}

#[tokio::test]
async fn ac_196_devices_and_the_end_of_everything() -> Result<()> {
    let server = ServerProcess::start().await?;
    let flows = [
        "--name",
        "The application with a long name of the living room’s television",
        "--redirect-uri",
        "http://127.0.0.1:9999/callback",
        "--grant",
        "authorization_code",
        "--grant",
        "refresh_token",
        "--grant",
        DEVICE,
        "--scope",
        "openid profile email offline_access",
    ];
    server.add_client("third", None, &flows).await?;
    run(&server, "devices", 8, json!({})).await
}

#[tokio::test]
async fn ac_196_providers_and_what_goes_wrong_with_them() -> Result<()> {
    let (server, provider) = upstream::start().await?;
    // Nobody listens there.
    let words = ["providers", "add", "--id", "silent", "--kind", "openid"];
    let more = ["--issuer", "http://127.0.0.1:1", "--client-id", "us"];
    let name = ["--name", "A provider that is out of order this morning"];
    server
        .command(&[&words[..], &more[..], &name[..]].concat())
        .await?;
    let more = json!({ "provider": provider.issuer });
    run(&server, "providers", 13, more).await
}

#[tokio::test]
async fn ac_196_s0_02_the_documentation_without_scripts() -> Result<()> {
    let server = ServerProcess::start().await?;
    run(&server, "docs", 11, json!({})).await
}

#[tokio::test]
async fn ac_196_what_campaigns_ask_of_owners_and_an_answer_without_scripts() -> Result<()> {
    let server = ServerProcess::start().await?;
    run(&server, "questions", 5, json!({ "root": server.root_key })).await
}

#[tokio::test]
async fn ac_144_ac_196_a_stranger_reports_a_key_without_scripts() -> Result<()> {
    let server = ServerProcess::start().await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let post = async |path: &str, body: Value| -> Result<Value> {
        let request = client
            .post(server.at(path))
            .bearer_auth(&server.root_key)
            .json(&body);
        Ok(request.send().await?.error_for_status()?.json().await?)
    };
    let wish = json!({ "name": "leaked", "prefix": "sk_live", "scopes": ["keys:read"] });
    let issued = post("/api/v1/keys", wish).await?;
    let secret = issued["secret"].as_str().unwrap_or_default();
    let verdict = async || post("/api/v1/keys/verify", json!({ "key": secret })).await;
    ensure!(verdict().await?["code"] == "valid");
    run(&server, "found_key", 2, json!({ "found": secret })).await?;
    // It is seen to behind the answer, which tells nobody how long that took.
    for _ in 0..50 {
        if verdict().await?["code"] == "revoked" {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    anyhow::bail!("the key still works: {}", verdict().await?)
}
