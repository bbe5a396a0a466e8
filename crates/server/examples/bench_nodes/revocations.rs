//! How long a revoked key is let through elsewhere: clients ask without a pause, each on a thread of its own, so that
//! neither of them nor whoever revokes waits for another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::nodes::{Connection, Nodes};

/// How often each client has to be let through before a key is revoked.
const BEFORE: u64 = 3;
/// A key that was just issued is let through everywhere in this time.
const LET_THROUGH_WITHIN: Duration = Duration::from_secs(10);
/// And a revoked one is refused everywhere in this: twice what a node may answer from memory without a word of the log.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);

/// When a request began that was let through, and when its answer was read. The node decided somewhere between.
pub(crate) type LetThrough = (Instant, Instant);

/// What a client has seen of the key that it asks for now.
#[derive(Default)]
struct Seen {
    let_through: AtomicU64,
    refused: AtomicBool,
    enough: AtomicBool,
}

/// Asks one node for one key after the other.
pub(crate) struct Client {
    node: &'static str,
    keys: mpsc::Sender<String>,
    last: mpsc::Receiver<Result<LetThrough>>,
    seen: Arc<Seen>,
}

impl Client {
    /// `refusals` are the codes or statuses that say no to a key; after the first of them it may not be let
    /// through any more. Whatever else a node says is neither.
    pub(crate) fn start(
        nodes: &Nodes,
        node: usize,
        refusals: &'static [&'static str],
    ) -> Result<Self> {
        let (keys, asked) = mpsc::channel::<String>();
        let (tell, last) = mpsc::channel();
        let seen = Arc::<Seen>::default();
        let (door, own) = (nodes.door(node), Arc::clone(&seen));
        std::thread::spawn(move || {
            let client = || -> Result<()> {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                let mut connection = runtime.block_on(door.connect())?;
                while let Ok(key) = asked.recv() {
                    let last = hammer(&runtime, &mut connection, &key, refusals, &own);
                    if tell.send(last).is_err() {
                        break;
                    }
                }
                Ok(())
            };
            if let Err(error) = client() {
                let _ = tell.send(Err(error));
            }
        });
        Ok(Self {
            node: nodes.name(node),
            keys,
            last,
            seen,
        })
    }

    /// From here on it asks for this key.
    pub(crate) fn ask(&self, key: &str) -> Result<()> {
        self.seen.let_through.store(0, Ordering::Relaxed);
        self.seen.refused.store(false, Ordering::Relaxed);
        self.seen.enough.store(false, Ordering::Relaxed);
        let sent = self.keys.send(key.to_owned());
        sent.map_err(|_| anyhow::anyhow!("the client of {} ended", self.node))
    }

    /// Until it was let through often enough for the revocation to be seen.
    pub(crate) async fn is_let_through(&self) -> Result<()> {
        let enough = |seen: &Seen| seen.let_through.load(Ordering::Relaxed) >= BEFORE;
        let end = Instant::now() + LET_THROUGH_WITHIN;
        self.until(enough, end, "lets the key through").await
    }

    /// Until it was told a refusal; fails after the time.
    pub(crate) async fn is_refused(&self, until: Instant) -> Result<()> {
        let refused = |seen: &Seen| seen.refused.load(Ordering::Relaxed);
        let what = "refuses the key that was revoked";
        self.until(refused, until, what).await
    }

    async fn until(&self, holds: impl Fn(&Seen) -> bool, end: Instant, what: &str) -> Result<()> {
        while !holds(&self.seen) {
            if let Ok(ended) = self.last.try_recv() {
                ended.with_context(|| format!("at {}", self.node))?;
                bail!("the client of {} stopped by itself", self.node);
            }
            ensure!(Instant::now() < end, "{} never {what}", self.node);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// It stops, and says which was the last request that was let through.
    pub(crate) fn last(&self) -> Result<LetThrough> {
        self.seen.enough.store(true, Ordering::Relaxed);
        let last = self.last.recv_timeout(LET_THROUGH_WITHIN)?;
        last.with_context(|| format!("at {}", self.node))
    }
}

fn hammer(
    runtime: &tokio::runtime::Runtime,
    connection: &mut Connection,
    key: &str,
    refusals: &[&str],
    seen: &Seen,
) -> Result<LetThrough> {
    let mut last = None;
    while !seen.enough.load(Ordering::Relaxed) {
        let began = Instant::now();
        let code = runtime.block_on(connection.verify(key))?;
        let ended = Instant::now();
        if code == "valid" {
            let before = seen.refused.load(Ordering::Relaxed);
            ensure!(!before, "let through after it was refused");
            last = Some((began, ended));
            seen.let_through.fetch_add(1, Ordering::Relaxed);
        } else if refusals.contains(&code.as_str()) {
            seen.refused.store(true, Ordering::Relaxed);
        }
    }
    last.context("never let through")
}

/// Milliseconds from one moment to another; nothing where that came first.
pub(crate) fn after(answered: Instant, moment: Instant) -> f64 {
    moment.saturating_duration_since(answered).as_secs_f64() * 1000.0
}

/// So many revocations, none of which waits for a node's word. Each turn ends when both other nodes were seen to refuse.
///
/// `revoke_other_nodes` is until when requests *began* that were let through: what is promised is that whoever asks later is
/// refused. `revoke_other_nodes_seen` is until when their answers came, which is what a client sees and the most that it can have been.
pub(crate) async fn measure(nodes: &Nodes, admin: &mut Connection, turns: usize) -> Result<()> {
    let clients = [
        Client::start(nodes, 1, &["revoked"])?,
        Client::start(nodes, 2, &["revoked"])?,
    ];
    let (mut began, mut seen) = (Vec::with_capacity(turns), Vec::with_capacity(turns));
    for _ in 0..turns {
        let (id, key) = admin.issue().await?;
        for client in &clients {
            client.ask(&key)?;
        }
        for client in &clients {
            client.is_let_through().await?;
        }
        let path = format!("/api/v1/keys/{id}/revoke?wait_ms=0");
        let (status, answer) = admin.send("POST", &path, None).await?;
        let answered = Instant::now();
        ensure!(status == 200, "{status} {answer}");
        for client in &clients {
            client.is_refused(answered + REFUSED_WITHIN).await?;
        }
        let (mut last_began, mut last_seen) = (0.0_f64, 0.0_f64);
        for client in &clients {
            let (began, ended) = client.last()?;
            last_began = last_began.max(after(answered, began));
            last_seen = last_seen.max(after(answered, ended));
        }
        began.push(last_began);
        seen.push(last_seen);
    }
    nodes.print("revoke_other_nodes", &mut began);
    nodes.print("revoke_other_nodes_seen", &mut seen);
    Ok(())
}
