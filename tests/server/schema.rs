//! PyPI's schemathesis at every route of the API's own description: no answer is a server error, none is
//! outside the description, and every operation does at least once what it is there for. What a generator
//! cannot guess, ids above all, it is given ([`seeds`]); what it cannot bring about is listed, with the reason.

mod reached;
mod seeds;

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use self::reached::Reached;
use super::harness::{OWNER, PASSWORD, ServerProcess};

const PROGRAM: &str = "KEYWRIGHT_TEST_SCHEMATHESIS";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_schema_conformance";
/// The generator learns the key's own id: ended, it would be told 401 from there on. A stream of events has
/// no end to wait for, and lines of JSON are no body that it can make.
const NOT_BY_KEY: &str = "/disable$|/revoke$|/events$|/import$";
/// Sign-ins that fail make the source wait, and the others can end the very access that asks: the generator
/// learns ids from answers, its own session's, person's and client's among them.
const NOT_BY_OWNER: &str = "/auth/|revoke-all|revoke-others|applications|/events$|/import$|/sessions/\
                            |password-reset$|/clients/.*/(disable|revoke-tokens)$";

/// The API's description, as the server gives it.
async fn description(server: &ServerProcess) -> Result<Value> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.get(server.at("/api/openapi.json")).send().await?;
    Ok(serde_json::from_str(&answer.text().await?)?)
}

/// Runs it; `except` is a pattern of paths that are left out. What it said, and what was reached.
async fn attack(server: &ServerProcess, token: &str, except: &str) -> Result<(String, Reached)> {
    let program = std::env::var(PROGRAM)
        .with_context(|| format!("{PROGRAM} is not set: run the tests by `cargo xtask test`"))?;
    let folder = tempfile::tempdir()?;
    let document = description(server).await?;
    let seeds = seeds::all(server, &document).await?;
    std::fs::write(folder.path().join("schemathesis.toml"), seeds)?;
    let mut command = Command::new(program);
    command
        .current_dir(folder.path())
        .args(["run", &server.at("/api/openapi.json"), "--no-color"])
        // A key of tests, of a server that is gone in a minute.
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--phases", "coverage,fuzzing", "--max-examples", "8"])
        .args(["--seed", "7", "--checks", CHECKS])
        .args(["--report-har-path", "seen.har", "--continue-on-failure"])
        .args(["--exclude-path-regex", except])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let limit = std::time::Duration::from_secs(400);
    let output = tokio::time::timeout(limit, command.output()).await??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let seen = std::fs::read_to_string(folder.path().join("seen.har"))?;
    let reached = Reached::read(&document, &serde_json::from_str(&seen)?)?;
    Ok((said, reached))
}

/// How many requests were made.
fn cases(said: &str) -> Option<u32> {
    let line = said.lines().find(|line| line.contains(" generated, "))?;
    line.split_whitespace().next()?.parse().ok()
}

async fn by_a_root_key() -> Result<Reached> {
    let server = ServerProcess::start().await?;
    let (said, reached) = attack(&server, &server.root_key, NOT_BY_KEY).await?;
    ensure!(cases(&said).is_some_and(|cases| cases > 200), "{said}");
    Ok(reached)
}

async fn by_an_owner() -> Result<Reached> {
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
    let (said, reached) = attack(&server, token, NOT_BY_OWNER).await?;
    ensure!(cases(&said).is_some_and(|cases| cases > 200), "{said}");
    // It was somebody to the end.
    let asked = client.get(server.at("/api/v1/users")).bearer_auth(token);
    ensure!(
        asked.send().await?.status() == 200,
        "the token ended on the way"
    );
    Ok(reached)
}

#[tokio::test]
async fn every_route_answers_as_it_is_described_and_each_was_reached() -> Result<()> {
    let by_key = by_a_root_key().await.context("by a root key")?;
    let by_owner = by_an_owner().await.context("by an owner")?;
    by_key.and(by_owner).check()
}
