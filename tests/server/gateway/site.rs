//! A server with keys, and a small service that stands behind a gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};

use crate::server::harness::{Options, ServerProcess};
use crate::server::log_scan;

/// A service that says what was asked, which key it was told of, and what else reached it that it should not be
/// told by a client.
#[derive(Debug)]
pub(super) struct Service {
    /// Where it is, at 127.0.0.1.
    pub(super) port: u16,
    served: Arc<AtomicUsize>,
}

impl Service {
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let served = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&served);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let mut head = vec![0; 16 * 1024];
                    let length = stream.read(&mut head).await.unwrap_or(0);
                    if length == 0 {
                        return;
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    let text = String::from_utf8_lossy(&head[..length]).to_lowercase();
                    let of_interest = ["authorization", "x-api-key", "x-forwarded-for"];
                    let lines = text.lines().enumerate().filter(|(number, line)| {
                        *number == 0
                            || line.contains("keywright")
                            || of_interest.iter().any(|name| line.starts_with(name))
                    });
                    let lines: Vec<_> = lines.map(|(_, line)| line).collect();
                    let body = lines.join("\n");
                    // What it says of pages is not what its gateway says of them.
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\
                         access-control-allow-origin: *\r\n\r\n{body}",
                        body.len()
                    );
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Ok(Self { port, served })
    }

    /// How many requests got through to it.
    pub(super) fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

/// A key, and what a service is told of it.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) secret: String,
    pub(super) id: String,
    pub(super) kid: String,
    pub(super) owner: String,
}

impl Issued {
    /// The line that presents it.
    pub(super) fn line(&self) -> String {
        format!("X-API-Key: {}", self.secret)
    }
}

/// A server, and the service.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) server: ServerProcess,
    pub(super) service: Service,
}

impl Site {
    /// `settings` are lines for `server.toml`.
    pub(super) async fn start(settings: &'static str) -> Result<Self> {
        let options = Options {
            settings,
            ..Options::default()
        };
        let server = ServerProcess::with(options).await?;
        for (name, low_risk) in [("orders:read", true), ("orders:write", false)] {
            let scope = json!({ "name": name, "low_risk": low_risk });
            manage(&server, "/api/v1/scopes", scope).await?;
        }
        let service = Service::start().await?;
        Ok(Self { server, service })
    }

    /// A key with this scope and these settings.
    pub(super) async fn issue(&self, scope: &str, settings: Value) -> Result<Issued> {
        self.issue_as("sk_live", scope, settings).await
    }

    /// The same of another kind.
    pub(super) async fn issue_as(
        &self,
        prefix: &str,
        scope: &str,
        settings: Value,
    ) -> Result<Issued> {
        let wish = json!({
            "name": "Orders", "prefix": prefix, "scopes": [scope], "settings": settings,
        });
        let issued = manage(&self.server, "/api/v1/keys", wish).await?;
        let secret = text(&issued["secret"])?;
        log_scan::keep_out(&secret);
        let key = &issued["key"];
        Ok(Issued {
            secret,
            id: text(&key["id"])?,
            kid: text(&key["secrets"][0]["kid"])?,
            owner: text(&key["owner"]["id"])?,
        })
    }
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().context("no text")?.to_owned())
}

/// Something that the root key asks of the API.
pub(super) async fn manage(server: &ServerProcess, path: &str, body: Value) -> Result<Value> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let method = match &body {
        Value::Null => reqwest::Method::GET,
        _ if path.ends_with("scopes") => reqwest::Method::PUT,
        _ => reqwest::Method::POST,
    };
    let mut request = client
        .request(method, server.at(path))
        .bearer_auth(&server.root_key);
    if !body.is_null() {
        request = request.json(&body);
    }
    let response = request.send().await?;
    let status = response.status();
    let text = response.text().await?;
    ensure!(status.is_success(), "{path}: {status} {text}");
    Ok(serde_json::from_str(&text)?)
}

/// What a gateway answers to exactly these lines, sent from this address of the loopback: the status, and all of it.
pub(super) async fn raw(
    from: &str,
    port: u16,
    first: &str,
    lines: &[&str],
) -> Result<(u16, String)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(format!("{from}:0").parse()?)?;
    let mut stream = socket.connect(format!("127.0.0.1:{port}").parse()?).await?;
    let own = lines.iter().any(|line| line.starts_with("Connection:"));
    let close = if own { "" } else { "Connection: close\r\n" };
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let request = format!("{first} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{close}{lines}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, stream.read_to_end(&mut answer))
        .await
        .with_context(|| format!("no answer: {first} {lines}"))??;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).unwrap_or("");
    let status = status
        .parse()
        .with_context(|| format!("{first} {lines}: {answer}"))?;
    Ok((status, answer))
}
