//! One node of three is cut off from its database, without a word: no connection is refused or closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::parts::{Three, client};
use super::proxy::{Cut, Proxy};
use super::{SECOND, all_are_let_through, hammer};
use crate::server::harness::Options;
use crate::support::postgres::Database;

/// So long after the network is whole again a node is at work.
pub(super) const BACK_WITHIN: Duration = Duration::from_secs(12);
pub(super) const CUT_OFF: usize = 2;

/// Three nodes, the last one by way of a relay.
pub(super) async fn three() -> Result<(Three, Proxy, Database)> {
    let database = Database::create().await?;
    let port = url::Url::parse(database.url())?.port().context("no port")?;
    let proxy = Proxy::to(port).await?;
    let urls = [
        database.url().to_owned(),
        database.url().to_owned(),
        proxy.before(database.url())?,
    ];
    Ok((
        Three::on_each(urls, Options::default()).await?,
        proxy,
        database,
    ))
}

pub(super) fn of_node<'a>(receipt: &'a Value, name: &str) -> Result<&'a Value> {
    let nodes = receipt["nodes"].as_array().context("no nodes")?;
    let found = nodes.iter().find(|node| node["name"] == name);
    found.with_context(|| format!("{name} is not named: {receipt}"))
}

/// Revokes a key on the first node and waits for nobody: when the answer came.
pub(super) async fn revoke(three: &Three, id: &str, how: &str) -> Result<(Value, Instant)> {
    let path = format!("/api/v1/keys/{id}/revoke{how}");
    let (status, answer) = three.caller(0).post(&path, &json!({})).await?;
    let answered = Instant::now();
    ensure!(status == 200, "{answer}");
    Ok((answer["receipt"].clone(), answered))
}

/// How long after the answer to a revocation a key was let through at the node for the last time.
pub(super) async fn let_through_after(
    three: &Three,
    id: &str,
    secret: &str,
    cut: impl AsyncFnOnce() -> Result<()>,
) -> Result<f64> {
    let stop = Arc::new(AtomicBool::new(false));
    let caller = three.caller(CUT_OFF);
    let count = Arc::<AtomicU64>::default();
    let hammering = tokio::spawn(hammer(
        caller,
        secret.to_owned(),
        Arc::clone(&stop),
        Arc::clone(&count),
    ));
    all_are_let_through(&[count]).await?;
    cut().await?;
    let (_, answered) = revoke(three, id, "?wait_ms=0").await?;
    tokio::time::sleep(SECOND + SECOND / 2).await;
    stop.store(true, Ordering::Relaxed);
    let last = hammering.await??;
    let last = last.context("never let through")?;
    Ok(last.saturating_duration_since(answered).as_secs_f64())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_140_ac_204_a_node_cut_off_from_the_database_refuses_in_time_and_comes_back()
-> Result<()> {
    let (three, proxy, database) = three().await?;
    let (first_id, first) = three.issue(json!({})).await?;
    let (second_id, second) = three.issue(json!({})).await?;
    let (third_id, third) = three.issue(json!({})).await?;
    let (_, kept) = three.issue(json!({})).await?;
    for node in 0..3 {
        for secret in [&first, &second, &third, &kept] {
            ensure!(three.caller(node).code(secret).await? == "valid");
        }
    }

    // From the answer to the revocation, which waits for nobody, less than a second passes.
    let cut = async || {
        proxy.cut(Cut::All);
        Ok(())
    };
    let after = let_through_after(&three, &first_id, &first, cut).await?;
    ensure!(after < 1.0, "let through {after} s after it was revoked");
    ensure!(proxy.silenced() > 0, "nothing was cut");

    // The receipt says that it is late, and since when it does not answer from memory. The whole answer
    // takes less than a second.
    let begun = Instant::now();
    let (receipt, answered) = revoke(&three, &second_id, "").await?;
    ensure!(answered - begun < SECOND * 3, "{:?}", answered - begun);
    ensure!(receipt["complete"] == true, "{receipt}");
    ensure!(
        receipt["bound_ms"].as_u64().is_some_and(|ms| ms < 1000),
        "{receipt}"
    );
    let late = of_node(&receipt, "three")?;
    ensure!(
        late["acknowledged"] == false && late["refuses_from_memory_since"].is_i64(),
        "{receipt}"
    );
    let since = late["refuses_from_memory_since"]
        .as_i64()
        .context("no time")?
        - receipt["committed_at"].as_i64().context("no time")?;
    ensure!(since < 1000, "{receipt}");
    ensure!(
        of_node(&receipt, "two")?["acknowledged"] == true,
        "{receipt}"
    );
    ensure!(three.caller(CUT_OFF).code(&second).await? == "503");

    // What it knows is too old now: a clear answer, at once, and nothing is let through.
    let away = three.caller(CUT_OFF);
    let verify = json!({ "key": kept });
    let (status, answer) = away.post("/api/v1/keys/verify", &verify).await?;
    ensure!(
        (status, &answer["code"]) == (503, &json!("store_unavailable")),
        "{status} {answer}"
    );
    tokio::time::sleep(SECOND * 2).await;
    // The best of five: a busy machine makes anything wait.
    let mut best = SECOND * 60;
    for _ in 0..5 {
        let begun = Instant::now();
        let (status, answer) = away.post("/api/v1/keys/verify", &verify).await?;
        ensure!(
            (status, &answer["code"]) == (503, &json!("store_unavailable")),
            "{status} {answer}"
        );
        best = best.min(begun.elapsed());
    }
    ensure!(best < SECOND / 2, "{best:?}");
    ensure!(!away.is_ready().await);

    // More happens than it hears of, and it finds out that the connections are dead.
    let (_, missed) = three.issue(json!({})).await?;
    revoke(&three, &third_id, "?wait_ms=0").await?;
    let end = Instant::now() + SECOND * 15;
    while !three.logged(CUT_OFF).contains("the memory of keys waits") {
        ensure!(Instant::now() < end, "{}", three.logged(CUT_OFF));
        ensure!(away.code(&third).await? == "503");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ensure!(
        three.caller(1).code(&kept).await? == "valid",
        "the others go on"
    );

    // The network is whole again. Until the node knows everything, it refuses.
    proxy.cut(Cut::Nothing);
    let end = Instant::now() + BACK_WITHIN;
    loop {
        for ended in [&first, &second, &third] {
            let code = away.code(ended).await?;
            ensure!(code == "503" || code == "revoked", "{code}");
        }
        if away.code(&kept).await? == "valid" {
            break;
        }
        ensure!(
            Instant::now() < end,
            "it does not come back: {}",
            three.logged(CUT_OFF)
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for ended in [&first, &second, &third] {
        ensure!(away.code(ended).await? == "revoked");
    }
    ensure!(away.code(&missed).await? == "valid", "what it missed");
    // It writes, is ready, and gives its word again.
    let end = Instant::now() + BACK_WITHIN;
    loop {
        let (status, made) = away.post("/api/v1/keys", &Three::wish(json!({}))).await?;
        if status == 201 && away.is_ready().await {
            let id = made["key"]["id"].as_str().context("no id")?;
            let (receipt, _) = revoke(&three, id, "").await?;
            if of_node(&receipt, "three")?["acknowledged"] == true {
                break;
            }
        }
        ensure!(Instant::now() < end, "{status} {made}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    three.close().await?;
    drop(proxy);
    database.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_140_a_node_that_hears_no_hints_refuses_in_time_and_hears_again() -> Result<()> {
    let (three, proxy, database) = three().await?;
    let (id, secret) = three.issue(json!({})).await?;
    let (other_id, other) = three.issue(json!({})).await?;
    for node in 0..3 {
        ensure!(three.caller(node).code(&secret).await? == "valid");
        ensure!(three.caller(node).code(&other).await? == "valid");
    }
    let cut = async || {
        proxy.cut(Cut::Feed);
        Ok(())
    };
    let after = let_through_after(&three, &id, &secret, cut).await?;
    ensure!(after < 1.0, "let through {after} s after it was revoked");
    ensure!(proxy.silenced() == 1, "{} were cut", proxy.silenced());
    // It reads the log all the same: no request is refused.
    ensure!(three.caller(CUT_OFF).code(&secret).await? == "revoked");
    let (receipt, _) = revoke(&three, &other_id, "").await?;
    ensure!(receipt["complete"] == true, "{receipt}");
    ensure!(three.caller(CUT_OFF).code(&other).await? == "revoked");
    // It finds out by itself that it hears nothing.
    let losses = async || -> Result<i64> {
        let text = client()?
            .get(three.caller(CUT_OFF).at("/metrics"))
            .send()
            .await?
            .text()
            .await?;
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("keywright_node_listen_losses_total "));
        Ok(line.context("no figure")?.parse()?)
    };
    let end = Instant::now() + SECOND * 30;
    while losses().await? == 0 {
        ensure!(Instant::now() < end, "it does not find out");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    proxy.cut(Cut::Nothing);
    let end = Instant::now() + BACK_WITHIN;
    loop {
        let (id, _) = three.issue(json!({})).await?;
        let (receipt, _) = revoke(&three, &id, "").await?;
        let word = of_node(&receipt, "three")?["acknowledged_after_ms"].as_f64();
        if word.is_some_and(|after| after < 150.0) {
            break;
        }
        ensure!(Instant::now() < end, "{receipt}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    three.close().await?;
    drop(proxy);
    database.close().await
}
