//! The chained audit trail as a whole: signed checkpoints, verification, export.

use std::io::Write;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::audit_chain::{
    ChainVerifier, CheckpointKey, CheckpointPublicKey, SignedCheckpoint, Verdict,
};

use crate::audit_export::{self, ExportError, ExportEvent, ExportHeader, ExportLine};
use crate::store::{self, audit::NewEvent};
use crate::{LocalRegistry, RegistryError};

/// Events read at a time.
const PAGE: i64 = 500;

/// What a walk over the trail meets, in order.
enum Step {
    Event(Box<ExportEvent>),
    Checkpoint(SignedCheckpoint),
}

/// What stands behind the last page of a walk.
enum Behind {
    /// The trail went on, and was signed again: a page of it.
    More {
        /// How far a checkpoint says that it goes.
        signed_through: i64,
        /// The last event of the page.
        last: i64,
        steps: Vec<Step>,
    },
    /// No event: a checkpoint there tells that events are missing.
    Checkpoints(Vec<Step>),
}

impl LocalRegistry {
    /// The registry's own id, which every checkpoint signs.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn registry_id(&self) -> Result<String, RegistryError> {
        store::heads::registry_id(&mut *self.shared.pool.acquire().await?).await
    }

    /// Signs where the trail stands (Ed25519, RFC 8032). The key is the caller's to keep: whoever can
    /// write the database must not be able to sign. Without new events the last one is given back.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn checkpoint_audit(
        &self,
        actor: &Actor,
        key: &CheckpointKey,
    ) -> Result<SignedCheckpoint, RegistryError> {
        let input = (actor.clone(), CheckpointKey::from_bytes(key.expose()));
        self.write(input, |unit, (actor, key)| {
            Box::pin(async move {
                let (sequence, hash) = unit.audit_head()?;
                let latest = store::checkpoints::latest(unit.read()).await?;
                // Its own event is the only one since: there is nothing new to sign.
                if let Some(latest) = latest
                    && latest.checkpoint.sequence + 1 >= sequence
                    && latest.checkpoint.key_id == key.public_key().key_id()
                {
                    return Ok(latest);
                }
                let registry_id = store::heads::registry_id(unit.read()).await?;
                let signed = key.sign(&registry_id, sequence, hash, unit.now());
                store::checkpoints::insert(unit.write(), &signed, false).await?;
                let summary = format!("The activity up to number {sequence} was signed");
                let details = vec![
                    ("sequence", sequence.to_string()),
                    ("key_id", signed.checkpoint.key_id.to_string()),
                ];
                let event = NewEvent {
                    details,
                    ..NewEvent::about_registry(AuditAction::AuditCheckpointed, summary)
                };
                unit.audit(actor, event);
                Ok(signed)
            })
        })
        .await
    }

    /// Walks over the whole trail and says whether anything was changed, removed or put in between,
    /// and which event is the first that is wrong.
    ///
    /// # Errors
    /// [`RegistryError`] if the trail cannot be read to its end.
    pub async fn verify_audit(
        &self,
        trusted: &[CheckpointPublicKey],
    ) -> Result<Verdict, RegistryError> {
        let mut check = self.begin_audit_check(trusted).await?;
        while check.step().await? {}
        Ok(check.finish())
    }

    /// The same in steps, for whoever shows how far it came.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn begin_audit_check(
        &self,
        trusted: &[CheckpointPublicKey],
    ) -> Result<AuditCheck, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let registry_id = store::heads::registry_id(&mut connection).await?;
        let (ends_at, _) = store::audit::head(&mut connection).await?;
        let start = store::checkpoints::cut(&mut connection).await?;
        let mut verifier = match &start {
            Some(start) => ChainVerifier::from_checkpoint(&registry_id, trusted, start),
            None => ChainVerifier::from_genesis(&registry_id, trusted),
        };
        // The row that every writer locks knows how far the trail goes.
        verifier.expect_through(ends_at);
        let after = start.map_or(0, |start| start.checkpoint.sequence);
        Ok(AuditCheck {
            registry: self.clone(),
            trusted: trusted.to_vec(),
            verifier,
            began_after: after,
            after,
            ends_at,
            goes_to: ends_at,
        })
    }

    /// Writes the trail as one JSON object a line, for [`audit_export::verify_export`] anywhere.
    ///
    /// # Errors
    /// [`ExportError`] if the writer or the registry fails.
    pub async fn export_audit(
        &self,
        out: &mut (impl Write + Send),
        keys: &[CheckpointPublicKey],
    ) -> Result<u64, ExportError> {
        let failed = |error: RegistryError| ExportError::Write(std::io::Error::other(error));
        let mut connection = self
            .shared
            .pool
            .acquire()
            .await
            .map_err(|error| failed(error.into()))?;
        let registry_id = store::heads::registry_id(&mut connection)
            .await
            .map_err(failed)?;
        let (ends_at, _) = store::audit::head(&mut connection).await.map_err(failed)?;
        let start = store::checkpoints::cut(&mut connection)
            .await
            .map_err(failed)?;
        drop(connection);
        let after = start.as_ref().map_or(0, |start| start.checkpoint.sequence);
        let header = ExportHeader::new(registry_id, keys.to_vec(), after, ends_at);
        audit_export::write_line(out, &ExportLine::Header(header))?;
        if let Some(start) = start {
            audit_export::write_line(out, &ExportLine::Checkpoint(start.into()))?;
        }
        let mut events = 0;
        self.walk(after, ends_at, |step| {
            let line = match step {
                Step::Event(event) => {
                    events += 1;
                    ExportLine::Event(*event)
                }
                Step::Checkpoint(signed) => ExportLine::Checkpoint(signed.into()),
            };
            audit_export::write_line(out, &line)
        })
        .await?;
        Ok(events)
    }

    /// The same for a reader far away: a page is read when the one before was taken, and memory
    /// does not grow with the trail.
    ///
    /// # Errors
    /// [`ExportError`] if the writer or the registry fails: what was written so far is shorter than
    /// its header says then.
    pub async fn stream_audit<W>(
        &self,
        out: &mut W,
        keys: &[CheckpointPublicKey],
    ) -> Result<u64, ExportError>
    where
        W: AsyncWrite + Unpin + Send,
    {
        let registry_id = self.registry_id().await?;
        let mut connection = self
            .shared
            .pool
            .acquire()
            .await
            .map_err(RegistryError::from)?;
        let (ends_at, _) = store::audit::head(&mut connection).await?;
        let start = store::checkpoints::cut(&mut connection).await?;
        drop(connection);
        let mut after = start.as_ref().map_or(0, |start| start.checkpoint.sequence);
        let mut page = Vec::new();
        let header = ExportHeader::new(registry_id, keys.to_vec(), after, ends_at);
        audit_export::write_line(&mut page, &ExportLine::Header(header))?;
        if let Some(start) = start {
            audit_export::write_line(&mut page, &ExportLine::Checkpoint(start.into()))?;
        }
        let mut count = 0;
        while after < ends_at {
            let mut connection = self
                .shared
                .pool
                .acquire()
                .await
                .map_err(RegistryError::from)?;
            let most = PAGE.min(ends_at - after);
            let events = store::audit::chained_after(&mut connection, after, most).await?;
            let Some(last) = events.last().map(|event| event.sequence) else {
                break;
            };
            let signed = store::checkpoints::between(&mut connection, after, last).await?;
            drop(connection);
            let mut signed = signed.into_iter().peekable();
            for event in events {
                count += 1;
                let sequence = event.sequence;
                audit_export::write_line(&mut page, &ExportLine::Event(event))?;
                while let Some(one) = signed.next_if(|one| one.checkpoint.sequence <= sequence) {
                    audit_export::write_line(&mut page, &ExportLine::Checkpoint(one.into()))?;
                }
            }
            after = last;
            out.write_all(&page).await.map_err(ExportError::Write)?;
            page.clear();
        }
        out.write_all(&page).await.map_err(ExportError::Write)?;
        out.flush().await.map_err(ExportError::Write)?;
        Ok(count)
    }

    /// Events after `after`, through `goes_to` at least, each checkpoint after its event.
    async fn walk<E: From<RegistryError>>(
        &self,
        mut after: i64,
        mut goes_to: i64,
        mut meet: impl FnMut(Step) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            while after < goes_to {
                let Some((last, steps)) = self.steps_after(after).await? else {
                    break;
                };
                steps.into_iter().try_for_each(&mut meet)?;
                after = last;
            }
            match self.behind(after).await? {
                Behind::More {
                    signed_through,
                    last,
                    steps,
                } => {
                    steps.into_iter().try_for_each(&mut meet)?;
                    (after, goes_to) = (last, signed_through);
                }
                Behind::Checkpoints(steps) => return steps.into_iter().try_for_each(&mut meet),
            }
        }
    }

    /// A page of the trail behind an event, and the last one of it; none where there are no more.
    async fn steps_after(&self, after: i64) -> Result<Option<(i64, Vec<Step>)>, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let events = store::audit::chained_after(&mut connection, after, PAGE).await?;
        let Some(last) = events.last().map(|event| event.sequence) else {
            return Ok(None);
        };
        let signed = store::checkpoints::between(&mut connection, after, last).await?;
        drop(connection);
        let mut signed = signed.into_iter().peekable();
        let mut steps = Vec::with_capacity(events.len());
        for event in events {
            let sequence = event.sequence;
            steps.push(Step::Event(Box::new(event)));
            while let Some(one) = signed.next_if(|one| one.checkpoint.sequence <= sequence) {
                steps.push(Step::Checkpoint(one));
            }
        }
        Ok(Some((last, steps)))
    }

    /// What is behind the last event that a walk met. It goes on only as far as the trail was signed.
    async fn behind(&self, after: i64) -> Result<Behind, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        // Before the events: what these sign is there by then, if it was not taken away.
        let signed = store::checkpoints::between(&mut connection, after, i64::MAX).await?;
        drop(connection);
        if let Some(newest) = signed.last()
            && let Some((last, steps)) = self.steps_after(after).await?
        {
            return Ok(Behind::More {
                signed_through: newest.checkpoint.sequence,
                last,
                steps,
            });
        }
        let signed = signed.into_iter().map(Step::Checkpoint);
        Ok(Behind::Checkpoints(signed.collect()))
    }
}

/// A check of the whole trail that goes on in steps of 500 events.
#[derive(Debug)]
pub struct AuditCheck {
    registry: LocalRegistry,
    trusted: Vec<CheckpointPublicKey>,
    verifier: ChainVerifier,
    /// Number of the event before the first one that is there.
    began_after: i64,
    after: i64,
    ends_at: i64,
    /// How far it goes: further than it was to where the trail went on and was signed.
    goes_to: i64,
}

impl AuditCheck {
    /// Events that there were when it began.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.ends_at.saturating_sub(self.began_after)
    }

    /// Events that were looked at.
    #[must_use]
    pub fn done(&self) -> i64 {
        self.after
            .min(self.ends_at)
            .saturating_sub(self.began_after)
    }

    /// Looks at the next events. Returns false when there are no more.
    ///
    /// # Errors
    /// [`RegistryError`] if the trail cannot be read.
    pub async fn step(&mut self) -> Result<bool, RegistryError> {
        if self.after < self.goes_to
            && let Some((last, steps)) = self.registry.steps_after(self.after).await?
        {
            self.after = last;
            self.meet(steps);
            if last < self.goes_to {
                return Ok(true);
            }
        }
        match self.registry.behind(self.after).await? {
            Behind::More {
                signed_through,
                last,
                steps,
            } => {
                self.goes_to = signed_through;
                self.after = last;
                self.meet(steps);
                return Ok(true);
            }
            Behind::Checkpoints(steps) => self.meet(steps),
        }
        // What its retention removed meanwhile is no fault of the trail.
        let is_intact = self.verifier.clone().finish().is_intact();
        if !is_intact && self.was_overtaken().await? {
            *self = self.registry.begin_audit_check(&self.trusted).await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether the trail begins later than it did.
    async fn was_overtaken(&self) -> Result<bool, RegistryError> {
        let mut connection = self.registry.shared.pool.acquire().await?;
        let cut = store::checkpoints::cut(&mut connection).await?;
        Ok(cut.is_some_and(|cut| cut.checkpoint.sequence > self.began_after))
    }

    fn meet(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Event(event) => self.verifier.event(&event.as_chained(), &event.hash),
                Step::Checkpoint(signed) => self.verifier.checkpoint(&signed),
            }
        }
    }

    /// What was found, once there is nothing more to look at.
    #[must_use]
    pub fn finish(self) -> Verdict {
        self.verifier.finish()
    }
}

impl From<RegistryError> for ExportError {
    fn from(error: RegistryError) -> Self {
        Self::Write(std::io::Error::other(error))
    }
}
