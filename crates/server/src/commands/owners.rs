//! `keywright-server owners`: services and teams that keys belong to.

use anyhow::{Result, bail};
use keywright_domain::api_keys::{Owner, OwnerKind};
use keywright_domain::audit::Actor;
use keywright_domain::people::Email;
use keywright_registry::{NewOwner, Principal};
use serde_json::{Value, json};

use super::installation::Installation;

/// Owners that are read at a time.
const PAGE: u32 = 200;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Owners {
    /// Adds a service or a team, to which keys can be issued then.
    Add(Add),
    /// Lists services and teams, one JSON object a line.
    List(List),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    #[command(flatten)]
    installation: Installation,
    /// `service` or `team`.
    #[arg(long, default_value = "service")]
    kind: String,
    /// Its id, for good: 1 to 64 letters, digits, `.`, `-` and `_`, the first a letter or a digit.
    #[arg(long)]
    id: String,
    /// Shown to people; the id if it is left out.
    #[arg(long)]
    name: Option<String>,
    /// Where notices about its keys go; to administrators if it is left out.
    #[arg(long)]
    email: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    installation: Installation,
}

impl Owners {
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Add(add) => add.run().await,
            Self::List(list) => list.run().await,
        }
    }
}

impl Add {
    async fn run(self) -> Result<()> {
        let kind = match OwnerKind::parse(&self.kind) {
            Some(kind @ (OwnerKind::Service | OwnerKind::Team)) => kind,
            _ => bail!("--kind is service or team; people are added by `users add`"),
        };
        let new = NewOwner {
            owner: Owner::to_be_made(kind, &self.id)?,
            name: self.name.unwrap_or_else(|| self.id.clone()),
            email: self.email.as_deref().map(Email::new).transpose()?,
        };
        let (_, registry) = self.installation.open().await?;
        let actor = Actor::person("keywright-server owners add");
        let added = registry.create_owner(&actor, &new).await;
        registry.close().await;
        println!("{}", line(&added?));
        Ok(())
    }
}

impl List {
    async fn run(self) -> Result<()> {
        let (_, registry) = self.installation.open().await?;
        for kind in [OwnerKind::Service, OwnerKind::Team] {
            let mut after = String::new();
            loop {
                let page = registry.list_principals(Some(kind), &after, PAGE).await?;
                let Some(last) = page.last() else { break };
                after.clone_from(&last.id);
                for owner in &page {
                    println!("{}", line(owner));
                }
            }
        }
        registry.close().await;
        Ok(())
    }
}

fn line(owner: &Principal) -> Value {
    json!({
        "kind": owner.kind.as_str(),
        "id": owner.id,
        "name": owner.name,
        "email": owner.email.as_ref().map(Email::as_str),
        "disabled": owner.disabled_at.is_some(),
    })
}
