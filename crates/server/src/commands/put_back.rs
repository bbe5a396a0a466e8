//! `keywright-server put-back`.

use anyhow::{Result, bail};
use keywright_domain::audit::Actor;
use serde_json::json;

use super::installation::Installation;

/// Says that the PostgreSQL database was put back from a backup (`pg_restore`), before anything serves
/// from it: changes are numbered past all that was known before, and refresh families end, because a
/// refresh token that was used after the backup is unused in it. For the embedded database `restore`
/// does it.
#[derive(Debug, clap::Args)]
pub(crate) struct PutBack {
    #[command(flatten)]
    installation: Installation,
    /// Keeps refresh families: nothing was served between the backup and now.
    #[arg(long)]
    keep_families: bool,
}

impl PutBack {
    pub(crate) async fn run(self) -> Result<()> {
        let settings = self.installation.settings()?;
        if settings.database.is_none() {
            bail!("the database is embedded: `keywright-server restore` does all that is needed");
        }
        let registry = self.installation.open_as(&settings).await?;
        let actor = Actor::person("keywright-server put-back");
        let marked = async {
            let live = registry.mark_put_back(&actor).await?;
            let families = match self.keep_families {
                true => 0,
                false => registry.end_refresh_families(&actor).await?,
            };
            anyhow::Ok((live, families))
        };
        let marked = marked.await;
        registry.close().await;
        let (live_secrets, families) = marked?;
        eprintln!(
            "what was ended after the backup was made works again: look at the activity log of before, and end it again"
        );
        println!(
            "{}",
            json!({ "live_secrets": live_secrets, "families_ended": families })
        );
        Ok(())
    }
}
