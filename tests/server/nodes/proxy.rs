//! A relay between nodes and their database, as a balancer in front of PostgreSQL is one: it can lead
//! elsewhere, it can be slow, and it can fall silent. Slow is what a far or crowded network is: every
//! byte comes later, in either direction, and none is lost. Silence is what a cut network is for TCP: nothing arrives, nothing
//! is refused, nobody is told. Connections that it came over stay dead afterwards, as behind a firewall
//! that forgot them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How a connection that listens for other nodes' changes calls itself.
const FEED: &[u8] = b"keywright listen";

/// What does not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Everything does.
    Nothing,
    /// The feed of changes.
    Feed,
    /// Everything.
    All,
}

#[derive(Debug)]
struct Relay {
    cut: watch::Sender<Cut>,
    port: AtomicU16,
    /// How much later each byte arrives (ms).
    later_ms: AtomicU64,
    silenced: AtomicUsize,
}

/// A relay; its connections end with this value.
#[derive(Debug)]
pub(super) struct Proxy {
    own: u16,
    relay: Arc<Relay>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Leads to a port of this machine.
    pub(super) async fn to(port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let own = listener.local_addr()?.port();
        let relay = Arc::new(Relay {
            cut: watch::Sender::new(Cut::Nothing),
            port: AtomicU16::new(port),
            later_ms: AtomicU64::new(0),
            silenced: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&relay);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(carry(Arc::clone(&shared), client));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { own, relay, task })
    }

    pub(super) fn port(&self) -> u16 {
        self.own
    }

    /// The same address by way of this relay.
    pub(super) fn before(&self, url: &str) -> Result<String> {
        let mut url = url::Url::parse(url)?;
        let _ = url.set_port(Some(self.own));
        Ok(url.into())
    }

    pub(super) fn cut(&self, what: Cut) {
        self.relay.cut.send_replace(what);
    }

    /// From now on each byte arrives so much later, in either direction.
    pub(super) fn delay(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.relay.later_ms.store(by, Ordering::Relaxed);
    }

    /// New connections lead elsewhere.
    pub(super) fn lead_to(&self, port: u16) {
        self.relay.port.store(port, Ordering::Relaxed);
    }

    /// How many connections fell silent so far.
    pub(super) fn silenced(&self) -> usize {
        self.relay.silenced.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Bytes on their way, with when they arrive.
#[derive(Debug, Default)]
struct OnTheWay(VecDeque<(Instant, Vec<u8>)>);

impl OnTheWay {
    fn send(&mut self, relay: &Relay, bytes: &[u8]) {
        let later = Duration::from_millis(relay.later_ms.load(Ordering::Relaxed));
        // In their order, also when it becomes faster.
        let before = self.0.back().map(|(at, _)| *at);
        let at = (Instant::now() + later).max(before.unwrap_or_else(Instant::now));
        self.0.push_back((at, bytes.to_vec()));
    }

    /// Waits until something arrives; for ever where nothing is on its way.
    async fn arrived(&self) {
        match self.0.front() {
            Some((at, _)) => tokio::time::sleep_until(*at).await,
            None => std::future::pending().await,
        }
    }

    fn take(&mut self) -> Vec<u8> {
        self.0
            .pop_front()
            .map(|(_, bytes)| bytes)
            .unwrap_or_default()
    }
}

async fn carry(relay: Arc<Relay>, mut client: TcpStream) {
    let mut cut = relay.cut.subscribe();
    let mut is_feed = false;
    let is_cut = |what: Cut, is_feed: bool| what == Cut::All || (what == Cut::Feed && is_feed);
    let mut server = None;
    if !is_cut(*cut.borrow(), false) {
        let port = relay.port.load(Ordering::Relaxed);
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(stream) => server = Some(stream),
            Err(_) => return,
        }
    }
    let (mut up, mut down) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    // How the client calls itself stands in its first words.
    let mut first = Vec::new();
    if let Some(server) = &mut server {
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (mut to_server, mut to_client) = (OnTheWay::default(), OnTheWay::default());
        while !is_cut(*cut.borrow_and_update(), is_feed) {
            tokio::select! {
                _ = cut.changed() => {}
                read = client.read(&mut up) => {
                    let Ok(length @ 1..) = read else { return };
                    if first.len() < 1024 {
                        first.extend_from_slice(&up[..length]);
                        is_feed = first.windows(FEED.len()).any(|part| part == FEED);
                        if is_cut(*cut.borrow(), is_feed) {
                            break;
                        }
                    }
                    to_server.send(&relay, &up[..length]);
                }
                () = to_server.arrived() => {
                    if server.write_all(&to_server.take()).await.is_err() {
                        return;
                    }
                }
                read = server.read(&mut down) => {
                    let Ok(length @ 1..) = read else { return };
                    to_client.send(&relay, &down[..length]);
                }
                () = to_client.arrived() => {
                    if client.write_all(&to_client.take()).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
    relay.silenced.fetch_add(1, Ordering::Relaxed);
    // Both ends stay open, and hear nothing any more.
    std::future::pending::<()>().await;
}
