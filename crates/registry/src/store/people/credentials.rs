//! Rows of second factors and passkeys.

use keywright_domain::SecretText;
use keywright_domain::people::Sealed;
use sqlx::AnyConnection;

use crate::RegistryError;
use crate::people::credentials::{NewPasskey, Passkey, RecoveryCode, Totp};

pub(crate) async fn find_totp(
    connection: &mut AnyConnection,
    user_id: &str,
) -> Result<Option<Totp>, RegistryError> {
    let row: Option<(Vec<u8>, i64, Option<i64>, i64)> = sqlx::query_as(
        "SELECT sealed, created_at, confirmed_at, last_step FROM totp WHERE user_id = $1",
    )
    .bind(user_id.to_owned())
    .fetch_optional(connection)
    .await?;
    Ok(
        row.map(|(sealed, created_at, confirmed_at, last_step)| Totp {
            sealed: Sealed::new(sealed),
            created_at,
            confirmed_at,
            last_step,
        }),
    )
}

pub(crate) async fn put_totp(
    connection: &mut AnyConnection,
    user_id: &str,
    sealed: &Sealed,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO totp (user_id, sealed, created_at, confirmed_at, last_step) \
         VALUES ($1, $2, $3, NULL, -1) ON CONFLICT (user_id) DO UPDATE SET \
         sealed = excluded.sealed, created_at = excluded.created_at, confirmed_at = NULL, last_step = -1",
    )
    .bind(user_id.to_owned())
    .bind(sealed.as_bytes().to_vec())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Uses a time step up. False for one that was used, or is older than one that was.
pub(crate) async fn accept_step(
    connection: &mut AnyConnection,
    user_id: &str,
    step: i64,
    now: i64,
) -> Result<bool, RegistryError> {
    let done: Option<String> = sqlx::query_scalar(
        "UPDATE totp SET last_step = $1, confirmed_at = COALESCE(confirmed_at, $2) \
         WHERE user_id = $3 AND last_step < $1 RETURNING user_id",
    )
    .bind(step)
    .bind(now)
    .bind(user_id.to_owned())
    .fetch_optional(connection)
    .await?;
    Ok(done.is_some())
}

pub(crate) async fn delete_totp(
    connection: &mut AnyConnection,
    user_id: &str,
) -> Result<(), RegistryError> {
    sqlx::query("DELETE FROM totp WHERE user_id = $1")
        .bind(user_id.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

/// Replaces all recovery codes of a user.
pub(crate) async fn put_recovery_codes(
    connection: &mut AnyConnection,
    user_id: &str,
    codes: &[(String, SecretText)],
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query("DELETE FROM recovery_codes WHERE user_id = $1")
        .bind(user_id.to_owned())
        .execute(&mut *connection)
        .await?;
    for (id, hash) in codes {
        sqlx::query(
            "INSERT INTO recovery_codes (id, user_id, hash, created_at) VALUES ($1, $2, $3, $4)",
        )
        .bind(id.clone())
        .bind(user_id.to_owned())
        .bind(hash.expose().to_owned())
        .bind(now)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Those that were not used.
pub(crate) async fn list_recovery_codes(
    connection: &mut AnyConnection,
    user_id: &str,
) -> Result<Vec<RecoveryCode>, RegistryError> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT id, hash FROM recovery_codes WHERE user_id = $1 AND used_at IS NULL ORDER BY id",
    )
    .bind(user_id.to_owned())
    .fetch_all(connection)
    .await?;
    let code = |(id, hash)| RecoveryCode {
        id,
        hash: SecretText::new(hash),
    };
    Ok(rows.into_iter().map(code).collect())
}

/// Uses one up. False if it was used, or is somebody else's.
pub(crate) async fn use_recovery_code(
    connection: &mut AnyConnection,
    user_id: &str,
    id: &str,
    now: i64,
) -> Result<bool, RegistryError> {
    let done: Option<String> = sqlx::query_scalar(
        "UPDATE recovery_codes SET used_at = $1 WHERE id = $2 AND user_id = $3 AND used_at IS NULL \
         RETURNING id",
    )
    .bind(now)
    .bind(id.to_owned())
    .bind(user_id.to_owned())
    .fetch_optional(connection)
    .await?;
    Ok(done.is_some())
}

#[derive(sqlx::FromRow)]
struct PasskeyRow {
    credential_id: Vec<u8>,
    user_id: String,
    public_key: Vec<u8>,
    sign_count: i64,
    transports: String,
    name: String,
    created_at: i64,
    last_used_at: Option<i64>,
    suspect_at: Option<i64>,
}

impl From<PasskeyRow> for Passkey {
    fn from(row: PasskeyRow) -> Self {
        Self {
            credential_id: row.credential_id,
            user_id: row.user_id,
            public_key: row.public_key,
            sign_count: row.sign_count,
            transports: row.transports,
            name: row.name,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            suspect_at: row.suspect_at,
        }
    }
}

macro_rules! passkey_columns {
    () => {
        "SELECT credential_id, user_id, public_key, sign_count, transports, name, created_at, \
         last_used_at, suspect_at FROM passkeys WHERE "
    };
}

pub(crate) async fn find_passkey(
    connection: &mut AnyConnection,
    credential_id: &[u8],
) -> Result<Option<Passkey>, RegistryError> {
    let row: Option<PasskeyRow> = sqlx::query_as(concat!(passkey_columns!(), "credential_id = $1"))
        .bind(credential_id.to_vec())
        .fetch_optional(connection)
        .await?;
    Ok(row.map(Passkey::from))
}

/// Oldest first.
pub(crate) async fn list_passkeys(
    connection: &mut AnyConnection,
    user_id: &str,
) -> Result<Vec<Passkey>, RegistryError> {
    let rows: Vec<PasskeyRow> = sqlx::query_as(concat!(
        passkey_columns!(),
        "user_id = $1 ORDER BY created_at, credential_id LIMIT 100"
    ))
    .bind(user_id.to_owned())
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(Passkey::from).collect())
}

pub(crate) async fn insert_passkey(
    connection: &mut AnyConnection,
    passkey: &NewPasskey,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO passkeys (credential_id, user_id, public_key, sign_count, transports, name, \
         created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(passkey.credential_id.clone())
    .bind(passkey.user_id.clone())
    .bind(passkey.public_key.clone())
    .bind(passkey.sign_count)
    .bind(passkey.transports.clone())
    .bind(passkey.name.clone())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Counts a use. False if the counter did not go up, where there is one (WebAuthn §7.2, step 22).
pub(crate) async fn use_passkey(
    connection: &mut AnyConnection,
    credential_id: &[u8],
    sign_count: i64,
    now: i64,
) -> Result<bool, RegistryError> {
    let done: Option<i64> = sqlx::query_scalar(
        "UPDATE passkeys SET sign_count = $1, last_used_at = $2 WHERE credential_id = $3 \
         AND (sign_count < $1 OR (sign_count = 0 AND $1 = 0)) RETURNING sign_count",
    )
    .bind(sign_count)
    .bind(now)
    .bind(credential_id.to_vec())
    .fetch_optional(connection)
    .await?;
    Ok(done.is_some())
}

pub(crate) async fn suspect_passkey(
    connection: &mut AnyConnection,
    credential_id: &[u8],
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query("UPDATE passkeys SET suspect_at = $1 WHERE credential_id = $2")
        .bind(now)
        .bind(credential_id.to_vec())
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) async fn rename_passkey(
    connection: &mut AnyConnection,
    credential_id: &[u8],
    name: &str,
) -> Result<(), RegistryError> {
    sqlx::query("UPDATE passkeys SET name = $1 WHERE credential_id = $2")
        .bind(name.to_owned())
        .bind(credential_id.to_vec())
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) async fn delete_passkey(
    connection: &mut AnyConnection,
    credential_id: &[u8],
) -> Result<(), RegistryError> {
    sqlx::query("DELETE FROM passkeys WHERE credential_id = $1")
        .bind(credential_id.to_vec())
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether there is a password, and how many passkeys and linked identities.
pub(crate) async fn count_ways_in(
    connection: &mut AnyConnection,
    user_id: &str,
) -> Result<(bool, i64, i64), RegistryError> {
    let (password, passkeys, identities): (i64, i64, i64) = sqlx::query_as(
        "SELECT CASE WHEN password_hash IS NULL THEN 0 ELSE 1 END, \
         (SELECT COUNT(*) FROM passkeys WHERE user_id = $1), \
         (SELECT COUNT(*) FROM linked_identities WHERE user_id = $1) FROM users WHERE id = $1",
    )
    .bind(user_id.to_owned())
    .fetch_one(connection)
    .await?;
    Ok((password != 0, passkeys, identities))
}
