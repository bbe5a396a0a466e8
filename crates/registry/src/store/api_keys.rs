//! Rows of keys, with what lists filter and sort by.

use std::collections::HashMap;

use keywright_domain::api_keys::{ApiKey, KeyMac, Kid, Prefix, Secret};
use keywright_domain::scopes::ScopeSet;
use sqlx::AnyConnection;

use super::like_pattern;
use super::secrets::{SecretRow, damaged, state_from_text};
use crate::RegistryError;
use crate::api_keys::{ApiKeyCounts, ApiKeyFilter, ApiKeyOrder, Cursor, StateFilter};

const NEVER: i64 = i64::MAX;
/// A key counts as expiring this long before its end.
const EXPIRING_MS: i64 = 30 * 24 * 60 * 60 * 1000;

#[derive(sqlx::FromRow)]
struct ApiKeyRow {
    id: String,
    name: String,
    prefix: String,
    scopes: String,
    epoch: i64,
    created_at: i64,
    revoked_at: Option<i64>,
    revoked_reason: Option<String>,
}

impl ApiKeyRow {
    fn into_key(self, secrets: Vec<Secret>) -> Result<ApiKey, RegistryError> {
        Ok(ApiKey {
            id: self.id,
            name: self.name,
            prefix: Prefix::new(&self.prefix).map_err(|_| damaged("prefix"))?,
            scopes: ScopeSet::parse(&self.scopes)?,
            epoch: self.epoch,
            created_at: self.created_at,
            revoked_at: self.revoked_at,
            revoked_reason: self.revoked_reason,
            secrets,
        })
    }
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<ApiKey>, RegistryError> {
    let row: Option<ApiKeyRow> = sqlx::query_as(
        "SELECT id, name, prefix, scopes, epoch, created_at, revoked_at, revoked_reason \
         FROM api_keys WHERE id = $1",
    )
    .bind(id.to_owned())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let secrets: Vec<SecretRow> = sqlx::query_as(
        "SELECT kid, last_four, stored, created_at, expires_at, retires_at, first_used_at, last_used_at, use_count \
         FROM secrets WHERE key_id = $1 ORDER BY position",
    )
    .bind(id.to_owned())
    .fetch_all(connection)
    .await?;
    let secrets: Result<_, _> = secrets.into_iter().map(SecretRow::into_secret).collect();
    Ok(Some(row.into_key(secrets?)?))
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    key: &ApiKey,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO api_keys (id, name, prefix, scopes, epoch, created_at, name_order, search_text, kid, last_four, \
         expires_order, old_works_until, last_used_order) \
         VALUES ($1, $2, $3, $4, $5, $6, '', '', '', '', 0, 0, 0)",
    )
    .bind(key.id.clone())
    .bind(key.name.clone())
    .bind(key.prefix.as_str().to_owned())
    .bind(key.scopes.to_string())
    .bind(key.epoch)
    .bind(key.created_at)
    .execute(&mut *connection)
    .await?;
    update(connection, key, now).await
}

/// Writes what can change of a key, and what lists read of it.
pub(crate) async fn update(
    connection: &mut AnyConnection,
    key: &ApiKey,
    now: i64,
) -> Result<(), RegistryError> {
    let current = key
        .current_secret(now)
        .ok_or_else(|| damaged("key without a secret"))?;
    let mut search_text = format!("{} {} {}", key.name, key.prefix, key.scopes).to_lowercase();
    for secret in &key.secrets {
        search_text.push(' ');
        search_text.push_str(&secret.kid.as_str().to_lowercase());
    }
    sqlx::query(
        "UPDATE api_keys SET epoch = $1, revoked_at = $2, revoked_reason = $3, name_order = $4, search_text = $5, \
         kid = $6, last_four = $7, expires_order = $8, old_works_until = $9 WHERE id = $10",
    )
    .bind(key.epoch)
    .bind(key.revoked_at)
    .bind(key.revoked_reason.clone())
    .bind(key.name.to_lowercase())
    .bind(search_text)
    .bind(current.kid.as_str().to_owned())
    .bind(current.last_four.clone())
    .bind(current.expires_at.unwrap_or(NEVER))
    .bind(key.old_secret_works_until(now).unwrap_or(0))
    .bind(key.id.clone())
    .execute(connection)
    .await?;
    Ok(())
}

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
    pub(crate) name_order: String,
    pub(crate) expires_order: i64,
    pub(crate) old_works_until: i64,
    pub(crate) last_used_order: i64,
}

macro_rules! list_sql {
    ($keyset:literal, $order:literal) => {
        concat!(
            "SELECT id, name, prefix, scopes, created_at, revoked_at, revoked_reason, kid, \
             last_four, name_order, expires_order, old_works_until, last_used_order \
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
        ApiKeyOrder::NameAsc => list_sql!("(name_order, id) > ($1, $2)", "name_order, id"),
        ApiKeyOrder::NameDesc => {
            list_sql!("(name_order, id) < ($1, $2)", "name_order DESC, id DESC")
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

/// What a verification needs, by one read: the secret with its mac, and its key without others.
#[derive(sqlx::FromRow)]
struct VerificationRow {
    kid: String,
    mac: Vec<u8>,
    pepper_id: String,
    last_four: String,
    stored: String,
    secret_created_at: i64,
    expires_at: Option<i64>,
    retires_at: Option<i64>,
    first_used_at: Option<i64>,
    last_used_at: Option<i64>,
    use_count: i64,
    id: String,
    name: String,
    prefix: String,
    scopes: String,
    epoch: i64,
    created_at: i64,
    revoked_at: Option<i64>,
    revoked_reason: Option<String>,
}

/// A key with the one secret that was presented.
pub(crate) struct Candidate {
    pub(crate) key: ApiKey,
    pub(crate) secret: Secret,
    pub(crate) mac: KeyMac,
    pub(crate) pepper_id: String,
}

pub(crate) async fn find_candidate(
    connection: &mut AnyConnection,
    kid: &Kid,
) -> Result<Option<Candidate>, RegistryError> {
    let row: Option<VerificationRow> = sqlx::query_as(
        "SELECT s.kid, s.mac, s.pepper_id, s.last_four, s.stored, s.created_at AS secret_created_at, s.expires_at, \
         s.retires_at, s.first_used_at, s.last_used_at, s.use_count, k.id, k.name, k.prefix, k.scopes, k.epoch, \
         k.created_at, k.revoked_at, k.revoked_reason FROM secrets s JOIN api_keys k ON k.id = s.key_id \
         WHERE s.kid = $1",
    )
    .bind(kid.as_str().to_owned())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let mac: [u8; 32] = row.mac.try_into().map_err(|_| damaged("mac"))?;
    let secret = Secret {
        kid: Kid::new(&row.kid).map_err(|_| damaged("kid"))?,
        last_four: row.last_four,
        stored: state_from_text(&row.stored)?,
        created_at: row.secret_created_at,
        expires_at: row.expires_at,
        retires_at: row.retires_at,
        first_used_at: row.first_used_at,
        last_used_at: row.last_used_at,
        use_count: row.use_count,
    };
    let key = ApiKeyRow {
        id: row.id,
        name: row.name,
        prefix: row.prefix,
        scopes: row.scopes,
        epoch: row.epoch,
        created_at: row.created_at,
        revoked_at: row.revoked_at,
        revoked_reason: row.revoked_reason,
    }
    .into_key(Vec::new())?;
    Ok(Some(Candidate {
        key,
        secret,
        mac: KeyMac::from_bytes(mac),
        pepper_id: row.pepper_id,
    }))
}

pub(crate) async fn find_rotation(
    connection: &mut AnyConnection,
    idempotency_key: &str,
) -> Result<Option<String>, RegistryError> {
    Ok(
        sqlx::query_scalar("SELECT kid FROM rotations WHERE idempotency_key = $1")
            .bind(idempotency_key.to_owned())
            .fetch_optional(connection)
            .await?,
    )
}

pub(crate) async fn insert_rotation(
    connection: &mut AnyConnection,
    idempotency_key: &str,
    key_id: &str,
    kid: &Kid,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO rotations (idempotency_key, key_id, kid, created_at) VALUES ($1, $2, $3, $4)",
    )
    .bind(idempotency_key.to_owned())
    .bind(key_id.to_owned())
    .bind(kid.as_str().to_owned())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// The pepper in use; none before the first key.
pub(crate) async fn pepper_id(
    connection: &mut AnyConnection,
) -> Result<Option<String>, RegistryError> {
    Ok(
        sqlx::query_scalar("SELECT id FROM peppers ORDER BY created_at DESC, id LIMIT 1")
            .fetch_optional(connection)
            .await?,
    )
}

pub(crate) async fn insert_pepper(
    connection: &mut AnyConnection,
    id: &str,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query("INSERT INTO peppers (id, created_at) VALUES ($1, $2)")
        .bind(id.to_owned())
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

/// Uses wait in memory; this adds those of several secrets in one transaction.
pub(crate) async fn add_uses(
    connection: &mut AnyConnection,
    uses: &HashMap<String, crate::uses::Uses>,
) -> Result<(), RegistryError> {
    for (kid, uses) in uses {
        super::secrets::add_uses(connection, kid, uses.count, uses.last_at).await?;
    }
    Ok(())
}
