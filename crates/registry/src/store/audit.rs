//! The audit trail: appended to inside the transaction of each change, never updated.

use keywright_domain::audit::{Actor, AuditAction};
use sqlx::AnyConnection;

use super::like_pattern;
use crate::RegistryError;
use crate::audit::{AuditEvent, AuditQuery, SubjectFilter};

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
    pub(crate) fn about_registry(action: AuditAction, summary: String) -> Self {
        Self {
            action,
            target_kind: "registry",
            target_id: "local".to_owned(),
            target_name: "This device".to_owned(),
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

pub(crate) async fn last_sequence(connection: &mut AnyConnection) -> Result<i64, RegistryError> {
    Ok(
        sqlx::query_scalar("SELECT COALESCE(MAX(sequence), 0) FROM audit_events")
            .fetch_one(connection)
            .await?,
    )
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    actor: &Actor,
    now: i64,
    event: NewEvent,
) -> Result<(), RegistryError> {
    let details = serde_json::to_string(&event.details)
        .map_err(|error| RegistryError::Store(error.to_string()))?;
    let search_text = format!(
        "{} {} {} {}",
        event.action.as_str(),
        actor.as_str(),
        event.target_name,
        event.summary
    )
    .to_lowercase();
    // The writer holds the database's write lock, so the next number is free of gaps and races.
    sqlx::query(
        "INSERT INTO audit_events (sequence, at, action, actor, target_kind, target_id, target_name, \
         summary, details, search_text) \
         VALUES ((SELECT COALESCE(MAX(sequence), 0) + 1 FROM audit_events), $1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(now)
    .bind(event.action.as_str())
    .bind(actor.as_str().to_owned())
    .bind(event.target_kind)
    .bind(event.target_id)
    .bind(event.target_name)
    .bind(event.summary)
    .bind(details)
    .bind(search_text)
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn list(
    connection: &mut AnyConnection,
    query: &AuditQuery,
) -> Result<Vec<AuditEvent>, RegistryError> {
    let subject = match query.subject {
        SubjectFilter::All => "",
        SubjectFilter::ApiKeys => "api_key",
        SubjectFilter::Accounts => "account",
        SubjectFilter::Registry => "registry",
    };
    let rows: Vec<AuditRow> = sqlx::query_as(
        "SELECT sequence, at, action, actor, target_kind, target_id, target_name, summary, details \
         FROM audit_events WHERE sequence < $1 \
         AND ($2 = '' OR target_kind = $2 OR ($2 = 'registry' AND target_kind = 'scope')) \
         AND ($3 = '%%' OR search_text LIKE $3 ESCAPE '\\') \
         ORDER BY sequence DESC LIMIT $4",
    )
    .bind(query.before.unwrap_or(i64::MAX))
    .bind(subject)
    .bind(like_pattern(&query.text))
    .bind(i64::from(query.limit))
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(from_row).collect())
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
