//! A certified OpenID provider (npm oidc-provider) as a process of its own.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// The client it knows.
pub(crate) const CLIENT_ID: &str = "keywright-tests";

/// A running provider; it ends with this value.
pub(crate) struct Peer {
    pub(crate) issuer: String,
    process: Child,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    /// Starts a provider; see `openid-provider.mjs` for the settings.
    pub(crate) async fn start(settings: Value) -> Result<Self> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers");
        let mut node = Command::new("node");
        node.current_dir(&folder)
            .arg("openid-provider.mjs")
            .arg(settings.to_string());
        node.stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut process = node.spawn().context("node cannot be started")?;
        let mut lines = BufReader::new(process.stdout.take().context("no output")?).lines();
        let mut complaints = BufReader::new(process.stderr.take().context("no output")?).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = complaints.next_line().await {
                if !line.contains("oidc-provider WARNING") {
                    eprintln!("provider: {line}");
                }
            }
        });
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                if let Some(issuer) = line.strip_prefix("ready ") {
                    return Ok(issuer.to_owned());
                }
            }
            bail!("the provider ended; is `npm ci` done in tests/peers?")
        };
        let issuer = tokio::time::timeout(Duration::from_secs(30), ready).await??;
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                seen.lock().unwrap().push(line);
            }
        });
        Ok(Self {
            issuer,
            process,
            requests,
        })
    }

    /// How many requests it has answered so far that say this, for example `POST /token refresh_token`.
    pub(crate) fn count(&self, request: &str) -> usize {
        self.requests
            .lock()
            .unwrap()
            .iter()
            .filter(|line| line.contains(request))
            .count()
    }

    /// Ends it at once.
    pub(crate) async fn end(&mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }
}
