//! Rows of clients, their secrets, and what people allowed them.

use keywright_domain::SecretText;
use keywright_domain::people::{AuthMethod, Client, ClientType, NewClient, OAuthScopes};
use sqlx::AnyConnection;

use super::super::search::{fold, like_pattern};
use super::super::secrets::damaged;
use super::{blob, digest, scopes, words};
use crate::RegistryError;
use crate::people::clients::ClientSecretRecord;
use crate::people::consents::Consent;
use crate::people::page::Position;

macro_rules! columns {
    () => {
        "SELECT id, name, client_type, auth_method, jwks, redirect_uris, post_logout_redirect_uris, \
         backchannel_logout_uri, grant_types, scopes, signing_alg, require_pkce, require_dpop, fapi, \
         created_at, changed_at, disabled_at, token_series, registered_by FROM clients WHERE "
    };
}

#[derive(sqlx::FromRow)]
struct ClientRow {
    id: String,
    name: String,
    client_type: String,
    auth_method: String,
    jwks: Option<String>,
    redirect_uris: String,
    post_logout_redirect_uris: String,
    backchannel_logout_uri: Option<String>,
    grant_types: String,
    scopes: String,
    signing_alg: String,
    require_pkce: i64,
    require_dpop: i64,
    fapi: i64,
    created_at: i64,
    changed_at: i64,
    disabled_at: Option<i64>,
    token_series: String,
    registered_by: Option<String>,
}

impl ClientRow {
    fn into_client(self) -> Result<Client, RegistryError> {
        Ok(Client {
            id: self.id,
            settings: NewClient {
                name: self.name,
                client_type: ClientType::parse(&self.client_type)
                    .ok_or_else(|| damaged("client's type"))?,
                auth_method: AuthMethod::parse(&self.auth_method)
                    .ok_or_else(|| damaged("client's method"))?,
                jwks: self.jwks,
                redirect_uris: words(&self.redirect_uris),
                post_logout_redirect_uris: words(&self.post_logout_redirect_uris),
                backchannel_logout_uri: self.backchannel_logout_uri,
                grant_types: words(&self.grant_types),
                scopes: scopes(&self.scopes)?,
                signing_alg: self.signing_alg,
                require_pkce: self.require_pkce != 0,
                require_dpop: self.require_dpop != 0,
                fapi: self.fapi != 0,
            },
            created_at: self.created_at,
            changed_at: self.changed_at,
            disabled_at: self.disabled_at,
            token_series: self.token_series,
            registered_by: self.registered_by,
        })
    }
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<Client>, RegistryError> {
    if crate::store::is_no_id(id) {
        return Ok(None);
    }
    let row: Option<ClientRow> = sqlx::query_as(concat!(columns!(), "id = $1"))
        .bind(id.to_owned())
        .fetch_optional(connection)
        .await?;
    row.map(ClientRow::into_client).transpose()
}

/// Inserts or replaces.
pub(crate) async fn put(
    connection: &mut AnyConnection,
    client: &Client,
) -> Result<(), RegistryError> {
    let settings = &client.settings;
    sqlx::query(
        "INSERT INTO clients (id, name, client_type, auth_method, jwks, redirect_uris, \
         post_logout_redirect_uris, backchannel_logout_uri, grant_types, scopes, signing_alg, \
         require_pkce, require_dpop, fapi, created_at, changed_at, disabled_at, name_key, search_text, \
         token_series, registered_by) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21) \
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, client_type = excluded.client_type, \
         auth_method = excluded.auth_method, jwks = excluded.jwks, \
         redirect_uris = excluded.redirect_uris, \
         post_logout_redirect_uris = excluded.post_logout_redirect_uris, \
         backchannel_logout_uri = excluded.backchannel_logout_uri, \
         grant_types = excluded.grant_types, scopes = excluded.scopes, \
         signing_alg = excluded.signing_alg, require_pkce = excluded.require_pkce, \
         require_dpop = excluded.require_dpop, fapi = excluded.fapi, \
         changed_at = excluded.changed_at, disabled_at = excluded.disabled_at, \
         name_key = excluded.name_key, search_text = excluded.search_text, \
         token_series = excluded.token_series",
    )
    .bind(client.id.clone())
    .bind(settings.name.clone())
    .bind(settings.client_type.as_str())
    .bind(settings.auth_method.as_str())
    .bind(settings.jwks.clone())
    .bind(settings.redirect_uris.join("\n"))
    .bind(settings.post_logout_redirect_uris.join("\n"))
    .bind(settings.backchannel_logout_uri.clone())
    .bind(settings.grant_types.join(" "))
    .bind(settings.scopes.to_string())
    .bind(settings.signing_alg.clone())
    .bind(i64::from(settings.require_pkce))
    .bind(i64::from(settings.require_dpop))
    .bind(i64::from(settings.fapi))
    .bind(client.created_at)
    .bind(client.changed_at)
    .bind(client.disabled_at)
    .bind(fold(&settings.name))
    .bind(fold(&format!("{} {}", settings.name, client.id)))
    .bind(client.token_series.clone())
    .bind(client.registered_by.clone())
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes a client, and all rows that are nothing without it. Its grants are the caller's to revoke:
/// they stay until they are pruned.
pub(crate) async fn delete(connection: &mut AnyConnection, id: &str) -> Result<(), RegistryError> {
    let all = [
        "DELETE FROM client_secrets WHERE client_id = $1",
        "DELETE FROM consent_resources WHERE client_id = $1",
        "DELETE FROM consents WHERE client_id = $1",
        "DELETE FROM clients WHERE id = $1",
    ];
    delete_of(connection, &all, id).await
}

/// Deletes what a client has not asked for yet: codes, device codes, pushed requests.
pub(crate) async fn forget_pending(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<(), RegistryError> {
    let all = [
        "DELETE FROM authorization_codes WHERE client_id = $1",
        "DELETE FROM device_codes WHERE client_id = $1",
        "DELETE FROM pushed_requests WHERE client_id = $1",
    ];
    delete_of(connection, &all, id).await
}

async fn delete_of(
    connection: &mut AnyConnection,
    all: &[&'static str],
    client_id: &str,
) -> Result<(), RegistryError> {
    for sql in all {
        sqlx::query(*sql)
            .bind(client_id.to_owned())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// A to Z.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    text: &str,
    after: &Position,
    limit: i64,
) -> Result<Vec<Client>, RegistryError> {
    let rows: Vec<ClientRow> = sqlx::query_as(concat!(
        columns!(),
        "(name_key, id) > ($1, $2) AND ($3 = '%%' OR search_text LIKE $3 ESCAPE '\\') \
         ORDER BY name_key, id LIMIT $4"
    ))
    .bind(after.text.clone())
    .bind(after.id.clone())
    .bind(like_pattern(text))
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(ClientRow::into_client).collect()
}

pub(crate) async fn insert_secret(
    connection: &mut AnyConnection,
    client_id: &str,
    secret: &ClientSecretRecord,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO client_secrets (id, client_id, digest, created_at, expires_at, hash) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(secret.id.clone())
    .bind(client_id.to_owned())
    .bind(blob(&secret.digest))
    .bind(secret.created_at)
    .bind(secret.expires_at)
    .bind(secret.hash.as_ref().map(|hash| hash.expose().to_owned()))
    .execute(connection)
    .await?;
    Ok(())
}

/// The newest secret goes on until `until`; older ones end now. So there are never more than two.
pub(crate) async fn retire_secrets(
    connection: &mut AnyConnection,
    client_id: &str,
    newest: &str,
    until: i64,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE client_secrets SET expires_at = CASE WHEN id = $1 AND expires_at > $2 THEN $2 \
         WHEN id = $1 OR expires_at < $3 THEN expires_at ELSE $3 END WHERE client_id = $4",
    )
    .bind(newest.to_owned())
    .bind(until)
    .bind(now)
    .bind(client_id.to_owned())
    .execute(connection)
    .await?;
    Ok(())
}

type SecretRow = (String, Vec<u8>, i64, i64, Option<String>);

/// Those that still work, newest first.
pub(crate) async fn list_secrets(
    connection: &mut AnyConnection,
    client_id: &str,
    now: i64,
) -> Result<Vec<ClientSecretRecord>, RegistryError> {
    let rows: Vec<SecretRow> = sqlx::query_as(
        "SELECT id, digest, created_at, expires_at, hash FROM client_secrets \
         WHERE client_id = $1 AND expires_at > $2 ORDER BY expires_at DESC, created_at DESC",
    )
    .bind(client_id.to_owned())
    .bind(now)
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|(id, bytes, created_at, expires_at, hash)| {
            Ok(ClientSecretRecord {
                id,
                digest: digest(&bytes)?,
                created_at,
                expires_at,
                hash: hash.map(SecretText::new),
            })
        })
        .collect()
}

type ConsentRow = (String, String, String, i64, i64, Option<i64>);

fn consent(row: ConsentRow) -> Result<Consent, RegistryError> {
    let (user_id, client_id, text, created_at, changed_at, revoked_at) = row;
    Ok(Consent {
        user_id,
        client_id,
        scopes: scopes(&text)?,
        created_at,
        changed_at,
        revoked_at,
    })
}

pub(crate) async fn find_consent(
    connection: &mut AnyConnection,
    user_id: &str,
    client_id: &str,
) -> Result<Option<Consent>, RegistryError> {
    if crate::store::is_no_id(user_id) || crate::store::is_no_id(client_id) {
        return Ok(None);
    }
    let row: Option<ConsentRow> = sqlx::query_as(
        "SELECT user_id, client_id, scopes, created_at, changed_at, revoked_at FROM consents \
         WHERE user_id = $1 AND client_id = $2",
    )
    .bind(user_id.to_owned())
    .bind(client_id.to_owned())
    .fetch_optional(connection)
    .await?;
    row.map(consent).transpose()
}

pub(crate) async fn put_consent(
    connection: &mut AnyConnection,
    consent: &Consent,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO consents (user_id, client_id, scopes, created_at, changed_at, revoked_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (user_id, client_id) DO UPDATE SET \
         scopes = excluded.scopes, changed_at = excluded.changed_at, revoked_at = excluded.revoked_at",
    )
    .bind(consent.user_id.clone())
    .bind(consent.client_id.clone())
    .bind(consent.scopes.to_string())
    .bind(consent.created_at)
    .bind(consent.changed_at)
    .bind(consent.revoked_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// What a person allows a client at one resource: (person, client, resource or empty for our own).
pub(crate) async fn find_consented(
    connection: &mut AnyConnection,
    (user_id, client_id, resource): (&str, &str, &str),
) -> Result<Option<OAuthScopes>, RegistryError> {
    let text: Option<String> = sqlx::query_scalar(
        "SELECT scopes FROM consent_resources \
         WHERE user_id = $1 AND client_id = $2 AND resource = $3",
    )
    .bind(user_id.to_owned())
    .bind(client_id.to_owned())
    .bind(resource.to_owned())
    .fetch_optional(connection)
    .await?;
    text.as_deref().map(scopes).transpose()
}

pub(crate) async fn put_consented(
    connection: &mut AnyConnection,
    (user_id, client_id, resource): (&str, &str, &str),
    scopes: &OAuthScopes,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO consent_resources (user_id, client_id, resource, scopes) \
         VALUES ($1, $2, $3, $4) ON CONFLICT (user_id, client_id, resource) DO UPDATE SET \
         scopes = excluded.scopes",
    )
    .bind(user_id.to_owned())
    .bind(client_id.to_owned())
    .bind(resource.to_owned())
    .bind(scopes.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

/// What was allowed at resources is allowed nowhere any more.
pub(crate) async fn remove_consented(
    connection: &mut AnyConnection,
    user_id: &str,
    client_id: &str,
) -> Result<(), RegistryError> {
    sqlx::query("DELETE FROM consent_resources WHERE user_id = $1 AND client_id = $2")
        .bind(user_id.to_owned())
        .bind(client_id.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

/// What a person allows, in the order of clients' ids, after one.
pub(crate) async fn list_consents(
    connection: &mut AnyConnection,
    user_id: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<Consent>, RegistryError> {
    let rows: Vec<ConsentRow> = sqlx::query_as(
        "SELECT user_id, client_id, scopes, created_at, changed_at, revoked_at FROM consents \
         WHERE user_id = $1 AND client_id > $2 AND revoked_at IS NULL ORDER BY client_id LIMIT $3",
    )
    .bind(user_id.to_owned())
    .bind(after.to_owned())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(consent).collect()
}
