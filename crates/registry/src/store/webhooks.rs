//! Rows of webhooks. Secrets are sealed by the caller.

use keywright_domain::people::Sealed;
use sqlx::AnyConnection;

use crate::RegistryError;
use crate::outbox::{Webhook, WebhookSecrets};

#[derive(sqlx::FromRow)]
struct WebhookRow {
    id: String,
    url: String,
    events: String,
    description: String,
    old_secret_until: i64,
    created_by: String,
    created_at: i64,
    changed_at: i64,
    failing_since: Option<i64>,
    disabled_at: Option<i64>,
    disabled_reason: Option<String>,
    dropped_count: i64,
    dropped_at: Option<i64>,
}

impl From<WebhookRow> for Webhook {
    fn from(row: WebhookRow) -> Self {
        Self {
            id: row.id,
            url: row.url,
            events: row.events.split(' ').map(str::to_owned).collect(),
            description: row.description,
            old_secret_until: row.old_secret_until,
            created_by: row.created_by,
            created_at: row.created_at,
            changed_at: row.changed_at,
            failing_since: row.failing_since,
            disabled_at: row.disabled_at,
            disabled_reason: row.disabled_reason,
            dropped_count: row.dropped_count,
            dropped_at: row.dropped_at,
        }
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, url, events, description, old_secret_until, created_by, created_at, changed_at, \
             failing_since, disabled_at, disabled_reason, dropped_count, dropped_at FROM webhooks ",
            $rest
        )
    };
}

/// All of them: the use case bounds how many there are.
pub(crate) async fn list(connection: &mut AnyConnection) -> Result<Vec<Webhook>, RegistryError> {
    let rows: Vec<WebhookRow> = sqlx::query_as(select!("ORDER BY created_at, id"))
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(Webhook::from).collect())
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<Webhook>, RegistryError> {
    if crate::store::is_no_id(id) {
        return Ok(None);
    }
    let row: Option<WebhookRow> = sqlx::query_as(select!("WHERE id = $1"))
        .bind(id.to_owned())
        .fetch_optional(connection)
        .await?;
    Ok(row.map(Webhook::from))
}

/// What signs for it at a moment.
pub(crate) async fn secrets(
    connection: &mut AnyConnection,
    id: &str,
    now: i64,
) -> Result<Option<WebhookSecrets>, RegistryError> {
    let row: Option<(Vec<u8>, Option<Vec<u8>>, i64)> = sqlx::query_as(
        "SELECT sealed_secret, sealed_old_secret, old_secret_until FROM webhooks WHERE id = $1",
    )
    .bind(id.to_owned())
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|(current, old, until)| WebhookSecrets {
        current: Sealed::new(current),
        old: old.filter(|_| until > now).map(Sealed::new),
    }))
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    webhook: &Webhook,
    secret: &Sealed,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO webhooks (id, url, events, description, sealed_secret, created_by, created_at, \
         changed_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(webhook.id.clone())
    .bind(webhook.url.clone())
    .bind(webhook.events.join(" "))
    .bind(webhook.description.clone())
    .bind(secret.as_bytes().to_vec())
    .bind(webhook.created_by.clone())
    .bind(webhook.created_at)
    .bind(webhook.changed_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Everything but its secrets.
pub(crate) async fn update(
    connection: &mut AnyConnection,
    webhook: &Webhook,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE webhooks SET url = $1, events = $2, description = $3, changed_at = $4, failing_since = $5, \
         disabled_at = $6, disabled_reason = $7 WHERE id = $8",
    )
    .bind(webhook.url.clone())
    .bind(webhook.events.join(" "))
    .bind(webhook.description.clone())
    .bind(webhook.changed_at)
    .bind(webhook.failing_since)
    .bind(webhook.disabled_at)
    .bind(webhook.disabled_reason.clone())
    .bind(webhook.id.clone())
    .execute(connection)
    .await?;
    Ok(())
}

/// A new secret; the one before signs as well until a moment.
pub(crate) async fn replace_secret(
    connection: &mut AnyConnection,
    id: &str,
    secret: &Sealed,
    old_until: i64,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE webhooks SET sealed_old_secret = sealed_secret, sealed_secret = $1, old_secret_until = $2, \
         changed_at = $3 WHERE id = $4",
    )
    .bind(secret.as_bytes().to_vec())
    .bind(old_until)
    .bind(now)
    .bind(id.to_owned())
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn remove(connection: &mut AnyConnection, id: &str) -> Result<(), RegistryError> {
    sqlx::query("DELETE FROM webhooks WHERE id = $1")
        .bind(id.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

/// How many are off, and how many are on and failing. There are few.
pub(crate) async fn count(connection: &mut AnyConnection) -> Result<(i64, i64), RegistryError> {
    Ok(sqlx::query_as(
        "SELECT COUNT(CASE WHEN disabled_at IS NOT NULL THEN 1 END), \
         COUNT(CASE WHEN disabled_at IS NULL AND failing_since IS NOT NULL THEN 1 END) FROM webhooks",
    )
    .fetch_one(connection)
    .await?)
}
