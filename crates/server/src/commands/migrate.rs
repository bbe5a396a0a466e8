//! `keywright-server migrate`.

use anyhow::Result;
use keywright_registry::{LocalRegistry, RegistryError};
use keywright_server::settings::Settings;
use serde_json::json;

use super::DataFolder;
use super::shared::{open_registry, place, read_settings};

/// Brings the database to the schema of this program. The embedded database is copied first, beside
/// itself; PostgreSQL's backups are whoever runs it's.
#[derive(Debug, clap::Args)]
pub(crate) struct Migrate {
    #[command(flatten)]
    folder: DataFolder,
}

impl Migrate {
    pub(crate) async fn run(self) -> Result<()> {
        let settings = read_settings(&self.folder.data, None)?;
        let (before, after) = migrate(&settings).await?;
        println!("{}", json!({ "before": before, "after": after }));
        Ok(())
    }
}

async fn migrate(settings: &Settings) -> Result<(Option<i64>, i64)> {
    let before = LocalRegistry::stored_schema(&place(settings)).await?;
    let known = LocalRegistry::newest_schema();
    if let Some(found) = before.filter(|found| *found > known) {
        return Err(RegistryError::SchemaTooNew { found, known }.into());
    }
    let registry = open_registry(settings).await?;
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
        let settings = read_settings(folder.path(), None).unwrap();
        let newest = LocalRegistry::newest_schema();
        assert_eq!(migrate(&settings).await.unwrap(), (Some(newest), newest));
    }
}
