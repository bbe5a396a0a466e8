//! Rows of accounts.

use keywright_domain::accounts::Account;
use sqlx::AnyConnection;

use crate::RegistryError;

#[derive(sqlx::FromRow)]
struct AccountRow {
    id: String,
    provider_id: String,
    issuer: String,
    subject: String,
    client_id: String,
    display_name: String,
    email: Option<String>,
    email_verified: i64,
    scopes: String,
    missing_scopes: String,
    in_keychain: i64,
    identity_verified: i64,
    signed_in_at: i64,
    last_refreshed_at: Option<i64>,
}

impl From<AccountRow> for Account {
    fn from(row: AccountRow) -> Self {
        let words = |text: String| text.split_ascii_whitespace().map(str::to_owned).collect();
        Self {
            id: row.id,
            provider_id: row.provider_id,
            issuer: row.issuer,
            subject: row.subject,
            client_id: row.client_id,
            display_name: row.display_name,
            email: row.email,
            email_verified: row.email_verified != 0,
            scopes: words(row.scopes),
            missing_scopes: words(row.missing_scopes),
            in_keychain: row.in_keychain != 0,
            identity_verified: row.identity_verified != 0,
            signed_in_at: row.signed_in_at,
            last_refreshed_at: row.last_refreshed_at,
        }
    }
}

pub(crate) async fn list(connection: &mut AnyConnection) -> Result<Vec<Account>, RegistryError> {
    let rows: Vec<AccountRow> = sqlx::query_as(
        "SELECT id, provider_id, issuer, subject, client_id, display_name, email, email_verified, scopes, \
         missing_scopes, in_keychain, identity_verified, signed_in_at, last_refreshed_at \
         FROM accounts ORDER BY signed_in_at, id",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(Account::from).collect())
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<Account>, RegistryError> {
    if crate::store::is_no_id(id) {
        return Ok(None);
    }
    let row: Option<AccountRow> = sqlx::query_as(
        "SELECT id, provider_id, issuer, subject, client_id, display_name, email, email_verified, scopes, \
         missing_scopes, in_keychain, identity_verified, signed_in_at, last_refreshed_at \
         FROM accounts WHERE id = $1",
    )
    .bind(id.to_owned())
    .fetch_optional(connection)
    .await?;
    Ok(row.map(Account::from))
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    account: &Account,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO accounts (id, issuer, subject, client_id, provider_id, display_name, email, email_verified, scopes, \
         missing_scopes, in_keychain, identity_verified, signed_in_at, last_refreshed_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(account.id.clone())
    .bind(account.issuer.clone())
    .bind(account.subject.clone())
    .bind(account.client_id.clone())
    .bind(account.provider_id.clone())
    .bind(account.display_name.clone())
    .bind(account.email.clone())
    .bind(i64::from(account.email_verified))
    .bind(account.scopes.join(" "))
    .bind(account.missing_scopes.join(" "))
    .bind(i64::from(account.in_keychain))
    .bind(i64::from(account.identity_verified))
    .bind(account.signed_in_at)
    .bind(account.last_refreshed_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes what may change; issuer, subject and client never do. False if there is no such row.
pub(crate) async fn update(
    connection: &mut AnyConnection,
    account: &Account,
) -> Result<bool, RegistryError> {
    let result = sqlx::query(
        "UPDATE accounts SET display_name = $1, email = $2, email_verified = $3, scopes = $4, missing_scopes = $5, \
         in_keychain = $6, identity_verified = $7, last_refreshed_at = $8 WHERE id = $9",
    )
    .bind(account.display_name.clone())
    .bind(account.email.clone())
    .bind(i64::from(account.email_verified))
    .bind(account.scopes.join(" "))
    .bind(account.missing_scopes.join(" "))
    .bind(i64::from(account.in_keychain))
    .bind(i64::from(account.identity_verified))
    .bind(account.last_refreshed_at)
    .bind(account.id.clone())
    .execute(connection)
    .await?;
    Ok(result.rows_affected() == 1)
}

pub(crate) async fn delete(connection: &mut AnyConnection, id: &str) -> Result<(), RegistryError> {
    sqlx::query("DELETE FROM accounts WHERE id = $1")
        .bind(id.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}
