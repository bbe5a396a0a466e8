//! Cutting the audit trail. What goes is verified first; then each batch goes in one transaction
//! with the signed checkpoint that the rest begins after.

use std::collections::BTreeMap;

use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::audit_chain::{
    self, CheckpointKey, CheckpointPublicKey, EventHash, SignedCheckpoint,
};

use super::{BATCH, Progress, RetentionReport};
use crate::store::{self, audit::NewEvent};
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError};

/// Who signs where the trail is cut, and whose signatures are believed.
pub(super) struct Signer<'a> {
    pub(super) key: &'a CheckpointKey,
    pub(super) trusted: &'a [CheckpointPublicKey],
}

impl Signer<'_> {
    /// What goes is replaced by this signer's word: it is given for nothing that was signed by a
    /// stranger, or by nobody.
    fn check(&self, signed: &SignedCheckpoint) -> Result<(), RegistryError> {
        let own = self.key.public_key();
        let mut known = std::iter::once(&own).chain(self.trusted);
        if known.any(|key| signed.verify(key).is_ok()) {
            return Ok(());
        }
        Err(RegistryError::Damaged(format!(
            "no key that is known here signed the checkpoint at number {}, and the activity stays as it is",
            signed.checkpoint.sequence
        )))
    }
}

impl LocalRegistry {
    /// Removes the events before the first one that is not older than a moment.
    pub(super) async fn purge_audit(
        &self,
        actor: &Actor,
        before: i64,
        signer: &Signer<'_>,
        report: &mut RetentionReport,
        progress: Progress<'_>,
    ) -> Result<(), RegistryError> {
        loop {
            let mut connection = self.shared.pool.acquire().await?;
            let first_kept = store::retention::first_event_since(&mut connection, before).await?;
            let Some(cut) = self.next_cut(first_kept, signer).await? else {
                return Ok(());
            };
            let gone = self
                .write((actor.clone(), cut), |unit, (actor, cut)| {
                    Box::pin(remove_events(unit, actor, cut))
                })
                .await?;
            report.audit_events += gone;
            progress(report);
        }
    }

    /// Verifies the oldest events of the trail, at most a batch, and signs where they end; none if
    /// all that is left is kept.
    async fn next_cut(
        &self,
        first_kept: Option<i64>,
        signer: &Signer<'_>,
    ) -> Result<Option<SignedCheckpoint>, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let registry_id = store::heads::registry_id(&mut connection).await?;
        let start = store::checkpoints::cut(&mut connection).await?;
        // It goes with the rest, and what is verified here is verified from it.
        if let Some(start) = &start {
            signer.check(start)?;
        }
        let (mut sequence, mut hash) = start.map_or((0, EventHash::GENESIS), |start| {
            (start.checkpoint.sequence, start.checkpoint.hash)
        });
        let events = store::audit::chained_after(&mut connection, sequence, BATCH).await?;
        let begun_at = sequence;
        let mut verified = BTreeMap::new();
        for event in events {
            if first_kept.is_some_and(|first| event.sequence >= first) {
                break;
            }
            let follows = event.sequence == sequence + 1
                && audit_chain::hash(&hash, &event.as_chained()) == event.hash;
            if !follows {
                return Err(broken(sequence + 1));
            }
            (sequence, hash) = (event.sequence, event.hash);
            verified.insert(sequence, hash);
        }
        // A signature that says otherwise of what goes must not be lost with it.
        for vouched in store::checkpoints::between(&mut connection, begun_at, sequence).await? {
            signer.check(&vouched)?;
            let at = vouched.checkpoint.sequence;
            if verified.get(&at) != Some(&vouched.checkpoint.hash) {
                return Err(broken(at));
            }
        }
        Ok(
            (sequence > begun_at)
                .then(|| signer.key.sign(&registry_id, sequence, hash, self.now())),
        )
    }
}

fn broken(at: i64) -> RegistryError {
    RegistryError::Damaged(format!(
        "the activity was tampered with at number {at}, and stays as it is"
    ))
}

async fn remove_events(
    unit: &mut Unit,
    actor: &Actor,
    cut: &SignedCheckpoint,
) -> Result<i64, RegistryError> {
    let through = cut.checkpoint.sequence;
    let start = store::checkpoints::cut(unit.read()).await?;
    if start.is_some_and(|start| start.checkpoint.sequence >= through) {
        // Another node was first.
        return Ok(0);
    }
    store::checkpoints::insert(unit.write(), cut, true).await?;
    let gone = store::retention::delete_events(unit.write(), through).await?;
    let summary = format!("The activity up to number {through} was removed behind a signature");
    let event = NewEvent {
        details: vec![
            ("through", through.to_string()),
            ("events", gone.to_string()),
            ("key_id", cut.checkpoint.key_id.to_string()),
        ],
        ..NewEvent::about_registry(AuditAction::AuditPruned, summary)
    };
    unit.audit(actor, event);
    Ok(gone)
}
