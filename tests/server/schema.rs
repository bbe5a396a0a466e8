//! PyPI's schemathesis at every route of the API's own description: no answer is a server error, none is outside
//! the description; what the description forbids is refused, with and without credentials; what was removed is gone,
//! and what was made is there; and each route answers with success about something that is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use regex::Regex;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::harness::{OWNER, Options, PASSWORD, ServerProcess};
use crate::support::postgres::Database;

const PROGRAM: &str = "KEYWRIGHT_TEST_SCHEMATHESIS";
/// Operations of the description that nobody brings to success here, and why.
const NOT_REACHED: &[(&str, &str)] = &[];
/// All that this version has, but two:
/// - `positive_data_acceptance`: what the description allows is refused too, by rules between members (a schedule
///   recurs by `every_ms` or by `cron`, one of them), by what a text says (a cursor, a time zone, a network, a
///   public key), and by state. No schema says these.
/// - `object_level_authorization`: it wants a second identity that it may use. Who may do what with whose things
///   is asked for route by route by `key_service::tests::table`, with all kinds of callers.
///
/// `response_headers_conformance` has little to look at: the description names few headers of answers.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,negative_data_rejection,missing_required_header,\
    unsupported_method,allow_header_conformance,use_after_free,ensure_resource_availability,ignored_auth";
/// Requests of the fuzzing phase for each operation, beside those that cover what the description says of it.
const EXAMPLES: &str = "6";
/// How what is made of the description differs: credentials are ours, and a second one beside them would be refused as
/// ambiguous, whatever else was asked; no text of a request holds U+0000, which is said once for all and not in each
/// schema. Sequences make things, change and remove them: of what is refused nothing would be made.
const SETTINGS: &str = "\
[generation]
with-security-parameters = false
allow-x00 = false

[phases.stateful.generation]
mode = \"positive\"
max-examples = 100
";
/// Each operation is asked for so often at least: one that takes nothing is asked for in one way.
const LEAST: usize = 1;

fn program() -> Result<PathBuf> {
    let program = std::env::var(PROGRAM)
        .with_context(|| format!("{PROGRAM} is not set: run the tests by `cargo xtask test`"))?;
    Ok(program.into())
}

/// Operations that are left alone, and why: patterns of their paths.
type LeftOut = [(&'static str, &'static str)];

const NO_END: (&str, &str) = ("/events$", "a stream has no end to wait for");
const LINES: (&str, &str) = (
    "/import$",
    "lines of JSON are no body that is made from a description",
);

/// The generator learns ids from answers, the asking key's own among them.
const BY_ROOT_KEY: &LeftOut = &[
    ("/disable$", "it would suspend the key that asks"),
    ("/revoke$", "it would end the key that asks"),
    (
        "/owners/.*/revoke-keys$",
        "it would end the key that asks with all of its owner's",
    ),
    NO_END,
    LINES,
];

/// The same with the owner's session, person and client.
const BY_OWNER: &LeftOut = &[
    ("/auth/", "sign-ins that fail make the source wait"),
    ("revoke-all", "it would end the session that asks"),
    ("revoke-others", "it ends sessions of the person that asks"),
    ("applications", "it would end the application that asks"),
    ("/sessions/", "it would end the session that asks"),
    (
        "password-reset$",
        "it would take the owner's password and sessions",
    ),
    (
        "/clients/.*/(disable|revoke-tokens)$",
        "it would end the application that asks",
    ),
    NO_END,
    LINES,
];

/// What was asked, by operation in the words of the description.
#[derive(Debug)]
struct Asked {
    /// Every operation of the description.
    all: Vec<String>,
    /// Requests with the operation's own method that were answered.
    requests: BTreeMap<String, usize>,
    /// How often something was removed within a sequence.
    removed: usize,
}

impl Asked {
    async fn read(server: &ServerProcess, report: &Path) -> Result<Self> {
        let description = reqwest::get(server.at("/api/openapi.json")).await?;
        let description: Value = description.json().await?;
        let mut all = Vec::new();
        for (path, methods) in description["paths"].as_object().context("no paths")? {
            let methods = methods.as_object().context("no methods")?.keys();
            all.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
        }
        let (mut requests, mut removed) = (BTreeMap::new(), 0);
        for line in std::fs::read_to_string(report)?.lines() {
            let line: Value = serde_json::from_str(line)?;
            let recorder = &line["ScenarioFinished"]["recorder"];
            // Sequences are of no one operation.
            if line["ScenarioFinished"]["phase"] == "stateful" {
                let made = recorder["interactions"].as_object();
                removed += made
                    .into_iter()
                    .flatten()
                    .filter(|(_, made)| is_removal(made))
                    .count();
                continue;
            }
            let (Some(label), Some(made)) = (
                recorder["label"].as_str(),
                recorder["interactions"].as_object(),
            ) else {
                continue;
            };
            let (method, _) = label.split_once(' ').context("what is asked")?;
            let is_its_own = |made: &&Value| {
                made["request"]["method"] == method && made["response"]["status_code"].is_number()
            };
            let count = made.values().filter(is_its_own).count();
            *requests.entry(label.to_owned()).or_default() += count;
        }
        Ok(Self {
            all,
            requests,
            removed,
        })
    }

    /// Each operation that is not left out was asked for, and each reason to leave one out is about one.
    fn is_whole(&self, left_out: &LeftOut) -> Result<()> {
        let mut patterns = Vec::new();
        for (pattern, why) in left_out {
            patterns.push((Regex::new(pattern)?, pattern, why));
        }
        let path = |one: &str| one.split_once(' ').map_or("", |(_, path)| path).to_owned();
        for (pattern, text, why) in &patterns {
            let found = self.all.iter().any(|one| pattern.is_match(&path(one)));
            ensure!(found, "{text} ({why}) is no operation's path");
        }
        let is_left_out = |one: &str| {
            patterns
                .iter()
                .any(|(known, ..)| known.is_match(&path(one)))
        };
        let missed = |one: &&String| {
            let asked = self.requests.get(*one).copied().unwrap_or_default();
            !is_left_out(one) && asked < LEAST
        };
        let missed: Vec<_> = self.all.iter().filter(missed).collect();
        ensure!(
            missed.is_empty(),
            "asked for less than {LEAST} times: {missed:#?} of {:#?}",
            self.requests
        );
        let asked: Vec<_> = self
            .requests
            .keys()
            .filter(|one| is_left_out(one))
            .collect();
        ensure!(asked.is_empty(), "left out, and asked for: {asked:?}");
        ensure!(self.all.len() > 120, "{:?}", self.all);
        Ok(())
    }
}

/// Whether a request of a sequence removed something.
fn is_removal(made: &Value) -> bool {
    let status = made["response"]["status_code"].as_u64();
    made["request"]["method"] == "DELETE" && status.is_some_and(|status| status < 300)
}

/// Asks for every operation but those that are left out, and says how often for which.
async fn attack(server: &ServerProcess, token: &str, left_out: &LeftOut) -> Result<Asked> {
    let folder = tempfile::tempdir()?;
    let report = folder.path().join("report.ndjson");
    // It is found in the folder where it starts.
    std::fs::write(folder.path().join("schemathesis.toml"), SETTINGS)?;
    let except: Vec<_> = left_out.iter().map(|(pattern, _)| *pattern).collect();
    let mut command = Command::new(program()?);
    command
        .current_dir(folder.path())
        .args(["run", &server.at("/api/openapi.json"), "--no-color"])
        // A key of tests, of a server that is gone in a minute.
        .args(["--header", &format!("Authorization: Bearer {token}")])
        // By number and not by time: a slow machine asks for no fewer operations.
        .args(["--phases", "coverage,fuzzing,stateful"])
        .args(["--max-examples", EXAMPLES])
        .args(["--seed", "7", "--checks", CHECKS])
        .args(["--exclude-path-regex", &except.join("|")])
        .args(["--report", "ndjson", "--report-ndjson-path"])
        .arg(&report)
        .arg("--continue-on-failure")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let limit = std::time::Duration::from_secs(600);
    let output = tokio::time::timeout(limit, command.output()).await??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Asked::read(server, &report).await
}

async fn start(database: Option<&Database>) -> Result<ServerProcess> {
    let options = Options {
        database: database.map(|database| database.url().to_owned()),
        ..Options::default()
    };
    ServerProcess::with(options).await
}

async fn by_root_key(database: Option<&Database>) -> Result<()> {
    let server = start(database).await?;
    let asked = attack(&server, &server.root_key, BY_ROOT_KEY).await?;
    asked.is_whole(BY_ROOT_KEY)?;
    // Otherwise nothing was looked for after its end.
    ensure!(asked.removed > 0, "no sequence removed anything");
    still_somebody(&server, &server.root_key).await
}

/// Who asked was somebody to the end: otherwise everything after theirs was a refusal, which fits any description.
async fn still_somebody(server: &ServerProcess, token: &str) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let asked = client.get(server.at("/api/v1/users")).bearer_auth(token);
    let status = asked.send().await?.status();
    ensure!(status == 200, "who asked ended on the way: {status}");
    Ok(())
}

#[tokio::test]
async fn every_route_answers_a_root_key_as_it_is_described() -> Result<()> {
    by_root_key(None).await
}

#[tokio::test]
async fn every_route_answers_a_root_key_as_it_is_described_on_postgresql() -> Result<()> {
    by_root_key(Some(&Database::create().await?)).await
}

async fn by_owner(database: Option<&Database>) -> Result<()> {
    let server = start(database).await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let body = json!({ "email": OWNER, "password": PASSWORD });
    let response = client
        .post(server.at("/auth/login"))
        .json(&body)
        .send()
        .await?;
    let answer: Value = serde_json::from_str(&response.text().await?)?;
    let token = answer["access_token"].as_str().context("no token")?;
    let asked = attack(&server, token, BY_OWNER).await?;
    asked.is_whole(BY_OWNER)?;
    still_somebody(&server, token).await
}

#[tokio::test]
async fn every_route_answers_an_owner_as_it_is_described() -> Result<()> {
    by_owner(None).await
}

#[tokio::test]
async fn every_route_answers_an_owner_as_it_is_described_on_postgresql() -> Result<()> {
    by_owner(Some(&Database::create().await?)).await
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

async fn tour(database: Option<&Database>) -> Result<Tour> {
    let options = Options {
        database: database.map(|database| database.url().to_owned()),
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
    reached(&tour(None).await?)
}

#[tokio::test]
async fn every_operation_succeeds_once_on_postgresql() -> Result<()> {
    reached(&tour(Some(&Database::create().await?)).await?)
}

fn reached(tour: &Tour) -> Result<()> {
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
