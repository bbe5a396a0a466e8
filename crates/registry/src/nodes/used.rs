//! What is good for one use, on whichever node it comes and however often a process is started. Where nodes share
//! the database a use is one row by its own, beside the writer; in a file it is one of the writer's group.

use sqlx::AnyConnection;

use sha2::{Digest as _, Sha256};

use crate::writer::Wants;
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

/// A use that is to be written down.
#[derive(Clone, Debug)]
struct Use {
    name: String,
    expires_at: i64,
    /// Whether one that may have been removed counts as used.
    is_proof: bool,
}

impl Use {
    fn times(&self, now: i64) -> store::nodes::UseTimes {
        store::nodes::UseTimes {
            expires_at: self.expires_at,
            now,
            counts_to: if self.is_proof {
                now.saturating_add(DAY_MS)
            } else {
                0
            },
        }
    }
}

impl LocalRegistry {
    /// Writes down that something of a kind and an owner was used, until `expires_at` (Unix ms), and answers when
    /// that is on the disk. False if it was before, on any node.
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
        self.use_one(Use {
            name: name_of(kind, owner, text),
            expires_at,
            is_proof: false,
        })
        .await
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
        self.use_one(Use {
            name: name_of(kind, owner, text),
            expires_at,
            is_proof: true,
        })
        .await
    }

    async fn use_one(&self, used: Use) -> Result<bool, RegistryError> {
        if self.is_shared() {
            let mut connection = self.shared.pool.acquire().await?;
            let times = used.times(self.now());
            return store::nodes::use_once(&mut connection, &used.name, times).await;
        }
        self.beside_conditions()
            .write_grouped(used, Wants::default(), |unit, used| {
                Box::pin(async move {
                    let times = used.times(unit.now());
                    unit.use_once(&used.name, times).await
                })
            })
            .await
    }

    /// The same registry for a write that is not the one that a request's conditions are for.
    fn beside_conditions(&self) -> Self {
        Self {
            shared: std::sync::Arc::clone(&self.shared),
            conditions: None,
        }
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

    /// Claims, for the process that asks and no other, all moments up to `to` (Unix ms) that were not claimed before.
    /// What is claimed is so for ever, on the disk, before this returns. Returns up to where moments were claimed
    /// already, by anybody, none where that never was; nothing is claimed if that is not before `to`. A claim that is
    /// more than a day ahead was made by a clock that was never right, and does not count.
    ///
    /// # Errors
    /// [`RegistryError`] if it cannot be written: nothing is claimed then, or nobody has it.
    pub async fn claim_moments(&self, to: i64) -> Result<Option<i64>, RegistryError> {
        self.beside_conditions()
            .write(to, |unit, to| {
                Box::pin(async move {
                    let counts_to = unit.now().saturating_add(DAY_MS);
                    let before = store::nodes::claimed_to(unit.read()).await?;
                    let before = before.filter(|before| *before <= counts_to);
                    if before.is_none_or(|before| before < *to) {
                        store::nodes::claim_to(unit.write_beside(), *to).await?;
                    }
                    Ok(before)
                })
            })
            .await
    }

    /// Removes what was over before a moment (Unix ms), and writes down how far that went. Returns whether there
    /// is more.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn prune_used(&self, before: i64) -> Result<bool, RegistryError> {
        if self.is_shared() {
            let mut connection = self.shared.pool.acquire().await?;
            return prune(&mut connection, before, self.now()).await;
        }
        self.beside_conditions()
            .write(before, |unit, before| {
                Box::pin(async move {
                    let now = unit.now();
                    prune(unit.write_beside(), *before, now).await
                })
            })
            .await
    }
}

async fn prune(
    connection: &mut AnyConnection,
    before: i64,
    now: i64,
) -> Result<bool, RegistryError> {
    let before = before.min(now);
    // First what it comes to, and no further: no row is gone without it, also one that comes in between.
    let most = now.saturating_add(DAY_MS);
    let Some(to) = store::nodes::note_forgotten(connection, before, most).await? else {
        return Ok(false);
    };
    if to > now {
        tracing::warn!(
            until = to,
            "the clock was ahead: proofs and client assertions that end before are refused"
        );
    }
    let before = before.min(to.saturating_add(1));
    let gone = store::nodes::prune_used(connection, before, BATCH).await?;
    Ok(i64::try_from(gone).is_ok_and(|gone| gone >= BATCH))
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

    #[tokio::test]
    async fn ac_063_s58_what_was_used_is_known_to_the_process_that_comes_next()
    -> Result<(), RegistryError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        let open = async || LocalRegistry::open(&path, Clock::from_fn(|| START)).await;
        let registry = open().await?;
        // Of one owner and kind, whatever others name theirs; and not once more with a later end.
        for (kind, owner) in [
            ("assertion", "app"),
            ("assertion", "other"),
            ("dpop", "app"),
        ] {
            for (end, is_first) in [(HOUR, true), (HOUR, false), (2 * HOUR, false)] {
                let first = registry.use_proof_once(kind, owner, "own", START + end);
                assert_eq!(first.await?, is_first, "{kind} {owner} {end}");
            }
        }
        // Many at once share commits, and of the same one is the first.
        let mut uses = tokio::task::JoinSet::new();
        for number in 0..200 {
            let registry = registry.clone();
            uses.spawn(async move {
                let jti = (number % 50).to_string();
                registry
                    .use_proof_once("assertion", "app", &jti, START + HOUR)
                    .await
            });
        }
        let mut first = 0;
        while let Some(used) = uses.join_next().await {
            first += u32::from(used.unwrap()?);
        }
        assert_eq!(first, 50);
        // Another process while that one goes on, and after it.
        for close in [false, true] {
            if close {
                registry.close().await;
            }
            let next = open().await?;
            for jti in 0..50 {
                let jti = jti.to_string();
                assert!(
                    !next
                        .use_proof_once("assertion", "app", &jti, START + HOUR)
                        .await?
                );
            }
            let new = if close { "new" } else { "newer" };
            assert!(
                next.use_proof_once("assertion", "app", new, START + HOUR)
                    .await?
            );
            next.close().await;
        }
        Ok(())
    }

    #[tokio::test]
    async fn s58_each_moment_is_claimed_once_whatever_is_removed() -> Result<(), RegistryError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        let time = Arc::new(AtomicI64::new(START));
        let open = async || {
            let shared = Arc::clone(&time);
            LocalRegistry::open(&path, Clock::from_fn(move || shared.load(Ordering::SeqCst))).await
        };
        let registry = open().await?;
        assert_eq!(registry.claim_moments(START).await?, None);
        assert_eq!(registry.claim_moments(START + 60).await?, Some(START));
        let other = open().await?;
        assert_eq!(other.claim_moments(START + 60).await?, Some(START + 60));
        assert_eq!(other.claim_moments(START + 90).await?, Some(START + 60));
        assert_eq!(registry.claim_moments(START + 70).await?, Some(START + 90));
        other.close().await;
        // It is no use that is over some day, and counts as none that was removed.
        time.store(START + HOUR, Ordering::SeqCst);
        assert!(registry.use_once("dpop", "key", "old", START + 10).await?);
        assert!(!registry.prune_used(START + HOUR).await?);
        assert!(!registry.was_used("dpop", "key", "old").await?);
        assert!(
            registry
                .use_proof_once("dpop", "key", "of then", START + 11)
                .await?
        );
        assert_eq!(registry.claim_moments(START + 91).await?, Some(START + 90));
        // Nor is it removed with uses that ended after it.
        assert!(
            registry
                .use_once("dpop", "key", "later", START + 200)
                .await?
        );
        assert!(!registry.prune_used(START + HOUR).await?);
        assert!(!registry.was_used("dpop", "key", "later").await?);
        assert_eq!(registry.claim_moments(START + 91).await?, Some(START + 91));
        // One of a clock that was days ahead is none.
        assert_eq!(
            registry.claim_moments(START + 3 * DAY_MS).await?,
            Some(START + 91)
        );
        assert_eq!(registry.claim_moments(START + HOUR).await?, None);
        assert_eq!(
            registry.claim_moments(START + DAY_MS).await?,
            Some(START + HOUR)
        );
        registry.close().await;
        let next = open().await?;
        assert_eq!(next.claim_moments(START).await?, Some(START + DAY_MS));
        Ok(())
    }
}
