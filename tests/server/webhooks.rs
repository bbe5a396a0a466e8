//! Webhooks, found keys and backups of a server that is a process: killed, restarted, written to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::harness::{Options, ServerProcess};
use crate::support::postgres::Database;

/// Requests as they came: head and body.
type Got = Arc<Mutex<Vec<(String, String)>>>;

fn open(got: &Got) -> MutexGuard<'_, Vec<(String, String)>> {
    got.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Somebody who listens, answers 500 the first time and 204 from then on.
async fn listen() -> Result<(Got, String)> {
    let got = Got::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}/hook", listener.local_addr()?);
    let kept = Arc::clone(&got);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let mut part = [0; 4096];
            while let Ok(read) = stream.read(&mut part).await {
                bytes.extend_from_slice(&part[..read]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else {
                    if read == 0 {
                        break;
                    }
                    continue;
                };
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    let is_length = name.eq_ignore_ascii_case("content-length");
                    is_length
                        .then(|| value.trim().parse::<usize>().ok())
                        .flatten()
                });
                if body.len() >= length.unwrap_or(0) {
                    let mut got = open(&kept);
                    got.push((head.to_ascii_lowercase(), body.to_owned()));
                    break;
                }
            }
            let first = open(&kept).len() == 1;
            let status = if first { "500 no" } else { "204 yes" };
            let answer =
                format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    Ok((got, address))
}

async fn server() -> Result<ServerProcess> {
    ServerProcess::with(Options {
        settings: "allow_private_addresses = true",
        ..Options::default()
    })
    .await
}

async fn ask(server: &ServerProcess, path: &str, body: Value) -> Result<Value> {
    let answer = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .post(server.at(path))
        .bearer_auth(&server.root_key)
        .json(&body)
        .send()
        .await?;
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status.is_success(), "{path}: {status} {text}");
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}

async fn define_scope(server: &ServerProcess) -> Result<()> {
    let answer = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .put(server.at("/api/v1/scopes"))
        .bearer_auth(&server.root_key)
        .json(&json!({ "name": "orders:read" }))
        .send()
        .await?;
    ensure!(answer.status().is_success());
    Ok(())
}

async fn issue(server: &ServerProcess, name: &str) -> Result<Value> {
    let wish = json!({ "name": name, "prefix": "sk_live", "scopes": ["orders:read"] });
    ask(server, "/api/v1/keys", wish).await
}

async fn verdict(server: &ServerProcess, key: &str) -> Result<u16> {
    let answer = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .get(server.at("/verify"))
        .header("x-api-key", key)
        .send()
        .await?;
    Ok(answer.status().as_u16())
}

async fn until(got: &Got, many: usize) -> Result<Vec<(String, String)>> {
    for _ in 0..600 {
        if open(got).len() >= many {
            return Ok(open(got).clone());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let now = open(got).clone();
    anyhow::bail!("{many} requests were to come: {now:?}")
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value[name]
        .as_str()
        .with_context(|| format!("no {name} in {value}"))
}

/// What a killed process was sending is claimed for two minutes. Nobody waits for them here.
async fn take_claims_back(server: &ServerProcess) -> Result<()> {
    sqlx::any::install_default_drivers();
    let file = server.data().join("registry.db");
    let url = format!("sqlite://{}", file.display());
    let mut hand = sqlx::AnyConnection::connect(&url).await?;
    sqlx::query("UPDATE outbox SET claimed_until = 0")
        .execute(&mut hand)
        .await?;
    Ok(hand.close().await?)
}

#[tokio::test]
async fn a_killed_server_tells_what_it_had_not_told_and_with_the_same_id() -> Result<()> {
    let mut server = server().await?;
    define_scope(&server).await?;
    let (got, url) = listen().await?;
    ask(
        &server,
        "/api/v1/webhooks",
        json!({ "url": url, "events": ["key.issued"] }),
    )
    .await?;
    issue(&server, "one").await?;
    let first = until(&got, 1).await?;
    // It failed once, and then the process is gone without a word.
    server.signal("KILL")?;
    let _ = server.ended().await?;
    take_claims_back(&server).await?;
    server.serve().await?;
    let both = until(&got, 2).await?;
    let id = |(head, _): &(String, String)| {
        let line = head.lines().find(|line| line.starts_with("webhook-id:"));
        line.map(str::to_owned)
    };
    ensure!(
        id(&first[0]).is_some() && id(&both[0]) == id(&both[1]),
        "{both:?}"
    );
    ensure!(both[0].1 == both[1].1, "it says something else now");
    // Killed between the change and its message: whatever was committed is told.
    issue(&server, "two").await?;
    server.signal("KILL")?;
    let _ = server.ended().await?;
    take_claims_back(&server).await?;
    server.serve().await?;
    // "One" may come again: its success may not have been written down.
    crate::support::until("the second message", async || {
        let all = open(&got).clone();
        all.iter()
            .any(|(_, body)| body.contains("two"))
            .then_some(())
    })
    .await
}

#[tokio::test]
async fn ac_144_a_stranger_ends_a_key_that_they_found() -> Result<()> {
    let server = server().await?;
    define_scope(&server).await?;
    let issued = issue(&server, "Billing").await?;
    let key = text(&issued, "secret")?;
    ensure!(verdict(&server, key).await? == 204);
    let stranger = reqwest::Client::builder().no_proxy().build()?;
    let report = stranger.post(server.at("/found-key"));
    let answer = report.json(&json!({ "key": key })).send().await?;
    ensure!(answer.status() == 200, "{}", answer.status());
    for _ in 0..1000 {
        if verdict(&server, key).await? == 401 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ensure!(verdict(&server, key).await? == 401, "it works on");
    ensure!(
        !server.logged().contains(&key[20..]),
        "the key is in the log"
    );
    Ok(())
}

#[tokio::test]
async fn ac_144_a_found_key_is_ended_after_a_kill_in_the_middle() -> Result<()> {
    let database = Database::create().await?;
    let mut server = ServerProcess::with(Options {
        database: Some(database.url().to_owned()),
        ..Options::default()
    })
    .await?;
    define_scope(&server).await?;
    let issued = issue(&server, "Billing").await?;
    let key = text(&issued, "secret")?;
    ensure!(verdict(&server, key).await? == 204);
    // Somebody holds the key's row, so that its end waits.
    let mut holder = PgConnection::connect(database.url()).await?;
    let mut held = holder.begin().await?;
    sqlx::query("SELECT id FROM api_keys FOR UPDATE")
        .execute(&mut *held)
        .await?;
    let stranger = reqwest::Client::builder().no_proxy().build()?;
    let report = stranger.post(server.at("/found-key"));
    let answer = report.json(&json!({ "key": key })).send().await?;
    ensure!(answer.status() == 200, "{}", answer.status());
    server.signal("KILL")?;
    let _ = server.ended().await?;
    held.rollback().await?;
    // It was written down before it was answered, and nobody can read it.
    let kept: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT body FROM outbox WHERE channel = 'found_key'")
            .fetch_all(&mut holder)
            .await?;
    ensure!(kept.len() == 1, "{} reports are kept", kept.len());
    let part = &key.as_bytes()[10..30];
    ensure!(
        !kept[0].windows(part.len()).any(|one| one == part),
        "it can be read"
    );
    // The two minutes that the dead one had for it are over.
    sqlx::query("UPDATE outbox SET claimed_until = 0")
        .execute(&mut holder)
        .await?;
    server.serve().await?;
    let end = Instant::now() + Duration::from_secs(20);
    while verdict(&server, key).await? != 401 {
        ensure!(Instant::now() < end, "it works on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let left = async |holder: &mut PgConnection| -> Result<i64> {
        let question = "SELECT COUNT(*) FROM outbox WHERE channel = 'found_key'";
        Ok(sqlx::query_scalar(question).fetch_one(holder).await?)
    };
    while left(&mut holder).await? != 0 {
        ensure!(Instant::now() < end, "the report is kept");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ensure!(
        !server.logged().contains(&key[20..]),
        "the key is in the log"
    );
    holder.close().await?;
    drop(server);
    database.close().await
}

/// A figure of the server, by its name and labels.
async fn figure(server: &ServerProcess, name: &str) -> Result<Option<i64>> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let text = client
        .get(server.at("/metrics"))
        .send()
        .await?
        .text()
        .await?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(rest.and_then(|rest| rest.trim().parse().ok()))
}

#[tokio::test]
async fn messages_that_wait_and_fail_are_figures() -> Result<()> {
    let server = server().await?;
    define_scope(&server).await?;
    let dead = "keywright_outbox_attempts_total{channel=\"webhook\",outcome=\"dead\"}";
    ensure!(figure(&server, dead).await? == Some(0));
    // Nobody listens there: the port was ours a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
    let url = format!("http://127.0.0.1:{port}/hook");
    let wish = json!({ "url": url, "events": ["key.issued"], "description": "" });
    ask(&server, "/api/v1/webhooks", wish).await?;
    for name in ["one", "two"] {
        issue(&server, name).await?;
    }
    let wanted = [
        ("keywright_outbox_waiting{channel=\"webhook\"}", 2),
        ("keywright_outbox_retried{channel=\"webhook\"}", 2),
        ("keywright_outbox_oldest_seconds{channel=\"webhook\"}", 3),
        (
            "keywright_outbox_attempts_total{channel=\"webhook\",outcome=\"retried\"}",
            2,
        ),
    ];
    let end = Instant::now() + Duration::from_secs(45);
    loop {
        let mut found = Vec::new();
        for (name, least) in wanted {
            let value = figure(&server, name).await?.context(name)?;
            found.push((name, value, value >= least));
        }
        if found.iter().all(|(_, _, is_there)| *is_there) {
            ensure!(found[0].1 == 2 && found[1].1 == 2, "{found:?}");
            break;
        }
        ensure!(Instant::now() < end, "{found:?}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let other = figure(&server, "keywright_outbox_waiting{channel=\"mail\"}").await?;
    ensure!(other == Some(0), "{other:?}");
    Ok(())
}

#[tokio::test]
async fn messages_that_were_never_made_are_figures_and_their_webhook_shows_them() -> Result<()> {
    let server = server().await?;
    let dropped = "keywright_outbox_dropped_total{channel=\"webhook\"}";
    ensure!(
        figure(&server, dropped).await? == Some(0),
        "from the start at 0"
    );
    let wish = json!({ "url": "http://127.0.0.1:1/hook", "events": ["key.exposed"] });
    let made = ask(&server, "/api/v1/webhooks", wish).await?;
    let hook = &made["webhook"];
    ensure!(
        hook["dropped_count"] == 0 && hook["dropped_at"].is_null(),
        "{made}"
    );
    // A hundred thousand that wait take long to make. What is written of those after them is written by hand.
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}", server.data().join("registry.db").display());
    let mut hand = sqlx::AnyConnection::connect(&url).await?;
    sqlx::raw_sql(
        "INSERT INTO outbox_dropped (channel, count, last_at) VALUES ('webhook', 7, 1800000000000); \
         UPDATE webhooks SET dropped_count = 7, dropped_at = 1800000000000",
    )
    .execute(&mut hand)
    .await?;
    hand.close().await?;
    let end = Instant::now() + Duration::from_secs(45);
    while figure(&server, dropped).await? != Some(7) {
        ensure!(Instant::now() < end, "the figure does not follow");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let client = reqwest::Client::builder().no_proxy().build()?;
    let path = format!("/api/v1/webhooks/{}", text(hook, "id")?);
    let request = client.get(server.at(&path)).bearer_auth(&server.root_key);
    let shown: Value = request.send().await?.json().await?;
    ensure!(shown["dropped_count"] == 7, "{shown}");
    ensure!(shown["dropped_at"] == 1_800_000_000_000_i64, "{shown}");
    let mail = figure(&server, "keywright_outbox_dropped_total{channel=\"mail\"}").await?;
    ensure!(mail == Some(0), "{mail:?}");
    Ok(())
}

#[tokio::test]
async fn ac_203_a_backup_under_writes_is_whole_and_comes_back() -> Result<()> {
    let mut server = server().await?;
    define_scope(&server).await?;
    let kept = issue(&server, "kept").await?;
    let ended = issue(&server, "ended").await?;
    let path = format!("/api/v1/keys/{}/revoke", text(&ended["key"], "id")?);
    ask(&server, &path, json!({ "reason": "before" })).await?;
    let passphrase = server.write("passphrase", "correct horse battery staple\n")?;
    let file = server.data().with_file_name("backup.age");
    let file = file.to_str().context("path")?;
    let words = ["backup", "--out", file, "--passphrase-file", &passphrase];
    // Somebody issues keys all the while: from before the command begins until it has ended.
    let (begun, ended_too) = (Notify::new(), AtomicBool::new(false));
    let writes = async {
        let mut made = Vec::new();
        while !ended_too.load(Ordering::Relaxed) || made.len() < 4 {
            ensure!(made.len() < 20_000, "the backup does not end");
            made.push(issue(&server, &format!("during {}", made.len())).await?);
            begun.notify_one();
        }
        anyhow::Ok(made)
    };
    let backup = async {
        begun.notified().await;
        let backed_up = server.command(&words).await;
        ended_too.store(true, Ordering::Relaxed);
        backed_up
    };
    let (backed_up, made) = tokio::join!(backup, writes);
    backed_up?;
    let made = made?;
    let after = issue(&server, "after").await?;
    server.signal("TERM")?;
    ensure!(server.ended().await?, "{}", server.logged());
    std::fs::rename(server.data(), server.data().with_file_name("old"))?;
    server
        .command(&["restore", "--from", file, "--passphrase-file", &passphrase])
        .await?;
    server.serve().await?;
    ensure!(
        verdict(&server, text(&kept, "secret")?).await? == 204,
        "a key is lost"
    );
    ensure!(
        verdict(&server, text(&ended, "secret")?).await? == 401,
        "an ended key is back"
    );
    ensure!(
        verdict(&server, text(&after, "secret")?).await? == 401,
        "from after the backup"
    );
    // What was written meanwhile is in it from the first to some last one, without a gap.
    let mut works = Vec::new();
    for issued in &made {
        works.push(verdict(&server, text(issued, "secret")?).await? == 204);
    }
    let last = works.iter().take_while(|one| **one).count();
    ensure!(
        works[last..].iter().all(|one| !one),
        "there are gaps: {works:?}"
    );
    // Otherwise it was made before or after them, and shows nothing.
    ensure!(
        (1..made.len()).contains(&last),
        "{last} of {} are in it",
        made.len()
    );
    let doctor = server.try_command(&["doctor"]).await?;
    ensure!(doctor.0, "{doctor:?}");
    Ok(())
}
