//! Alerts: what somebody should look at. One that happens again counts on and is unseen again.

use crate::uses::AlertKind;
use crate::{LocalRegistry, RegistryError, store};

/// Something that should not have happened, with how often it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Stable id.
    pub id: String,
    /// What.
    pub kind: AlertKind,
    /// The key.
    pub key_id: String,
    /// The secret.
    pub kid: String,
    /// Who did it, in one line; for a delivery, where it was to go.
    pub caller: String,
    /// How often.
    pub count: i64,
    /// The first time (Unix ms).
    pub first_at: i64,
    /// The last time (Unix ms).
    pub last_at: i64,
    /// When somebody looked at it (Unix ms).
    pub seen_at: Option<i64>,
}

/// A page of alerts is asked for.
#[derive(Clone, Debug, Default)]
pub struct AlertQuery {
    /// Only those that nobody looked at.
    pub unseen_only: bool,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// 1 to 500.
    pub limit: u32,
}

/// A page of alerts, latest first.
#[derive(Clone, Debug)]
pub struct AlertPage {
    /// The alerts.
    pub items: Vec<Alert>,
    /// For the next page.
    pub next_cursor: Option<String>,
}

impl LocalRegistry {
    /// One page of alerts, latest first.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`] for a cursor of another list.
    pub async fn list_alerts(&self, query: &AlertQuery) -> Result<AlertPage, RegistryError> {
        let before = match &query.cursor {
            Some(cursor) => decode(cursor)?,
            None => (i64::MAX, String::new()),
        };
        self.flush_before_telling().await;
        let limit = query.limit.clamp(1, 500) as usize;
        let mut connection = self.shared.pool.acquire().await?;
        let mut items = store::alerts::list(
            &mut connection,
            (before.0, &before.1),
            query.unseen_only,
            i64::try_from(limit + 1).unwrap_or(i64::MAX),
        )
        .await?;
        let more = items.len() > limit;
        items.truncate(limit);
        let last = items.last().filter(|_| more);
        let next_cursor = last.map(|alert| format!("{}~{}", alert.last_at, alert.id));
        Ok(AlertPage { items, next_cursor })
    }

    /// Marks an alert as seen, as it was when its last time was `last_at`: what happened since then
    /// is not taken for seen. Returns whether it was marked.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn mark_alert_seen(&self, id: &str, last_at: i64) -> Result<bool, RegistryError> {
        self.write((id.to_owned(), last_at), |unit, (id, last_at)| {
            Box::pin(async move {
                let now = unit.now();
                store::alerts::mark_seen(unit.write(), id, *last_at, now).await
            })
        })
        .await
    }

    /// How many alerts nobody looked at.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn count_unseen_alerts(&self) -> Result<i64, RegistryError> {
        self.flush_before_telling().await;
        store::alerts::count_unseen(&mut *self.shared.pool.acquire().await?).await
    }
}

fn decode(cursor: &str) -> Result<(i64, String), RegistryError> {
    let (at, id) = cursor.split_once('~').ok_or(RegistryError::Cursor)?;
    let at = at.parse().map_err(|_| RegistryError::Cursor)?;
    Ok((at, id.to_owned()))
}
