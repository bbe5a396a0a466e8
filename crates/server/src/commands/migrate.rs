//! `keywright-server migrate`.

use anyhow::Result;
use keywright_registry::{LocalRegistry, RegistryError};
use serde_json::json;

use super::installation::Installation;
use super::shared::place;

/// Brings the database to the schema of this program. The embedded database is copied first, beside
/// itself; PostgreSQL's backups are whoever runs it's.
#[derive(Debug, clap::Args)]
pub(crate) struct Migrate {
    #[command(flatten)]
    installation: Installation,
}

impl Migrate {
    pub(crate) async fn run(self) -> Result<()> {
        let (before, after) = migrate(&self.installation).await?;
        println!("{}", json!({ "before": before, "after": after }));
        Ok(())
    }
}

async fn migrate(installation: &Installation) -> Result<(Option<i64>, i64)> {
    installation.check_owner()?;
    let settings = installation.settings()?;
    installation.check(&settings)?;
    let before = LocalRegistry::stored_schema(&place(&settings)).await?;
    let known = LocalRegistry::newest_schema();
    if let Some(found) = before.filter(|found| *found > known) {
        return Err(RegistryError::SchemaTooNew { found, known }.into());
    }
    let registry = installation.open_as(&settings).await?;
    let after = registry.schema_version().await;
    registry.close().await;
    Ok((before, after?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::shared::tests::set_up_folder;

    #[tokio::test]
    async fn a_current_database_stays_and_says_so() {
        let folder = set_up_folder().await;
        let installation = Installation::of(folder.path());
        let newest = LocalRegistry::newest_schema();
        assert_eq!(
            migrate(&installation).await.unwrap(),
            (Some(newest), newest)
        );
    }
}
