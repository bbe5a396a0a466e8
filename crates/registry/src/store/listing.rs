//! Lists of keys. A page is either a walk along the index of its order, or gathered from the few
//! keys that the narrowest filter leaves; the use case decides which.

use sqlx::any::AnyArguments;
use sqlx::query::{QueryAs, QueryScalar};
use sqlx::{Any, AnyConnection, AssertSqlSafe};

use super::filters::{Clause, EXPIRING_MS, Ends, Part, Value};
use crate::RegistryError;
use crate::api_keys::{ApiKeyCounts, ApiKeyOrder};
use crate::listing::Cursor;

/// A row of a list: the record, the few facts of its newest secret, and those of its owner that
/// decide its state.
#[derive(sqlx::FromRow)]
pub(crate) struct ListRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) prefix: String,
    pub(crate) environment: String,
    pub(crate) owner_kind: String,
    pub(crate) owner_id: String,
    pub(crate) scopes: String,
    pub(crate) tags: String,
    pub(crate) created_at: i64,
    pub(crate) disabled_at: Option<i64>,
    pub(crate) exposed_at: Option<i64>,
    pub(crate) revoked_at: Option<i64>,
    pub(crate) revoked_reason: Option<String>,
    pub(crate) kid: String,
    pub(crate) last_four: String,
    pub(crate) name_key: String,
    pub(crate) expires_order: i64,
    pub(crate) old_works_until: i64,
    pub(crate) works_until: i64,
    pub(crate) rotating_until: i64,
    pub(crate) pending_until: i64,
    pub(crate) last_used_order: i64,
    pub(crate) owner_disabled_at: Option<i64>,
    pub(crate) owner_keys_revoked_at: Option<i64>,
    pub(crate) owner_keys_revoked_reason: Option<String>,
}

const COLUMNS: &str = "SELECT k.id, k.name, k.prefix, k.environment, k.owner_kind, k.owner_id, k.scopes, k.tags, \
    k.created_at, k.disabled_at, k.exposed_at, k.revoked_at, k.revoked_reason, k.kid, k.last_four, k.name_key, \
    k.expires_order, k.old_works_until, k.works_until, k.rotating_until, k.pending_until, k.last_used_order, \
    p.disabled_at AS owner_disabled_at, p.keys_revoked_at AS owner_keys_revoked_at, \
    p.keys_revoked_reason AS owner_keys_revoked_reason";

/// The constant texts of an order.
struct OrderTexts {
    after: &'static str,
    until: &'static str,
    by: &'static str,
    place: &'static str,
}

macro_rules! order_texts {
    ($column:literal, $place:literal, ascends) => {
        OrderTexts {
            after: concat!(" AND (", $column, ", k.id) > (?, ?)"),
            until: concat!(" AND (", $column, ", k.id) <= (?, ?)"),
            by: concat!(" ORDER BY ", $column, ", k.id"),
            place: $place,
        }
    };
    ($column:literal, $place:literal, descends) => {
        OrderTexts {
            after: concat!(" AND (", $column, ", k.id) < (?, ?)"),
            until: concat!(" AND (", $column, ", k.id) >= (?, ?)"),
            by: concat!(" ORDER BY ", $column, " DESC, k.id DESC"),
            place: $place,
        }
    };
}

fn texts(order: ApiKeyOrder) -> OrderTexts {
    match order {
        ApiKeyOrder::CreatedDesc => {
            order_texts!("k.created_at", "SELECT k.created_at, '', k.id", descends)
        }
        ApiKeyOrder::CreatedAsc => {
            order_texts!("k.created_at", "SELECT k.created_at, '', k.id", ascends)
        }
        ApiKeyOrder::NameAsc => {
            order_texts!(
                "k.name_key",
                "SELECT k.created_at, k.name_key, k.id",
                ascends
            )
        }
        ApiKeyOrder::NameDesc => {
            order_texts!(
                "k.name_key",
                "SELECT k.created_at, k.name_key, k.id",
                descends
            )
        }
        ApiKeyOrder::ExpiresAsc => {
            order_texts!(
                "k.expires_order",
                "SELECT k.expires_order, '', k.id",
                ascends
            )
        }
        ApiKeyOrder::ExpiresDesc => {
            order_texts!(
                "k.expires_order",
                "SELECT k.expires_order, '', k.id",
                descends
            )
        }
        ApiKeyOrder::LastUsedAsc => {
            order_texts!(
                "k.last_used_order",
                "SELECT k.last_used_order, '', k.id",
                ascends
            )
        }
        ApiKeyOrder::LastUsedDesc => {
            order_texts!(
                "k.last_used_order",
                "SELECT k.last_used_order, '', k.id",
                descends
            )
        }
    }
}

/// A statement of constant pieces, its placeholders numbered as they come.
#[derive(Default)]
struct Statement {
    sql: String,
    values: Vec<Value>,
}

impl Statement {
    fn text(&mut self, text: &'static str) -> &mut Self {
        self.sql.push_str(text);
        self
    }

    fn with(&mut self, text: &'static str, values: &[Value]) -> &mut Self {
        let mut pieces = text.split('?');
        self.sql.push_str(pieces.next().unwrap_or_default());
        for (piece, value) in pieces.zip(values) {
            self.values.push(value.clone());
            self.sql.push('$');
            self.sql.push_str(&self.values.len().to_string());
            self.sql.push_str(piece);
        }
        self
    }

    fn clause(&mut self, clause: &Clause) -> &mut Self {
        self.with(clause.text, &clause.values)
    }

    fn and(&mut self, clause: &Clause) -> &mut Self {
        self.text(" AND ").clause(clause)
    }

    /// Conditions of a walk: what the index can seek, and where on it.
    fn stretch(&mut self, parts: &[Part], order: ApiKeyOrder, stretch: &Stretch<'_>) -> &mut Self {
        for seek in parts.iter().filter_map(|part| part.seek.as_ref()) {
            self.and(seek);
        }
        let mut after = stretch.after;
        if let Some(ends) = stretch.ends {
            after = after.filter(|after| is_within(order, ends, after));
            self.ends(order, ends, (after.is_some(), stretch.until.is_some()));
        }
        self.after(order, after);
        if let Some(until) = stretch.until {
            self.with(texts(order).until, &place(order, until));
        }
        self
    }

    /// A stretch of the order's index. Where the walk begins or ends within it, that says more, and
    /// the index is sought with one condition a side only.
    fn ends(&mut self, order: ApiKeyOrder, ends: Ends, (begins, is_cut): (bool, bool)) {
        let (has_low, has_high) = if ascends(order) {
            (begins, is_cut)
        } else {
            (is_cut, begins)
        };
        let by_end = matches!(order, ApiKeyOrder::ExpiresAsc | ApiKeyOrder::ExpiresDesc);
        let (above, up_to) = if by_end {
            (" AND k.expires_order > ?", " AND k.expires_order <= ?")
        } else {
            (" AND k.last_used_order > ?", " AND k.last_used_order <= ?")
        };
        if ends.low != i64::MIN && !has_low {
            self.with(above, &[ends.low.into()]);
        }
        if ends.high != i64::MAX && !has_high {
            self.with(up_to, &[ends.high.into()]);
        }
    }

    fn after(&mut self, order: ApiKeyOrder, after: Option<&Cursor>) -> &mut Self {
        if let Some(after) = after {
            self.with(texts(order).after, &place(order, after));
        }
        self
    }

    fn rows<T: Send + Unpin + for<'r> sqlx::FromRow<'r, sqlx::any::AnyRow>>(
        self,
    ) -> QueryAs<'static, Any, T, AnyArguments> {
        let query = sqlx::query_as(AssertSqlSafe(self.sql));
        self.values
            .into_iter()
            .fold(query, |query, value| match value {
                Value::Number(number) => query.bind(number),
                Value::Text(text) => query.bind(text),
            })
    }

    fn number(self) -> QueryScalar<'static, Any, i64, AnyArguments> {
        let query = sqlx::query_scalar(AssertSqlSafe(self.sql));
        self.values
            .into_iter()
            .fold(query, |query, value| match value {
                Value::Number(number) => query.bind(number),
                Value::Text(text) => query.bind(text),
            })
    }
}

fn place(order: ApiKeyOrder, cursor: &Cursor) -> [Value; 2] {
    let by = if order.is_by_name() {
        Value::from(cursor.text.as_str())
    } else {
        Value::from(cursor.number)
    };
    [by, cursor.id.as_str().into()]
}

fn ascends(order: ApiKeyOrder) -> bool {
    use ApiKeyOrder as By;
    match order {
        By::CreatedAsc | By::NameAsc | By::ExpiresAsc | By::LastUsedAsc => true,
        By::CreatedDesc | By::NameDesc | By::ExpiresDesc | By::LastUsedDesc => false,
    }
}

/// Whether a walk that goes on after a place is past the side of a stretch that it would begin at.
fn is_within(order: ApiKeyOrder, ends: Ends, after: &Cursor) -> bool {
    if ascends(order) {
        after.number > ends.low
    } else {
        after.number <= ends.high
    }
}

/// A stretch of the index of an order, its beginning excluded and its end included.
#[derive(Clone, Copy)]
pub(crate) struct Stretch<'a> {
    /// A part of the index outside of which the walk looks at nothing. Only for orders of times.
    pub(crate) ends: Option<Ends>,
    pub(crate) after: Option<&'a Cursor>,
    pub(crate) until: Option<&'a Cursor>,
}

/// Rows along the index of the order.
pub(crate) async fn walk(
    connection: &mut AnyConnection,
    parts: &[Part],
    order: ApiKeyOrder,
    stretch: Stretch<'_>,
    limit: i64,
) -> Result<Vec<ListRow>, RegistryError> {
    let mut statement = Statement::default();
    statement
        .text(COLUMNS)
        .text(" FROM api_keys k LEFT JOIN principals p ON p.id = k.owner_id WHERE 1 = 1")
        .stretch(parts, order, &stretch);
    for part in parts.iter().filter(|part| part.seek.is_none()) {
        statement.and(&part.check);
    }
    statement
        .text(texts(order).by)
        .with(" LIMIT ?", &[limit.into()]);
    Ok(statement.rows().fetch_all(connection).await?)
}

/// The place on the index after so many rows; none if it ends before.
pub(crate) async fn place_after(
    connection: &mut AnyConnection,
    parts: &[Part],
    order: ApiKeyOrder,
    stretch: Stretch<'_>,
    rows: i64,
) -> Result<Option<Cursor>, RegistryError> {
    let mut statement = Statement::default();
    statement
        .text(texts(order).place)
        .text(" FROM api_keys k WHERE 1 = 1")
        .stretch(parts, order, &stretch)
        .text(texts(order).by)
        .with(" LIMIT 1 OFFSET ?", &[rows.into()]);
    let place: Option<(i64, String, String)> = statement.rows().fetch_optional(connection).await?;
    Ok(place.map(|(number, text, id)| Cursor { number, text, id }))
}

impl Statement {
    /// Keys that come from one part's source and pass every check.
    fn gather(&mut self, parts: &[Part], source: &Clause) -> &mut Self {
        // A cross join is carried out from left to right on SQLite; the limit keeps it from looking
        // for the distinct ids in the index of all ids.
        self.text(" FROM (SELECT DISTINCT few.id FROM (SELECT s.id FROM (")
            .clause(source)
            .text(") AS s LIMIT 9223372036854775807) AS few) AS d CROSS JOIN api_keys k LEFT JOIN principals p ON p.id = k.owner_id WHERE k.id = d.id");
        for part in parts {
            self.and(&part.check);
        }
        self
    }
}

/// Rows of a source, sorted.
pub(crate) async fn gather(
    connection: &mut AnyConnection,
    parts: &[Part],
    source: &Clause,
    order: ApiKeyOrder,
    after: Option<&Cursor>,
    limit: i64,
) -> Result<Vec<ListRow>, RegistryError> {
    let mut statement = Statement::default();
    statement
        .text(COLUMNS)
        .gather(parts, source)
        .after(order, after)
        .text(texts(order).by)
        .with(" LIMIT ?", &[limit.into()]);
    Ok(statement.rows().fetch_all(connection).await?)
}

/// How many keys of a source pass every check.
pub(crate) async fn count_gathered(
    connection: &mut AnyConnection,
    parts: &[Part],
    source: &Clause,
) -> Result<i64, RegistryError> {
    let mut statement = Statement::default();
    statement.text("SELECT COUNT(*)").gather(parts, source);
    Ok(statement.number().fetch_one(connection).await?)
}

/// How many ids a source has, counted no further than `most`.
pub(crate) async fn count_source(
    connection: &mut AnyConnection,
    source: &Clause,
    most: i64,
) -> Result<i64, RegistryError> {
    let mut statement = Statement::default();
    statement
        .text("SELECT COUNT(*) FROM (SELECT 1 FROM (")
        .clause(source)
        .with(") AS s LIMIT ?) AS few", &[most.into()]);
    Ok(statement.number().fetch_one(connection).await?)
}

/// How many keys there are, counted no further than `most`.
pub(crate) async fn count_all(
    connection: &mut AnyConnection,
    most: i64,
) -> Result<i64, RegistryError> {
    let sql = "SELECT COUNT(*) FROM (SELECT 1 FROM api_keys LIMIT $1) AS few";
    Ok(sqlx::query_scalar(sql)
        .bind(most)
        .fetch_one(connection)
        .await?)
}

/// About how many keys there are: a count that triggers keep, or PostgreSQL's own statistics.
pub(crate) async fn estimate_all(connection: &mut AnyConnection) -> Result<i64, RegistryError> {
    Ok(sqlx::query_scalar("SELECT t.count FROM api_key_totals t")
        .fetch_one(connection)
        .await?)
}

/// How many of the newest keys there are, up to `most`, and how many of them pass every check.
pub(crate) async fn count_sample(
    connection: &mut AnyConnection,
    parts: &[Part],
    most: i64,
) -> Result<(i64, i64), RegistryError> {
    let mut statement = Statement::default();
    statement.text("SELECT COUNT(*), CAST(COALESCE(SUM(CASE WHEN 1 = 1");
    for part in parts {
        statement.and(&part.check);
    }
    statement.with(
        " THEN 1 ELSE 0 END), 0) AS BIGINT) FROM (SELECT * FROM api_keys ORDER BY created_at DESC, id DESC \
         LIMIT ?) AS k LEFT JOIN principals p ON p.id = k.owner_id",
        &[most.into()],
    );
    Ok(statement.rows().fetch_one(connection).await?)
}

/// Whether an owner is suspended or had all keys revoked.
pub(crate) async fn is_an_owner_off(connection: &mut AnyConnection) -> Result<bool, RegistryError> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT CAST(1 AS BIGINT) FROM principals WHERE disabled_at IS NOT NULL OR keys_revoked_at IS NOT NULL LIMIT 1",
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// Counts by state, from the indexes alone: of keys by themselves first, then what their owners'
/// suspension and revocation change. Only keys of such owners are looked at.
pub(crate) async fn counts(
    connection: &mut AnyConnection,
    now: i64,
) -> Result<ApiKeyCounts, RegistryError> {
    // Revoked: R. Suspended and not revoked: D. Working until another time than their newest secret: O.
    // Ends are those of the newest secret, less R's and O's, and more what O's own ends are, less D's.
    const OWN: &str = "SELECT (SELECT COUNT(*) FROM api_keys), \
         (SELECT COUNT(*) FROM api_keys WHERE expires_order <= $1), \
         (SELECT COUNT(*) FROM api_keys WHERE expires_order > $1 AND expires_order <= $2), \
         (SELECT COUNT(*) FROM api_keys WHERE rotating_until > 0 AND rotating_until > $1), \
         r.n, r.expired, r.expiring, r.rotating, d.n, d.expired, d.expiring, d.rotating, o.expired, o.expiring \
         FROM (SELECT COUNT(*) AS n, \
             CAST(COALESCE(SUM(CASE WHEN expires_order <= $1 THEN 1 ELSE 0 END), 0) AS BIGINT) AS expired, \
             CAST(COALESCE(SUM(CASE WHEN expires_order > $1 AND expires_order <= $2 THEN 1 ELSE 0 END), 0) AS BIGINT) \
                 AS expiring, \
             CAST(COALESCE(SUM(CASE WHEN rotating_until > $1 THEN 1 ELSE 0 END), 0) AS BIGINT) AS rotating \
             FROM api_keys WHERE revoked_at IS NOT NULL) AS r, \
         (SELECT COUNT(*) AS n, \
             CAST(COALESCE(SUM(CASE WHEN works_until <= $1 THEN 1 ELSE 0 END), 0) AS BIGINT) AS expired, \
             CAST(COALESCE(SUM(CASE WHEN works_until > $1 AND works_until <= $2 THEN 1 ELSE 0 END), 0) AS BIGINT) \
                 AS expiring, \
             CAST(COALESCE(SUM(CASE WHEN rotating_until > $1 THEN 1 ELSE 0 END), 0) AS BIGINT) AS rotating \
             FROM api_keys WHERE disabled_at IS NOT NULL AND revoked_at IS NULL) AS d, \
         (SELECT CAST(COALESCE(SUM(CASE WHEN works_until <= $1 THEN 1 ELSE 0 END) \
                 - SUM(CASE WHEN expires_order <= $1 THEN 1 ELSE 0 END), 0) AS BIGINT) AS expired, \
             CAST(COALESCE(SUM(CASE WHEN works_until > $1 AND works_until <= $2 THEN 1 ELSE 0 END) \
                 - SUM(CASE WHEN expires_order > $1 AND expires_order <= $2 THEN 1 ELSE 0 END), 0) AS BIGINT) \
                 AS expiring \
             FROM api_keys WHERE works_until <> expires_order AND revoked_at IS NULL) AS o";
    // What becomes of keys of an owner who is off: revoked if they are as old as that, else suspended.
    const OF_OWNERS: &str = "SELECT \
         CAST(COALESCE(SUM(CASE WHEN s.gone = 1 THEN 1 ELSE 0 END), 0) AS BIGINT), \
         CAST(COALESCE(SUM(CASE WHEN s.gone = 1 AND s.own = 1 THEN -1 WHEN s.gone = 0 AND s.own = 0 THEN 1 ELSE 0 END), \
             0) AS BIGINT), \
         CAST(COALESCE(SUM(1 - s.own), 0) AS BIGINT), \
         CAST(COALESCE(SUM(CASE WHEN s.own = 0 AND s.works_until <= $1 THEN 1 ELSE 0 END), 0) AS BIGINT), \
         CAST(COALESCE(SUM(CASE WHEN s.own = 0 AND s.works_until > $1 AND s.works_until <= $2 THEN 1 ELSE 0 END), 0) \
             AS BIGINT), \
         CAST(COALESCE(SUM(CASE WHEN s.own = 0 AND s.rotating_until > $1 THEN 1 ELSE 0 END), 0) AS BIGINT) \
         FROM (SELECT k.works_until, k.rotating_until, CASE WHEN k.disabled_at IS NULL THEN 0 ELSE 1 END AS own, \
             CASE WHEN k.created_at <= w.keys_revoked_at THEN 1 ELSE 0 END AS gone \
             FROM principals w CROSS JOIN api_keys k WHERE (w.disabled_at IS NOT NULL OR w.keys_revoked_at IS NOT NULL) \
             AND k.owner_id = w.id AND +k.revoked_at IS NULL \
             AND (w.disabled_at IS NOT NULL OR k.created_at <= w.keys_revoked_at)) AS s";
    let soon = now.saturating_add(EXPIRING_MS);
    let own: OwnCounts = sqlx::query_as(OWN)
        .bind(now)
        .bind(soon)
        .fetch_one(&mut *connection)
        .await?;
    let of_owners: (i64, i64, i64, i64, i64, i64) = sqlx::query_as(OF_OWNERS)
        .bind(now)
        .bind(soon)
        .fetch_one(connection)
        .await?;
    let (all, revoked, disabled) = (own.0, own.4, own.8);
    let expired = own.1 - own.5 + own.12 - own.9;
    let expiring = own.2 - own.6 + own.13 - own.10;
    let rotating = own.3 - own.7 - own.11;
    let (with_revoked, with_disabled, off, off_expired, off_expiring, off_rotating) = of_owners;
    Ok(ApiKeyCounts {
        all,
        live: all - revoked - disabled - expired - (off - off_expired),
        rotating: rotating - off_rotating,
        expiring: expiring - off_expiring,
        expired: expired - off_expired,
        disabled: disabled + with_disabled,
        revoked: revoked + with_revoked,
    })
}

/// All; ended, ending and rotating ones by the indexes; the same of revoked keys and of suspended
/// ones, each after their number; and what those with another end change.
type OwnCounts = (
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
);
