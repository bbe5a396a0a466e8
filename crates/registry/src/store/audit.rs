//! The audit trail: appended to inside the transaction of each change, never updated.

use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::audit_chain::{self, ChainedEvent, EventHash};
use sqlx::AnyConnection;

use super::heads::Head;
use super::{filters, many, search};
use crate::RegistryError;
use crate::audit::{AuditEvent, AuditQuery, SubjectFilter};
use crate::audit_export::ExportEvent;

/// An event about to be written; its sequence is given by the insert.
pub(crate) struct NewEvent {
    pub(crate) action: AuditAction,
    pub(crate) target_kind: &'static str,
    pub(crate) target_id: String,
    pub(crate) target_name: String,
    pub(crate) summary: String,
    pub(crate) details: Vec<(&'static str, String)>,
}

impl NewEvent {
    /// Whether a text of it holds U+0000.
    pub(crate) fn holds_nul(&self) -> bool {
        let texts = [&self.target_id, &self.target_name, &self.summary];
        let mut all = texts
            .into_iter()
            .chain(self.details.iter().map(|(_, text)| text));
        all.any(|text| text.contains('\0'))
    }

    pub(crate) fn about_registry(action: AuditAction, summary: String) -> Self {
        Self {
            action,
            target_kind: "registry",
            target_id: "registry".to_owned(),
            target_name: "Registry".to_owned(),
            summary,
            details: Vec::new(),
        }
    }
}

#[derive(sqlx::FromRow)]
struct AuditRow {
    sequence: i64,
    at: i64,
    action: String,
    actor: String,
    target_kind: String,
    target_id: String,
    target_name: String,
    summary: String,
    details: String,
}

/// Appends events: each is chained to the one before.
pub(crate) async fn insert_all(
    connection: &mut AnyConnection,
    head: &mut Head,
    now: i64,
    events: &[(Actor, NewEvent)],
) -> Result<(), RegistryError> {
    const COLUMNS: usize = 11;
    for part in many::parts(events) {
        let sql = many::rows(
            connection,
            "INSERT INTO audit_events (sequence, at, action, actor, target_kind, target_id, \
             target_name, summary, details, search_text, hash) VALUES ",
            part.len(),
            COLUMNS,
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for (actor, event) in part {
            let details = serde_json::to_string(&event.details)
                .map_err(|error| RegistryError::Store(error.to_string()))?;
            let search_text = format!(
                "{} {} {} {}",
                event.action.as_str(),
                actor.as_str(),
                event.target_name,
                event.summary
            );
            head.audit_sequence += 1;
            let chained = ChainedEvent {
                sequence: head.audit_sequence,
                at: now,
                action: event.action.as_str(),
                actor: actor.as_str(),
                target_kind: event.target_kind,
                target_id: &event.target_id,
                target_name: &event.target_name,
                summary: &event.summary,
                details: &details,
            };
            let hash = audit_chain::hash(&event_hash(&head.audit_hash)?, &chained);
            head.audit_hash = hash.as_bytes().to_vec();
            query = query
                .bind(head.audit_sequence)
                .bind(now)
                .bind(event.action.as_str())
                .bind(actor.as_str().to_owned())
                .bind(event.target_kind)
                .bind(event.target_id.clone())
                .bind(event.target_name.clone())
                .bind(event.summary.clone())
                .bind(details)
                .bind(search::fold(&search_text))
                .bind(head.audit_hash.clone());
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Chains the events of older versions, which had no hash. Returns where the chain then stands.
pub(crate) async fn chain_all(
    connection: &mut AnyConnection,
) -> Result<(i64, Vec<u8>), RegistryError> {
    let mut hash = EventHash::GENESIS;
    let mut sequence = 0;
    loop {
        let rows: Vec<AuditRow> = sqlx::query_as(
            "SELECT sequence, at, action, actor, target_kind, target_id, target_name, summary, details \
             FROM audit_events WHERE sequence > $1 ORDER BY sequence LIMIT 500",
        )
        .bind(sequence)
        .fetch_all(&mut *connection)
        .await?;
        let Some(last) = rows.last() else {
            return Ok((sequence, hash.as_bytes().to_vec()));
        };
        sequence = last.sequence;
        for row in &rows {
            hash = audit_chain::hash(&hash, &row.chained());
            sqlx::query("UPDATE audit_events SET hash = $1 WHERE sequence = $2")
                .bind(hash.as_bytes().to_vec())
                .bind(row.sequence)
                .execute(&mut *connection)
                .await?;
        }
    }
}

/// The last event and its hash, as the row that every writer locks has them.
pub(crate) async fn head(
    connection: &mut AnyConnection,
) -> Result<(i64, EventHash), RegistryError> {
    let (sequence, hash): (i64, Vec<u8>) =
        sqlx::query_as("SELECT audit_sequence, audit_hash FROM heads WHERE id = 1")
            .fetch_one(connection)
            .await?;
    Ok((sequence, event_hash(&hash)?))
}

/// Events with their hashes, as exports have them.
pub(crate) async fn chained_after(
    connection: &mut AnyConnection,
    after: i64,
    limit: i64,
) -> Result<Vec<ExportEvent>, RegistryError> {
    #[derive(sqlx::FromRow)]
    struct ChainedRow {
        #[sqlx(flatten)]
        event: AuditRow,
        hash: Vec<u8>,
    }
    let rows: Vec<ChainedRow> = sqlx::query_as(
        "SELECT sequence, at, action, actor, target_kind, target_id, target_name, summary, details, hash \
         FROM audit_events WHERE sequence > $1 ORDER BY sequence LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|ChainedRow { event, hash }| {
            Ok(ExportEvent {
                sequence: event.sequence,
                at: event.at,
                action: event.action,
                actor: event.actor,
                target_kind: event.target_kind,
                target_id: event.target_id,
                target_name: event.target_name,
                summary: event.summary,
                details: event.details,
                hash: event_hash(&hash)?,
            })
        })
        .collect()
}

pub(crate) fn event_hash(bytes: &[u8]) -> Result<EventHash, RegistryError> {
    let bytes: [u8; 32] = bytes
        .try_into()
        .map_err(|_| super::secrets::damaged("hash of the audit trail"))?;
    Ok(EventHash::from_bytes(bytes))
}

impl AuditRow {
    fn chained(&self) -> ChainedEvent<'_> {
        ChainedEvent {
            sequence: self.sequence,
            at: self.at,
            action: &self.action,
            actor: &self.actor,
            target_kind: &self.target_kind,
            target_id: &self.target_id,
            target_name: &self.target_name,
            summary: &self.summary,
            details: &self.details,
        }
    }
}

/// A search looks at so many events at most: about 50 ms.
const SEARCHED: i64 = 50_000;

/// Events before a place, newest first. Also the oldest event that was looked at, if older ones
/// are left: what a filter leaves out may be long.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    query: &AuditQuery,
) -> Result<(Vec<AuditEvent>, Option<i64>), RegistryError> {
    if filters::is_impossible(&query.text)
        || [&query.action, &query.actor, &query.target]
            .into_iter()
            .flatten()
            .any(|text| super::is_no_id(text))
    {
        return Ok((Vec::new(), None));
    }
    let subject = match query.subject {
        SubjectFilter::All => "",
        SubjectFilter::ApiKeys => "api_key",
        SubjectFilter::Accounts => "account",
        SubjectFilter::Registry => "registry",
    };
    let (oldest, newest): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT COALESCE(MIN(sequence), 0) FROM audit_events), \
         (SELECT COALESCE(MAX(sequence), 0) FROM audit_events)",
    )
    .fetch_one(&mut *connection)
    .await?;
    let before = query
        .before
        .unwrap_or(i64::MAX)
        .min(newest.saturating_add(1));
    let back_to = before.saturating_sub(SEARCHED).max(oldest);
    let rows: Vec<AuditRow> = sqlx::query_as(
        "SELECT sequence, at, action, actor, target_kind, target_id, target_name, summary, details \
         FROM audit_events WHERE sequence < $1 AND sequence >= $2 \
         AND ($3 = '' OR target_kind = $3 OR ($3 = 'registry' AND target_kind = 'scope')) \
         AND ($4 = '%%' OR search_text LIKE $4 ESCAPE '\\') \
         AND ($6 = '' OR action = $6 OR action LIKE $7 ESCAPE '\\') \
         AND ($8 = '' OR actor = $8) AND ($9 = '' OR target_id = $9) \
         AND at >= $10 AND at < $11 \
         ORDER BY sequence DESC LIMIT $5",
    )
    .bind(before)
    .bind(back_to)
    .bind(subject)
    .bind(search::like_pattern(&query.text))
    .bind(i64::from(query.limit))
    .bind(query.action.clone().unwrap_or_default())
    .bind(beginning(query.action.as_deref()))
    .bind(query.actor.clone().unwrap_or_default())
    .bind(query.target.clone().unwrap_or_default())
    .bind(query.from.unwrap_or(i64::MIN))
    .bind(query.until.unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    let is_all = back_to <= oldest;
    Ok((
        rows.into_iter().map(from_row).collect(),
        (!is_all).then_some(back_to),
    ))
}

/// Events of some actions after one and up to another, oldest first.
pub(crate) async fn list_between(
    connection: &mut AnyConnection,
    (after, until): (i64, i64),
    actions: &[&str],
    limit: i64,
) -> Result<Vec<AuditEvent>, RegistryError> {
    let rows: Vec<AuditRow> = sqlx::query_as(
        "SELECT sequence, at, action, actor, target_kind, target_id, target_name, summary, details \
         FROM audit_events WHERE sequence > $1 AND sequence <= $2 \
         AND $3 LIKE ('% ' || action || ' %') ORDER BY sequence LIMIT $4",
    )
    .bind(after)
    .bind(until)
    .bind(format!(" {} ", actions.join(" ")))
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(from_row).collect())
}

/// The pattern for actions that begin so: only a text that ends with a dot is a beginning.
fn beginning(action: Option<&str>) -> String {
    match action {
        Some(text) if text.ends_with('.') => {
            let plain = text.replace('\\', "\\\\");
            format!("{}%", plain.replace('%', "\\%").replace('_', "\\_"))
        }
        _ => String::new(),
    }
}

pub(crate) async fn list_of_target(
    connection: &mut AnyConnection,
    target_kind: &'static str,
    target_id: &str,
    limit: i64,
) -> Result<Vec<AuditEvent>, RegistryError> {
    let rows: Vec<AuditRow> = sqlx::query_as(
        "SELECT sequence, at, action, actor, target_kind, target_id, target_name, summary, details \
         FROM audit_events WHERE target_kind = $1 AND target_id = $2 ORDER BY sequence DESC LIMIT $3",
    )
    .bind(target_kind)
    .bind(target_id.to_owned())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(from_row).collect())
}

fn from_row(row: AuditRow) -> AuditEvent {
    AuditEvent {
        sequence: row.sequence,
        at: row.at,
        action: row.action,
        actor: row.actor,
        target_kind: row.target_kind,
        target_id: row.target_id,
        target_name: row.target_name,
        summary: row.summary,
        details: serde_json::from_str(&row.details).unwrap_or_default(),
    }
}

/// When the first event after one was (Unix ms); none where there is none.
pub(crate) async fn next_at(
    connection: &mut AnyConnection,
    after: i64,
) -> Result<Option<i64>, RegistryError> {
    Ok(sqlx::query_scalar(
        "SELECT at FROM audit_events WHERE sequence > $1 ORDER BY sequence LIMIT 1",
    )
    .bind(after)
    .fetch_optional(connection)
    .await?)
}
