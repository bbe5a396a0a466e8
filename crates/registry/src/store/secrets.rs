//! Rows of secrets: kid, mac, state. Never the secret.

use std::collections::HashMap;

use keywright_domain::api_keys::{KeyMac, Kid, Secret, SecretState};
use sqlx::AnyConnection;

use super::many;
use crate::RegistryError;

/// How `mac` was made of a key of ours. Foreign keys name how their maker hashed them.
pub(crate) const OURS: &str = "hmac-sha256-of-sha256";

/// Every column of a secret but its mac, in the order of [`SecretRow`].
macro_rules! secret_columns {
    () => {
        "s.kid, s.last_four, s.stored, s.created_at, s.expires_at, s.retires_at, s.pending_until, s.activated_at, \
         s.ended_at, s.ended_reason, s.first_used_at, s.last_used_at, s.use_count"
    };
}
pub(super) use secret_columns;

#[derive(sqlx::FromRow)]
pub(super) struct SecretRow {
    pub(super) kid: String,
    last_four: String,
    stored: String,
    created_at: i64,
    expires_at: Option<i64>,
    retires_at: Option<i64>,
    pending_until: Option<i64>,
    activated_at: Option<i64>,
    ended_at: Option<i64>,
    ended_reason: Option<String>,
    first_used_at: Option<i64>,
    last_used_at: Option<i64>,
    use_count: i64,
}

impl SecretRow {
    pub(super) fn into_secret(self) -> Result<Secret, RegistryError> {
        Ok(Secret {
            kid: Kid::new(&self.kid).map_err(|_| damaged("kid"))?,
            last_four: self.last_four,
            stored: state_from_text(&self.stored)?,
            created_at: self.created_at,
            expires_at: self.expires_at,
            retires_at: self.retires_at,
            pending_until: self.pending_until,
            activated_at: self.activated_at,
            ended_at: self.ended_at,
            ended_reason: self.ended_reason,
            first_used_at: self.first_used_at,
            last_used_at: self.last_used_at,
            use_count: self.use_count,
        })
    }
}

/// What is stored of a secret's text.
#[derive(Clone, Debug)]
pub(crate) struct StoredMac {
    pub(crate) mac: KeyMac,
    pub(crate) algorithm: &'static str,
    pub(crate) pepper_id: String,
}

pub(crate) fn damaged(what: &str) -> RegistryError {
    RegistryError::Damaged(format!(
        "a {what} in it has a value that this program never writes"
    ))
}

pub(crate) fn state_text(state: SecretState) -> &'static str {
    match state {
        SecretState::Pending => "pending",
        SecretState::Active => "active",
        SecretState::Retiring => "retiring",
        SecretState::Retired => "retired",
        SecretState::Expired => "expired",
        SecretState::Revoked => "revoked",
        SecretState::Aborted => "aborted",
    }
}

pub(crate) fn state_from_text(text: &str) -> Result<SecretState, RegistryError> {
    Ok(match text {
        "pending" => SecretState::Pending,
        "active" => SecretState::Active,
        "retiring" => SecretState::Retiring,
        "retired" => SecretState::Retired,
        "expired" => SecretState::Expired,
        "revoked" => SecretState::Revoked,
        "aborted" => SecretState::Aborted,
        _ => return Err(damaged("secret's state")),
    })
}

/// A secret about to be inserted.
#[derive(Clone, Debug)]
pub(crate) struct SecretInsert {
    pub(crate) key_id: String,
    pub(crate) position: i64,
    pub(crate) secret: Secret,
    pub(crate) stored: StoredMac,
}

pub(crate) async fn insert_all(
    connection: &mut AnyConnection,
    inserts: &[SecretInsert],
) -> Result<(), RegistryError> {
    const ALWAYS: &str = "INSERT INTO secrets (kid, key_id, position, mac, algorithm, pepper_id, last_four, stored, \
         created_at, expires_at, use_count";
    const LATER: &str = ", retires_at, pending_until, activated_at, ended_at, ended_reason, first_used_at, \
         last_used_at";
    // Most are new: of what comes later, they leave the columns empty.
    let (lived, new): (Vec<_>, Vec<_>) = inserts
        .iter()
        .partition(|insert| has_history(&insert.secret));
    for (inserts, head, columns) in [
        (new, format!("{ALWAYS}) VALUES "), 11),
        (lived, format!("{ALWAYS}{LATER}) VALUES "), 18),
    ] {
        for part in many::parts(&inserts) {
            let sql = many::rows(connection, &head, part.len(), columns);
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
            for insert in part {
                let secret = &insert.secret;
                query = query
                    .bind(secret.kid.as_str().to_owned())
                    .bind(insert.key_id.clone())
                    .bind(insert.position)
                    .bind(insert.stored.mac.as_bytes().to_vec())
                    .bind(insert.stored.algorithm)
                    .bind(insert.stored.pepper_id.clone())
                    .bind(secret.last_four.clone())
                    .bind(state_text(secret.stored))
                    .bind(secret.created_at)
                    .bind(secret.expires_at)
                    .bind(secret.use_count);
                if has_history(secret) {
                    query = query
                        .bind(secret.retires_at)
                        .bind(secret.pending_until)
                        .bind(secret.activated_at)
                        .bind(secret.ended_at)
                        .bind(secret.ended_reason.clone())
                        .bind(secret.first_used_at)
                        .bind(secret.last_used_at);
                }
            }
            query.execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Whether anything but its making is known of a secret.
fn has_history(secret: &Secret) -> bool {
    secret.retires_at.is_some()
        || secret.pending_until.is_some()
        || secret.activated_at.is_some()
        || secret.ended_at.is_some()
        || secret.ended_reason.is_some()
        || secret.first_used_at.is_some()
        || secret.last_used_at.is_some()
}

/// The secrets of at most [`many::MOST`] keys, by key and in their order.
pub(super) async fn of_keys(
    connection: &mut AnyConnection,
    key_ids: &[String],
) -> Result<HashMap<String, Vec<Secret>>, RegistryError> {
    #[derive(sqlx::FromRow)]
    struct OwnedRow {
        key_id: String,
        #[sqlx(flatten)]
        secret: SecretRow,
    }
    let count = many::padded(key_ids.len());
    let head = concat!(
        "SELECT s.key_id, ",
        secret_columns!(),
        " FROM secrets s WHERE s.key_id IN "
    );
    let sql = many::rows(connection, head, 1, count) + " ORDER BY s.key_id, s.position";
    let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
    for id in many::padding(key_ids, count) {
        query = query.bind(many::asked(id));
    }
    let rows: Vec<OwnedRow> = query.fetch_all(connection).await?;
    let mut secrets: HashMap<String, Vec<Secret>> = HashMap::with_capacity(key_ids.len());
    for row in rows {
        let secret = row.secret.into_secret()?;
        secrets.entry(row.key_id).or_default().push(secret);
    }
    Ok(secrets)
}

/// The key that a kid belongs to.
pub(crate) async fn find_key_id(
    connection: &mut AnyConnection,
    kid: &str,
) -> Result<Option<String>, RegistryError> {
    Ok(
        sqlx::query_scalar("SELECT key_id FROM secrets WHERE kid = $1")
            .bind(kid.to_owned())
            .fetch_optional(connection)
            .await?,
    )
}

/// Writes what changes of state change. Use counts are not touched: they are added to by the flush
/// alone, so that a flush and a rotation never lose each other's work.
pub(crate) async fn update_states(
    connection: &mut AnyConnection,
    secrets: &[Secret],
) -> Result<(), RegistryError> {
    const COLUMNS: usize = 7;
    for part in many::parts(secrets) {
        let sql = many::rows(
            connection,
            "UPDATE secrets SET stored = v.column2, retires_at = v.column3, pending_until = v.column4, \
             activated_at = v.column5, ended_at = v.column6, ended_reason = v.column7 FROM (VALUES ",
            part.len(),
            COLUMNS,
        ) + ") AS v WHERE secrets.kid = v.column1";
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for secret in part {
            query = query
                .bind(secret.kid.as_str().to_owned())
                .bind(state_text(secret.stored))
                .bind(secret.retires_at)
                .bind(secret.pending_until)
                .bind(secret.activated_at)
                .bind(secret.ended_at)
                .bind(secret.ended_reason.clone());
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Marks the first use of a secret. Returns the id of its key, or none if another verification was
/// first.
pub(crate) async fn mark_first_use(
    connection: &mut AnyConnection,
    kid: &str,
    at: i64,
) -> Result<Option<String>, RegistryError> {
    Ok(sqlx::query_scalar(
        "UPDATE secrets SET first_used_at = $1, \
         last_used_at = CASE WHEN last_used_at IS NULL OR last_used_at < $1 THEN $1 ELSE last_used_at END \
         WHERE kid = $2 AND first_used_at IS NULL RETURNING key_id",
    )
    .bind(at)
    .bind(kid.to_owned())
    .fetch_optional(connection)
    .await?)
}

/// Stores a secret's text under another pepper. Returns false if its row changed meanwhile.
pub(crate) async fn update_mac(
    connection: &mut AnyConnection,
    kid: &str,
    old_pepper: &str,
    mac: &KeyMac,
    pepper_id: &str,
) -> Result<bool, RegistryError> {
    let result = sqlx::query(
        "UPDATE secrets SET mac = $1, pepper_id = $2 WHERE kid = $3 AND pepper_id = $4",
    )
    .bind(mac.as_bytes().to_vec())
    .bind(pepper_id.to_owned())
    .bind(kid.to_owned())
    .bind(old_pepper.to_owned())
    .execute(connection)
    .await?;
    Ok(result.rows_affected() == 1)
}
