//! Between a gateway and the server: nginx's connections, which are kept, and how long a gateway waits for a server
//! that stands still.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::checks::Gateway;
use super::site::{Site, raw};
use super::{Nginx, behind_caddy, behind_changed_nginx, behind_nginx, changed};
use crate::support::until;

/// How long a client may wait while the server stands still.
const PATIENCE: Duration = Duration::from_secs(5);

/// A relay before the server that counts connections; it ends with this value.
#[derive(Debug)]
struct Counted {
    address: String,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Counted {
    fn before(server: &str) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?.to_string();
        let connections = Arc::new(AtomicUsize::new(0));
        let (server, count) = (server.to_owned(), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let server = server.clone();
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(server).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Ok(Self {
            address,
            connections,
            task,
        })
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One after the other, they need one connection; a body stays the service's and is nothing that the server reads
/// as its next request.
#[tokio::test]
async fn ac_123_nginx_keeps_its_connections_to_the_server() -> Result<()> {
    const REQUESTS: usize = 100;
    let mut relay = None;
    let (mut site, gateway, _nginx, _folder) = behind_changed_nginx("", |server, page| {
        let counted = Counted::before(server.listen())?;
        let http = changed(&page.http, server.listen(), &counted.address)?;
        relay = Some(counted);
        Ok(Nginx { http, ..page })
    })
    .await?;
    let relay = relay.context("no relay")?;
    let key = site.issue("orders:read", json!({})).await?.line();
    let next = "GET /verify HTTP/1.1\r\nHost: x\r\n\r\n";
    let plain = format!("Content-Length: {}\r\n\r\n{next}", next.len());
    let chunked = format!(
        "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{next}\r\n0\r\n",
        next.len()
    );
    let ask = async |first: &str, more: &str| {
        let lines = [key.as_str(), more];
        let lines = if more.is_empty() {
            &lines[..1]
        } else {
            &lines[..]
        };
        raw("127.0.0.1", gateway.port, first, lines).await
    };
    for number in 0..REQUESTS {
        let (status, answer) = match number % 4 {
            0 => ask("POST /orders", &plain).await?,
            1 => ask("POST /orders", &chunked).await?,
            _ => ask("GET /orders", "").await?,
        };
        ensure!(status == 200, "{number}: {answer}");
    }
    ensure!(site.service.served() == REQUESTS);
    let made = relay.connections();
    ensure!(
        made == 1,
        "{made} connections for {REQUESTS} requests, one after the other"
    );
    // Those that are kept end with a restart, and nobody notices.
    site.server.signal("TERM")?;
    ensure!(site.server.ended().await?);
    site.server.serve().await?;
    for number in 0..10 {
        let (status, answer) = ask("GET /orders", "").await?;
        ensure!(status == 200, "{number} after a restart: {answer}");
    }
    ensure!(relay.connections() == 2, "{}", relay.connections());
    Ok(())
}

/// Whether no thread of the server runs any more: the signal is on its way for a moment.
fn stands_still(site: &Site) -> Result<bool> {
    let threads = std::fs::read_dir(format!("/proc/{}/task", site.server.id()?))?;
    for thread in threads {
        let status = std::fs::read_to_string(thread?.path().join("status"))?;
        if !status.contains("State:\tT") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Nobody gets through, nobody waits for long, and all is as before once it goes on.
pub(super) async fn refuses_while_the_server_stands_still(
    site: &Site,
    gateway: &Gateway,
    refusal: u16,
) -> Result<()> {
    let key = site.issue("orders:read", json!({})).await?.line();
    let ask = async || raw("127.0.0.1", gateway.port, "GET /orders", &[&key]).await;
    let (status, answer) = ask().await?;
    ensure!(status == 200, "{answer}");
    site.server.signal("STOP")?;
    until("it stands still", async || {
        stands_still(site).ok()?.then_some(())
    })
    .await?;
    let asked = Instant::now();
    let slow = ask().await;
    let waited = asked.elapsed();
    site.server.signal("CONT")?;
    let (status, answer) = slow?;
    ensure!(status == refusal, "{answer}");
    ensure!(waited < PATIENCE, "it waited for {waited:?}");
    ensure!(
        site.service.served() == 1,
        "it got through without an answer"
    );
    let (status, answer) = ask().await?;
    ensure!(status == 200, "{answer}");
    Ok(())
}

#[tokio::test]
async fn ac_132_ac_204_nginx_refuses_while_the_server_stands_still() -> Result<()> {
    let (site, gateway, _nginx, _folder) = behind_nginx("").await?;
    refuses_while_the_server_stands_still(&site, &gateway, 503).await
}

#[tokio::test]
async fn ac_132_ac_204_caddy_refuses_while_the_server_stands_still() -> Result<()> {
    let (site, gateway, _caddy, _folder) = behind_caddy("").await?;
    refuses_while_the_server_stands_still(&site, &gateway, 504).await
}
