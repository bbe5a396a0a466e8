//! Rows of authorization codes.

use keywright_domain::people::TokenDigest;
use sqlx::AnyConnection;

use super::{blob, scopes};
use crate::RegistryError;
use crate::people::codes::{AuthorizationCode, CodeUse};

#[derive(sqlx::FromRow)]
struct CodeRow {
    client_id: String,
    user_id: String,
    session_id: Option<String>,
    redirect_uri: String,
    scopes: String,
    nonce: Option<String>,
    code_challenge: Option<String>,
    dpop_jkt: Option<String>,
    resource: Option<String>,
    authenticated_at: i64,
    acr: String,
    amr: String,
    offline: i64,
    created_at: i64,
    expires_at: i64,
}

impl CodeRow {
    fn into_code(self) -> Result<AuthorizationCode, RegistryError> {
        Ok(AuthorizationCode {
            client_id: self.client_id,
            user_id: self.user_id,
            session_id: self.session_id,
            redirect_uri: self.redirect_uri,
            scopes: scopes(&self.scopes)?,
            nonce: self.nonce,
            code_challenge: self.code_challenge,
            dpop_jkt: self.dpop_jkt,
            resource: self.resource,
            authenticated_at: self.authenticated_at,
            acr: self.acr,
            amr: self.amr,
            offline: self.offline != 0,
            created_at: self.created_at,
            expires_at: self.expires_at,
        })
    }
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    digest: &TokenDigest,
    code: &AuthorizationCode,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO authorization_codes (digest, client_id, user_id, session_id, redirect_uri, \
         scopes, nonce, code_challenge, dpop_jkt, resource, authenticated_at, acr, amr, offline, \
         created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
    )
    .bind(blob(digest))
    .bind(code.client_id.clone())
    .bind(code.user_id.clone())
    .bind(code.session_id.clone())
    .bind(code.redirect_uri.clone())
    .bind(code.scopes.to_string())
    .bind(code.nonce.clone())
    .bind(code.code_challenge.clone())
    .bind(code.dpop_jkt.clone())
    .bind(code.resource.clone())
    .bind(code.authenticated_at)
    .bind(code.acr.clone())
    .bind(code.amr.clone())
    .bind(i64::from(code.offline))
    .bind(code.created_at)
    .bind(code.expires_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Uses a code up: the first caller gets it, everybody after that nothing.
pub(crate) async fn consume(
    connection: &mut AnyConnection,
    digest: &TokenDigest,
    now: i64,
) -> Result<Option<AuthorizationCode>, RegistryError> {
    let row: Option<CodeRow> = sqlx::query_as(
        "UPDATE authorization_codes SET used_at = $1 WHERE digest = $2 AND used_at IS NULL \
         RETURNING client_id, user_id, session_id, redirect_uri, scopes, nonce, code_challenge, \
         dpop_jkt, resource, authenticated_at, acr, amr, offline, created_at, expires_at",
    )
    .bind(now)
    .bind(blob(digest))
    .fetch_optional(connection)
    .await?;
    row.map(CodeRow::into_code).transpose()
}

/// Remembers what a code gave, for the case that it comes again.
pub(crate) async fn update_given(
    connection: &mut AnyConnection,
    digest: &TokenDigest,
    given: &CodeUse,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE authorization_codes SET grant_id = $1, access_jti = $2, access_expires_at = $3 \
         WHERE digest = $4",
    )
    .bind(given.grant_id.clone())
    .bind(given.access_jti.clone())
    .bind(given.access_expires_at)
    .bind(blob(digest))
    .execute(connection)
    .await?;
    Ok(())
}

/// None for a code that we do not know; otherwise whose it is, whether it was used, and what it gave.
pub(crate) async fn find_use(
    connection: &mut AnyConnection,
    digest: &TokenDigest,
) -> Result<Option<(String, bool, Option<CodeUse>)>, RegistryError> {
    type Row = (
        String,
        Option<i64>,
        Option<String>,
        Option<String>,
        Option<i64>,
    );
    let row: Option<Row> = sqlx::query_as(
        "SELECT client_id, used_at, grant_id, access_jti, access_expires_at FROM authorization_codes \
         WHERE digest = $1",
    )
    .bind(blob(digest))
    .fetch_optional(connection)
    .await?;
    Ok(row.map(
        |(client_id, used_at, grant_id, access_jti, access_expires_at)| {
            let given = match (grant_id, access_jti, access_expires_at) {
                (Some(grant_id), Some(access_jti), Some(access_expires_at)) => Some(CodeUse {
                    grant_id,
                    access_jti,
                    access_expires_at,
                }),
                _ => None,
            };
            (client_id, used_at.is_some(), given)
        },
    ))
}

/// Forgets what a person let a client or a device in for and nobody fetched yet: codes, and devices that
/// were let in. Returns how many.
pub(crate) async fn remove_of(
    connection: &mut AnyConnection,
    user_id: &str,
    client_id: &str,
) -> Result<u64, RegistryError> {
    let mut removed = 0;
    for statement in [
        "DELETE FROM authorization_codes WHERE user_id = $1 AND client_id = $2 AND used_at IS NULL",
        "DELETE FROM device_codes WHERE user_id = $1 AND client_id = $2 AND status = 'approved'",
    ] {
        let done = sqlx::query(statement)
            .bind(user_id.to_owned())
            .bind(client_id.to_owned())
            .execute(&mut *connection)
            .await?;
        removed += done.rows_affected();
    }
    Ok(removed)
}
