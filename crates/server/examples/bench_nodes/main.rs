//! Three server processes over one PostgreSQL: how long a revoked key is still let through elsewhere, and how many
//! keys a second they verify beside one node alone.
//!
//! `bench_nodes PROGRAM [--rounds N] [--turns N] [--keys N FILLER] [revocations] [receipts] [freezes] [partition] [verify]`: the server's
//! binary, and what is wanted; without it, everything. `--turns` is how many revocations, and at the most so many freezes and cuts.
//! With `--keys` their database has so many keys besides, put there by `FILLER fill ADDRESS N` (`bench_registry`); it is told when all
//! of them are in every node's memory, and what they take. The database's address comes from `KEYWRIGHT_TEST_POSTGRES`: it has to be an
//! empty one; `verify` makes a copy of it beside (with `psql`) for the node that is alone, and needs `taskset`. `partition` has a
//! PostgreSQL of its own, and needs network namespaces. One JSON object a line.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its figures"
)]

mod network;
mod nodes;
mod revocations;
mod verifications;
#[path = "../bench_server/wire.rs"]
#[allow(dead_code, reason = "the other bench asks for more")]
mod wire;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use self::nodes::{Connection, Database, Nodes, Place, round};

/// Enough for p99 not to be one moment's figure: fifteen are above it.
const REVOCATIONS: usize = 1_500;
const RECEIPTS: usize = 320;
const FREEZES: usize = 5;
const CUTS: usize = 5;
/// How many keys `verify` asks for, at random: a thirtieth of a million, so that they are not in the processor's cache.
const KNOWN: usize = 30_000;
/// And of a database that was not filled.
const KNOWN_ALONE: usize = 1_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let server = PathBuf::from(words.next().context("the server's binary")?);
    let (mut rounds, mut turns, mut wanted, mut filled) = (5, None, Vec::new(), None);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => rounds = words.next().context("--rounds N")?.parse()?,
            "--turns" => turns = Some(words.next().context("--turns N")?.parse::<usize>()?),
            "--keys" => {
                let keys: u64 = words.next().context("--keys N FILLER")?.parse()?;
                filled = Some((keys, words.next().context("--keys N FILLER")?));
            }
            "revocations" | "receipts" | "freezes" | "partition" | "verify" => wanted.push(word),
            _ => bail!("`{word}` is not understood"),
        }
    }
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|word| word == part);
    let few = |most: usize| turns.unwrap_or(most).min(most);
    if network::is_inside() {
        return network::inside(&server, few(CUTS)).await;
    }
    if wants("partition") {
        network::measure(&server, few(CUTS))?;
    }
    if wanted == ["partition"] {
        return Ok(());
    }
    let database = std::env::var("KEYWRIGHT_TEST_POSTGRES").context("no database")?;
    let folder = tempfile::tempdir()?;
    let place = Place::make(&server, folder.path(), &database, filled.as_ref())?;
    let mut known = None;
    if wants("verify") {
        let most = |(keys, _): &(u64, String)| KNOWN.min(*keys as usize / 10);
        let count = filled.as_ref().map_or(KNOWN_ALONE, most);
        known = Some((place.known(count).await?, Database::copy_of(&database)?));
    }
    let nodes = Nodes::start(&place, &[&database, &database, &database]).await?;
    let mut admin = nodes.connect(0).await?;
    if wants("revocations") {
        revocations::measure(&nodes, &mut admin, turns.unwrap_or(REVOCATIONS)).await?;
    }
    if wants("receipts") {
        receipts(&nodes, &mut admin, turns.unwrap_or(RECEIPTS)).await?;
    }
    if wants("freezes") {
        freezes(&nodes, &mut admin, few(FREEZES)).await?;
    }
    if let Some((keys, other)) = known {
        let alone = Nodes::start(&place, &[&other.address]).await?;
        verifications::measure(&nodes, &alone, &keys, rounds).await?;
    }
    Ok(())
}

/// What the receipt says: from the commit to the word of the last node.
async fn receipts(nodes: &Nodes, admin: &mut Connection, turns: usize) -> Result<()> {
    let mut others = [nodes.connect(1).await?, nodes.connect(2).await?];
    let (mut said, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        let (id, key) = admin.issue().await?;
        for other in &mut others {
            ensure!(other.verify(&key).await? == "valid");
        }
        let begun = Instant::now();
        let path = format!("/api/v1/keys/{id}/revoke");
        let (status, answer) = admin.send("POST", &path, None).await?;
        answers.push(begun.elapsed().as_secs_f64() * 1000.0);
        ensure!(
            status == 200 && answer["receipt"]["complete"] == true,
            "{answer}"
        );
        let words = answer["receipt"]["nodes"].as_array().context("no nodes")?;
        ensure!(words.len() == 3, "{answer}");
        let times = words
            .iter()
            .filter_map(|node| node["acknowledged_after_ms"].as_f64());
        said.push(times.fold(0.0, f64::max));
        for other in &mut others {
            ensure!(
                other.verify(&key).await? == "revoked",
                "let through after the receipt"
            );
        }
    }
    nodes.print("revoke_receipt", &mut said);
    nodes.print("revoke_answer_with_receipt", &mut answers);
    Ok(())
}

/// A node that stands still: when the receipt is complete without its word, and that it refuses when
/// it goes on.
async fn freezes(nodes: &Nodes, admin: &mut Connection, turns: usize) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..turns {
        let (id, key) = admin.issue().await?;
        let mut frozen = nodes.connect(2).await?;
        ensure!(frozen.verify(&key).await? == "valid");
        nodes.signal(2, "STOP")?;
        let begun = Instant::now();
        let (status, answer) = admin
            .send("POST", &format!("/api/v1/keys/{id}/revoke"), None)
            .await?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        ensure!(
            status == 200 && answer["receipt"]["complete"] == true,
            "{answer}"
        );
        let asked = tokio::spawn(async move { frozen.verify(&key).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        nodes.signal(2, "CONT")?;
        let code = asked.await??;
        ensure!(code != "valid", "the frozen node let it through");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let most = times.iter().copied().fold(0.0, f64::max);
    let line = json!({
        "bench": "server", "case": "revoke_freeze_bound_ms", "value": round(most), "unit": "ms", "turns": turns,
    });
    println!("{line}");
    Ok(())
}
