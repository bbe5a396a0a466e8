//! `keywright-server clients disable`, `enable`, `revoke-tokens`, `remove`. Servers that run follow
//! within a second.

use anyhow::{Result, bail};
use keywright_domain::audit::Actor;
use keywright_server::{BROWSER_CLIENT, DESKTOP_CLIENT};
use serde_json::json;

use crate::commands::installation::Installation;

#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    #[command(flatten)]
    installation: Installation,
    /// `client_id`.
    #[arg(long)]
    id: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Disable {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Enable {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RevokeTokens {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    which: Which,
}

fn tell(id: &str, grants: usize) {
    println!("{}", json!({ "client_id": id, "grants_revoked": grants }));
}

impl Disable {
    pub(super) async fn run(self) -> Result<()> {
        let (_, registry) = self.which.installation.open().await?;
        let actor = Actor::person("keywright-server clients disable");
        let done = registry.disable_client(&actor, &self.which.id).await;
        registry.close().await;
        tell(&self.which.id, done?);
        Ok(())
    }
}

impl Enable {
    pub(super) async fn run(self) -> Result<()> {
        let (_, registry) = self.which.installation.open().await?;
        let actor = Actor::person("keywright-server clients enable");
        let done = registry.enable_client(&actor, &self.which.id).await;
        registry.close().await;
        done?;
        println!("{}", json!({ "client_id": self.which.id }));
        Ok(())
    }
}

impl RevokeTokens {
    pub(super) async fn run(self) -> Result<()> {
        let (_, registry) = self.which.installation.open().await?;
        let actor = Actor::person("keywright-server clients revoke-tokens");
        let done = registry.end_client_tokens(&actor, &self.which.id).await;
        registry.close().await;
        tell(&self.which.id, done?);
        Ok(())
    }
}

impl Remove {
    pub(super) async fn run(self) -> Result<()> {
        let id = &self.which.id;
        if id == BROWSER_CLIENT || id == DESKTOP_CLIENT {
            bail!("this client came with the server: `clients disable` it");
        }
        let (_, registry) = self.which.installation.open().await?;
        let actor = Actor::person("keywright-server clients remove");
        let done = registry.remove_client(&actor, id).await;
        registry.close().await;
        tell(id, done?);
        Ok(())
    }
}
