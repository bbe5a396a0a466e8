//! PyPI's schemathesis at every route of the API's own description: no answer is a server error, none is
//! outside the description.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use super::harness::{OWNER, PASSWORD, ServerProcess};

const PROGRAM: &str = "KEYWRIGHT_TEST_SCHEMATHESIS";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_schema_conformance";

/// Runs it for some seconds; `except` is a pattern of paths that are left out.
async fn attack(server: &ServerProcess, token: &str, except: Option<&str>) -> Result<String> {
    let program = std::env::var(PROGRAM)
        .with_context(|| format!("{PROGRAM} is not set: run the tests by `cargo xtask test`"))?;
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(program);
    command
        .current_dir(folder.path())
        .args(["run", &server.at("/api/openapi.json"), "--no-color"])
        // A key of tests, of a server that is gone in a minute.
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--phases", "coverage,fuzzing", "--max-examples", "8"])
        .args(["--seed", "7", "--max-time", "25", "--checks", CHECKS])
        .arg("--continue-on-failure")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if let Some(except) = except {
        command.args(["--exclude-path-regex", except]);
    }
    let limit = std::time::Duration::from_secs(180);
    let output = tokio::time::timeout(limit, command.output()).await??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said)
}

/// How many requests were made.
fn cases(said: &str) -> Option<u32> {
    let line = said.lines().find(|line| line.contains(" generated, "))?;
    line.split_whitespace().next()?.parse().ok()
}

#[tokio::test]
async fn every_route_answers_a_root_key_as_it_is_described() -> Result<()> {
    let server = ServerProcess::start().await?;
    // The generator learns the key's own id: ended, it would be told 401 from there on. A stream of events
    // has no end to wait for, and lines of JSON are no body that it can make.
    let except = "/disable$|/revoke$|/events$|/import$";
    let said = attack(&server, &server.root_key, Some(except)).await?;
    ensure!(cases(&said).is_some_and(|cases| cases > 200), "{said}");
    Ok(())
}

#[tokio::test]
async fn every_route_answers_an_owner_as_it_is_described() -> Result<()> {
    let server = ServerProcess::start().await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let body = json!({ "email": OWNER, "password": PASSWORD });
    let response = client
        .post(server.at("/auth/login"))
        .json(&body)
        .send()
        .await?;
    let answer: Value = serde_json::from_str(&response.text().await?)?;
    let token = answer["access_token"].as_str().context("no token")?;
    // Sign-ins that fail make the source wait, and the others can end the very access that asks: the
    // generator learns ids from answers, its own session's, person's and client's among them.
    let except = "/auth/|revoke-all|revoke-others|applications|/events$|/import$|/sessions/|password-reset$\
                  |/clients/.*/(disable|revoke-tokens)$";
    let said = attack(&server, token, Some(except)).await?;
    ensure!(cases(&said).is_some_and(|cases| cases > 200), "{said}");
    // It was somebody to the end.
    let asked = client.get(server.at("/api/v1/users")).bearer_auth(token);
    ensure!(
        asked.send().await?.status() == 200,
        "the token ended on the way"
    );
    Ok(())
}
