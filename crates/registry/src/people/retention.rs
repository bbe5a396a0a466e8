//! What is over goes, in batches that leave room for other writers (AC-206).

use keywright_domain::audit::{Actor, AuditAction};

use crate::store::audit::NewEvent;
use crate::store::people::retention::{Pruned, prune};
use crate::{LocalRegistry, RegistryError, store};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// What is denied stays for so long after the last token that it is about: a clock that was put forward and
/// back again must not make good again what was revoked.
const DENIALS_MS: i64 = DAY_MS;

/// How long what is over is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeopleRetention {
    /// Codes and devices' requests: a code that comes again is recognised so long (ms).
    pub codes_ms: i64,
    /// Sessions, grants and invitations that ended (ms).
    pub ended_ms: i64,
    /// The sign-in history (ms).
    pub sign_ins_ms: i64,
    /// Rows of each kind at most at once, 1 to 10,000.
    pub batch: u32,
}

impl Default for PeopleRetention {
    fn default() -> Self {
        Self {
            codes_ms: DAY_MS,
            ended_ms: 90 * DAY_MS,
            sign_ins_ms: 90 * DAY_MS,
            batch: 1_000,
        }
    }
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrunedPeople {
    /// Sessions that were found to have run out.
    pub expired_sessions: u64,
    /// Rows that were deleted.
    pub deleted: u64,
    /// Whether some kind had more than a batch: come again soon.
    pub more: bool,
}

impl LocalRegistry {
    /// One bounded run: writes down that sessions ran out, and deletes what is over for long enough.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn prune_people(
        &self,
        retention: &PeopleRetention,
    ) -> Result<PrunedPeople, RegistryError> {
        self.write(*retention, |unit, retention| {
            Box::pin(async move {
                let now = unit.now();
                let most = retention.batch.clamp(1, 10_000);
                let limit = i64::from(most);
                let connection = unit.write();
                let mut done = PrunedPeople {
                    expired_sessions: store::people::sessions::settle(connection, now, limit)
                        .await?,
                    ..PrunedPeople::default()
                };
                done.more = done.expired_sessions >= u64::from(most);
                let (codes, ended) = (now - retention.codes_ms, now - retention.ended_ms);
                let kinds = [
                    (Pruned::Codes, codes),
                    (Pruned::DeviceCodes, codes),
                    (Pruned::PushedRequests, now),
                    (Pruned::Logins, now),
                    (Pruned::Denials, now - DENIALS_MS),
                    (Pruned::ClientSecrets, now),
                    // Older than its idle life, a token gives nothing and proves nothing.
                    (Pruned::RefreshTokens, now),
                    (Pruned::Grants, ended),
                    (Pruned::SessionClients, ended),
                    (Pruned::Sessions, ended),
                    (Pruned::SignIns, now - retention.sign_ins_ms),
                    (Pruned::Invitations, ended),
                ];
                for (kind, before) in kinds {
                    let deleted = prune(connection, kind, before, limit).await?;
                    done.deleted += deleted;
                    done.more |= deleted >= u64::from(most);
                }
                if done.deleted > 0 {
                    let summary = "What was over for long enough was removed".to_owned();
                    let mut event = NewEvent::about_registry(AuditAction::Pruned, summary);
                    event.details.push(("rows", done.deleted.to_string()));
                    unit.audit(&Actor::keywright(), event);
                }
                Ok(done)
            })
        })
        .await
    }
}
