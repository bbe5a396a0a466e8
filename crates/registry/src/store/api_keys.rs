//! Rows of keys.

use keywright_domain::api_keys::{
    ApiKey, CreditPlan, Environment, KeySettings, Metadata, NetworkList, Note, OriginList, Owner,
    OwnerKind, Prefix, RateLimits, Secret, SecretState, Tags,
};
use keywright_domain::scopes::ScopeSet;
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AnyConnection};

use super::many;
use super::search;
use super::secrets::{self, SecretRow, damaged};
use crate::RegistryError;

const NEVER: i64 = i64::MAX;

/// Every column of a key, in the order of [`ApiKeyRow`].
macro_rules! key_columns {
    () => {
        "k.id, k.name, k.prefix, k.environment, k.owner_kind, k.owner_id, k.creator_id, k.scopes, k.limits, \
         k.networks, k.origins, k.tags, k.note, k.metadata, k.one_time, k.canary, k.credit_plan, k.epoch, \
         k.created_at, k.not_before, k.disabled_at, k.disabled_reason, k.exposed_at, k.revoked_at, \
         k.revoked_reason, k.promoted_to"
    };
}

pub(super) use key_columns;

#[derive(sqlx::FromRow)]
pub(super) struct ApiKeyRow {
    pub(super) id: String,
    name: String,
    prefix: String,
    environment: String,
    owner_kind: String,
    owner_id: String,
    creator_id: Option<String>,
    scopes: String,
    limits: String,
    networks: String,
    origins: String,
    tags: String,
    note: String,
    metadata: String,
    one_time: i64,
    canary: i64,
    credit_plan: String,
    epoch: i64,
    created_at: i64,
    not_before: Option<i64>,
    disabled_at: Option<i64>,
    disabled_reason: Option<String>,
    exposed_at: Option<i64>,
    revoked_at: Option<i64>,
    revoked_reason: Option<String>,
    promoted_to: Option<String>,
}

impl ApiKeyRow {
    pub(super) fn into_key(self, secrets: Vec<Secret>) -> Result<ApiKey, RegistryError> {
        let settings = KeySettings {
            limits: RateLimits::parse(&self.limits).map_err(|_| damaged("limit"))?,
            networks: NetworkList::parse(&self.networks).map_err(|_| damaged("network"))?,
            origins: OriginList::parse(&self.origins).map_err(|_| damaged("origin"))?,
            tags: Tags::parse(&self.tags).map_err(|_| damaged("tag"))?,
            note: Note::new(&self.note).map_err(|_| damaged("note"))?,
            metadata: Metadata::parse(&self.metadata).map_err(|_| damaged("metadata"))?,
            one_time: self.one_time != 0,
            canary: self.canary != 0,
            credits: (!self.credit_plan.is_empty())
                .then(|| CreditPlan::parse(&self.credit_plan))
                .transpose()
                .map_err(|_| damaged("credit plan"))?,
        };
        Ok(ApiKey {
            id: self.id,
            name: self.name,
            prefix: Prefix::new(&self.prefix).map_err(|_| damaged("prefix"))?,
            environment: Environment::new(&self.environment).map_err(|_| damaged("environment"))?,
            owner: Owner {
                kind: OwnerKind::parse(&self.owner_kind).ok_or_else(|| damaged("owner"))?,
                id: self.owner_id,
            },
            creator: self.creator_id,
            scopes: ScopeSet::parse(&self.scopes)?,
            settings,
            epoch: self.epoch,
            created_at: self.created_at,
            not_before: self.not_before,
            disabled_at: self.disabled_at,
            disabled_reason: self.disabled_reason,
            exposed_at: self.exposed_at,
            revoked_at: self.revoked_at,
            revoked_reason: self.revoked_reason,
            revoked_with_owner: false,
            promoted_to: self.promoted_to,
            secrets,
        })
    }
}

/// A key with what its owner's row says of it.
#[derive(sqlx::FromRow)]
struct OwnedKeyRow {
    #[sqlx(flatten)]
    key: ApiKeyRow,
    owner_keys_revoked_at: Option<i64>,
    owner_keys_revoked_reason: Option<String>,
}

/// Of a key and its owner.
macro_rules! owned_key {
    ($rest:literal) => {
        concat!(
            "SELECT ",
            key_columns!(),
            ", p.keys_revoked_at AS owner_keys_revoked_at, p.keys_revoked_reason AS owner_keys_revoked_reason \
             FROM api_keys k LEFT JOIN principals p ON p.id = k.owner_id ",
            $rest
        )
    };
}

impl OwnedKeyRow {
    /// A key that was revoked with all keys of its owner is revoked, whoever looks at it.
    fn into_key(self, secrets: Vec<Secret>) -> Result<ApiKey, RegistryError> {
        let mut key = self.key.into_key(secrets)?;
        if let (None, Some(at)) = (key.revoked_at, self.owner_keys_revoked_at)
            && key.created_at <= at
        {
            key.revoked_with_owner = true;
            key.revoked_at = Some(at);
            key.revoked_reason = self.owner_keys_revoked_reason;
        }
        Ok(key)
    }
}

/// A key with its secrets, as it stands: revoked also where all keys of its owner were. That is never
/// written back to its own row.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<ApiKey>, RegistryError> {
    if crate::store::is_no_id(id) {
        return Ok(None);
    }
    let row: Option<OwnedKeyRow> = sqlx::query_as(owned_key!("WHERE k.id = $1"))
        .bind(id.to_owned())
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let secrets: Vec<SecretRow> = sqlx::query_as(concat!(
        "SELECT ",
        secrets::secret_columns!(),
        " FROM secrets s WHERE s.key_id = $1 ORDER BY s.position"
    ))
    .bind(id.to_owned())
    .fetch_all(connection)
    .await?;
    let secrets: Result<_, _> = secrets.into_iter().map(SecretRow::into_secret).collect();
    Ok(Some(row.into_key(secrets?)?))
}

/// Those of some ids that exist, each as [`find`] gives it.
pub(crate) async fn find_all(
    connection: &mut AnyConnection,
    ids: &[String],
) -> Result<Vec<ApiKey>, RegistryError> {
    let mut found = Vec::with_capacity(ids.len());
    for part in ids.chunks(many::MOST) {
        let count = many::padded(part.len());
        let sql = many::rows(connection, owned_key!("WHERE k.id IN "), 1, count);
        let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
        for id in many::padding(part, count) {
            query = query.bind(many::asked(id));
        }
        let rows: Vec<OwnedKeyRow> = query.fetch_all(&mut *connection).await?;
        let mut secrets = secrets::of_keys(connection, part).await?;
        for row in rows {
            let secrets = secrets.remove(&row.key.id).unwrap_or_default();
            found.push(row.into_key(secrets)?);
        }
    }
    Ok(found)
}

/// What a key's texts begin with.
pub(crate) async fn find_prefix(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<Prefix>, RegistryError> {
    if crate::store::is_no_id(id) {
        return Ok(None);
    }
    let text: Option<String> = sqlx::query_scalar("SELECT prefix FROM api_keys WHERE id = $1")
        .bind(id.to_owned())
        .fetch_optional(connection)
        .await?;
    text.map(|text| Prefix::new(&text).map_err(|_| damaged("prefix")))
        .transpose()
}

/// When the newest key of an owner was made, by whatever clock.
pub(crate) async fn newest_of_owner(
    connection: &mut AnyConnection,
    owner_id: &str,
) -> Result<Option<i64>, RegistryError> {
    Ok(
        sqlx::query_scalar("SELECT MAX(created_at) FROM api_keys WHERE owner_id = $1")
            .bind(owner_id.to_owned())
            .fetch_one(connection)
            .await?,
    )
}

/// What every key has, and what few have: their rows leave the rest to the columns' defaults.
const ALWAYS: &str = "INSERT INTO api_keys (id, name, prefix, environment, owner_kind, owner_id, scopes, epoch, \
     created_at, name_key, search_text, kid, last_four, expires_order, old_works_until, works_until, last_used_order";
const RARELY: &str = ", creator_id, limits, networks, origins, tags, note, metadata, one_time, canary, credit_plan, \
     not_before, disabled_at, disabled_reason, exposed_at, revoked_at, revoked_reason, promoted_to, rotating_until, \
     pending_until";
const ALWAYS_COLUMNS: usize = 17;
const RARELY_COLUMNS: usize = 19;
/// A column that was left out has its default in `excluded`, which is what the key has.
const REPLACE: &str = " ON CONFLICT (id) DO UPDATE SET name = excluded.name, owner_kind = excluded.owner_kind, \
     owner_id = excluded.owner_id, scopes = excluded.scopes, limits = excluded.limits, \
     networks = excluded.networks, origins = excluded.origins, tags = excluded.tags, note = excluded.note, \
     metadata = excluded.metadata, credit_plan = excluded.credit_plan, epoch = excluded.epoch, \
     not_before = excluded.not_before, disabled_at = excluded.disabled_at, \
     disabled_reason = excluded.disabled_reason, exposed_at = excluded.exposed_at, \
     revoked_at = excluded.revoked_at, revoked_reason = excluded.revoked_reason, \
     promoted_to = excluded.promoted_to, name_key = excluded.name_key, search_text = excluded.search_text, \
     kid = excluded.kid, last_four = excluded.last_four, expires_order = excluded.expires_order, \
     old_works_until = excluded.old_works_until, works_until = excluded.works_until, \
     rotating_until = excluded.rotating_until, pending_until = excluded.pending_until";

/// What changes of a key when only its secrets do. Columns that are not named keep their entries in
/// the indexes: SQLite writes an index anew whenever one of its columns is set, whatever to.
const SECRETS_CHANGED: &str = "UPDATE api_keys SET epoch = v.column2, search_text = v.column3, kid = v.column4, \
     last_four = v.column5, expires_order = v.column6, old_works_until = v.column7, works_until = v.column8, \
     rotating_until = v.column9, pending_until = v.column10 FROM (VALUES ";
const SECRETS_CHANGED_COLUMNS: usize = 10;

/// How much of a key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// It is new: nobody has its id.
    New,
    /// It is there, and nothing but its secrets changed.
    Secrets,
    /// Everything, whether it is there or not.
    Whole,
}

type Insert = Query<'static, Any, AnyArguments>;

/// Inserts keys, without their secrets, or writes everything that can change of them, with what
/// lists read of it. When a key was last used is the flush's to write.
pub(crate) async fn put_all(
    connection: &mut AnyConnection,
    keys: &[(ApiKey, Extent)],
    now: i64,
) -> Result<(), RegistryError> {
    let mut derived = Vec::with_capacity(keys.len());
    for (key, extent) in keys {
        derived.push((key, Derived::of(key, now)?, *extent));
    }
    for (extent, tail) in [(Extent::New, ""), (Extent::Whole, REPLACE)] {
        let wanted = derived.iter().filter(|(_, _, is)| *is == extent);
        let (whole, plain): (Vec<_>, Vec<_>) =
            wanted.partition(|(key, derived, _)| derived.has_more(key));
        for part in many::parts(&plain) {
            let head = format!("{ALWAYS}) VALUES ");
            let sql = many::rows(connection, &head, part.len(), ALWAYS_COLUMNS) + tail;
            let query = sqlx::query(sqlx::AssertSqlSafe(sql));
            let query = part.iter().fold(query, |query, (key, derived, _)| {
                bind_always(query, key, derived)
            });
            query.execute(&mut *connection).await?;
        }
        for part in many::parts(&whole) {
            let head = format!("{ALWAYS}{RARELY}) VALUES ");
            let columns = ALWAYS_COLUMNS + RARELY_COLUMNS;
            let sql = many::rows(connection, &head, part.len(), columns) + tail;
            let query = sqlx::query(sqlx::AssertSqlSafe(sql));
            let query = part.iter().fold(query, |query, (key, derived, _)| {
                bind_rarely(bind_always(query, key, derived), key, derived)
            });
            query.execute(&mut *connection).await?;
        }
    }
    let secrets = derived
        .iter()
        .filter(|(_, _, extent)| *extent == Extent::Secrets);
    update_secrets(connection, &secrets.collect::<Vec<_>>()).await
}

async fn update_secrets(
    connection: &mut AnyConnection,
    keys: &[&(&ApiKey, Derived, Extent)],
) -> Result<(), RegistryError> {
    for part in many::parts(keys) {
        let sql = many::rows(
            connection,
            SECRETS_CHANGED,
            part.len(),
            SECRETS_CHANGED_COLUMNS,
        ) + ") AS v WHERE api_keys.id = v.column1";
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for (key, derived, _) in part {
            query = query
                .bind(key.id.clone())
                .bind(key.epoch)
                .bind(derived.search_text.clone())
                .bind(derived.kid.clone())
                .bind(derived.last_four.clone())
                .bind(derived.expires_order)
                .bind(derived.old_works_until)
                .bind(derived.works_until)
                .bind(derived.rotating_until)
                .bind(derived.pending_until);
        }
        let written = query.execute(&mut *connection).await?.rows_affected();
        if written != part.len() as u64 {
            return Err(RegistryError::Store("a key that changes is gone".into()));
        }
    }
    Ok(())
}

fn bind_always(query: Insert, key: &ApiKey, derived: &Derived) -> Insert {
    query
        .bind(key.id.clone())
        .bind(key.name.clone())
        .bind(key.prefix.as_str().to_owned())
        .bind(key.environment.as_str().to_owned())
        .bind(key.owner.kind.as_str())
        .bind(key.owner.id.clone())
        .bind(key.scopes.to_string())
        .bind(key.epoch)
        .bind(key.created_at)
        .bind(derived.name_key.clone())
        .bind(derived.search_text.clone())
        .bind(derived.kid.clone())
        .bind(derived.last_four.clone())
        .bind(derived.expires_order)
        .bind(derived.old_works_until)
        .bind(derived.works_until)
        .bind(key.last_used_at().unwrap_or(0))
}

fn bind_rarely(query: Insert, key: &ApiKey, derived: &Derived) -> Insert {
    let settings = &key.settings;
    let own_end = !key.revoked_with_owner;
    query
        .bind(key.creator.clone())
        .bind(settings.limits.to_text())
        .bind(settings.networks.to_text())
        .bind(settings.origins.to_text())
        .bind(settings.tags.to_text())
        .bind(settings.note.as_str().to_owned())
        .bind(settings.metadata.to_text())
        .bind(i64::from(settings.one_time))
        .bind(i64::from(settings.canary))
        .bind(credit_text(settings))
        .bind(key.not_before)
        .bind(key.disabled_at)
        .bind(key.disabled_reason.clone())
        .bind(key.exposed_at)
        .bind(key.revoked_at.filter(|_| own_end))
        .bind(key.revoked_reason.clone().filter(|_| own_end))
        .bind(key.promoted_to.clone())
        .bind(derived.rotating_until)
        .bind(derived.pending_until)
}

/// Writes one key.
pub(crate) async fn update(
    connection: &mut AnyConnection,
    key: &ApiKey,
    now: i64,
) -> Result<(), RegistryError> {
    put_all(connection, &[(key.clone(), Extent::Whole)], now).await
}

fn credit_text(settings: &KeySettings) -> String {
    settings
        .credits
        .as_ref()
        .map(CreditPlan::to_text)
        .unwrap_or_default()
}

/// What lists filter and sort by, derived from the key and its secrets.
struct Derived {
    name_key: String,
    search_text: String,
    kid: String,
    last_four: String,
    expires_order: i64,
    old_works_until: i64,
    /// Until when some secret verifies, and until when two of them do.
    works_until: i64,
    rotating_until: i64,
    pending_until: i64,
}

impl Derived {
    /// Whether something of the key is not the default of its column.
    fn has_more(&self, key: &ApiKey) -> bool {
        key.settings != KeySettings::default()
            || key.creator.is_some()
            || key.not_before.is_some()
            || key.disabled_at.is_some()
            || key.disabled_reason.is_some()
            || key.exposed_at.is_some()
            || key.revoked_at.is_some()
            || key.revoked_reason.is_some()
            || key.promoted_to.is_some()
            || self.rotating_until != 0
            || self.pending_until != 0
    }

    fn of(key: &ApiKey, now: i64) -> Result<Self, RegistryError> {
        let current = key
            .current_secret(now)
            .ok_or_else(|| damaged("key without a secret"))?;
        let mut search_text = format!(
            "{} {} {} {}",
            key.name,
            key.prefix,
            key.scopes,
            key.settings.tags.to_text().trim()
        );
        for secret in &key.secrets {
            search_text.push(' ');
            search_text.push_str(secret.kid.as_str());
        }
        let mut ends: Vec<i64> = key.secrets.iter().map(end_of).collect();
        ends.sort_unstable_by(|one, other| other.cmp(one));
        let pending = key
            .secrets
            .iter()
            .filter(|secret| secret.stored == SecretState::Pending);
        Ok(Self {
            name_key: search::fold(&key.name),
            search_text: search::fold(&search_text),
            kid: current.kid.as_str().to_owned(),
            last_four: current.last_four.clone(),
            expires_order: current.expires_at.unwrap_or(NEVER),
            old_works_until: key.old_secret_works_until(now).unwrap_or(0),
            works_until: ends.first().copied().unwrap_or(0),
            rotating_until: ends.get(1).copied().unwrap_or(0),
            pending_until: pending.map(end_of).max().unwrap_or(0),
        })
    }
}

/// Until when a secret verifies if nothing but time happens to it; 0 if it does not any more.
fn end_of(secret: &Secret) -> i64 {
    let by_state = match secret.stored {
        SecretState::Retiring => secret.retires_at,
        SecretState::Pending => secret.pending_until,
        SecretState::Active => None,
        _ => return 0,
    };
    let never = |end: Option<i64>| end.unwrap_or(NEVER);
    never(by_state).min(never(secret.expires_at))
}
