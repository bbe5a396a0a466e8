//! Rows that count messages which were not made: by channel, and with the webhook that they were for.

use sqlx::AnyConnection;

use super::secrets::damaged;
use crate::RegistryError;
use crate::outbox::{Channel, Dropped};
use crate::writer::Unit;

/// Counts messages that are not made now, and says so in the log.
pub(crate) async fn count(
    unit: &mut Unit,
    channel: Channel,
    target: &str,
    messages: i64,
) -> Result<(), RegistryError> {
    let now = unit.now();
    sqlx::query(
        "INSERT INTO outbox_dropped (channel, count, last_at) VALUES ($1, $2, $3) ON CONFLICT (channel) DO UPDATE \
         SET count = outbox_dropped.count + excluded.count, last_at = excluded.last_at",
    )
    .bind(channel.as_str())
    .bind(messages)
    .bind(now)
    .execute(&mut *unit.write())
    .await?;
    if channel == Channel::Webhook {
        sqlx::query(
            "UPDATE webhooks SET dropped_count = dropped_count + $1, dropped_at = $2 WHERE id = $3",
        )
        .bind(messages)
        .bind(now)
        .bind(target.to_owned())
        .execute(&mut *unit.write())
        .await?;
    }
    // A webhook's id, and no mail address: whose it is, and not what it says.
    tracing::error!(
        channel = channel.as_str(),
        target = %if channel == Channel::Webhook { target } else { "" },
        count = messages,
        "so many messages wait for one target that these were not made"
    );
    Ok(())
}

/// What was not made, by channel.
pub(crate) async fn list(connection: &mut AnyConnection) -> Result<Vec<Dropped>, RegistryError> {
    let rows: Vec<(String, i64, i64)> =
        sqlx::query_as("SELECT channel, count, last_at FROM outbox_dropped ORDER BY channel")
            .fetch_all(connection)
            .await?;
    rows.into_iter()
        .map(|(channel, messages, last_at)| {
            Ok(Dropped {
                channel: Channel::parse(&channel).ok_or_else(|| damaged("message"))?,
                messages,
                last_at,
            })
        })
        .collect()
}
