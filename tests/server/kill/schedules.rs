//! A schedule's run that is killed: each key is rotated once, and whoever waits for its new secret is told once,
//! also where the kill came between the one and the other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::Victim;
use super::accounts::good;
use super::key_changes::with;
use super::keys::{get, issued, request, verdict};

/// So many are due at once: the first is rotated long before the last.
const KEYS: usize = 40;
/// Schedules are looked at every half minute.
const TWO_TURNS: Duration = Duration::from_secs(75);
/// A message that was on its way when its sender was killed is another's after two minutes.
const SENT_AGAIN: Duration = Duration::from_secs(200);
/// So many are on their way at once.
const ON_THEIR_WAY: usize = 16;
const DAY_MS: i64 = 86_400_000;

/// Which event came how often.
type Told = Arc<Mutex<BTreeMap<String, u32>>>;

fn count(told: &Told, what: String) {
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    *told.entry(what).or_default() += 1;
}

/// Somebody who listens, and takes what comes.
async fn listen() -> Result<(Told, String)> {
    let told = Told::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}/hook", listener.local_addr()?);
    let kept = Arc::clone(&told);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
                let body = loop {
                    let Ok(read) = stream.read(&mut part).await else {
                        return;
                    };
                    bytes.extend_from_slice(&part[..read]);
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    if let Some((_, body)) = text.split_once("\r\n\r\n")
                        && let Ok(body) = serde_json::from_str::<Value>(body)
                    {
                        break body;
                    }
                    if read == 0 {
                        return;
                    }
                };
                let what = format!("{} {}", body["type"], body["data"]["about"]["id"]);
                count(&kept, what.replace('"', ""));
                let answer = "HTTP/1.1 204 yes\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    Ok((told, address))
}

async fn rotations(victim: &Victim, id: &str) -> Result<usize> {
    let list = get(victim, &format!("/api/v1/keys/{id}/rotations")).await?;
    Ok(list.body["items"].as_array().context("no items")?.len())
}

/// All of them due at once, the run struck when the first was rotated.
pub(super) async fn run(mut victim: Victim) -> Result<()> {
    let (told, url) = listen().await?;
    let hook = json!({ "url": url, "events": ["rotation.pending"], "description": "a test" });
    good(
        &victim
            .send(request(&victim, "/api/v1/webhooks", &hook))
            .await?,
    )?;
    let schedule = json!({ "every_ms": 2 * DAY_MS, "mode": "issue_pending" });
    let mut keys = Vec::new();
    for _ in 0..KEYS {
        let (id, secret) = issued(&victim).await?;
        let path = format!("/api/v1/keys/{id}/schedule");
        good(
            &victim
                .send(with(&victim, Method::PUT, &path, &schedule))
                .await?,
        )?;
        keys.push((id, secret));
    }
    let mut now = Vec::new();
    for (id, _) in &keys {
        let path = format!("/api/v1/keys/{id}/schedule/run-now");
        now.push(victim.send(request(&victim, &path, &json!({}))));
    }
    for answer in now {
        good(&answer.await?)?;
    }
    // The earliest is carried out first: it tells when.
    let first = &keys.first().context("no key")?.0;
    let began = Instant::now();
    while rotations(&victim, first).await? == 0 {
        ensure!(began.elapsed() < TWO_TURNS, "no run");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    victim.server.signal("KILL")?;
    let _ = victim.server.ended().await?;
    victim.server.serve().await?;
    let mut before = 0;
    for (id, _) in &keys {
        before += rotations(&victim, id).await?;
    }
    // Otherwise the test shows nothing.
    ensure!(
        (1..KEYS).contains(&before),
        "{before} of {KEYS} were rotated when it was killed"
    );
    let expected = |told: &BTreeMap<String, u32>| {
        keys.iter()
            .filter(|(id, _)| told.contains_key(&format!("rotation.pending {id}")))
            .count()
    };
    let began = Instant::now();
    loop {
        let many = expected(&told.lock().unwrap_or_else(PoisonError::into_inner));
        if many == KEYS {
            break;
        }
        if began.elapsed() > SENT_AGAIN {
            bail!("of {KEYS}, {before} of them rotated before the kill, {many} were told of");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (id, secret) in &keys {
        ensure!(rotations(&victim, id).await? == 1, "{id} was rotated twice");
        ensure!(
            verdict(&victim, secret).await? == "valid",
            "the old one is lost"
        );
    }
    // Only what was on its way when it was killed may come again, under the same name.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let told = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let again = told.values().filter(|times| **times > 1).count();
    ensure!(again <= ON_THEIR_WAY, "told twice: {told:?}");
    let (success, said, complaint) = victim.server.try_command(&["doctor"]).await?;
    ensure!(success, "{said}{complaint}");
    Ok(())
}
