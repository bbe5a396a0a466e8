//! Mails of a server that is a process: what is due for many keys of an owner, through a real SMTP conversation.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::harness::{OWNER, Options, PASSWORD, ServerProcess};
use crate::support::postgres::Database;
use crate::support::smtp::{Mail, Smtp};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Keys that expire, of each of the two.
const KEYS: [(&str, usize); 2] = [("owner@example.org", 2_000), ("ann@example.org", 40)];

async fn ask(server: &ServerProcess, method: &str, path: &str, body: Value) -> Result<Value> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let request = client
        .request(method.parse()?, server.at(path))
        .bearer_auth(&server.root_key)
        .json(&body);
    let answer = request.send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    ensure!(status.is_success(), "{path}: {status} {text}");
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}

async fn id_of(server: &ServerProcess, email: &str) -> Result<String> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let request = client
        .get(server.at("/api/v1/users?limit=100"))
        .bearer_auth(&server.root_key);
    let users: Value = request.send().await?.json().await?;
    let all = users["items"].as_array().context(users.to_string())?;
    let found = all.iter().find(|one| one["email"] == email);
    let found = found.with_context(|| users.to_string())?;
    Ok(found["id"].as_str().context("an id")?.to_owned())
}

/// How many keys a mail says that it is about.
fn count(mail: &Mail) -> Result<usize> {
    let subject = mail.header("Subject");
    let (_, said) = subject
        .split_once(": ")
        .with_context(|| subject.to_owned())?;
    if said.contains("“") || subject.contains("=?") {
        return Ok(1);
    }
    let number = said.split(' ').next().unwrap_or_default().replace(',', "");
    number.parse().with_context(|| subject.to_owned())
}

async fn thousands_are_few_mails(database: Option<&Database>) -> Result<()> {
    let (sink, port) = Smtp::listen(2).await?;
    let mail = format!(
        "mail.smtp_url = \"smtp://127.0.0.1:{port}\"\nmail.from = \"Keys <keys@example.org>\""
    );
    let server = ServerProcess::with(Options {
        settings: Box::leak(mail.into_boxed_str()),
        database: database.map(|one| one.url().to_owned()),
        ..Options::default()
    })
    .await?;
    let password = server.write("ann", PASSWORD)?;
    let words = [
        "users",
        "add",
        "--email",
        "ann@example.org",
        "--password-file",
        &password,
    ];
    server.command(&words).await?;
    ask(
        &server,
        "PUT",
        "/api/v1/scopes",
        json!({ "name": "orders:read" }),
    )
    .await?;
    ensure!(KEYS[0].0 == OWNER);
    for (email, many) in KEYS {
        let owner = id_of(&server, email).await?;
        for n in 0..many {
            let wish = json!({
                "name": format!("{email} {n}"), "prefix": "sk_live", "scopes": ["orders:read"],
                "lifetime_ms": 10 * DAY_MS, "owner": { "kind": "person", "id": owner },
            });
            ask(&server, "POST", "/api/v1/keys", wish).await?;
        }
    }
    let end = Instant::now() + Duration::from_secs(150);
    loop {
        let got = sink.got();
        let mut told = [0, 0];
        for (told, (email, _)) in told.iter_mut().zip(KEYS) {
            for mail in got.iter().filter(|mail| mail.to.contains(email)) {
                *told += count(mail)?;
            }
        }
        if told == KEYS.map(|(_, many)| many) {
            break;
        }
        ensure!(
            Instant::now() < end,
            "{told:?} in {} mails: {}",
            got.len(),
            server.logged()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Keys that were issued while it looked are told at the next look.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let got = sink.got();
    ensure!(got.len() <= 10, "{} mails", got.len());
    ensure!(sink.refusals_left() == 0, "the first were to be refused");
    for mail in &got {
        let (other, _) = KEYS[usize::from(mail.to.contains(KEYS[0].0))];
        ensure!(!mail.data.contains(&format!("{other} ")), "{mail:?}");
        ensure!(mail.data.len() < 10_000, "{} bytes", mail.data.len());
    }
    let mut ids: Vec<_> = got.iter().map(|mail| mail.header("Message-ID")).collect();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == got.len(), "one came twice: {ids:?}");
    Ok(())
}

#[tokio::test]
async fn thousands_of_keys_that_expire_are_few_mails_through_a_server_that_refuses_at_first()
-> Result<()> {
    thousands_are_few_mails(None).await
}

#[tokio::test]
async fn thousands_of_keys_that_expire_are_few_mails_on_postgres() -> Result<()> {
    let database = Database::create().await?;
    thousands_are_few_mails(Some(&database)).await?;
    database.close().await
}
