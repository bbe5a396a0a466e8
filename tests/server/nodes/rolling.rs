//! Debian's nginx in front of three nodes, configured as docs/nodes.md says, while each is restarted: no request fails,
//! writes among them, and who follows the changes misses none.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywright_verifier::ApiKeys;
use serde_json::json;
use tokio::task::JoinSet;

use super::at_work::{self, Followed, Revoked, Site};
use super::parts::{Three, client};
use crate::server::gateway;
use crate::server::harness::Options;
use crate::support::until;

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
    // Beside them: who writes, who is signed in, who remembers, and who follows.
    let site = Site {
        base: format!("http://127.0.0.1:{port}"),
        root_key,
        stop: Arc::clone(&stop),
    };
    let keys = ApiKeys::new(&site.base, &site.root_key)?;
    let follower = Site {
        stop: Arc::default(),
        ..site.clone()
    };
    let told = Arc::<Mutex<Followed>>::default();
    let following = tokio::spawn(at_work::follow(follower.clone(), Arc::clone(&told)));
    let has_heard = || told.lock().unwrap_or_else(PoisonError::into_inner).version;
    until("the changes are followed", async || {
        (has_heard().is_some() && keys.is_following()).then_some(())
    })
    .await?;
    let revoked = Revoked::default();
    let times = <[Arc<AtomicU64>; 3]>::default();
    for _ in 0..2 {
        let (revoked, times) = (Arc::clone(&revoked), Arc::clone(&times[0]));
        running.spawn(at_work::write(site.clone(), keys.clone(), revoked, times));
    }
    let cookies = at_work::sign_in(&three).await?;
    running.spawn(at_work::look(site.clone(), cookies, Arc::clone(&times[1])));
    let served = Arc::clone(&times[2]);
    running.spawn(at_work::serve(site.clone(), keys, secret.clone(), served));
    let done = || times.each_ref().map(|one| one.load(Ordering::Relaxed));
    let mut starts = Vec::new();
    let mut works = Vec::new();
    tokio::time::sleep(Duration::from_millis(300)).await;
    for node in 0..3 {
        starts.push(sent.load(Ordering::Relaxed));
        works.push(done());
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
    works.push(done());
    let goes_on = |pair: &[[u64; 3]]| pair[0].iter().zip(pair[1]).all(|(was, is)| is > was + 5);
    ensure!(works.windows(2).all(goes_on), "hardly any work: {works:?}");
    // Of each revocation the follower was told, wherever it was.
    let revoked = std::mem::take(&mut *revoked.lock().unwrap_or_else(PoisonError::into_inner));
    let not_told = || {
        let told = told.lock().unwrap_or_else(PoisonError::into_inner);
        let told: HashSet<&String> = told.keys.iter().collect();
        revoked.iter().filter(|id| !told.contains(id)).count()
    };
    until("all changes", async || (not_told() == 0).then_some(()))
        .await
        .with_context(|| format!("of {} changes {} were lost", revoked.len(), not_told()))?;
    follower.stop.store(true, Ordering::Relaxed);
    failed.extend(following.await??);
    let connections = told
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .connections;
    ensure!(connections > 1, "no node that was followed ended");
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
