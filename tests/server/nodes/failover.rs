//! PostgreSQL dies and its replica takes over. Nodes reach it by way of a relay, as by a balancer or
//! pgbouncer: their address names one place.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::SECOND;
use super::cluster::Cluster;
use super::parts::Three;
use super::proxy::Proxy;
use crate::server::harness::Options;
use crate::server::kill::{Victim, access};

/// So long after the replica was promoted all nodes are at work.
const BACK_WITHIN: Duration = Duration::from_secs(12);

/// What the first node tells of changes, as it comes.
async fn follow(three: &Three) -> Result<Arc<Mutex<String>>> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut stream = client
        .get(three.caller(0).at("/api/v1/events"))
        .bearer_auth(&three.first().root_key)
        .send()
        .await?
        .error_for_status()?;
    let told = Arc::new(Mutex::new(String::new()));
    let here = Arc::clone(&told);
    tokio::spawn(async move {
        while let Ok(Some(part)) = stream.chunk().await {
            if let Ok(mut told) = here.lock() {
                told.push_str(&String::from_utf8_lossy(&part));
            }
        }
    });
    Ok(told)
}

/// A primary, a relay to it, and a replica that follows it by a relay of its own.
struct Pair {
    primary: Cluster,
    replica: Cluster,
    proxy: Proxy,
    /// Between the replica and its primary.
    between: Proxy,
}

impl Pair {
    async fn start() -> Result<Self> {
        let primary = Cluster::start().await?;
        let between = Proxy::to(primary.port()).await?;
        let replica = Cluster::replica_of(between.port()).await?;
        let proxy = Proxy::to(primary.port()).await?;
        let pair = Self {
            primary,
            replica,
            proxy,
            between,
        };
        let end = Instant::now() + SECOND * 20;
        let streams = "SELECT COUNT(*) FROM pg_stat_replication WHERE state = 'streaming'";
        while pair.primary.number(streams).await? == 0 {
            ensure!(Instant::now() < end, "the replica does not follow");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(pair)
    }

    /// A commit is answered when the replica has it on its disk.
    async fn synchronous(&self) -> Result<()> {
        let set = "ALTER SYSTEM SET synchronous_standby_names = '*'";
        self.primary.sql(set).await?;
        self.primary.sql("SELECT pg_reload_conf()").await?;
        let end = Instant::now() + SECOND * 20;
        let named = "SELECT COUNT(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        while self.primary.number(named).await? == 0 {
            ensure!(Instant::now() < end, "the replica is not waited for");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn url(&self) -> Result<String> {
        self.proxy.before(self.primary.url())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_140_ac_204_a_promoted_replica_lets_nothing_through_that_was_ended() -> Result<()> {
    let pair = Pair::start().await?;
    pair.synchronous().await?;
    pair.primary.sql("CREATE DATABASE people").await?;
    let three = Three::on(&pair.url()?, Options::default()).await?;
    // A provider of its own beside them, in the same cluster, for refresh tokens.
    let mut people = url::Url::parse(&pair.url()?)?;
    people.set_path("people");
    let victim = Victim::start(Some(people.into())).await?;
    access::prepare(&victim).await?;

    let (_, kept) = three.issue(json!({})).await?;
    let mut ended = Vec::new();
    for _ in 0..6 {
        ended.push(three.issue(json!({})).await?);
    }
    for node in 0..3 {
        ensure!(three.caller(node).code(&kept).await? == "valid");
        for (_, secret) in &ended {
            ensure!(three.caller(node).code(secret).await? == "valid");
        }
    }
    let used = access::family(&victim).await?;
    let used = used.text("refresh_token")?.to_owned();
    let rotated = access::refresh_with(&victim, &used).await?;
    ensure!(rotated.status == 200, "{}", rotated.body);
    let newest = rotated.text("refresh_token")?.to_owned();
    let revoked = access::family(&victim).await?;
    let revoked = revoked.text("refresh_token")?.to_owned();
    ensure!(access::revoke(&victim, &revoked).await?.status == 200);
    // The last one is revoked a moment before the primary dies.
    let mut version = 0;
    for (id, _) in &ended {
        let path = format!("/api/v1/keys/{id}/revoke?wait_ms=0");
        let (status, answer) = three.caller(0).post(&path, &json!({})).await?;
        ensure!(status == 200, "{answer}");
        version = answer["receipt"]["version"]
            .as_i64()
            .context("no version")?;
    }
    pair.primary.kill()?;

    // The balancer leads to the replica before it is promoted: what a replica says is late by any time,
    // so nobody believes it.
    pair.proxy.lead_to(pair.replica.port());
    let begun = Instant::now();
    while begun.elapsed() < SECOND * 3 {
        for node in 0..3 {
            let lease_is_over = begun.elapsed() > SECOND * 2;
            let code = three.caller(node).code(&kept).await?;
            ensure!(
                code == "503" || (code == "valid" && !lease_is_over),
                "{code}"
            );
            for (_, secret) in &ended {
                let code = three.caller(node).code(secret).await?;
                ensure!(code == "503" || code == "revoked", "{code}");
            }
        }
    }
    pair.replica.promote().await?;
    let promoted = Instant::now();
    let mut back = [false; 3];
    while back != [true; 3] {
        for (node, back) in back.iter_mut().enumerate() {
            for (_, secret) in &ended {
                let code = three.caller(node).code(secret).await?;
                ensure!(code == "503" || code == "revoked", "{code}");
            }
            *back |= three.caller(node).code(&kept).await? == "valid";
        }
        ensure!(
            promoted.elapsed() < BACK_WITHIN,
            "{back:?}: {}",
            three.logged(2)
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // The log goes on where it stood, and a receipt has the word of each.
    loop {
        let wish = Three::wish(json!({}));
        let (status, made) = three.caller(1).post("/api/v1/keys", &wish).await?;
        if status == 201 {
            let id = made["key"]["id"].as_str().context("no id")?;
            let secret = made["secret"].as_str().context("no secret")?;
            for node in 0..3 {
                ensure!(three.caller(node).code(secret).await? == "valid");
            }
            let path = format!("/api/v1/keys/{id}/revoke");
            let (status, answer) = three.caller(1).post(&path, &json!({})).await?;
            ensure!(status == 200, "{answer}");
            let receipt = &answer["receipt"];
            let later = receipt["version"].as_i64().context("no version")?;
            ensure!(later > version, "{later} after {version}");
            for node in 0..3 {
                ensure!(three.caller(node).code(secret).await? == "revoked");
            }
            let nodes = receipt["nodes"].as_array().context("no nodes")?;
            if nodes.len() == 3 && nodes.iter().all(|node| node["acknowledged"] == true) {
                break;
            }
        }
        ensure!(promoted.elapsed() < BACK_WITHIN, "{status} {made}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // No number was given twice, none is missing.
    let gaps = "SELECT MAX(version) - MIN(version) + 1 - COUNT(*) FROM changes";
    ensure!(pair.replica.number(gaps).await? == 0);

    // A used refresh token gives nothing new, a revoked one nothing at all.
    let again = loop {
        let again = access::refresh_with(&victim, &used).await?;
        if again.status < 500 {
            break again;
        }
        ensure!(promoted.elapsed() < BACK_WITHIN * 2, "{}", again.body);
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    if again.status == 200 {
        // Within the time in which an answer may have been lost it is given the same successor (AC-084).
        ensure!(again.text("refresh_token")? == newest, "the family forked");
    }
    let refused = access::refresh_with(&victim, &revoked).await?;
    ensure!(refused.status == 400, "{} {}", refused.status, refused.body);

    // Jobs are given to one node again.
    let jobs = "SELECT COUNT(*) FROM jobs WHERE name = 'settle_rotations' AND took_at > ";
    let now: i64 = pair
        .replica
        .number("SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT")
        .await?;
    pair.replica
        .sql("UPDATE jobs SET next_at = 0 WHERE name = 'settle_rotations'")
        .await?;
    let end = Instant::now() + SECOND * 45;
    while pair.replica.number(&format!("{jobs}{now}")).await? == 0 {
        ensure!(Instant::now() < end, "no node does the jobs");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    three.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_replica_that_missed_the_last_commits_is_noticed_and_nothing_new_is_missed() -> Result<()>
{
    // Nobody waits for this replica: what it does not have when the primary dies is lost.
    let pair = Pair::start().await?;
    let three = Three::on(&pair.url()?, Options::default()).await?;
    let (warned, said, complaint) = three.first().try_command(&["doctor", "--offline"]).await?;
    ensure!(warned, "{complaint}");
    ensure!(said.contains("synchronous_standby_names"), "{said}");
    let (_, kept) = three.issue(json!({})).await?;
    let (lost_id, lost) = three.issue(json!({})).await?;
    let (other_id, other) = three.issue(json!({})).await?;
    for node in 0..3 {
        for secret in [&kept, &lost, &other] {
            ensure!(three.caller(node).code(secret).await? == "valid");
        }
    }
    let written = "SELECT (pg_current_wal_lsn() - '0/0')::BIGINT";
    let here = pair.primary.number(written).await?;
    let end = Instant::now() + SECOND * 20;
    let there = "SELECT (pg_last_wal_replay_lsn() - '0/0')::BIGINT";
    while pair.replica.number(there).await? < here {
        ensure!(Instant::now() < end, "the replica does not follow");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Somebody outside follows what changes.
    let told = follow(&three).await?;
    pair.between.cut(super::proxy::Cut::All);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (status, answer) = three
        .caller(0)
        .post(&format!("/api/v1/keys/{lost_id}/revoke"), &json!({}))
        .await?;
    ensure!(
        status == 200 && answer["receipt"]["complete"] == true,
        "{answer}"
    );
    let lost_version = answer["receipt"]["version"]
        .as_i64()
        .context("no version")?;
    for node in 0..3 {
        ensure!(three.caller(node).code(&lost).await? == "revoked");
    }
    pair.primary.kill()?;
    pair.replica.promote().await?;
    // One node is held still while the others give the lost numbers anew.
    three.signal(2, "STOP")?;
    pair.proxy.lead_to(pair.replica.port());
    let promoted = Instant::now();
    // The first of them is one that the third node believes to have read.
    let path = format!("/api/v1/keys/{other_id}/revoke?wait_ms=0");
    let first = loop {
        let (status, answer) = three.caller(0).post(&path, &json!({})).await?;
        if status == 200 {
            break answer["receipt"]["version"]
                .as_i64()
                .context("no version")?;
        }
        ensure!(promoted.elapsed() < BACK_WITHIN, "{status} {answer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    ensure!(
        first <= lost_version,
        "{first} after {lost_version}: the test shows nothing"
    );
    for _ in 0..5 {
        let wish = Three::wish(json!({}));
        let (status, made) = three.caller(1).post("/api/v1/keys", &wish).await?;
        ensure!(status == 201 || status == 503, "{status} {made}");
    }
    three.signal(2, "CONT")?;
    let is_told = |text: &str| told.lock().is_ok_and(|told| told.contains(text));
    ensure!(
        is_told(&format!("\"version\":{lost_version}")),
        "{lost_version} in {:?}",
        told.lock().map(|told| told.clone())
    );
    while !is_told("event: reset") {
        let told = told.lock().map(|told| told.clone());
        ensure!(promoted.elapsed() < BACK_WITHIN, "{told:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for node in 0..3 {
        let end = Instant::now() + BACK_WITHIN;
        loop {
            // What was ended before and after is refused at all times.
            let code = three.caller(node).code(&other).await?;
            ensure!(code == "503" || code == "revoked", "node {node}: {code}");
            if code == "revoked" && three.caller(node).code(&kept).await? == "valid" {
                break;
            }
            ensure!(Instant::now() < end, "{}", three.logged(node));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    // All say the same of the key whose revocation is lost, and it is said in the log.
    let mut said = Vec::new();
    for node in 0..3 {
        said.push(three.caller(node).code(&lost).await?);
        ensure!(
            three
                .logged(node)
                .contains("lacks changes that were committed"),
            "node {node}: {}",
            three.logged(node)
        );
    }
    ensure!(said == ["valid"; 3], "{said:?}");
    three.close().await
}
