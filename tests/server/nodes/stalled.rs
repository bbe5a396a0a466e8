//! The database itself stands still, for all nodes at once: nobody is refused a connection, nothing is closed, and
//! nothing is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::cluster::Cluster;
use super::partition::BACK_WITHIN;
use super::parts::{Caller, Three};
use crate::server::harness::Options;

/// Shorter than what connections are given up after, and longer.
const STALLS: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(8)];
/// An answer to somebody with a key takes no longer, whatever the database does.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// What writes has its own time-out.
const WRITE_WITHIN: Duration = Duration::from_secs(35);
/// Memory counts for less than a second; the rest is for a busy machine between the question and its answer.
const REMEMBERED: Duration = Duration::from_millis(1500);

/// One answer about a key: when it was asked for, when it came, and what it said.
type Said = (Instant, Instant, String);

/// Asks about a key at a node, over and over: every answer.
async fn ask(
    caller: Caller,
    secret: String,
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
) -> Result<Vec<Said>> {
    let mut said = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let code = caller.code(&secret).await?;
        ensure!(began.elapsed() < ANSWER_WITHIN, "{:?}", began.elapsed());
        said.push((began, Instant::now(), code));
        answers.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(said)
}

/// Until all nodes let the kept key through, are ready, and give their word in a receipt.
async fn all_are_back(three: &Three, kept: &str) -> Result<()> {
    let begun = Instant::now();
    let mut last = Value::Null;
    for node in 0..3 {
        let caller = three.caller(node);
        while caller.code(kept).await? != "valid" || !caller.is_ready().await {
            ensure!(begun.elapsed() < BACK_WITHIN, "{}", three.logged(node));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    for node in 0..3 {
        loop {
            ensure!(begun.elapsed() < BACK_WITHIN, "node {node}: {last}");
            let wish = Three::wish(json!({}));
            let (status, made) = three.caller(node).post("/api/v1/keys", &wish).await?;
            if status == 201 {
                let id = made["key"]["id"].as_str().context("no id")?;
                let path = format!("/api/v1/keys/{id}/revoke");
                let (_, answer) = three.caller(node).post(&path, &json!({})).await?;
                let nodes = answer["receipt"]["nodes"].as_array();
                let all = nodes.is_some_and(|nodes| {
                    nodes.len() == 3 && nodes.iter().all(|one| one["acknowledged"] == true)
                });
                if all {
                    break;
                }
                last = answer;
            } else {
                last = made;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_140_ac_204_the_database_stands_still_for_all_nodes_and_they_all_come_back() -> Result<()>
{
    let cluster = Cluster::start().await?;
    let three = Three::on(cluster.url(), Options::default()).await?;
    let (_, kept) = three.issue(json!({})).await?;
    let (ended_id, ended) = three.issue(json!({})).await?;
    for node in 0..3 {
        ensure!(three.caller(node).code(&kept).await? == "valid");
        ensure!(three.caller(node).code(&ended).await? == "valid");
    }
    let path = format!("/api/v1/keys/{ended_id}/revoke");
    let (status, answer) = three.caller(0).post(&path, &json!({})).await?;
    ensure!(
        status == 200 && answer["receipt"]["complete"] == true,
        "{answer}"
    );
    for stall in STALLS {
        let (going_id, going) = three.issue(json!({})).await?;
        for node in 0..3 {
            ensure!(three.caller(node).code(&going).await? == "valid");
        }
        let stop = Arc::<AtomicBool>::default();
        let mut asking = JoinSet::new();
        let counts: [Arc<AtomicU64>; 3] = Default::default();
        for (node, count) in counts.iter().enumerate() {
            for (secret, is_kept) in [(&kept, true), (&ended, false)] {
                let (caller, stop) = (three.caller(node), Arc::clone(&stop));
                let asked = ask(caller, secret.clone(), stop, Arc::clone(count));
                asking.spawn(async move { (node, is_kept, asked.await) });
            }
        }
        super::all_are_let_through(&counts).await?;
        let begun = Instant::now();
        let stalled = cluster.stall()?;
        let still = Instant::now();
        // Somebody ends a key meanwhile.
        let caller = three.caller(1);
        let path = format!("/api/v1/keys/{going_id}/revoke?wait_ms=0");
        let revoking = tokio::spawn(async move { caller.post(&path, &json!({})).await });
        tokio::time::sleep_until((still + stall).into()).await;
        ensure!(
            !three.caller(0).is_ready().await,
            "ready without a database"
        );
        // Before the first process goes on: its answers may come before the last one does.
        let moved = Instant::now();
        drop(stalled);
        all_are_back(&three, &kept)
            .await
            .with_context(|| format!("after {stall:?}"))?;
        println!("{stall:?}: all are back after {:?}", moved.elapsed());
        let (status, answer) = tokio::time::timeout(WRITE_WITHIN, revoking).await???;
        ensure!(status == 200 || status == 503, "{status} {answer}");
        stop.store(true, Ordering::Relaxed);
        let mut refused = 0;
        while let Some(asked) = asking.join_next().await {
            let (node, is_kept, said) = asked?;
            for (at, answered, code) in said.with_context(|| format!("node {node}, {stall:?}"))? {
                let after = at.saturating_duration_since(begun);
                let is_remembered = after < REMEMBERED || answered > moved;
                match (is_kept, code.as_str()) {
                    (true, "valid") if is_remembered => {}
                    (false, "revoked") => {}
                    (_, "503") => refused += 1,
                    _ => anyhow::bail!(
                        "node {node}, {stall:?}: kept {is_kept}, {code} after {after:?}"
                    ),
                }
            }
        }
        ensure!(refused > 0, "nobody was refused: nothing stood still");
        // What was answered was done; what was not is the same on all of them.
        let mut codes = Vec::new();
        for node in 0..3 {
            codes.push(three.caller(node).code(&going).await?);
        }
        let agreed = codes.windows(2).all(|two| two[0] == two[1]);
        ensure!(
            agreed && (status == 503 || codes[0] == "revoked"),
            "{status}: {codes:?}"
        );
    }
    three.close().await
}
