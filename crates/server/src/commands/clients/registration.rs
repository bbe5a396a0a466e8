//! `keywright-server clients registration-token`, `registration-tokens`, `end-registration-token`.

use anyhow::Result;
use keywright_domain::audit::Actor;
use keywright_server::new_registration_token;
use serde_json::json;

use crate::commands::installation::Installation;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

#[derive(Debug, clap::Args)]
pub(crate) struct Make {
    #[command(flatten)]
    installation: Installation,
    /// How long it is good.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=30))]
    days: u8,
    /// How many applications may be made with it.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    uses: u16,
    /// What it is for.
    #[arg(long, default_value = "")]
    note: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    installation: Installation,
}

#[derive(Debug, clap::Args)]
pub(crate) struct End {
    #[command(flatten)]
    installation: Installation,
    /// The token's id, as `registration-tokens` shows it.
    #[arg(long)]
    id: String,
}

impl Make {
    pub(super) async fn run(self) -> Result<()> {
        let lifetime = i64::from(self.days) * DAY_MS;
        let (token, new) = new_registration_token(&self.note, lifetime, i64::from(self.uses));
        let (_, registry) = self.installation.open().await?;
        let actor = Actor::person("keywright-server clients registration-token");
        let made = registry.add_registration_token(&actor, &new).await;
        registry.close().await;
        eprintln!("id {}; the token, shown once and stored nowhere:", made?.id);
        println!("{}", token.expose());
        Ok(())
    }
}

impl List {
    pub(super) async fn run(self) -> Result<()> {
        let (_, registry) = self.installation.open().await?;
        let mut cursor: Option<String> = None;
        loop {
            let page = registry
                .list_registration_tokens(cursor.as_deref(), 200)
                .await?;
            for token in page.items {
                let line = json!({
                    "id": token.id,
                    "note": token.note,
                    "made_by": token.made_by,
                    "created_at": token.created_at,
                    "expires_at": token.expires_at,
                    "max_uses": token.max_uses,
                    "uses": token.uses,
                    "ended_at": token.ended_at,
                });
                println!("{line}");
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        registry.close().await;
        Ok(())
    }
}

impl End {
    pub(super) async fn run(self) -> Result<()> {
        let (_, registry) = self.installation.open().await?;
        let actor = Actor::person("keywright-server clients end-registration-token");
        let ended = registry.end_registration_token(&actor, &self.id).await;
        registry.close().await;
        let token = ended?;
        println!("{}", json!({ "id": token.id, "uses": token.uses }));
        Ok(())
    }
}
