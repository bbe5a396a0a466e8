//! Rows of initial access tokens (RFC 7591 §3).

use keywright_domain::people::TokenDigest;
use sqlx::AnyConnection;

use super::blob;
use crate::RegistryError;
use crate::people::page::Position;
use crate::people::registration_tokens::RegistrationToken;

macro_rules! columns {
    () => {
        "SELECT id, note, made_by, created_at, expires_at, max_uses, uses, ended_at \
         FROM registration_tokens WHERE "
    };
}

#[derive(sqlx::FromRow)]
struct TokenRow {
    id: String,
    note: String,
    made_by: String,
    created_at: i64,
    expires_at: i64,
    max_uses: i64,
    uses: i64,
    ended_at: Option<i64>,
}

impl From<TokenRow> for RegistrationToken {
    fn from(row: TokenRow) -> Self {
        Self {
            id: row.id,
            note: row.note,
            made_by: row.made_by,
            created_at: row.created_at,
            expires_at: row.expires_at,
            max_uses: row.max_uses,
            uses: row.uses,
            ended_at: row.ended_at,
        }
    }
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    token: &RegistrationToken,
    digest: &TokenDigest,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO registration_tokens (id, digest, note, made_by, created_at, expires_at, max_uses) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(token.id.clone())
    .bind(blob(digest))
    .bind(token.note.clone())
    .bind(token.made_by.clone())
    .bind(token.created_at)
    .bind(token.expires_at)
    .bind(token.max_uses)
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<RegistrationToken>, RegistryError> {
    if crate::store::is_no_id(id) {
        return Ok(None);
    }
    let row: Option<TokenRow> = sqlx::query_as(concat!(columns!(), "id = $1"))
        .bind(id.to_owned())
        .fetch_optional(connection)
        .await?;
    Ok(row.map(RegistrationToken::from))
}

/// One that can still make a client.
pub(crate) async fn find_open(
    connection: &mut AnyConnection,
    digest: &TokenDigest,
    now: i64,
) -> Result<Option<RegistrationToken>, RegistryError> {
    let row: Option<TokenRow> = sqlx::query_as(concat!(
        columns!(),
        "digest = $1 AND ended_at IS NULL AND uses < max_uses AND expires_at > $2"
    ))
    .bind(blob(digest))
    .bind(now)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(RegistrationToken::from))
}

/// Those of one maker that can still make a client, oldest first.
pub(crate) async fn list_open_of(
    connection: &mut AnyConnection,
    made_by: &str,
    now: i64,
) -> Result<Vec<RegistrationToken>, RegistryError> {
    let rows: Vec<TokenRow> = sqlx::query_as(concat!(
        columns!(),
        "made_by = $1 AND ended_at IS NULL AND uses < max_uses AND expires_at > $2 \
         ORDER BY created_at, id"
    ))
    .bind(made_by.to_owned())
    .bind(now)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(RegistrationToken::from).collect())
}

/// Uses one once. Its id; none if it is not good now.
pub(crate) async fn take(
    connection: &mut AnyConnection,
    digest: &TokenDigest,
    now: i64,
) -> Result<Option<String>, RegistryError> {
    Ok(sqlx::query_scalar(
        "UPDATE registration_tokens SET uses = uses + 1 WHERE digest = $1 AND ended_at IS NULL \
         AND uses < max_uses AND expires_at > $2 RETURNING id",
    )
    .bind(blob(digest))
    .bind(now)
    .fetch_optional(connection)
    .await?)
}

pub(crate) async fn end(
    connection: &mut AnyConnection,
    id: &str,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query("UPDATE registration_tokens SET ended_at = $1 WHERE id = $2")
        .bind(now)
        .bind(id.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

/// Newest first.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    after: &Position,
    limit: i64,
) -> Result<Vec<RegistrationToken>, RegistryError> {
    let rows: Vec<TokenRow> = sqlx::query_as(concat!(
        columns!(),
        "(created_at, id) < ($1, $2) ORDER BY created_at DESC, id DESC LIMIT $3"
    ))
    .bind(after.number)
    .bind(after.id.clone())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(RegistrationToken::from).collect())
}
