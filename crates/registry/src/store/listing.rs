//! Lists of keys: one constant text for each order, seeking in its index; filters are parameters.

use sqlx::AnyConnection;

use super::like_pattern;
use crate::RegistryError;
use crate::api_keys::{ApiKeyCounts, ApiKeyFilter, ApiKeyOrder, Cursor, StateFilter};

/// A key counts as expiring this long before its end.
const EXPIRING_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// A row of a list: the record and the few facts of its newest secret.
#[derive(sqlx::FromRow)]
pub(crate) struct ListRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) prefix: String,
    pub(crate) scopes: String,
    pub(crate) created_at: i64,
    pub(crate) revoked_at: Option<i64>,
    pub(crate) revoked_reason: Option<String>,
    pub(crate) kid: String,
    pub(crate) last_four: String,
    pub(crate) name_key: String,
    pub(crate) expires_order: i64,
    pub(crate) old_works_until: i64,
    pub(crate) last_used_order: i64,
}

macro_rules! list_sql {
    ($keyset:literal, $order:literal) => {
        concat!(
            "SELECT id, name, prefix, scopes, created_at, revoked_at, revoked_reason, kid, \
             last_four, name_key, expires_order, old_works_until, last_used_order \
             FROM api_keys WHERE ",
            $keyset,
            " AND ",
            filter_sql!(),
            " ORDER BY ",
            $order,
            " LIMIT $6"
        )
    };
}

macro_rules! filter_sql {
    () => {
        "($3 = '%%' OR search_text LIKE $3 ESCAPE '\\') AND CASE $4 \
         WHEN 'live' THEN revoked_at IS NULL AND expires_order > $5 \
         WHEN 'rotating' THEN revoked_at IS NULL AND old_works_until > $5 \
         WHEN 'expiring' THEN revoked_at IS NULL AND expires_order > $5 \
         AND expires_order <= $5 + 2592000000 \
         WHEN 'expired' THEN revoked_at IS NULL AND expires_order <= $5 \
         WHEN 'revoked' THEN revoked_at IS NOT NULL \
         ELSE 1 = 1 END"
    };
}

fn state_text(state: StateFilter) -> &'static str {
    match state {
        StateFilter::All => "all",
        StateFilter::Live => "live",
        StateFilter::Rotating => "rotating",
        StateFilter::Expiring => "expiring",
        StateFilter::Expired => "expired",
        StateFilter::Revoked => "revoked",
    }
}

pub(crate) async fn list(
    connection: &mut AnyConnection,
    filter: &ApiKeyFilter,
    order: ApiKeyOrder,
    after: Option<&Cursor>,
    limit: i64,
    now: i64,
) -> Result<Vec<ListRow>, RegistryError> {
    // One constant text for each order, so that each uses its index.
    let sql = match order {
        ApiKeyOrder::CreatedDesc => {
            list_sql!("(created_at, id) < ($1, $2)", "created_at DESC, id DESC")
        }
        ApiKeyOrder::CreatedAsc => list_sql!("(created_at, id) > ($1, $2)", "created_at, id"),
        ApiKeyOrder::NameAsc => list_sql!("(name_key, id) > ($1, $2)", "name_key, id"),
        ApiKeyOrder::NameDesc => {
            list_sql!("(name_key, id) < ($1, $2)", "name_key DESC, id DESC")
        }
        ApiKeyOrder::ExpiresAsc => list_sql!("(expires_order, id) > ($1, $2)", "expires_order, id"),
        ApiKeyOrder::LastUsedDesc => {
            list_sql!(
                "(last_used_order, id) < ($1, $2)",
                "last_used_order DESC, id DESC"
            )
        }
    };
    // The first page begins beyond every row, so that every page is the same seek in the index.
    let descends = matches!(
        order,
        ApiKeyOrder::CreatedDesc | ApiKeyOrder::NameDesc | ApiKeyOrder::LastUsedDesc
    );
    let beyond = if descends {
        Cursor::after_all()
    } else {
        Cursor::before_all()
    };
    let after = after.unwrap_or(&beyond);
    let query = sqlx::query_as(sql);
    let query = if matches!(order, ApiKeyOrder::NameAsc | ApiKeyOrder::NameDesc) {
        query.bind(after.text.clone())
    } else {
        query.bind(after.number)
    };
    Ok(query
        .bind(after.id.clone())
        .bind(like_pattern(&filter.text))
        .bind(state_text(filter.state))
        .bind(now)
        .bind(limit)
        .fetch_all(connection)
        .await?)
}

pub(crate) async fn count(
    connection: &mut AnyConnection,
    filter: &ApiKeyFilter,
    now: i64,
) -> Result<i64, RegistryError> {
    // $1 and $2 are the keyset of a list, which a count does not have.
    let sql = concat!(
        "SELECT COUNT(*) FROM api_keys WHERE $1 = $2 AND ",
        filter_sql!()
    );
    Ok(sqlx::query_scalar(sql)
        .bind(0_i64)
        .bind(0_i64)
        .bind(like_pattern(&filter.text))
        .bind(state_text(filter.state))
        .bind(now)
        .fetch_one(connection)
        .await?)
}

pub(crate) async fn counts(
    connection: &mut AnyConnection,
    now: i64,
) -> Result<ApiKeyCounts, RegistryError> {
    let row: (i64, i64, i64, i64, i64, i64) = sqlx::query_as(
        "SELECT COUNT(*), \
         COALESCE(SUM(CASE WHEN revoked_at IS NULL AND expires_order > $1 THEN 1 ELSE 0 END), 0), \
         COALESCE(SUM(CASE WHEN revoked_at IS NULL AND old_works_until > $1 THEN 1 ELSE 0 END), 0), \
         COALESCE(SUM(CASE WHEN revoked_at IS NULL AND expires_order > $1 AND expires_order <= $2 THEN 1 ELSE 0 END), 0), \
         COALESCE(SUM(CASE WHEN revoked_at IS NULL AND expires_order <= $1 THEN 1 ELSE 0 END), 0), \
         COALESCE(SUM(CASE WHEN revoked_at IS NOT NULL THEN 1 ELSE 0 END), 0) FROM api_keys",
    )
    .bind(now)
    .bind(now + EXPIRING_MS)
    .fetch_one(connection)
    .await?;
    let (all, live, rotating, expiring, expired, revoked) = row;
    Ok(ApiKeyCounts {
        all,
        live,
        rotating,
        expiring,
        expired,
        revoked,
    })
}
