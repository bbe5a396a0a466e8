//! What the verifier found, in types for code and in plain words for people.

use core::fmt;

use super::{CheckpointKeyId, EventHash};

/// The verdict over one trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every event follows from the one before it, and every checkpoint fits.
    Intact {
        /// How many events were checked.
        events: u64,
        /// The first of them; more than 1 in a trail that begins after a checkpoint.
        first: Option<i64>,
        /// The last of them.
        last: Option<i64>,
        /// How many checkpoints fit, the one it began with included.
        checkpoints: u64,
        /// The last event that a checkpoint vouches for. Later ones are linked, but someone who may
        /// write the trail could have replaced or cut them; without any, all of it.
        vouched: Option<i64>,
        /// The hash of the last event; of the start if there is none.
        hash: EventHash,
    },
    /// Something is wrong.
    Broken {
        /// The first sequence that is wrong.
        at: i64,
        /// What is wrong there.
        fault: Fault,
        /// The last event before it that a checkpoint vouches for.
        vouched: Option<i64>,
    },
}

impl Verdict {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        matches!(self, Self::Intact { .. })
    }
}

/// What is wrong at a sequence (`at` below).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The event and its hash do not fit what stands before it. The event or its hash was changed;
    /// or an event before it, later than the last checkpoint, was replaced together with its hash.
    Changed,
    /// The events from `at` to here are not in the trail.
    Missing {
        /// The last one that is missing.
        through: i64,
    },
    /// The event is in the trail, but not in its place.
    OutOfOrder,
    /// An event that does not belong: its sequence was already passed.
    Inserted,
    /// The chain holds, but a checkpoint vouches for another hash of `at`: events were rewritten
    /// together with their hashes, and the change is one of these.
    Rewritten {
        /// The first one that no earlier checkpoint vouches for.
        since: i64,
    },
    /// A checkpoint whose signature its key did not make.
    BadCheckpoint,
    /// A checkpoint of a key that is not trusted.
    UnknownKey {
        /// The key it names.
        key_id: CheckpointKeyId,
    },
    /// A checkpoint of another registry.
    ForeignCheckpoint,
    /// A checkpoint that does not stand right after its event, so that it cannot be compared.
    MisplacedCheckpoint,
    /// The trail ends before `at`, although a checkpoint vouches for later events.
    CutAfterCheckpoint {
        /// The event that the checkpoint stands after.
        checkpoint: i64,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intact {
                first,
                last,
                vouched,
                ..
            } => write_intact(*first, *last, *vouched, f),
            Self::Broken { at, fault, vouched } => {
                write_fault(*at, fault, f)?;
                match vouched {
                    Some(vouched) if *vouched > 0 => {
                        write!(f, " A checkpoint vouches for everything up to {vouched}.")
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

fn write_intact(
    first: Option<i64>,
    last: Option<i64>,
    vouched: Option<i64>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let (Some(first), Some(last)) = (first, last) else {
        return match vouched {
            Some(vouched) if vouched > 0 => write!(
                f,
                "The trail holds no events; a checkpoint vouches for those up to {vouched}."
            ),
            _ => f.write_str("The trail holds no events."),
        };
    };
    write!(f, "The trail is intact: {}.", Events(first, last))?;
    match vouched {
        None => f.write_str(
            " No checkpoint vouches for it: someone who may write all of it could have made it anew.",
        ),
        Some(vouched) if vouched >= last => f.write_str(" A checkpoint vouches for all of it."),
        Some(vouched) => write!(
            f,
            " A checkpoint vouches for everything up to {vouched}, not yet for {}.",
            Events(first.max(vouched.saturating_add(1)), last)
        ),
    }
}

fn write_fault(at: i64, fault: &Fault, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match fault {
        Fault::Changed => write!(
            f,
            "Event {at} is not what was written: it was changed, or an event before it was replaced \
             together with its hash."
        ),
        Fault::Missing { through } if *through <= at => write!(f, "Event {at} is missing."),
        Fault::Missing { through } => write!(f, "Events {at} to {through} are missing."),
        Fault::OutOfOrder => write!(f, "Event {at} is not in its place."),
        Fault::Inserted => write!(
            f,
            "An event {at} was added: the trail had already passed that number."
        ),
        Fault::Rewritten { since } => write!(
            f,
            "Event {at} is not the one that its checkpoint was signed for: {} rewritten.",
            if *since >= at {
                "it was".to_owned()
            } else {
                format!("at least one of the {} was", Events(*since, at))
            }
        ),
        Fault::BadCheckpoint => {
            write!(f, "The checkpoint at event {at} is forged or was changed.")
        }
        Fault::UnknownKey { key_id } => write!(
            f,
            "The checkpoint at event {at} is signed with the key {key_id}, which is not trusted here."
        ),
        Fault::ForeignCheckpoint => write!(
            f,
            "The checkpoint at event {at} belongs to another registry."
        ),
        Fault::MisplacedCheckpoint => write!(
            f,
            "The checkpoint at event {at} does not stand right after that event."
        ),
        Fault::CutAfterCheckpoint { checkpoint } => write!(
            f,
            "The trail was cut: event {at} and later ones are missing, although a checkpoint vouches \
             for everything up to {checkpoint}."
        ),
    }
}

/// One or several events, by number.
struct Events(i64, i64);

impl fmt::Display for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == self.1 {
            write!(f, "event {}", self.0)
        } else {
            write!(f, "events {} to {}", self.0, self.1)
        }
    }
}
