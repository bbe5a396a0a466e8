//! Commands work on the registry that is served, or on none: its address is said in any of the ways in
//! which the server may be told it, and a command that is told less than the server refuses by name.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::harness::{Options, ServerProcess, program};
use crate::support::postgres::Database;

const SECRET: &str = "m1Vw9nQzX4tYc7Rb2LkPj6Hs3Gd8FaEu";
const DATABASE: &str = "KEYWRIGHT_SERVER_DATABASE";

fn http() -> Result<reqwest::Client> {
    let limit = Duration::from_secs(20);
    Ok(reqwest::Client::builder()
        .no_proxy()
        .timeout(limit)
        .build()?)
}

/// Whether the server gives this client a token: it knows it.
async fn knows(server: &ServerProcess, id: &str) -> Result<bool> {
    Ok(own(server, id, SECRET).await?.is_some())
}

/// A client's own token, if it gets one.
async fn own(server: &ServerProcess, id: &str, secret: &str) -> Result<Option<String>> {
    let answer = http()?
        .post(server.at("/oauth2/token"))
        .basic_auth(id, Some(secret))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("grant_type=client_credentials&scope=keys:read")
        .send()
        .await?;
    let (status, text) = (answer.status().as_u16(), answer.text().await?);
    match status {
        200 => {
            let body: Value = serde_json::from_str(&text)?;
            Ok(body["access_token"].as_str().map(str::to_owned))
        }
        401 => Ok(None),
        _ => anyhow::bail!("{status} {text}"),
    }
}

/// Whether the API takes a token.
async fn passes(server: &ServerProcess, token: &str) -> Result<bool> {
    let asked = http()?.get(server.at("/api/v1/keys")).bearer_auth(token);
    match asked.send().await?.status().as_u16() {
        200 => Ok(true),
        401 => Ok(false),
        status => anyhow::bail!("{status}"),
    }
}

/// Waits until the server, another process than the command, refuses a token.
async fn refused_soon(server: &ServerProcess, token: &str) -> Result<()> {
    let start = std::time::Instant::now();
    while passes(server, token).await? {
        ensure!(start.elapsed() < Duration::from_secs(5), "it passes still");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn adding<'a>(id: &'a str, file: &'a str) -> Vec<&'a str> {
    let mut words = vec!["clients", "add", "--id", id, "--secret-file", file];
    words.extend(["--grant", "client_credentials", "--scope", "keys:read"]);
    words
}

#[tokio::test]
async fn commands_work_on_the_registry_that_is_served_or_refuse() -> Result<()> {
    let database = Database::create().await?;
    let options = Options {
        database: Some(database.url().to_owned()),
        ..Options::default()
    };
    let server = ServerProcess::with(options).await?;
    let secret = server.write("client.secret", SECRET)?;
    let passphrase = server.write("passphrase", "correct horse battery staple")?;
    let file = server.data().join("server.toml");
    let whole = std::fs::read_to_string(&file)?;
    let is_address = |line: &&str| line.starts_with("database = ");
    ensure!(whole.lines().filter(is_address).count() == 1, "{whole}");
    ensure!(std::fs::metadata(&file)?.permissions().mode() & 0o077 == 0);

    // The file says where it is, as `init` left it.
    let said = server
        .command_told(&adding("by-file", &secret), &[])
        .await?;
    ensure!(said.0 && knows(&server, "by-file").await?, "{said:?}");

    // The server alone was told, by a flag.
    let less: Vec<_> = whole.lines().filter(|line| !is_address(line)).collect();
    std::fs::write(&file, less.join("\n"))?;
    let out = server.data().join("never.age").display().to_string();
    let refused: [&[&str]; 12] = [
        &adding("nobody", &secret),
        &["clients", "list"],
        &[
            "users",
            "add",
            "--email",
            "a@b.example",
            "--password-file",
            &secret,
        ],
        &["owners", "add", "--id", "billing"],
        &["owners", "list"],
        &["providers", "list"],
        &["providers", "remove", "--id", "x"],
        &["signing-keys", "list"],
        &["signing-keys", "rotate", "--now"],
        &["migrate"],
        &["backup", "--out", &out, "--passphrase-file", &passphrase],
        &["serve", "--listen", "127.0.0.1:0"],
    ];
    for words in refused {
        let (success, said, complaint) = server.command_told(words, &[]).await?;
        ensure!(!success && said.is_empty(), "{words:?}: {said}");
        ensure!(complaint.contains("--database"), "{words:?}: {complaint}");
        ensure!(!complaint.contains("postgres@"), "{complaint}");
    }
    let (success, said, _) = server.command_told(&["doctor", "--offline"], &[]).await?;
    ensure!(!success && said.contains("last served from"), "{said}");
    ensure!(!server.data().join("registry.db").exists(), "one was made");
    ensure!(!knows(&server, "nobody").await?);

    // As the server may be told: environment, flag, another settings file.
    let told = [(DATABASE, database.url())];
    let (success, _, complaint) = server
        .command_told(&adding("by-env", &secret), &told)
        .await?;
    ensure!(success && knows(&server, "by-env").await?, "{complaint}");
    let mut words = adding("by-flag", &secret);
    words.extend(["--database", database.url()]);
    let (success, _, complaint) = server.command_told(&words, &[]).await?;
    ensure!(success && knows(&server, "by-flag").await?, "{complaint}");
    let other = server.write("other.toml", &whole)?;
    let told = [("KEYWRIGHT_SERVER_CONFIG", other.as_str())];
    let (success, _, complaint) = server
        .command_told(&adding("by-config", &secret), &told)
        .await?;
    ensure!(success && knows(&server, "by-config").await?, "{complaint}");

    // A file with another address than the one that is served is not believed.
    let empty = Database::create().await?;
    let elsewhere = whole.replace(database.url(), empty.url());
    ensure!(elsewhere != whole);
    std::fs::write(&file, elsewhere)?;
    let (success, _, complaint) = server.command_told(&["clients", "list"], &[]).await?;
    ensure!(
        !success && complaint.contains("last served from"),
        "{complaint}"
    );
    // Nor is a registry made in a database that has none, whoever names it.
    let told = [(DATABASE, empty.url())];
    let (success, _, complaint) = server.command_told(&adding("lost", &secret), &told).await?;
    ensure!(
        !success && complaint.contains("there is no registry"),
        "{complaint}"
    );
    drop(server);
    empty.close().await?;
    database.close().await
}

async fn first_line(
    data: &Path,
    listen: &str,
    url: &str,
) -> Result<(tokio::process::Child, Value)> {
    let mut process = Command::new(program()?)
        .args(["serve", "--listen", listen, "--data"])
        .arg(data)
        .env(DATABASE, url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(process.stdout.take().context("no output")?).lines();
    let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await??;
    let ready = serde_json::from_str(&line.context("it ended")?)?;
    Ok((process, ready))
}

#[tokio::test]
async fn serving_an_empty_folder_from_postgresql_leaves_its_address_for_commands() -> Result<()> {
    let database = Database::create().await?;
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let (mut process, ready) = first_line(&data, &listen, database.url()).await?;
    ensure!(ready["ready"] == true, "{ready}");
    for name in ["server.toml", "served-from"] {
        let mode = std::fs::metadata(data.join(name))?.permissions().mode();
        ensure!(mode & 0o077 == 0, "{name}: {mode:o}");
    }
    let output = Command::new(program()?)
        .args(["signing-keys", "list", "--data"])
        .arg(&data)
        .output()
        .await?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(
        output.status.success() && said.lines().count() == 3,
        "{said}"
    );
    let jwks: Value = http()?
        .get(format!("http://{listen}/oauth2/jwks.json"))
        .send()
        .await?
        .text()
        .await
        .map(|text| serde_json::from_str(&text).unwrap_or(Value::Null))?;
    let served = jwks["keys"].as_array().context("no keys")?;
    for key in served {
        let kid = key["kid"].as_str().context("no kid")?;
        ensure!(said.contains(kid), "{kid} is not in {said}");
    }
    ensure!(!served.is_empty() && !data.join("registry.db").exists());
    process.kill().await?;
    database.close().await
}

async fn said(server: &ServerProcess, words: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(&server.command(words).await?)?)
}

#[tokio::test]
async fn a_service_that_a_command_added_gets_keys_from_the_server_that_runs() -> Result<()> {
    let server = ServerProcess::start().await?;
    let add = ["owners", "add", "--id", "billing", "--name", "Billing"];
    let add = [&add[..], &["--email", "billing@example.org"]].concat();
    let added = said(&server, &add).await?;
    ensure!(
        added["kind"] == "service" && added["id"] == "billing",
        "{added}"
    );
    let listed = server.command(&["owners", "list"]).await?;
    ensure!(listed.lines().count() == 1, "{listed}");
    ensure!(serde_json::from_str::<Value>(&listed)? == added, "{listed}");
    let wish = serde_json::json!({
        "name": "nightly", "prefix": "sk_live", "scopes": ["keys:read"],
        "owner": { "kind": "service", "id": "billing" },
    });
    let issued = http()?
        .post(server.at("/api/v1/keys"))
        .bearer_auth(&server.root_key)
        .header("content-type", "application/json")
        .body(wish.to_string())
        .send()
        .await?;
    ensure!(issued.status() == 201, "{}", issued.text().await?);
    for words in [
        &["owners", "add", "--id", "ada", "--kind", "person"][..],
        &["owners", "add", "--id", "a/b"],
        &["owners", "add", "--id", "billing"],
    ] {
        let (success, out, _) = server.command_told(words, &[]).await?;
        ensure!(!success && out.is_empty(), "{words:?}: {out}");
    }
    Ok(())
}

async fn ends(database: Option<&Database>) -> Result<()> {
    let options = Options {
        database: database.map(|one| one.url().to_owned()),
        ..Options::default()
    };
    let server = ServerProcess::with(options).await?;
    // Nobody chose a secret: a good one is made.
    let add = [
        "clients",
        "add",
        "--id",
        "robot",
        "--grant",
        "client_credentials",
    ];
    let add = [&add[..], &["--scope", "keys:read"]].concat();
    let made = said(&server, &add).await?;
    let secret = made["client_secret"].as_str().context("no secret")?;
    ensure!(secret.len() == 43, "{made}");
    let token = own(&server, "robot", secret).await?.context("no token")?;
    ensure!(passes(&server, &token).await?);

    let named = |step: &'static str| ["clients", step, "--id", "robot"];
    let shown = said(&server, &named("show")).await?;
    ensure!(
        shown["secrets"]
            .as_array()
            .is_some_and(|all| all.len() == 1)
    );
    let change = [
        &named("change")[..],
        &["--name", "Robot", "--dpop", "false"],
    ]
    .concat();
    ensure!(said(&server, &change).await?["name"] == "Robot");
    let (success, _, complaint) = server
        .try_command(&[&named("change")[..], &["--alg", "none"]].concat())
        .await?;
    ensure!(!success && complaint.contains("RS256"), "{complaint}");

    server.command(&named("revoke-tokens")).await?;
    refused_soon(&server, &token).await?;
    let token = own(&server, "robot", secret).await?.context("no token")?;
    ensure!(passes(&server, &token).await?, "the next one is good");
    server.command(&named("disable")).await?;
    refused_soon(&server, &token).await?;
    ensure!(own(&server, "robot", secret).await?.is_none());
    server.command(&named("enable")).await?;
    // What ended with it stays so: the server reads what a command denied within a second or two.
    refused_soon(&server, &token).await?;

    let rotated = said(&server, &named("rotate-secret")).await?;
    let second = rotated["client_secret"].as_str().context("no secret")?;
    for working in [secret, second] {
        ensure!(own(&server, "robot", working).await?.is_some());
    }
    let token = own(&server, "robot", second).await?.context("no token")?;
    let leaked = [&named("rotate-secret")[..], &["--compromised"]].concat();
    let third = said(&server, &leaked).await?;
    let third = third["client_secret"].as_str().context("no secret")?;
    refused_soon(&server, &token).await?;
    for ended in [secret, second] {
        ensure!(own(&server, "robot", ended).await?.is_none());
    }
    let token = own(&server, "robot", third).await?.context("no token")?;
    server.command(&named("remove")).await?;
    refused_soon(&server, &token).await?;
    ensure!(own(&server, "robot", third).await?.is_none());
    let (success, _, complaint) = server.try_command(&named("show")).await?;
    ensure!(!success && complaint.contains("no client"), "{complaint}");

    // One that somebody chose is good too, and not kept by its digest.
    let file = server.write("chosen", "correct horse battery staple")?;
    let add = [&add[..], &["--secret-file", &file]].concat();
    ensure!(said(&server, &add).await?.get("client_secret").is_none());
    for _ in 0..2 {
        let given = own(&server, "robot", "correct horse battery staple").await?;
        ensure!(given.is_some());
    }

    // Registration tokens are counted, listed and ended.
    let token = server
        .command(&["clients", "registration-token", "--note", "ci"])
        .await?;
    let register = async || -> Result<u16> {
        let asked = http()?
            .post(server.at("/oauth2/register"))
            .bearer_auth(token.trim())
            .header("content-type", "application/json")
            .body(r#"{"redirect_uris":["https://robot.example.com/callback"]}"#);
        Ok(asked.send().await?.status().as_u16())
    };
    ensure!(register().await? == 201);
    ensure!(register().await? == 401, "it was good for one");
    let list = said(&server, &["clients", "registration-tokens"]).await?;
    ensure!(list["uses"] == 1 && list["note"] == "ci", "{list}");
    let token = server
        .command(&["clients", "registration-token", "--uses", "5"])
        .await?;
    let lines = server.command(&["clients", "registration-tokens"]).await?;
    let newest: Value = serde_json::from_str(lines.lines().next().context("none")?)?;
    let id = newest["id"].as_str().context("no id")?;
    server
        .command(&["clients", "end-registration-token", "--id", id])
        .await?;
    let asked = http()?
        .post(server.at("/oauth2/register"))
        .bearer_auth(token.trim())
        .header("content-type", "application/json")
        .body(r#"{"redirect_uris":["https://robot.example.com/callback"]}"#);
    ensure!(asked.send().await?.status().as_u16() == 401);
    Ok(())
}

#[tokio::test]
async fn clients_are_ended_by_commands_while_the_server_runs_on_sqlite() -> Result<()> {
    ends(None).await
}

#[tokio::test]
async fn clients_are_ended_by_commands_while_the_server_runs_on_postgresql() -> Result<()> {
    let database = Database::create().await?;
    ends(Some(&database)).await?;
    database.close().await
}
