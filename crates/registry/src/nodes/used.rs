//! What is good for one use, on whichever node it comes.

use sha2::{Digest as _, Sha256};

use crate::{LocalRegistry, RegistryError, store};

/// Rows removed at once.
const BATCH: i64 = 1000;
/// A clock that was ahead by more than this was never right: what was removed by it is no measure.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn name_of(kind: &str, owner: &str, text: &str) -> String {
    let mut hash = Sha256::new();
    for part in [kind, owner, text] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

impl LocalRegistry {
    /// Writes down that something of a kind and an owner was used, until `expires_at` (Unix ms).
    /// False if it was before, on any node. It is one row by its own, beside the writer.
    ///
    /// # Errors
    /// [`RegistryError`] if that cannot be written: it counts as used then.
    pub async fn use_once(
        &self,
        kind: &str,
        owner: &str,
        text: &str,
        expires_at: i64,
    ) -> Result<bool, RegistryError> {
        self.use_one([kind, owner, text], expires_at, 0).await
    }

    /// The same for proofs, which others may have kept: also false for one that ended before anything that was
    /// removed since. Only a clock that was put back makes it good again, and whether it was used is not known any
    /// more. `expires_at` (Unix ms) is its own end, the same whenever it is shown.
    ///
    /// # Errors
    /// As [`LocalRegistry::use_once`].
    pub async fn use_proof_once(
        &self,
        kind: &str,
        owner: &str,
        text: &str,
        expires_at: i64,
    ) -> Result<bool, RegistryError> {
        let counts_to = self.now().saturating_add(DAY_MS);
        self.use_one([kind, owner, text], expires_at, counts_to)
            .await
    }

    async fn use_one(
        &self,
        [kind, owner, text]: [&str; 3],
        expires_at: i64,
        counts_to: i64,
    ) -> Result<bool, RegistryError> {
        let name = name_of(kind, owner, text);
        let times = store::nodes::UseTimes {
            expires_at,
            now: self.now(),
            counts_to,
        };
        let mut connection = self.shared.pool.acquire().await?;
        store::nodes::use_once(&mut connection, &name, times).await
    }

    /// Whether something was used, on any node, and its time is not over. Nothing is written down.
    ///
    /// # Errors
    /// [`RegistryError`] if that cannot be read.
    pub async fn was_used(
        &self,
        kind: &str,
        owner: &str,
        text: &str,
    ) -> Result<bool, RegistryError> {
        let name = name_of(kind, owner, text);
        let mut connection = self.shared.pool.acquire().await?;
        store::nodes::was_used(&mut connection, &name, self.now()).await
    }

    /// Removes what was over before a moment (Unix ms), and writes down how far that went. Returns whether there
    /// is more.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn prune_used(&self, before: i64) -> Result<bool, RegistryError> {
        let now = self.now();
        let before = before.min(now);
        let mut connection = self.shared.pool.acquire().await?;
        // First what it comes to, and no further: no row is gone without it, also one that comes in between.
        let most = now.saturating_add(DAY_MS);
        let Some(to) = store::nodes::note_forgotten(&mut connection, before, most).await? else {
            return Ok(false);
        };
        if to > now {
            tracing::warn!(
                until = to,
                "the clock was ahead: proofs and client assertions that end before are refused"
            );
        }
        let before = before.min(to.saturating_add(1));
        let gone = store::nodes::prune_used(&mut connection, before, BATCH).await?;
        Ok(i64::try_from(gone).is_ok_and(|gone| gone >= BATCH))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::DAY_MS;
    use crate::{Clock, LocalRegistry, RegistryError};

    const START: i64 = 1_800_000_000_000;
    const HOUR: i64 = 3_600_000;

    #[tokio::test]
    async fn s58_what_was_removed_while_the_clock_was_ahead_is_not_used_again()
    -> Result<(), RegistryError> {
        let folder = tempfile::tempdir().unwrap();
        let time = Arc::new(AtomicI64::new(START));
        let shared = Arc::clone(&time);
        let clock = Clock::from_fn(move || shared.load(Ordering::SeqCst));
        let registry = LocalRegistry::open(&folder.path().join("registry.db"), clock).await?;
        let used =
            async |text: &str, end: i64| registry.use_proof_once("dpop", "key", text, end).await;
        let put = |ahead: i64| time.store(START + ahead, Ordering::SeqCst);
        assert!(used("before", START + 1000).await?);
        put(1001);
        assert!(!used("before", START + 1000).await?, "new when it is over");
        // Removed at once, as after an hour under the clock that is ahead.
        put(2 * HOUR);
        assert!(used("ahead", START + 2 * HOUR + 1000).await?);
        assert!(!registry.prune_used(START + 2 * HOUR).await?);
        put(0);
        assert!(!used("before", START + 1000).await?, "taken twice");
        assert!(
            !used("ahead", START + 2 * HOUR + 1000).await?,
            "taken twice"
        );
        // What ends after all that was removed goes on; a row that is no proof's is not asked about.
        assert!(used("new", START + 1001).await?);
        assert!(
            registry
                .use_once("challenge", "", "of now", START + 900)
                .await?
        );
        // Those of then are over for long enough as well: refused until the clock comes there.
        put(4 * HOUR);
        assert!(!registry.prune_used(START + 4 * HOUR).await?);
        put(1);
        assert!(!used("another", START + 5000).await?);
        put(2 * HOUR);
        assert!(
            !used("ahead", START + 2 * HOUR + 1000).await?,
            "taken twice"
        );
        assert!(used("another", START + 2 * HOUR + 1001).await?);
        // The highest is kept, whatever is removed later.
        put(-HOUR);
        assert!(
            registry
                .use_once("dpop", "key", "low", START - HOUR + 1)
                .await?
        );
        put(0);
        assert!(!registry.prune_used(START).await?);
        assert!(!used("low", START + 500).await?);
        // Nobody is refused for days because a clock was days ahead.
        put(3 * DAY_MS);
        assert!(used("far", START + 3 * DAY_MS + 1).await?);
        put(3 * DAY_MS + HOUR);
        assert!(!registry.prune_used(START + 3 * DAY_MS + HOUR).await?);
        put(2 * DAY_MS + 5);
        assert!(!used("far off", START + 2 * DAY_MS + 6).await?);
        put(HOUR);
        assert!(used("now", START + HOUR + 1).await?);
        assert!(!registry.prune_used(START).await?);
        put(3 * DAY_MS - 5);
        assert!(used("then", START + 3 * DAY_MS).await?, "it was no measure");
        Ok(())
    }
}
