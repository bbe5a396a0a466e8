//! Debian's nginx in front of three nodes, configured as docs/nodes.md says, while each is restarted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::task::JoinSet;

use super::parts::{Three, client};
use crate::server::gateway;
use crate::server::harness::Options;

const DOCS: &str = include_str!("../../../docs/nodes.md");

/// The page's own configuration, for these nodes.
fn configuration(nodes: &[String], port: u16) -> Result<String> {
    let text = DOCS
        .split("```nginx\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .context("docs/nodes.md has no configuration for nginx")?;
    let mut text = text.replace("listen 443 ssl;", &format!("listen 127.0.0.1:{port};"));
    for (number, node) in nodes.iter().enumerate() {
        let named = format!("10.0.0.{}:8377", number + 1);
        ensure!(text.contains(&named), "{named}");
        text = text.replace(&named, node);
    }
    // This test speaks to it in clear text.
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("ssl_"));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_204_a_restart_one_after_the_other_behind_nginx_fails_no_request() -> Result<()> {
    let options = Options {
        settings: "drain_notice_s = 1\n",
        ..Options::default()
    };
    let mut three = Three::start(options).await?;
    let (_, secret) = three.issue(json!({})).await?;
    let nodes: Vec<String> = (0..3)
        .map(|node| {
            three
                .caller(node)
                .at("")
                .trim_start_matches("http://")
                .to_owned()
        })
        .collect();
    let folder = tempfile::tempdir()?;
    let conf = configuration(&nodes, 0)?;
    let (_nginx, port) = gateway::start(folder.path(), |port| {
        conf.replace("127.0.0.1:0;", &format!("127.0.0.1:{port};"))
    })
    .await?;
    let root_key = three.first().root_key.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let mut running = JoinSet::new();
    for worker in 0..6 {
        let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
        let (secret, root_key) = (secret.clone(), root_key.clone());
        running.spawn(async move {
            let client = client()?;
            let at = |path: &str| format!("http://127.0.0.1:{port}{path}");
            let mut failed = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let number = sent.fetch_add(1, Ordering::Relaxed);
                // What may be sent again, and what may not.
                let request = if (number + worker) % 2 == 0 {
                    client.get(at("/.well-known/openid-configuration"))
                } else {
                    let body = json!({ "key": secret });
                    let request = client.post(at("/api/v1/keys/verify"));
                    request.bearer_auth(&root_key).json(&body)
                };
                let answered = match request.send().await {
                    Ok(answer) => {
                        let status = answer.status();
                        let body = answer.text().await;
                        (status == 200 && body.is_ok())
                            .then_some(())
                            .ok_or_else(|| format!("{status} {body:?}"))
                    }
                    Err(error) => Err(format!("{error:?}")),
                };
                if let Err(why) = answered {
                    failed.push(format!("request {number}: {why}"));
                }
            }
            anyhow::Ok(failed)
        });
    }
    let mut starts = Vec::new();
    tokio::time::sleep(Duration::from_millis(300)).await;
    for node in 0..3 {
        starts.push(sent.load(Ordering::Relaxed));
        three.signal(node, "TERM")?;
        three.ended(node).await?;
        three.again(node).await?;
        ensure!(three.caller(node).is_ready().await);
        // As long as nginx may wait for one that does not hear it, and then leaves it alone.
        tokio::time::sleep(Duration::from_millis(3200)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut failed = Vec::new();
    while let Some(ended) = running.join_next().await {
        failed.extend(ended??);
    }
    let sent = sent.load(Ordering::Relaxed);
    ensure!(
        starts.windows(2).all(|pair| pair[1] > pair[0] + 50),
        "hardly anything was sent meanwhile: {starts:?}, {sent}"
    );
    let said = std::fs::read_to_string(folder.path().join("error.log")).unwrap_or_default();
    ensure!(
        failed.is_empty(),
        "{} of {sent} failed: {:?}; nginx said {said}",
        failed.len(),
        &failed[..failed.len().min(3)]
    );
    // Each of them answered: nginx came back to those that were restarted.
    for node in 0..3 {
        let text = client()?
            .get(three.caller(node).at("/metrics"))
            .send()
            .await?
            .text()
            .await?;
        let verified = text.lines().any(|line| {
            line.starts_with("keywright_http_requests_total")
                && line.contains("/api/v1/keys/verify")
        });
        ensure!(verified, "nothing came to node {node} after its restart");
    }
    three.close().await
}
