//! Rows that are deleted by the one request that needs them: pushed authorization requests, and
//! browsers that are at an identity provider.

use keywright_domain::people::{Sealed, TokenDigest};
use sqlx::AnyConnection;

use super::{blob, digest};
use crate::RegistryError;
use crate::people::requests::{LoginTransaction, PushedRequest};

pub(crate) async fn insert_pushed(
    connection: &mut AnyConnection,
    uri: &TokenDigest,
    request: &PushedRequest,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO pushed_requests (digest, client_id, parameters, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(blob(uri))
    .bind(request.client_id.clone())
    .bind(request.parameters.clone())
    .bind(request.created_at)
    .bind(request.expires_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes a request of this client that is not too old, once.
pub(crate) async fn take_pushed(
    connection: &mut AnyConnection,
    uri: &TokenDigest,
    client_id: &str,
    now: i64,
) -> Result<Option<PushedRequest>, RegistryError> {
    let row: Option<(String, String, i64, i64)> = sqlx::query_as(
        "DELETE FROM pushed_requests WHERE digest = $1 AND client_id = $2 AND expires_at > $3 \
         RETURNING client_id, parameters, created_at, expires_at",
    )
    .bind(blob(uri))
    .bind(client_id.to_owned())
    .bind(now)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(
        |(client_id, parameters, created_at, expires_at)| PushedRequest {
            client_id,
            parameters,
            created_at,
            expires_at,
        },
    ))
}

#[derive(sqlx::FromRow)]
struct LoginRow {
    browser_digest: Vec<u8>,
    provider_id: String,
    nonce: String,
    sealed_verifier: Vec<u8>,
    redirect_to: String,
    user_id: Option<String>,
    created_at: i64,
    expires_at: i64,
}

impl LoginRow {
    fn into_transaction(self) -> Result<LoginTransaction, RegistryError> {
        Ok(LoginTransaction {
            browser: digest(&self.browser_digest)?,
            provider_id: self.provider_id,
            nonce: self.nonce,
            sealed_verifier: Sealed::new(self.sealed_verifier),
            redirect_to: self.redirect_to,
            user_id: self.user_id,
            created_at: self.created_at,
            expires_at: self.expires_at,
        })
    }
}

pub(crate) async fn insert_login(
    connection: &mut AnyConnection,
    state: &TokenDigest,
    login: &LoginTransaction,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO login_transactions (state_digest, browser_digest, provider_id, nonce, \
         sealed_verifier, redirect_to, user_id, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(blob(state))
    .bind(blob(&login.browser))
    .bind(login.provider_id.clone())
    .bind(login.nonce.clone())
    .bind(login.sealed_verifier.as_bytes().to_vec())
    .bind(login.redirect_to.clone())
    .bind(login.user_id.clone())
    .bind(login.created_at)
    .bind(login.expires_at)
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn find_login(
    connection: &mut AnyConnection,
    state: &TokenDigest,
) -> Result<Option<LoginTransaction>, RegistryError> {
    let row: Option<LoginRow> = sqlx::query_as(
        "SELECT browser_digest, provider_id, nonce, sealed_verifier, redirect_to, user_id, \
         created_at, expires_at FROM login_transactions WHERE state_digest = $1",
    )
    .bind(blob(state))
    .fetch_optional(connection)
    .await?;
    row.map(LoginRow::into_transaction).transpose()
}

/// Takes a transaction of this browser that is not too old, once.
pub(crate) async fn take_login(
    connection: &mut AnyConnection,
    state: &TokenDigest,
    browser: &TokenDigest,
    now: i64,
) -> Result<Option<LoginTransaction>, RegistryError> {
    let row: Option<LoginRow> = sqlx::query_as(
        "DELETE FROM login_transactions WHERE state_digest = $1 AND browser_digest = $2 \
         AND expires_at > $3 RETURNING browser_digest, provider_id, nonce, sealed_verifier, \
         redirect_to, user_id, created_at, expires_at",
    )
    .bind(blob(state))
    .bind(blob(browser))
    .bind(now)
    .fetch_optional(connection)
    .await?;
    row.map(LoginRow::into_transaction).transpose()
}
