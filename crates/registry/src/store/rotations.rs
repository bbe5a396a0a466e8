//! Rows of rotations: which secret replaces which, and how far that is.

use keywright_domain::api_keys::{Kid, OverlapClock, Rotation, RotationState};
use sqlx::AnyConnection;

use super::many;
use super::secrets::damaged;
use crate::RegistryError;

macro_rules! columns {
    () => {
        "r.idempotency_key, r.key_id, r.old_kid, r.kid, r.overlap_ms, r.clock, r.state, r.requested_by, r.reason, \
         r.created_at, r.activated_at, r.ended_at, r.ended_by"
    };
}

#[derive(sqlx::FromRow)]
struct RotationRow {
    idempotency_key: String,
    key_id: String,
    old_kid: Option<String>,
    kid: String,
    overlap_ms: i64,
    clock: String,
    state: String,
    requested_by: String,
    reason: Option<String>,
    created_at: i64,
    activated_at: Option<i64>,
    ended_at: Option<i64>,
    ended_by: Option<String>,
}

impl RotationRow {
    fn into_rotation(self) -> Result<Rotation, RegistryError> {
        let kid = |text: &str| Kid::new(text).map_err(|_| damaged("kid"));
        Ok(Rotation {
            id: self.idempotency_key,
            key_id: self.key_id,
            old: self.old_kid.as_deref().map(kid).transpose()?,
            new: kid(&self.kid)?,
            overlap_ms: self.overlap_ms,
            clock: OverlapClock::parse(&self.clock).map_err(|_| damaged("overlap's clock"))?,
            state: RotationState::parse(&self.state).ok_or_else(|| damaged("rotation's state"))?,
            requested_by: self.requested_by,
            reason: self.reason,
            created_at: self.created_at,
            activated_at: self.activated_at,
            ended_at: self.ended_at,
            ended_by: self.ended_by,
        })
    }
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<Rotation>, RegistryError> {
    if crate::store::is_no_id(id) {
        return Ok(None);
    }
    let row: Option<RotationRow> = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM rotations r WHERE r.idempotency_key = $1"
    ))
    .bind(id.to_owned())
    .fetch_optional(connection)
    .await?;
    row.map(RotationRow::into_rotation).transpose()
}

/// Those of some ids that exist.
pub(crate) async fn find_all(
    connection: &mut AnyConnection,
    ids: &[String],
) -> Result<Vec<Rotation>, RegistryError> {
    let head = concat!(
        "SELECT ",
        columns!(),
        " FROM rotations r WHERE r.idempotency_key IN "
    );
    find_by(connection, head, ids).await
}

/// The rotations of some keys that are not over, newest first.
pub(crate) async fn find_all_open(
    connection: &mut AnyConnection,
    key_ids: &[String],
) -> Result<Vec<Rotation>, RegistryError> {
    let head = concat!(
        "SELECT ",
        columns!(),
        " FROM rotations r WHERE +r.ended_at IS NULL AND r.key_id IN "
    );
    // Sorted here, and with a sign beside the column: by the index of all open ones PostgreSQL would read
    // every one of them in this order, and compare each with every key that is asked for.
    let mut found = find_by(connection, head, key_ids).await?;
    found.sort_by_key(|rotation| std::cmp::Reverse(rotation.created_at));
    Ok(found)
}

async fn find_by(
    connection: &mut AnyConnection,
    head: &str,
    values: &[String],
) -> Result<Vec<Rotation>, RegistryError> {
    let mut found = Vec::new();
    for part in values.chunks(many::MOST) {
        let count = many::padded(part.len());
        let sql = many::rows(connection, head, 1, count);
        let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
        for value in many::padding(part, count) {
            query = query.bind(many::asked(value));
        }
        let rows: Vec<RotationRow> = query.fetch_all(&mut *connection).await?;
        for row in rows {
            found.push(row.into_rotation()?);
        }
    }
    Ok(found)
}

/// The one rotation of a key that is not over.
pub(crate) async fn find_open(
    connection: &mut AnyConnection,
    key_id: &str,
) -> Result<Option<Rotation>, RegistryError> {
    if crate::store::is_no_id(key_id) {
        return Ok(None);
    }
    let row: Option<RotationRow> = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM rotations r WHERE r.key_id = $1 AND +r.ended_at IS NULL ORDER BY r.created_at DESC LIMIT 1"
    ))
    .bind(key_id.to_owned())
    .fetch_optional(connection)
    .await?;
    row.map(RotationRow::into_rotation).transpose()
}

/// The rotations of a key, newest first.
pub(crate) async fn list_of_key(
    connection: &mut AnyConnection,
    key_id: &str,
    limit: i64,
) -> Result<Vec<Rotation>, RegistryError> {
    let rows: Vec<RotationRow> = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM rotations r WHERE r.key_id = $1 ORDER BY r.created_at DESC, r.idempotency_key LIMIT $2"
    ))
    .bind(key_id.to_owned())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(RotationRow::into_rotation).collect()
}

/// The rotations of a key, newest first, behind the one a page ended with.
pub(crate) async fn page_of_key(
    connection: &mut AnyConnection,
    key_id: &str,
    after: (i64, &str),
    limit: i64,
) -> Result<Vec<Rotation>, RegistryError> {
    let rows: Vec<RotationRow> = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM rotations r WHERE r.key_id = $1 AND (r.created_at, r.idempotency_key) < ($2, $3) \
         ORDER BY r.created_at DESC, r.idempotency_key DESC LIMIT $4"
    ))
    .bind(key_id.to_owned())
    .bind(after.0)
    .bind(after.1.to_owned())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(RotationRow::into_rotation).collect()
}

/// Open rotations, oldest first, after the one a page ended with.
pub(crate) async fn list_open(
    connection: &mut AnyConnection,
    after: (i64, &str),
    limit: i64,
) -> Result<Vec<Rotation>, RegistryError> {
    let rows: Vec<RotationRow> = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM rotations r WHERE r.ended_at IS NULL AND (r.created_at, r.idempotency_key) > ($1, $2) \
         ORDER BY r.created_at, r.idempotency_key LIMIT $3"
    ))
    .bind(after.0)
    .bind(after.1.to_owned())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(RotationRow::into_rotation).collect()
}

/// Inserts rotations, or writes how far they are.
pub(crate) async fn put_all(
    connection: &mut AnyConnection,
    rotations: &[Rotation],
) -> Result<(), RegistryError> {
    const COLUMNS: usize = 13;
    for part in many::parts(rotations) {
        let sql = many::rows(
            connection,
            "INSERT INTO rotations (idempotency_key, key_id, old_kid, kid, overlap_ms, clock, state, requested_by, \
             reason, created_at, activated_at, ended_at, ended_by) VALUES ",
            part.len(),
            COLUMNS,
        ) + " ON CONFLICT (idempotency_key) DO UPDATE SET kid = excluded.kid, state = excluded.state, \
             activated_at = excluded.activated_at, ended_at = excluded.ended_at, ended_by = excluded.ended_by";
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for rotation in part {
            query = query
                .bind(rotation.id.clone())
                .bind(rotation.key_id.clone())
                .bind(rotation.old.as_ref().map(|kid| kid.as_str().to_owned()))
                .bind(rotation.new.as_str().to_owned())
                .bind(rotation.overlap_ms)
                .bind(rotation.clock.to_text())
                .bind(rotation.state.as_str())
                .bind(rotation.requested_by.clone())
                .bind(rotation.reason.clone())
                .bind(rotation.created_at)
                .bind(rotation.activated_at)
                .bind(rotation.ended_at)
                .bind(rotation.ended_by.clone());
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Writes how far one is.
pub(crate) async fn update(
    connection: &mut AnyConnection,
    rotation: &Rotation,
) -> Result<(), RegistryError> {
    put_all(connection, std::slice::from_ref(rotation)).await
}

/// A rotation by its id, and the open one of a key, by one read.
pub(crate) async fn find_both(
    connection: &mut AnyConnection,
    id: &str,
    key_id: &str,
) -> Result<(Option<Rotation>, Option<Rotation>), RegistryError> {
    let rows: Vec<RotationRow> = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM rotations r WHERE r.idempotency_key = $1 OR (r.key_id = $2 AND +r.ended_at IS NULL) \
         ORDER BY r.created_at DESC"
    ))
    .bind(many::asked(id))
    .bind(many::asked(key_id))
    .fetch_all(connection)
    .await?;
    let (mut by_id, mut open) = (None, None);
    for row in rows {
        let rotation = row.into_rotation()?;
        if rotation.id == id {
            by_id = Some(rotation);
        } else if open.is_none() {
            open = Some(rotation);
        }
    }
    Ok((by_id, open))
}

/// Writes which scopes a rotation took from its key: what it had, and what was left.
pub(crate) async fn keep_scopes(
    connection: &mut AnyConnection,
    id: &str,
    before: &str,
    after: &str,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE rotations SET scopes_before = $1, scopes_after = $2 WHERE idempotency_key = $3",
    )
    .bind(before.to_owned())
    .bind(after.to_owned())
    .bind(id.to_owned())
    .execute(connection)
    .await?;
    Ok(())
}

/// The scopes that a rotation took from its key, as [`keep_scopes`] wrote them.
pub(crate) async fn scopes_of(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<(String, String)>, RegistryError> {
    let row: Option<(Option<String>, Option<String>)> = sqlx::query_as(
        "SELECT scopes_before, scopes_after FROM rotations WHERE idempotency_key = $1",
    )
    .bind(id.to_owned())
    .fetch_optional(connection)
    .await?;
    Ok(row.and_then(|(before, after)| before.zip(after)))
}
