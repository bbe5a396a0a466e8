//! `keywright-server serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use keywright_registry::Clock;
use keywright_server::settings::{DatabaseAddress, Settings, collector};
use keywright_server::{Server, serve, serve_machines};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::empty_folder;
use super::installation::Installation;
use super::shared::{open_or_make, open_secrets};

#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    installation: Installation,
    /// Where requests are taken.
    #[arg(long, env = "KEYWRIGHT_SERVER_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
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
    /// A network of proxies whose `X-Forwarded-For` counts; may be repeated.
    #[arg(
        long = "trusted-proxy",
        env = "KEYWRIGHT_SERVER_TRUSTED_PROXIES",
        value_name = "NETWORK",
        value_delimiter = ','
    )]
    trusted_proxies: Vec<IpNet>,
    /// A listener for metrics and probes alone.
    #[arg(long, env = "KEYWRIGHT_SERVER_METRICS_LISTEN", value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    /// A collector of traces (OTLP over HTTP).
    #[arg(long, env = "KEYWRIGHT_SERVER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// `json` or `text`.
    #[arg(long, env = "KEYWRIGHT_SERVER_LOG_FORMAT", value_name = "FORMAT", value_parser = ["json", "text"])]
    log_format: Option<String>,
    /// How long requests in progress are waited for at the end, in seconds.
    #[arg(long, env = "KEYWRIGHT_SERVER_DRAIN_S", value_name = "SECONDS")]
    drain_s: Option<u64>,
    /// How long readiness says no before connections are refused, in seconds.
    #[arg(long, env = "KEYWRIGHT_SERVER_DRAIN_NOTICE_S", value_name = "SECONDS")]
    drain_notice_s: Option<u64>,
    /// What this process is called among several over one database.
    #[arg(long, env = "KEYWRIGHT_SERVER_NODE_NAME", value_name = "NAME")]
    node_name: Option<String>,
    /// A Redis that counts rate limits for all nodes: `redis://…`.
    #[arg(
        long,
        env = "KEYWRIGHT_SERVER_REDIS_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    redis_url: Option<String>,
}

impl Serve {
    /// The file's settings, then the environment's and the flags'.
    fn settings(self) -> Result<Settings> {
        let mut settings = self.installation.settings()?;
        settings.listen = self.listen.unwrap_or(settings.listen);
        if let (Some(cert), Some(key)) = (self.tls_cert, self.tls_key) {
            settings.tls = Some((cert, key));
        }
        if !self.trusted_proxies.is_empty() {
            settings.trusted_proxies = self.trusted_proxies;
        }
        settings.metrics_listen = self.metrics_listen.or(settings.metrics_listen);
        if let Some(endpoint) = &self.otlp_endpoint {
            settings.otlp_endpoint = Some(collector(endpoint)?);
        }
        settings.log_json = self
            .log_format
            .map_or(settings.log_json, |format| format == "json");
        settings.drain = self.drain_s.map_or(settings.drain, Duration::from_secs);
        settings.drain_notice = self
            .drain_notice_s
            .map_or(settings.drain_notice, Duration::from_secs);
        settings.node_name = self.node_name.unwrap_or(settings.node_name);
        if let Some(redis) = self.redis_url {
            settings.redis_url = Some(DatabaseAddress::new(redis));
        }
        Ok(settings.check()?)
    }

    pub(crate) async fn run(self) -> Result<()> {
        let installation = self.installation.clone();
        let data = installation.data();
        if !installation.has_own_file() && empty_folder::is_empty(data) {
            empty_folder::fill(data, self.listen, installation.address()).await?;
        }
        let settings = self.settings()?;
        installation.check_serving(&settings)?;
        start_log(settings.log_json);
        let secrets = open_secrets(&settings.data)?;
        let registry = open_or_make(&settings).await?;
        installation.remember(&settings);
        let (listen, machines) = (settings.listen, settings.metrics_listen);
        let issuer = settings.issuer.as_str().to_owned();
        let server = Server::build(settings, registry, secrets, Clock::system()).await?;
        server.start_background_work();
        let set_up = server.open_set_up().await?;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))?;
        // It outlives the drain: who watches sees it to the end.
        let end = CancellationToken::new();
        if let Some(address) = machines {
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("cannot listen on {address} for metrics"))?;
            let (server, end) = (server.clone(), end.clone());
            tokio::spawn(async move { serve_machines(&server, listener, end).await });
        }
        // Before it says that it is there: whoever read that may end it, and it ends well.
        let stop = CancellationToken::new();
        stop_on_signal(stop.clone())?;
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
        serve(&server, listener, stop).await?;
        end.cancel();
        server.close().await;
        Ok(())
    }
}

/// The log goes to standard error; `KEYWRIGHT_SERVER_LOG` says how much.
fn start_log(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("KEYWRIGHT_SERVER_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,sqlx=warn"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let _ = if json {
        log.json().try_init()
    } else {
        log.try_init()
    };
    // What a panic says may hold anything. Where it was is enough to find it.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place = place.as_deref().unwrap_or("unknown"), "panic");
    }));
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
