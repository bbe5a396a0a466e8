//! Walks a trail once, in constant memory, and remembers the first thing that is wrong.

use super::{ChainedEvent, CheckpointPublicKey, EventHash, Fault, SignedCheckpoint, Verdict, hash};

/// Verifies a trail that is fed to it: events by ascending sequence, each checkpoint right after
/// the event it names. Several checkpoints may stand after one event.
///
/// A trail whose end was cut looks like a shorter trail. Only what is known from elsewhere shows
/// it: a checkpoint beyond the last event, which may also come from another place than the trail
/// (feed it in the same order), or [`ChainVerifier::expect_through`].
#[derive(Clone, Debug)]
pub struct ChainVerifier {
    registry_id: String,
    trusted: Vec<CheckpointPublicKey>,
    first: Option<i64>,
    /// Sequence of the event before the next one; 0 before event 1.
    position: i64,
    /// Hash of that event.
    hash: EventHash,
    events: u64,
    checkpoints: u64,
    vouched: Option<i64>,
    expected: i64,
    broken: Option<(i64, Fault)>,
}

impl ChainVerifier {
    /// Begins before event 1. Checkpoints must be of this registry, by one of these keys.
    #[must_use]
    pub fn from_genesis(registry_id: &str, trusted: &[CheckpointPublicKey]) -> Self {
        Self {
            registry_id: registry_id.to_owned(),
            trusted: trusted.to_vec(),
            first: None,
            position: 0,
            hash: EventHash::GENESIS,
            events: 0,
            checkpoints: 0,
            vouched: None,
            expected: 0,
            broken: None,
        }
    }

    /// Begins after a checkpoint: the events up to it were pruned, its hash is the hash of the last
    /// of them. The start is verified like every checkpoint; a bad one breaks the trail there.
    ///
    /// That the events before it were *meant* to go is not proved by it: a trail that should begin
    /// at event 1 is verified with [`ChainVerifier::from_genesis`].
    #[must_use]
    pub fn from_checkpoint(
        registry_id: &str,
        trusted: &[CheckpointPublicKey],
        start: &SignedCheckpoint,
    ) -> Self {
        let mut verifier = Self::from_genesis(registry_id, trusted);
        // At 0 there is only one hash to begin with, whatever was signed.
        if start.checkpoint.sequence > 0 {
            verifier.position = start.checkpoint.sequence;
            verifier.hash = start.checkpoint.hash;
        }
        // A start that does not verify breaks the trail at once, so that nothing is built on it.
        verifier.checkpoint(start);
        verifier
    }

    /// Demands that the trail reaches this sequence, which is known from elsewhere. The highest
    /// demand counts.
    pub fn expect_through(&mut self, sequence: i64) {
        self.expected = self.expected.max(sequence);
    }

    /// The next event, with the hash that is stored beside it.
    pub fn event(&mut self, event: &ChainedEvent<'_>, stored: &EventHash) {
        if let Some((at, fault)) = self.broken.take() {
            self.broken = Some((at, clarify(at, fault, event.sequence)));
        } else if event.sequence <= self.position {
            self.broken = Some((event.sequence, Fault::Inserted));
        } else if event.sequence - 1 > self.position {
            let through = event.sequence - 1;
            self.broken = Some((self.position + 1, Fault::Missing { through }));
        } else if hash(&self.hash, event) != *stored {
            self.broken = Some((event.sequence, Fault::Changed));
        } else {
            self.first.get_or_insert(event.sequence);
            self.position = event.sequence;
            self.hash = *stored;
            self.events += 1;
        }
    }

    /// The next checkpoint.
    pub fn checkpoint(&mut self, signed: &SignedCheckpoint) {
        if self.broken.is_some() {
            return;
        }
        let sequence = signed.checkpoint.sequence;
        if let Err(fault) = self.authenticate(signed) {
            self.broken = Some((sequence, fault));
        } else if sequence < self.position {
            self.broken = Some((sequence, Fault::MisplacedCheckpoint));
        } else if sequence > self.position {
            let checkpoint = sequence;
            self.broken = Some((self.position + 1, Fault::CutAfterCheckpoint { checkpoint }));
        } else if signed.checkpoint.hash != self.hash {
            let since = self.vouched.unwrap_or(0).saturating_add(1).min(sequence);
            self.broken = Some((sequence, Fault::Rewritten { since }));
        } else {
            self.checkpoints += 1;
            self.vouched = Some(sequence);
        }
    }

    /// Whether something wrong was found already. Feeding on may still make clearer what it is.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// The verdict, when all was fed.
    #[must_use]
    pub fn finish(self) -> Verdict {
        let vouched = self.vouched;
        if let Some((at, fault)) = self.broken {
            return Verdict::Broken { at, fault, vouched };
        }
        if self.position < self.expected {
            return Verdict::Broken {
                at: self.position + 1,
                fault: Fault::Missing {
                    through: self.expected,
                },
                vouched,
            };
        }
        Verdict::Intact {
            events: self.events,
            first: self.first,
            last: self.first.map(|_| self.position),
            checkpoints: self.checkpoints,
            vouched,
            hash: self.hash,
        }
    }

    /// Whether a trusted key signed it, for this registry.
    fn authenticate(&self, signed: &SignedCheckpoint) -> Result<(), Fault> {
        let key_id = signed.checkpoint.key_id;
        let mut named = self
            .trusted
            .iter()
            .filter(|key| key.key_id() == key_id)
            .peekable();
        if named.peek().is_none() {
            return Err(Fault::UnknownKey { key_id });
        }
        if !named.any(|key| signed.verify(key).is_ok()) {
            return Err(Fault::BadCheckpoint);
        }
        if signed.checkpoint.registry_id != self.registry_id {
            return Err(Fault::ForeignCheckpoint);
        }
        Ok(())
    }
}

/// What looked missing or cut may turn up later: then it is somewhere else, or the hole is smaller
/// than the trail.
fn clarify(at: i64, fault: Fault, sequence: i64) -> Fault {
    match fault {
        Fault::Missing { through } if (at..=through).contains(&sequence) => Fault::OutOfOrder,
        Fault::CutAfterCheckpoint { checkpoint } if (at..=checkpoint).contains(&sequence) => {
            Fault::OutOfOrder
        }
        Fault::CutAfterCheckpoint { checkpoint } if sequence > checkpoint => Fault::Missing {
            through: sequence - 1,
        },
        fault => fault,
    }
}
