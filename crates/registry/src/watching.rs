//! What whoever looks after a server wants to see of its registry. It is asked for again and again beside
//! everything else, so each reading is bounded, however many keys there are.

use std::time::Duration;

use crate::{LocalRegistry, RegistryError, store};

/// Nobody needs to know of more: something must be done by then.
const COUNTED: i64 = 1000;

/// What waits for somebody. Each is counted up to a thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Scheduled rotations that were due before a moment and were not made.
    pub schedules: i64,
    /// Webhooks that are switched off.
    pub webhooks_off: i64,
    /// Webhooks that are on and took nothing since their last failure.
    pub webhooks_failing: i64,
    /// Alerts that nobody marked as seen.
    pub alerts_unseen: i64,
}

/// The pool of connections to the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionStatistics {
    /// In use.
    pub busy: u64,
    /// Open and free.
    pub idle: u64,
    /// So many are open at most; who wants one more waits.
    pub most: u64,
}

impl LocalRegistry {
    /// How long ago memory was known to be as new as the database; none before the first time. On SQLite that is
    /// looked at with every verification, and this is zero while nothing is missing.
    #[must_use]
    pub fn memory_age(&self) -> Option<Duration> {
        self.shared.freshness.age()
    }

    /// How the pool of connections stands. The writer's, and those that hear of changes, are beside it.
    #[must_use]
    pub fn connection_statistics(&self) -> ConnectionStatistics {
        self.shared.pool.statistics()
    }

    /// What waits for somebody; of schedules, those that were due before `due_before` (Unix ms).
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn waits(&self, due_before: i64) -> Result<Waits, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let schedules = store::schedules::count_due(&mut connection, due_before, COUNTED).await?;
        let (webhooks_off, webhooks_failing) = store::webhooks::count(&mut connection).await?;
        Ok(Waits {
            schedules,
            webhooks_off,
            webhooks_failing,
            alerts_unseen: store::alerts::count_unseen_to(&mut connection, COUNTED).await?,
        })
    }

    /// Since when something is in the audit trail that no checkpoint signs (Unix ms); none if all is signed.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn audit_unsigned_since(&self) -> Result<Option<i64>, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let latest = store::checkpoints::latest(&mut connection).await?;
        // A checkpoint's own event comes after what it signs.
        let signed = latest.map_or(0, |latest| latest.checkpoint.sequence + 1);
        store::audit::next_at(&mut connection, signed).await
    }
}

#[cfg(test)]
mod tests {
    use keywright_domain::audit::Actor;

    use super::*;
    use crate::Clock;

    #[tokio::test]
    async fn an_empty_registry_waits_for_nobody_and_knows_how_new_it_is() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("registry.db");
        let registry = LocalRegistry::open(&file, Clock::system()).await?;
        assert_eq!(registry.waits(i64::MAX).await?, Waits::default());
        let unsigned = registry.audit_unsigned_since().await?;
        assert!(unsigned.is_some(), "what a new registry begins with");
        let pool = registry.connection_statistics();
        assert!(pool.busy + pool.idle >= 1 && pool.most == 5, "{pool:?}");
        let age = registry.memory_age();
        assert!(
            age.is_none_or(|age| age < Duration::from_secs(60)),
            "{age:?}"
        );
        assert!(registry.list_nodes().await?.is_empty(), "it serves nobody");
        registry.join_nodes("one").await?;
        let nodes = registry.list_nodes().await?;
        assert_eq!((nodes.len(), nodes[0].name.as_str()), (1, "one"));
        assert!(nodes[0].is_this && nodes[0].is_there);
        let key = keywright_domain::audit_chain::CheckpointKey::from_bytes(&[7; 32]);
        registry.checkpoint_audit(&Actor::keywright(), &key).await?;
        assert_eq!(registry.audit_unsigned_since().await?, None);
        Ok(())
    }
}
