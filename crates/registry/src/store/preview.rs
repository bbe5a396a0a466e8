//! Past uses of a key, as a preview replays them.

use sqlx::AnyConnection;

use crate::RegistryError;

/// A caller with what it asked for, over the whole window.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct ReplayRow {
    pub(crate) client_label: String,
    pub(crate) network: String,
    pub(crate) agent: String,
    pub(crate) route: String,
    pub(crate) scope: String,
    pub(crate) origin: String,
    pub(crate) uses: i64,
    pub(crate) last_at: i64,
}

/// The uses of a key since an hour, by any of its secrets, most frequent first.
pub(crate) async fn replay(
    connection: &mut AnyConnection,
    key_id: &str,
    since: i64,
    limit: i64,
) -> Result<Vec<ReplayRow>, RegistryError> {
    Ok(sqlx::query_as(
        "SELECT r.client_label, r.network, r.agent, r.route, r.scope, r.origin, \
         CAST(SUM(r.count) AS BIGINT) AS uses, MAX(r.last_at) AS last_at \
         FROM secrets s JOIN use_rollups r ON r.kid = s.kid WHERE s.key_id = $1 AND r.hour >= $2 \
         GROUP BY r.client_label, r.network, r.agent, r.route, r.scope, r.origin \
         ORDER BY 7 DESC, 1, 2, 3, 4, 5, 6 LIMIT $3",
    )
    .bind(key_id.to_owned())
    .bind(since)
    .bind(limit)
    .fetch_all(connection)
    .await?)
}
