//! Rows of messages that wait to be sent or were, and how far the audit trail was read for them.

use std::collections::HashMap;

use sqlx::AnyConnection;

use super::many;
use super::secrets::damaged;
use crate::RegistryError;
use crate::outbox::{
    Attempt, Channel, Claimed, Message, MessageFilter, MessageState, NewMessage, Outcome, Waiting,
};

/// Longer than any campaign runs.
const QUESTIONS_KEPT_MS: i64 = 370 * 24 * 60 * 60 * 1000;

/// Where the feed stands, and the newest event of the trail.
pub(crate) async fn feed(connection: &mut AnyConnection) -> Result<(i64, i64), RegistryError> {
    Ok(sqlx::query_as(
        "SELECT f.audit_sequence, h.audit_sequence FROM outbox_feed f JOIN heads h ON h.id = 1 \
         WHERE f.id = 1",
    )
    .fetch_one(connection)
    .await?)
}

pub(crate) async fn advance(
    connection: &mut AnyConnection,
    sequence: i64,
) -> Result<(), RegistryError> {
    sqlx::query("UPDATE outbox_feed SET audit_sequence = $1 WHERE id = 1")
        .bind(sequence)
        .execute(connection)
        .await?;
    Ok(())
}

/// How many messages wait for one target.
pub(crate) async fn count_waiting(
    connection: &mut AnyConnection,
    channel: Channel,
    target: &str,
) -> Result<i64, RegistryError> {
    Ok(sqlx::query_scalar(
        "SELECT COUNT(*) FROM outbox WHERE channel = $1 AND target = $2 AND state = 'waiting'",
    )
    .bind(channel.as_str())
    .bind(target.to_owned())
    .fetch_one(connection)
    .await?)
}

/// What waits, by channel.
pub(crate) async fn waiting(connection: &mut AnyConnection) -> Result<Vec<Waiting>, RegistryError> {
    // An attempt that is under way is counted in `attempts` and has no row yet.
    let rows: Vec<(String, i64, i64, i64)> = sqlx::query_as(
        "SELECT channel, COUNT(*), COUNT(CASE WHEN attempts > 0 AND due_at > made_at THEN 1 END), MIN(made_at) \
         FROM outbox WHERE state = 'waiting' GROUP BY channel",
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|(channel, messages, retried, oldest_at)| {
            Ok(Waiting {
                channel: Channel::parse(&channel).ok_or_else(|| damaged("message"))?,
                messages,
                retried,
                oldest_at,
            })
        })
        .collect()
}

/// Adds a message that is due at once, unless its target was told of this event before.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    message: &NewMessage,
    now: i64,
) -> Result<String, RegistryError> {
    let id = keywright_domain::base62::random_id(&mut rand::rng());
    sqlx::query(
        "INSERT INTO outbox (id, event_id, event_type, channel, target, body, made_at, due_at, \
         claimed_until, attempts, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, 'waiting') \
         ON CONFLICT (channel, target, event_id) DO NOTHING",
    )
    .bind(id.clone())
    .bind(message.event_id.clone())
    .bind(message.event_type.clone())
    .bind(message.channel.as_str())
    .bind(message.target.clone())
    .bind(message.body.clone())
    .bind(now)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(id)
}

/// Keeps a message that nobody tried to send from being sent, until a moment. It is not due before that, so that whoever
/// looks for what is due does not walk through all that is held.
pub(crate) async fn hold(
    connection: &mut AnyConnection,
    id: &str,
    until: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE outbox SET claimed_until = $1, due_at = $2 WHERE id = $3 AND attempts = 0 AND state = 'waiting'",
    )
    .bind(until)
    .bind(until)
    .bind(id.to_owned())
    .execute(connection)
    .await?;
    Ok(())
}

/// Has a message that is still held say something else, and holds it on. Returns false where it is not held any more.
pub(crate) async fn grow(
    connection: &mut AnyConnection,
    id: &str,
    message: &NewMessage,
    now: i64,
    until: i64,
) -> Result<bool, RegistryError> {
    let result = sqlx::query(
        "UPDATE outbox SET body = $1, event_type = $2, claimed_until = $3, due_at = $4 \
         WHERE id = $5 AND attempts = 0 AND state = 'waiting' AND claimed_until > $6",
    )
    .bind(message.body.clone())
    .bind(message.event_type.clone())
    .bind(until)
    .bind(until)
    .bind(id.to_owned())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Whether a target was told of an event, by a message of its own or in one with others.
pub(crate) async fn is_told(
    connection: &mut AnyConnection,
    channel: Channel,
    target: &str,
    event_id: &str,
) -> Result<bool, RegistryError> {
    let found: Option<(String,)> = sqlx::query_as(
        "SELECT event_id FROM outbox WHERE channel = $1 AND target = $2 AND event_id = $3 \
         UNION ALL SELECT event_id FROM outbox_told WHERE channel = $4 AND target = $5 AND event_id = $6",
    )
    .bind(channel.as_str())
    .bind(target.to_owned())
    .bind(event_id.to_owned())
    .bind(channel.as_str())
    .bind(target.to_owned())
    .bind(event_id.to_owned())
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// Writes down that a message tells a target of an event. Returns false where another does.
pub(crate) async fn tell_once(
    connection: &mut AnyConnection,
    channel: Channel,
    target: &str,
    event_id: &str,
    message_id: &str,
) -> Result<bool, RegistryError> {
    let result = sqlx::query(
        "INSERT INTO outbox_told (channel, target, event_id, message_id) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (channel, target, event_id) DO NOTHING",
    )
    .bind(channel.as_str())
    .bind(target.to_owned())
    .bind(event_id.to_owned())
    .bind(message_id.to_owned())
    .execute(connection)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Lets a message be sent that was held.
pub(crate) async fn let_go(
    connection: &mut AnyConnection,
    id: &str,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE outbox SET claimed_until = 0, due_at = $1 WHERE id = $2 AND attempts = 0 AND state = 'waiting' \
         AND claimed_until > 0",
    )
    .bind(now)
    .bind(id.to_owned())
    .execute(connection)
    .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct MessageRow {
    id: String,
    event_id: String,
    event_type: String,
    channel: String,
    target: String,
    made_at: i64,
    due_at: i64,
    attempts: i64,
    state: String,
    ended_at: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct ClaimedRow {
    #[sqlx(flatten)]
    message: MessageRow,
    body: Vec<u8>,
}

impl MessageRow {
    fn into_message(self) -> Result<Message, RegistryError> {
        Ok(Message {
            channel: Channel::parse(&self.channel).ok_or_else(|| damaged("message"))?,
            state: MessageState::parse(&self.state).ok_or_else(|| damaged("message"))?,
            id: self.id,
            event_id: self.event_id,
            event_type: self.event_type,
            target: self.target,
            made_at: self.made_at,
            due_at: self.due_at,
            attempts: self.attempts,
            ended_at: self.ended_at,
        })
    }
}

macro_rules! select {
    ($also:literal, $rest:literal) => {
        concat!(
            "SELECT id, event_id, event_type, channel, target, made_at, due_at, attempts, state, ended_at",
            $also,
            " FROM outbox ",
            $rest
        )
    };
}

/// Whether anything is due in these channels that nobody sends, and that is not for webhooks that are `held`.
pub(crate) async fn is_any_due(
    connection: &mut AnyConnection,
    now: i64,
    channels: &[Channel],
    held: &[String],
) -> Result<bool, RegistryError> {
    for channel in channels {
        let found: Option<(String,)> = sqlx::query_as(
            "SELECT id FROM outbox WHERE state = 'waiting' AND channel = $1 AND due_at <= $2 \
             AND claimed_until <= $3 LIMIT 1",
        )
        .bind(channel.as_str())
        .bind(now)
        .bind(now)
        .fetch_optional(&mut *connection)
        .await?;
        if found.is_none() {
            continue;
        }
        if *channel != Channel::Webhook || held.is_empty() {
            return Ok(true);
        }
        let targets = due_targets(&mut *connection, now, *channel).await?;
        if targets.iter().any(|(target, _)| !held.contains(target)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How many messages are being sent to each target of a channel: those whose claim ends after a moment. What is held
/// back before its first try is not.
pub(crate) async fn on_their_way(
    connection: &mut AnyConnection,
    claimed_beyond: i64,
) -> Result<Vec<(String, String, i64)>, RegistryError> {
    Ok(sqlx::query_as(
        "SELECT channel, target, COUNT(*) FROM outbox WHERE state = 'waiting' AND claimed_until > 0 \
         AND claimed_until > $1 AND attempts > 0 GROUP BY channel, target",
    )
    .bind(claimed_beyond)
    .fetch_all(connection)
    .await?)
}

/// The targets of a channel that something is due for, and since when; whoever waits longest first. Each target costs
/// two looks into an index, however much waits for it.
pub(crate) async fn due_targets(
    connection: &mut AnyConnection,
    now: i64,
    channel: Channel,
) -> Result<Vec<(String, i64)>, RegistryError> {
    Ok(sqlx::query_as(
        "WITH RECURSIVE targets (target) AS ( \
           SELECT MIN(target) FROM outbox WHERE state = 'waiting' AND channel = $1 \
           UNION ALL \
           SELECT (SELECT MIN(o.target) FROM outbox o WHERE o.state = 'waiting' AND o.channel = $2 \
                   AND o.target > t.target) FROM targets t WHERE t.target IS NOT NULL) \
         SELECT target, due_at FROM ( \
           SELECT t.target AS target, (SELECT MIN(o.due_at) FROM outbox o WHERE o.state = 'waiting' \
             AND o.channel = $3 AND o.target = t.target) AS due_at FROM targets t WHERE t.target IS NOT NULL) d \
         WHERE due_at <= $4 ORDER BY due_at, target",
    )
    .bind(channel.as_str())
    .bind(channel.as_str())
    .bind(channel.as_str())
    .bind(now)
    .fetch_all(connection)
    .await?)
}

/// The webhooks whose last try failed.
pub(crate) async fn failing_webhooks(
    connection: &mut AnyConnection,
) -> Result<Vec<String>, RegistryError> {
    Ok(
        sqlx::query_scalar("SELECT id FROM webhooks WHERE failing_since IS NOT NULL")
            .fetch_all(connection)
            .await?,
    )
}

/// How often a webhook was tried from a moment on, counted up to `most`.
pub(crate) async fn count_tries(
    connection: &mut AnyConnection,
    webhook_id: &str,
    from: i64,
    most: i64,
) -> Result<i64, RegistryError> {
    Ok(sqlx::query_scalar(
        "SELECT COUNT(*) FROM (SELECT a.attempt FROM outbox o JOIN outbox_attempts a ON a.message_id = o.id \
         WHERE o.channel = 'webhook' AND o.target = $1 AND o.attempts > 0 \
         AND (o.ended_at IS NULL OR o.ended_at >= $2) AND a.at >= $3 LIMIT $4) tries",
    )
    .bind(webhook_id.to_owned())
    .bind(from)
    .bind(from)
    .bind(most)
    .fetch_one(connection)
    .await?)
}

/// What is due and nobody sends, whatever was due first: to one target, or in a whole channel.
pub(crate) async fn due(
    connection: &mut AnyConnection,
    now: i64,
    (channel, target): (Channel, Option<&str>),
    limit: i64,
) -> Result<Vec<Claimed>, RegistryError> {
    let asked = match target {
        Some(target) => sqlx::query_as(select!(
            ", body",
            "WHERE state = 'waiting' AND channel = $1 AND due_at <= $2 AND claimed_until <= $3 \
             AND target = $5 ORDER BY due_at, id LIMIT $4"
        ))
        .bind(channel.as_str())
        .bind(now)
        .bind(now)
        .bind(limit)
        .bind(target.to_owned()),
        None => sqlx::query_as(select!(
            ", body",
            "WHERE state = 'waiting' AND channel = $1 AND due_at <= $2 AND claimed_until <= $3 \
             ORDER BY due_at, id LIMIT $4"
        ))
        .bind(channel.as_str())
        .bind(now)
        .bind(now)
        .bind(limit),
    };
    let rows: Vec<ClaimedRow> = asked.fetch_all(connection).await?;
    rows.into_iter()
        .map(|row| {
            Ok(Claimed {
                message: row.message.into_message()?,
                body: row.body,
            })
        })
        .collect()
}

pub(crate) async fn claim(
    connection: &mut AnyConnection,
    id: &str,
    until: i64,
) -> Result<(), RegistryError> {
    sqlx::query("UPDATE outbox SET claimed_until = $1, attempts = attempts + 1 WHERE id = $2")
        .bind(until)
        .bind(id.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<Message>, RegistryError> {
    if crate::store::is_no_id(id) {
        return Ok(None);
    }
    let row: Option<MessageRow> = sqlx::query_as(select!("", "WHERE id = $1"))
        .bind(id.to_owned())
        .fetch_optional(connection)
        .await?;
    row.map(MessageRow::into_message).transpose()
}

pub(crate) async fn find_of_event(
    connection: &mut AnyConnection,
    (channel, target): (Channel, &str),
    event_id: &str,
) -> Result<Option<Message>, RegistryError> {
    let row: Option<MessageRow> = sqlx::query_as(select!(
        "",
        "WHERE channel = $1 AND target = $2 AND event_id = $3"
    ))
    .bind(channel.as_str())
    .bind(target.to_owned())
    .bind(event_id.to_owned())
    .fetch_optional(connection)
    .await?;
    row.map(MessageRow::into_message).transpose()
}

/// How a message to the owner of a key stands.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Asked {
    /// The event that it tells of.
    pub(crate) event_id: String,
    /// How it leaves.
    pub(crate) channel: String,
    /// How it stands.
    pub(crate) state: String,
    /// When it arrived or was given up (Unix ms).
    pub(crate) ended_at: Option<i64>,
}

/// The messages of a moment that an owner of keys may have been asked by: to their address, to those who answer for
/// everything, and to webhooks.
pub(crate) async fn asked_at(
    connection: &mut AnyConnection,
    owner_id: &str,
    made_at: i64,
) -> Result<Vec<Asked>, RegistryError> {
    Ok(sqlx::query_as(
        "SELECT o.event_id, o.channel, o.state, o.ended_at FROM ( \
           SELECT 'webhook' AS channel, id AS target FROM webhooks \
           UNION SELECT 'mail', email FROM users WHERE id = $1 AND email IS NOT NULL \
           UNION SELECT 'mail', u.email FROM users u JOIN user_roles r ON r.user_id = u.id \
             WHERE r.role IN ('owner', 'admin') AND u.email IS NOT NULL) t \
         JOIN outbox o ON o.channel = t.channel AND o.target = t.target AND o.made_at = $2",
    )
    .bind(owner_id.to_owned())
    .bind(made_at)
    .fetch_all(connection)
    .await?)
}

/// Messages to a target that fit, before the one a page ended with, newest first.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    (channel, target): (Channel, &str),
    filter: MessageFilter,
    before: (i64, &str),
    limit: i64,
) -> Result<Vec<Message>, RegistryError> {
    let rows: Vec<MessageRow> = sqlx::query_as(select!(
        "",
        "WHERE channel = $1 AND target = $2 AND (made_at, id) < ($3, $4) AND made_at >= $6 \
         AND ($7 = '' OR state = $7) ORDER BY made_at DESC, id DESC LIMIT $5"
    ))
    .bind(channel.as_str())
    .bind(target.to_owned())
    .bind(before.0)
    .bind(before.1.to_owned())
    .bind(limit)
    .bind(filter.since.unwrap_or(i64::MIN))
    .bind(filter.state.map_or("", MessageState::as_str))
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(MessageRow::into_message).collect()
}

pub(crate) async fn insert_attempt(
    connection: &mut AnyConnection,
    id: &str,
    attempt: &Attempt,
) -> Result<(), RegistryError> {
    // A claim that ran out while its request was on the way may be written down twice.
    sqlx::query(
        "INSERT INTO outbox_attempts (message_id, attempt, at, duration_ms, status, error, excerpt) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (message_id, attempt) DO NOTHING",
    )
    .bind(id.to_owned())
    .bind(attempt.attempt)
    .bind(attempt.at)
    .bind(attempt.duration_ms)
    .bind(attempt.status)
    .bind(attempt.error.clone())
    .bind(attempt.excerpt.clone())
    .execute(connection)
    .await?;
    Ok(())
}

/// The attempts of a message, oldest first.
pub(crate) async fn attempts(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Vec<Attempt>, RegistryError> {
    type Row = (i64, i64, i64, Option<i64>, Option<String>, String);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT attempt, at, duration_ms, status, error, excerpt FROM outbox_attempts \
         WHERE message_id = $1 ORDER BY attempt LIMIT 100",
    )
    .bind(id.to_owned())
    .fetch_all(connection)
    .await?;
    let attempt = |(attempt, at, duration_ms, status, error, excerpt): Row| Attempt {
        attempt,
        at,
        duration_ms,
        status,
        error,
        excerpt,
    };
    Ok(rows.into_iter().map(attempt).collect())
}

/// Writes down how a message stands after an attempt.
pub(crate) async fn settle(
    connection: &mut AnyConnection,
    id: &str,
    outcome: &Outcome,
    now: i64,
) -> Result<(), RegistryError> {
    let (state, due_at, ended_at) = match outcome {
        Outcome::Delivered => (MessageState::Delivered, now, Some(now)),
        Outcome::Again(at) => (MessageState::Waiting, *at, None),
        Outcome::Failed => (MessageState::Failed, now, Some(now)),
    };
    // What arrived stays so, whatever a slower attempt says.
    sqlx::query(
        "UPDATE outbox SET state = $1, due_at = $2, ended_at = $3, claimed_until = 0 \
         WHERE id = $4 AND state <> 'delivered'",
    )
    .bind(state.as_str())
    .bind(due_at)
    .bind(ended_at)
    .bind(id.to_owned())
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes a message due now, whatever came of it.
pub(crate) async fn wake(
    connection: &mut AnyConnection,
    id: &str,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE outbox SET state = 'waiting', due_at = $1, ended_at = NULL, claimed_until = 0 WHERE id = $2",
    )
    .bind(now)
    .bind(id.to_owned())
    .execute(connection)
    .await?;
    Ok(())
}

/// How many messages to a target failed, of those made from a moment on.
pub(crate) async fn count_failed(
    connection: &mut AnyConnection,
    (channel, target): (Channel, &str),
    since: i64,
) -> Result<i64, RegistryError> {
    if crate::store::is_no_id(target) {
        return Ok(0);
    }
    Ok(sqlx::query_scalar(
        "SELECT COUNT(*) FROM outbox WHERE channel = $1 AND target = $2 AND made_at >= $3 \
         AND state = 'failed'",
    )
    .bind(channel.as_str())
    .bind(target.to_owned())
    .bind(since)
    .fetch_one(connection)
    .await?)
}

/// Makes the oldest of them due now.
pub(crate) async fn wake_failed(
    connection: &mut AnyConnection,
    (channel, target): (Channel, &str),
    since: i64,
    now: i64,
    most: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE outbox SET state = 'waiting', due_at = $1, ended_at = NULL, claimed_until = 0 WHERE id IN \
         (SELECT id FROM outbox WHERE channel = $2 AND target = $3 AND made_at >= $4 AND state = 'failed' \
          ORDER BY made_at, id LIMIT $5)",
    )
    .bind(now)
    .bind(channel.as_str())
    .bind(target.to_owned())
    .bind(since)
    .bind(most)
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives up everything that waits for a target.
pub(crate) async fn give_up(
    connection: &mut AnyConnection,
    channel: Channel,
    target: &str,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE outbox SET state = 'failed', ended_at = $1 \
         WHERE channel = $2 AND target = $3 AND state = 'waiting'",
    )
    .bind(now)
    .bind(channel.as_str())
    .bind(target.to_owned())
    .execute(connection)
    .await?;
    Ok(())
}

/// Messages that ended before a moment.
///
/// A campaign asks, by what became of its questions, who heard of it: they stay for as long as one may run.
pub(crate) async fn ended(
    connection: &mut AnyConnection,
    before: i64,
    limit: i64,
) -> Result<Vec<String>, RegistryError> {
    Ok(sqlx::query_scalar(
        "SELECT id FROM outbox WHERE ended_at IS NOT NULL AND ended_at < $1 \
         AND (event_type <> 'hygiene.asked' OR ended_at < $3) ORDER BY ended_at LIMIT $2",
    )
    .bind(before)
    .bind(limit)
    .bind(before.saturating_sub(QUESTIONS_KEPT_MS))
    .fetch_all(connection)
    .await?)
}

/// Removes messages that ended, with their attempts. Returns how many went.
pub(crate) async fn remove(
    connection: &mut AnyConnection,
    ids: &[String],
) -> Result<u64, RegistryError> {
    let mut rows = 0;
    for part in ids.chunks(many::MOST) {
        let count = many::padded(part.len());
        let mut rows_of_part = 0;
        for from in [
            "DELETE FROM outbox_attempts WHERE message_id IN ",
            "DELETE FROM outbox_told WHERE message_id IN ",
            "DELETE FROM outbox WHERE id IN ",
        ] {
            let sql = many::list(from, count, "");
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
            for id in many::padding(part, count) {
                query = query.bind(id.clone());
            }
            // The last of the three counts.
            rows_of_part = query.execute(&mut *connection).await?.rows_affected();
        }
        rows += rows_of_part;
    }
    Ok(rows)
}

/// Addresses of the owners of some keys, by key: of those who have one and are not disabled. A person's is the
/// user's, a service's or team's stands in its own row.
pub(crate) async fn owners(
    connection: &mut AnyConnection,
    key_ids: &[String],
) -> Result<HashMap<String, String>, RegistryError> {
    let mut found = HashMap::with_capacity(key_ids.len());
    for part in key_ids.chunks(many::MOST) {
        let count = many::padded(part.len());
        let sql = many::list(
            "SELECT k.id, COALESCE(u.email, p.email) FROM api_keys k JOIN principals p ON p.id = k.owner_id \
             LEFT JOIN users u ON u.id = p.id \
             WHERE COALESCE(u.email, p.email) IS NOT NULL AND p.disabled_at IS NULL AND k.id IN ",
            count,
            "",
        );
        let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
        for id in many::padding(part, count) {
            query = query.bind(id.clone());
        }
        let rows: Vec<(String, String)> = query.fetch_all(&mut *connection).await?;
        found.extend(rows);
    }
    Ok(found)
}

/// Addresses of the people who hold one of the built-in roles that answer for everything.
pub(crate) async fn administrators(
    connection: &mut AnyConnection,
    limit: i64,
) -> Result<Vec<String>, RegistryError> {
    Ok(sqlx::query_scalar(
        "SELECT DISTINCT u.email FROM users u JOIN principals p ON p.id = u.id \
         JOIN user_roles r ON r.user_id = u.id WHERE r.role IN ('owner', 'admin') \
         AND p.disabled_at IS NULL AND u.email IS NOT NULL ORDER BY u.email LIMIT $1",
    )
    .bind(limit)
    .fetch_all(connection)
    .await?)
}
