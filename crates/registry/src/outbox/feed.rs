//! Where messages come from: the audit trail by sequence, and alerts that nobody was told of.

use std::collections::HashMap;

use keywright_domain::audit::AuditAction;

use super::{Channel, MadeOf, NewMessage};
use crate::alerts::Alert;
use crate::audit::AuditEvent;
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, board, store};

/// Events looked at together.
const EVENTS: i64 = 200;
/// At most so many rows of the trail are passed at a time.
const STEP: i64 = 20_000;
/// An alert that goes on happening is told again after this time.
const TOLD_AGAIN_MS: i64 = 60 * 60 * 1000;
/// What was told by a clock that is further ahead is told again.
const TOLD_AHEAD_MS: i64 = 15 * 60 * 1000;
/// So many messages wait for one target; more of what is made in masses ([`IN_MASSES`]) are not made.
const MOST_WAITING: i64 = 10_000;
/// What says that somebody must act is made until so many wait: no mass of the other kind keeps it out.
const MOST_URGENT: i64 = 100_000;
/// News that one request may bring by the ten thousand, and that can be listed afterwards.
const IN_MASSES: [&str; 5] = [
    "key.issued",
    "key.imported",
    "key.promoted",
    "key.changed",
    "key.rotated",
];

/// What of the audit trail nobody was told of.
#[derive(Clone, Copy, Debug)]
pub struct UntoldAudit {
    /// The last event that was told.
    from: i64,
    /// The last one there is.
    head: i64,
}

/// A part of the audit trail that nobody was told of.
#[derive(Clone, Debug)]
pub struct AuditFeed {
    /// Where it begins.
    pub from: i64,
    /// Where it ends.
    pub to: i64,
    /// The events in it of the kinds that were asked for.
    pub events: Vec<AuditEvent>,
    /// Whether there is more behind it.
    pub more: bool,
}

/// An alert that nobody was told of, or that went on happening since.
pub type UntoldAlert = Alert;

impl LocalRegistry {
    /// Where the audit trail that nobody was told of begins; none where there is nothing new.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn untold_audit(&self) -> Result<Option<UntoldAudit>, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let (from, head) = store::outbox::feed(&mut connection).await?;
        Ok((head > from).then_some(UntoldAudit { from, head }))
    }

    /// The next part of it. Whatever decides about `actions` has to be read after [`Self::untold_audit`]: then it
    /// knows of all that was committed before one of these events.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn read_audit_feed(
        &self,
        untold: &UntoldAudit,
        actions: &[AuditAction],
    ) -> Result<AuditFeed, RegistryError> {
        let UntoldAudit { from, head } = *untold;
        let until = head.min(from.saturating_add(STEP));
        let names: Vec<&str> = actions.iter().map(|action| action.as_str()).collect();
        let mut connection = self.shared.pool.acquire().await?;
        let events =
            store::audit::list_between(&mut connection, (from, until), &names, EVENTS).await?;
        let full = i64::try_from(events.len()).unwrap_or(EVENTS) >= EVENTS;
        let to = match events.last() {
            Some(last) if full => last.sequence,
            _ => until,
        };
        Ok(AuditFeed {
            from,
            to,
            events,
            more: to < head,
        })
    }

    /// Alerts that nobody was told of; one that goes on happening is told again after an hour.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn untold_alerts(&self, limit: u32) -> Result<Vec<UntoldAlert>, RegistryError> {
        let now = self.now();
        let told = (
            now.saturating_sub(TOLD_AGAIN_MS),
            // Clocks of nodes are seconds apart: whoever is behind does not tell again what was told just now.
            now.saturating_add(TOLD_AHEAD_MS),
        );
        let mut connection = self.shared.pool.acquire().await?;
        store::alerts::untold(&mut connection, told, i64::from(limit.clamp(1, 500))).await
    }

    /// Of them those that nobody was ever told of: for whoever cannot say when an hour is over.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn alerts_never_told(&self, limit: u32) -> Result<Vec<UntoldAlert>, RegistryError> {
        // Whoever was told of has a time of it, and that is no year of the distant future.
        let never = (0, i64::MAX);
        let mut connection = self.shared.pool.acquire().await?;
        store::alerts::untold(&mut connection, never, i64::from(limit.clamp(1, 500))).await
    }

    /// Writes one message that was made of nothing that is written down, unless `most` wait for its target
    /// already. When this returns, a crash does not lose it.
    ///
    /// # Errors
    /// [`RegistryError::Locked`] if too many wait; [`RegistryError`] if nothing can be written.
    pub async fn enqueue_one(&self, message: NewMessage, most: i64) -> Result<(), RegistryError> {
        self.write((message, most), |unit, (message, most)| {
            Box::pin(async move {
                let now = unit.now();
                let waiting =
                    store::outbox::count_waiting(unit.read(), message.channel, &message.target);
                if waiting.await? >= *most {
                    return Err(RegistryError::Locked);
                }
                store::outbox::insert(unit.write(), message, now)
                    .await
                    .map(drop)
            })
        })
        .await
    }

    /// Writes messages, with what they were made of, in one transaction. Returns false, and writes
    /// nothing, if another node was faster. A target that was told an event before is not told again.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn enqueue(
        &self,
        made_of: MadeOf,
        messages: Vec<NewMessage>,
    ) -> Result<bool, RegistryError> {
        self.write((made_of, messages), |unit, (made_of, messages)| {
            Box::pin(enqueue(unit, made_of, messages))
        })
        .await
    }
}

/// How many messages of a type wait for one target before more are not made.
pub(super) fn most_waiting(event_type: &str) -> i64 {
    if IN_MASSES.contains(&event_type) {
        MOST_WAITING
    } else {
        MOST_URGENT
    }
}

pub(super) async fn enqueue(
    unit: &mut Unit,
    made_of: &MadeOf,
    messages: &[NewMessage],
) -> Result<bool, RegistryError> {
    let now = unit.now();
    match made_of {
        MadeOf::Audit { from, to } => {
            let (stands, _) = store::outbox::feed(unit.read()).await?;
            if stands != *from {
                return Ok(false);
            }
            store::outbox::advance(unit.write(), *to).await?;
        }
        MadeOf::Alert { id, count } => {
            if !store::alerts::is_untold(unit.read(), id, *count).await? {
                return Ok(false);
            }
            store::alerts::mark_told(unit.write(), id, *count, now).await?;
        }
        MadeOf::Notices { told, failed } => {
            if !crate::schedules::notices::tell(unit, told, failed).await? {
                return Ok(false);
            }
        }
        MadeOf::Questions {
            campaign_id,
            key_ids,
        } => {
            board::asked(unit, campaign_id, key_ids).await?;
        }
        MadeOf::Else => {}
    }
    // Counted once for each target, and then by what is added here: others wait for this transaction.
    let mut waiting: HashMap<(Channel, &str), i64> = HashMap::new();
    let mut lost: HashMap<(Channel, &str), i64> = HashMap::new();
    let mut is_any_made = false;
    for message in messages {
        let target = (message.channel, message.target.as_str());
        let before = match waiting.get(&target) {
            Some(count) => *count,
            None => store::outbox::count_waiting(unit.read(), target.0, target.1).await?,
        };
        let most = most_waiting(&message.event_type);
        if before >= most {
            waiting.insert(target, before);
            *lost.entry(target).or_default() += 1;
            continue;
        }
        waiting.insert(target, before + 1);
        let id = store::outbox::insert(unit.write(), message, now).await?;
        unit.made(&id);
        is_any_made = true;
    }
    if let MadeOf::Questions {
        campaign_id,
        key_ids,
    } = made_of
    {
        // Whoever was not told has not been silent: nothing is done to their keys.
        let told_at = is_any_made.then_some(now);
        for key_id in key_ids {
            let write = unit.write();
            if !store::campaigns::mark_told(write, campaign_id, key_id, told_at).await? {
                // Another node tells of it, and of all that it read with it.
                return Err(RegistryError::Changed);
            }
        }
    }
    for ((channel, target), count) in lost {
        store::outbox_dropped::count(unit, channel, target, count).await?;
    }
    Ok(true)
}
