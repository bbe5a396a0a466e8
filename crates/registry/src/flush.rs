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
        let written = self
            .write(std::sync::Arc::clone(&waiting), |unit, waiting| {
                Box::pin(flush(unit, waiting))
            })
            .await;
        match &written {
            Ok(()) => {}
            Err(RegistryError::CommitUnknown(_)) => self.shared.uses.give_up((*waiting).clone()),
            Err(_) => self.shared.uses.give_back((*waiting).clone()),
        }
        written
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
