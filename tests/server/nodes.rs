//! Three server processes over one PostgreSQL: receipts, nodes that freeze or die, limits by Redis, a
//! restart one after the other under load.

mod at_work;
mod clocks;
pub(super) mod cluster;
mod failover;
mod fills;
mod found;
mod guesses;
mod namespaces;
mod once;
mod partition;
mod parts;
mod proxy;
mod redis;
mod remembered;
mod rolling;
mod skewed;
mod slow;
mod stalled;
mod tls;
mod upgrade;
mod uses;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use self::parts::{Caller, Three, client};
use super::harness::Options;

const SECOND: Duration = Duration::from_secs(1);

fn text(value: &Value) -> Result<&str> {
    value.as_str().context("no text")
}

/// Verifies in a tight loop on one node. Returns when the last request began that was let through,
/// and how many were.
async fn hammer(
    caller: Caller,
    secret: String,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
) -> Result<Option<Instant>> {
    let mut last = None;
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        if caller.code(&secret).await? == "valid" {
            last = Some(began);
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(last)
}

/// Until each was let through some times: without it a test shows nothing.
async fn all_are_let_through(counts: &[Arc<AtomicU64>]) -> Result<()> {
    crate::support::until("each is let through", async || {
        let enough = counts.iter().all(|one| one.load(Ordering::Relaxed) > 3);
        enough.then_some(())
    })
    .await
}

/// A node that has not heard may answer from memory for nine tenths of a second: what is let through later than a moment is
/// seen by whoever asks for so long.
const LONGER_THAN_A_LEASE: Duration = Duration::from_millis(1200);

/// Ends something at the first node while a key is verified in tight loops at the others, and for a while after it. No request
/// that began after the answer may be let through, and afterwards each node says the code. Returns the answer.
async fn end_under_load(
    three: &Three,
    secret: &str,
    path: &str,
    (code, after): (&str, Duration),
) -> Result<Value> {
    let stop = Arc::new(AtomicBool::new(false));
    let counts = [Arc::<AtomicU64>::default(), Arc::default()];
    let mut hammers = JoinSet::new();
    for node in 1..3 {
        hammers.spawn(hammer(
            three.caller(node),
            secret.to_owned(),
            Arc::clone(&stop),
            Arc::clone(&counts[node - 1]),
        ));
    }
    all_are_let_through(&counts).await?;
    let (status, ended) = three.caller(0).post(path, &json!({})).await?;
    let known = Instant::now();
    ensure!(status == 200, "{ended}");
    tokio::time::sleep(after).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(hammered) = hammers.join_next().await {
        let last = hammered??;
        ensure!(last < Some(known), "accepted after the receipt");
    }
    for node in 0..3 {
        let said = three.caller(node).code(secret).await?;
        ensure!(said == code, "node {node} says {said} after the receipt");
    }
    Ok(ended)
}

/// Most rounds are short; in one the nodes are asked until nothing of what they knew before may be believed any more.
fn asked_for(round: usize) -> Duration {
    match round {
        1 => LONGER_THAN_A_LEASE,
        _ => Duration::from_millis(60),
    }
}

/// Checks that a receipt names all three and is complete. Whether each of them said so itself: a node that
/// a busy machine made late says nothing, and is in the receipt with its time.
fn all_said_so(receipt: &Value) -> Result<bool> {
    let nodes = receipt["nodes"].as_array().context("no nodes")?;
    let names: Vec<_> = nodes
        .iter()
        .filter_map(|node| node["name"].as_str())
        .collect();
    ensure!(names == ["one", "three", "two"], "{receipt}");
    ensure!(receipt["complete"] == true, "{receipt}");
    let mut all = true;
    for node in nodes {
        match node["acknowledged_after_ms"].as_f64() {
            Some(after) => ensure!(after < 1000.0, "{receipt}"),
            None => {
                ensure!(node["refuses_from_memory_since"].is_i64(), "{receipt}");
                all = false;
            }
        }
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_140_a_receipt_names_three_processes_and_none_accepts_after_it() -> Result<()> {
    let three = Three::start(Options::default()).await?;
    let mut in_time = 0;
    for round in 0..8 {
        let (id, secret) = three.issue(json!({})).await?;
        for node in 0..3 {
            ensure!(three.caller(node).code(&secret).await? == "valid");
        }
        let path = format!("/api/v1/keys/{id}/revoke");
        let ended = end_under_load(&three, &secret, &path, ("revoked", asked_for(round))).await;
        let ended = ended.with_context(|| format!("round {round}"))?;
        let receipt = &ended["receipt"];
        in_time += usize::from(all_said_so(receipt)?);
        let version = receipt["version"].as_i64().context("no version")?;
        for node in 0..3 {
            let path = format!("/api/v1/receipts/{version}");
            let (status, later) = three.caller(node).get(&path).await?;
            ensure!(
                status == 200 && later["version"] == version,
                "{status} {later}"
            );
        }
    }
    ensure!(in_time > 4, "all three said so in {in_time} rounds of 8");
    three.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_140_ac_146_a_disabled_persons_key_is_accepted_by_no_process_after_the_receipt()
-> Result<()> {
    let three = Three::start(Options::default()).await?;
    let mut in_time = 0;
    for round in 0..4 {
        let body = json!({ "name": format!("Leaver {round}") });
        let (status, user) = three.caller(0).post("/api/v1/users", &body).await?;
        ensure!(status == 201, "{status} {user}");
        let id = text(&user["id"])?;
        let owner = json!({ "owner": { "kind": "person", "id": id } });
        let (_, secret) = three.issue(owner).await?;
        for node in 0..3 {
            ensure!(three.caller(node).code(&secret).await? == "valid");
        }
        let path = format!("/api/v1/users/{id}/disable");
        let refused = ("owner_disabled", asked_for(round));
        let ended = end_under_load(&three, &secret, &path, refused).await;
        let ended = ended.with_context(|| format!("round {round}"))?;
        ensure!(ended["disabled_at"].is_i64(), "{ended}");
        in_time += usize::from(all_said_so(&ended["receipt"])?);
        for node in 0..3 {
            let code = three.caller(node).code(&secret).await?;
            ensure!(code == "owner_disabled", "{node}: {code}");
        }
        // Enabled again, by another node: the key works again, at the one that did it at once.
        let path = format!("/api/v1/users/{id}/enable");
        let (status, user) = three.caller(1).post(&path, &json!({})).await?;
        let enabled = Instant::now();
        ensure!(status == 200 && user["disabled_at"].is_null(), "{user}");
        for node in [1, 0, 2] {
            loop {
                let asked = enabled.elapsed();
                let code = three.caller(node).code(&secret).await?;
                if code == "valid" {
                    break;
                }
                ensure!(code == "owner_disabled" && node != 1, "{node}: {code}");
                ensure!(asked < SECOND * 3, "{node} says {code} still");
            }
        }
    }
    ensure!(in_time > 1, "all three said so in {in_time} rounds of 4");
    three.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_140_ac_146_a_suspended_services_keys_are_accepted_by_no_process_after_the_receipt()
-> Result<()> {
    let three = Three::start(Options::default()).await?;
    let mut in_time = 0;
    for round in 0..4 {
        // Made at one node, its keys issued at another.
        let id = format!("billing-{round}");
        let wish = json!({ "kind": "service", "id": id, "name": "Billing" });
        let (status, made) = three.caller(1).post("/api/v1/owners", &wish).await?;
        ensure!(status == 201, "{status} {made}");
        let owner = json!({ "owner": { "kind": "service", "id": id } });
        let (_, secret) = three.issue(owner.clone()).await?;
        let (_, other) = three.issue(owner).await?;
        for node in 0..3 {
            ensure!(three.caller(node).code(&secret).await? == "valid");
            ensure!(three.caller(node).code(&other).await? == "valid");
        }
        let path = format!("/api/v1/owners/{id}/disable");
        let refused = ("owner_disabled", asked_for(round));
        let ended = end_under_load(&three, &secret, &path, refused).await;
        let ended = ended.with_context(|| format!("round {round}"))?;
        ensure!(ended["disabled_at"].is_i64(), "{ended}");
        in_time += usize::from(all_said_so(&ended["receipt"])?);
        for node in 0..3 {
            for key in [&secret, &other] {
                let code = three.caller(node).code(key).await?;
                ensure!(code == "owner_disabled", "{node}: {code}");
            }
        }
        // Enabled by another node: its keys work again, at the one that did it at once.
        let path = format!("/api/v1/owners/{id}/enable");
        let (status, owner) = three.caller(2).post(&path, &json!({})).await?;
        let enabled = Instant::now();
        ensure!(status == 200 && owner["disabled_at"].is_null(), "{owner}");
        for node in [2, 0, 1] {
            for key in [&secret, &other] {
                loop {
                    let asked = enabled.elapsed();
                    let code = three.caller(node).code(key).await?;
                    if code == "valid" {
                        break;
                    }
                    ensure!(code == "owner_disabled" && node != 2, "{node}: {code}");
                    ensure!(asked < SECOND * 3, "{node} says {code} still");
                }
            }
        }
    }
    ensure!(in_time > 1, "all three said so in {in_time} rounds of 4");
    three.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_140_a_frozen_node_is_named_and_its_first_answers_refuse() -> Result<()> {
    let three = Three::start(Options::default()).await?;
    let (id, secret) = three.issue(json!({})).await?;
    let (other_id, other) = three.issue(json!({})).await?;
    for node in 0..3 {
        ensure!(three.caller(node).code(&secret).await? == "valid");
        ensure!(three.caller(node).code(&other).await? == "valid");
    }
    three.signal(2, "STOP")?;
    let begun = Instant::now();
    let (status, revoked) = three
        .caller(0)
        .post(&format!("/api/v1/keys/{id}/revoke"), &json!({}))
        .await?;
    ensure!(status == 200, "{revoked}");
    ensure!(begun.elapsed() < SECOND * 5, "{:?}", begun.elapsed());
    let receipt = &revoked["receipt"];
    let nodes = receipt["nodes"].as_array().context("no nodes")?;
    let frozen = nodes
        .iter()
        .find(|node| node["name"] == "three")
        .context("not named")?;
    ensure!(
        frozen["acknowledged"] == false && frozen["acknowledged_after_ms"].is_null(),
        "{receipt}"
    );
    ensure!(frozen["refuses_from_memory_since"].is_i64(), "{receipt}");
    ensure!(
        receipt["complete"] == true,
        "its memory's time is over: {receipt}"
    );
    // The one beside it knows long before.
    ensure!(three.caller(1).code(&secret).await? == "revoked");
    // Without a wait the answer comes at once and says that it is not complete.
    let path = format!("/api/v1/keys/{other_id}/disable?wait_ms=0");
    let (_, disabled) = three.caller(0).post(&path, &json!({})).await?;
    ensure!(disabled["receipt"]["complete"] == false, "{disabled}");
    tokio::time::sleep(SECOND).await;
    // These wait in its socket; they are the first that it answers when it goes on.
    let mut waiting = JoinSet::new();
    for turn in 0..8 {
        let (caller, secret) = (
            three.caller(2),
            if turn % 2 == 0 { &secret } else { &other },
        );
        let secret = secret.clone();
        waiting.spawn(async move { caller.code(&secret).await });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    three.signal(2, "CONT")?;
    while let Some(answered) = waiting.join_next().await {
        let code = answered??;
        ensure!(
            code == "revoked" || code == "disabled" || code == "503",
            "{code}"
        );
    }
    three.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_node_killed_in_the_middle_leaves_the_others_at_work() -> Result<()> {
    let mut three = Three::start(Options::default()).await?;
    let mut lost = 0;
    for round in 0..9_u64 {
        let (id, secret) = three.issue(json!({})).await?;
        let path = match round % 3 {
            0 => format!("/api/v1/keys/{id}/revoke?wait_ms=0"),
            1 => format!("/api/v1/keys/{id}/rotations?wait_ms=0"),
            _ => "/api/v1/keys".to_owned(),
        };
        let body = match round % 3 {
            0 => json!({}),
            1 => json!({"overlap_ms": 0}),
            _ => Three::wish(json!({})),
        };
        let caller = three.caller(2);
        let asked = tokio::spawn(async move { caller.post(&path, &body).await });
        tokio::time::sleep(Duration::from_micros(400 * round)).await;
        three.signal(2, "KILL")?;
        let answered = asked.await?.ok();
        lost += u32::from(answered.is_none());
        // The row that it held is free again: the others write and agree.
        let (mine, fresh) = three.issue(json!({})).await?;
        let (status, answer) = three
            .caller(1)
            .post(&format!("/api/v1/keys/{mine}/revoke?wait_ms=0"), &json!({}))
            .await?;
        ensure!(status == 200, "{answer}");
        tokio::time::sleep(SECOND + SECOND / 10).await;
        for node in 0..2 {
            ensure!(three.caller(node).code(&fresh).await? == "revoked");
        }
        let codes = [
            three.caller(0).code(&secret).await?,
            three.caller(1).code(&secret).await?,
        ];
        ensure!(codes[0] == codes[1], "round {round}: {codes:?}");
        if let (Some((200 | 201, _)), 0 | 1) = (&answered, round % 3) {
            ensure!(
                codes[0] != "valid",
                "round {round}: what was answered was undone"
            );
        }
        three.again(2).await?;
    }
    ensure!(lost > 0, "no kill hit a request: the test shows nothing");
    // The dead are forgotten: after some seconds a receipt waits for nobody.
    crate::support::until("a receipt of the three alone", async || {
        let (id, _) = three.issue(json!({})).await.ok()?;
        let (_, revoked) = three
            .caller(0)
            .post(&format!("/api/v1/keys/{id}/revoke"), &json!({}))
            .await
            .ok()?;
        let nodes = revoked["receipt"]["nodes"].as_array()?;
        let all = nodes.iter().all(|node| node["acknowledged"] == true);
        (nodes.len() == 3 && all).then_some(())
    })
    .await?;
    three.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_138_rotations_over_three_processes_make_one_successor() -> Result<()> {
    let three = Three::start(Options::default()).await?;
    let (id, _) = three.issue(json!({})).await?;
    let path = format!("/api/v1/keys/{id}/rotations");
    let mut tries = JoinSet::new();
    for node in 0..3 {
        let (caller, path) = (three.caller(node), path.clone());
        tries.spawn(async move {
            caller
                .post_once(&path, &json!({}), "the-same-rotation")
                .await
        });
    }
    let mut statuses = Vec::new();
    while let Some(tried) = tries.join_next().await {
        statuses.push(tried??.0);
    }
    statuses.sort_unstable();
    ensure!(statuses == [200, 200, 201], "{statuses:?}");
    let (_, list) = three.caller(1).get(&path).await?;
    ensure!(
        list["items"].as_array().context("no list")?.len() == 1,
        "{list}"
    );

    let (id, _) = three.issue(json!({})).await?;
    let (_, key) = three.caller(0).get(&format!("/api/v1/keys/{id}")).await?;
    let body = json!({"replaces": text(&key["secrets"][0]["kid"])?});
    let mut tries = JoinSet::new();
    for turn in 0..20 {
        let (caller, body) = (three.caller(turn % 3), body.clone());
        let path = format!("/api/v1/keys/{id}/rotations");
        tries.spawn(async move { caller.post(&path, &body).await });
    }
    let (mut made, mut refused) = (0, 0);
    while let Some(tried) = tries.join_next().await {
        match tried?? {
            (201, _) => made += 1,
            (409, answer) => {
                ensure!(answer["code"] == "rotation_in_progress", "{answer}");
                refused += 1;
            }
            (status, answer) => anyhow::bail!("{status} {answer}"),
        }
    }
    ensure!((made, refused) == (1, 19), "{made} made, {refused} refused");
    three.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_204_a_token_of_one_node_is_good_on_the_others_until_a_third_ends_it() -> Result<()> {
    let three = Three::start(Options::default()).await?;
    let secret = "a secret of this client only, long enough";
    let more = ["--grant", "client_credentials", "--scope", "keys:read"];
    three
        .first()
        .add_client("service", Some(secret), &more)
        .await?;
    let form = |fields: &[(&str, &str)]| {
        url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish()
    };
    let send = async |node: usize, path: &str, body: String| {
        let response = client()?
            .post(three.caller(node).at(path))
            .basic_auth(
                "service",
                Some(url::form_urlencoded::byte_serialize(secret.as_bytes()).collect::<String>()),
            )
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await?;
        let status = response.status().as_u16();
        anyhow::Ok((status, response.text().await?))
    };
    for round in 0..3 {
        let body = form(&[("grant_type", "client_credentials")]);
        let (status, answer) = send(0, "/oauth2/token", body).await?;
        ensure!(status == 200, "{status} {answer}");
        let token: Value = serde_json::from_str(&answer)?;
        let token = text(&token["access_token"])?.to_owned();
        let ask = async |node: usize| {
            let request = client()?
                .get(three.caller(node).at("/api/v1/scopes"))
                .bearer_auth(&token);
            anyhow::Ok(request.send().await?.status().as_u16())
        };
        let before = [ask(0).await?, ask(1).await?, ask(2).await?];
        ensure!(!before.contains(&401), "round {round}: {before:?}");
        let (status, answer) = send(2, "/oauth2/revoke", form(&[("token", &token)])).await?;
        ensure!(status == 200, "{status} {answer}");
        let ended = Instant::now();
        ensure!(ask(2).await? == 401, "on the node that ended it");
        for node in 0..2 {
            loop {
                let asked = ended.elapsed();
                if ask(node).await? == 401 {
                    break;
                }
                ensure!(asked < SECOND * 3, "node {node} accepts it still");
            }
        }
    }
    three.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_restart_one_after_the_other_fails_no_request() -> Result<()> {
    let options = Options {
        settings: "drain_notice_s = 4\n",
        ..Options::default()
    };
    let mut three = Three::start(options).await?;
    let (_, secret) = three.issue(json!({})).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let (sent, failed) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(std::sync::Mutex::new(Vec::new())),
    );
    let ready: Arc<[AtomicBool; 3]> = Arc::default();
    let mut running = JoinSet::new();
    // What a gateway does: it asks who is ready, and sends requests there.
    for node in 0..3 {
        let (caller, ready, stop) = (three.caller(node), Arc::clone(&ready), Arc::clone(&stop));
        running.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let is_ready = caller.is_ready().await;
                ready[node].store(is_ready, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
    for worker in 0..4 {
        let callers = [three.caller(0), three.caller(1), three.caller(2)];
        let (ready, stop, secret) = (Arc::clone(&ready), Arc::clone(&stop), secret.clone());
        let (sent, failed) = (Arc::clone(&sent), Arc::clone(&failed));
        running.spawn(async move {
            let mut turn = worker;
            while !stop.load(Ordering::Relaxed) {
                turn += 1;
                let node = turn % 3;
                if !ready[node].load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
                sent.fetch_add(1, Ordering::Relaxed);
                match callers[node].code(&secret).await {
                    Ok(code) if code == "valid" => {}
                    other => failed
                        .lock()
                        .expect("failed")
                        .push(format!("{node}: {other:?}")),
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    for node in 0..3 {
        three.signal(node, "TERM")?;
        three.ended(node).await?;
        three.again(node).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    stop.store(true, Ordering::Relaxed);
    while running.join_next().await.is_some() {}
    let failed = failed.lock().expect("failed").clone();
    let sent = sent.load(Ordering::Relaxed);
    ensure!(sent > 200, "only {sent} requests");
    ensure!(
        failed.is_empty(),
        "{} of {sent} failed: {:?}",
        failed.len(),
        &failed[..failed.len().min(3)]
    );
    three.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_204_postgresql_is_restarted_and_the_nodes_go_on() -> Result<()> {
    let cluster = cluster::Cluster::start().await?;
    let three = Three::on(cluster.url(), Options::default()).await?;
    let (id, secret) = three.issue(json!({})).await?;
    let (kept, other) = three.issue(json!({})).await?;
    for node in 0..3 {
        ensure!(three.caller(node).code(&secret).await? == "valid");
        ensure!(three.caller(node).code(&other).await? == "valid");
    }
    let (status, revoked) = three
        .caller(0)
        .post(&format!("/api/v1/keys/{id}/revoke"), &json!({}))
        .await?;
    ensure!(status == 200, "{revoked}");
    cluster.restart().await?;
    let end = Instant::now() + SECOND * 20;
    for node in 0..3 {
        // Refused while it is not known, never let through.
        loop {
            let code = three.caller(node).code(&secret).await?;
            ensure!(code == "revoked" || code == "503", "{code}");
            if code == "revoked" && three.caller(node).code(&other).await? == "valid" {
                break;
            }
            ensure!(Instant::now() < end, "it does not come back: {code}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    // Hints are heard again: a receipt is complete with a word of each.
    loop {
        let (fresh, _) = three.issue(json!({})).await?;
        let (_, revoked) = three
            .caller(0)
            .post(&format!("/api/v1/keys/{fresh}/revoke"), &json!({}))
            .await?;
        let nodes = revoked["receipt"]["nodes"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if nodes.len() == 3 && nodes.iter().all(|node| node["acknowledged"] == true) {
            break;
        }
        ensure!(Instant::now() < end, "{revoked}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (_, revoked) = three
        .caller(1)
        .post(&format!("/api/v1/keys/{kept}/revoke"), &json!({}))
        .await?;
    ensure!(revoked["receipt"]["complete"] == true, "{revoked}");
    for node in 0..3 {
        ensure!(three.caller(node).code(&other).await? == "revoked");
    }
    three.close().await
}
