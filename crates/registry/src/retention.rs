//! Retention: what is kept for how long, and the job that removes the rest in small transactions.
//! It runs beside everything else and is never part of a verification.

mod audit;
mod keys;

use keywright_domain::api_keys::DAY_MS;
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::audit_chain::{CheckpointKey, CheckpointPublicKey};

use crate::store::retention::Aged;
use crate::store::{self, audit::NewEvent};
use crate::{LocalRegistry, RegistryError};

/// Rows removed in one transaction at most.
const BATCH: i64 = 1000;

/// What is kept, and for how long. None: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Keys that were revoked or expired so many days ago go with their rows; their audit stays. 30
    /// to 3650.
    pub ended_keys_days: Option<u32>,
    /// Secrets that ended so many days ago go; their key and its audit stay. 30 to 3650.
    pub ended_secrets_days: Option<u32>,
    /// Who used what, by the hour: 90 to 3650. Hygiene and previews see no further back.
    pub rollups_days: Option<u32>,
    /// The audit trail, cut behind a signed checkpoint: 90 to 36500.
    pub audit_days: Option<u32>,
    /// Alerts, seen or not, by their last time: 30 to 3650.
    pub alerts_days: Option<u32>,
    /// Notices, once their secret is not the newest of its key, and what is on the notice board: 30 to 3650.
    pub notices_days: Option<u32>,
    /// So many of the newest changes are kept in the log: 100 to 100,000,000. A process that slept
    /// through more of them reads all keys anew.
    pub changes_kept: i64,
}

impl Default for RetentionPolicy {
    /// Ended keys, secrets and rollups for 400 days, alerts and notices too, the audit trail for ever.
    fn default() -> Self {
        Self {
            ended_keys_days: Some(400),
            ended_secrets_days: Some(400),
            rollups_days: Some(400),
            audit_days: None,
            alerts_days: Some(400),
            notices_days: Some(400),
            changes_kept: 1_000_000,
        }
    }
}

impl RetentionPolicy {
    /// Checks the bounds.
    ///
    /// # Errors
    /// [`RegistryError::Bounds`], naming the first number out of its bounds.
    pub fn check(&self) -> Result<(), RegistryError> {
        let within = |days: Option<u32>, least: u32, most: u32| {
            days.is_none_or(|days| (least..=most).contains(&days))
        };
        let rules = [
            (
                within(self.ended_keys_days, 30, 3650),
                "ended keys are kept for 30 to 3650 days",
            ),
            (
                within(self.ended_secrets_days, 30, 3650),
                "ended secrets are kept for 30 to 3650 days",
            ),
            (
                within(self.rollups_days, 90, 3650),
                "uses by the hour are kept for 90 to 3650 days",
            ),
            (
                within(self.audit_days, 90, 36_500),
                "activity is kept for 90 to 36500 days",
            ),
            (
                within(self.alerts_days, 30, 3650),
                "alerts are kept for 30 to 3650 days",
            ),
            (
                within(self.notices_days, 30, 3650),
                "notices are kept for 30 to 3650 days",
            ),
            (
                (100..=100_000_000).contains(&self.changes_kept),
                "100 to 100000000 changes are kept",
            ),
        ];
        match rules.iter().find(|(is_kept, _)| !is_kept) {
            Some((_, text)) => Err(RegistryError::Bounds(text)),
            None => Ok(()),
        }
    }
}

/// What a run removed, so far or in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionReport {
    /// Ended keys.
    pub keys: i64,
    /// Ended secrets of keys that stay.
    pub secrets: i64,
    /// Rows of uses by the hour, those of removed keys and secrets included.
    pub rollups: i64,
    /// Events of the audit trail.
    pub audit_events: i64,
    /// Alerts.
    pub alerts: i64,
    /// Notices, those of removed keys left out.
    pub notices: i64,
    /// Rows of the log of changes.
    pub changes: i64,
}

/// What hears of each step.
pub(crate) type Progress<'a> = &'a (dyn Fn(&RetentionReport) + Send + Sync);

impl LocalRegistry {
    /// Removes what the policy keeps no longer, at most 1,000 rows a transaction, and tells
    /// `progress` after each. Whatever was removed is in the audit trail. It can be stopped at any
    /// moment and goes on from there the next time.
    ///
    /// With `audit_days`, `checkpoint_key` signs where the trail is cut, after what goes was
    /// verified; without the key nothing is begun. Checkpoints that go with it must be signed by that
    /// key or one of `trusted`, those that signed before it.
    ///
    /// # Errors
    /// [`RegistryError::Bounds`], [`RegistryError::CheckpointKeyMissing`];
    /// [`RegistryError::Damaged`] if the part of the trail that should go was tampered with: it stays.
    pub async fn run_retention(
        &self,
        actor: &Actor,
        policy: &RetentionPolicy,
        checkpoint_key: Option<&CheckpointKey>,
        trusted: &[CheckpointPublicKey],
        progress: Progress<'_>,
    ) -> Result<RetentionReport, RegistryError> {
        policy.check()?;
        if policy.audit_days.is_some() && checkpoint_key.is_none() {
            return Err(RegistryError::CheckpointKeyMissing);
        }
        // What waits in memory must not come after the rows it refers to are gone.
        self.flush_uses().await?;
        let now = self.now();
        let before = |days: u32| now.saturating_sub(i64::from(days) * DAY_MS);
        let mut report = RetentionReport::default();
        if let Some(days) = policy.ended_secrets_days {
            self.purge_secrets(actor, before(days), &mut report, progress)
                .await?;
        }
        if let Some(days) = policy.ended_keys_days {
            self.purge_keys(actor, before(days), &mut report, progress)
                .await?;
        }
        for (what, days) in [
            (Aged::Rollups, policy.rollups_days),
            (Aged::Alerts, policy.alerts_days),
            (Aged::Notices, policy.notices_days),
            (Aged::Board, policy.notices_days),
        ] {
            if let Some(days) = days {
                self.purge_aged(what, before(days), &mut report, progress)
                    .await?;
            }
        }
        self.purge_stale_reads().await?;
        self.purge_changes(policy.changes_kept, &mut report, progress)
            .await?;
        self.say_what_went(actor, &report).await?;
        if let (Some(days), Some(key)) = (policy.audit_days, checkpoint_key) {
            let signer = audit::Signer { key, trusted };
            self.purge_audit(actor, before(days), &signer, &mut report, progress)
                .await?;
        }
        Ok(report)
    }

    /// Removes what has been on the notice board for so many days, and notices of secrets that are not the newest of
    /// their key: for a device, which has no job of retention.
    ///
    /// # Errors
    /// [`RegistryError`] if it cannot be written; what was removed stays so.
    pub async fn purge_notices(&self, days: u32) -> Result<(), RegistryError> {
        let before = self.now().saturating_sub(i64::from(days) * DAY_MS);
        let mut report = RetentionReport::default();
        for what in [Aged::Notices, Aged::Board] {
            self.purge_aged(what, before, &mut report, &|_| ()).await?;
        }
        self.purge_stale_reads().await
    }

    async fn purge_aged(
        &self,
        what: Aged,
        before: i64,
        report: &mut RetentionReport,
        progress: Progress<'_>,
    ) -> Result<(), RegistryError> {
        loop {
            let gone = self
                .write((what, before), |unit, (what, before)| {
                    Box::pin(store::retention::delete_aged(
                        unit.write(),
                        *what,
                        *before,
                        BATCH,
                    ))
                })
                .await?;
            match what {
                Aged::Rollups => report.rollups += gone,
                Aged::Alerts => report.alerts += gone,
                Aged::Notices => report.notices += gone,
                // Copies of what is counted elsewhere.
                Aged::Board => {}
            }
            progress(report);
            if gone < BATCH {
                return Ok(());
            }
        }
    }

    /// Marks of readers at what is on the notice board no more.
    async fn purge_stale_reads(&self) -> Result<(), RegistryError> {
        loop {
            let gone = self
                .write((), |unit, ()| {
                    Box::pin(store::retention::delete_stale_reads(
                        unit.write_beside(),
                        BATCH,
                    ))
                })
                .await?;
            if gone < BATCH {
                return Ok(());
            }
        }
    }

    async fn purge_changes(
        &self,
        kept: i64,
        report: &mut RetentionReport,
        progress: Progress<'_>,
    ) -> Result<(), RegistryError> {
        loop {
            let (gone, is_done) = self
                .write(kept, |unit, kept| {
                    Box::pin(async move {
                        let (newest, oldest) = store::heads::change_bounds(unit.read()).await?;
                        let first_kept = newest - kept + 1;
                        if first_kept <= oldest {
                            return Ok((0, true));
                        }
                        // Versions have no gaps: so many versions are so many rows.
                        let cut = first_kept.min(oldest + BATCH);
                        let gone = store::retention::delete_changes(unit.write(), cut).await?;
                        Ok((gone, cut == first_kept))
                    })
                })
                .await?;
            report.changes += gone;
            progress(report);
            if is_done {
                return Ok(());
            }
        }
    }

    /// Keys, secrets and activity say it where they go; this is the rest.
    async fn say_what_went(
        &self,
        actor: &Actor,
        report: &RetentionReport,
    ) -> Result<(), RegistryError> {
        let details: Vec<_> = [
            ("uses", report.rollups),
            ("alerts", report.alerts),
            ("notices", report.notices),
            ("changes", report.changes),
        ]
        .into_iter()
        .filter(|(_, gone)| *gone > 0)
        .map(|(name, gone)| (name, gone.to_string()))
        .collect();
        if details.is_empty() {
            return Ok(());
        }
        self.write((actor.clone(), details), |unit, (actor, details)| {
            Box::pin(async move {
                let summary = "What was kept for long enough was removed".to_owned();
                let event = NewEvent {
                    details: details.clone(),
                    ..NewEvent::about_registry(AuditAction::RetentionRun, summary)
                };
                unit.audit(actor, event);
                Ok(())
            })
        })
        .await
    }
}
