//! `keywright-server serve`.

use std::io::ErrorKind;
use std::net::SocketAddr;

use anyhow::{Result, anyhow};
use keywright_registry::{Clock, LocalRegistry};
use keywright_server::settings::Settings;
use keywright_server::{BUILD, Server, serve, serve_machines};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::empty_folder;
use super::installation::Installation;
use super::overrides::Overrides;
use super::shared::{open_or_make, open_secrets};

#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    installation: Installation,
    #[command(flatten)]
    overrides: Overrides,
}

impl Serve {
    /// The file's settings, then the environment's and the flags'.
    fn settings(&self) -> Result<Settings> {
        let settings = self.installation.settings()?;
        Ok(self.overrides.over(settings)?.check()?)
    }

    pub(crate) async fn run(self) -> Result<()> {
        // First of all: a start may wait for a database, or copy a large one. Signals that nobody listens to end the
        // process (and a manager that asked for a reload would take that for a good end), or, where it is a
        // container's first, are not heard at all.
        let stop = CancellationToken::new();
        stop_on_signal(stop.clone())?;
        // A hangup is dropped until there is something to read again: what it is about has not been read yet.
        let _hangup = signal(SignalKind::hangup())?;
        let started = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            started = self.start() => started?,
        };
        serve(&started.server, started.listener, stop).await?;
        started.end.cancel();
        started.server.close().await;
        tracing::info!(version = BUILD, "ended");
        Ok(())
    }

    /// Everything up to the line that says that requests are taken.
    async fn start(&self) -> Result<Started> {
        let installation = &self.installation;
        let data = installation.data();
        installation.check_owner()?;
        if !installation.has_own_file() && empty_folder::is_empty(data) {
            empty_folder::fill(data, self.overrides.listen(), installation.address()).await?;
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
        let listener = bind(listen, "").await?;
        // It outlives the drain: who watches sees it to the end.
        let end = CancellationToken::new();
        if let Some(address) = machines {
            let listener = bind(address, " for metrics").await?;
            let (server, end) = (server.clone(), end.clone());
            tokio::spawn(async move { serve_machines(&server, listener, end).await });
        }
        let ready = json!({
            "ready": true,
            "issuer": issuer,
            "listen": listener.local_addr()?.to_string(),
        });
        println!("{ready}");
        say_what_serves(&server, listener.local_addr()?);
        if let Some(code) = set_up {
            // For whoever looks at this terminal, and never in the log.
            eprintln!("nobody is here yet: open {issuer}/set-up and enter this code");
            eprintln!("    {}", code.expose());
        }
        Ok(Started {
            server,
            listener,
            end,
        })
    }
}

/// The log's first line of a start: what runs, where, and over which database.
fn say_what_serves(server: &Server, listen: SocketAddr) {
    let settings = server.settings();
    let database = match settings.database {
        Some(_) => "postgresql",
        None => "sqlite",
    };
    tracing::info!(
        version = BUILD,
        node = settings.node_name,
        database,
        schema = LocalRegistry::newest_schema(),
        %listen,
        issuer = settings.issuer.as_str(),
        "serving"
    );
}

/// A server that takes requests as soon as somebody accepts them.
struct Started {
    server: Server,
    listener: TcpListener,
    /// Ends the listener for metrics.
    end: CancellationToken,
}

async fn bind(address: SocketAddr, what: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = hint(address, error.kind());
        anyhow!("cannot listen on {address}{what}: {error}{hint}")
    })
}

/// What to do about an address that cannot be listened on.
fn hint(address: SocketAddr, why: ErrorKind) -> &'static str {
    match why {
        ErrorKind::PermissionDenied if address.port() < 1024 => {
            ". Ports below 1024 need a permission: CAP_NET_BIND_SERVICE, as in \"https and proxies\" of the guide \
             \"Running the server\", or a proxy in front"
        }
        ErrorKind::AddrInUse => ". Another program listens there: end it, or name another port",
        _ => "",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_listen_on_a_low_port_is_told_what_it_takes() {
        let at = |port| SocketAddr::from(([0, 0, 0, 0], port));
        let denied = ErrorKind::PermissionDenied;
        assert!(hint(at(443), denied).contains("CAP_NET_BIND_SERVICE"));
        assert_eq!(hint(at(8377), denied), "");
        assert!(hint(at(443), ErrorKind::AddrInUse).contains("another port"));
    }
}
