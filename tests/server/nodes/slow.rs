//! A node of three reaches its database late, or all of them do: nothing is lost, every byte comes later.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::SECOND;
use super::partition::{BACK_WITHIN, CUT_OFF, let_through_after, revoke, three};
use super::parts::Three;
use super::proxy::Proxy;
use crate::server::harness::Options;
use crate::support::postgres::Database;

/// An answer to somebody with a key: memory's, after two seconds' wait for the log at most, or a clear
/// refusal. The rest is for a machine that has other things to do.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A request of another kind has its own time-out.
const WRITE_WITHIN: Duration = Duration::from_secs(35);

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_140_ac_204_a_node_whose_database_is_slow_answers_in_time_and_lets_nothing_through()
-> Result<()> {
    let (three, proxy, database) = three().await?;
    let (first_id, first) = three.issue(json!({})).await?;
    let (second_id, second) = three.issue(json!({})).await?;
    let (_, kept) = three.issue(json!({})).await?;
    for node in 0..3 {
        for secret in [&first, &second, &kept] {
            ensure!(three.caller(node).code(secret).await? == "valid");
        }
    }
    let slow = three.caller(CUT_OFF);

    // A little slow: the log is read in time, so memory goes on and nobody is refused.
    proxy.delay(Duration::from_millis(20));
    let begun = Instant::now();
    let mut answered = 0;
    while begun.elapsed() < SECOND * 4 {
        ensure!(slow.code(&kept).await? == "valid");
        answered += 1;
    }
    ensure!(answered > 20, "only {answered} answers");
    ensure!(slow.is_ready().await);

    // Very slow. What is ended elsewhere is ended here within a second, as ever.
    let late = Duration::from_millis(300);
    let crawl = async || {
        proxy.delay(late);
        Ok(())
    };
    let after = let_through_after(&three, &first_id, &first, crawl).await?;
    ensure!(after < 1.0, "let through {after} s after it was revoked");
    let (_, answered) = revoke(&three, &second_id, "?wait_ms=0").await?;
    tokio::time::sleep_until((answered + SECOND).into()).await;
    let begun = Instant::now();
    let (mut valid, mut refused) = (0, 0);
    while begun.elapsed() < SECOND * 8 {
        for (secret, ended) in [(&kept, false), (&second, true), (&first, true)] {
            let asked = Instant::now();
            let code = slow.code(secret).await?;
            ensure!(asked.elapsed() < ANSWER_WITHIN, "{:?}", asked.elapsed());
            match (code.as_str(), ended) {
                ("valid", false) => valid += 1,
                ("revoked", true) => {}
                ("503", _) => refused += 1,
                _ => anyhow::bail!("{code}, ended: {ended}"),
            }
        }
    }
    // Its questions take longer than memory counts: who is refused, and not let through, is told so.
    ensure!(valid + refused > 0, "nobody was answered");

    // What writes is done or is refused, in bounded time, here and on the nodes that are not slow.
    let wish = Three::wish(json!({}));
    for node in [CUT_OFF, 0] {
        let asked = Instant::now();
        let (status, answer) = three.caller(node).post("/api/v1/keys", &wish).await?;
        ensure!(asked.elapsed() < WRITE_WITHIN, "{:?}", asked.elapsed());
        ensure!(status == 201 || status == 503, "{node}: {status} {answer}");
    }

    // As fast as before, everything is as before.
    proxy.delay(Duration::ZERO);
    let end = Instant::now() + BACK_WITHIN;
    loop {
        for ended in [&first, &second] {
            let code = slow.code(ended).await?;
            ensure!(code == "revoked" || code == "503", "{code}");
        }
        if slow.code(&kept).await? == "valid" && slow.is_ready().await {
            break;
        }
        ensure!(Instant::now() < end, "{}", three.logged(CUT_OFF));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (status, answer) = slow.post("/api/v1/keys", &wish).await?;
    ensure!(status == 201, "{status} {answer}");
    let (id, secret) = three.issue(json!({})).await?;
    ensure!(slow.code(&secret).await? == "valid");
    let (receipt, _) = revoke(&three, &id, "").await?;
    ensure!(receipt["complete"] == true, "{receipt}");
    ensure!(slow.code(&secret).await? == "revoked");
    three.close().await?;
    drop(proxy);
    database.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_140_ac_204_a_database_that_is_slow_for_every_node_lets_nothing_through_and_loses_nothing()
-> Result<()> {
    let database = Database::create().await?;
    let port = url::Url::parse(database.url())?.port().context("no port")?;
    let proxy = Proxy::to(port).await?;
    let by_relay = proxy.before(database.url())?;
    let three = Three::on(&by_relay, Options::default()).await?;
    let (first_id, first) = three.issue(json!({})).await?;
    let (second_id, second) = three.issue(json!({})).await?;
    let (_, kept) = three.issue(json!({})).await?;
    for node in 0..3 {
        for secret in [&first, &second, &kept] {
            ensure!(three.caller(node).code(secret).await? == "valid");
        }
    }

    // A little slow: nobody is refused anywhere.
    proxy.delay(Duration::from_millis(20));
    let begun = Instant::now();
    while begun.elapsed() < SECOND * 2 {
        for node in 0..3 {
            let code = three.caller(node).code(&kept).await?;
            ensure!(code == "valid", "node {node}: {code}");
        }
    }

    // Slower, for whoever revokes too: from its answer on less than a second passes elsewhere.
    let late = Duration::from_millis(100);
    let slower = async || {
        proxy.delay(late);
        Ok(())
    };
    let after = let_through_after(&three, &first_id, &first, slower).await?;
    ensure!(after < 1.0, "let through {after} s after it was revoked");
    let asked = Instant::now();
    let (_, answered) = revoke(&three, &second_id, "?wait_ms=0").await?;
    ensure!(answered - asked < WRITE_WITHIN, "{:?}", answered - asked);
    tokio::time::sleep_until((answered + SECOND).into()).await;
    let begun = Instant::now();
    let (mut valid, mut refused) = (0, 0);
    while begun.elapsed() < SECOND * 3 {
        for node in 0..3 {
            for (secret, ended) in [(&kept, false), (&second, true), (&first, true)] {
                let asked = Instant::now();
                let code = three.caller(node).code(secret).await?;
                ensure!(asked.elapsed() < ANSWER_WITHIN, "{:?}", asked.elapsed());
                match (code.as_str(), ended) {
                    ("valid", false) => valid += 1,
                    ("revoked", true) => {}
                    ("503", _) => refused += 1,
                    _ => anyhow::bail!("node {node}: {code}, ended: {ended}"),
                }
            }
        }
    }
    // So slow a database refuses some at times, and not all of them.
    ensure!(valid > 0, "nobody was let through, {refused} were refused");

    // As fast as before: everything that was answered is so, on all of them.
    proxy.delay(Duration::ZERO);
    let end = Instant::now() + BACK_WITHIN;
    for node in 0..3 {
        let caller = three.caller(node);
        loop {
            for ended in [&first, &second] {
                let code = caller.code(ended).await?;
                ensure!(code == "revoked" || code == "503", "node {node}: {code}");
            }
            if caller.code(&kept).await? == "valid" && caller.is_ready().await {
                break;
            }
            ensure!(Instant::now() < end, "{}", three.logged(node));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let (id, secret) = three.issue(json!({})).await?;
    let (receipt, _) = revoke(&three, &id, "").await?;
    ensure!(receipt["complete"] == true, "{receipt}");
    for node in 0..3 {
        ensure!(three.caller(node).code(&secret).await? == "revoked");
    }
    three.close().await?;
    drop(proxy);
    database.close().await
}
