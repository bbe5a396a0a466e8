//! What verification needs of keys: whole keys, narrow columns, many at a time.

use keywright_domain::api_keys::{
    ApiKey, KeyMac, NetworkList, OriginList, Prefix, RateLimits, SecretState,
};
use keywright_domain::scopes::ScopeSet;
use sqlx::AnyConnection;

use super::many;
use super::secrets::{OURS, SecretInsert, damaged, state_from_text};
use crate::RegistryError;

/// A key as verification sees it.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) id: String,
    pub(crate) epoch: i64,
    pub(crate) environment: String,
    pub(crate) prefix: Prefix,
    pub(crate) created_at: i64,
    pub(crate) not_before: Option<i64>,
    pub(crate) disabled: bool,
    pub(crate) revoked: bool,
    pub(crate) exposed: bool,
    pub(crate) one_time: bool,
    pub(crate) canary: bool,
    pub(crate) has_credits: bool,
    pub(crate) scopes: ScopeSet,
    pub(crate) owner: String,
    pub(crate) creator: Option<String>,
    pub(crate) limits: RateLimits,
    pub(crate) networks: NetworkList,
    pub(crate) origins: OriginList,
    pub(crate) secrets: Vec<SecretImage>,
}

/// One of its secrets.
#[derive(Debug)]
pub(crate) struct SecretImage {
    pub(crate) kid: String,
    pub(crate) mac: KeyMac,
    pub(crate) pepper_id: String,
    pub(crate) foreign: bool,
    pub(crate) state: SecretState,
    pub(crate) expires_at: Option<i64>,
    pub(crate) retires_at: Option<i64>,
    pub(crate) pending_until: Option<i64>,
    pub(crate) first_used: bool,
}

impl Image {
    /// What a read would give of a key that was just inserted with its first secret.
    pub(crate) fn of_new(key: &ApiKey, insert: &SecretInsert) -> Self {
        let (settings, secret) = (&key.settings, &insert.secret);
        Self {
            id: key.id.clone(),
            epoch: key.epoch,
            environment: key.environment.as_str().to_owned(),
            prefix: key.prefix.clone(),
            created_at: key.created_at,
            not_before: key.not_before,
            disabled: key.disabled_at.is_some(),
            revoked: key.revoked_at.is_some(),
            exposed: key.exposed_at.is_some(),
            one_time: settings.one_time,
            canary: settings.canary,
            has_credits: settings.credits.is_some(),
            scopes: key.scopes.clone(),
            owner: key.owner.id.clone(),
            creator: key.creator.clone(),
            limits: settings.limits.clone(),
            networks: settings.networks.clone(),
            origins: settings.origins.clone(),
            secrets: vec![SecretImage {
                kid: secret.kid.as_str().to_owned(),
                mac: insert.stored.mac.clone(),
                pepper_id: insert.stored.pepper_id.clone(),
                foreign: insert.stored.algorithm != OURS,
                state: secret.stored,
                expires_at: secret.expires_at,
                retires_at: secret.retires_at,
                pending_until: secret.pending_until,
                first_used: secret.first_used_at.is_some(),
            }],
        }
    }
}

#[derive(sqlx::FromRow)]
struct ImageRow {
    id: String,
    epoch: i64,
    environment: String,
    prefix: String,
    created_at: i64,
    not_before: Option<i64>,
    disabled_at: Option<i64>,
    revoked_at: Option<i64>,
    exposed_at: Option<i64>,
    one_time: i64,
    canary: i64,
    credit_plan: String,
    scopes: String,
    owner_id: String,
    creator_id: Option<String>,
    limits: String,
    networks: String,
    origins: String,
    kid: String,
    mac: Vec<u8>,
    pepper_id: String,
    algorithm: String,
    stored: String,
    expires_at: Option<i64>,
    retires_at: Option<i64>,
    pending_until: Option<i64>,
    first_used_at: Option<i64>,
}

const SELECT: &str = "SELECT k.id, k.epoch, k.environment, k.prefix, k.created_at, k.not_before, k.disabled_at, \
     k.revoked_at, k.exposed_at, k.one_time, k.canary, k.credit_plan, k.scopes, k.owner_id, k.creator_id, k.limits, \
     k.networks, k.origins, s.kid, s.mac, s.pepper_id, s.algorithm, s.stored, s.expires_at, s.retires_at, \
     s.pending_until, s.first_used_at FROM api_keys k JOIN secrets s ON s.key_id = k.id WHERE k.id IN ";
const ORDER: &str = " ORDER BY k.id, s.position";

/// The keys of some ids.
pub(crate) async fn of_keys(
    connection: &mut AnyConnection,
    ids: &[String],
) -> Result<Vec<Image>, RegistryError> {
    let mut images = Vec::with_capacity(ids.len());
    for part in ids.chunks(many::MOST) {
        let count = many::padded(part.len());
        let sql = many::rows(connection, SELECT, 1, count) + ORDER;
        images.extend(fetch(connection, sql, many::padding(part, count)).await?);
    }
    Ok(images)
}

/// The keys that some kids belong to.
pub(crate) async fn of_kids(
    connection: &mut AnyConnection,
    kids: &[String],
) -> Result<Vec<Image>, RegistryError> {
    let mut images = Vec::with_capacity(kids.len());
    for part in kids.chunks(many::MOST) {
        let count = many::padded(part.len());
        let head = format!("{SELECT}(SELECT key_id FROM secrets WHERE kid IN ");
        let sql = many::list(&head, count, &format!("){ORDER}"));
        images.extend(fetch(connection, sql, many::padding(part, count)).await?);
    }
    Ok(images)
}

async fn fetch(
    connection: &mut AnyConnection,
    sql: String,
    values: impl Iterator<Item = &String>,
) -> Result<Vec<Image>, RegistryError> {
    let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
    for value in values {
        query = query.bind(value.clone());
    }
    gather(query.fetch_all(connection).await?)
}

/// How many keys there are, so that memory for them is taken once.
pub(crate) async fn count(connection: &mut AnyConnection) -> Result<i64, RegistryError> {
    Ok(sqlx::query_scalar("SELECT COUNT(*) FROM api_keys")
        .fetch_one(connection)
        .await?)
}

/// Keys after an id, in the order of ids: for reading all of them.
pub(crate) async fn page(
    connection: &mut AnyConnection,
    after: &str,
    limit: i64,
) -> Result<Vec<Image>, RegistryError> {
    let sql =
        format!("{SELECT}(SELECT id FROM api_keys WHERE id > $1 ORDER BY id LIMIT $2){ORDER}");
    let rows = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(after.to_owned())
        .bind(limit)
        .fetch_all(connection)
        .await?;
    gather(rows)
}

/// The key that a stored value of a foreign key belongs to.
pub(crate) async fn of_foreign_mac(
    connection: &mut AnyConnection,
    mac: &KeyMac,
) -> Result<Option<String>, RegistryError> {
    Ok(sqlx::query_scalar(
        "SELECT kid FROM secrets WHERE mac = $1 AND algorithm <> 'hmac-sha256-of-sha256'",
    )
    .bind(mac.as_bytes().to_vec())
    .fetch_optional(connection)
    .await?)
}

/// The key that is stored under one of these values: under the first of them, if under several. All are
/// compared in one statement: what moves from one value to another is found under one of them.
pub(crate) async fn of_foreign_macs(
    connection: &mut AnyConnection,
    macs: &[KeyMac],
) -> Result<Option<String>, RegistryError> {
    let mut found = Vec::new();
    for part in macs.chunks(many::MOST) {
        let count = many::padded(part.len());
        let sql = many::list(
            "SELECT kid, mac FROM secrets WHERE mac IN ",
            count,
            " AND algorithm <> 'hmac-sha256-of-sha256'",
        );
        let mut query = sqlx::query_as::<_, (String, Vec<u8>)>(sqlx::AssertSqlSafe(sql));
        for mac in many::padding(part, count) {
            query = query.bind(mac.as_bytes().to_vec());
        }
        found.extend(query.fetch_all(&mut *connection).await?);
    }
    let place = |mac: &[u8]| macs.iter().position(|one| one.as_bytes() == mac);
    let first = found.into_iter().min_by_key(|(_, mac)| place(mac));
    Ok(first.map(|(kid, _)| kid))
}

/// Whether any foreign key was ever imported.
pub(crate) async fn has_foreign(connection: &mut AnyConnection) -> Result<bool, RegistryError> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT CAST(1 AS BIGINT) FROM secrets WHERE algorithm <> 'hmac-sha256-of-sha256' LIMIT 1",
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// Rows of one key stand together.
fn gather(rows: Vec<ImageRow>) -> Result<Vec<Image>, RegistryError> {
    let mut images: Vec<Image> = Vec::with_capacity(rows.len());
    for row in rows {
        let mac: [u8; 32] = row.mac.try_into().map_err(|_| damaged("mac"))?;
        let secret = SecretImage {
            kid: row.kid,
            mac: KeyMac::from_bytes(mac),
            pepper_id: row.pepper_id,
            foreign: row.algorithm != OURS,
            state: state_from_text(&row.stored)?,
            expires_at: row.expires_at,
            retires_at: row.retires_at,
            pending_until: row.pending_until,
            first_used: row.first_used_at.is_some(),
        };
        if let Some(last) = images.last_mut().filter(|image| image.id == row.id) {
            last.secrets.push(secret);
            continue;
        }
        images.push(Image {
            id: row.id,
            epoch: row.epoch,
            environment: row.environment,
            prefix: Prefix::new(&row.prefix).map_err(|_| damaged("prefix"))?,
            created_at: row.created_at,
            not_before: row.not_before,
            disabled: row.disabled_at.is_some(),
            revoked: row.revoked_at.is_some(),
            exposed: row.exposed_at.is_some(),
            one_time: row.one_time != 0,
            canary: row.canary != 0,
            has_credits: !row.credit_plan.is_empty(),
            scopes: ScopeSet::parse(&row.scopes)?,
            owner: row.owner_id,
            creator: row.creator_id,
            limits: RateLimits::parse(&row.limits).map_err(|_| damaged("limit"))?,
            networks: NetworkList::parse(&row.networks).map_err(|_| damaged("network"))?,
            origins: OriginList::parse(&row.origins).map_err(|_| damaged("origin"))?,
            secrets: vec![secret],
        });
    }
    Ok(images)
}
