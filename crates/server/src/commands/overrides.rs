//! What a server is told beside its file, by environment and flags. `serve` takes it, and so does every
//! command that says something about the server: one that knew the file alone would look at another server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use ipnet::IpNet;
use keywright_server::settings::{DatabaseAddress, Settings, collector};

use super::installation::address;

/// Settings above the file's.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Overrides {
    /// Where requests are taken.
    #[arg(long, env = "KEYWRIGHT_SERVER_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Certificate (PEM): with it the server speaks TLS.
    #[arg(long, env = "KEYWRIGHT_SERVER_TLS_CERT", value_name = "FILE")]
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
        hide_env_values = true,
        value_parser = address
    )]
    redis_url: Option<DatabaseAddress>,
}

impl Overrides {
    /// Where requests are taken, if it was said.
    pub(crate) fn listen(&self) -> Option<SocketAddr> {
        self.listen
    }

    /// The file's settings with these above them; not yet checked.
    ///
    /// # Errors
    /// For an address that is none.
    pub(crate) fn over(&self, mut settings: Settings) -> Result<Settings> {
        settings.listen = self.listen.unwrap_or(settings.listen);
        if let Some(cert) = &self.tls_cert {
            // Without its key it is refused where it is checked; whoever only asks a server needs none.
            let key = self.tls_key.clone().unwrap_or_default();
            settings.tls = Some((cert.clone(), key));
        }
        if !self.trusted_proxies.is_empty() {
            settings.trusted_proxies.clone_from(&self.trusted_proxies);
        }
        settings.metrics_listen = self.metrics_listen.or(settings.metrics_listen);
        if let Some(endpoint) = &self.otlp_endpoint {
            settings.otlp_endpoint = Some(collector(endpoint)?);
        }
        if let Some(format) = &self.log_format {
            settings.log_json = format == "json";
        }
        settings.drain = self.drain_s.map_or(settings.drain, Duration::from_secs);
        settings.drain_notice = self
            .drain_notice_s
            .map_or(settings.drain_notice, Duration::from_secs);
        if let Some(name) = &self.node_name {
            settings.node_name.clone_from(name);
        }
        if let Some(redis) = &self.redis_url {
            settings.redis_url = Some(redis.clone());
        }
        Ok(settings)
    }
}
