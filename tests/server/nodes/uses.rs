//! Uses are counted by whichever node verified, and written by each on its own: what is shown is their sum.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::SECOND;
use super::parts::Three;
use crate::server::harness::Options;

/// At each node, so many callers at once, and so many uses by each of them.
const CALLERS: [usize; 3] = [2, 3, 4];
const USES: i64 = 40;

/// How often the only secret of a key was used, as a node shows it.
async fn count(three: &Three, node: usize, id: &str) -> Result<i64> {
    let (status, key) = three
        .caller(node)
        .get(&format!("/api/v1/keys/{id}"))
        .await?;
    ensure!(status == 200, "{status} {key}");
    key["secrets"][0]["use_count"].as_i64().context("no count")
}

async fn use_it(three: &Three, secret: &str) -> Result<i64> {
    let mut callers = JoinSet::new();
    let mut uses = 0;
    for (node, many) in CALLERS.into_iter().enumerate() {
        for _ in 0..many {
            let (caller, secret) = (three.caller(node), secret.to_owned());
            callers.spawn(async move {
                for _ in 0..USES {
                    let code = caller.code(&secret).await?;
                    ensure!(code == "valid", "{node}: {code}");
                }
                Ok(())
            });
            uses += USES;
        }
    }
    while let Some(caller) = callers.join_next().await {
        caller??;
    }
    Ok(uses)
}

/// Each node writes down what it counted within a second or so.
async fn until_shown(three: &Three, id: &str, uses: i64) -> Result<()> {
    let end = Instant::now() + SECOND * 20;
    loop {
        let mut shown = Vec::new();
        for node in 0..3 {
            shown.push(count(three, node, id).await?);
        }
        // Never more than there were.
        ensure!(shown.iter().all(|one| *one <= uses), "{shown:?} of {uses}");
        if shown.iter().all(|one| *one == uses) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{shown:?} of {uses}");
        tokio::time::sleep(SECOND / 5).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_147_the_uses_of_a_key_are_the_sum_of_what_three_nodes_saw() -> Result<()> {
    let mut three = Three::start(Options::default()).await?;
    let (id, secret) = three.issue(json!({})).await?;
    let mut uses = use_it(&three, &secret).await?;
    until_shown(&three, &id, uses).await?;
    // And no node forgets the others' when it starts again, or its own when it ends in good order.
    uses += use_it(&three, &secret).await?;
    three.signal(1, "TERM")?;
    three.ended(1).await?;
    three.again(1).await?;
    until_shown(&three, &id, uses).await?;
    // A second later it is no more and no less.
    tokio::time::sleep(SECOND * 2).await;
    until_shown(&three, &id, uses).await?;
    let (_, key) = three.caller(2).get(&format!("/api/v1/keys/{id}")).await?;
    ensure!(key["secrets"].as_array().map(Vec::len) == Some(1), "{key}");
    ensure!(key["secrets"][0]["last_used_at"] != Value::Null, "{key}");
    three.close().await
}
