//! `keywright-server serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use keywright_registry::Clock;
use keywright_server::settings::{DatabaseAddress, Settings};
use keywright_server::{Server, serve};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::shared::{open_registry, open_secrets, read_settings};
use super::{DataFolder, empty_folder};

#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    folder: DataFolder,
    /// Where requests are taken.
    #[arg(long, env = "KEYWRIGHT_SERVER_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// PostgreSQL in place of the embedded database: `postgres://…`.
    #[arg(
        long,
        env = "KEYWRIGHT_SERVER_DATABASE",
        value_name = "URL",
        hide_env_values = true
    )]
    database: Option<String>,
    /// Certificate (PEM).
    #[arg(
        long,
        env = "KEYWRIGHT_SERVER_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(
        long,
        env = "KEYWRIGHT_SERVER_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,
    /// Settings file in place of `server.toml` in the data folder.
    #[arg(long, env = "KEYWRIGHT_SERVER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Serve {
    pub(crate) async fn run(self) -> Result<()> {
        start_log();
        let data = &self.folder.data;
        if self.config.is_none() && empty_folder::is_empty(data) {
            let database = self.database.clone();
            let other_database = |settings: &mut Settings| {
                settings.database = database.map(DatabaseAddress::new);
            };
            empty_folder::fill(data, self.listen, other_database).await?;
        }
        let mut settings = read_settings(&self.folder.data, self.config.as_deref())?;
        if let Some(listen) = self.listen {
            settings.listen = listen;
        }
        if let Some(database) = self.database {
            settings.database = Some(DatabaseAddress::new(database));
        }
        if let (Some(cert), Some(key)) = (self.tls_cert, self.tls_key) {
            settings.tls = Some((cert, key));
        }
        let settings = settings.check()?;
        let secrets = open_secrets(&settings.data)?;
        let registry = open_registry(&settings).await?;
        let listen = settings.listen;
        let issuer = settings.issuer.as_str().to_owned();
        let server = Server::build(settings, registry, secrets, Clock::system()).await?;
        server.start_background_work();
        let set_up = server.open_set_up().await?;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))?;
        let ready = json!({
            "ready": true,
            "issuer": issuer,
            "listen": listener.local_addr()?.to_string(),
        });
        println!("{ready}");
        if let Some(code) = set_up {
            // For whoever looks at this terminal, and never in the log.
            eprintln!("nobody is here yet: open {issuer}/set-up and enter this code");
            eprintln!("    {}", code.expose());
        }
        let stop = CancellationToken::new();
        stop_on_signal(stop.clone())?;
        serve(&server, listener, stop).await?;
        server.close().await;
        Ok(())
    }
}

/// The log goes to standard error, one JSON object a line; `KEYWRIGHT_SERVER_LOG` says how much.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("KEYWRIGHT_SERVER_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,sqlx=warn"));
    let _ = tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}

fn stop_on_signal(stop: CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("draining");
        stop.cancel();
    });
    Ok(())
}
