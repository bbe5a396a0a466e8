//! What is good for one use, on whichever node it comes.

use sha2::{Digest as _, Sha256};

use crate::{LocalRegistry, RegistryError, store};

/// Rows removed at once.
const BATCH: i64 = 1000;

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
        let name = name_of(kind, owner, text);
        let mut connection = self.shared.pool.acquire().await?;
        store::nodes::use_once(&mut connection, &name, expires_at, self.now()).await
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

    /// Removes what cannot be used any more. Returns whether there is more.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn prune_used(&self) -> Result<bool, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let gone = store::nodes::prune_used(&mut connection, self.now(), BATCH).await?;
        Ok(i64::try_from(gone).is_ok_and(|gone| gone >= BATCH))
    }
}
