//! `keywright-server serve`.

use anyhow::{Context as _, Result};
use keywright_registry::Clock;
use keywright_server::settings::Settings;
use keywright_server::{Server, serve, serve_machines};
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
        let installation = self.installation.clone();
        let data = installation.data();
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
