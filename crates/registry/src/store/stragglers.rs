//! Who uses which secret, out of the rollups: each caller in one row, with what its hours tell.

use sqlx::AnyConnection;

use crate::RegistryError;

/// A caller of one secret.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct CallerRow {
    pub(crate) client_label: String,
    pub(crate) network: String,
    pub(crate) agent: String,
    pub(crate) route: String,
    pub(crate) uses: i64,
    pub(crate) last_at: i64,
    /// Beginning of the first hour it was seen in.
    pub(crate) first_hour: i64,
    /// Longest time between two hours it was seen in (ms); 0 for one hour only.
    pub(crate) longest_gap: i64,
    /// Uses in the three full hours before the last three, in the last three full ones, and since.
    pub(crate) earlier: i64,
    pub(crate) lately: i64,
    pub(crate) this_hour: i64,
}

/// The callers of a secret since an hour, latest first. `this_hour` is the hour that is under way.
pub(crate) async fn callers(
    connection: &mut AnyConnection,
    kid: &str,
    since: i64,
    this_hour: i64,
    limit: i64,
) -> Result<Vec<CallerRow>, RegistryError> {
    Ok(sqlx::query_as(
        "WITH hours AS (SELECT client_label, network, agent, route, hour, CAST(SUM(count) AS BIGINT) AS uses, \
         MAX(last_at) AS last_at FROM use_rollups WHERE kid = $1 AND hour >= $2 \
         GROUP BY client_label, network, agent, route, hour), \
         gaps AS (SELECT client_label, network, agent, route, hour, uses, last_at, hour - LAG(hour) OVER \
         (PARTITION BY client_label, network, agent, route ORDER BY hour) AS gap FROM hours) \
         SELECT client_label, network, agent, route, CAST(SUM(uses) AS BIGINT) AS uses, MAX(last_at) AS last_at, \
         MIN(hour) AS first_hour, COALESCE(MAX(gap), 0) AS longest_gap, \
         CAST(SUM(CASE WHEN hour >= $3 - 21600000 AND hour < $3 - 10800000 THEN uses ELSE 0 END) AS BIGINT) AS earlier, \
         CAST(SUM(CASE WHEN hour >= $3 - 10800000 AND hour < $3 THEN uses ELSE 0 END) AS BIGINT) AS lately, \
         CAST(SUM(CASE WHEN hour >= $3 THEN uses ELSE 0 END) AS BIGINT) AS this_hour \
         FROM gaps GROUP BY client_label, network, agent, route \
         ORDER BY 6 DESC, client_label, network, agent, route LIMIT $4",
    )
    .bind(kid.to_owned())
    .bind(since)
    .bind(this_hour)
    .bind(limit)
    .fetch_all(connection)
    .await?)
}

/// An overlap that is about to end while its old secret is in use.
#[derive(sqlx::FromRow)]
pub(crate) struct ClosingRow {
    pub(crate) rotation_id: String,
    pub(crate) key_id: String,
    pub(crate) key_name: String,
    pub(crate) key_prefix: String,
    pub(crate) old_kid: String,
    pub(crate) closes_at: i64,
}

/// Overlaps that end after `now` and until `until` and whose old secret was used since `used_since`,
/// soonest end first, behind the place `after` (end, rotation).
pub(crate) async fn closing(
    connection: &mut AnyConnection,
    now: i64,
    until: i64,
    used_since: i64,
    after: (i64, &str),
    limit: i64,
) -> Result<Vec<ClosingRow>, RegistryError> {
    Ok(sqlx::query_as(
        "SELECT rotation_id, key_id, key_name, key_prefix, old_kid, closes_at FROM (\
         SELECT r.idempotency_key AS rotation_id, r.key_id AS key_id, k.name AS key_name, k.prefix AS key_prefix, \
         s.kid AS old_kid, \
         CASE WHEN s.expires_at IS NOT NULL AND s.expires_at < s.retires_at THEN s.expires_at \
         ELSE s.retires_at END AS closes_at \
         FROM rotations r JOIN secrets s ON s.kid = r.old_kid JOIN api_keys k ON k.id = r.key_id \
         LEFT JOIN principals p ON p.id = k.owner_id \
         WHERE r.ended_at IS NULL AND s.stored = 'retiring' AND s.retires_at > $1 AND s.last_used_at >= $3 \
         AND k.revoked_at IS NULL AND p.disabled_at IS NULL \
         AND (p.keys_revoked_at IS NULL OR k.created_at > p.keys_revoked_at)) closing \
         WHERE closes_at > $1 AND closes_at <= $2 AND (closes_at, rotation_id) > ($5, $6) \
         ORDER BY closes_at, rotation_id LIMIT $4",
    )
    .bind(now)
    .bind(until)
    .bind(used_since)
    .bind(limit)
    .bind(after.0)
    .bind(after.1.to_owned())
    .fetch_all(connection)
    .await?)
}

/// Client label, network, agent, route, uses, last use.
pub(crate) type LateUse = (String, String, String, String, i64, i64);

/// Who used a secret since a moment, latest first.
pub(crate) async fn used_since(
    connection: &mut AnyConnection,
    kid: &str,
    hour: i64,
    since: i64,
    limit: i64,
) -> Result<Vec<LateUse>, RegistryError> {
    Ok(sqlx::query_as(
        "SELECT client_label, network, agent, route, CAST(SUM(count) AS BIGINT), MAX(last_at) \
         FROM use_rollups WHERE kid = $1 AND hour >= $2 AND last_at >= $3 \
         GROUP BY client_label, network, agent, route \
         ORDER BY 6 DESC, client_label, network, agent, route LIMIT $4",
    )
    .bind(kid.to_owned())
    .bind(hour)
    .bind(since)
    .bind(limit)
    .fetch_all(connection)
    .await?)
}
