//! Messages on their way: taken by one node, tried, tried again, and forgotten in the end.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::Channel;
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

/// Whoever took a message has this long to send it; then another node may.
const CLAIM_MS: i64 = 2 * 60 * 1000;
/// No attempt takes longer: whoever sends ends it then. One that began before is of a node that is gone, and takes
/// nobody's place.
pub const ATTEMPT: Duration = Duration::from_secs(40);
/// Of an answer, no more is kept.
const EXCERPT: usize = 300;
/// Rows removed in one transaction at most.
const BATCH: i64 = 500;
/// Messages that are sent again at once: half of what may wait for a target before others are not made for it.
const MOST_RESENT: i64 = 5_000;

/// How a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageState {
    /// It is to be sent.
    Waiting,
    /// It arrived.
    Delivered,
    /// It is not tried any more.
    Failed,
}

impl MessageState {
    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Waiting, Self::Delivered, Self::Failed]
            .into_iter()
            .find(|one| one.as_str() == text)
    }
}

/// A message, without what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Stable id.
    pub id: String,
    /// The event: the same for every target.
    pub event_id: String,
    /// What happened.
    pub event_type: String,
    /// How it leaves.
    pub channel: Channel,
    /// To whom.
    pub target: String,
    /// When it was made (Unix ms).
    pub made_at: i64,
    /// The next try (Unix ms), while it waits.
    pub due_at: i64,
    /// How often it was tried.
    pub attempts: i64,
    /// How it stands.
    pub state: MessageState,
    /// When it arrived or was given up (Unix ms).
    pub ended_at: Option<i64>,
}

/// Which messages of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageFilter {
    /// Those that stand so.
    pub state: Option<MessageState>,
    /// Those made at this moment (Unix ms) or later.
    pub since: Option<i64>,
}

/// What came of sending again whatever failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resent {
    /// So many are sent again, the oldest of them.
    pub count: i64,
    /// So many that failed are left.
    pub left: i64,
}

impl Resent {
    /// As a request that was carried out is remembered by it ([`RegistryError::DoneBefore`]).
    fn to_text(self) -> String {
        format!("{}/{}", self.count, self.left)
    }

    /// Reads what a request is remembered by.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (count, left) = text.split_once('/')?;
        Some(Self {
            count: count.parse().ok()?,
            left: left.parse().ok()?,
        })
    }
}

/// A message that the caller is to send.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The message; this attempt is counted.
    pub message: Message,
    /// What it says.
    pub body: Vec<u8>,
}

/// One attempt to send a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// 1 for the first.
    pub attempt: i64,
    /// When (Unix ms).
    pub at: i64,
    /// How long it took.
    pub duration_ms: i64,
    /// Status of HTTP, where somebody answered.
    pub status: Option<i64>,
    /// Why it failed.
    pub error: Option<String>,
    /// The beginning of the answer.
    pub excerpt: String,
}

/// What waits in one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The channel.
    pub channel: Channel,
    /// Messages that are to be sent.
    pub messages: i64,
    /// Those of them that were tried in vain.
    pub retried: i64,
    /// When the oldest was made (Unix ms).
    pub oldest_at: i64,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It arrived.
    Delivered,
    /// It is to be tried again at this moment (Unix ms).
    Again(i64),
    /// It is not tried any more.
    Failed,
}

impl LocalRegistry {
    /// Takes up to `limit` (1 to 100) messages that are due, of these channels: nobody else gets them
    /// for two minutes. Targets take turns, and none has more than its share at a time, so that one that is
    /// dead or silent holds up nobody else.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read or written.
    pub async fn claim_messages(
        &self,
        channels: &[Channel],
        limit: u32,
    ) -> Result<Vec<Claimed>, RegistryError> {
        self.claim_messages_but(channels, limit, &[]).await
    }

    /// The same, without those to the webhooks `held`, which the caller leaves alone for a while.
    ///
    /// # Errors
    /// As [`Self::claim_messages`].
    pub async fn claim_messages_but(
        &self,
        channels: &[Channel],
        limit: u32,
        held: &[String],
    ) -> Result<Vec<Claimed>, RegistryError> {
        let now = self.now();
        let mut connection = self.shared.pool.acquire().await?;
        if !store::outbox::is_any_due(&mut connection, now, channels, held).await? {
            return Ok(Vec::new());
        }
        drop(connection);
        let limit = i64::from(limit.clamp(1, 100));
        let input = (channels.to_vec(), limit, held.to_vec());
        self.write(input, |unit, (channels, limit, held)| {
            Box::pin(claim(unit, channels, *limit, held))
        })
        .await
    }

    /// Writes down what came of an attempt; the message is free again.
    ///
    /// # Errors
    /// [`RegistryError::MessageNotFound`].
    pub async fn record_attempt(
        &self,
        message_id: &str,
        attempt: Attempt,
        outcome: Outcome,
    ) -> Result<(), RegistryError> {
        let attempt = Attempt {
            error: attempt.error.as_deref().map(|text| cut(text, EXCERPT)),
            excerpt: cut(&attempt.excerpt, EXCERPT),
            ..attempt
        };
        let input = (message_id.to_owned(), attempt, outcome);
        self.write(input, |unit, (id, attempt, outcome)| {
            Box::pin(async move {
                let now = unit.now();
                if store::outbox::find(unit.read(), id).await?.is_none() {
                    return Err(RegistryError::MessageNotFound);
                }
                store::outbox::insert_attempt(unit.write(), id, attempt).await?;
                store::outbox::settle(unit.write(), id, outcome, now).await
            })
        })
        .await
    }

    /// The message that tells a target of an event.
    ///
    /// # Errors
    /// [`RegistryError::MessageNotFound`].
    pub async fn find_message_of(
        &self,
        channel: Channel,
        target: &str,
        event_id: &str,
    ) -> Result<Message, RegistryError> {
        let connection = &mut *self.shared.pool.acquire().await?;
        store::outbox::find_of_event(connection, (channel, target), event_id)
            .await?
            .ok_or(RegistryError::MessageNotFound)
    }

    /// A page of the messages to a target, newest first.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`] for a cursor of another list.
    pub async fn list_messages(
        &self,
        channel: Channel,
        target: &str,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<Message>, Option<String>), RegistryError> {
        let all = MessageFilter::default();
        self.list_messages_of(channel, target, all, cursor, limit)
            .await
    }

    /// The same of those that fit.
    ///
    /// # Errors
    /// As [`Self::list_messages`].
    pub async fn list_messages_of(
        &self,
        channel: Channel,
        target: &str,
        filter: MessageFilter,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<Message>, Option<String>), RegistryError> {
        let before = match cursor {
            None => (i64::MAX, String::new()),
            Some(cursor) => {
                let (at, id) = cursor.split_once('~').ok_or(RegistryError::Cursor)?;
                (
                    at.parse().map_err(|_| RegistryError::Cursor)?,
                    id.to_owned(),
                )
            }
        };
        let limit = limit.clamp(1, 500) as usize;
        let mut connection = self.shared.pool.acquire().await?;
        let mut items = store::outbox::list(
            &mut connection,
            (channel, target),
            filter,
            (before.0, &before.1),
            i64::try_from(limit + 1).unwrap_or(i64::MAX),
        )
        .await?;
        let more = items.len() > limit;
        items.truncate(limit);
        let last = items.last().filter(|_| more);
        let next = last.map(|last| format!("{}~{}", last.made_at, last.id));
        Ok((items, next))
    }

    /// A message with its attempts, oldest first.
    ///
    /// # Errors
    /// [`RegistryError::MessageNotFound`].
    pub async fn find_message(&self, id: &str) -> Result<(Message, Vec<Attempt>), RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let message = store::outbox::find(&mut connection, id)
            .await?
            .ok_or(RegistryError::MessageNotFound)?;
        let attempts = store::outbox::attempts(&mut connection, id).await?;
        Ok((message, attempts))
    }

    /// Has a message sent again, whatever came of it before. Its attempts count on.
    ///
    /// # Errors
    /// [`RegistryError::MessageNotFound`].
    pub async fn resend_message(&self, id: &str) -> Result<Message, RegistryError> {
        self.write(id.to_owned(), |unit, id| {
            Box::pin(async move {
                let now = unit.now();
                let mut message = store::outbox::find(unit.read(), id)
                    .await?
                    .ok_or(RegistryError::MessageNotFound)?;
                store::outbox::wake(unit.write(), id, now).await?;
                unit.made(id);
                message.state = MessageState::Waiting;
                message.due_at = now;
                message.ended_at = None;
                Ok(message)
            })
        })
        .await
    }

    /// Has messages to a target sent again that failed, of those made at `since` (Unix ms) or later: at most 5,000, the
    /// oldest first. Their attempts count on.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn resend_failed(
        &self,
        channel: Channel,
        target: &str,
        since: i64,
    ) -> Result<Resent, RegistryError> {
        let input = (channel, target.to_owned(), since);
        self.write(input, |unit, (channel, target, since)| {
            Box::pin(async move {
                let (to, now) = ((*channel, target.as_str()), unit.now());
                unit.take_time().await?;
                let failed = store::outbox::count_failed(unit.read(), to, *since).await?;
                let resent = Resent {
                    count: failed.min(MOST_RESENT),
                    left: failed.saturating_sub(MOST_RESENT).max(0),
                };
                if resent.count > 0 {
                    store::outbox::wake_failed(unit.write(), to, *since, now, resent.count).await?;
                }
                unit.made(&resent.to_text());
                Ok(resent)
            })
        })
        .await
    }

    /// Addresses of those who answer for everything: owners and administrators, at most 20.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn administrator_addresses(&self) -> Result<Vec<String>, RegistryError> {
        store::outbox::administrators(&mut *self.shared.pool.acquire().await?, 20).await
    }

    /// Addresses of the owners of some keys, by key: of those who have one and are not disabled.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn owner_addresses(
        &self,
        key_ids: &[String],
    ) -> Result<HashMap<String, String>, RegistryError> {
        store::outbox::owners(&mut *self.shared.pool.acquire().await?, key_ids).await
    }

    /// Removes a message, however it stands.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn remove_message(&self, id: &str) -> Result<(), RegistryError> {
        self.write(vec![id.to_owned()], |unit, ids| {
            Box::pin(async move { store::outbox::remove(unit.write(), ids).await.map(drop) })
        })
        .await
    }

    /// What waits to be sent, by channel; channels of which nothing waits are not in it.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn waiting_messages(&self) -> Result<Vec<Waiting>, RegistryError> {
        store::outbox::waiting(&mut *self.shared.pool.acquire().await?).await
    }

    /// Removes messages that ended before this moment (Unix ms), a few hundred at most. Those by which campaigns ask stay for
    /// 370 days more. Returns how many went.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn prune_messages(&self, ended_before: i64) -> Result<u64, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let old = store::outbox::ended(&mut connection, ended_before, BATCH).await?;
        drop(connection);
        if old.is_empty() {
            return Ok(0);
        }
        self.write(old, |unit, old| {
            Box::pin(async move { store::outbox::remove(unit.write(), old).await })
        })
        .await
    }
}

/// One target's turn, or one of a channel in which targets do not matter.
struct Turn {
    channel: Channel,
    target: Option<String>,
    /// Messages that it may still take.
    room: i64,
    busy: i64,
    due_at: i64,
}

/// So many messages are on their way to one target at a time, over all nodes.
const fn most_to_one(channel: Channel, is_failing: bool) -> i64 {
    match channel {
        Channel::Webhook if is_failing => 1,
        Channel::Webhook => 8,
        Channel::Logout => 4,
        Channel::Mail | Channel::FoundKey => i64::MAX,
    }
}

/// And so many of a channel are begun while others of it are: the rest of the places is for other channels.
const fn most_of(channel: Channel) -> i64 {
    match channel {
        Channel::Mail | Channel::Logout => 8,
        Channel::Webhook | Channel::FoundKey => i64::MAX,
    }
}

/// The turns, and how many more messages of each channel may be on their way.
async fn turns(
    unit: &mut Unit,
    channels: &[Channel],
    held: &[String],
) -> Result<(Vec<Turn>, HashMap<&'static str, i64>), RegistryError> {
    let now = unit.now();
    let attempt_ms = i64::try_from(ATTEMPT.as_millis()).unwrap_or(CLAIM_MS);
    let beyond = now.saturating_add(CLAIM_MS.saturating_sub(attempt_ms));
    let busy = store::outbox::on_their_way(unit.read(), beyond).await?;
    let mut left = HashMap::new();
    let mut failing = HashSet::new();
    if channels.contains(&Channel::Webhook) {
        failing.extend(store::outbox::failing_webhooks(unit.read()).await?);
    }
    let mut turns = Vec::new();
    for channel in channels.iter().copied() {
        let busy: HashMap<&str, i64> = busy
            .iter()
            .filter(|(of, _, _)| of == channel.as_str())
            .map(|(_, target, count)| (target.as_str(), *count))
            .collect();
        let all: i64 = busy.values().sum();
        let room = most_of(channel).saturating_sub(all);
        if room <= 0 {
            continue;
        }
        left.insert(channel.as_str(), room);
        // Mail goes through one server, and what was found to this registry, whatever their target.
        if most_to_one(channel, false) == i64::MAX {
            turns.push(Turn {
                channel,
                target: None,
                room,
                busy: 0,
                due_at: 0,
            });
            continue;
        }
        for (target, due_at) in store::outbox::due_targets(unit.read(), now, channel).await? {
            if channel == Channel::Webhook && held.contains(&target) {
                continue;
            }
            let busy = busy.get(target.as_str()).copied().unwrap_or(0);
            let most = most_to_one(channel, failing.contains(&target));
            if busy < most {
                turns.push(Turn {
                    channel,
                    target: Some(target),
                    room: room.min(most - busy),
                    busy,
                    due_at,
                });
            }
        }
    }
    // Whoever has nothing on its way goes before who has, and then whoever waits longest.
    turns.sort_by_key(|turn| (turn.busy, turn.due_at));
    Ok((turns, left))
}

async fn claim(
    unit: &mut Unit,
    channels: &[Channel],
    limit: i64,
    held: &[String],
) -> Result<Vec<Claimed>, RegistryError> {
    let now = unit.now();
    let most = usize::try_from(limit).unwrap_or(1);
    let (turns, mut left) = turns(unit, channels, held).await?;
    let mut queues = Vec::new();
    for turn in turns.into_iter().take(most) {
        let to = (turn.channel, turn.target.as_deref());
        let due = store::outbox::due(unit.read(), now, to, turn.room.min(limit)).await?;
        queues.push(due.into_iter());
    }
    let mut taken: Vec<Claimed> = Vec::new();
    loop {
        let before = taken.len();
        for queue in &mut queues {
            let Some(next) = queue.next() else { continue };
            let left = left.entry(next.message.channel.as_str()).or_default();
            if *left > 0 && taken.len() < most {
                *left -= 1;
                taken.push(next);
            }
        }
        if taken.len() == before {
            break;
        }
    }
    let until = now.saturating_add(CLAIM_MS);
    for one in &mut taken {
        store::outbox::claim(unit.write(), &one.message.id, until).await?;
        one.message.attempts += 1;
    }
    Ok(taken)
}

/// Foreign text: capped, without control characters, never with a key in it.
pub(super) fn cut(text: &str, most: usize) -> String {
    keywright_domain::api_keys::redact(text)
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(most)
        .collect()
}
