//! Rows of the notice board, and who has read which.

use std::collections::HashSet;

use keywright_domain::api_keys::redact;
use sqlx::AnyConnection;

use super::many;
use super::notices::rotation_is_off;
use super::secrets::damaged;
use crate::RegistryError;
use crate::board::{BoardKind, BoardNotice, BoardReader};

/// Of foreign text, no more is put up.
const LONGEST: usize = 300;

/// News that are to be put up.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    /// What it is about: news of the same matter take its place.
    pub(crate) matter: String,
    /// The same news are put up once.
    pub(crate) event_id: String,
    pub(crate) kind: BoardKind,
    pub(crate) key_id: Option<String>,
    /// Of what is no key.
    pub(crate) name: String,
    pub(crate) kid: String,
    pub(crate) due_at: Option<i64>,
    pub(crate) count: i64,
    pub(crate) detail: String,
}

impl Post {
    /// Of a kind, without the rest.
    pub(crate) fn new(kind: BoardKind) -> Self {
        Self {
            matter: String::new(),
            event_id: String::new(),
            kind,
            key_id: None,
            name: String::new(),
            kid: String::new(),
            due_at: None,
            count: 0,
            detail: String::new(),
        }
    }
}

fn short(text: &str) -> String {
    redact(text)
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(LONGEST)
        .collect()
}

/// Whether these very news are up.
pub(crate) async fn is_up(
    connection: &mut AnyConnection,
    post: &Post,
) -> Result<bool, RegistryError> {
    let found: Option<(i64,)> =
        sqlx::query_as("SELECT sequence FROM board WHERE matter = $1 AND event_id = $2")
            .bind(post.matter.clone())
            .bind(post.event_id.clone())
            .fetch_optional(connection)
            .await?;
    Ok(found.is_some())
}

/// The events of those of some news that are up.
pub(crate) async fn which_are_up(
    connection: &mut AnyConnection,
    posts: &[Post],
) -> Result<HashSet<String>, RegistryError> {
    let mut up = HashSet::new();
    for part in posts.chunks(many::MOST) {
        let count = many::padded(part.len());
        let sql = many::list("SELECT event_id FROM board WHERE matter IN ", count, "");
        let mut query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql));
        for post in many::padding(part, count) {
            query = query.bind(post.matter.clone());
        }
        let events: Vec<String> = query.fetch_all(&mut *connection).await?;
        up.extend(events);
    }
    Ok(up)
}

/// Puts news up in the place of what was told of the matter before, unless they are up. Only behind the
/// writers' lock: numbers are given here.
pub(crate) async fn put_up(
    connection: &mut AnyConnection,
    post: &Post,
    now: i64,
) -> Result<(), RegistryError> {
    if is_up(connection, post).await? {
        return Ok(());
    }
    let owner: Option<(String,)> = match &post.key_id {
        None => None,
        Some(key_id) => {
            sqlx::query_as("SELECT owner_id FROM api_keys WHERE id = $1")
                .bind(key_id.clone())
                .fetch_optional(&mut *connection)
                .await?
        }
    };
    if post.key_id.is_some() && owner.is_none() {
        // It is gone, and nobody can do anything about it.
        return Ok(());
    }
    // Marks at what it takes the place of mean nothing any more.
    sqlx::query(
        "DELETE FROM board_reads WHERE sequence = (SELECT b.sequence FROM board b WHERE b.matter = $1)",
    )
    .bind(post.matter.clone())
    .execute(&mut *connection)
    .await?;
    sqlx::query("UPDATE board_head SET sequence = sequence + 1 WHERE id = 1")
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO board (matter, event_id, sequence, kind, at, key_id, owner_id, name, kid, due_at, count, detail) \
         VALUES ($1, $2, (SELECT h.sequence FROM board_head h WHERE h.id = 1), $3, $4, $5, $6, $7, $8, $9, $10, $11) \
         ON CONFLICT (matter) DO UPDATE SET event_id = excluded.event_id, sequence = excluded.sequence, \
         kind = excluded.kind, at = excluded.at, key_id = excluded.key_id, owner_id = excluded.owner_id, \
         name = excluded.name, kid = excluded.kid, due_at = excluded.due_at, count = excluded.count, \
         detail = excluded.detail",
    )
    .bind(post.matter.clone())
    .bind(post.event_id.clone())
    .bind(post.kind.as_str())
    .bind(now)
    .bind(post.key_id.clone())
    .bind(owner.map(|(id,)| id))
    .bind(short(&post.name))
    .bind(post.kid.clone())
    .bind(post.due_at)
    .bind(post.count)
    .bind(short(&post.detail))
    .execute(connection)
    .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct BoardRow {
    sequence: i64,
    kind: String,
    at: i64,
    key_id: Option<String>,
    name: String,
    kid: String,
    due_at: Option<i64>,
    count: i64,
    detail: String,
    settled: i64,
    is_read: i64,
}

impl BoardRow {
    fn into_notice(self) -> Result<BoardNotice, RegistryError> {
        Ok(BoardNotice {
            sequence: self.sequence,
            kind: BoardKind::parse(&self.kind).ok_or_else(|| damaged("notice"))?,
            at: self.at,
            key_id: self.key_id,
            name: self.name,
            kid: Some(self.kid).filter(|kid| !kid.is_empty()),
            due_at: self.due_at,
            count: self.count,
            detail: self.detail,
            settled: self.settled != 0,
            read: self.is_read != 0,
        })
    }
}

// What is settled: nothing is left to do about it, or it is no more what it was. Looked up at each look, so that
// nobody has to remember to. What a suspended key's schedule asks for comes back with the key.
macro_rules! settled {
    () => {
        concat!(
            "(k.revoked_at IS NOT NULL OR k.created_at <= p.keys_revoked_at OR k.promoted_to IS NOT NULL) \
             AND b.kind NOT IN ('key.exposed', 'secret.retired_used', 'canary.used', 'hygiene.asked') THEN 1 \
             WHEN b.kind IN ('key.expiring', 'rotation.due') AND (k.kid <> b.kid OR s.stored = 'revoked') THEN 1 \
             WHEN b.kind = 'key.expiring' AND k.expires_order <> b.due_at THEN 1 \
             WHEN b.kind = 'rotation.due' AND (k.disabled_at IS NOT NULL OR ",
            rotation_is_off!("b"),
            ") THEN 1 \
             WHEN b.kind = 'rotation.pending' AND (s.stored <> 'pending' OR s.pending_until <= $1 \
             OR s.expires_at <= $1) THEN 1 \
             WHEN b.kind = 'delivery.failed' AND (s.stored IN ('active', 'retiring', 'retired', 'revoked') \
             OR EXISTS (SELECT 1 FROM rotations r WHERE r.key_id = b.key_id AND r.created_at > b.at)) THEN 1 \
             WHEN b.kind = 'key.reported' AND (s.stored IN ('retired', 'revoked', 'aborted') \
             OR (s.stored = 'retiring' AND s.retires_at <= $1) OR s.expires_at <= $1) THEN 1 \
             WHEN b.kind = 'webhook.disabled' AND NOT EXISTS (SELECT 1 FROM webhooks w \
             WHERE b.matter = 'webhook.disabled ' || w.id AND w.disabled_at IS NOT NULL) THEN 1 \
             WHEN b.kind = 'hygiene.asked' AND (b.due_at <= $1 OR NOT EXISTS (SELECT 1 FROM hygiene_questions q \
             WHERE q.owner_id = b.owner_id AND q.state = 'open' AND q.settled_at IS NULL \
             AND b.matter LIKE 'hygiene ' || q.campaign_id || ' %')) THEN 1 \
             WHEN b.kind = 'overlap.closing' AND (s.stored <> 'retiring' OR b.due_at <= $1 \
             OR (COALESCE(s.retires_at, 0) <> b.due_at AND COALESCE(s.expires_at, 0) <> b.due_at)) THEN 1"
        )
    };
}

// $1: now, $2: the reader, $3: up to which they have read everything, $4: before this number.
macro_rules! rows {
    ($whose:literal) => {
        concat!(
            "SELECT b.sequence, b.kind, b.at, b.key_id, COALESCE(k.name, b.name) AS name, b.kid, b.due_at, b.count, \
             b.detail, CAST(CASE WHEN ",
            settled!(),
            " ELSE 0 END AS BIGINT) AS settled, CAST(CASE WHEN b.sequence <= $3 OR EXISTS (SELECT 1 \
             FROM board_reads r WHERE r.reader = $2 AND r.sequence = b.sequence) THEN 1 ELSE 0 END AS BIGINT) \
             AS is_read FROM board b LEFT JOIN api_keys k ON k.id = b.key_id LEFT JOIN secrets s ON s.kid = b.kid \
             LEFT JOIN principals p ON p.id = k.owner_id \
             WHERE b.sequence < $4",
            $whose
        )
    };
}
macro_rules! unread {
    ($whose:literal) => {
        concat!(
            "SELECT * FROM (",
            rows!($whose),
            // What everything was read up to is not looked at one by one.
            ") n WHERE n.sequence > $3 AND n.settled = 0 AND n.is_read = 0 ORDER BY n.sequence DESC LIMIT $5"
        )
    };
}

/// Newest first; `place`: before which number, and how many.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    reader: &BoardReader,
    unread_only: bool,
    place: (i64, i64),
    now: i64,
) -> Result<Vec<BoardNotice>, RegistryError> {
    let until = read_until(connection, &reader.id).await?;
    let sql = match (reader.owner.is_some(), unread_only) {
        (false, false) => concat!(rows!(""), " ORDER BY b.sequence DESC LIMIT $5"),
        (false, true) => unread!(""),
        (true, false) => concat!(
            rows!(" AND b.owner_id = $6"),
            " ORDER BY b.sequence DESC LIMIT $5"
        ),
        (true, true) => unread!(" AND b.owner_id = $6"),
    };
    let mut query = sqlx::query_as::<_, BoardRow>(sql)
        .bind(now)
        .bind(reader.id.clone())
        .bind(until)
        .bind(place.0)
        .bind(place.1);
    if let Some(owner) = &reader.owner {
        query = query.bind(owner.clone());
    }
    let rows = query.fetch_all(connection).await?;
    rows.into_iter().map(BoardRow::into_notice).collect()
}

/// How many are neither read nor settled, up to `most`.
pub(crate) async fn count_unread(
    connection: &mut AnyConnection,
    reader: &BoardReader,
    most: i64,
    now: i64,
) -> Result<i64, RegistryError> {
    let found = list(connection, reader, true, (i64::MAX, most), now).await?;
    Ok(i64::try_from(found.len()).unwrap_or(i64::MAX))
}

/// Whether there is one of this number that a reader sees.
pub(crate) async fn is_for(
    connection: &mut AnyConnection,
    reader: &BoardReader,
    sequence: i64,
) -> Result<bool, RegistryError> {
    let found: Option<(Option<String>,)> =
        sqlx::query_as("SELECT owner_id FROM board WHERE sequence = $1")
            .bind(sequence)
            .fetch_optional(connection)
            .await?;
    Ok(found.is_some_and(|(owner,)| reader.owner.is_none() || reader.owner == owner))
}

/// The newest number.
pub(crate) async fn newest(connection: &mut AnyConnection) -> Result<i64, RegistryError> {
    Ok(
        sqlx::query_scalar("SELECT sequence FROM board_head WHERE id = 1")
            .fetch_one(connection)
            .await?,
    )
}

/// Up to which number somebody has read everything; 0 for nothing.
pub(crate) async fn read_until(
    connection: &mut AnyConnection,
    reader: &str,
) -> Result<i64, RegistryError> {
    let found: Option<(i64,)> =
        sqlx::query_as("SELECT read_until FROM board_readers WHERE reader = $1")
            .bind(reader.to_owned())
            .fetch_optional(connection)
            .await?;
    Ok(found.map_or(0, |(until,)| until))
}

/// Everything up to there is read, and what was marked of it is forgotten.
pub(crate) async fn set_read_until(
    connection: &mut AnyConnection,
    reader: &str,
    until: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO board_readers (reader, read_until) VALUES ($1, $2) \
         ON CONFLICT (reader) DO UPDATE SET read_until = excluded.read_until",
    )
    .bind(reader.to_owned())
    .bind(until)
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM board_reads WHERE reader = $1 AND sequence <= $2")
        .bind(reader.to_owned())
        .bind(until)
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) async fn mark_read(
    connection: &mut AnyConnection,
    reader: &str,
    sequence: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO board_reads (reader, sequence) VALUES ($1, $2) ON CONFLICT (reader, sequence) DO NOTHING",
    )
    .bind(reader.to_owned())
    .bind(sequence)
    .execute(connection)
    .await?;
    Ok(())
}
