//! A service's memory of accepted keys (the verifier) over three nodes: it follows the changes of one node and
//! asks two others, and one of them hears of everything late. What was ended is not let through by what a late
//! node still said, and is not remembered anew.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use keywright_verifier::{ApiKeys, KeyError, KeyRequest};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::SECOND;
use super::partition::{CUT_OFF, three};
use super::parts::Three;

/// Whose changes are followed.
const FOLLOWED: usize = 1;
/// So much later everything of its database arrives at the late node.
const LATE: Duration = Duration::from_millis(90);
/// As long as the stream may be silent (AC-140): no answer of before counts after it.
const ENDED_WITHIN: Duration = Duration::from_millis(1500);
/// Longer than any answer is remembered since its question: 5 s, less what passed before.
const WATCHED: Duration = Duration::from_secs(3);
const WAVES: usize = 2;
const KEYS: usize = 5;

/// An answer about a key, by the node that gave it.
struct Said {
    node: usize,
    began: Instant,
    key: String,
    valid: bool,
}

/// In front of the nodes, as a balancer: who follows changes is led to one node, each question to the next of the
/// two others.
struct Balancer {
    address: String,
    said: Arc<Mutex<Vec<Said>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Balancer {
    async fn before(three: &Three) -> Result<Self> {
        let nodes = [0, 1, 2].map(|node| {
            let base = three.caller(node).at("");
            base.trim_start_matches("http://").to_owned()
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let said = Arc::<Mutex<Vec<Said>>>::default();
        let (kept, turn) = (Arc::clone(&said), Arc::<AtomicUsize>::default());
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (nodes, kept, turn) = (nodes.clone(), Arc::clone(&kept), Arc::clone(&turn));
                connections.spawn(async move { carry(client, &nodes, &kept, &turn).await.ok() });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            said,
            task,
        })
    }

    /// How many questions were answered, and how many of these keys' by the late node with yes, asked after a moment.
    fn told(&self, since: impl Fn(&str) -> Option<Instant>) -> (usize, usize) {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let late = said.iter().filter(|one| {
            one.node == CUT_OFF && one.valid && since(&one.key).is_some_and(|at| one.began > at)
        });
        (said.len(), late.count())
    }
}

/// One connection: one request, and its answer.
async fn carry(
    mut client: TcpStream,
    nodes: &[String; 3],
    kept: &Mutex<Vec<Said>>,
    turn: &AtomicUsize,
) -> Result<()> {
    let began = Instant::now();
    let (mut request, mut part) = (Vec::new(), vec![0; 16 * 1024]);
    let head = loop {
        let read = client.read(&mut part).await?;
        ensure!(read > 0, "it left");
        request.extend_from_slice(&part[..read]);
        if let Some(at) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            break String::from_utf8(request[..at].to_vec())?;
        }
    };
    let (first, fields) = head.split_once("\r\n").context("no fields")?;
    let follows = first.starts_with("GET /api/v1/events");
    let node = if follows {
        FOLLOWED
    } else {
        [0, CUT_OFF][turn.fetch_add(1, Ordering::Relaxed) % 2]
    };
    let mut server = TcpStream::connect(&nodes[node]).await?;
    if follows {
        server.write_all(&request).await?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    }
    let length = fields.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    let whole = head.len() + 4 + length.context("no length")?;
    while request.len() < whole {
        let read = client.read(&mut part).await?;
        ensure!(read > 0, "it left");
        request.extend_from_slice(&part[..read]);
    }
    // Each question is led anew.
    let body = &request[head.len() + 4..];
    let asked: Value = serde_json::from_slice(body)?;
    let sent = format!("{first}\r\nconnection: close\r\n{fields}\r\n\r\n");
    server.write_all(sent.as_bytes()).await?;
    server.write_all(body).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    let valid = answer.windows(14).any(|part| part == b"\"code\":\"valid\"");
    kept.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(Said {
            node,
            began,
            key: asked["key"].as_str().unwrap_or_default().to_owned(),
            valid,
        });
    client.write_all(&answer).await?;
    Ok(client.shutdown().await?)
}

/// How the verifier answered about a key: when it was asked last and let through, and how often.
#[derive(Default)]
struct Watched {
    last: Option<Instant>,
    let_through: usize,
    refused: usize,
}

async fn watch(keys: ApiKeys, secret: String, stop: Arc<AtomicBool>) -> Result<Watched> {
    let mut watched = Watched::default();
    let asked = KeyRequest {
        key: &secret,
        ..KeyRequest::default()
    };
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        match keys.verify(&asked).await {
            Ok(_) => {
                watched.last = Some(began);
                watched.let_through += 1;
            }
            Err(KeyError::Refused(code)) if code == "key_revoked" => watched.refused += 1,
            // A late node may have to say that it does not know.
            Err(KeyError::Unavailable) => {}
            Err(other) => bail!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    Ok(watched)
}

/// Revokes on the first node: when that was answered, and when the receipt said that no node lets it through.
async fn revoke(three: &Three, id: &str) -> Result<(Instant, Instant)> {
    let path = format!("/api/v1/keys/{id}/revoke?wait_ms=0");
    let (status, answer) = three.caller(0).post(&path, &json!({})).await?;
    let answered = Instant::now();
    ensure!(status == 200, "{status} {answer}");
    let mut receipt = answer["receipt"].clone();
    let version = receipt["version"].as_i64().context("no version")?;
    while receipt["complete"] != true {
        ensure!(answered.elapsed() < SECOND * 20, "{receipt}");
        tokio::time::sleep(Duration::from_millis(10)).await;
        let path = format!("/api/v1/receipts/{version}");
        receipt = three.caller(0).get(&path).await?.1;
    }
    Ok((answered, Instant::now()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_140_what_a_service_remembers_over_three_nodes_is_never_filled_by_one_that_is_late()
-> Result<()> {
    let (three, proxy, database) = three().await?;
    let three = Arc::new(three);
    let balancer = Balancer::before(&three).await?;
    let keys = ApiKeys::new(&balancer.address, &three.first().root_key)?;
    crate::support::until("the stream is heard", async || {
        keys.is_following().then_some(())
    })
    .await?;
    let (mut from_memory, mut asked_late) = (0, 0);
    for wave in 0..WAVES {
        let mut made = Vec::new();
        for _ in 0..KEYS {
            made.push(three.issue(json!({})).await?);
        }
        // What was issued is known everywhere before one of them is late.
        for (_, secret) in &made {
            crate::support::until("it is known", async || {
                let code = three.caller(CUT_OFF).code(secret).await.ok()?;
                (code == "valid").then_some(())
            })
            .await?;
        }
        proxy.delay(LATE);
        let (asked_before, _) = balancer.told(|_| None);
        let stop = Arc::<AtomicBool>::default();
        let mut watching = JoinSet::new();
        for (at, (_, secret)) in made.iter().enumerate() {
            let watched = watch(keys.clone(), secret.clone(), Arc::clone(&stop));
            watching.spawn(async move { (at, watched.await) });
        }
        crate::support::until("all are remembered", async || {
            (keys.remembered() == KEYS).then_some(())
        })
        .await
        .with_context(|| format!("{} of {KEYS}", keys.remembered()))?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut revoking = JoinSet::new();
        for (at, (id, _)) in made.iter().enumerate() {
            let (three, id) = (Arc::clone(&three), id.clone());
            revoking.spawn(async move { (at, revoke(&three, &id).await) });
        }
        let mut ends = [None; KEYS];
        while let Some(revoked) = revoking.join_next().await {
            let (at, revoked) = revoked?;
            ends[at] = Some(revoked?);
        }
        tokio::time::sleep(WATCHED).await;
        stop.store(true, Ordering::Relaxed);
        let mut let_through = 0;
        while let Some(ended) = watching.join_next().await {
            let (at, watched) = ended?;
            let watched = watched?;
            let (_, complete) = ends[at].context("not revoked")?;
            let last = watched.last.context("never let through")?;
            let after = last.saturating_duration_since(complete);
            ensure!(
                after < ENDED_WITHIN,
                "wave {wave}, key {at}: let through {after:?} after the receipt"
            );
            ensure!(watched.refused > 0, "wave {wave}, key {at}: never refused");
            let_through += watched.let_through;
        }
        ensure!(
            keys.remembered() == 0,
            "{} ended keys are remembered",
            keys.remembered()
        );
        let (asked, late) = balancer.told(|key| {
            let at = made.iter().position(|(_, secret)| secret == key)?;
            Some(ends[at]?.0)
        });
        asked_late += late;
        // Otherwise nothing was remembered.
        from_memory += let_through;
        ensure!(
            let_through > KEYS * 10,
            "only {let_through} were let through"
        );
        println!(
            "wave {wave}: {let_through} let through, {} asked",
            asked - asked_before
        );
        proxy.delay(Duration::ZERO);
        crate::support::until("the late node is in time again", async || {
            three.caller(CUT_OFF).is_ready().await.then_some(())
        })
        .await?;
    }
    ensure!(from_memory > 0);
    // Otherwise no late answer could have been remembered.
    ensure!(
        asked_late > 0,
        "the late node was never asked while it was late"
    );
    println!("{asked_late} late answers");
    drop((balancer, keys));
    let three = Arc::into_inner(three).context("it is used")?;
    three.close().await?;
    drop(proxy);
    database.close().await
}
