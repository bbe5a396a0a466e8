//! A WebDriver server in the session, and the client that talks to it.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::Value;

use super::process::{Part, pause};

/// A program that dies at its start leaves the driver waiting for ever.
const SESSION_LIMIT: Duration = Duration::from_secs(15);

/// A running WebDriver server.
pub(crate) struct Driver {
    part: Part,
    port: u16,
}

impl Driver {
    /// Starts the server; it and what it starts write into `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let port = free_port()?;
        let file = File::options().create(true).append(true).open(log)?;
        command
            .arg(format!("--port={port}"))
            .stdout(file.try_clone()?)
            .stderr(file);
        let part = Part::start(&mut command)?;
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(
                Instant::now() < end,
                "the driver does not start\n{}",
                tail(log)
            );
            pause(10);
        }
        Ok(Self { part, port })
    }

    /// The process group of the server and of what it started.
    pub(crate) fn group(&self) -> u32 {
        self.part.id()
    }

    /// Opens a session; a failure shows what driver and app printed.
    pub(crate) async fn connect(&self, capabilities: Value, log: &Path) -> Result<Client> {
        let Value::Object(capabilities) = capabilities else {
            anyhow::bail!("no object")
        };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities);
        let address = format!("http://127.0.0.1:{}", self.port);
        let session = tokio::time::timeout(SESSION_LIMIT, builder.connect(&address)).await;
        let session = session.with_context(|| format!("no session in time\n{}", tail(log)))?;
        session.with_context(|| format!("no session\n{}", tail(log)))
    }
}

pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The last lines of a file under its name.
pub(crate) fn tail(file: &Path) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines
        .get(lines.len().saturating_sub(25)..)
        .unwrap_or_default();
    format!("--- {}:\n{}", file.display(), last.join("\n"))
}
