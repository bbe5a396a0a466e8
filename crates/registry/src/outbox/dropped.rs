//! Messages that were not made, because too many wait for their target.

use super::Channel;
use crate::{LocalRegistry, RegistryError, store};

/// What was not made in one channel, ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The channel.
    pub channel: Channel,
    /// Messages.
    pub messages: i64,
    /// When the last was not made (Unix ms).
    pub last_at: i64,
}

impl LocalRegistry {
    /// What was not made because too many messages wait for their target, by channel; channels in which everything
    /// was made are not in it.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn dropped_messages(&self) -> Result<Vec<Dropped>, RegistryError> {
        store::outbox_dropped::list(&mut *self.shared.pool.acquire().await?).await
    }
}
