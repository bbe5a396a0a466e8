//! Rows of principals: who keys belong to, and who made them.

use keywright_domain::api_keys::OwnerKind;
use keywright_domain::people::Email;
use keywright_domain::scopes::ScopeSet;
use sqlx::AnyConnection;

use super::many;
use super::secrets::damaged;
use crate::RegistryError;
use crate::principals::Principal;

#[derive(sqlx::FromRow)]
struct PrincipalRow {
    id: String,
    kind: String,
    name: String,
    email: Option<String>,
    permissions: String,
    disabled_at: Option<i64>,
    disabled_reason: Option<String>,
    keys_revoked_at: Option<i64>,
    keys_revoked_reason: Option<String>,
    created_at: i64,
    epoch: i64,
}

impl PrincipalRow {
    fn into_principal(self) -> Result<Principal, RegistryError> {
        Ok(Principal {
            id: self.id,
            kind: OwnerKind::parse(&self.kind).ok_or_else(|| damaged("principal's kind"))?,
            name: self.name,
            email: self.email.as_deref().map(Email::new).transpose()?,
            permissions: ScopeSet::parse(&self.permissions)?,
            disabled_at: self.disabled_at,
            disabled_reason: self.disabled_reason,
            keys_revoked_at: self.keys_revoked_at,
            keys_revoked_reason: self.keys_revoked_reason,
            created_at: self.created_at,
            epoch: self.epoch,
        })
    }
}

const COLUMNS: &str = "SELECT id, kind, name, email, permissions, disabled_at, disabled_reason, keys_revoked_at, \
                       keys_revoked_reason, created_at, epoch FROM principals WHERE ";

pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<Principal>, RegistryError> {
    Ok(find_all(connection, &[id.to_owned()]).await?.pop())
}

/// Those of some ids that exist.
pub(crate) async fn find_all(
    connection: &mut AnyConnection,
    ids: &[String],
) -> Result<Vec<Principal>, RegistryError> {
    let mut found = Vec::with_capacity(ids.len());
    for part in ids.chunks(many::MOST) {
        let count = many::padded(part.len());
        let sql = many::list(&format!("{COLUMNS}id IN "), count, "");
        let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
        for id in many::padding(part, count) {
            query = query.bind(many::asked(id));
        }
        let rows: Vec<PrincipalRow> = query.fetch_all(&mut *connection).await?;
        for row in rows {
            found.push(row.into_principal()?);
        }
    }
    Ok(found)
}

/// Inserts or replaces.
pub(crate) async fn put(
    connection: &mut AnyConnection,
    principal: &Principal,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO principals (id, kind, name, email, permissions, disabled_at, disabled_reason, keys_revoked_at, \
         keys_revoked_reason, created_at, epoch) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, email = excluded.email, permissions = excluded.permissions, \
         disabled_at = excluded.disabled_at, disabled_reason = excluded.disabled_reason, \
         keys_revoked_at = excluded.keys_revoked_at, keys_revoked_reason = excluded.keys_revoked_reason, \
         epoch = excluded.epoch",
    )
    .bind(principal.id.clone())
    .bind(principal.kind.as_str())
    .bind(principal.name.clone())
    .bind(principal.email.as_ref().map(Email::to_string))
    .bind(principal.permissions.to_string())
    .bind(principal.disabled_at)
    .bind(principal.disabled_reason.clone())
    .bind(principal.keys_revoked_at)
    .bind(principal.keys_revoked_reason.clone())
    .bind(principal.created_at)
    .bind(principal.epoch)
    .execute(connection)
    .await?;
    Ok(())
}

/// Principals after an id, of one kind or of all, in the order of ids.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    kind: Option<OwnerKind>,
    after: &str,
    limit: i64,
) -> Result<Vec<Principal>, RegistryError> {
    // One statement for each: neither database walks an index for `$3 = '' OR kind = $3`.
    let of_kind = if kind.is_some() { "kind = $3 AND " } else { "" };
    let sql = format!("{COLUMNS}{of_kind}id > $1 ORDER BY id LIMIT $2");
    let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(after.to_owned())
        .bind(limit);
    if let Some(kind) = kind {
        query = query.bind(kind.as_str());
    }
    let rows: Vec<PrincipalRow> = query.fetch_all(connection).await?;
    rows.into_iter().map(PrincipalRow::into_principal).collect()
}
