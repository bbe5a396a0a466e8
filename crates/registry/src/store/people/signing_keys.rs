//! Rows of signing keys. The private half is sealed, and gone once a key is retired.

use keywright_domain::people::{KeyState, Sealed, SigningKey};
use sqlx::AnyConnection;

use super::super::secrets::damaged;
use crate::RegistryError;

macro_rules! columns {
    () => {
        "SELECT kid, alg, public_jwk, state, created_at, activate_at, activated_at, retire_at, \
         retired_at FROM signing_keys WHERE "
    };
}

#[derive(sqlx::FromRow)]
struct SigningKeyRow {
    kid: String,
    alg: String,
    public_jwk: String,
    state: String,
    created_at: i64,
    activate_at: Option<i64>,
    activated_at: Option<i64>,
    retire_at: Option<i64>,
    retired_at: Option<i64>,
}

impl SigningKeyRow {
    fn into_key(self) -> Result<SigningKey, RegistryError> {
        Ok(SigningKey {
            kid: self.kid,
            alg: self.alg,
            public_jwk: self.public_jwk,
            state: KeyState::parse(&self.state).ok_or_else(|| damaged("signing key's state"))?,
            created_at: self.created_at,
            activate_at: self.activate_at,
            activated_at: self.activated_at,
            retire_at: self.retire_at,
            retired_at: self.retired_at,
        })
    }
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    key: &SigningKey,
    sealed: &Sealed,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO signing_keys (kid, alg, public_jwk, sealed, state, created_at, activate_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(key.kid.clone())
    .bind(key.alg.clone())
    .bind(key.public_jwk.clone())
    .bind(sealed.as_bytes().to_vec())
    .bind(key.state.as_str())
    .bind(key.created_at)
    .bind(key.activate_at)
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    kid: &str,
) -> Result<Option<SigningKey>, RegistryError> {
    let row: Option<SigningKeyRow> = sqlx::query_as(concat!(columns!(), "kid = $1"))
        .bind(kid.to_owned())
        .fetch_optional(connection)
        .await?;
    row.map(SigningKeyRow::into_key).transpose()
}

pub(crate) async fn find_active(
    connection: &mut AnyConnection,
    alg: &str,
) -> Result<Option<SigningKey>, RegistryError> {
    let row: Option<SigningKeyRow> =
        sqlx::query_as(concat!(columns!(), "alg = $1 AND state = 'active'"))
            .bind(alg.to_owned())
            .fetch_optional(connection)
            .await?;
    row.map(SigningKeyRow::into_key).transpose()
}

pub(crate) async fn find_sealed(
    connection: &mut AnyConnection,
    kid: &str,
) -> Result<Option<Sealed>, RegistryError> {
    let row: Option<(Option<Vec<u8>>,)> =
        sqlx::query_as("SELECT sealed FROM signing_keys WHERE kid = $1")
            .bind(kid.to_owned())
            .fetch_optional(connection)
            .await?;
    Ok(row.and_then(|(sealed,)| sealed).map(Sealed::new))
}

/// Oldest first: those that are not retired.
pub(crate) async fn list_published(
    connection: &mut AnyConnection,
) -> Result<Vec<SigningKey>, RegistryError> {
    let rows: Vec<SigningKeyRow> = sqlx::query_as(concat!(
        columns!(),
        "state <> 'retired' ORDER BY created_at, kid"
    ))
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(SigningKeyRow::into_key).collect()
}

/// Oldest first: those that were retired in their time since a moment, and not by hand before it.
pub(crate) async fn list_retired(
    connection: &mut AnyConnection,
    since: i64,
) -> Result<Vec<SigningKey>, RegistryError> {
    let rows: Vec<SigningKeyRow> = sqlx::query_as(concat!(
        columns!(),
        "state = 'retired' AND retired_at > $1 AND retire_at <= retired_at ORDER BY created_at, kid"
    ))
    .bind(since)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(SigningKeyRow::into_key).collect()
}

/// Writes state and times; a retired key loses its private half.
pub(crate) async fn update(
    connection: &mut AnyConnection,
    key: &SigningKey,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE signing_keys SET state = $1, activate_at = $2, activated_at = $3, retire_at = $4, \
         retired_at = $5, sealed = CASE WHEN $1 = 'retired' THEN NULL ELSE sealed END WHERE kid = $6",
    )
    .bind(key.state.as_str())
    .bind(key.activate_at)
    .bind(key.activated_at)
    .bind(key.retire_at)
    .bind(key.retired_at)
    .bind(key.kid.clone())
    .execute(connection)
    .await?;
    Ok(())
}
