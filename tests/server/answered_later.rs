//! Requests that are answered later (RFC 7240), over HTTP, at a server that is killed in the middle.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::{AnyConnection, Connection as _};

use super::kill::Victim;
use super::kill::keys::{get, request};
use crate::support::postgres::Database;

const LINES: usize = 12_000;
/// Half a minute after its last word nobody speaks for it any more; and some time to start.
const SILENT: Duration = Duration::from_secs(45);

fn file(name: &str) -> Result<String> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let expires_at = u64::try_from(since.as_millis())? + 30 * 86_400_000;
    let mut file = String::new();
    for number in 0..LINES {
        let digest = Sha256::digest(format!("{name}-{number}"));
        let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(
            file,
            r#"{{"name":"Old","hash":"{hash}","scopes":["keys:read"],"expires_at":{expires_at}}}"#
        )?;
    }
    Ok(file)
}

/// Begins an import. Returns where it is seen.
async fn import(victim: &Victim, file: &str) -> Result<String> {
    let path = victim.server.at("/api/v1/import?dry_run=false");
    let asked = victim.client.post(path).body(file.to_owned());
    begun(victim, asked.header("content-type", "application/x-ndjson")).await
}

async fn begun(victim: &Victim, asked: reqwest::RequestBuilder) -> Result<String> {
    let asked = asked.bearer_auth(&victim.server.root_key);
    let answer = victim.send(asked.header("prefer", "respond-async")).await?;
    ensure!(answer.status == 202, "{} {}", answer.status, answer.body);
    Ok(format!("/api/v1/operations/{}", answer.text("id")?))
}

/// Waits until it is so with an operation.
pub(super) async fn until(
    victim: &Victim,
    path: &str,
    is_so: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let began = Instant::now();
    loop {
        let view = get(victim, path).await?.body;
        if is_so(&view) {
            return Ok(view);
        }
        let told = (&view["state"], &view["done"]);
        ensure!(began.elapsed() < 4 * SILENT, "{told:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn keys(victim: &Victim) -> Result<i64> {
    let counts = get(victim, "/api/v1/keys/counts").await?.body;
    counts["all"].as_i64().context("no count")
}

fn lines(view: &Value, list: &str) -> usize {
    view["result"][list].as_array().map_or(0, Vec::len)
}

async fn killed_in_the_middle(database: Option<String>) -> Result<()> {
    let mut victim = Victim::start(database).await?;
    let file = file("killed")?;
    let before = keys(&victim).await?;
    let path = import(&victim, &file).await?;
    let view = until(&victim, &path, |view| view["changed"] != 0).await?;
    ensure!(
        view["state"] == "running",
        "too few lines: {}",
        view["state"]
    );
    victim.server.signal("KILL")?;
    let _ = victim.server.ended().await?;
    victim.server.serve().await?;
    let began = Instant::now();
    let view = until(&victim, &path, |view| view["state"] != "running").await?;
    ensure!(began.elapsed() < SILENT, "it said for long that it runs");
    ensure!(view["state"] == "interrupted", "{view}");
    let written = keys(&victim).await? - before;
    let told = view["changed"].as_i64().context("no count")?;
    ensure!(0 < told && told <= written, "{told} of {written}");
    ensure!(written % 50 == 0, "a group was written in part: {written}");
    // Once more it does the rest.
    let path = import(&victim, &file).await?;
    let view = until(&victim, &path, |view| view["state"] != "running").await?;
    ensure!(view["state"] == "done", "{}", view["state"]);
    let written = usize::try_from(written)?;
    ensure!(
        lines(&view, "present") == written,
        "{}",
        lines(&view, "present")
    );
    ensure!(lines(&view, "imported") == LINES - written);
    // Another one is ended in the middle: what it says it wrote is what is there.
    let before = keys(&victim).await?;
    let path = import(&victim, &self::file("cancelled")?).await?;
    until(&victim, &path, |view| view["changed"] != 0).await?;
    let end = request(&victim, &format!("{path}/cancel"), &Value::Null);
    ensure!(victim.send(end).await?.status == 200);
    let asked = Instant::now();
    let view = until(&victim, &path, |view| view["state"] != "running").await?;
    ensure!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
    ensure!(
        view["state"] == "cancelled",
        "too few lines: {}",
        view["state"]
    );
    let written = lines(&view, "imported");
    ensure!(
        i64::try_from(written)? == keys(&victim).await? - before,
        "{written}"
    );
    ensure!(
        view["result"]["stopped"]["line"] == written + 1,
        "{}",
        view["result"]["stopped"]
    );
    // The trail of all that is whole, and says so later as well.
    let asked = victim.client.get(victim.server.at("/api/v1/audit/verify"));
    let path = begun(&victim, asked).await?;
    let view = until(&victim, &path, |view| view["state"] != "running").await?;
    ensure!(view["result"]["intact"] == true, "{view}");
    ensure!(view["done"] == view["total"], "{view}");
    ensure!(
        view["result"]["events"].as_i64() >= view["total"].as_i64(),
        "{view}"
    );
    let (success, said, complaint) = victim.server.try_command(&["doctor"]).await?;
    ensure!(success, "{said}{complaint}");
    Ok(())
}

#[tokio::test]
async fn a_request_that_is_answered_later_killed_in_the_middle_on_sqlite() -> Result<()> {
    killed_in_the_middle(None).await
}

#[tokio::test]
async fn a_request_that_is_answered_later_killed_in_the_middle_on_postgresql() -> Result<()> {
    let database = Database::create().await?;
    killed_in_the_middle(Some(database.url().to_owned())).await?;
    database.close().await
}

/// Carries a statement out as a stranger, also where the server writes all the time.
pub(super) async fn by_hand(url: &str, sql: &'static str) -> Result<()> {
    sqlx::any::install_default_drivers();
    let mut tried = 0;
    loop {
        let mut connection = AnyConnection::connect(url).await?;
        match sqlx::raw_sql(sql).execute(&mut connection).await {
            Ok(_) => return Ok(connection.close().await?),
            Err(error) if tried == 20 => return Err(error.into()),
            Err(_) => tried += 1,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The registry fails in the middle of an import, and how that ended cannot be written for a while either.
async fn the_registry_fails(database: Option<&Database>) -> Result<()> {
    let victim = Victim::start(database.map(|database| database.url().to_owned())).await?;
    let url = match database {
        Some(database) => database.url().to_owned(),
        None => format!(
            "sqlite://{}",
            victim.server.data().join("registry.db").display()
        ),
    };
    let before = keys(&victim).await?;
    let path = import(&victim, &file("failed")?).await?;
    let view = until(&victim, &path, |view| view["changed"] != 0).await?;
    ensure!(
        view["state"] == "running",
        "too few lines: {}",
        view["state"]
    );
    by_hand(&url, "ALTER TABLE bulk_operations RENAME TO away").await?;
    by_hand(&url, "ALTER TABLE audit_events RENAME TO elsewhere").await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    by_hand(&url, "ALTER TABLE elsewhere RENAME TO audit_events").await?;
    by_hand(&url, "ALTER TABLE away RENAME TO bulk_operations").await?;
    let view = until(&victim, &path, |view| view["state"] != "running").await?;
    let (state, problem) = (&view["state"], &view["problem"]);
    ensure!(state == "stopped", "{state}, {problem}");
    let code = problem["code"].as_str().context("no reason")?;
    ensure!(code != "access_ended", "{problem}");
    let written = lines(&view, "imported");
    ensure!(
        i64::try_from(written)? == keys(&victim).await? - before,
        "{written}"
    );
    let stopped = &view["result"]["stopped"];
    ensure!(stopped["line"] == written + 1, "{stopped}");
    ensure!(stopped["code"] == code, "{stopped}");
    Ok(())
}

#[tokio::test]
async fn an_import_that_the_registrys_failure_ends_says_what_it_wrote_on_sqlite() -> Result<()> {
    the_registry_fails(None).await
}

#[tokio::test]
async fn an_import_that_the_registrys_failure_ends_says_what_it_wrote_on_postgresql() -> Result<()>
{
    let database = Database::create().await?;
    the_registry_fails(Some(&database)).await?;
    database.close().await
}
