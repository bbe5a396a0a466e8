//! Messages that grow while a look goes on: what is due for one target is told in one message, however many
//! transactions it takes to find all of it. Each transaction writes down what it adds together with the message that
//! says so. Nobody sends the message before it is let go, or before whoever makes it is not heard of any more.

use std::collections::HashSet;

use super::{Channel, MadeOf, NewMessage, feed};
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

/// Whoever makes a message has this long between two parts of it, as with what it is made of.
const HELD_MS: i64 = 10 * 60 * 1000;
/// Messages that are let go in one transaction.
const TOGETHER: usize = 200;

/// A message with another part of what it tells.
#[derive(Clone, Debug)]
pub struct Digest {
    /// The message that it was so far (its id), and what it says with this part, if there was one.
    pub grown: Option<(String, NewMessage)>,
    /// What it says of this part alone: for the first part, and where the message so far was sent meanwhile.
    pub fresh: NewMessage,
    /// Names of events in this part that nothing but this message says to have been told.
    pub once: Vec<String>,
}

/// What became of a [`Digest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grown {
    /// The message; empty where too many wait for its target, so that it was not made.
    pub id: String,
    /// Whether this part is all that it says.
    pub is_fresh: bool,
}

impl LocalRegistry {
    /// As [`Self::enqueue`], with messages that go on growing besides. They are held until [`Self::let_go`], or for ten
    /// minutes after their last part. Returns what became of each, in their order; none if another node was faster.
    ///
    /// # Errors
    /// [`RegistryError::Changed`] if another node told meanwhile what is told once; [`RegistryError`] if nothing can be
    /// written.
    pub async fn enqueue_parts(
        &self,
        made_of: MadeOf,
        messages: Vec<NewMessage>,
        digests: Vec<Digest>,
    ) -> Result<Option<Vec<Grown>>, RegistryError> {
        self.write(
            (made_of, messages, digests),
            |unit, (made_of, messages, digests)| {
                Box::pin(async move {
                    if !feed::enqueue(unit, made_of, messages).await? {
                        return Ok(None);
                    }
                    let mut became = Vec::with_capacity(digests.len());
                    for digest in digests {
                        became.push(grow(unit, digest).await?);
                    }
                    Ok(Some(became))
                })
            },
        )
        .await
    }

    /// Those of some events (target, name of the event) that these targets were not told by this channel.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn untold(
        &self,
        channel: Channel,
        events: Vec<(String, String)>,
    ) -> Result<HashSet<(String, String)>, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let mut untold = HashSet::new();
        for (target, event_id) in events {
            if !store::outbox::is_told(&mut connection, channel, &target, &event_id).await? {
                untold.insert((target, event_id));
            }
        }
        Ok(untold)
    }

    /// Lets messages go that grew: they say all there is to say. What was sent meanwhile is let alone.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written: then they go by themselves ten minutes after their last part.
    pub async fn let_go(&self, ids: &[String]) -> Result<(), RegistryError> {
        for part in ids.chunks(TOGETHER) {
            self.write(part.to_vec(), |unit, ids| {
                Box::pin(async move {
                    let now = unit.now();
                    for id in ids {
                        store::outbox::let_go(unit.write(), id, now).await?;
                    }
                    Ok(())
                })
            })
            .await?;
        }
        Ok(())
    }
}

async fn grow(unit: &mut Unit, digest: &Digest) -> Result<Grown, RegistryError> {
    let grown = write(unit, digest).await?;
    if grown.id.is_empty() {
        return Ok(grown);
    }
    let NewMessage {
        channel, target, ..
    } = &digest.fresh;
    for event_id in &digest.once {
        if !store::outbox::tell_once(unit.write(), *channel, target, event_id, &grown.id).await? {
            return Err(RegistryError::Changed);
        }
    }
    Ok(grown)
}

async fn write(unit: &mut Unit, digest: &Digest) -> Result<Grown, RegistryError> {
    let now = unit.now();
    let until = now.saturating_add(HELD_MS);
    if let Some((id, message)) = &digest.grown
        && store::outbox::grow(unit.write(), id, message, now, until).await?
    {
        return Ok(Grown {
            id: id.clone(),
            is_fresh: false,
        });
    }
    let message = &digest.fresh;
    let waiting =
        store::outbox::count_waiting(unit.read(), message.channel, &message.target).await?;
    if waiting >= feed::most_waiting(&message.event_type) {
        store::outbox_dropped::count(unit, message.channel, &message.target, 1).await?;
        return Ok(Grown {
            id: String::new(),
            is_fresh: true,
        });
    }
    let id = store::outbox::insert(unit.write(), message, now).await?;
    store::outbox::hold(unit.write(), &id, until).await?;
    unit.made(&id);
    Ok(Grown { id, is_fresh: true })
}
