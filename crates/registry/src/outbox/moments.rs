//! A clock that was ahead leaves moments behind that nobody lives to see: what waits for them is not sent, and nothing
//! says why. A moment further away than it can be is not believed.

use crate::{LocalRegistry, RegistryError, store};

const MINUTE_MS: i64 = 60 * 1000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// No try of a message is further away: the longest wait is twelve hours, and a fifth more.
const LONGEST_WAIT_MS: i64 = 15 * HOUR_MS;
/// No message is claimed or held for longer: two minutes, or ten.
const LONGEST_CLAIM_MS: i64 = 15 * MINUTE_MS;
/// No notice is claimed, or kept from its next try, for longer.
const LONGEST_NOTICE_MS: i64 = 7 * HOUR_MS;
/// No schedule that was refused is tried again later.
const LONGEST_RETRY_MS: i64 = 25 * HOUR_MS;

/// What is believed at a moment (Unix ms): nothing of these is later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Believed {
    /// Now.
    pub(crate) now: i64,
    /// Next tries of messages.
    pub(crate) due_at: i64,
    /// Claims of messages.
    pub(crate) claimed_until: i64,
    /// Claims of notices.
    pub(crate) notices: i64,
    /// Next tries of schedules.
    pub(crate) schedules: i64,
}

impl Believed {
    fn at(now: i64) -> Self {
        Self {
            now,
            due_at: now.saturating_add(LONGEST_WAIT_MS),
            claimed_until: now.saturating_add(LONGEST_CLAIM_MS),
            notices: now.saturating_add(LONGEST_NOTICE_MS),
            schedules: now.saturating_add(LONGEST_RETRY_MS),
        }
    }
}

impl LocalRegistry {
    /// Makes due what waits for a moment that cannot be right: messages, notices, and schedules that were refused.
    /// Returns how many these were.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read or written.
    pub async fn mend_moments(&self) -> Result<u64, RegistryError> {
        let believed = Believed::at(self.now());
        let mut connection = self.shared.pool.acquire().await?;
        // Nearly always there is nothing, and nobody who writes waits for this look.
        if !store::moments::is_any_beyond(&mut connection, &believed).await? {
            return Ok(0);
        }
        drop(connection);
        self.write((), |unit, ()| {
            Box::pin(async move {
                let believed = Believed::at(unit.now());
                store::moments::mend(unit.write(), &believed).await
            })
        })
        .await
    }
}
