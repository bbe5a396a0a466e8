//! `keywright-server put-back`.

use anyhow::Result;
use keywright_domain::audit::Actor;
use serde_json::json;

use super::installation::Installation;

/// Says that the database was put back, PostgreSQL's from its backup (`pg_restore`) or the embedded one from
/// a snapshot of the folder, before anything serves from it: changes are numbered past all that was known
/// before, and refresh families end, because a refresh token that was used after the backup is unused in it.
/// `restore` does it by itself. What was ended after the backup works again, until `end-again` ends it.
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
            "what was ended after the backup was made works again: end it again with `keywright-server end-again` before you serve"
        );
        println!(
            "{}",
            json!({ "live_secrets": live_secrets, "families_ended": families })
        );
        Ok(())
    }
}
