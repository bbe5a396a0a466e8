//! Traces of a server as a process: a collector of a few lines takes OTLP over HTTP, and gets what is
//! left when the server is told to end. The real collector is not in Debian.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::harness::ServerProcess;

type Bodies = Arc<Mutex<Vec<Value>>>;

async fn take(stream: TcpStream, bodies: Bodies) -> Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut length, mut line) = (String::new(), 0, String::new());
        if stream.read_line(&mut first).await? == 0 {
            return Ok(());
        }
        while stream.read_line(&mut line).await? > 2 {
            let header = line.to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            line.clear();
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        ensure!(first.starts_with("POST /v1/traces "), "{first}");
        bodies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(serde_json::from_slice(&body)?);
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        stream.write_all(answer.as_bytes()).await?;
    }
}

#[tokio::test]
async fn ac_202_traces_are_sent_until_the_end_and_tell_no_secrets() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let bodies = Bodies::default();
    tokio::spawn({
        let bodies = Arc::clone(&bodies);
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(take(stream, Arc::clone(&bodies)));
            }
        }
    });
    let mut server = ServerProcess::start().await?;
    server.signal("TERM")?;
    ensure!(server.ended().await?);
    let file = server.data().join("server.toml");
    let settings = std::fs::read_to_string(&file)?;
    let table = format!("\n[telemetry]\notlp_endpoint = \"{endpoint}\"\n");
    std::fs::write(&file, settings + &table)?;
    server.serve().await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = client
        .get(server.at("/oauth2/userinfo?access_token=canary-query"))
        .header("traceparent", parent)
        .bearer_auth("canary-token")
        .send()
        .await?;
    let id = answer
        .headers()
        .get("x-request-id")
        .context("no id")?
        .clone();
    server.signal("TERM")?;
    ensure!(server.ended().await?, "{}", server.logged());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let bodies = bodies
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let spans: Vec<&Value> = bodies
        .iter()
        .filter_map(|body| body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array())
        .flatten()
        .collect();
    let ours = spans.iter().find(|span| span["traceId"] == parent[3..35]);
    let ours = ours.with_context(|| format!("it was not flushed: {spans:?}"))?;
    ensure!(ours["name"] == "GET /oauth2/userinfo", "{ours}");
    ensure!(ours.to_string().contains(id.to_str()?), "{ours}");
    let all = serde_json::to_string(&bodies)?;
    ensure!(!all.contains("canary"), "{all}");
    // The log names the trace too, so that one leads to the other.
    ensure!(
        server.logged().contains(&parent[3..35]),
        "{}",
        server.logged()
    );
    Ok(())
}
