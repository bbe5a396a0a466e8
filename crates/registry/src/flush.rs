//! Writes what verifications left in memory, every 800 ms and at the end.

use crate::uses::{UseStatistics, Waiting};
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, rotation, store};

impl LocalRegistry {
    /// Writes the uses that wait in memory.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written; the uses wait on. After
    /// [`RegistryError::CommitUnknown`] they are given up: a use is never counted twice. First uses
    /// and alerts wait on even then.
    pub async fn flush_uses(&self) -> Result<(), RegistryError> {
        let waiting = std::sync::Arc::new(self.shared.uses.take());
        if waiting.is_empty() {
            return Ok(());
        }
        // A task of its own: what was taken is put back where it cannot be written, whether or not
        // whoever asked still waits.
        let registry = self.clone();
        let written = tokio::spawn(async move {
            let uses = &registry.shared.uses;
            let written = registry
                .write(std::sync::Arc::clone(&waiting), |unit, waiting| {
                    Box::pin(flush(unit, waiting))
                })
                .await;
            match &written {
                Ok(()) => {}
                Err(RegistryError::CommitUnknown(_)) => uses.give_up((*waiting).clone()),
                Err(_) => uses.give_back((*waiting).clone()),
            }
            written
        });
        written
            .await
            .map_err(|error| RegistryError::Store(error.to_string()))?
    }

    /// Uses that wait for the next flush, and those that found no place.
    #[must_use]
    pub fn use_statistics(&self) -> UseStatistics {
        self.shared.uses.statistics()
    }
}

async fn flush(unit: &mut Unit, waiting: &Waiting) -> Result<(), RegistryError> {
    for (kid, at) in &waiting.first_uses {
        rotation::first_use(unit, kid, *at).await?;
    }
    store::uses::add(unit.write_beside(), &waiting.uses).await?;
    store::uses::add_alerts(unit.write_beside(), &waiting.alerts).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use keywright_index::PackedKid;
    use sqlx::{AnyConnection, Connection as _};

    use crate::uses::Caller;
    use crate::{Clock, LocalRegistry};

    #[tokio::test]
    async fn uses_are_put_back_although_nobody_waits_for_them() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("registry.db");
        let registry = LocalRegistry::open(&file, Clock::from_fn(|| 1_800_000_000_000)).await?;
        let mut stranger = AnyConnection::connect(&format!("sqlite://{}", file.display())).await?;
        sqlx::raw_sql("ALTER TABLE use_rollups RENAME TO elsewhere")
            .execute(&mut stranger)
            .await?;
        let kid = PackedKid::parse("AAAAAAAAAAAA").unwrap();
        let uses = &registry.shared.uses;
        uses.record(kid, &Caller::default(), "", 5);
        // Whoever asked goes away after it was taken, before it could be written.
        tokio::select! {
            biased;
            _ = registry.flush_uses() => anyhow::bail!("it had no turn yet"),
            () = std::future::ready(()) => {}
        }
        for _ in 0..1000 {
            if registry.use_statistics().waiting == 1 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::bail!("the use is lost");
    }
}
