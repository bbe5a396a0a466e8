//! Rows of identity providers, and of the identities linked to users.

use keywright_domain::people::Sealed;
use sqlx::AnyConnection;

use crate::RegistryError;
use crate::people::providers::{IdentityProvider, LinkedIdentity};

macro_rules! columns {
    () => {
        "SELECT id, kind, name, issuer, client_id, settings, trusts_email, created_at, changed_at, \
         disabled_at FROM identity_providers "
    };
}

#[derive(sqlx::FromRow)]
struct ProviderRow {
    id: String,
    kind: String,
    name: String,
    issuer: String,
    client_id: String,
    settings: String,
    trusts_email: i64,
    created_at: i64,
    changed_at: i64,
    disabled_at: Option<i64>,
}

impl From<ProviderRow> for IdentityProvider {
    fn from(row: ProviderRow) -> Self {
        Self {
            id: row.id,
            kind: row.kind,
            name: row.name,
            issuer: row.issuer,
            client_id: row.client_id,
            settings: row.settings,
            trusts_email: row.trusts_email != 0,
            created_at: row.created_at,
            changed_at: row.changed_at,
            disabled_at: row.disabled_at,
        }
    }
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<IdentityProvider>, RegistryError> {
    if crate::store::is_no_id(id) {
        return Ok(None);
    }
    let row: Option<ProviderRow> = sqlx::query_as(concat!(columns!(), "WHERE id = $1"))
        .bind(id.to_owned())
        .fetch_optional(connection)
        .await?;
    Ok(row.map(IdentityProvider::from))
}

/// All of them: an installation has a handful.
pub(crate) async fn list(
    connection: &mut AnyConnection,
) -> Result<Vec<IdentityProvider>, RegistryError> {
    let rows: Vec<ProviderRow> = sqlx::query_as(concat!(columns!(), "ORDER BY id"))
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(IdentityProvider::from).collect())
}

pub(crate) async fn find_secret(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<Sealed>, RegistryError> {
    if crate::store::is_no_id(id) {
        return Ok(None);
    }
    let row: Option<(Option<Vec<u8>>,)> =
        sqlx::query_as("SELECT sealed_secret FROM identity_providers WHERE id = $1")
            .bind(id.to_owned())
            .fetch_optional(connection)
            .await?;
    Ok(row.and_then(|(sealed,)| sealed).map(Sealed::new))
}

/// Inserts or replaces; without a secret the one before stays.
pub(crate) async fn put(
    connection: &mut AnyConnection,
    provider: &IdentityProvider,
    secret: Option<&Sealed>,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO identity_providers (id, kind, name, issuer, client_id, sealed_secret, settings, \
         trusts_email, created_at, changed_at, disabled_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO UPDATE SET \
         kind = excluded.kind, name = excluded.name, issuer = excluded.issuer, \
         client_id = excluded.client_id, \
         sealed_secret = COALESCE(excluded.sealed_secret, identity_providers.sealed_secret), \
         settings = excluded.settings, trusts_email = excluded.trusts_email, \
         changed_at = excluded.changed_at, disabled_at = excluded.disabled_at",
    )
    .bind(provider.id.clone())
    .bind(provider.kind.clone())
    .bind(provider.name.clone())
    .bind(provider.issuer.clone())
    .bind(provider.client_id.clone())
    .bind(secret.map(|sealed| sealed.as_bytes().to_vec()))
    .bind(provider.settings.clone())
    .bind(i64::from(provider.trusts_email))
    .bind(provider.created_at)
    .bind(provider.changed_at)
    .bind(provider.disabled_at)
    .execute(connection)
    .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct IdentityRow {
    id: String,
    user_id: String,
    provider_id: String,
    issuer: String,
    subject: String,
    email: Option<String>,
    created_at: i64,
    last_used_at: i64,
}

impl From<IdentityRow> for LinkedIdentity {
    fn from(row: IdentityRow) -> Self {
        Self {
            id: row.id,
            user_id: row.user_id,
            provider_id: row.provider_id,
            issuer: row.issuer,
            subject: row.subject,
            email: row.email,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
        }
    }
}

macro_rules! identity_columns {
    () => {
        "SELECT id, user_id, provider_id, issuer, subject, email, created_at, last_used_at \
         FROM linked_identities WHERE "
    };
}

pub(crate) async fn find_identity(
    connection: &mut AnyConnection,
    issuer: &str,
    subject: &str,
) -> Result<Option<LinkedIdentity>, RegistryError> {
    let row: Option<IdentityRow> =
        sqlx::query_as(concat!(identity_columns!(), "issuer = $1 AND subject = $2"))
            .bind(issuer.to_owned())
            .bind(subject.to_owned())
            .fetch_optional(connection)
            .await?;
    Ok(row.map(LinkedIdentity::from))
}

/// Oldest first.
pub(crate) async fn list_identities(
    connection: &mut AnyConnection,
    user_id: &str,
) -> Result<Vec<LinkedIdentity>, RegistryError> {
    let rows: Vec<IdentityRow> = sqlx::query_as(concat!(
        identity_columns!(),
        "user_id = $1 ORDER BY created_at, id LIMIT 100"
    ))
    .bind(user_id.to_owned())
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(LinkedIdentity::from).collect())
}

pub(crate) async fn insert_identity(
    connection: &mut AnyConnection,
    identity: &LinkedIdentity,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO linked_identities (id, user_id, provider_id, issuer, subject, email, created_at, \
         last_used_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(identity.id.clone())
    .bind(identity.user_id.clone())
    .bind(identity.provider_id.clone())
    .bind(identity.issuer.clone())
    .bind(identity.subject.clone())
    .bind(identity.email.clone())
    .bind(identity.created_at)
    .bind(identity.last_used_at)
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn update_identity_used(
    connection: &mut AnyConnection,
    id: &str,
    email: Option<&str>,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query("UPDATE linked_identities SET last_used_at = $1, email = $2 WHERE id = $3")
        .bind(now)
        .bind(email.map(str::to_owned))
        .bind(id.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) async fn delete_identity(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<(), RegistryError> {
    sqlx::query("DELETE FROM linked_identities WHERE id = $1")
        .bind(id.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}
