//! What hygiene looks at: the columns of keys, in pages along an index, and their uses by scope and
//! network. No statement reads more than it is told to.

use sqlx::AnyConnection;

use super::many;
use crate::RegistryError;

/// A key that is not revoked, as hygiene sees it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct HygieneRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) prefix: String,
    pub(crate) environment: String,
    pub(crate) owner_id: String,
    pub(crate) scopes: String,
    pub(crate) created_at: i64,
    pub(crate) exposed_at: Option<i64>,
    pub(crate) expires_order: i64,
    pub(crate) last_used_order: i64,
    /// By itself, or with all keys of its owner.
    pub(crate) revoked_at: Option<i64>,
    pub(crate) secret_created_at: i64,
    /// None: there is no such principal.
    pub(crate) owner_known: Option<String>,
    pub(crate) owner_disabled_at: Option<i64>,
}

/// Along which index keys are walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Walk {
    /// By id: every key.
    Id,
    /// By last use, from one moment up to before another: never used is 0.
    LastUse { from: i64, before: i64 },
    /// Those that never expire.
    NeverExpires,
}

macro_rules! walk_sql {
    ($where:literal, $order:literal, $outer:literal) => {
        concat!(
            "SELECT k.id, k.name, k.prefix, k.environment, k.owner_id, k.scopes, k.created_at, k.exposed_at, \
             k.expires_order, k.last_used_order, \
             CASE WHEN k.created_at <= p.keys_revoked_at THEN COALESCE(k.revoked_at, p.keys_revoked_at) \
             ELSE k.revoked_at END AS revoked_at, s.created_at AS secret_created_at, \
             p.id AS owner_known, p.disabled_at AS owner_disabled_at \
             FROM (SELECT * FROM api_keys WHERE ",
            $where,
            " ORDER BY ",
            $order,
            " LIMIT $4) k JOIN secrets s ON s.kid = k.kid LEFT JOIN principals p ON p.id = k.owner_id \
             ORDER BY ",
            $outer
        )
    };
}

/// The next keys of a walk, after the number and id that the last page ended with.
pub(crate) async fn walk(
    connection: &mut AnyConnection,
    walk: Walk,
    after: (i64, &str),
    limit: i64,
) -> Result<Vec<HygieneRow>, RegistryError> {
    // Each in the order of one index: the keyset is a seek, whatever the size of the table.
    let (sql, number, bound) = match walk {
        Walk::Id => (
            walk_sql!("id > $2 AND $1 <= $3", "id", "k.id"),
            i64::MIN,
            i64::MAX,
        ),
        Walk::LastUse { from, before } => (
            walk_sql!(
                "(last_used_order, id) > ($1, $2) AND last_used_order < $3",
                "last_used_order, id",
                "k.last_used_order, k.id"
            ),
            after.0.max(from),
            before,
        ),
        Walk::NeverExpires => (
            walk_sql!(
                "(expires_order, id) > ($1, $2) AND expires_order <= $3",
                "expires_order, id",
                "k.expires_order, k.id"
            ),
            i64::MAX,
            i64::MAX,
        ),
    };
    Ok(sqlx::query_as(sql)
        .bind(number)
        .bind(after.1.to_owned())
        .bind(bound)
        .bind(limit)
        .fetch_all(connection)
        .await?)
}

/// Some keys, in no order.
pub(crate) async fn of_keys(
    connection: &mut AnyConnection,
    key_ids: &[String],
) -> Result<Vec<HygieneRow>, RegistryError> {
    let mut found = Vec::new();
    for part in key_ids.chunks(many::MOST) {
        let count = many::padded(part.len());
        let sql = many::list(
            "SELECT k.id, k.name, k.prefix, k.environment, k.owner_id, k.scopes, k.created_at, k.exposed_at, \
             k.expires_order, k.last_used_order, \
             CASE WHEN k.created_at <= p.keys_revoked_at THEN COALESCE(k.revoked_at, p.keys_revoked_at) \
             ELSE k.revoked_at END AS revoked_at, s.created_at AS secret_created_at, \
             p.id AS owner_known, p.disabled_at AS owner_disabled_at \
             FROM api_keys k JOIN secrets s ON s.kid = k.kid LEFT JOIN principals p ON p.id = k.owner_id \
             WHERE k.id IN ",
            count,
            "",
        );
        let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
        for id in many::padding(part, count) {
            query = query.bind(id.clone());
        }
        let rows: Vec<HygieneRow> = query.fetch_all(&mut *connection).await?;
        found.extend(rows);
    }
    Ok(found)
}

/// Key id, network, what was required, uses.
pub(crate) type UsageRow = (String, String, String, i64);

/// How some keys were used since an hour: each network and requirement once.
pub(crate) async fn usage(
    connection: &mut AnyConnection,
    key_ids: &[String],
    since: i64,
) -> Result<Vec<UsageRow>, RegistryError> {
    let mut found = Vec::new();
    for part in key_ids.chunks(many::MOST) {
        let count = many::padded(part.len());
        // $1…$n are the ids; the hour comes after them.
        let tail = format!(
            " AND r.hour >= ${} GROUP BY s.key_id, r.network, r.scope ORDER BY s.key_id, r.network, r.scope",
            count + 1
        );
        let sql = many::list(
            "SELECT s.key_id, r.network, r.scope, CAST(SUM(r.count) AS BIGINT) FROM use_rollups r \
             JOIN secrets s ON s.kid = r.kid WHERE s.key_id IN ",
            count,
            &tail,
        );
        let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
        for id in many::padding(part, count) {
            query = query.bind(id.clone());
        }
        let rows: Vec<UsageRow> = query.bind(since).fetch_all(&mut *connection).await?;
        found.extend(rows);
    }
    Ok(found)
}
