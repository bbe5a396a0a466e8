//! PyPI's schemathesis at every route of the API's own description: no answer is a server error, none is
//! outside the description, and each route answers with success about something that is there.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::harness::{OWNER, Options, PASSWORD, ServerProcess};

const PROGRAM: &str = "KEYWRIGHT_TEST_SCHEMATHESIS";
/// Operations of the description that nobody brings to success here, and why.
const NOT_REACHED: &[(&str, &str)] = &[];
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_schema_conformance";

fn program() -> Result<PathBuf> {
    let program = std::env::var(PROGRAM)
        .with_context(|| format!("{PROGRAM} is not set: run the tests by `cargo xtask test`"))?;
    Ok(program.into())
}

/// Runs it for some seconds; `except` is a pattern of paths that are left out.
async fn attack(server: &ServerProcess, token: &str, except: Option<&str>) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(program()?);
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

/// What `tests/peers/every_operation.py` found.
#[derive(Debug)]
struct Tour {
    /// Every operation of the description.
    all: Vec<String>,
    /// Those that answered with success, in the words of the description.
    reached: Vec<String>,
    /// Refusals, and answers that the description does not have.
    wrong: Vec<String>,
}

async fn tour() -> Result<Tour> {
    let options = Options {
        settings: "allow_private_addresses = true",
        ..Options::default()
    };
    let (server, other) = (
        ServerProcess::with(options).await?,
        ServerProcess::start().await?,
    );
    let of =
        |server: &ServerProcess| json!({ "issuer": server.issuer, "root_key": server.root_key });
    let mut given = of(&server);
    given["other"] = of(&other);
    given["email"] = OWNER.into();
    given["password"] = PASSWORD.into();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/every_operation.py");
    let mut python = Command::new(program()?.with_file_name("python"))
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = python.stdin.take().context("no input")?;
    stdin.write_all(given.to_string().as_bytes()).await?;
    drop(stdin);
    let limit = std::time::Duration::from_secs(120);
    let output = tokio::time::timeout(limit, python.wait_with_output()).await??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let found: Value = serde_json::from_str(&said)?;
    let list = |name: &str| -> Result<Vec<String>> {
        let list = found[name].as_array().context("no list")?.iter();
        Ok(list
            .filter_map(|one| one.as_str().map(str::to_owned))
            .collect())
    };
    Ok(Tour {
        all: list("all")?,
        reached: list("reached")?,
        wrong: list("wrong")?,
    })
}

#[tokio::test]
async fn every_operation_succeeds_once_and_answers_as_it_is_described() -> Result<()> {
    let tour = tour().await?;
    ensure!(tour.wrong.is_empty(), "{:#?}", tour.wrong);
    ensure!(tour.all.len() > 120, "{:?}", tour.all);
    let is_listed = |one: &String| NOT_REACHED.iter().any(|(name, _)| name == one);
    let missed = tour.all.iter().filter(|one| !tour.reached.contains(one));
    let missed: Vec<_> = missed.filter(|one| !is_listed(one)).collect();
    ensure!(missed.is_empty(), "nobody reached {missed:#?}");
    // What is listed is there, and is not reached.
    let stale = NOT_REACHED.iter().filter(|(name, _)| {
        let is = |list: &[String]| list.iter().any(|one| one == name);
        !is(&tour.all) || is(&tour.reached)
    });
    let stale: Vec<_> = stale.collect();
    ensure!(stale.is_empty(), "listed without need: {stale:?}");
    Ok(())
}
